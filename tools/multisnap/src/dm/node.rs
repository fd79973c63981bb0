// SPDX-License-Identifier: GPL-2.0

//! Names below `/dev/mapper`. With udev they are its links, without it they are nodes, which this
//! makes.
//!
//! udev is told with each change by whom it was made (a *cookie*, of which only the flags are
//! used), since its rules ignore what comes from nobody. This does not wait on a semaphore as
//! libdevmapper does, but looks whether the name has come.

use super::wire::Dev;
use rustix::fs::{mknodat, FileType, Mode, CWD};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// udev makes no links by uuid or label, and no other rule acts: for a snapshot, which has the
/// same content as its origin.
pub const NO_LINKS: u32 = 0x04 | 0x08;

/// The change was made by somebody who knows these rules.
const PRIMARY_SOURCE: u32 = 0x40;

/// How long udev is waited for to make a name. When the machine starts it has much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for a name that is to go.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);

/// The cookie that carries these flags and no semaphore.
pub fn cookie(rules: u32) -> u32 {
    (rules | PRIMARY_SOURCE) << 16
}

/// Makes the node through which device-mapper is called. Its number is given for good.
pub fn make_control(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        mode,
        rustix::fs::makedev(10, 236),
    )?;
    Ok(())
}

/// Where a device's name is.
pub fn path(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

fn has_udev() -> bool {
    Path::new("/run/udev/control").exists() && std::env::var_os("DM_DISABLE_UDEV").is_none()
}

/// Number of the block device at a path, through links.
pub fn dev_at(path: &Path) -> Option<Dev> {
    let meta = fs::metadata(path).ok()?;
    let block = meta.file_type().is_block_device();
    block.then(|| Dev::from_stat(meta.rdev()))
}

/// Sees to it that the name of a new device is there.
pub fn appears(name: &str, dev: Dev) -> io::Result<()> {
    let path = path(name);
    let end = Instant::now() + PATIENCE;
    while has_udev() && dev_at(&path) != Some(dev) && Instant::now() < end {
        sleep(Duration::from_millis(20));
    }
    if dev_at(&path) == Some(dev) {
        return Ok(());
    }
    // One that is left over from a device of the same name.
    if fs::symlink_metadata(&path).is_ok() {
        fs::remove_file(&path)?;
    }
    let number = rustix::fs::makedev(dev.major, dev.minor);
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::BlockDevice, mode, number)?;
    Ok(())
}

/// Sees to it that the name of a device that was removed is gone.
pub fn vanishes(name: &str, dev: Dev) {
    let path = path(name);
    let end = Instant::now() + PATIENCE_AT_END;
    while has_udev() && fs::symlink_metadata(&path).is_ok() && Instant::now() < end {
        sleep(Duration::from_millis(20));
    }
    // Another device may have the name by now.
    if dev_at(&path) == Some(dev) {
        let _ = fs::remove_file(&path);
    }
}

/// What people call a device.
pub fn show(dev: Dev) -> String {
    let about = PathBuf::from(format!("/sys/dev/block/{dev}"));
    if let Ok(name) = fs::read_to_string(about.join("dm/name")) {
        return path(name.trim()).display().to_string();
    }
    let uevent = fs::read_to_string(about.join("uevent")).unwrap_or_default();
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| dev.to_string(), |name| format!("/dev/{name}"))
}

/// Sectors of a device.
pub fn sectors(dev: Dev) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/dev/block/{dev}/size")).ok()?;
    text.trim().parse().ok()
}

/// A place where a device is mounted.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder.
    pub place: String,
    /// Whether the file system can be written.
    pub writable: bool,
}

/// Whether there is such a mount of a device, or of what is made of it.
pub fn any_mount(dev: Dev, is: &dyn Fn(&Mount) -> bool) -> bool {
    fn look(dev: Dev, is: &dyn Fn(&Mount) -> bool, depth: u32) -> bool {
        let deeper = |holder| depth > 0 && look(holder, is, depth - 1);
        mounts(dev).iter().any(is) || holders(dev).into_iter().any(deeper)
    }
    look(dev, is, 8)
}

/// Whether the system itself runs from a device, so that it is in use until the end.
pub fn carries_system(dev: Dev) -> bool {
    any_mount(dev, &|mount| ["/", "/usr"].contains(&&*mount.place))
}

/// Where a device is mounted.
pub fn mounts(dev: Dev) -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is = |source: &str| source.starts_with("/dev/") && dev_at(Path::new(source)) == Some(dev);
    table
        .lines()
        .filter_map(|line| mount_of(line, dev, is))
        .collect()
}

/// What a line of the table of mounts says of a device. Some file systems have a number of their
/// own there, but the name of their device.
fn mount_of(line: &str, dev: Dev, is: impl Fn(&str) -> bool) -> Option<Mount> {
    let (first, last) = line.split_once(" - ")?;
    let mut first = first.split(' ').skip(2);
    let number = first.next()?;
    let place = first.nth(1)?;
    let mut last = last.split(' ').skip(1);
    let source = last.next()?;
    let options = last.next()?;
    (number == dev.to_string() || is(source)).then(|| Mount {
        place: place.replace("\\040", " "),
        writable: options.split(',').next() != Some("ro"),
    })
}

/// The devices that are made of a device.
pub fn holders(dev: Dev) -> Vec<Dev> {
    let folder = format!("/sys/dev/block/{dev}/holders");
    let holders = fs::read_dir(folder).into_iter().flatten().flatten();
    holders
        .filter_map(|holder| {
            let text = fs::read_to_string(holder.path().join("dev")).ok()?;
            text.trim().parse().ok()
        })
        .collect()
}

/// A path to a device that means the same one when devices are found in another order, if it has
/// one that is `good`.
pub fn steady(dev: Dev, good: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    if let Ok(name) = fs::read_to_string(format!("/sys/dev/block/{dev}/dm/name")) {
        return Some(path(name.trim())).filter(|path| good(path));
    }
    [
        "/dev/disk/by-partuuid",
        "/dev/disk/by-id",
        "/dev/disk/by-path",
    ]
    .iter()
    .find_map(|folder| {
        let links = fs::read_dir(folder).into_iter().flatten().flatten();
        let links = links.map(|link| link.path());
        links
            .filter(|link| good(link) && dev_at(link) == Some(dev))
            .min()
    })
}

/// Has udev look at a device again.
pub fn look_again(dev: Dev) {
    // Without udev nobody listens, and nothing is lost.
    let _ = fs::write(format!("/sys/dev/block/{dev}/uevent"), "change");
}

/// Who uses a device, as far as that can be seen, and how to make an end of it.
pub fn users(dev: Dev) -> Option<(String, String)> {
    if let Some(Mount { place, .. }) = mounts(dev).into_iter().next() {
        return Some((
            format!("is mounted at {place}"),
            format!("unmount it: umount {place}"),
        ));
    }
    if is_swap(dev) {
        let then = format!("end that: swapoff {}", show(dev));
        return Some(("is used as swap".to_owned(), then));
    }
    let about = PathBuf::from(format!("/sys/dev/block/{dev}"));
    if let Some(holder) = fs::read_dir(about.join("holders")).ok()?.flatten().next() {
        let dm = fs::read_to_string(holder.path().join("dm/name")).ok();
        let name = dm.map_or_else(
            || format!("/dev/{}", holder.file_name().to_string_lossy()),
            |name| path(name.trim()).display().to_string(),
        );
        let what = format!("is part of {name}");
        return Some((what, format!("see who uses that: lsblk {name}")));
    }
    let folders = fs::read_dir(about).ok()?.flatten();
    folders.map(|folder| folder.path()).find_map(|folder| {
        folder.join("partition").exists().then_some(())?;
        let number = fs::read_to_string(folder.join("dev")).ok()?;
        let part: Dev = number.trim().parse().ok()?;
        let (what, then) = users(part)?;
        Some((format!("has {} on it, which {what}", show(part)), then))
    })
}

/// Whether the system swaps to a device.
pub fn is_swap(dev: Dev) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let mut paths = swaps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next());
    paths.any(|path| dev_at(Path::new(path)) == Some(dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_tell_who_can_write() {
        let dev = Dev {
            major: 253,
            minor: 4,
        };
        let named = |source: &str| source == "/dev/mapper/root";
        for (line, place, writable) in [
            (
                "36 22 253:4 / /a\\040b rw,noatime shared:1 - ext4 /dev/x rw,errors=x",
                "/a b",
                true,
            ),
            ("36 22 253:4 / / ro - ext4 /dev/root ro", "/", false),
            (
                "36 22 0:40 /@ / rw - btrfs /dev/mapper/root rw,ssd",
                "/",
                true,
            ),
        ] {
            let place = place.to_owned();
            assert_eq!(mount_of(line, dev, named), Some(Mount { place, writable }));
        }
        for other in ["", "36 22 253:5 / / rw - ext4 /dev/x rw", "a - b"] {
            assert_eq!(mount_of(other, dev, named), None);
        }
    }

    #[test]
    fn the_cookie_has_no_semaphore() {
        assert_eq!(cookie(NO_LINKS), 0x4c_0000);
    }
}

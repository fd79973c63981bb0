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

/// How long udev is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let end = Instant::now() + PATIENCE;
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

/// Who uses a device, as far as that can be seen, and how to make an end of it.
pub fn users(dev: Dev) -> Option<(String, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(place) = mounted_at(&mounts, dev) {
        return Some((
            format!("is mounted at {place}"),
            format!("unmount it: umount {place}"),
        ));
    }
    let about = PathBuf::from(format!("/sys/dev/block/{dev}"));
    let mut holders = fs::read_dir(about.join("holders")).ok()?;
    let holder = holders.next()?.ok()?;
    let dm = fs::read_to_string(holder.path().join("dm/name")).ok();
    let name = dm.map_or_else(
        || format!("/dev/{}", holder.file_name().to_string_lossy()),
        |name| path(name.trim()).display().to_string(),
    );
    let what = format!("is part of {name}");
    Some((what, format!("see who uses that: lsblk {name}")))
}

/// Where the table of mounts has a device.
fn mounted_at(mounts: &str, dev: Dev) -> Option<String> {
    let dev = dev.to_string();
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let ours = words.next()? == dev;
        let place = words.nth(1)?;
        ours.then(|| place.replace("\\040", " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found() {
        let mounts = "22 1 253:0 / / rw - ext4 /dev/vda rw\n\
            36 22 253:4 / /a\\040b rw - ext4 /dev/mapper/home rw\nodd\n";
        let dev = |minor| Dev { major: 253, minor };
        assert_eq!(mounted_at(mounts, dev(4)).as_deref(), Some("/a b"));
        assert_eq!(mounted_at(mounts, dev(5)), None);
    }

    #[test]
    fn the_cookie_has_no_semaphore() {
        assert_eq!(cookie(NO_LINKS), 0x4c_0000);
    }
}

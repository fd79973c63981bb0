// SPDX-License-Identifier: GPL-2.0

//! The origin of a mapped device that was put under multisnapshot where it is: a second device
//! with the table that the first one had. Nobody uses it but the module.

use super::{line, volume::Devices};
use crate::{
    dm::{node, wire::Dev, Control},
    failure::Failure,
};
use std::{fs, io, path::PathBuf, thread::sleep, time::Duration};

/// What its name has behind that of the device, and its uuid behind that of a logical volume.
const SUFFIX: &str = "-msorigin";

/// What its uuid has behind that of the store.
const UUID_SUFFIX: &str = "-origin";

/// How the uuid of a logical volume begins.
const LVM: &str = "LVM-";

/// Its name, for a device of this name.
pub fn name_for(device: &str) -> String {
    format!("{device}{SUFFIX}")
}

/// Its uuid, for a device with this uuid, and this store. With that of a logical volume in front, LVM
/// takes it for a part of the volume, which it is: it removes it with the volume's own device, and
/// does not wonder what stands between that and its disks.
pub fn uuid_for(device: &str, store: &[u8; 16]) -> String {
    match device.starts_with(LVM) {
        true => format!("{device}{SUFFIX}"),
        false => line::uuid(store) + UUID_SUFFIX,
    }
}

/// Whether it has such a uuid.
fn is_ours(uuid: &str) -> bool {
    uuid.starts_with(LVM) && uuid.ends_with(SUFFIX)
        || line::store_of(uuid).is_some() && uuid.ends_with(UUID_SUFFIX)
}

/// Its name, if this is the number of one.
pub fn name_at(dev: Dev) -> Option<String> {
    is_ours(&about(dev, "uuid")?).then(|| about(dev, "name"))?
}

/// The name of a mapped device.
pub fn mapped_name(dev: Dev) -> Option<String> {
    about(dev, "name")
}

fn about(dev: Dev, what: &str) -> Option<String> {
    let path = PathBuf::from(format!("/sys/dev/block/{dev}/dm/{what}"));
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

/// Removes one that is left from another time, when its device went without us. One that is in use
/// stays, which is a failure.
pub fn remove_left(control: &Control, name: &str) -> Result<(), Failure> {
    let Ok(info) = control.info(name) else {
        return Ok(());
    };
    let path = node::path(name);
    if name_at(info.dev).as_deref() != Some(name) {
        let then = format!("give it another name: dmsetup rename {name} NAME");
        return Err(Failure::new(&path, "has the name that is needed", then));
    }
    control
        .remove(name)
        .map_err(|e| match node::users(info.dev) {
            Some((what, then)) => Failure::new(&path, what, then),
            None => Failure::io(&path, "cannot be removed", &e),
        })
}

/// Removes what is left of a device that went without us, as by LVM: devices of snapshots, which keep
/// their store, and the second device.
pub fn clear(control: &Control, devices: &Devices, device: &str) -> Result<(), Failure> {
    let name = name_for(device);
    let Ok(info) = control.info(&name) else {
        return Ok(());
    };
    let of = |origin: Dev| origin == info.dev;
    if name_at(info.dev).is_none() || devices.volumes.iter().any(|it| of(it.line.origin)) {
        return Ok(());
    }
    for active in devices.active.iter().filter(|active| of(active.origin)) {
        let path = node::path(&active.name);
        control
            .remove(&active.name)
            .map_err(|e| match node::users(active.dev) {
                Some((what, then)) => Failure::new(&path, what, then),
                None => Failure::io(&path, "is left, and cannot be removed", &e),
            })?;
    }
    remove_left(control, &name)
}

/// Removes one whose device does not need it any more. udev may still look at it.
pub fn remove(control: &Control, name: &str) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..5 {
        result = control.remove(name);
        match &result {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => sleep(Duration::from_millis(200)),
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_tell_what_it_is() {
        let store = [0xab; 16];
        let volume = format!("LVM-{}", "a".repeat(64));
        let of_volume = uuid_for(&volume, &store);
        assert_eq!(of_volume, volume.clone() + "-msorigin");
        let other = uuid_for("CRYPT-x", &store);
        assert_eq!(other, line::uuid(&store) + "-origin");
        assert!(is_ours(&of_volume) && is_ours(&other));
        for not in [
            &volume,
            "",
            "MSNAP-origin",
            "x-msorigin",
            &line::uuid(&store),
        ] {
            assert!(!is_ours(not), "{not}");
        }
    }
}

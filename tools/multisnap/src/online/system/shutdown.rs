// SPDX-License-Identifier: GPL-2.0

//! Leaves every store in good order, at the last moment before the machine is off.
//!
//! By then all is unmounted, but for the root file system, which is mounted read-only. A device
//! that it is on cannot be removed. Its table is replaced instead by a read-only one
//! of `multisnap-out`: with that the target goes, and writes what it writes when it is
//! removed.

use crate::{
    dm::{self, node, wire::Target, Control},
    failure::{words, Code, Failure},
    online::{
        memory::Locked,
        volume::{Devices, Volume},
    },
    out,
};

/// Does it for all origins; what cannot be done is told.
pub fn run() -> Result<Code, Failure> {
    let control = Control::open()?;
    let devices = Devices::find(&control)?;
    for active in &devices.active {
        // One that is in use stays, and has no more to write.
        let _ = control.remove(&active.name);
    }
    for volume in &devices.volumes {
        if let Err(why) = leave(&control, volume) {
            out::warn(&format!(
                "{} was not stopped in good order: {why}; its log is replayed at the next start",
                volume.name
            ));
        }
    }
    Ok(Code::Good)
}

fn leave(control: &Control, volume: &Volume) -> Result<(), String> {
    let said = |e| words(&e);
    let info = control.info(&volume.name).map_err(said)?;
    if info.open == 0 {
        return control.remove(&volume.name).map_err(said);
    }
    if node::any_mount(volume.dev, &|mount| mount.writable) {
        return Err("it is still mounted to be written".into());
    }
    let plain = Target {
        len: volume.sectors,
        kind: "multisnap-out".into(),
        args: volume.line.origin.to_string(),
    };
    let _locked = Locked::begin(&volume.name);
    control.load(&volume.name, &plain, true).map_err(said)?;
    control.resume(&volume.name, 0, 0).map_err(|e| {
        let _ = control.clear(&volume.name);
        let why = words(&e);
        let suspended = || {
            let info = control.info(&volume.name);
            info.is_ok_and(|info| info.flags & dm::SUSPENDED != 0)
        };
        // It goes on with the table it has.
        match suspended() && control.resume(&volume.name, 0, 0).is_err() {
            true => format!("{why}; it is suspended now, so what reads it waits"),
            false => format!("{why}; it goes on as it was"),
        }
    })
}

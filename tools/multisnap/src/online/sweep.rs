// SPDX-License-Identifier: GPL-2.0

//! Deletes snapshots, and waits until their space is free again.

use super::{rows::Row, volume::Volume, At, Devices};
use crate::{failure::Failure, progress::Progress};
use multisnap_store::image::SnapshotId;
use std::{thread::sleep, time::Duration};

/// Fails if one of them has a device.
pub fn not_active(devices: &Devices, volume: &Volume, rows: &[&Row]) -> Result<(), Failure> {
    let active = devices
        .of(volume)
        .find(|active| rows.iter().any(|row| row.id == active.id));
    let Some(active) = active else {
        return Ok(());
    };
    let what = format!(
        "has snapshot {} in use as {}; none was removed",
        active.id, active.name
    );
    let then = format!(
        "deactivate it: multisnap deactivate {} {}",
        volume.name, active.id
    );
    Err(volume.failure(what, then))
}

/// Deletes them one after the other. Each is gone for good when the next one begins.
pub fn delete(at: &mut At, ids: &[SnapshotId]) -> Result<(), Failure> {
    let name = at.volume.name.clone();
    for (n, id) in ids.iter().enumerate() {
        if let Err(e) = at.control.message(&name, &format!("delete {id}")) {
            let then = format!("see what is left: multisnap list {name}");
            let doing = format!(
                "cannot remove snapshot {id}, the {} of {}",
                n + 1,
                ids.len()
            );
            return Err(at.failed(&doing, &e, then));
        }
    }
    Ok(())
}

/// Waits for the sweep; in a terminal it is seen how far that has come.
pub fn wait(at: &mut At) -> Result<(), Failure> {
    at.unlock();
    let chunks = at
        .volume
        .sectors
        .div_ceil(u64::from(at.volume.line.chunk).max(1));
    let mut progress = Progress::new("free space", chunks);
    // The worker tells where it is a little after it has begun.
    let mut quiet = 0;
    while quiet < 2 {
        sleep(Duration::from_millis(100));
        let name = at.volume.name.clone();
        let failure = |what| {
            let then = format!("see its state: multisnap status {name}");
            Err(at.volume.failure(what, then))
        };
        let Ok(info) = at.info() else {
            return failure("is not there any more; the space is freed when it is started again");
        };
        if info.mode == "fail" {
            return failure("has a store that fails; the space is freed when that is over");
        }
        match info.sweep {
            Some(chunk) => {
                quiet = 0;
                progress.at(chunk);
            }
            None => quiet += 1,
        }
    }
    Ok(())
}

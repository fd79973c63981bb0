// SPDX-License-Identifier: GPL-2.0

//! What runs in the guest: it asks the host for a task, does it, and asks again.

mod check;
mod dm;
mod link;
mod raw;
mod volume;
mod work;

use crate::{
    model::ORIGIN,
    note::{Note, Round, Task},
};
use anyhow::Result;
use dm::Mapped;
use link::Link;
use raw::Raw;

const ORIGIN_DISK: &str = "/dev/disk/origin";
const STORE_DISK: &str = "/dev/disk/store";
const NOTES_DISK: &str = "/dev/disk/notes";

/// Name of the mapped origin.
const NAME: &str = "ms";

/// Does what the host says, until it says to stop.
pub fn run() -> Result<()> {
    let link = Link::open(NOTES_DISK)?;
    loop {
        let result = match link.next()? {
            Task::Work(round) => work::run(&link, &round),
            Task::Recover(round) => check::recover(&link, &round),
            Task::Check(round) => check::run(&link, &round),
            Task::Stop => return Ok(()),
        };
        if let Err(e) = result {
            let what = format!("{e:#}");
            link.note(&Note::Trouble { what })?;
            dm::remove_all();
        }
    }
}

/// Maps the origin.
fn load(round: &Round) -> Result<Mapped> {
    let sectors = Raw::open(ORIGIN_DISK, false)?.sectors();
    let Round { chunk, store, .. } = round;
    let policy = if round.preserve {
        "1 preserve-on-error"
    } else {
        "0"
    };
    Mapped::new(
        NAME,
        &format!("0 {sectors} multisnapshot {ORIGIN_DISK} {STORE_DISK} {chunk} {policy} {store} 0"),
    )
}

/// Maps a snapshot.
fn load_snapshot(id: &str) -> Result<Mapped> {
    let sectors = Raw::open(ORIGIN_DISK, false)?.sectors();
    let table = format!("0 {sectors} multisnap-snap {ORIGIN_DISK} {id}");
    Mapped::new(&format!("snap{id}"), &table)
}

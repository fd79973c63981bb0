// SPDX-License-Identifier: GPL-2.0

//! Loading what a cut has left, and reading all of it.

use super::{
    dm::{self, Mapped},
    link::Link,
    load, load_snapshot,
    raw::{self, Buffer, Raw},
    ORIGIN,
};
use crate::{
    note::{Note, Round, Written},
    sector::{self, SECTOR},
};
use anyhow::{Context, Result};

/// Bytes of a read.
const STEP: usize = 1 << 20;

/// Loads the store, and unloads it.
pub fn recover(link: &Link, round: &Round) -> Result<()> {
    let origin = load(round)?;
    let status = origin.status()?;
    link.note(&Note::Loaded { status })?;
    origin.remove()?;
    link.note(&Note::Removed)
}

/// Loads the store, reads all, writes a little, and does it again.
pub fn run(link: &Link, round: &Round) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(round.seed);
    let origin = load(round)?;
    let ids = look(link, round, &origin)?;
    let device = Raw::open(&origin.path(), true)?;
    let mut count = round.count;
    for _ in 0..6 {
        write(link, round, &mut rng, &device, None, &mut count)?;
    }
    if !ids.is_empty() {
        let id = ids[rng.usize(..ids.len())].clone();
        let snapshot = load_snapshot(&id)?;
        let device = Raw::open(&snapshot.path(), true)?;
        for _ in 0..2 {
            write(link, round, &mut rng, &device, Some(&id), &mut count)?;
        }
        drop(device);
        snapshot.remove()?;
    }
    let id = origin.message(&["create"])?;
    origin.suspend()?;
    origin.resume()?;
    if dm::created(&origin.status()?, &id)? {
        link.note(&Note::Added { id })?;
    }
    write(link, round, &mut rng, &device, None, &mut count)?;
    drop(device);
    if origin.status()?.split_whitespace().nth(3) == Some("full") {
        link.note(&Note::Full)?;
    }
    origin.remove()?;
    link.note(&Note::Removed)?;

    let origin = load(round).context("the second load")?;
    look(link, round, &origin)?;
    origin.remove()?;
    link.note(&Note::Removed)
}

/// Tells the status, and the values of all volumes; answers the ids of the snapshots.
fn look(link: &Link, round: &Round, origin: &Mapped) -> Result<Vec<String>> {
    let status = origin.status()?;
    let ids = status.split_whitespace().next_back().map(crate::note::ids);
    let ids = ids.unwrap_or_default();
    link.note(&Note::Loaded { status })?;
    let values = values(round, origin)?;
    link.note_values(&values, &Note::Values { id: None })?;
    for id in &ids {
        let snapshot = load_snapshot(id)?;
        let values = self::values(round, &snapshot)?;
        let id = Some(id.clone());
        link.note_values(&values, &Note::Values { id })?;
        snapshot.remove()?;
    }
    Ok(ids)
}

/// The value of each sector.
fn values(round: &Round, mapped: &Mapped) -> Result<Vec<u64>> {
    let device = Raw::open(&mapped.path(), false)?;
    let mut buffer = Buffer::new(STEP);
    let mut values = Vec::new();
    for first in (0..device.sectors()).step_by(STEP / SECTOR) {
        let bytes = (device.sectors() - first).min((STEP / SECTOR) as u64) as usize * SECTOR;
        let data = &mut buffer.bytes()[..bytes];
        let good = device.read(first, data).is_ok();
        let chunk = round.chunk as usize * SECTOR;
        for (first, data) in (first..)
            .step_by(chunk / SECTOR)
            .zip(data.chunks_mut(chunk))
        {
            // What is lost is so by chunks.
            let good = good || device.read(first, data).is_ok();
            let sectors = (first..).zip(data.chunks_exact(SECTOR));
            values.extend(sectors.map(|(sector, data)| match good {
                true => sector::read(data, round.number, sector),
                false => sector::UNREADABLE,
            }));
        }
    }
    Ok(values)
}

/// Writes a new value to a part of a chunk, if there is space for it, and notes it.
fn write(
    link: &Link,
    round: &Round,
    rng: &mut fastrand::Rng,
    device: &Raw,
    id: Option<&String>,
    count: &mut u64,
) -> Result<()> {
    *count += 1;
    // The number tells only whether it is the origin.
    let value = sector::value(ORIGIN + u16::from(id.is_some()), *count);
    let sectors = rng.u64(1..=round.chunk);
    let chunk = rng.u64(..device.sectors() / round.chunk);
    let first = chunk * round.chunk + rng.u64(..=round.chunk - sectors);
    let mut buffer = Buffer::new(sectors as usize * SECTOR);
    sector::fill(buffer.bytes(), round.number, value, first);
    match device.write(first, buffer.bytes()) {
        Err(e) if raw::is_full(&e) => return Ok(()),
        Err(e) if raw::is_lost(&e) && !round.preserve && id.is_some() => return Ok(()),
        result => result?,
    }
    let id = id.cloned();
    let write = Written {
        first,
        sectors,
        value,
    };
    link.note(&Note::Wrote { id, write })
}

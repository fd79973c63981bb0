// SPDX-License-Identifier: GPL-2.0

//! A mapped device that several threads write to at once, never two to one sector.

use super::{
    dm::Mapped,
    link::Link,
    raw::{self, Buffer, Raw},
};
use crate::{
    note::{Note, Written},
    sector::{self, SECTOR},
};
use anyhow::Result;
use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc, Mutex, MutexGuard, PoisonError,
};

/// What is known of the writes to a volume; stays when it is unloaded and loaded again.
pub struct Writes {
    /// Sectors that are being written.
    busy: Vec<bool>,
    /// The value of the last write to each sector that has ended, or zero.
    ended: Vec<u64>,
    /// What has ended since a flush last began.
    cached: Vec<Written>,
}

impl Writes {
    /// Nothing was written.
    pub fn new(sectors: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Writes {
            busy: vec![false; sectors as usize],
            ended: vec![0; sectors as usize],
            cached: Vec::new(),
        }))
    }
}

/// The device.
pub struct Volume {
    /// The id; `None`: the origin.
    pub id: Option<String>,
    /// Its number among all volumes of the round.
    pub number: u16,
    /// What is known of it.
    pub writes: Arc<Mutex<Writes>>,
    plain: Raw,
    dsync: Raw,
    // Behind the files: they are closed first.
    mapped: Mapped,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended well.
    Good,
    /// There was no space for it.
    Full,
}

impl Volume {
    /// Opens a mapped device.
    pub fn new(
        id: Option<String>,
        number: u16,
        writes: Arc<Mutex<Writes>>,
        mapped: Mapped,
    ) -> Result<Self> {
        Ok(Volume {
            id,
            number,
            writes,
            plain: Raw::open(&mapped.path(), false)?,
            dsync: Raw::open(&mapped.path(), true)?,
            mapped,
        })
    }

    /// The device.
    pub fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Closes and removes it.
    pub fn remove(self) -> Result<()> {
        drop((self.plain, self.dsync));
        self.mapped.remove()
    }

    fn lock(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of the last writes that have ended.
    pub fn ended(&self) -> Vec<u64> {
        self.lock().ended.clone()
    }

    /// Writes something somewhere.
    pub fn write(
        &self,
        link: &Link,
        count: &AtomicU64,
        round: u64,
        extent: (u64, u64),
        dsync: bool,
    ) -> Result<Outcome> {
        let (first, sectors) = extent;
        let range = first as usize..(first + sectors) as usize;
        let value = {
            let mut writes = self.lock();
            if writes.busy[range.clone()].contains(&true) {
                return Ok(Outcome::Good);
            }
            writes.busy[range.clone()].fill(true);
            // Under the lock: whoever writes there next has a greater one.
            sector::value(self.number, count.fetch_add(1, Ordering::Relaxed))
        };
        let mut buffer = Buffer::new(sectors as usize * SECTOR);
        sector::fill(buffer.bytes(), round, value, first);
        let raw = if dsync { &self.dsync } else { &self.plain };
        let result = raw.write(first, buffer.bytes());
        let written = Written {
            first,
            sectors,
            value,
        };
        let mut writes = self.lock();
        writes.busy[range.clone()].fill(false);
        match result {
            Ok(()) => {
                writes.ended[range].fill(value);
                writes.cached.push(written);
            }
            Err(e) if raw::is_full(&e) => return Ok(Outcome::Full),
            Err(e) => return Err(e.into()),
        }
        drop(writes);
        if dsync {
            let (volume, writes) = (self.number, vec![written]);
            link.note(&Note::Durable { volume, writes })?;
        }
        Ok(Outcome::Good)
    }

    /// Flushes it, and notes what is durable then.
    pub fn flush(&self, link: &Link) -> Result<()> {
        let writes = std::mem::take(&mut self.lock().cached);
        self.plain.flush()?;
        let volume = self.number;
        link.note(&Note::Durable { volume, writes })
    }
}

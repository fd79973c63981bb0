// SPDX-License-Identifier: GPL-2.0

//! A mapped device that several threads write to at once, never two to one sector.

use super::{
    dm::Mapped,
    link::Link,
    raw::{self, Buffer, Raw},
};
use crate::{
    note::{Note, Round, Written},
    sector::{self, SECTOR},
};
use anyhow::{bail, Result};
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

/// What is done to a part of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is written.
    Write,
    /// It is written, and durable then.
    DurableWrite,
    /// It is overwritten with zeroes.
    Zero,
    /// It is discarded.
    Discard,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has ended well.
    Good,
    /// There was no space for it.
    Full,
    /// It would have left a part as it was, and that is lost.
    Lost,
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

    /// Does something to a part of it.
    pub fn change(
        &self,
        link: &Link,
        count: &AtomicU64,
        round: &Round,
        extent: (u64, u64),
        op: Op,
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
            let count = count.fetch_add(1, Ordering::Relaxed);
            match op {
                Op::Write | Op::DurableWrite => sector::value(self.number, count),
                Op::Zero | Op::Discard => sector::zero(self.number, count),
            }
        };
        let written = Written {
            first,
            sectors,
            value,
        };
        let result = match op {
            Op::Write => self.write(&self.plain, round.number, written),
            Op::DurableWrite => self.write(&self.dsync, round.number, written),
            Op::Zero | Op::Discard => self.zero(link, written, op == Op::Zero),
        };
        let mut writes = self.lock();
        writes.busy[range.clone()].fill(false);
        match result? {
            // What is discarded may be there all the same.
            Outcome::Good if op == Op::Discard => {}
            Outcome::Good => {
                writes.ended[range].fill(value);
                writes.cached.push(written);
            }
            Outcome::Lost if round.preserve || self.id.is_none() => bail!("an I/O error"),
            other => return Ok(other),
        }
        drop(writes);
        if op == Op::DurableWrite {
            let (volume, writes) = (self.number, vec![written]);
            link.note(&Note::Durable { volume, writes })?;
        }
        Ok(Outcome::Good)
    }

    fn write(&self, raw: &Raw, round: u64, write: Written) -> Result<Outcome> {
        let mut buffer = Buffer::new(write.sectors as usize * SECTOR);
        sector::fill(buffer.bytes(), round, write.value, write.first);
        match raw.write(write.first, buffer.bytes()) {
            Ok(()) => Ok(Outcome::Good),
            Err(e) if raw::is_full(&e) => Ok(Outcome::Full),
            Err(e) if raw::is_lost(&e) => Ok(Outcome::Lost),
            Err(e) => Err(e.into()),
        }
    }

    fn zero(&self, link: &Link, write: Written, zeroes: bool) -> Result<Outcome> {
        let volume = self.number;
        link.note(&Note::Zeroing { volume, write })?;
        let path = self.mapped.path();
        let result = raw::blkdiscard(&path, zeroes, write.first, write.sectors);
        link.note(&Note::Zeroed { volume })?;
        Ok(if result? {
            Outcome::Good
        } else {
            Outcome::Full
        })
    }

    /// Flushes it, and notes what is durable then.
    pub fn flush(&self, link: &Link) -> Result<()> {
        let writes = std::mem::take(&mut self.lock().cached);
        self.plain.flush()?;
        let volume = self.number;
        link.note(&Note::Durable { volume, writes })
    }
}

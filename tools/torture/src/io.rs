// SPDX-License-Identifier: GPL-2.0

//! A thread that reads and writes at random.

use crate::{
    content::{Buffer, Version},
    model::Wrong,
    rng::Rng,
    volume::{How, Volume},
    Faults,
};
use std::{
    io,
    ops::Range,
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
        Mutex, PoisonError,
    },
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest I/O, in sectors.
pub const LONGEST: u64 = 1024;

/// How long what must be readable may take to be, where writes fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all threads share.
pub struct Shared {
    /// Somebody has found something wrong.
    pub failed: AtomicBool,
    /// What was wrong.
    pub wrong: Mutex<Vec<String>>,
    /// Number of the next write.
    pub version: AtomicU32,
    /// The writes there were, and what came of them.
    pub history: Mutex<Vec<(Range<u64>, String)>>,
    /// How many have ended.
    pub done: AtomicU64,
    /// Writes that failed, and reads.
    pub bad_writes: AtomicU64,
    /// See there.
    pub bad_reads: AtomicU64,
    /// Which errors may come.
    pub faults: Faults,
}

impl Shared {
    /// Notes something that must not be.
    pub fn wrong(&self, what: String) {
        self.failed.store(true, Relaxed);
        let mut all = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < 60 {
            all.push(what);
        }
    }

    /// Notes a sector that shows something else, and what was written near it.
    pub fn differs(&self, volume: &Volume, how: How, range: &Range<u64>, wrong: Wrong) {
        const NEAR: u64 = 64;
        let Wrong { sector, what } = wrong;
        self.wrong(format!(
            "{} sector {sector} ({how:?}, in a read of {range:?}): {what}; looked at again: {}",
            volume.name,
            volume.around(sector)
        ));
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history
            .iter()
            .filter(|(to, _)| to.start < sector + NEAR && sector < to.end + NEAR)
            .for_each(|(_, what)| self.wrong(what.clone()));
    }

    fn next_version(&self) -> Version {
        self.version.fetch_add(1, Relaxed)
    }

    /// Writes to a volume; an error that may not be is noted.
    pub fn write(&self, volume: &Volume, range: Range<u64>, how: How, buffer: &mut Buffer) {
        let version = self.next_version();
        let result = volume.write(range.clone(), how, version, buffer);
        let what = format!(
            "write {version} of {} {range:?} ({how:?}): {result:?}",
            volume.name
        );
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((range.clone(), what));
        let Err(e) = result else { return };
        // The second says that the device below waits always.
        if how == How::NoWait && is(&e, &[libc::EAGAIN, libc::EOPNOTSUPP]) {
            return self.write(volume, range, How::Direct, buffer);
        }
        self.bad_writes.fetch_add(1, Relaxed);
        let may = match self.faults {
            Faults::None => false,
            // The page cache makes EIO of all errors, and tells a later direct write of them, too.
            // Without preserve-on-error the origin goes on.
            Faults::Full { preserve } => {
                is(&e, &[libc::ENOSPC, libc::EIO]) && (preserve || !volume.id.is_empty())
            }
            Faults::Broken => true,
        };
        if !may {
            self.wrong(format!("{} write of {range:?} ({how:?}): {e}", volume.name));
        }
    }

    /// Reads and checks; an error that may not be is noted. Answers whether it was read.
    pub fn read(&self, volume: &Volume, range: Range<u64>, how: How, buffer: &mut Buffer) -> bool {
        let none = matches!(self.faults, Faults::None);
        let may_fail = match self.faults {
            Faults::None => false,
            Faults::Full { preserve } => !preserve && !volume.id.is_empty(),
            Faults::Broken => true,
        };
        let begin = Instant::now();
        let mut tries = 0;
        let e = loop {
            match volume.read(range.clone(), how, buffer) {
                Ok(Ok(())) => return true,
                // The page cache tells of a failed write elsewhere whoever comes.
                Ok(Err(_)) if may_fail && tries < 3 => tries += 1,
                Ok(Err(_)) if !none && !may_fail && begin.elapsed() < PATIENCE => {
                    tries += 1;
                    sleep(Duration::from_millis(tries));
                }
                Ok(Err(e)) => break e,
                Err(wrong) => {
                    self.differs(volume, how, &range, wrong);
                    return true;
                }
            }
        };
        self.bad_reads.fetch_add(1, Relaxed);
        let broken = matches!(self.faults, Faults::Broken);
        if !may_fail || !broken && !is(&e, &[libc::EIO]) {
            self.wrong(format!("{} read of {range:?} ({how:?}): {e}", volume.name));
        }
        false
    }
}

fn is(e: &io::Error, allowed: &[i32]) -> bool {
    e.raw_os_error().is_some_and(|e| allowed.contains(&e))
}

/// Sectors to work on: often of a whole chunk, and often in the same few places.
fn extent(rng: &mut Rng, sectors: u64, chunk: u64) -> Range<u64> {
    let count = match rng.below(8) {
        0 | 1 => 1 + rng.below(8),
        2 | 3 => 1 + rng.below(chunk),
        4 | 5 => chunk,
        6 => 1 + rng.below(3 * chunk),
        _ => 1 + rng.below(8 * chunk),
    };
    let count = count.min(sectors).min(LONGEST);
    let area = if rng.chance(50) {
        sectors.min(24 * chunk)
    } else {
        sectors
    };
    let mut first = rng.below(area.saturating_sub(count) + 1);
    if rng.chance(50) {
        first -= first % chunk;
    }
    if rng.chance(3) {
        first = sectors - count;
    }
    first..first + count
}

/// Does `ops` operations on the volumes that are mapped.
pub fn run(shared: &Shared, volumes: &[Volume], chunk: u64, ops: u64, rng: &mut Rng) {
    let mapped: Vec<&Volume> = volumes.iter().filter(|v| v.device.is_some()).collect();
    let mut buffer = Buffer::new(LONGEST as usize);
    for _ in 0..ops {
        if shared.failed.load(Relaxed) {
            return;
        }
        let volume = if rng.chance(40) {
            mapped[0]
        } else {
            rng.pick(&mapped)
        };
        let range = extent(rng, volume.sectors, chunk);
        let how = match rng.below(20) {
            0..11 => How::Direct,
            11..13 => How::DirectSync,
            13 => How::NoWait,
            14 => How::Zeroes,
            _ => How::Cached,
        };
        if rng.chance(60) {
            shared.write(volume, range, how, &mut buffer);
        } else {
            shared.read(volume, range, how, &mut buffer);
        }
        shared.done.fetch_add(1, Relaxed);
    }
}

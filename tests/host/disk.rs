// SPDX-License-Identifier: GPL-2.0

//! A disk in memory with a write cache that a power cut can lose.
//!
//! Every write and flush is logged, so that the disk can be had as any cut could have left it.

use kernel::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes in a sector: what a torn write is torn into.
pub(crate) const SECTOR: usize = 512;

/// One command that reached the disk.
#[derive(Clone)]
pub(crate) enum Command {
    /// A write; with `fua` it was durable when it ended.
    Write {
        /// First sector.
        sector: u64,
        /// What was written.
        data: std::vec::Vec<u8>,
        /// Durable at once.
        fua: bool,
    },
    /// Everything written before is durable.
    Flush,
    /// A note of the test's own.
    Mark(u64),
}

/// How often the disk was asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Read commands.
    pub(crate) reads: u64,
    /// Write commands, those with FUA included.
    pub(crate) writes: u64,
    /// Write commands with FUA.
    pub(crate) fuas: u64,
    /// Flush commands.
    pub(crate) flushes: u64,
}

type Image = HashMap<u64, [u8; SECTOR]>;

struct State {
    sectors: u64,
    /// Content before the log.
    base: Image,
    /// Content with the whole log applied; what is not here is zero.
    now: Image,
    log: std::vec::Vec<Command>,
    counts: Counts,
    /// Sectors that can be neither read nor written.
    bad: std::vec::Vec<(u64, u64)>,
    /// Commands until one fails.
    fail_after: Option<u64>,
}

/// A disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk of zeroes.
    pub(crate) fn new(sectors: u64) -> Self {
        Self::with(sectors, Image::new())
    }

    fn with(sectors: u64, image: Image) -> Self {
        Self(Arc::new(Mutex::new(State {
            sectors,
            base: image.clone(),
            now: image,
            log: std::vec::Vec::new(),
            counts: Counts::default(),
            bad: std::vec::Vec::new(),
            fail_after: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Its length.
    pub(crate) fn sectors(&self) -> u64 {
        self.state().sectors
    }

    /// Makes it longer.
    pub(crate) fn grow(&self, sectors: u64) {
        let mut state = self.state();
        state.sectors = state.sectors.max(sectors);
    }

    /// Reads whole sectors.
    pub(crate) fn read(&self, sector: u64, data: &mut [u8]) -> Result {
        let mut state = self.state();
        state.counts.reads += 1;
        state.check(sector, data.len())?;
        for (i, part) in data.chunks_mut(SECTOR).enumerate() {
            match state.now.get(&(sector + i as u64)) {
                Some(s) => part.copy_from_slice(s),
                None => part.fill(0),
            }
        }
        Ok(())
    }

    /// Writes whole sectors; durable after the next flush, or at once with `fua`.
    pub(crate) fn write(&self, sector: u64, data: &[u8], fua: bool) -> Result {
        let mut state = self.state();
        state.counts.writes += 1;
        state.counts.fuas += u64::from(fua);
        state.check(sector, data.len())?;
        let data = data.to_vec();
        apply(&mut state.now, sector, &data, |_| true);
        state.log.push(Command::Write { sector, data, fua });
        Ok(())
    }

    /// Makes all that was written before durable.
    pub(crate) fn flush(&self) -> Result {
        let mut state = self.state();
        state.counts.flushes += 1;
        state.count_down()?;
        state.log.push(Command::Flush);
        Ok(())
    }

    /// Puts a note into the log.
    pub(crate) fn mark(&self, n: u64) {
        self.state().log.push(Command::Mark(n));
    }

    /// Sectors `from` to `to` fail from now on.
    pub(crate) fn set_bad(&self, from: u64, to: u64) {
        self.state().bad.push((from, to));
    }

    /// No sector fails any more, and no command.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.bad.clear();
        state.fail_after = None;
    }

    /// The command after the next `n` fails, once.
    pub(crate) fn fail_after(&self, n: u64) {
        self.state().fail_after = Some(n);
    }

    /// Commands so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Length of the log.
    pub(crate) fn log_len(&self) -> usize {
        self.state().log.len()
    }

    /// Command `i` of the log.
    pub(crate) fn command(&self, i: usize) -> Command {
        self.state().log[i].clone()
    }

    /// Makes the present content, all of it durable, the start of an empty log.
    pub(crate) fn forget_log(&self) {
        let mut state = self.state();
        state.base = state.now.clone();
        state.log.clear();
    }

    /// A new disk, as a cut after the first `at` commands could leave this one: of each write that
    /// was neither flushed nor FUA, those sectors for which `keep(command, sector)` says so.
    pub(crate) fn cut(&self, at: usize, mut keep: impl FnMut(usize, u64) -> bool) -> Self {
        let state = self.state();
        let log = &state.log[..at];
        let flushed = log
            .iter()
            .rposition(|c| matches!(c, Command::Flush))
            .unwrap_or(0);
        let mut image = state.base.clone();
        for (i, command) in log.iter().enumerate() {
            if let Command::Write { sector, data, fua } = command {
                let durable = *fua || i < flushed;
                apply(&mut image, *sector, data, |s| durable || keep(i, s));
            }
        }
        Self::with(state.sectors, image)
    }

    /// A new disk with the present content.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        Self::with(state.sectors, state.now.clone())
    }
}

impl State {
    fn count_down(&mut self) -> Result {
        match &mut self.fail_after {
            Some(0) => {
                self.fail_after = None;
                Err(EIO)
            }
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check(&mut self, sector: u64, len: usize) -> Result {
        assert!(len % SECTOR == 0, "not whole sectors");
        let end = sector.checked_add((len / SECTOR) as u64).ok_or(EIO)?;
        if end > self.sectors || self.bad.iter().any(|&(f, t)| sector < t && f < end) {
            return Err(EIO);
        }
        self.count_down()
    }
}

fn apply(image: &mut Image, sector: u64, data: &[u8], mut keep: impl FnMut(u64) -> bool) {
    for (i, part) in data.chunks(SECTOR).enumerate() {
        let sector = sector + i as u64;
        if keep(sector) {
            image.insert(sector, part.try_into().unwrap());
        }
    }
}

#[test]
fn a_cut_keeps_what_was_flushed_and_what_it_is_told_to() {
    let disk = Disk::new(64);
    let write = |n: u8, sector, fua| disk.write(sector, &[n; 2 * SECTOR], fua).unwrap();
    write(1, 0, false);
    disk.flush().unwrap();
    write(2, 0, false);
    write(3, 4, true);
    write(4, 8, false);
    let first = |disk: &Disk, sector| {
        let mut data = [0; SECTOR];
        disk.read(sector, &mut data).unwrap();
        data[0]
    };
    let lost = disk.cut(disk.log_len(), |_, _| false);
    assert_eq!([0, 1, 4, 5, 8].map(|s| first(&lost, s)), [1, 1, 3, 3, 0]);
    let torn = disk.cut(disk.log_len(), |_, s| s % 2 == 1);
    assert_eq!(
        [0, 1, 4, 5, 8, 9].map(|s| first(&torn, s)),
        [1, 2, 3, 3, 0, 4]
    );
    let early = disk.cut(1, |_, _| false);
    assert_eq!(first(&early, 0), 0);
    assert_eq!(first(&disk, 8), 4);
}

// SPDX-License-Identifier: GPL-2.0

//! What each sector of a volume must show.
//!
//! Threads take the sectors that they are at work on, so that the outcome of each write is
//! known: only writes of different sectors are under way at the same time. Where an outcome is
//! open (a write that failed, one that a cut came across), a sector may show one of several
//! writes until a read has told which.

use crate::content::{describe, matches, Version, SECTOR};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Sectors, and what they may show.
#[derive(Clone)]
pub struct Shown {
    one: Vec<Version>,
    several: BTreeMap<u64, Vec<Version>>,
}

impl Shown {
    /// All zeroes.
    pub fn zeroes(sectors: u64) -> Self {
        Shown {
            one: vec![0; sectors as usize],
            several: BTreeMap::new(),
        }
    }

    fn set(&mut self, range: Range<u64>, version: Version) {
        self.one[range.start as usize..range.end as usize].fill(version);
        let gone: Vec<u64> = self
            .several
            .range(range.clone())
            .map(|(&sector, _)| sector)
            .collect();
        for sector in gone {
            self.several.remove(&sector);
        }
    }

    /// The sectors may show this write, too.
    fn may(&mut self, range: Range<u64>, version: Version) {
        for sector in range {
            let one = self.one[sector as usize];
            let all = self.several.entry(sector).or_insert_with(|| vec![one]);
            if !all.contains(&version) {
                all.push(version);
            }
        }
    }

    fn is_open(&self, range: &Range<u64>) -> bool {
        self.several.range(range.clone()).next().is_some()
    }

    /// Compares what was read, which can settle what was open.
    fn check(&mut self, start: u64, data: &[u8], settle: bool) -> Result<(), Wrong> {
        for (sector, data) in (start..).zip(data.chunks_exact(SECTOR)) {
            let one = self.one[sector as usize];
            let Some(all) = self.several.get(&sector) else {
                if !matches(data, one, sector) {
                    return Err(Wrong::new(sector, vec![one], data));
                }
                continue;
            };
            match all.iter().find(|&&v| matches(data, v, sector)) {
                Some(_) if !settle => (),
                Some(&version) => {
                    self.one[sector as usize] = version;
                    self.several.remove(&sector);
                }
                None => return Err(Wrong::new(sector, all.clone(), data)),
            }
        }
        Ok(())
    }
}

/// A sector that shows what it must not.
pub struct Wrong {
    /// Which one.
    pub sector: u64,
    /// What it should have been, and was.
    pub what: String,
}

impl Wrong {
    fn new(sector: u64, wanted: Vec<Version>, data: &[u8]) -> Self {
        Wrong {
            sector,
            what: format!("wanted write {wanted:?}, found {}", describe(data)),
        }
    }
}

/// Somebody at work on some sectors.
struct Busy {
    range: Range<u64>,
    what: Work,
}

#[derive(Clone, PartialEq, Eq)]
enum Work {
    Read,
    /// A read that settles something must be alone, too.
    Settle,
    /// Perhaps of fewer sectors than it takes.
    Write(Range<u64>, Version),
}

struct Inner {
    shown: Shown,
    busy: Vec<Busy>,
    /// A snapshot of this volume that is being cut.
    cut: Option<Shown>,
}

/// The model of one volume.
pub struct Model {
    inner: Mutex<Inner>,
    freed: Condvar,
    /// What a read found is there for good.
    settles: bool,
}

impl Model {
    /// A volume that shows this. Unless what is read `settles`, a failed write leaves it open what
    /// is shown until a later one has succeeded.
    pub fn new(shown: Shown, settles: bool) -> Self {
        Model {
            inner: Mutex::new(Inner {
                shown,
                busy: Vec::new(),
                cut: None,
            }),
            freed: Condvar::new(),
            settles,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, range: &Range<u64>, mut what: Work) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        loop {
            if what == Work::Read && inner.shown.is_open(range) {
                what = Work::Settle;
            }
            let free = inner.busy.iter().all(|busy| {
                busy.range.end <= range.start
                    || range.end <= busy.range.start
                    || what == Work::Read && busy.what == Work::Read
            });
            if free {
                inner.busy.push(Busy {
                    range: range.clone(),
                    what,
                });
                return inner;
            }
            inner = self
                .freed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self, inner: &mut Inner, range: &Range<u64>) {
        if let Some(at) = inner.busy.iter().position(|busy| busy.range == *range) {
            inner.busy.swap_remove(at);
        }
        self.freed.notify_all();
    }

    /// Runs a write of `range`, which says whether it succeeded. No other sector of `alone`
    /// is at work meanwhile.
    pub fn write(
        &self,
        range: Range<u64>,
        alone: Range<u64>,
        version: Version,
        f: impl FnOnce() -> bool,
    ) {
        let mut inner = self.take(&alone, Work::Write(range.clone(), version));
        if let Some(cut) = &mut inner.cut {
            cut.may(range.clone(), version);
        }
        drop(inner);
        let good = f();
        let mut inner = self.lock();
        if good {
            inner.shown.set(range, version);
        } else {
            inner.shown.may(range, version);
        }
        self.release(&mut inner, &alone);
    }

    /// Runs a read of `range`, and compares what it found, if anything. Nobody writes to `quiet`
    /// meanwhile.
    pub fn read<'a>(
        &self,
        range: Range<u64>,
        quiet: Range<u64>,
        f: impl FnOnce() -> Option<&'a [u8]>,
    ) -> Result<(), Wrong> {
        drop(self.take(&quiet, Work::Read));
        let found = f();
        let mut inner = self.lock();
        let result = match found {
            Some(data) => inner.shown.check(range.start, data, self.settles),
            None => Ok(()),
        };
        self.release(&mut inner, &quiet);
        result
    }

    /// A snapshot may be cut from now on.
    pub fn begin_cut(&self) {
        let mut inner = self.lock();
        let mut cut = inner.shown.clone();
        for busy in &inner.busy {
            if let Work::Write(range, version) = &busy.what {
                cut.may(range.clone(), *version);
            }
        }
        inner.cut = Some(cut);
    }

    /// The snapshot was cut before now: this is what it may show.
    pub fn end_cut(&self) -> Option<Shown> {
        self.lock().cut.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::fill;

    const SECTORS: u64 = 8;

    fn data(versions: &[Version]) -> Vec<u8> {
        let mut all = vec![0; versions.len() * SECTOR];
        for (sector, (data, version)) in all.chunks_exact_mut(SECTOR).zip(versions).enumerate() {
            fill(data, *version, sector as u64);
        }
        all
    }

    fn shows(model: &Model, versions: &[Version]) -> bool {
        let all = data(versions);
        let range = 0..versions.len() as u64;
        model.read(range.clone(), range, || Some(&all)).is_ok()
    }

    fn new() -> Model {
        Model::new(Shown::zeroes(SECTORS), true)
    }

    #[test]
    fn a_write_is_what_a_read_must_find() {
        let model = new();
        model.write(1..3, 0..8, 7, || true);
        assert!(shows(&model, &[0, 7, 7, 0]));
        assert!(!shows(&model, &[0, 7, 0, 0]));
        assert!(!shows(&model, &[0, 7, 7, 7]));
        let mut torn = data(&[0, 7]);
        torn[SECTOR + 100] ^= 1;
        assert!(model.read(0..2, 0..2, || Some(&torn)).is_err());
    }

    #[test]
    fn a_failed_write_leaves_either_until_a_read_tells() {
        let model = new();
        model.write(0..2, 0..2, 1, || true);
        model.write(0..2, 0..2, 2, || false);
        assert!(!shows(&model, &[3, 1]));
        assert!(shows(&model, &[2, 1]));
        assert!(!shows(&model, &[1, 1]));
        assert!(!shows(&model, &[2, 2]));
        let careful = Model::new(Shown::zeroes(SECTORS), false);
        careful.write(0..1, 0..1, 1, || false);
        assert!(shows(&careful, &[1]) && shows(&careful, &[0]));
    }

    #[test]
    fn a_cut_has_what_ended_before_and_perhaps_what_was_under_way() {
        let model = new();
        model.write(0..1, 0..1, 1, || true);
        model.write(1..2, 0..8, 2, || {
            model.begin_cut();
            true
        });
        let shown = model.end_cut().unwrap();
        model.write(0..1, 0..1, 3, || true);
        for (second, other) in [(0, 2), (2, 0)] {
            let cut = Model::new(shown.clone(), true);
            assert!(!shows(&cut, &[3, second]));
            assert!(shows(&cut, &[1, second, 0]));
            assert!(!shows(&cut, &[1, other]));
        }
        model.begin_cut();
        model.write(4..5, 4..5, 5, || true);
        let cut = Model::new(model.end_cut().unwrap(), true);
        assert!(shows(&cut, &[3, 2, 0, 0, 5]));
        assert!(model.end_cut().is_none());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Changes of the records of one chunk, planned whole before the first is made.

use super::map::{Map, Rec};
use crate::store::{blocks::Blocks, data_space::DataSpace, meta::Meta, snaps::Snaps, types::Dest};
use kernel::prelude::*;

/// Records that one change may touch.
pub(super) const TOUCH_MAX: usize = 40;

/// One step of a change.
#[derive(Clone, Copy)]
enum Step {
    /// Removes the record with this lower end.
    Remove(u64),
    /// Enters a record, in place of one with the same lower end.
    Put(Rec),
}

/// A planned change. Made once and used again, so that planning needs no memory.
pub(super) struct Edit {
    chunk: u64,
    steps: KVec<Step>,
    /// Chunks of the store that no record names any more.
    frees: KVec<u64>,
    /// A chunk of the store that gets its first record.
    used: Option<u64>,
    /// Scratch: the records that are touched.
    touched: KVec<Rec>,
    /// Not everything could be planned at once.
    more: bool,
}

impl Edit {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            chunk: 0,
            steps: KVec::with_capacity(3 * TOUCH_MAX + 1, GFP_KERNEL)?,
            frees: KVec::with_capacity(TOUCH_MAX, GFP_KERNEL)?,
            used: None,
            touched: KVec::with_capacity(TOUCH_MAX, GFP_KERNEL)?,
            more: false,
        })
    }

    fn reset(&mut self, chunk: u64) {
        self.chunk = chunk;
        self.steps.clear();
        self.frees.clear();
        self.used = None;
        self.touched.clear();
        self.more = false;
    }

    /// Plans that ids `new.lo` to `new.hi` of `chunk` hold `new.word`, whatever was there. Parts
    /// of other records that no live id needs go.
    pub(super) fn plan_set<B: Blocks>(
        &mut self,
        map: &Map,
        m: &mut Meta<B>,
        snaps: &Snaps,
        chunk: u64,
        new: &Rec,
    ) -> Result {
        self.reset(chunk);
        self.touch_overlapping(map, m, new)?;
        for i in 0..self.touched.len() {
            let rec = self.touched[i];
            let left = new.lo.checked_sub(1).and_then(|hi| snaps.trim(rec.lo, hi));
            let right = new.hi.checked_add(1).and_then(|lo| snaps.trim(lo, rec.hi));
            self.replace(&rec, [left, right], new.lo)?;
        }
        self.step(Step::Put(*new))?;
        self.find_frees(map, m, new.dest())?;
        self.used = new.dest();
        Ok(())
    }

    /// Plans that only what live ids need of `chunk` stays, changing no more than `limit` records.
    /// [`more`](Self::more) says whether another plan has to follow.
    pub(super) fn plan_trim<B: Blocks>(
        &mut self,
        map: &Map,
        m: &mut Meta<B>,
        snaps: &Snaps,
        chunk: u64,
        limit: usize,
    ) -> Result {
        self.reset(chunk);
        let mut lo = 0;
        while let Some(rec) = map.from(m, chunk, lo)? {
            let part = snaps.trim(rec.lo, rec.hi);
            if part != Some((rec.lo, rec.hi)) {
                if self.touched.len() >= limit.min(TOUCH_MAX) {
                    self.more = true;
                    break;
                }
                self.touched.push_within_capacity(rec).map_err(|_| EILSEQ)?;
                self.replace(&rec, [part, None], u64::MAX)?;
            }
            match rec.hi.checked_add(1) {
                Some(next) => lo = next,
                None => break,
            }
        }
        self.find_frees(map, m, None)
    }

    fn touch_overlapping<B: Blocks>(&mut self, map: &Map, m: &mut Meta<B>, new: &Rec) -> Result {
        let mut next = match map.at(m, self.chunk, new.lo)? {
            Some(rec) => Some(rec),
            None => map.from(m, self.chunk, new.lo)?,
        };
        while let Some(rec) = next.filter(|rec| rec.lo <= new.hi) {
            self.touched.push_within_capacity(rec).map_err(|_| EILSEQ)?;
            next = match rec.hi.checked_add(1) {
                Some(lo) => map.from(m, self.chunk, lo)?,
                None => None,
            };
        }
        Ok(())
    }

    /// Puts `parts` of `rec` in its place. A record that is going to be put at `kept` anyway need
    /// not be removed before.
    fn replace(&mut self, rec: &Rec, parts: [Option<(u64, u64)>; 2], kept: u64) -> Result {
        let begins = |part: &(u64, u64)| part.0 == rec.lo;
        if rec.lo != kept && !parts.iter().flatten().any(begins) {
            self.step(Step::Remove(rec.lo))?;
        }
        for (lo, hi) in parts.into_iter().flatten() {
            let word = rec.word;
            self.step(Step::Put(Rec { lo, hi, word }))?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result {
        self.steps.push_within_capacity(step).map_err(|_| EILSEQ)
    }

    /// Finds the chunks of the store that are named now and will not be then. `new` will be.
    fn find_frees<B: Blocks>(&mut self, map: &Map, m: &mut Meta<B>, new: Option<u64>) -> Result {
        for rec in &self.touched {
            let Some(dest) = rec.dest() else {
                continue;
            };
            let put = |step: &Step| matches!(step, Step::Put(rec) if rec.dest() == Some(dest));
            let stays = Some(dest) == new || self.steps.iter().any(put);
            if !stays && !self.frees.contains(&dest) {
                self.frees.push_within_capacity(dest).map_err(|_| EILSEQ)?;
            }
        }
        if self.frees.is_empty() {
            return Ok(());
        }
        // A range that a snapshot's write cut in two left several records with one destination.
        let (touched, frees) = (&self.touched, &mut self.frees);
        map.each(m, self.chunk, |rec| {
            if let Some(dest) = rec.dest() {
                if !touched.iter().any(|t| t.lo == rec.lo) {
                    frees.retain(|free| *free != dest);
                }
            }
        })
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the chunk needs another trim after this.
    pub(super) fn more(&self) -> bool {
        self.more
    }

    /// Chunks of the store that it frees.
    pub(super) fn frees(&self) -> usize {
        self.frees.len()
    }

    /// Metadata blocks that it needs at most.
    pub(super) fn blocks(&self, map: &Map, data: &DataSpace) -> usize {
        let grow = usize::from(self.steps.len() > 1) * 2;
        let map = self.steps.len() * (map.tree.max_blocks_per_op() + grow);
        let used = self.used.map_or(0, |dest| data.ops_for_used(dest, 1));
        // Each may be in a group of its own, and another leaves the core for it.
        let ops = used.saturating_add(self.frees.len());
        map.saturating_add(ops.saturating_mul(data.blocks_per_op()))
    }

    /// Makes the change. An error leaves it half made. `batch` is the one that its record goes
    /// to; `None` in replay.
    pub(super) fn apply<B: Blocks>(
        &self,
        map: &mut Map,
        m: &mut Meta<B>,
        data: &mut DataSpace,
        batch: Option<u64>,
    ) -> Result {
        for step in &self.steps {
            match step {
                Step::Remove(lo) => map.remove(m, self.chunk, *lo)?,
                Step::Put(rec) => map.put(m, self.chunk, rec)?,
            }
        }
        if let Some(dest) = self.used {
            data.mark_used(m, dest, 1)?;
        }
        for dest in &self.frees {
            data.mark_free(m, Dest(*dest), batch)?;
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Plans of changes of the records of one chunk.

use super::map::{Map, Rec};
use crate::store::{blocks::Blocks, edit::Edit, meta::Meta, snaps::Snaps};
use kernel::prelude::*;

/// Records that one change may touch.
pub(super) const TOUCH_MAX: usize = 40;

/// A change, and what planning it needs. Made once and used again.
pub(super) struct Plan {
    pub(super) edit: Edit,
    chunk: u64,
    /// The records that are touched.
    touched: KVec<Rec>,
}

impl Plan {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            edit: Edit::new(3 * TOUCH_MAX + 1, TOUCH_MAX)?,
            chunk: 0,
            touched: KVec::with_capacity(TOUCH_MAX, GFP_KERNEL)?,
        })
    }

    fn reset(&mut self, chunk: u64) {
        self.edit.reset();
        self.chunk = chunk;
        self.touched.clear();
    }

    /// Plans that ids `new.lo` to `new.hi` of `chunk` hold `new.word`, whatever was there. Parts
    /// of other records that no live id needs go.
    pub(super) fn set<B: Blocks>(
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
            self.replace(&rec, [left, right], Some(new.lo))?;
        }
        self.edit.put(new.entry(chunk))?;
        self.find_frees(map, m, new.dest())?;
        self.edit.set_used(new.dest());
        Ok(())
    }

    /// Plans that only what live ids need of `chunk` stays, changing no more than `limit` records.
    /// [`Edit::more`] says whether another plan has to follow.
    pub(super) fn trim<B: Blocks>(
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
                    self.edit.set_more();
                    break;
                }
                self.touched.push_within_capacity(rec).map_err(|_| EILSEQ)?;
                self.replace(&rec, [part, None], None)?;
            }
            match rec.hi.checked_add(1) {
                Some(next) => lo = next,
                None => break,
            }
        }
        self.find_frees(map, m, None)
    }

    fn touch_overlapping<B: Blocks>(&mut self, map: &Map, m: &mut Meta<B>, new: &Rec) -> Result {
        let (at, after) = map.around(m, self.chunk, new.lo)?;
        let mut next = at.or(after);
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
    fn replace(&mut self, rec: &Rec, parts: [Option<(u64, u64)>; 2], kept: Option<u64>) -> Result {
        let begins = |part: &(u64, u64)| part.0 == rec.lo;
        if Some(rec.lo) != kept && !parts.iter().flatten().any(begins) {
            self.edit.remove([self.chunk, rec.lo])?;
        }
        for (lo, hi) in parts.into_iter().flatten() {
            let word = rec.word;
            self.edit.put(Rec { lo, hi, word }.entry(self.chunk))?;
        }
        Ok(())
    }

    /// Finds the chunks of the store that are named now and will not be then. `new` will be.
    fn find_frees<B: Blocks>(&mut self, map: &Map, m: &mut Meta<B>, new: Option<u64>) -> Result {
        for rec in &self.touched {
            let Some(dest) = rec.dest() else {
                continue;
            };
            let stays = Some(dest) == new || self.edit.puts().any(|put| put[3] == dest);
            if !stays {
                self.edit.free(dest)?;
            }
        }
        if self.edit.frees() == 0 {
            return Ok(());
        }
        // A range that a snapshot's write cut in two left several records with one destination.
        let (touched, edit) = (&self.touched, &mut self.edit);
        map.each(m, self.chunk, |rec| {
            if let Some(dest) = rec.dest() {
                if !touched.iter().any(|t| t.lo == rec.lo) {
                    edit.keep(dest);
                }
            }
        })
    }
}

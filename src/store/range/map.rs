// SPDX-License-Identifier: GPL-2.0

//! The tree of exceptions: records of ranges of ids, by chunk.
//!
//! Records of one chunk never overlap. A live id's span (see
//! [`Snaps::span_start`](crate::store::snaps::Snaps::span_start)) is within one record or outside
//! of all. An id without a record shares the origin's content.

use crate::store::{
    blocks::Blocks,
    format::{word_dest, TREE_MAP},
    meta::Meta,
    tree::Tree,
};
use kernel::prelude::*;

/// One record: what ids `lo` to `hi` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rec {
    pub(super) lo: u64,
    pub(super) hi: u64,
    pub(super) word: u64,
}

impl Rec {
    /// The chunk of the store that it names.
    pub(super) fn dest(&self) -> Option<u64> {
        word_dest(self.word)
    }

    /// It as an entry of the tree.
    pub(super) fn entry(&self, chunk: u64) -> [u64; 4] {
        [chunk, self.lo, self.hi, self.word]
    }
}

/// The tree of exceptions.
pub(super) struct Map {
    pub(super) tree: Tree<4, 2>,
}

impl Map {
    pub(super) fn load<B: Blocks>(m: &mut Meta<B>, root: (u64, u16), epoch: u64) -> Result<Self> {
        let tree = Tree::load(m, TREE_MAP as u16, root.0, root.1, epoch)?;
        Ok(Self { tree })
    }

    /// The record of `chunk` that `id` is in.
    pub(super) fn at<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        chunk: u64,
        id: u64,
    ) -> Result<Option<Rec>> {
        let entry = self.tree.at_or_before(m, &[chunk, id])?;
        let rec = entry.map(|e| check(chunk, e)).transpose()?.flatten();
        Ok(rec.filter(|rec| rec.hi >= id))
    }

    /// The record of `chunk` that `id` is in, and the first one whose lower end is above `id`.
    pub(super) fn around<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        chunk: u64,
        id: u64,
    ) -> Result<(Option<Rec>, Option<Rec>)> {
        let entries = self.tree.around(m, &[chunk, id])?;
        let [before, after] = entries.map(|e| e.map(|e| check(chunk, e)));
        let (before, after) = (before.transpose()?.flatten(), after.transpose()?.flatten());
        Ok((before.filter(|rec| rec.hi >= id), after))
    }

    /// The first record of `chunk` whose lower end is not below `lo`.
    pub(super) fn from<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        chunk: u64,
        lo: u64,
    ) -> Result<Option<Rec>> {
        let entry = self.tree.at_or_after(m, &[chunk, lo])?;
        Ok(entry.map(|e| check(chunk, e)).transpose()?.flatten())
    }

    /// Calls `f` for each record of `chunk`, in order.
    pub(super) fn each<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        chunk: u64,
        mut f: impl FnMut(&Rec),
    ) -> Result {
        let mut lo = 0;
        while let Some(rec) = self.from(m, chunk, lo)? {
            f(&rec);
            match rec.hi.checked_add(1) {
                Some(next) => lo = next,
                None => break,
            }
        }
        Ok(())
    }
}

/// The record that an entry is, if it is one of `chunk`.
fn check(chunk: u64, entry: [u64; 4]) -> Result<Option<Rec>> {
    let [of, lo, hi, word] = entry;
    if of != chunk {
        return Ok(None);
    }
    if hi < lo {
        return Err(EILSEQ);
    }
    Ok(Some(Rec { lo, hi, word }))
}

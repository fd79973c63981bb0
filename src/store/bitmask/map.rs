// SPDX-License-Identifier: GPL-2.0

//! The tree of exceptions: for each chunk a short list of masks and what their snapshots hold.
//!
//! A snapshot's bit is in one record of a chunk at most; a snapshot whose bit is in none shares
//! the origin's content. So a list has no more records than there are bits. Records are found by
//! what they say, not by their masks: a mask changes in place, and all snapshots whose content is
//! zero, or lost, are in one record.

use crate::store::{
    blocks::Blocks,
    format::{word_dest, BITS, TREE_MAP},
    meta::Meta,
    tree::Tree,
};
use kernel::prelude::*;

/// Records that a chunk can have.
pub(super) const LIST_MAX: usize = BITS;

/// One record: what the snapshots of `mask` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rec {
    pub(super) word: u64,
    pub(super) mask: u64,
}

impl Rec {
    /// The chunk of the store that it names.
    pub(super) fn dest(&self) -> Option<u64> {
        word_dest(self.word)
    }

    /// It as an entry of the tree.
    pub(super) fn entry(&self, chunk: u64) -> [u64; 3] {
        [chunk, self.word, self.mask]
    }
}

/// The tree of exceptions.
pub(super) struct Map {
    pub(super) tree: Tree<3, 2>,
}

impl Map {
    pub(super) fn load<B: Blocks>(m: &mut Meta<B>, root: (u64, u16), epoch: u64) -> Result<Self> {
        let tree = Tree::load(m, TREE_MAP as u16, root.0, root.1, epoch)?;
        Ok(Self { tree })
    }

    /// Calls `f` for the records of `chunk`, in order, until it answers false or no snapshot of
    /// `all` can be in any of those left.
    pub(super) fn each<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        chunk: u64,
        all: u64,
        mut f: impl FnMut(&Rec) -> bool,
    ) -> Result {
        let (mut word, mut seen) = (0, 0);
        while all & !seen != 0 {
            let Some([of, at, mask]) = self.tree.at_or_after(m, &[chunk, word])? else {
                break;
            };
            if of != chunk {
                break;
            }
            // Each adds a bit, so that the list comes to an end.
            if mask == 0 || mask & seen != 0 {
                return Err(EILSEQ);
            }
            seen |= mask;
            if !f(&Rec { word: at, mask }) {
                break;
            }
            match at.checked_add(1) {
                Some(next) => word = next,
                None => break,
            }
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Bits for snapshots: a small number that a snapshot has as long as any record may know it.
//!
//! A new snapshot gets the lowest free bit. It keeps it when it is deleted, until the sweep that
//! takes it out of all records has come to the end; so nothing of the past is a new snapshot's.

use crate::store::{
    blocks::Blocks,
    format::{BITS, TREE_BITS},
    meta::Meta,
    tree::Tree,
    types::{NoId, SnapId},
};
use kernel::prelude::*;

/// Who has which bit. All of it is in core as well as in its tree.
pub(in crate::store) struct Bits {
    tree: Tree<2, 1>,
    /// Whether this store gives any.
    given: bool,
    /// The snapshot that has each, 0 for none.
    ids: [u64; BITS],
    /// Bits of live snapshots.
    live: u64,
}

impl Bits {
    /// The bits that the tree with this root and depth says, in a store that gives any. The caller
    /// says which are live.
    pub(super) fn load<B: Blocks>(
        m: &mut Meta<B>,
        root: Option<(u64, u16)>,
        epoch: u64,
    ) -> Result<Self> {
        let (nr, depth) = root.unwrap_or_default();
        if depth > 1 {
            return Err(EILSEQ);
        }
        let mut bits = Self {
            tree: Tree::load(m, TREE_BITS as u16, nr, depth, epoch)?,
            given: root.is_some(),
            ids: [0; BITS],
            live: 0,
        };
        let mut from = 0;
        while let Some([bit, id]) = bits.tree.at_or_after(m, &[from])? {
            let n = usize::try_from(bit).map_err(|_| EILSEQ)?;
            if id == 0 || bits.ids.contains(&id) {
                return Err(EILSEQ);
            }
            *bits.ids.get_mut(n).ok_or(EILSEQ)? = id;
            from = bit + 1;
        }
        Ok(bits)
    }

    /// Root and depth of the tree.
    pub(super) fn root(&self) -> (u64, u16) {
        (self.tree.root(), self.tree.depth())
    }

    /// Blocks that giving or taking back any number of bits needs at most: all of them are in one
    /// node, which is copied once.
    pub(super) fn blocks(&self) -> usize {
        if self.given {
            2
        } else {
            0
        }
    }

    /// Reads the only node of the tree, if there is one.
    pub(super) fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>) -> Result {
        self.tree.read_ahead(m, &[0])
    }

    /// Whether this store gives bits.
    pub(super) fn are_given(&self) -> bool {
        self.given
    }

    /// The bits of live snapshots.
    pub(in crate::store) fn live(&self) -> u64 {
        self.live
    }

    /// The bits of those that are live no more.
    pub(super) fn dead(&self) -> u64 {
        self.mask(|_| true) & !self.live
    }

    /// The bit of `id`, live or not, as a mask; 0 if it has none.
    pub(super) fn held_by(&self, id: SnapId) -> u64 {
        self.mask(|n| n == id.0)
    }

    /// The bit of the live snapshot `id`, as a mask; 0 if it has none.
    pub(in crate::store) fn of(&self, id: SnapId) -> u64 {
        self.held_by(id) & self.live
    }

    /// The bits of live snapshots from number `from` on.
    pub(in crate::store) fn live_from(&self, from: u64) -> u64 {
        self.mask(|n| n >= from) & self.live
    }

    /// The bits of live snapshots up to number `to`.
    pub(in crate::store) fn live_to(&self, to: u64) -> u64 {
        self.mask(|n| n <= to) & self.live
    }

    fn mask(&self, f: impl Fn(u64) -> bool) -> u64 {
        let good = |n: u64| n != 0 && f(n);
        let bits = self.ids.iter().enumerate().filter(|(_, id)| good(**id));
        bits.fold(0, |mask, (bit, _)| mask | (1 << bit))
    }

    /// Why there is no bit for another snapshot, if there is none.
    pub(super) fn none_left(&self) -> Option<NoId> {
        if !self.given || self.ids.contains(&0) {
            return None;
        }
        let why = match self.live {
            u64::MAX => "the bitmask store holds 64 snapshots: delete one or use btree",
            _ => "the bitmask store still sweeps deleted snapshots: wait until one of 64 has gone",
        };
        Some(NoId::new(why, ENOSPC))
    }

    /// Gives the lowest free bit to `id`. `EILSEQ` if there is none.
    pub(super) fn give<B: Blocks>(&mut self, m: &mut Meta<B>, id: SnapId) -> Result {
        if !self.given {
            return Ok(());
        }
        let bit = self.ids.iter().position(|n| *n == 0).ok_or(EILSEQ)?;
        self.tree.insert(m, &[bit as u64, id.0])?;
        self.ids[bit] = id.0;
        self.live |= 1 << bit;
        Ok(())
    }

    /// A loaded store's snapshot `id` is live. `EILSEQ` if it has no bit, or two.
    pub(super) fn set_live(&mut self, id: SnapId) -> Result {
        let mask = self.held_by(id);
        if mask.count_ones() != 1 || self.live & mask != 0 {
            return Err(EILSEQ);
        }
        self.live |= mask;
        Ok(())
    }

    /// `id` is live no more; it still has its bit.
    pub(super) fn forget(&mut self, id: SnapId) {
        self.live &= !self.held_by(id);
    }

    /// No record knows `id` any more: its bit is free.
    pub(super) fn take_back<B: Blocks>(&mut self, m: &mut Meta<B>, id: SnapId) -> Result {
        if let Some(bit) = self.ids.iter().position(|n| *n == id.0) {
            self.tree.remove(m, &[bit as u64])?;
            self.ids[bit] = 0;
        }
        Ok(())
    }
}

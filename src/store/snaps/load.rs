// SPDX-License-Identifier: GPL-2.0

//! Reading what is kept in core of the snapshot table. It grows with the ranges of live ids and
//! the sizes that the origin had, not with the snapshots.

use super::{Bits, Ranges, Roots, Snaps, CLASS_NEXT, CLASS_SUB, CLASS_TOP, NOT_YET};
use crate::store::{
    blocks::Blocks,
    format::{BITS, TREE_BITS, TREE_DYING, TREE_LIVE, TREE_SIZES, TREE_SNAPS},
    meta::Meta,
    tree::Tree,
    types::SnapId,
};
use kernel::prelude::*;

impl Snaps {
    /// Reads what is kept in core.
    pub(in crate::store) fn load<B: Blocks>(
        m: &mut Meta<B>,
        roots: &Roots,
        epoch: u64,
        [next_id, count]: [u64; 2],
        bits: bool,
    ) -> Result<Self> {
        let root = |n: usize| roots.0[n];
        let (rows, live) = (root(TREE_SNAPS), root(TREE_LIVE));
        let (dying, sizes) = (root(TREE_DYING), root(TREE_SIZES));
        let mut snaps = Self {
            rows: Tree::load(m, TREE_SNAPS as u16, rows.0, rows.1, epoch)?,
            live: Tree::load(m, TREE_LIVE as u16, live.0, live.1, epoch)?,
            dying: Tree::load(m, TREE_DYING as u16, dying.0, dying.1, epoch)?,
            sizes: Tree::load(m, TREE_SIZES as u16, sizes.0, sizes.1, epoch)?,
            tops: Ranges::new(),
            subs: Ranges::new(),
            nexts: KVVec::new(),
            history: KVVec::new(),
            next_id,
            count: 0,
            bits: Bits::load(m, bits.then_some(root(TREE_BITS)), epoch)?,
        };
        snaps.load_live(m)?;
        snaps.check_bits(m)?;
        snaps.load_sizes(m)?;
        if snaps.count != count {
            return Err(EILSEQ);
        }
        Ok(snaps)
    }

    fn load_live<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result {
        let mut key = [CLASS_TOP, 0];
        while let Some([class, lo, hi]) = self.live.at_or_after(m, &key)? {
            let id = |n: u64| u32::try_from(n).map_err(|_| EILSEQ);
            match class {
                CLASS_TOP if lo >= 1 && hi < self.next_id => self.tops.push(lo, hi)?,
                CLASS_SUB => {
                    let (first, last) = (SnapId(lo), SnapId(hi));
                    let made = u64::from(last.id()) < self.next_id && last.is_sub();
                    if !made || first.id() != last.id() {
                        return Err(EILSEQ);
                    }
                    self.subs.push(lo, hi)?;
                }
                CLASS_NEXT if self.tops.contains(lo) => {
                    self.nexts.push((id(lo)?, id(hi)?), GFP_KERNEL)?;
                }
                _ => return Err(EILSEQ),
            }
            if class != CLASS_NEXT {
                let n = (hi - lo).checked_add(1).ok_or(EILSEQ)?;
                self.count = self.count.checked_add(n).ok_or(EILSEQ)?;
            }
            key = match lo.checked_add(1) {
                Some(lo) => [class, lo],
                None => [class + 1, 0],
            };
        }
        Ok(())
    }

    /// Finds out which bits are live ones. `EILSEQ` unless each live snapshot has one, and each of
    /// the others is that of a forgotten snapshot which the sweep has not finished with.
    fn check_bits<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result {
        if !self.bits.are_given() {
            return Ok(());
        }
        if self.count > BITS as u64 || self.subs.next(0).is_some() {
            return Err(EILSEQ);
        }
        let mut from = SnapId(0);
        while let Some(id) = self.next_live(from) {
            self.bits.set_live(id)?;
            match id.0.checked_add(1) {
                Some(next) => from = SnapId(next),
                None => break,
            }
        }
        let mut left = self.bits.dead();
        let mut key = [0, 0];
        while let Some([pass, id]) = self.dying.at_or_after(m, &key)? {
            if pass == NOT_YET {
                break;
            }
            let bit = left & self.bits.held_by(SnapId(id));
            if bit == 0 {
                return Err(EILSEQ);
            }
            left &= !bit;
            key = match id.checked_add(1) {
                Some(next) => [pass, next],
                None => [pass + 1, 0],
            };
        }
        (left == 0).then_some(()).ok_or(EILSEQ)
    }

    fn load_sizes<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result {
        let mut key = [0];
        while let Some([first, sectors]) = self.sizes.at_or_after(m, &key)? {
            let last = self.history.last().map_or(0, |last| last.1);
            if first >= self.next_id || sectors <= last {
                return Err(EILSEQ);
            }
            let first = u32::try_from(first).map_err(|_| EILSEQ)?;
            self.history.push((first, sectors), GFP_KERNEL)?;
            key = [u64::from(first) + 1];
        }
        Ok(())
    }
}

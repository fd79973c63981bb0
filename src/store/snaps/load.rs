// SPDX-License-Identifier: GPL-2.0

//! Reading what is kept in core of the snapshot table. It grows with the ranges of live ids and
//! the sizes that the origin had, not with the snapshots.

use super::{Ranges, Roots, Snaps, CLASS_NEXT, CLASS_SUB, CLASS_TOP};
use crate::store::{
    blocks::Blocks,
    format::{TREE_DYING, TREE_LIVE, TREE_SIZES, TREE_SNAPS},
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
        next_id: u64,
        count: u64,
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
        };
        snaps.load_live(m)?;
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

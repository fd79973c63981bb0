// SPDX-License-Identifier: GPL-2.0

//! A walk through a whole tree that checks all that a tree must keep to.
//!
//! For tools and tests: nothing in the kernel ever walks a tree.

use super::{entry, key_at, Child, Tree, LEVELS};
use crate::store::blocks::Blocks;
use crate::store::meta::Meta;
use kernel::prelude::*;

/// What a walk comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen<const N: usize> {
    /// A node, before what is below it.
    Node {
        /// Its block.
        nr: u64,
        /// 0 for a leaf.
        level: u16,
        /// Entries in it.
        count: usize,
        /// Its epoch.
        epoch: u64,
    },
    /// An entry of a leaf.
    Entry([u64; N]),
}

impl<const N: usize, const K: usize> Tree<N, K> {
    /// Shows all nodes and entries, in order, to `f`. `EILSEQ` at the first thing that is wrong.
    ///
    /// A node is not seen twice even on a hostile device, since its keys fit in one place only.
    pub(crate) fn walk<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        mut f: impl FnMut(Seen<N>) -> Result,
    ) -> Result {
        if self.depth == 0 {
            return Ok(());
        }
        let shape = self.shape();
        // The nodes being visited, by level, and the next child of each.
        let mut open: [Option<(Child<K>, usize)>; LEVELS] = [None; LEVELS];
        let mut here = self.top(m);
        loop {
            m.read_node(here.nr, &shape, here.level, here.max_epoch, |node| {
                here.check_keys(node)?;
                for i in 1..node.count {
                    if key_at::<K>(node, i - 1) >= key_at::<K>(node, i) {
                        return Err(EILSEQ);
                    }
                }
                f(Seen::Node {
                    nr: here.nr,
                    level: here.level,
                    count: node.count,
                    epoch: node.epoch,
                })?;
                if here.level == 0 {
                    for i in 0..node.count {
                        f(Seen::Entry(entry(node, i)))?;
                    }
                }
                Ok(())
            })?;
            *open.get_mut(usize::from(here.level)).ok_or(EILSEQ)? = Some((here, 0));
            let mut level = here.level + u16::from(here.level == 0);
            loop {
                if level >= self.depth {
                    return Ok(());
                }
                let slot = open.get_mut(usize::from(level)).ok_or(EILSEQ)?;
                let Some((parent, next)) = slot else {
                    return Err(EILSEQ);
                };
                let (parent, i) = (*parent, *next);
                *next += 1;
                let child = m.read_node(parent.nr, &shape, level, parent.max_epoch, |node| {
                    (i < node.count).then(|| parent.child(node, i)).transpose()
                })?;
                if let Some(child) = child {
                    here = child;
                    break;
                }
                level += 1;
            }
        }
    }
}

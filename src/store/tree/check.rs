// SPDX-License-Identifier: GPL-2.0

//! A walk through a whole tree that checks all that a tree must keep to.
//!
//! For tools and tests: nothing in the kernel ever walks a tree.

use super::{entry, key_at, Child, Tree, LEVELS};
use crate::store::blocks::Blocks;
use crate::store::format::{Node, MAX_DEPTH};
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

/// A node that cannot be read or is not what its parent says, and what should be below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken<const K: usize> {
    /// Its block.
    pub(crate) nr: u64,
    /// No key below it is less than this.
    pub(crate) low: Option<[u64; K]>,
    /// All keys below it are less than this.
    pub(crate) high: Option<[u64; K]>,
    /// What reading it gave.
    pub(crate) error: Error,
}

impl<const N: usize, const K: usize> Tree<N, K> {
    /// The tree with this root, of which nothing has been read.
    pub(crate) fn unread(number: u16, root: u64, depth: u16) -> Self {
        Self {
            number,
            root,
            depth: depth.min(MAX_DEPTH),
        }
    }

    /// Shows all nodes and entries, in order, to `f`. `EILSEQ` at the first thing that is wrong.
    pub(crate) fn walk<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        mut f: impl FnMut(Seen<N>) -> Result,
    ) -> Result {
        self.walk_past(m, |seen| f(seen.map_err(|broken| broken.error)?))
    }

    /// As [`walk`](Self::walk), but goes on past what is wrong, which is shown to `f` as well.
    ///
    /// A node is not seen twice even on a hostile device, since its keys fit in one place only.
    pub(crate) fn walk_past<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        mut f: impl FnMut(Result<Seen<N>, Broken<K>>) -> Result,
    ) -> Result {
        if self.depth == 0 {
            return Ok(());
        }
        let shape = self.shape();
        // The nodes being visited, by level, and the next child of each.
        let mut open: [Option<(Child<K>, usize)>; LEVELS] = [None; LEVELS];
        let mut here = self.top(m);
        loop {
            let shown = m.read_node(here.nr, &shape, here.level, here.max_epoch, |node| {
                here.check_keys(node)?;
                for i in 1..node.count {
                    if key_at::<K>(node, i - 1) >= key_at::<K>(node, i) {
                        return Err(EILSEQ);
                    }
                }
                // An error of `f` is not one of the node.
                Ok(here.show(node, &mut f))
            });
            let mut level = here.level;
            match shown {
                Ok(shown) => {
                    shown?;
                    *open.get_mut(usize::from(level)).ok_or(EILSEQ)? = Some((here, 0));
                    level += u16::from(level == 0);
                }
                Err(error) => {
                    f(Err(here.broken(error)))?;
                    level += 1;
                }
            }
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
                });
                match child {
                    Ok(Some(child)) => {
                        here = child;
                        break;
                    }
                    Ok(None) => {}
                    Err(error) => f(Err(parent.broken(error)))?,
                }
                level += 1;
            }
        }
    }
}

impl<const K: usize> Child<K> {
    fn broken(&self, error: Error) -> Broken<K> {
        Broken {
            nr: self.nr,
            low: self.low,
            high: self.high,
            error,
        }
    }

    /// Shows `node`, which is the node that `self` describes, and its entries if it is a leaf.
    fn show<const N: usize>(
        &self,
        node: &Node<'_>,
        f: &mut impl FnMut(Result<Seen<N>, Broken<K>>) -> Result,
    ) -> Result {
        f(Ok(Seen::Node {
            nr: self.nr,
            level: self.level,
            count: node.count,
            epoch: node.epoch,
        }))?;
        if self.level == 0 {
            for i in 0..node.count {
                f(Ok(Seen::Entry(entry(node, i))))?;
            }
        }
        Ok(())
    }
}

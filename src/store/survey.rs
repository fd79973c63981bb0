// SPDX-License-Identifier: GPL-2.0

//! A look at everything that the trees of a store hold, past what is damaged; for tools and tests.
//!
//! What is shown was checked in itself: nodes, and whether the records of a chunk agree with each
//! other. Whether the parts agree with each other is for who looks.

use super::{
    blocks::Blocks,
    data_space::Group,
    format::{
        self, StoreType, TREE_BITS, TREE_DYING, TREE_FREE, TREE_LIVE, TREE_MAP, TREE_SIZES,
        TREE_SNAPS,
    },
    meta::Meta,
    snaps::{self, Roots, ROW},
    tree::{Broken, Seen, Tree},
    types::{Descriptor, SnapInfo, Value},
};
use kernel::prelude::*;

/// What a survey comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A metadata block that holds a node of a tree.
    Node(u64),
    /// A metadata block that holds none.
    Free(u64),
    /// A group of data chunks, and a mask of those that are free.
    FreeChunks(u64, u64),
    /// A record.
    Record {
        /// Of which chunk of the origin.
        chunk: u64,
        /// For which ids.
        ids: Descriptor,
        /// What it says.
        value: Value,
    },
    /// A snapshot.
    Row(SnapInfo),
    /// An entry of the tree of live ids: class, low, high.
    Live([u64; 3]),
    /// A deleted id: pass, id.
    Dying([u64; 2]),
    /// From which id on the origin had which size.
    Size([u64; 2]),
    /// A bit, and the id that has it.
    Bit([u64; 2]),
    /// Something that cannot be used.
    Bad(Bad),
}

/// What cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A node that cannot be read or is not what its parent says. All is lost that it may have
    /// led to: keys from `low` on that are less than `high`. A key has two words, of which the
    /// second is 0 where there is one only.
    Node {
        /// Of which tree.
        tree: usize,
        /// Its block.
        nr: u64,
        /// Nothing less is lost.
        low: [u64; 2],
        /// `None`: up to the end.
        high: Option<[u64; 2]>,
        /// What reading it gave.
        error: Error,
    },
    /// An entry that cannot be what it says, with its first words.
    Entry {
        /// Of which tree.
        tree: usize,
        /// As many as it has, of four.
        words: [u64; 4],
    },
    /// The lists of free metadata blocks cannot be read to the end.
    FreeList,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// The records.
    Records,
    /// The snapshots.
    Snapshots,
}

/// The trees that are looked at.
#[derive(Clone, Copy)]
pub(super) struct Trees<'a> {
    pub(super) roots: &'a Roots,
    pub(super) of: StoreType,
    /// Chunks of the data area.
    pub(super) chunks: u64,
    pub(super) hot: Group,
}

/// Whoever is shown the parts.
type Look<'a> = &'a mut dyn FnMut(Part) -> Result;

/// Shows what the trees hold to `f`.
pub(super) fn look<B: Blocks>(
    m: &mut Meta<B>,
    trees: Trees<'_>,
    scope: Scope,
    f: Look<'_>,
) -> Result {
    let Trees { roots, hot, .. } = trees;
    if scope != Scope::Snapshots {
        match trees.of {
            StoreType::Btree => ranges(m, roots, trees.chunks, f)?,
            StoreType::Bitmask => masks(m, roots, trees.chunks, f)?,
        }
    }
    if scope == Scope::All {
        f(Part::FreeChunks(hot.nr, hot.mask))?;
        each::<B, 2, 1>(m, roots, TREE_FREE, f, |[nr, mask]| match mask {
            _ if nr == hot.nr => None,
            0 => Some(bad(TREE_FREE, [nr, mask])),
            _ => Some(Part::FreeChunks(nr, mask)),
        })?;
    }
    if scope == Scope::Records {
        return Ok(());
    }
    let row = |row| Some(Part::Row(snaps::info(&row)));
    each::<B, ROW, 1>(m, roots, TREE_SNAPS, f, row)?;
    each::<B, 3, 2>(m, roots, TREE_LIVE, f, |entry| Some(Part::Live(entry)))?;
    each::<B, 2, 2>(m, roots, TREE_DYING, f, |entry| Some(Part::Dying(entry)))?;
    each::<B, 2, 1>(m, roots, TREE_SIZES, f, |entry| Some(Part::Size(entry)))?;
    each::<B, 2, 1>(m, roots, TREE_BITS, f, |entry| Some(Part::Bit(entry)))
}

/// Shows the free metadata blocks to `f`.
pub(super) fn free_blocks<B: Blocks>(m: &mut Meta<B>, f: Look<'_>) -> Result {
    let mut stopped = false;
    let shown = m.walk_free(|nr, _| {
        let result = f(Part::Free(nr));
        stopped = result.is_err();
        result
    });
    match shown {
        Err(_) if !stopped => f(Part::Bad(Bad::FreeList)),
        other => other,
    }
}

/// The records of a `btree` store.
fn ranges<B: Blocks>(m: &mut Meta<B>, roots: &Roots, chunks: u64, f: Look<'_>) -> Result {
    let mut last: Option<(u64, u64)> = None;
    each::<B, 4, 2>(m, roots, TREE_MAP, f, |[chunk, lo, hi, word]| {
        let overlaps = last.is_some_and(|(c, end)| c == chunk && end >= lo);
        let value = format::value_of(word, chunks);
        Some(match value {
            Ok(value) if !overlaps && hi >= lo => {
                last = Some((chunk, hi));
                let ids = Descriptor { a: lo, b: hi };
                Part::Record { chunk, ids, value }
            }
            _ => bad(TREE_MAP, [chunk, lo, hi, word]),
        })
    })
}

/// The records of a `bitmask` store.
fn masks<B: Blocks>(m: &mut Meta<B>, roots: &Roots, chunks: u64, f: Look<'_>) -> Result {
    let (mut last, mut seen) = (None, 0);
    each::<B, 3, 2>(m, roots, TREE_MAP, f, |[chunk, word, mask]| {
        if last != Some(chunk) {
            (last, seen) = (Some(chunk), 0);
        }
        let value = format::value_of(word, chunks);
        Some(match value {
            Ok(value) if mask != 0 && mask & seen == 0 => {
                seen |= mask;
                let ids = Descriptor::of_mask(mask);
                Part::Record { chunk, ids, value }
            }
            _ => bad(TREE_MAP, [chunk, word, mask]),
        })
    })
}

/// Shows the nodes of a tree to `f`, and its entries as `part` says.
fn each<B: Blocks, const N: usize, const K: usize>(
    m: &mut Meta<B>,
    roots: &Roots,
    tree: usize,
    f: Look<'_>,
    mut part: impl FnMut([u64; N]) -> Option<Part>,
) -> Result {
    let (root, depth) = roots.0.get(tree).copied().ok_or(EINVAL)?;
    Tree::<N, K>::unread(tree as u16, root, depth).walk_past(m, |seen| match seen {
        Ok(Seen::Node { nr, .. }) => f(Part::Node(nr)),
        Ok(Seen::Entry(entry)) => part(entry).map_or(Ok(()), &mut *f),
        Err(broken) => f(Part::Bad(bad_node(tree, &broken))),
    })
}

fn bad_node<const K: usize>(tree: usize, broken: &Broken<K>) -> Bad {
    fn two<const K: usize>(key: [u64; K]) -> [u64; 2] {
        let mut words = [0; 2];
        words.iter_mut().zip(key).for_each(|(to, word)| *to = word);
        words
    }
    Bad::Node {
        tree,
        nr: broken.nr,
        low: broken.low.map_or([0; 2], two),
        high: broken.high.map(two),
        error: broken.error,
    }
}

fn bad<const N: usize>(tree: usize, entry: [u64; N]) -> Part {
    let mut words = [0; 4];
    words
        .iter_mut()
        .zip(entry)
        .for_each(|(to, word)| *to = word);
    Part::Bad(Bad::Entry { tree, words })
}

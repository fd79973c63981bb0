// SPDX-License-Identifier: GPL-2.0

//! A walk through everything that a store holds, for tools and tests.

use super::{map, RangeStore};
use crate::store::{base::Base, blocks::Blocks, tree::Seen, types::Value};
use kernel::prelude::*;

/// What a walk comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
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
        lo: u64,
        /// The last of them.
        hi: u64,
        /// What it says.
        value: Value,
    },
}

impl<B: Blocks> RangeStore<B> {
    /// Shows all metadata blocks, free chunks below the high-water mark, and records to `f`.
    /// `EILSEQ` at the first thing that is wrong in itself.
    pub(crate) fn walk(&mut self, mut f: impl FnMut(Item) -> Result) -> Result {
        let Base {
            meta, data, snaps, ..
        } = &mut self.base;
        let chunks = data.chunks();
        let mut last: Option<(u64, u64)> = None;
        self.map.tree.walk(meta, |seen| match seen {
            Seen::Node { nr, .. } => f(Item::Node(nr)),
            Seen::Entry([chunk, lo, hi, word]) => {
                let overlaps = last.is_some_and(|(c, end)| c == chunk && end >= lo);
                if overlaps || hi < lo {
                    return Err(EILSEQ);
                }
                last = Some((chunk, hi));
                let value = map::value_of(word, chunks)?;
                f(Item::Record {
                    chunk,
                    lo,
                    hi,
                    value,
                })
            }
        })?;
        let hot = data.hot();
        f(Item::FreeChunks(hot.nr, hot.mask))?;
        data.tree().walk(meta, |seen| match seen {
            Seen::Node { nr, .. } => f(Item::Node(nr)),
            Seen::Entry([nr, _]) if nr == hot.nr => Ok(()),
            Seen::Entry([_, 0]) => Err(EILSEQ),
            Seen::Entry([nr, mask]) => f(Item::FreeChunks(nr, mask)),
        })?;
        snaps.walk_nodes(meta, |nr| f(Item::Node(nr)))?;
        meta.walk_free(|nr, _| f(Item::Free(nr)))
    }

    /// High-water mark of the data area.
    pub(crate) fn high_water(&self) -> u64 {
        self.base.data.next()
    }
}

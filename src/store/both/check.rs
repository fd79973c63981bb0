// SPDX-License-Identifier: GPL-2.0

//! A walk through everything that a store holds, for tools and tests.

use super::{Exceptions, Store};
use crate::store::{
    base::Base,
    blocks::Blocks,
    tree::Seen,
    types::{Descriptor, Value},
};
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
        ids: Descriptor,
        /// What it says.
        value: Value,
    },
}

impl<B: Blocks, X: Exceptions> Store<B, X> {
    /// See [`ExceptionStore::walk`](crate::store::ExceptionStore::walk).
    pub(super) fn walk_all(&mut self, f: &mut dyn FnMut(Item) -> Result) -> Result {
        let Base {
            meta, data, snaps, ..
        } = &mut self.base;
        self.exceptions.walk(meta, data.chunks(), f)?;
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
}

// SPDX-License-Identifier: GPL-2.0

//! A walk through everything that a store holds, for tools and tests.

use super::{Exceptions, Store};
use crate::store::{
    blocks::Blocks,
    types::{Descriptor, Value},
    Bad, Part, Scope, Tools,
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
        self.survey(Scope::All, &mut |part| match part {
            Part::Node(nr) => f(Item::Node(nr)),
            Part::Free(nr) => f(Item::Free(nr)),
            Part::FreeChunks(nr, mask) => f(Item::FreeChunks(nr, mask)),
            Part::Record { chunk, ids, value } => f(Item::Record { chunk, ids, value }),
            Part::Bad(Bad::Node { error, .. }) => Err(error),
            Part::Bad(_) => Err(EILSEQ),
            _ => Ok(()),
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Loading: the newest checkpoint, then the log behind it, then a checkpoint of all that.

use super::{Exceptions, Store};
use crate::store::{
    base::{damaged, Base},
    blocks::Blocks,
    format::{RecordKind, TREE_MAP},
    log::Record,
    open::{Open, OpenError},
};
use kernel::prelude::*;

impl<B: Blocks, X: Exceptions> Store<B, X> {
    /// Loads the store. Unless it is read-only, all that the log held is in a new checkpoint
    /// when this returns, without the clean mark.
    pub(in crate::store) fn recover(open: Open<B>) -> Result<Self, OpenError> {
        let epoch = open.epoch();
        let log_start = open.layout.log_start;
        let (mut base, roots) = Base::load(open)?;
        let root = roots.0[TREE_MAP];
        let exceptions =
            X::load(&mut base.meta, root, epoch).map_err(|e| damaged(e, "map", root.0))?;
        let mut store = Self {
            base,
            exceptions,
            query: None,
        };
        while let Some(commit) = store.base.next_commit()? {
            let result = commit.each(|record| store.replay(record));
            store.base.log.put_commit(commit);
            result.map_err(|e| damaged(e, "log", log_start))?;
        }
        store.base.end_replay()?;
        if !store.base.read_only {
            let root = store.exceptions.root();
            store.base.restart(root)?;
        }
        Ok(store)
    }

    fn replay(&mut self, record: &Record) -> Result {
        let Self {
            base, exceptions, ..
        } = self;
        if !matches!(record.kind, RecordKind::Set | RecordKind::Trim) {
            return base.replay(record);
        }
        exceptions.plan_replay(base, record)?;
        base.meta.reserve(exceptions.blocks(&base.data), 0)?;
        let Base { meta, data, .. } = base;
        exceptions.apply(meta, data, None)
    }
}

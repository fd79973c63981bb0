// SPDX-License-Identifier: GPL-2.0

//! Loading: the newest checkpoint, then the log behind it, then a checkpoint of all that.

use super::{Exceptions, Store};
#[cfg(not(MODULE))]
use crate::store::Skipped;
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
    // It is in its box before the log is replayed: the deepest calls of a load come then, and they
    // must not have whole stores above them on the stack.
    pub(in crate::store) fn recover(open: Open<B>) -> Result<KBox<Self>, OpenError> {
        let (log_start, lost) = (open.layout.log_start, open.lost);
        let mut store = Self::at_checkpoint(open)?;
        store.replay_log(log_start)?;
        let Self {
            base, exceptions, ..
        } = &mut *store;
        if lost {
            base.lose_all();
        }
        if !base.read_only {
            base.restart(exceptions.root())?;
            if base.settle_rest()? {
                base.restart(exceptions.root())?;
            }
        }
        Ok(store)
    }

    #[inline(never)]
    fn at_checkpoint(open: Open<B>) -> Result<KBox<Self>, OpenError> {
        let epoch = open.epoch();
        let (mut base, roots) = Base::load(open)?;
        let root = roots.0[TREE_MAP];
        let exceptions =
            X::load(&mut base.meta, root, epoch).map_err(|e| damaged(e, "map", root.0))?;
        let store = Self {
            base,
            exceptions,
            query: None,
        };
        Ok(KBox::init(store, GFP_KERNEL)?)
    }

    #[inline(never)]
    fn replay_log(&mut self, log_start: u64) -> Result<(), OpenError> {
        while let Some(commit) = self.base.next_commit()? {
            let result = commit.each(|record| self.replay(record));
            self.base.log.put_commit(commit);
            result.map_err(|e| damaged(e, "log", log_start))?;
        }
        self.base.end_replay()
    }

    /// As [`recover`](Self::recover), read-only and with as much of the log as can be applied; the
    /// rest is shown to `skipped`.
    #[cfg(not(MODULE))]
    pub(in crate::store) fn recover_damaged(
        open: Open<B>,
        skipped: &mut dyn FnMut(Skipped),
    ) -> Result<KBox<Self>, OpenError> {
        let clean = open.identity().is_some();
        let mut store = Self::at_checkpoint(open)?;
        store.base.read_only = true;
        if clean {
            // There is nothing in the log.
            store.base.settle()?;
            return Ok(store);
        }
        loop {
            let commit = match store.base.next_commit() {
                Ok(Some(commit)) => commit,
                Ok(None) => break,
                Err(_) => {
                    skipped(Skipped::Rest);
                    break;
                }
            };
            let result = commit.each(|record| {
                if store.replay(record).is_err() {
                    skipped(Skipped::new(record));
                }
                Ok(())
            });
            store.base.log.put_commit(commit);
            if result.is_err() {
                skipped(Skipped::Rest);
            }
        }
        if store.base.end_replay().is_err() {
            skipped(Skipped::Rest);
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

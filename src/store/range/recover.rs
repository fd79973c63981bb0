// SPDX-License-Identifier: GPL-2.0

//! Loading: the newest checkpoint, then the log behind it, then a checkpoint of all that.

use super::{
    edit::Edit,
    map::{self, Map, Rec},
    RangeStore,
};
use crate::store::{
    base::{damaged, Base},
    blocks::Blocks,
    format::{RecordKind, TREE_MAP},
    log::Record,
    open::{Open, OpenError},
};
use kernel::prelude::*;

impl<B: Blocks> RangeStore<B> {
    /// Loads the store. Unless it is read-only, all that the log held is in a new checkpoint
    /// when this returns, without the clean mark.
    pub(crate) fn recover(open: Open<B>) -> Result<Self, OpenError> {
        let epoch = open.epoch();
        let log_start = open.layout.log_start;
        let (mut base, roots) = Base::load(open)?;
        let root = roots.0[TREE_MAP];
        let map = Map::load(&mut base.meta, root, epoch).map_err(|e| damaged(e, "map", root.0))?;
        let mut store = Self {
            base,
            map,
            edit: Edit::new()?,
            query: None,
        };
        while let Some(commit) = store.base.next_commit()? {
            let result = commit.each(|record| store.replay(record));
            store.base.log.put_commit(commit);
            result.map_err(|e| damaged(e, "log", log_start))?;
        }
        store.base.end_replay()?;
        if !store.base.read_only {
            let root = store.root();
            store.base.restart(root)?;
        }
        Ok(store)
    }

    fn replay(&mut self, record: &Record) -> Result {
        let base = &mut self.base;
        let [chunk, lo, hi, word] = [0, 1, 2, 3].map(|i| record.words[i]);
        match record.kind {
            RecordKind::Set => {
                map::value_of(word, base.data.chunks())?;
                if lo > hi {
                    return Err(EILSEQ);
                }
                let rec = Rec { lo, hi, word };
                let edit = &mut self.edit;
                edit.plan_set(&self.map, &mut base.meta, &base.snaps, chunk, &rec)?;
            }
            RecordKind::Trim => {
                let limit = usize::try_from(lo).map_err(|_| EILSEQ)?;
                let edit = &mut self.edit;
                edit.plan_trim(&self.map, &mut base.meta, &base.snaps, chunk, limit)?;
            }
            _ => return base.replay(record),
        }
        let blocks = self.edit.blocks(&self.map, &base.data);
        base.meta.reserve(blocks, 0)?;
        let Base { meta, data, .. } = base;
        self.edit.apply(&mut self.map, meta, data, None)
    }
}

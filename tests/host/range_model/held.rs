// SPDX-License-Identifier: GPL-2.0

//! Copies for the origin that stay under way for long, whatever happens meanwhile.

use super::{Content, Rig};
use crate::store::{Chunk, ExceptionStore, Remap, SnapId, Who};
use kernel::prelude::*;
use std::vec::Vec as StdVec;

/// A copy for the origin that has been planned and not recorded.
pub(super) struct Held {
    pub(super) remap: Remap,
    /// The ids that it is for.
    pub(super) ids: StdVec<u64>,
    token: u64,
}

impl Rig {
    /// A copy for the origin begins, and stays under way.
    pub(in crate::tests) fn hold(&mut self, chunk: u64) {
        if self.is_waiting(chunk) || self.held.iter().any(|h| h.remap.chunk.0 == chunk) {
            return;
        }
        self.store.reset_query(Chunk(chunk)).unwrap();
        while self.store.query_next_remap().unwrap().is_some() {
            let Ok(remap) = self.store.add_next_remap() else {
                return;
            };
            let token = self.origin[chunk as usize];
            self.write_data(remap.dest, token);
            let of = |id: &&u64| {
                let who = Who::Snapshot(SnapId(**id));
                self.model.ids[*id][chunk as usize] == Content::Shared
                    && self.store.check_conflict(remap.ids, who)
            };
            let ids = self.model.ids.keys().filter(of).copied().collect();
            self.held.push(Held { remap, ids, token });
            self.count("copies held back");
        }
    }

    /// Copies that were held back end, well or not.
    pub(super) fn let_go(&mut self, which: impl Fn(&Held) -> bool, well: bool) {
        let (go, stay) = std::mem::take(&mut self.held).into_iter().partition(which);
        self.held = stay;
        let go: StdVec<Held> = go;
        for held in go {
            let chunk = held.remap.chunk;
            let content = if well {
                match self.retry(|rig| rig.store.record(&held.remap)) {
                    Ok(()) => Content::Token(held.token),
                    Err(e) => {
                        assert_eq!(e, ENOSPC);
                        self.store.give_back(held.remap);
                        continue;
                    }
                }
            } else {
                let ids = held.remap.ids;
                self.store.give_back(held.remap);
                match self.retry(|rig| rig.store.record_lost(chunk, ids)) {
                    Ok(()) => Content::Lost,
                    Err(e) => {
                        assert_eq!(e, ENOSPC);
                        continue;
                    }
                }
            };
            let mut left = 0;
            for id in held.ids {
                if let Some(contents) = self.model.ids.get_mut(&id) {
                    // Where all was lost meanwhile, this comes later and is right.
                    contents[chunk.0 as usize] = content;
                    left += 1;
                }
            }
            self.count(if left == 0 {
                "held for none"
            } else {
                "held for some"
            });
        }
    }

    /// One of the copies that were held back ends.
    pub(in crate::tests) fn end_one(&mut self, well: bool) {
        if let Some(dest) = self.held.first().map(|held| held.remap.dest) {
            self.let_go(|held| held.remap.dest == dest, well);
        }
    }

    /// All copies that were held back end.
    pub(in crate::tests) fn end_all(&mut self) {
        self.let_go(|_| true, true);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Recovery: the log is applied to the trees of the newest checkpoint, and the result becomes a
//! checkpoint of its own.

use super::{checkpoint::last_number, Base};
use crate::store::{
    blocks::Blocks,
    format::RecordKind,
    log::{Commit, Record},
    open::{OpenError, BLOCK_SECTORS},
    types::SnapId,
};
use kernel::prelude::*;

impl<B: Blocks> Base<B> {
    /// The next commit in the log that the trees do not contain.
    pub(in crate::store) fn next_commit(&mut self) -> Result<Option<Commit>> {
        let Self {
            log,
            meta,
            log_epochs,
            ..
        } = self;
        log.take_commit(meta.blocks(), log_epochs)
    }

    /// Applies a record that both stores have. `EILSEQ` if it cannot be.
    pub(in crate::store) fn replay(&mut self, record: &Record) -> Result {
        let words = &record.words;
        let id = SnapId(words[0]);
        let Self { meta, snaps, .. } = self;
        match record.kind {
            RecordKind::Create => {
                meta.reserve(snaps.blocks_to_create(), 0)?;
                snaps.create(meta, id, words[1], words[2], words[3])
            }
            RecordKind::Name => {
                meta.reserve(snaps.blocks_to_name(), 0)?;
                let mut name = [0; 8];
                name.copy_from_slice(&words[1..9]);
                snaps.name(meta, id, &name)
            }
            RecordKind::Delete => {
                meta.reserve(snaps.blocks_to_delete(), 0)?;
                snaps.delete(meta, id)
            }
            RecordKind::Forget => {
                if words[1] > self.sweep_pass {
                    return Err(EILSEQ);
                }
                meta.reserve(snaps.blocks_to_forget(), 0)?;
                snaps.forget(meta, id, words[1])
            }
            RecordKind::Swept => {
                if words[0] > u64::MAX / 2 {
                    return Err(EILSEQ);
                }
                meta.reserve(snaps.blocks_for_swept(), 0)?;
                snaps.swept(meta, words[0])?;
                self.set_swept(words[0]);
                Ok(())
            }
            RecordKind::Extent => self.replay_extent(words[0], words[1]),
            RecordKind::Size => {
                let device = self.meta.blocks().len().saturating_mul(BLOCK_SECTORS);
                let good = (self.origin_sectors..=u64::MAX).contains(&words[0])
                    && (self.store_sectors..=device).contains(&words[1]);
                if !good {
                    return Err(EILSEQ);
                }
                self.set_sizes(words[0], words[1]);
                Ok(())
            }
            RecordKind::LostAll => {
                self.lost_to = self.lost_to.max(words[0]);
                Ok(())
            }
            RecordKind::Set | RecordKind::Trim => Err(EILSEQ),
        }
    }

    fn replay_extent(&mut self, first: u64, count: u64) -> Result {
        let (start, len) = self.extent(first, count).ok_or(EILSEQ)?;
        let ops = self.data.ops_for_used(first, count);
        let Self { meta, data, .. } = self;
        meta.reserve(ops.saturating_mul(data.blocks_per_op()), 0)?;
        meta.add_extent(start, len)?;
        data.mark_used(meta, first, count)?;
        self.meta_total = self.meta_total.checked_add(len).ok_or(EILSEQ)?;
        self.meta_chunks = self.meta_chunks.checked_add(count).ok_or(EILSEQ)?;
        Ok(())
    }

    /// The log has been replayed: makes sure that it was all of it, and takes the snapshots whose
    /// deletion it had out of the live ones.
    pub(in crate::store) fn end_replay(&mut self) -> Result<(), OpenError> {
        let Self { log, meta, .. } = self;
        let place = log.position();
        log.check_end(meta.blocks(), self.epoch)
            .map_err(|e| damaged(e, "log", place))?;
        self.settle()
    }

    /// Nothing more of the log will be replayed.
    pub(in crate::store) fn settle(&mut self) -> Result<(), OpenError> {
        // A last word may count an id that was given and not durable: it may be given again.
        let newest = last_number(self.snaps.next_top());
        self.lost_to = self.lost_to.min(newest);
        // Where there is no room for that now, a checkpoint makes some, and the engine goes on.
        match self.forget_deleted() {
            Err(e) if e == EAGAIN || e == ENOSPC => Ok(()),
            other => Ok(other?),
        }
    }

    /// Takes snapshots out of the live ones whose deletion the log had, and nothing more of it.
    fn forget_deleted(&mut self) -> Result {
        while let Some(id) = self.snaps.not_forgotten(&mut self.meta)? {
            self.meta.reserve(self.snaps.blocks_to_forget(), 0)?;
            let pass = self.sweep_pass - u64::from(self.sweep_chunk == 0);
            self.snaps.forget(&mut self.meta, id, pass)?;
        }
        Ok(())
    }

    /// Does what [`settle`](Self::settle) had no room for, if there is some by now. Answers whether
    /// anything was done.
    pub(in crate::store) fn settle_rest(&mut self) -> Result<bool> {
        let left = self.snaps.not_forgotten(&mut self.meta)?;
        match self.forget_deleted() {
            Err(e) if e == EAGAIN || e == ENOSPC => (),
            other => other?,
        }
        Ok(self.snaps.not_forgotten(&mut self.meta)? != left)
    }

    /// Makes what was replayed durable, as one new checkpoint; from here on the log is empty.
    pub(in crate::store) fn restart(&mut self, map: (u64, u16)) -> Result<(), OpenError> {
        // Nothing that the log still holds may ever be taken for a continuation.
        let epoch = self.meta.epoch();
        let write = self.freeze(map, None, epoch)?;
        let blocks = self.meta.blocks();
        let result = blocks
            .write_dirty()
            .and_then(|()| blocks.write_raw(write.nr, &write.block));
        self.checkpointed(write, result);
        Ok(result?)
    }
}

/// What an error in loading means.
pub(in crate::store) fn damaged(e: Error, what: &'static str, nr: u64) -> OpenError {
    if e == EILSEQ {
        OpenError::Damaged(what, nr)
    } else {
        OpenError::from(e)
    }
}

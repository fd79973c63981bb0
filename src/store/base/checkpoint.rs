// SPDX-License-Identifier: GPL-2.0

//! Checkpoints: the trees as they are, written beside the newest that is durable.

use super::Base;
use crate::store::{
    blocks::Blocks,
    format::{self, CheckpointInfo, Kind, RootInfo, TREE_FREE},
    meta::FreeRoot,
    open::Identity,
    snaps::Roots,
    CheckpointWrite, SnapId,
};
use kernel::prelude::*;

impl<B: Blocks> Base<B> {
    pub(in crate::store) fn wants_checkpoint(&self) -> bool {
        self.log.wants_checkpoint() || self.meta.wants_checkpoint()
    }

    /// See [`ExceptionStore::checkpoint`](super::ExceptionStore::checkpoint). `map` is root and
    /// depth of the tree of exceptions.
    pub(in crate::store) fn checkpoint(
        &mut self,
        map: (u64, u16),
        clean: Option<&Identity>,
    ) -> Result<CheckpointWrite> {
        self.check_alive()?;
        self.log.check_freeze()?;
        let log_epoch = self.log.epoch();
        let write = self.freeze(map, clean, log_epoch)?;
        self.stopped = clean.is_some();
        Ok(write)
    }

    /// Freezes everything for a checkpoint; log blocks from its place on carry `log_epoch` or its
    /// own epoch.
    pub(in crate::store) fn freeze(
        &mut self,
        map: (u64, u16),
        clean: Option<&Identity>,
        log_epoch: u64,
    ) -> Result<CheckpointWrite> {
        let mut block = self.spare.take().ok_or(EBUSY)?;
        let epoch = self.meta.epoch();
        let free = match self.meta.freeze() {
            Ok(free) => free,
            Err(e) => {
                self.spare = Some(block);
                return Err(e);
            }
        };
        let begin = self.log.freeze(epoch)?;
        let nr = format::CHECKPOINT_NRS[1 - self.slot];
        block.fill(0);
        format::set_header(&mut block, Kind::Checkpoint, &self.layout.uuid, nr, epoch);
        self.fill_info(format::info_mut(&mut block)?, &free, map, clean);
        let info = format::info_mut::<CheckpointInfo>(&mut block)?;
        info.replay_seq = begin.seq.into();
        info.replay_sum = u64::from(begin.sum).into();
        info.log_epoch = log_epoch.into();
        let blocks = self.meta.blocks();
        format::seal(&mut block, |seed, data| blocks.crc32c(seed, data));
        Ok(CheckpointWrite { nr, block })
    }

    fn fill_info(
        &self,
        info: &mut CheckpointInfo,
        free: &FreeRoot,
        map: (u64, u16),
        clean: Option<&Identity>,
    ) {
        let mut roots = Roots([(0, 0); format::MAX_TREES]);
        roots.0[format::TREE_MAP] = map;
        roots.0[TREE_FREE] = (self.data.tree().root(), self.data.tree().depth());
        self.snaps.roots(&mut roots);
        for (to, (nr, depth)) in info.roots.iter_mut().zip(roots.0) {
            *to = RootInfo {
                nr: nr.into(),
                depth: u64::from(depth).into(),
            };
        }
        info.free_head = free.list_head.into();
        info.free_count = free.list_count.into();
        for (to, (start, len)) in info.fresh.iter_mut().zip(free.fresh) {
            *to = [start.into(), len.into()];
        }
        if self.needs_check {
            info.flags = (info.flags.get() | format::CHECKPOINT_NEEDS_CHECK).into();
        }
        if let Some(identity) = clean {
            info.flags = (info.flags.get() | format::CHECKPOINT_CLEAN).into();
            for (to, from) in info.digests.iter_mut().zip(identity.digests) {
                *to = from.into();
            }
        }
        info.meta_total = self.meta_total.into();
        info.data_next = self.data.next().into();
        info.used_chunks = self.data.used().into();
        info.meta_chunks = self.meta_chunks.into();
        info.next_id = self.snaps.next_top().into();
        info.live_ids = self.snaps.count().into();
        info.lost_to = self.lost_to.into();
        info.origin_sectors = self.origin_sectors.into();
        info.store_sectors = self.store_sectors.into();
        info.hot_group = self.data.hot().nr.into();
        info.hot_mask = self.data.hot().mask.into();
        info.sweep_pass = self.sweep_pass.into();
        info.sweep_chunk = self.sweep_chunk.into();
    }

    /// See [`ExceptionStore::give_up`](super::ExceptionStore::give_up).
    pub(in crate::store) fn give_up(&mut self, lost: bool) -> Result<CheckpointWrite> {
        if self.read_only {
            return Err(EROFS);
        }
        let mut block = self.spare.take().ok_or(EBUSY)?;
        self.meta.poison();
        let nr = format::CHECKPOINT_NRS[1 - self.slot];
        block.copy_from_slice(&self.durable[..]);
        // The same epoch, so that the same log belongs to it.
        let epoch = self.epoch;
        format::set_header(&mut block, Kind::Checkpoint, &self.layout.uuid, nr, epoch);
        let info = format::info_mut::<CheckpointInfo>(&mut block)?;
        let mut flags = info.flags.get() | format::CHECKPOINT_LAST_WORD;
        if self.needs_check {
            flags |= format::CHECKPOINT_NEEDS_CHECK;
        }
        info.flags = flags.into();
        if lost {
            let newest = last_number(self.snaps.next_top());
            info.lost_to = newest.max(info.lost_to.get()).into();
        }
        let blocks = self.meta.blocks();
        format::seal(&mut block, |seed, data| blocks.crc32c(seed, data));
        Ok(CheckpointWrite { nr, block })
    }

    pub(in crate::store) fn checkpointed(&mut self, mut write: CheckpointWrite, result: Result) {
        if result.is_ok() {
            self.slot = usize::from(write.nr == format::CHECKPOINT_NRS[1]);
            self.epoch = format::header(&write.block).epoch.get();
            core::mem::swap(&mut self.durable, &mut write.block);
        }
        self.spare = Some(write.block);
        self.meta.thaw(result);
        self.log.thaw(result.is_ok());
        self.data.release(self.log.durable());
    }
}

/// The largest number of an id below `next_top`.
pub(super) fn last_number(next_top: u64) -> u64 {
    match next_top.checked_sub(1).and_then(|n| u32::try_from(n).ok()) {
        Some(n) if n != 0 => SnapId::top(n).0,
        _ => 0,
    }
}

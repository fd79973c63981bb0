// SPDX-License-Identifier: GPL-2.0

//! What both stores stand on: metadata blocks, log, data area, snapshot table, checkpoints.
//!
//! A change is made in three steps: [`Base::prepare`] makes sure that there is room for it in log
//! and metadata (and gives a piece of the data area to metadata if that runs short); then it is
//! applied to the trees, where an error poisons the store; then its record is appended, which
//! cannot fail any more. Replay applies the same records in the same way, and appends nothing.

use super::{
    blocks::{Block, Blocks},
    data_space::{DataSpace, Group},
    format::{self, CheckpointInfo, Kind, RecordKind, RootInfo, TREE_FREE},
    log::{Log, LogPosition, Record},
    meta::{FreeRoot, Meta},
    open::{Identity, Layout, Open, OpenError, BLOCK_SECTORS},
    snaps::{Roots, Snaps},
    types::{Geometry, SnapId, Space},
    CheckpointWrite,
};
use kernel::prelude::*;

/// Metadata blocks that only urgent changes may take.
const KEEP: u64 = 32;

/// Slots of the batch kept free for records of extents.
const EXTENT_SLOTS: usize = 2;

/// How badly a change is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It can wait, or fail.
    Normal,
    /// It frees space, or keeps snapshots right when there is none.
    Urgent,
}

/// The part of a store that does not depend on its type.
pub(super) struct Base<B: Blocks> {
    pub(super) meta: Meta<B>,
    pub(super) layout: Layout,
    pub(super) log: Log,
    pub(super) data: DataSpace,
    pub(super) snaps: Snaps,
    pub(super) read_only: bool,
    /// What ids up to this do not have a record for is lost.
    pub(super) lost_to: u64,
    /// Number of the sweep that goes on or comes next, and the chunk where it goes on.
    pub(super) sweep_pass: u64,
    pub(super) sweep_chunk: u64,
    pub(super) origin_sectors: u64,
    store_sectors: u64,
    /// Metadata blocks in all, and data chunks that were given to them.
    meta_total: u64,
    meta_chunks: u64,
    needs_check: bool,
    /// Index of the newest durable checkpoint's place.
    slot: usize,
    /// Its epoch, and the epochs of the log blocks behind it.
    epoch: u64,
    log_epochs: [u64; 2],
    /// The block for the next checkpoint; `None` while that is out.
    spare: Option<KBox<Block>>,
}

impl<B: Blocks> Base<B> {
    /// The store as its newest checkpoint has it, with nothing replayed; and the root and depth
    /// of each tree.
    pub(super) fn load(open: Open<B>) -> Result<(Self, Roots), OpenError> {
        let spare = KBox::<Block>::zeroed(GFP_KERNEL)?;
        let Open {
            blocks,
            layout,
            checkpoint,
            read_only,
        } = open;
        let head = format::header(&checkpoint);
        let (nr, epoch) = (head.nr.get(), head.epoch.get());
        let info = format::info::<CheckpointInfo>(&checkpoint)?;
        let (base, roots) = Self::from_info(blocks, layout, info, epoch, spare)
            .map_err(|e| damaged(e, "metadata", nr))?;
        let slot = usize::from(nr == format::CHECKPOINT_NRS[1]);
        let base = Self {
            slot,
            read_only,
            ..base
        };
        Ok((base, roots))
    }

    fn from_info(
        blocks: B,
        layout: Layout,
        info: &CheckpointInfo,
        epoch: u64,
        spare: KBox<Block>,
    ) -> Result<(Self, Roots)> {
        let mut free = FreeRoot {
            list_head: info.free_head.get(),
            list_count: info.free_count.get(),
            ..FreeRoot::default()
        };
        for (to, from) in free.fresh.iter_mut().zip(&info.fresh) {
            *to = (from[0].get(), from[1].get());
        }
        let lower = layout.meta_start;
        let mut meta = Meta::restore(blocks, layout.uuid, lower, epoch, &free)?;
        let mut roots = Roots([(0, 0); format::MAX_TREES]);
        for (to, from) in roots.0.iter_mut().zip(&info.roots) {
            let depth = u16::try_from(from.depth.get()).map_err(|_| EILSEQ)?;
            *to = (from.nr.get(), depth);
        }
        let (next_id, live) = (info.next_id.get(), info.live_ids.get());
        let snaps = Snaps::load(&mut meta, &roots, epoch, next_id, live)?;
        let store_sectors = info.store_sectors.get();
        let hot = Group {
            nr: info.hot_group.get(),
            mask: info.hot_mask.get(),
        };
        let data = DataSpace::new(
            DataSpace::load_tree(&mut meta, roots.0[TREE_FREE], epoch)?,
            hot,
            layout.data_chunks(store_sectors),
            info.data_next.get(),
            info.used_chunks.get(),
            layout.chunk_blocks(),
        )?;
        let begin = LogPosition {
            seq: info.replay_seq.get(),
            sum: u32::try_from(info.replay_sum.get()).map_err(|_| EILSEQ)?,
        };
        let base = Self {
            meta,
            log: Log::new(&layout, epoch, begin)?,
            layout,
            data,
            snaps,
            read_only: false,
            lost_to: info.lost_to.get(),
            sweep_pass: info.sweep_pass.get(),
            sweep_chunk: info.sweep_chunk.get(),
            origin_sectors: info.origin_sectors.get(),
            store_sectors,
            meta_total: info.meta_total.get(),
            meta_chunks: info.meta_chunks.get(),
            needs_check: info.flags.get() & format::CHECKPOINT_NEEDS_CHECK != 0,
            slot: 0,
            epoch,
            log_epochs: [info.log_epoch.get(), epoch],
            spare: Some(spare),
        };
        Ok((base, roots))
    }

    // --- state -------------------------------------------------------------------------------

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            chunk_sectors: self.layout.chunk_sectors,
            origin_sectors: self.origin_sectors,
            data_start: self.layout.data_start * BLOCK_SECTORS,
            data_chunks: self.data.chunks(),
        }
    }

    pub(super) fn space(&self) -> Space {
        let free = self.meta.free_blocks();
        Space {
            used_chunks: self.data.used(),
            total_chunks: self.data.chunks(),
            metadata_chunks: self.meta_chunks,
            metadata_blocks_used: self.meta_total.saturating_sub(free),
            metadata_blocks_free: free,
            log_blocks: self.log.len(),
            log_used: self.log.used(),
        }
    }

    pub(super) fn needs_check(&self) -> bool {
        self.needs_check
    }

    pub(super) fn set_needs_check(&mut self) {
        self.needs_check = true;
    }

    /// `EROFS` or `EIO` if nothing can be changed.
    pub(super) fn check_writable(&self) -> Result {
        if self.read_only {
            return Err(EROFS);
        }
        if self.meta.is_poisoned() {
            return Err(EIO);
        }
        Ok(())
    }

    // --- changes -----------------------------------------------------------------------------

    /// Makes sure that a change can take `blocks` metadata blocks and append `slots` slots.
    ///
    /// `EAGAIN` if a checkpoint or a commit must end first, `ENOSPC` if there is no space; nothing
    /// has changed then, but that metadata may have got more blocks.
    pub(super) fn prepare(&mut self, blocks: usize, slots: usize, urgency: Urgency) -> Result {
        self.check_writable()?;
        let urgent = urgency == Urgency::Urgent;
        self.log.check_rooms(1, slots + EXTENT_SLOTS, urgent)?;
        if self.meta.free_blocks() < self.low_water() {
            // Not having to is only better.
            match self.add_extent() {
                Ok(()) | Err(ENOSPC | EAGAIN) => {}
                Err(e) => return Err(e),
            }
        }
        let keep = if urgent { 0 } else { KEEP };
        match self.meta.reserve(blocks, keep) {
            Err(ENOSPC) => {
                self.add_extent()?;
                self.meta.reserve(blocks, keep)
            }
            other => other,
        }
    }

    /// Free metadata blocks below which more are added.
    fn low_water(&self) -> u64 {
        KEEP + (self.meta_total / 8).clamp(16, 1024)
    }

    /// Gives a piece of the data area to metadata.
    fn add_extent(&mut self) -> Result {
        let chunk_blocks = self.layout.chunk_blocks();
        let store_blocks = self.store_sectors / BLOCK_SECTORS;
        let wanted = (store_blocks / 256).clamp(16, 1024);
        let max = wanted.div_ceil(chunk_blocks.max(1));
        let found = self.data.find_run(&mut self.meta, max)?;
        let (first, count) = found.ok_or(ENOSPC)?;
        let ops = self.data.ops_for_used(first, count);
        let blocks = ops.saturating_mul(self.data.blocks_per_op());
        self.meta.reserve(blocks, 0)?;
        // Alone, this changes nothing when it fails.
        let (start, len) = self.extent(first, count).ok_or(EINVAL)?;
        self.meta.add_extent(start, len)?;
        let record = Record::new(RecordKind::Extent, [first, count, 0, 0]);
        let Self { meta, data, .. } = self;
        meta.guarded(|m| data.mark_used(m, first, count))?;
        self.meta_total += len;
        self.meta_chunks += count;
        self.append(&record)
    }

    /// The blocks of `count` chunks from `first` on.
    fn extent(&self, first: u64, count: u64) -> Option<(u64, u64)> {
        let end = first.checked_add(count)?;
        let chunk_blocks = self.layout.chunk_blocks();
        let start = first
            .checked_mul(chunk_blocks)?
            .checked_add(self.layout.data_start)?;
        (end <= self.data.chunks()).then_some((start, count * chunk_blocks))
    }

    /// Appends the record of what has been applied.
    pub(super) fn append(&mut self, record: &Record) -> Result {
        let Self { meta, log, .. } = self;
        // There was room when the change was prepared.
        meta.guarded(|_| log.append(record))
    }

    /// Applies `f` to the trees, then appends `record`.
    pub(super) fn change(
        &mut self,
        record: &Record,
        f: impl FnOnce(&mut Snaps, &mut Meta<B>) -> Result,
    ) -> Result {
        let Self { meta, snaps, .. } = self;
        meta.guarded(|m| f(snaps, m))?;
        self.append(record)
    }

    // --- snapshots ---------------------------------------------------------------------------

    pub(super) fn create(
        &mut self,
        parent: Option<SnapId>,
        created: u64,
        name: &[u8],
    ) -> Result<SnapId> {
        let words = name_words(name)?;
        let id = self.snaps.next_number(parent)?;
        self.prepare(2 * self.snaps.blocks_per_change(), 1 + 3, Urgency::Urgent)?;
        let sectors = match parent {
            None => self.origin_sectors,
            Some(parent) => {
                let row = self.snaps.row(&mut self.meta, parent)?;
                row.ok_or(EILSEQ)?.sectors
            }
        };
        self.snaps.reserve()?;
        let record = Record::new(RecordKind::Create, [id.0, created, sectors, 0]);
        self.change(&record, |s, m| s.create(m, id, created, sectors, 0))?;
        if !name.is_empty() {
            self.apply_name(id, &words)?;
        }
        Ok(id)
    }

    pub(super) fn rename(&mut self, id: SnapId, name: &[u8]) -> Result {
        let words = name_words(name)?;
        if !self.snaps.is_live(id) {
            return Err(ENOENT);
        }
        self.prepare(self.snaps.blocks_per_change(), 3, Urgency::Urgent)?;
        self.apply_name(id, &words)
    }

    fn apply_name(&mut self, id: SnapId, words: &[u64; 8]) -> Result {
        let mut record = Record::new(RecordKind::Name, [id.0, 0, 0, 0]);
        record.words[1..9].copy_from_slice(words);
        self.change(&record, |s, m| s.name(m, id, words))
    }

    pub(super) fn delete(&mut self, id: SnapId) -> Result {
        if !self.snaps.is_live(id) || self.snaps.is_deleted(&mut self.meta, id)? {
            return Err(ENOENT);
        }
        self.prepare(self.snaps.blocks_per_change(), 1, Urgency::Urgent)?;
        let record = Record::new(RecordKind::Delete, [id.0, 0, 0, 0]);
        self.change(&record, |s, m| s.delete(m, id))
    }

    pub(super) fn forget(&mut self, id: SnapId) -> Result {
        if !self.snaps.is_live(id) || !self.snaps.is_deleted(&mut self.meta, id)? {
            return Err(ENOENT);
        }
        self.prepare(self.snaps.blocks_per_change(), 1, Urgency::Urgent)?;
        self.snaps.reserve()?;
        // A sweep that has begun may have passed by; one that has not will see all.
        let pass = self.sweep_pass - u64::from(self.sweep_chunk == 0);
        let record = Record::new(RecordKind::Forget, [id.0, pass, 0, 0]);
        self.change(&record, |s, m| s.forget(m, id, pass))
    }

    /// The sweep has come to the end of the map. Whether more is left to do.
    pub(super) fn swept(&mut self, pass: u64) -> Result<bool> {
        self.prepare(self.snaps.blocks_per_swept(), 1, Urgency::Urgent)?;
        let record = Record::new(RecordKind::Swept, [pass, 0, 0, 0]);
        self.change(&record, |s, m| s.swept(m, pass))?;
        self.set_swept(pass);
        Ok(self.snaps.oldest_dying(&mut self.meta)?.is_some())
    }

    fn set_swept(&mut self, pass: u64) {
        if pass >= self.sweep_pass {
            self.sweep_pass = pass + 1;
            self.sweep_chunk = 0;
        }
    }

    pub(super) fn resize(&mut self, origin_sectors: u64, store_sectors: u64) -> Result {
        let device = self.meta.blocks().len().saturating_mul(BLOCK_SECTORS);
        let shrunk = origin_sectors < self.origin_sectors || store_sectors < self.store_sectors;
        if shrunk || store_sectors > device {
            return Err(EINVAL);
        }
        if (origin_sectors, store_sectors) == (self.origin_sectors, self.store_sectors) {
            return Ok(());
        }
        self.prepare(0, 1, Urgency::Urgent)?;
        let record = Record::new(RecordKind::Size, [origin_sectors, store_sectors, 0, 0]);
        self.append(&record)?;
        self.set_sizes(origin_sectors, store_sectors);
        Ok(())
    }

    fn set_sizes(&mut self, origin_sectors: u64, store_sectors: u64) {
        self.origin_sectors = origin_sectors;
        self.store_sectors = store_sectors;
        let chunks = self.layout.data_chunks(store_sectors);
        self.data.grow(chunks, self.layout.chunk_blocks());
    }

    pub(super) fn record_all_lost(&mut self) -> Result {
        let Some(newest) = self.snaps.newest() else {
            return Ok(());
        };
        if self.lost_to >= newest.0 {
            return Ok(());
        }
        self.prepare(0, 1, Urgency::Urgent)?;
        let record = Record::new(RecordKind::LostAll, [newest.0, 0, 0, 0]);
        self.append(&record)?;
        self.lost_to = newest.0;
        Ok(())
    }

    // --- checkpoints -------------------------------------------------------------------------

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.log.wants_checkpoint() || self.meta.wants_checkpoint()
    }

    /// See [`ExceptionStore::checkpoint`](super::ExceptionStore::checkpoint). `map` is root and
    /// depth of the tree of exceptions.
    pub(super) fn checkpoint(
        &mut self,
        map: (u64, u16),
        clean: Option<&Identity>,
    ) -> Result<CheckpointWrite> {
        self.check_writable()?;
        self.log.check_freeze()?;
        let log_epoch = self.log.epoch();
        self.freeze(map, clean, log_epoch)
    }

    fn freeze(
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

    pub(super) fn checkpointed(&mut self, write: CheckpointWrite, result: Result) {
        if result.is_ok() {
            self.slot = usize::from(write.nr == format::CHECKPOINT_NRS[1]);
            self.epoch = format::header(&write.block).epoch.get();
        }
        self.spare = Some(write.block);
        self.meta.thaw(result);
        self.log.thaw(result.is_ok());
        self.data.release(self.log.durable());
    }

    // --- recovery ----------------------------------------------------------------------------

    /// Calls `apply` for each record of the log that the checkpoint does not contain.
    pub(super) fn next_commit(&mut self) -> Result<Option<super::log::Commit>> {
        let Self {
            log,
            meta,
            log_epochs,
            ..
        } = self;
        log.take_commit(meta.blocks(), log_epochs)
    }

    /// Applies a record that both stores have. `EILSEQ` if it cannot be.
    pub(super) fn replay(&mut self, record: &Record) -> Result {
        let words = &record.words;
        let id = SnapId(words[0]);
        let Self { meta, snaps, .. } = self;
        match record.kind {
            RecordKind::Create => {
                meta.reserve(snaps.blocks_per_change(), 0)?;
                snaps.create(meta, id, words[1], words[2], words[3])
            }
            RecordKind::Name => {
                meta.reserve(snaps.blocks_per_change(), 0)?;
                let mut name = [0; 8];
                name.copy_from_slice(&words[1..9]);
                snaps.name(meta, id, &name)
            }
            RecordKind::Delete => {
                meta.reserve(snaps.blocks_per_change(), 0)?;
                snaps.delete(meta, id)
            }
            RecordKind::Forget => {
                meta.reserve(snaps.blocks_per_change(), 0)?;
                snaps.forget(meta, id, words[1])
            }
            RecordKind::Swept => {
                if words[0] > u64::MAX / 2 {
                    return Err(EILSEQ);
                }
                meta.reserve(snaps.blocks_per_swept(), 0)?;
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
    pub(super) fn end_replay(&mut self) -> Result<(), OpenError> {
        let Self { log, meta, .. } = self;
        let place = log.position();
        log.check_end(meta.blocks(), self.epoch)
            .map_err(|e| damaged(e, "log", place))?;
        while let Some(id) = self.snaps.not_forgotten(&mut self.meta)? {
            self.meta.reserve(self.snaps.blocks_per_change(), 0)?;
            let pass = self.sweep_pass - u64::from(self.sweep_chunk == 0);
            self.snaps.forget(&mut self.meta, id, pass)?;
        }
        Ok(())
    }

    /// Makes what was replayed durable, as one new checkpoint; from here on the log is empty.
    pub(super) fn restart(&mut self, map: (u64, u16)) -> Result<(), OpenError> {
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
pub(super) fn damaged(e: Error, what: &'static str, nr: u64) -> OpenError {
    if e == EILSEQ {
        OpenError::Damaged(what, nr)
    } else {
        OpenError::from(e)
    }
}

/// A name as words. `EINVAL` if it is too long.
fn name_words(name: &[u8]) -> Result<[u64; 8]> {
    if name.len() >= super::NAME_LEN {
        return Err(EINVAL);
    }
    let mut words = [0; 8];
    for (to, from) in words.iter_mut().zip(name.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..from.len()].copy_from_slice(from);
        *to = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

// SPDX-License-Identifier: GPL-2.0

//! What both stores stand on: metadata blocks, log, data area, snapshot table, checkpoints.
//!
//! A change is made in three steps: [`Base::prepare`] makes sure that there is room for it in log
//! and metadata (and gives a piece of the data area to metadata if that runs short); then it is
//! applied to the trees, where an error poisons the store; then its record is appended, which
//! cannot fail any more. Replay applies the same records in the same way, and appends nothing.

mod checkpoint;
mod replay;

pub(super) use replay::damaged;

use super::{
    blocks::{Block, Blocks},
    data_space::{DataSpace, Group},
    format::{self, CheckpointInfo, RecordKind, TREE_FREE},
    log::{Log, LogPosition, Record},
    meta::{FreeRoot, Meta},
    open::{Layout, Open, OpenError, BLOCK_SECTORS},
    snaps::{Roots, Snaps},
    types::{Geometry, SnapId, Space},
};
use kernel::prelude::*;

/// Slots of the batch kept free for records of extents.
const EXTENT_SLOTS: usize = 2;

/// How badly a change is wanted: what is further down may take blocks that the others leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It can wait, or fail.
    Normal,
    /// It keeps snapshots right when there is no space for anything else.
    Loss,
    /// It frees space, or must not fail for other reasons.
    Free,
}

/// The part of a store that does not depend on its type.
pub(super) struct Base<B: Blocks> {
    // What is large is in a box: a load has the store above it on the stack at its deepest calls.
    pub(super) meta: KBox<Meta<B>>,
    pub(super) layout: Layout,
    pub(super) log: Log,
    pub(super) data: DataSpace,
    pub(super) snaps: KBox<Snaps>,
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
    /// The newest checkpoint says that the store was stopped: nothing may follow but another one.
    stopped: bool,
    /// Index of the newest durable checkpoint's place.
    slot: usize,
    /// Its epoch, and the epochs of the log blocks behind it.
    epoch: u64,
    log_epochs: [u64; 2],
    /// The newest durable checkpoint, as it was written.
    durable: KBox<Block>,
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
            ..
        } = open;
        let head = format::header(&checkpoint);
        let (nr, epoch) = (head.nr.get(), head.epoch.get());
        let info = format::info::<CheckpointInfo>(&checkpoint)?;
        let durable = KBox::<Block>::zeroed(GFP_KERNEL)?;
        let (mut base, roots) = Self::from_info(blocks, layout, info, epoch, [durable, spare])
            .map_err(|e| damaged(e, "metadata", nr))?;
        base.slot = usize::from(nr == format::CHECKPOINT_NRS[1]);
        base.read_only = read_only;
        base.durable = checkpoint;
        Ok((base, roots))
    }

    /// The metadata blocks as the checkpoint of `epoch` left them.
    #[inline(never)]
    fn load_meta(
        blocks: B,
        layout: &Layout,
        info: &CheckpointInfo,
        epoch: u64,
    ) -> Result<KBox<Meta<B>>> {
        let mut free = FreeRoot {
            list_head: info.free_head.get(),
            list_count: info.free_count.get(),
            ..FreeRoot::default()
        };
        for (to, from) in free.fresh.iter_mut().zip(&info.fresh) {
            *to = (from[0].get(), from[1].get());
        }
        let meta = Meta::restore(blocks, layout.uuid, layout.meta_start, epoch, &free)?;
        KBox::init(meta, GFP_KERNEL)
    }

    /// The list of snapshots; apart, as the blocks above, so that no frame has both.
    #[inline(never)]
    fn load_snaps(
        meta: &mut Meta<B>,
        roots: &Roots,
        epoch: u64,
        numbers: [u64; 2],
        bits: bool,
    ) -> Result<KBox<Snaps>> {
        let snaps = Snaps::load(meta, roots, epoch, numbers, bits)?;
        KBox::init(snaps, GFP_KERNEL)
    }

    #[inline(never)]
    fn from_info(
        blocks: B,
        layout: Layout,
        info: &CheckpointInfo,
        epoch: u64,
        [durable, spare]: [KBox<Block>; 2],
    ) -> Result<(Self, Roots)> {
        let mut meta = Self::load_meta(blocks, &layout, info, epoch)?;
        let mut roots = Roots([(0, 0); format::MAX_TREES]);
        for (to, from) in roots.0.iter_mut().zip(&info.roots) {
            let depth = u16::try_from(from.depth.get()).map_err(|_| EILSEQ)?;
            *to = (from.nr.get(), depth);
        }
        let (next_id, live) = (info.next_id.get(), info.live_ids.get());
        let bits = layout.store_type.gives_bits();
        let snaps = Self::load_snaps(&mut meta, &roots, epoch, [next_id, live], bits)?;
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
            stopped: false,
            slot: 0,
            epoch,
            log_epochs: [info.log_epoch.get(), epoch],
            durable,
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
        if self.stopped {
            return Err(EROFS);
        }
        self.check_alive()
    }

    /// `EROFS` or `EIO` if no checkpoint can be made.
    fn check_alive(&self) -> Result {
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
        let urgent = urgency != Urgency::Normal;
        self.log.check_room(slots + EXTENT_SLOTS, urgent)?;
        while self.meta.free_blocks() < self.low_water() {
            // Not having to is only better.
            match self.add_extent(slots, urgent) {
                Ok(()) => {}
                Err(ENOSPC | EAGAIN | EIO) => break,
                Err(e) => return Err(e),
            }
        }
        let keep = match urgency {
            Urgency::Normal => 2 * self.keep(),
            Urgency::Loss => self.keep(),
            Urgency::Free => 0,
        };
        // Free chunks may be scattered: each round takes some, or ends with an error.
        loop {
            match self.meta.reserve(blocks, keep) {
                Err(ENOSPC) => self.add_extent(slots, urgent)?,
                other => return other,
            }
        }
    }

    /// Metadata blocks that are kept for deleting and sweeping.
    fn keep(&self) -> u64 {
        self.snaps.blocks_to_forget().max(24) as u64
    }

    /// Free metadata blocks below which more are added.
    fn low_water(&self) -> u64 {
        2 * self.keep() + (self.meta_total / 8).clamp(16, 1024)
    }

    /// Gives a piece of the data area to metadata, before a change that appends `slots` slots.
    fn add_extent(&mut self, slots: usize, urgent: bool) -> Result {
        self.log.check_room(slots + EXTENT_SLOTS, urgent)?;
        let chunk_blocks = self.layout.chunk_blocks();
        let store_blocks = self.store_sectors / BLOCK_SECTORS;
        let wanted = (store_blocks / 256).clamp(16, 1024);
        let max = wanted.div_ceil(chunk_blocks.max(1));
        let (first, count) = self.data.find_run(&mut self.meta, max)?;
        let ops = self.data.ops_for_used(first, count);
        let blocks = ops.saturating_mul(self.data.blocks_per_op());
        self.meta.reserve(blocks, 0)?;
        // Until the extent is added nothing has changed; from then on nothing may fail.
        let (start, len) = self.extent(first, count).ok_or(EINVAL)?;
        self.data.read_ahead_used(&mut self.meta, first, count)?;
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

    /// Makes the snapshot `id`, which must not be before the next of its kind.
    pub(super) fn create(&mut self, id: SnapId, created: u64, name: &[u8]) -> Result {
        let words = name_words(name)?;
        let parent = id.is_sub().then_some(SnapId::top(id.id()));
        if id < self.snaps.next_number(parent)? {
            return Err(EINVAL);
        }
        if let Some(parent) = parent {
            if self.snaps.is_deleted(&mut self.meta, parent)? {
                return Err(ENOENT);
            }
        }
        self.prepare(self.snaps.blocks_to_create(), 1 + 3, Urgency::Normal)?;
        let sectors = match parent {
            None => self.origin_sectors,
            Some(parent) => {
                let row = self.snaps.row(&mut self.meta, parent)?;
                row.ok_or(EILSEQ)?.sectors
            }
        };
        self.snaps.reserve()?;
        self.snaps.read_to_create(&mut self.meta, id)?;
        let record = Record::new(RecordKind::Create, [id.0, created, sectors, 0]);
        self.change(&record, |s, m| s.create(m, id, created, sectors, 0))?;
        if !name.is_empty() {
            self.apply_name(id, &words)?;
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, id: SnapId, name: &[u8]) -> Result {
        let words = name_words(name)?;
        if !self.snaps.is_live(id) {
            return Err(ENOENT);
        }
        self.prepare(self.snaps.blocks_to_name(), 3, Urgency::Normal)?;
        self.snaps.read_to_name(&mut self.meta, id)?;
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
        self.prepare(self.snaps.blocks_to_delete(), 1, Urgency::Free)?;
        self.snaps.read_to_delete(&mut self.meta, id)?;
        let record = Record::new(RecordKind::Delete, [id.0, 0, 0, 0]);
        self.change(&record, |s, m| s.delete(m, id))
    }

    pub(super) fn forget(&mut self, id: SnapId) -> Result {
        if !self.snaps.is_live(id) || !self.snaps.is_deleted(&mut self.meta, id)? {
            return Err(ENOENT);
        }
        self.prepare(self.snaps.blocks_to_forget(), 1, Urgency::Free)?;
        self.snaps.reserve()?;
        // A sweep that has begun may have passed by; one that has not will see all.
        let pass = self.sweep_pass - u64::from(self.sweep_chunk == 0);
        self.snaps.read_to_forget(&mut self.meta, id, pass)?;
        let record = Record::new(RecordKind::Forget, [id.0, pass, 0, 0]);
        self.change(&record, |s, m| s.forget(m, id, pass))
    }

    /// The sweep has come to the end of the map. Whether more is left to do.
    pub(super) fn swept(&mut self, pass: u64) -> Result<bool> {
        self.prepare(self.snaps.blocks_for_swept(), 1, Urgency::Free)?;
        self.snaps.read_for_swept(&mut self.meta)?;
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
        self.prepare(0, 1, Urgency::Free)?;
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

    /// At a load: the checkpoint that ends it says that all snapshots have lost what the origin still
    /// held for them.
    pub(in crate::store) fn lose_all(&mut self) {
        let newest = self.snaps.newest().map_or(0, |id| id.0);
        self.lost_to = self.lost_to.max(newest);
    }

    pub(super) fn record_all_lost(&mut self) -> Result {
        let Some(newest) = self.snaps.newest() else {
            return Ok(());
        };
        if self.lost_to >= newest.0 {
            return Ok(());
        }
        if self.read_only {
            self.lost_to = newest.0;
            return Ok(());
        }
        if self.log.in_doubt() {
            // The checkpoint that ends the doubt says it, unless that is on its way already.
            self.check_writable()?;
            self.log.check_freeze().map_err(|_| EAGAIN)?;
            self.lost_to = newest.0;
            return Ok(());
        }
        self.prepare(0, 1, Urgency::Free)?;
        let record = Record::new(RecordKind::LostAll, [newest.0, 0, 0, 0]);
        self.append(&record)?;
        self.lost_to = newest.0;
        Ok(())
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

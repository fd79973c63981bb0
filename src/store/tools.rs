// SPDX-License-Identifier: GPL-2.0

//! What tools ask of a store that the kernel never does: to look at all of it, at what is left of
//! a damaged one, and to make one again.

use super::{
    blocks::Blocks,
    data_space::Group,
    format::{self, CheckpointInfo, RecordKind, StoreType},
    log::{Log, LogPosition, Record},
    meta::{FreeRoot, Meta},
    open::{Layout, Open, OpenError, BLOCK_SECTORS},
    overlay::Overlay,
    snaps::Roots,
    survey::{self, Part, Scope, Trees},
    BitmaskStore, Chunk, Descriptor, ExceptionStore, Geometry, RangeStore, Remap, SnapId, Value,
};
use kernel::prelude::*;

/// What tools ask of a store.
pub(crate) trait Tools {
    /// Shows what it holds to `f`, past what is damaged.
    fn survey(&mut self, scope: Scope, f: &mut dyn FnMut(Part) -> Result) -> Result;

    /// What ids up to this number have no record for is lost; 0: nothing.
    fn lost_to(&self) -> u64;

    /// Number of the next snapshot of the origin.
    fn next_top(&self) -> u64;

    /// Number of the next sub-snapshot of `id`.
    fn next_sub(&self, id: u32) -> u32;

    /// The mask of the live snapshot `id`; 0 if it has no bit.
    fn mask_of(&self, id: SnapId) -> u64;

    /// Ids below `next` are not given any more. Durable with the next checkpoint.
    fn skip_to(&mut self, next: u64);

    /// Sub-ids of the live snapshot `id` below `next` are not given any more. Durable with the
    /// next checkpoint.
    fn skip_sub_to(&mut self, id: u32, next: u32) -> Result;

    /// Takes a chunk of the store for the content of these ids.
    fn plan_for(&mut self, chunk: Chunk, ids: Descriptor) -> Result<Remap>;

    /// Records what these ids hold, without a chunk of the store.
    fn set_value(&mut self, chunk: Chunk, ids: Descriptor, value: Value) -> Result;
}

/// A record of the log that cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// What these ids of a chunk hold.
    Set(Chunk, Descriptor),
    /// Anything else, by its number on disk and its first word.
    Other(u16, u64),
    /// The log goes on behind a place where it cannot be read.
    Rest,
}

impl Skipped {
    pub(super) fn new(record: &Record) -> Self {
        let [chunk, a, b] = [0, 1, 2].map(|i| record.words[i]);
        match record.kind {
            RecordKind::Set => Self::Set(Chunk(chunk), Descriptor { a, b }),
            kind => Self::Other(kind as u16, chunk),
        }
    }
}

/// Loads the store that `open` describes, read-only, with as much of its log as can be applied;
/// the rest is shown to `skipped`.
pub(crate) fn load_damaged<B: Blocks + 'static>(
    open: Open<B>,
    skipped: &mut dyn FnMut(Skipped),
) -> Result<KBox<dyn ExceptionStore>, OpenError> {
    let open = open.map_blocks(Overlay::new);
    match open.store_type() {
        StoreType::Btree => Ok(RangeStore::recover_damaged(open, skipped)?),
        StoreType::Bitmask => Ok(BitmaskStore::recover_damaged(open, skipped)?),
    }
}

/// What a checkpoint leads to, taken as it is: without the log, and without a look at whether it
/// makes sense.
pub(crate) struct Salvage<B: Blocks> {
    meta: Meta<B>,
    roots: Roots,
    of: StoreType,
    hot: Group,
    /// The sizes of store and origin.
    pub(crate) geometry: Geometry,
    /// See [`Tools::lost_to`].
    pub(crate) lost_to: u64,
    /// See [`Tools::next_top`].
    pub(crate) next_top: u64,
    /// Whether there is anything in the log that the trees do not contain.
    pub(crate) has_log: bool,
}

impl<B: Blocks> Salvage<B> {
    /// The trees of the checkpoint of `open`.
    pub(crate) fn new(open: Open<B>) -> Result<Self> {
        let info = *open.info()?;
        let mut roots = Roots([(0, 0); format::MAX_TREES]);
        for (to, from) in roots.0.iter_mut().zip(&info.roots) {
            let depth = u16::try_from(from.depth.get()).unwrap_or(u16::MAX);
            *to = (from.nr.get(), depth);
        }
        let (layout, epoch) = (open.layout, open.epoch());
        let mut blocks = open.blocks;
        let has_log = info.flags.get() & format::CHECKPOINT_CLEAN == 0
            && has_log(&mut blocks, &layout, &info, epoch).unwrap_or(true);
        // Nothing is taken, so it does not matter what is free.
        let free = FreeRoot::default();
        let meta = Meta::restore(blocks, layout.uuid, layout.meta_start, epoch, &free)?;
        Ok(Self {
            meta,
            roots,
            of: layout.store_type,
            hot: Group {
                nr: info.hot_group.get(),
                mask: info.hot_mask.get(),
            },
            geometry: Geometry {
                chunk_sectors: layout.chunk_sectors,
                origin_sectors: info.origin_sectors.get(),
                data_start: layout.data_start * BLOCK_SECTORS,
                data_chunks: layout.data_chunks(info.store_sectors.get()),
            },
            lost_to: info.lost_to.get(),
            next_top: info.next_id.get(),
            has_log,
        })
    }

    /// Shows what the trees hold to `f`.
    pub(crate) fn survey(&mut self, scope: Scope, f: &mut dyn FnMut(Part) -> Result) -> Result {
        let trees = Trees {
            roots: &self.roots,
            of: self.of,
            chunks: self.geometry.data_chunks,
            hot: self.hot,
        };
        survey::look(&mut self.meta, trees, scope, f)
    }
}

/// Whether the log goes on behind a checkpoint of `epoch`.
fn has_log<B: Blocks>(
    blocks: &mut B,
    layout: &Layout,
    info: &CheckpointInfo,
    epoch: u64,
) -> Result<bool> {
    let begin = LogPosition {
        seq: info.replay_seq.get(),
        sum: u32::try_from(info.replay_sum.get()).map_err(|_| EILSEQ)?,
    };
    let mut log = Log::new(layout, epoch, begin)?;
    let mut epochs = [info.log_epoch.get(), epoch];
    if log.take_commit(blocks, &mut epochs)?.is_some() {
        return Ok(true);
    }
    log.check_end(blocks, epoch).map(|()| false)
}

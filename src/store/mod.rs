// SPDX-License-Identifier: GPL-2.0

//! The exception stores: what is remapped, for which snapshots, to where.
//!
//! Pure metadata. This room has no threads, locks, bios or devices: it sees the store device
//! through [`Blocks`](blocks::Blocks) and returns plans; moving data is the engine's business. The
//! same files build in the kernel and on the host.
//!
//! All of it is owned by one worker. Calls that change the store are made in this order for each
//! remap: plan (`add_next_remap`, `make_chunk_writeable`), copy the data, [`record`], then
//! [`seal`] + write + [`sealed`] for the whole batch.
//!
//! [`record`]: ExceptionStore::record
//! [`seal`]: ExceptionStore::seal
//! [`sealed`]: ExceptionStore::sealed

#![forbid(unsafe_code)]
// The tools look at more of it than the module does.
#![cfg_attr(MODULE, allow(dead_code))]

pub(crate) mod blocks;
pub(crate) mod format;
pub(crate) mod types;

mod base;
mod bitmask;
mod both;
mod data_space;
mod edit;
mod live;
mod log;
pub(crate) mod meta;
mod open;
mod overlay;
mod range;
pub(crate) mod recent;
mod snaps;
#[cfg(not(MODULE))]
mod survey;
#[cfg(not(MODULE))]
mod tools;
pub(crate) mod tree;

#[cfg(not(MODULE))]
pub(crate) use both::check::Item;
#[cfg(not(MODULE))]
pub(crate) use open::is_blank;
#[cfg(not(MODULE))]
pub(crate) use {
    survey::{Bad, Part, Scope},
    tools::{load_damaged, Salvage, Skipped, Tools},
};

pub(crate) use format::StoreType;
pub(crate) use log::LogWrite;
pub(crate) use open::{FormatParams, Identity, Open, OpenError};
pub(crate) use recent::Limited;
pub(crate) use types::{
    Chunk, Descriptor, Dest, Found, Geometry, NoId, Remap, SnapId, SnapInfo, Source, Space, Value,
    Who, Writeable,
};

use kernel::prelude::*;

/// The store of ranges of ids.
type RangeStore<B> = both::Store<B, range::Ranges>;

/// The store of masks of 64 snapshots.
type BitmaskStore<B> = both::Store<B, bitmask::Masks>;

/// Most destinations of one copy job (`DM_KCOPYD_MAX_REGIONS`).
pub(crate) const MAX_DESTS: usize = 8;

/// Length of a snapshot's name field in bytes, the final zero byte included.
pub(crate) const NAME_LEN: usize = 64;

/// A checkpoint that is ready to be written.
///
/// The engine writes every dirty metadata buffer, flushes the device, then writes `block` at
/// `nr` with FUA, and hands it back with the result to [`ExceptionStore::checkpointed`]. Commits
/// may go on meanwhile. When a write or the flush fails, `block` must not be written.
pub(crate) struct CheckpointWrite {
    /// Block number of the checkpoint slot.
    pub(crate) nr: u64,
    /// Its sealed content.
    pub(crate) block: KBox<blocks::Block>,
}

/// What an exception store can do. The engine knows nothing else of it.
///
/// Words of errors: `ENOSPC` the store is full (nothing was changed); `EAGAIN` the call needs a
/// checkpoint or commit to finish first (nothing was changed); `ENOMEM` nothing was changed; any
/// other error after which [`is_poisoned`](Self::is_poisoned) answers true means that the in-core
/// state can no longer be trusted: only a new load helps, what is on disk is right.
pub(crate) trait ExceptionStore: Send {
    /// The sizes of store and origin.
    fn geometry(&self) -> Geometry;

    /// The number drawn when the store was formatted.
    fn uuid(&self) -> [u8; 16];

    /// Whether an error left the in-core state unusable.
    fn is_poisoned(&self) -> bool;

    // --- origin writes -----------------------------------------------------------------------

    /// Starts a query for the ids that still need the old content of `chunk`.
    fn reset_query(&mut self, chunk: Chunk) -> Result;

    /// The next set of live ids that share the origin's content of the chunk, or `None` when
    /// nothing is left. Sets reported before are not reported again.
    fn query_next_remap(&mut self) -> Result<Option<Descriptor>>;

    /// Takes a destination for the set that [`query_next_remap`](Self::query_next_remap) has just
    /// reported. Nothing is recorded yet.
    fn add_next_remap(&mut self) -> Result<Remap>;

    // --- snapshot I/O ------------------------------------------------------------------------

    /// What `chunk` of snapshot `id` holds. `ENOENT` if the id is not live.
    fn find(&mut self, chunk: Chunk, id: SnapId) -> Result<Found>;

    /// Tells `f` what some of the `count` chunks from `chunk` on hold of snapshot `id`, as far as
    /// one look shows: a chunk of the store, or (`None`) the origin's content. A hint: about which
    /// chunks it tells something, if any, is up to the store.
    fn look_ahead(
        &mut self,
        _chunk: Chunk,
        _id: SnapId,
        _count: u64,
        _f: &mut dyn FnMut(Chunk, Option<Dest>),
    ) -> Result {
        Ok(())
    }

    /// Plans a write to `chunk` of snapshot `id`. `ENOENT` if the id is not live.
    fn make_chunk_writeable(&mut self, chunk: Chunk, id: SnapId) -> Result<Writeable>;

    // --- pending copies ----------------------------------------------------------------------

    /// Whether `who` must wait for a copy of the same chunk that is made for `ids`.
    fn check_conflict(&self, ids: Descriptor, who: Who) -> bool;

    /// Whether the batch being collected, and the log behind it, have room for `n` more calls of
    /// [`record`](Self::record) or the like. What was recorded after a "yes" can be sealed without
    /// a checkpoint, so that a checkpoint, which needs an empty batch, never waits for itself.
    fn has_room(&self, n: usize) -> bool;

    /// The data of `remap` is at its destination: enters it into the tree and the batch. If all
    /// ids it was for were deleted meanwhile, its destination is free again. After an error the
    /// destination is still taken; the caller tries again (`EAGAIN`) or gives it back.
    fn record(&mut self, remap: &Remap) -> Result;

    /// The copy for `remap` failed, or will not be made: its destination is free again.
    fn give_back(&mut self, remap: Remap);

    /// The data of `remap` could not be written to its destination, which is passed over from now
    /// on, as long as there are others.
    fn give_back_bad(&mut self, remap: Remap);

    /// Records that the content of the ids of the set last reported by
    /// [`query_next_remap`](Self::query_next_remap) is lost. Uses the metadata reserve.
    fn record_lost(&mut self, chunk: Chunk, ids: Descriptor) -> Result;

    /// Records that what ids existing now do not have a record for is lost: nothing that the
    /// origin still holds counts as theirs any more. After a failed log write the checkpoint that
    /// ends the doubt makes it durable, without a record: `EAGAIN` if that one is out already. A
    /// read-only store only notes it.
    fn record_all_lost(&mut self) -> Result;

    /// Records that all of `chunk` is zero for snapshot `id`, whatever was there. What it had alone
    /// is free again, and then the record may use the metadata reserve.
    fn record_zero(&mut self, chunk: Chunk, id: SnapId) -> Result;

    /// Every snapshot bio and copy that began before the call of [`free_mark`](Self::free_mark)
    /// that returned `mark` has ended: chunks freed before it may be used again (once the
    /// records that free them are durable as well).
    fn free_passed(&mut self, mark: u64);

    /// Number of the last chunk freed so far; `None` if none waits for reuse.
    fn free_mark(&self) -> Option<u64>;

    // --- commit and checkpoint ---------------------------------------------------------------

    /// Whether records wait in the batch.
    fn has_unsealed(&self) -> bool;

    /// Closes the batch and returns it for writing; `None` if it is empty. `EBUSY` while another
    /// write is out; `EAGAIN` after a failed write, until a checkpoint has succeeded. (There is
    /// always room in the log for what [`record`](Self::record) and the others accepted.)
    fn seal(&mut self) -> Result<Option<LogWrite>>;

    /// The write of the batch has ended and the buffer comes back. After an error nothing can be
    /// recorded or sealed (`EAGAIN`) until a checkpoint has succeeded, which then makes durable
    /// what was in that batch, and in the one being collected.
    fn sealed(&mut self, write: LogWrite, result: Result);

    /// Whether a checkpoint should start (half of the log used, many blocks changed, metadata blocks
    /// short, or a failed log write).
    fn checkpoint_wanted(&self) -> bool;

    /// Freezes the tree as it is. Only while no record waits unsealed (`EBUSY`; after a failed
    /// log write the batch is dropped instead, since the checkpoint holds what it says) and no
    /// other checkpoint is out (`EBUSY`). With `clean`, sets the clean mark with these digests of
    /// the origin; nothing may be recorded after that.
    fn checkpoint(&mut self, clean: Option<&Identity>) -> Result<CheckpointWrite>;

    /// The last word of a store that cannot go on: its newest durable checkpoint once more, which
    /// also says that damage was seen, if it was, and with `lost`, that what ids existing now do
    /// not have a record for is lost. To be written alone, without dirty metadata before it, while
    /// no other write is out (`EBUSY`); told by [`checkpointed`](Self::checkpointed). The store is
    /// poisoned by this call.
    fn give_up(&mut self, lost: bool) -> Result<CheckpointWrite>;

    /// The checkpoint's writes have ended, and its block comes back. After an error the older
    /// checkpoint counts, though the new one may be on the device. If it is not known which of
    /// the dirty metadata is there, nothing but [`give_up`](Self::give_up) may follow.
    fn checkpointed(&mut self, write: CheckpointWrite, result: Result);

    // --- snapshots ---------------------------------------------------------------------------

    /// The id that the next [`create`](Self::create) will give, or why there is none.
    fn next_id(&self, parent: Option<SnapId>) -> Result<SnapId, NoId>;

    /// Makes the snapshot that [`next_id`](Self::next_id) announced, in tree and batch.
    fn create(&mut self, parent: Option<SnapId>, created: u64, name: &[u8]) -> Result<SnapId>;

    /// Makes the snapshot `id`, which may be later than the [`next_id`](Self::next_id) of its
    /// kind, whose numbers go on behind it then. `EINVAL` if it is not, `ENOENT` if it has no live
    /// parent.
    fn create_as(&mut self, id: SnapId, created: u64, name: &[u8]) -> Result {
        let parent = id.is_sub().then_some(SnapId::top(id.id()));
        if self.next_id(parent)? != id {
            return Err(EINVAL);
        }
        self.create(parent, created, name).map(|_| ())
    }

    /// Marks `id` dead in the batch. It stays live for readers of the store until
    /// [`forget`](Self::forget), which the engine calls when the record is durable.
    fn delete(&mut self, id: SnapId) -> Result;

    /// Takes a deleted id out of the live set.
    fn forget(&mut self, id: SnapId) -> Result;

    /// At a load: an id whose deletion is durable, and that there was no room to forget.
    fn unforgotten(&mut self) -> Result<Option<SnapId>>;

    /// Gives `id` a name of at most 63 bytes; the caller has checked the letters.
    fn rename(&mut self, id: SnapId, name: &[u8]) -> Result;

    /// The row of `id`; `None` if it is not live.
    fn snapshot(&mut self, id: SnapId) -> Result<Option<SnapInfo>>;

    /// The live snapshot with the smallest number not below `from`.
    fn snapshot_from(&mut self, from: SnapId) -> Result<Option<SnapInfo>>;

    /// Number of live ids.
    fn live_ids(&self) -> u64;

    /// Smallest run of live ids not below `from` whose numbers follow each other (top-level ids,
    /// or sub-ids of one id), as its two ends; from memory.
    fn live_range(&self, from: SnapId) -> Option<(SnapId, SnapId)>;

    /// Whether `id` is live; from memory.
    fn is_live(&self, id: SnapId) -> bool;

    // --- the rest ----------------------------------------------------------------------------

    /// Whether damage was seen since the store was last checked.
    fn needs_check(&self) -> bool;

    /// Damage was seen: the next checkpoint says so.
    fn set_needs_check(&mut self);

    /// Space counts; from memory.
    fn space(&self) -> Space;

    /// A checkpoint is wanted at `threshold` dirty metadata blocks, and no more than `limit` are
    /// to be kept in memory. `ENOMEM` if nothing has changed.
    fn set_cache(&mut self, threshold: u32, limit: u32) -> Result;

    /// The origin or the store has grown to these sizes (sectors). In tree and batch.
    fn resize(&mut self, origin_sectors: u64, store_sectors: u64) -> Result;

    /// Where the sweep goes on.
    fn sweep_position(&self) -> Chunk;

    /// One step of the background sweep of deleted ids, which changes one chunk or finds none to be
    /// changed in one leaf; `false` when nothing is left.
    fn sweep_step(&mut self) -> Result<bool>;

    /// Shows all metadata blocks, free chunks below the high-water mark, and records to `f`; for
    /// tools and tests. `EILSEQ` at the first thing that is wrong in itself.
    #[cfg(not(MODULE))]
    fn walk(&mut self, f: &mut dyn FnMut(Item) -> Result) -> Result;

    /// What else tools ask of it.
    #[cfg(not(MODULE))]
    fn tools(&mut self) -> Option<&mut dyn Tools> {
        None
    }

    /// High-water mark of the data area; for tools and tests.
    #[cfg(not(MODULE))]
    fn high_water(&self) -> u64;

    /// Whether a copy, or with `all` metadata, finds no free chunk; for tools and tests.
    #[cfg(not(MODULE))]
    fn is_full(&self, all: bool) -> bool;
}

/// Opens the store that `open` describes with the implementation that its superblock names.
///
/// This is the one place that knows the implementations.
pub(crate) fn load<B: blocks::Blocks + 'static>(
    open: Open<B>,
) -> Result<KBox<dyn ExceptionStore>, OpenError> {
    if open.is_read_only() {
        load_as_it_is(open.map_blocks(overlay::Overlay::new))
    } else {
        load_as_it_is(open)
    }
}

fn load_as_it_is<B: blocks::Blocks + 'static>(
    open: Open<B>,
) -> Result<KBox<dyn ExceptionStore>, OpenError> {
    match open.store_type() {
        StoreType::Btree => Ok(RangeStore::recover(open)?),
        StoreType::Bitmask => Ok(BitmaskStore::recover(open)?),
    }
}

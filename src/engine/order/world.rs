// SPDX-License-Identifier: GPL-2.0

//! What the state machine sees of the world: bios as requests, actions as calls.

use super::{
    grace::{Generation, Ticket},
    known::Place,
};
use crate::store::{
    CheckpointWrite, Chunk, Dest, Identity, LogWrite, SnapId, Source, Who, NAME_LEN,
};
use kernel::prelude::*;

/// A first-in-first-out queue that never allocates.
pub(crate) trait Fifo: Default {
    /// What is queued.
    type Item;
    /// Adds at the end.
    fn push(&mut self, item: Self::Item);
    /// Adds at the front.
    fn push_front(&mut self, item: Self::Item);
    /// Takes from the front.
    fn pop(&mut self) -> Option<Self::Item>;
    /// Moves all of `other` to the end.
    fn append(&mut self, other: &mut Self);
    /// Whether nothing is queued.
    fn is_empty(&self) -> bool;
}

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Read within one chunk of a snapshot.
    Read,
    /// Write within one chunk.
    Write,
    /// An empty flush of a snapshot.
    Flush,
    /// Discard within one chunk.
    Discard,
    /// Write of zeroes, which carries no data, within one chunk.
    Zero,
}

/// A bio as the machine sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The origin or a snapshot.
    pub(crate) who: Who,
    /// What is asked for.
    pub(crate) op: Op,
    /// The only chunk it touches.
    pub(crate) chunk: Chunk,
    /// Whether it covers all of the chunk that the device has.
    pub(crate) whole: bool,
    /// Whether it must be durable when it ends.
    pub(crate) fua: bool,
}

/// Two kinds of bios and copies whose end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    /// Snapshot reads that were sent to the origin.
    OriginReads,
    /// Snapshot bios that were sent to a chunk of the store, and copies that read one.
    StoreChunks,
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The data is at every destination.
    Good,
    /// The source could not be read.
    ReadError,
    /// Nor can it be written, since its device is gone: what is on it is not lost.
    Gone,
    /// The destinations of the set bits could not be written.
    WriteError(u32),
}

/// What the engine can still do; see the admin guide for what each means to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything.
    Rw,
    /// No chunk was free for the last copy.
    Full,
    /// The store is read-only.
    Ro,
    /// The store cannot be written or trusted: snapshots answer EIO. See [`heal`](super::heal).
    Fail,
}

/// What a timer is for; each kind has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// To try again what found no memory or no room.
    Retry,
    /// To commit what nobody waits for.
    Idle,
    /// The next turn of the sweep.
    Sweep,
    /// The next attempt to heal.
    Heal,
    /// To read again what could not be read.
    Read,
}

impl Timer {
    /// How many kinds there are.
    pub(crate) const KINDS: usize = 5;

    /// All kinds.
    pub(crate) const ALL: [Timer; Self::KINDS] = [
        Timer::Retry,
        Timer::Idle,
        Timer::Sweep,
        Timer::Heal,
        Timer::Read,
    ];
}

/// A change that somebody waits for.
pub(crate) enum Control {
    /// Cut a snapshot. The caller made sure that no origin write is under way, and flushed the
    /// origin. Writes of the parent are held off by the machine.
    Create {
        /// The snapshot it is cut from; `None` for the origin.
        parent: Option<SnapId>,
        /// Its number, which no snapshot has had and no later one has; `None` for the next.
        id: Option<SnapId>,
        /// Seconds since 1970.
        created: u64,
        /// Its name, padded with zero bytes.
        name: [u8; NAME_LEN],
    },
    /// Delete a snapshot, of which no bio is under way.
    Delete {
        /// Which.
        id: SnapId,
    },
    /// Rename a snapshot.
    Name {
        /// Which.
        id: SnapId,
        /// The new name, padded with zero bytes.
        name: [u8; NAME_LEN],
    },
    /// The devices have these sizes now, in sectors.
    Resize {
        /// Of the origin.
        origin: u64,
        /// Of the store.
        store: u64,
    },
    /// What ids do not have a record for is lost: the origin will be written without us.
    /// When this has ended, well or not, nobody reads the origin for a snapshot any more; the
    /// caller made sure that no origin write is under way.
    LoseAll,
    /// Write a checkpoint. The tests ask for it.
    #[allow(dead_code)]
    Checkpoint,
    /// Write the last checkpoint; with `clean`, the clean mark and these digests in it. No bio
    /// comes after it.
    Close {
        /// Digests of the origin, if it was flushed and nothing is under way.
        clean: Option<KBox<Identity>>,
    },
}

/// What the machine asks of the outside. No call waits.
pub(crate) trait World {
    /// An owned bio.
    type Bio;
    /// A queue of them.
    type Bios: Fifo<Item = Self::Bio>;

    /// What `bio` asks for.
    fn request(&self, bio: &Self::Bio) -> Request;

    /// Counts that the bio could not go on since something could not be read; how often that was.
    fn tried(&mut self, bio: &mut Self::Bio) -> u8;
    /// Sends an origin write, or whatever an origin bio is, to the origin.
    fn to_origin(&mut self, bio: Self::Bio);
    /// Sends a snapshot read to the origin, counted in [`Users::OriginReads`] until it ends.
    fn read_origin(&mut self, bio: Self::Bio);
    /// Sends a snapshot bio to a chunk of the store, counted in [`Users::StoreChunks`].
    fn to_store(&mut self, bio: Self::Bio, dest: Dest);
    /// Sends a write of a whole chunk to the slot's destination, counted in
    /// [`Users::StoreChunks`]; its end is told by [`Machine::overwritten`].
    fn overwrite(&mut self, slot: usize, bio: Self::Bio, dest: Dest);
    /// Sends an empty flush to the store's device.
    fn flush_store(&mut self, bio: Self::Bio);
    /// Fills a read with zeroes and ends it.
    fn end_zeroed(&mut self, bio: Self::Bio);
    /// Ends a bio.
    fn end(&mut self, bio: Self::Bio, result: Result);
    /// Copies `chunk`, as far as the origin has it, to all of `dests`; never from
    /// [`Source::Lost`]. Told by [`Machine::copied`].
    fn copy(&mut self, slot: usize, chunk: Chunk, from: Source, dests: &[Dest]);
    /// Writes log blocks with PREFLUSH and FUA. Told by [`Machine::log_written`].
    fn write_log(&mut self, write: LogWrite);
    /// Writes dirty metadata, flushes, and writes the checkpoint with FUA. Told by
    /// [`Machine::checkpoint_written`].
    fn write_checkpoint(&mut self, write: CheckpointWrite);
    /// Writes a block of the store that changes nothing, to see whether it can be written. Told
    /// by [`Machine::probed`].
    fn probe_store(&mut self);
    /// Writes the checkpoint alone, with FUA. Told by [`Machine::checkpoint_written`].
    fn write_last_word(&mut self, write: CheckpointWrite);
    /// No live id needs `chunk` of the origin any more, durably.
    fn preserved(&mut self, chunk: Chunk);
    /// `chunk` of the snapshot is there, until it is forgotten: see [`Known`](super::Known).
    fn learn(&mut self, chunk: Chunk, id: SnapId, place: Place);
    /// What was learned of `chunk` does not hold any more.
    fn forget(&mut self, chunk: Chunk);
    /// Nothing does that was learned.
    fn forget_all(&mut self);
    /// A snapshot was cut: what [`preserved`](Self::preserved) told before is void.
    fn cut(&mut self, id: SnapId);
    /// A snapshot was deleted, durably.
    fn gone(&mut self, id: SnapId);
    /// Counts a copy among `users`.
    fn enter(&mut self, users: Users) -> Generation;
    /// The copy has ended.
    fn leave(&mut self, users: Users, generation: Generation);
    /// Begins to wait for the users of now.
    fn ask(&mut self, users: Users) -> Ticket;
    /// Whether they have ended; if not, [`Machine::run`] is called again when they have.
    fn passed(&mut self, users: Users, ticket: Ticket) -> bool;
    /// Call [`Machine::timer`] in this many milliseconds, or when the timer of this kind that runs
    /// already is over, if that is before.
    fn later(&mut self, timer: Timer, ms: u32);
    /// Whether bios have come since this was asked last, also those that the machine is not told of.
    fn was_used(&mut self) -> bool;
    /// Whether what can wait is to make way: something has arrived that the machine has not been told
    /// of yet; or bios have come, and it has had its millisecond.
    fn is_wanted(&self) -> bool;
    /// The control command has ended; an id if it made one.
    fn control_done(&mut self, result: Result<Option<SnapId>>);
    /// What no live id has a record for is lost: the records that would say it one by one cannot
    /// be made.
    fn all_lost(&mut self);
    /// The mode has changed.
    fn mode_changed(&mut self, mode: Mode, why: Error);
}

/// What has happened so far, for status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Copies made.
    pub(crate) copies: u64,
    /// Destinations filled by them.
    pub(crate) copied_chunks: u64,
    /// Log writes.
    pub(crate) commits: u64,
    /// Checkpoints written.
    pub(crate) checkpoints: u64,
    /// Chunks recorded lost.
    pub(crate) lost: u64,
    /// Origin reads, store data, and store metadata operations that failed.
    pub(crate) read_errors: u64,
    /// See `read_errors`.
    pub(crate) write_errors: u64,
    /// See `read_errors`.
    pub(crate) meta_errors: u64,
}

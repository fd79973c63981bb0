// SPDX-License-Identifier: GPL-2.0

//! The order of a protected write, as a state machine without bios, locks or clocks.
//!
//! Events go in as method calls, actions come out as calls of [`World`]. The kernel engine and
//! the host's power-cut harness drive the very same machine, so what the harness proves is what
//! the kernel does.
//!
//! The life of an origin write that needs a copy:
//!
//! 1. [`Machine::write`] queues it; [`Machine::run`] asks the store what is left to remap and
//!    takes a slot with up to eight destinations ([`slots`]).
//! 2. [`World::copy`] brings the old content to them; [`Machine::copied`] tells the end.
//! 3. The remaps are recorded; the bio joins the stage that collects ([`stage`]), and the whole
//!    batch goes out as one log write ([`World::write_log`], [`Machine::log_written`]).
//! 4. Snapshot reads that were sent to the origin before that have ended ([`grace`]).
//! 5. The bio is looked at again from the start, finds nothing to remap in any stage, and goes to
//!    the origin.
//!
//! That retry is what keeps the rest simple: nothing needs to be known about a chunk but what
//! the store answers now.

pub(crate) mod grace;
mod slots;
mod stage;

pub(crate) use slots::SLOTS;

use crate::store::{
    CheckpointWrite, Chunk, Dest, ExceptionStore, Found, Identity, LogWrite, Remap, SnapId, Source,
    Value, Who, Writeable, MAX_DESTS,
};
use grace::{Generation, Ticket};
use kernel::prelude::*;
use slots::{Slots, State};
use stage::{Settling, Stage};

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
    /// The store cannot be written or trusted: snapshots answer EIO.
    Fail,
}

/// A change that somebody waits for.
pub(crate) enum Control {
    /// Cut a snapshot. The caller made sure that no origin write is under way, and flushed the
    /// origin.
    Create {
        /// The snapshot it is cut from; `None` for the origin.
        parent: Option<SnapId>,
        /// Seconds since 1970.
        created: u64,
        /// Its name, padded with zero bytes.
        name: [u8; crate::store::NAME_LEN],
    },
    /// Rename a snapshot.
    Name {
        /// Which.
        id: SnapId,
        /// The new name, padded with zero bytes.
        name: [u8; crate::store::NAME_LEN],
    },
    /// The devices have these sizes now, in sectors.
    Resize {
        /// Of the origin.
        origin: u64,
        /// Of the store.
        store: u64,
    },
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
    /// No live id needs `chunk` of the origin any more, durably.
    fn preserved(&mut self, chunk: Chunk);
    /// A snapshot was cut: what [`preserved`](Self::preserved) told before is void.
    fn cut(&mut self, id: SnapId);
    /// Counts a copy among `users`.
    fn enter(&mut self, users: Users) -> Generation;
    /// The copy has ended.
    fn leave(&mut self, users: Users, generation: Generation);
    /// Begins to wait for the users of now.
    fn ask(&mut self, users: Users) -> Ticket;
    /// Whether they have ended; if not, [`Machine::run`] is called again when they have.
    fn passed(&mut self, users: Users, ticket: Ticket) -> bool;
    /// Call [`Machine::run`] again in this many milliseconds, or before.
    fn later(&mut self, ms: u32);
    /// The control command has ended; an id if it made one.
    fn control_done(&mut self, result: Result<Option<SnapId>>);
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

/// How often a stalled write is tried again before the store is given up.
const MAX_STALLS: u32 = 64;

/// Milliseconds after which a record is committed though nobody waits for it.
const IDLE_COMMIT_MS: u32 = 1000;

/// Milliseconds until a write that found no memory is tried again.
const NO_MEMORY_MS: u32 = 10;

/// What became of a bio that was looked at.
enum Looked<B> {
    /// It went on.
    Gone,
    /// The store cannot go on with it now.
    Stalled(B, Error),
}

/// The state machine of one origin and its store.
pub(crate) struct Machine<W: World> {
    store: KBox<dyn ExceptionStore>,
    slots: Slots<W::Bios>,
    reads: W::Bios,
    retry: W::Bios,
    writes: W::Bios,
    /// Records that wait for the next log write.
    collecting: Stage<W::Bios>,
    /// Records of the log write that is out.
    writing: Stage<W::Bios>,
    /// Durable records whose older reads have not all ended, and those behind them.
    settling: Settling<W::Bios>,
    /// The same, of records that made chunks of the store private.
    unsharing: Settling<W::Bios>,
    /// Freed chunks up to this mark wait for the users of store chunks of that time.
    freed: Option<(u64, Ticket)>,
    control: Option<Control>,
    control_id: Option<SnapId>,
    checkpoint_out: bool,
    checkpoint_forced: bool,
    /// The control command waits for the checkpoint, not for a log write.
    control_on_checkpoint: bool,
    /// The timer runs that commits what nobody waits for, and has run out.
    idle_armed: bool,
    idle_due: bool,
    stalls: u32,
    /// Everything must be looked at once more: the mode has become `fail`.
    look_again: bool,
    mode: Mode,
    preserve_on_error: bool,
    /// In mode `fail`: when older snapshot reads of the origin have ended.
    fail_reads: Ticket,
    counts: Counts,
}

impl<W: World> Machine<W> {
    /// A machine for an opened store.
    #[inline(never)]
    pub(crate) fn new(
        store: KBox<dyn ExceptionStore>,
        preserve_on_error: bool,
        mode: Mode,
    ) -> Result<Self> {
        Ok(Machine {
            store,
            slots: Slots::new()?,
            reads: W::Bios::default(),
            retry: W::Bios::default(),
            writes: W::Bios::default(),
            collecting: Stage::new()?,
            writing: Stage::new()?,
            settling: Settling::new()?,
            unsharing: Settling::new()?,
            freed: None,
            control: None,
            control_id: None,
            checkpoint_out: false,
            checkpoint_forced: false,
            control_on_checkpoint: false,
            idle_armed: false,
            idle_due: false,
            stalls: 0,
            look_again: false,
            mode,
            preserve_on_error,
            fail_reads: Ticket::default(),
            counts: Counts::default(),
        })
    }

    /// The store, to look things up.
    pub(crate) fn store(&mut self) -> &mut dyn ExceptionStore {
        &mut *self.store
    }

    /// The present mode.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Changes the policy for copies that cannot be made.
    pub(crate) fn set_preserve_on_error(&mut self, preserve: bool) {
        self.preserve_on_error = preserve;
    }

    // --- events --------------------------------------------------------------------------------

    /// Snapshot reads have arrived.
    pub(crate) fn read(&mut self, bios: &mut W::Bios) {
        self.reads.append(bios);
    }

    /// Origin writes, snapshot writes and snapshot flushes have arrived.
    pub(crate) fn write(&mut self, bios: &mut W::Bios) {
        self.writes.append(bios);
    }

    /// Somebody wants a change. `EBUSY` while another one is not done.
    pub(crate) fn control(&mut self, control: Control) -> Result {
        if self.control.is_some() || self.control_waits() {
            return Err(EBUSY);
        }
        self.control = Some(control);
        Ok(())
    }

    fn control_waits(&self) -> bool {
        self.collecting.control || self.writing.control || self.control_on_checkpoint
    }

    /// The copy of a slot has ended.
    pub(crate) fn copied(&mut self, world: &mut W, n: usize, copied: Copied) {
        let Some(slot) = self.slots.get(n) else {
            return;
        };
        world.leave(Users::StoreChunks, slot.generation);
        self.counts.copies += 1;
        if self.moved(n, copied) {
            return;
        }
        // Only the bio that caused the copy is refused; the others may need none, or another.
        if let Some(bio) = self.slots.get(n).and_then(|slot| slot.waiters.pop()) {
            world.end(bio, Err(EIO));
        }
    }

    /// The overwrite of a slot's whole chunk has ended; the bio comes back.
    pub(crate) fn overwritten(&mut self, world: &mut W, n: usize, bio: W::Bio, result: Result) {
        let Some(slot) = self.slots.get(n) else {
            return world.end(bio, Err(EIO));
        };
        match result {
            Ok(()) => {
                slot.done.push(bio);
                self.moved(n, Copied::Good);
            }
            Err(e) => {
                world.end(bio, Err(e));
                self.moved(n, Copied::WriteError(1));
            }
        }
    }

    /// The log write has ended.
    pub(crate) fn log_written(&mut self, world: &mut W, write: LogWrite, result: Result) {
        self.store.sealed(write, result);
        self.counts.commits += 1;
        let stage = &mut self.writing;
        while let Some(bio) = stage.flushes.pop() {
            world.end(bio, result);
        }
        while let Some(bio) = stage.ends.pop() {
            world.end(bio, result);
        }
        while let Some(bio) = stage.late_flushes.pop() {
            match result {
                Ok(()) => world.flush_store(bio),
                Err(e) => world.end(bio, Err(e)),
            }
        }
        if core::mem::take(&mut stage.control) {
            let id = self.control_id.take();
            world.control_done(result.map(|()| id));
        }
        self.stalls = 0;
        if let Err(e) = result {
            self.writing.drain(&mut self.retry);
            return self.fail(world, e);
        }
        self.settling.take(&mut self.writing.recorded);
        self.unsharing.take(&mut self.writing.unshared);
        self.writing.busy = false;
    }

    /// The checkpoint has been written; it comes back.
    pub(crate) fn checkpoint_written(
        &mut self,
        world: &mut W,
        write: CheckpointWrite,
        result: Result,
    ) {
        self.store.checkpointed(write, result);
        self.checkpoint_out = false;
        self.counts.checkpoints += 1;
        if core::mem::take(&mut self.control_on_checkpoint) {
            world.control_done(result.map(|()| None));
        }
        if let Err(e) = result {
            self.fail(world, e);
        }
    }

    /// The time asked for with [`World::later`] is over.
    pub(crate) fn timer(&mut self) {
        self.idle_due |= core::mem::take(&mut self.idle_armed);
    }

    /// Does all that can be done now. To be called after any event.
    pub(crate) fn run(&mut self, world: &mut W) {
        loop {
            self.record_ready(world);
            self.start_control(world);
            while let Some(bio) = self.reads.pop() {
                self.look_read(world, bio);
            }
            self.look_writes(world);
            self.commit(world);
            self.start_checkpoint(world);
            // What has settled, or has nothing to wait for any more, is looked at again at once.
            if !self.settle(world) && !core::mem::take(&mut self.look_again) {
                return;
            }
        }
    }

    // --- snapshot reads --------------------------------------------------------------------------

    fn look_read(&mut self, world: &mut W, bio: W::Bio) {
        let Request { who, chunk, .. } = world.request(&bio);
        let Who::Snapshot(id) = who else {
            return world.to_origin(bio);
        };
        if self.mode == Mode::Fail {
            return world.end(bio, Err(EIO));
        }
        match self.store.find(chunk, id) {
            Ok(Found::NotRemapped) => world.read_origin(bio),
            Ok(Found::Shared(value) | Found::Private(value)) => match value {
                Value::Chunk(dest) => world.to_store(bio, dest),
                Value::Zero => world.end_zeroed(bio),
                Value::Lost => world.end(bio, Err(EIO)),
            },
            Err(e) => {
                self.store_error(world, e);
                world.end(bio, Err(EIO));
            }
        }
    }

    // --- writes and flushes ----------------------------------------------------------------------

    fn look_writes(&mut self, world: &mut W) {
        while self.slots.has_free() {
            let Some(bio) = self.retry.pop().or_else(|| self.writes.pop()) else {
                return;
            };
            if let Looked::Stalled(bio, why) = self.look_write(world, bio) {
                self.retry.push_front(bio);
                self.stall(world, why);
                return;
            }
        }
    }

    /// A write must wait until memory is found, or a commit or checkpoint has made room.
    fn stall(&mut self, world: &mut W, why: Error) {
        world.later(NO_MEMORY_MS);
        if why == ENOMEM {
            return;
        }
        self.checkpoint_forced = true;
        // As long as something is under way it may bring what is missing.
        if self.slots.used() > 0
            || self.writing.busy
            || self.checkpoint_out
            || self.freed.is_some()
            || self.store.has_unsealed()
        {
            return;
        }
        self.stalls += 1;
        if self.stalls > MAX_STALLS {
            self.stalls = 0;
            self.fail(world, ENOSPC);
        }
    }

    fn look_write(&mut self, world: &mut W, bio: W::Bio) -> Looked<W::Bio> {
        let request = world.request(&bio);
        match (request.op, request.who) {
            (Op::Flush, _) => self.look_flush(world, bio),
            (_, Who::Origin) => return self.look_origin_write(world, bio, request.chunk),
            (_, Who::Snapshot(id)) => return self.look_snapshot_write(world, bio, request, id),
        }
        Looked::Gone
    }

    /// A snapshot's flush: what it has written is flushed, and the records that lead to it are
    /// in the log.
    fn look_flush(&mut self, world: &mut W, bio: W::Bio) {
        if self.mode == Mode::Fail {
            world.end(bio, Err(EIO));
        } else if self.store.has_unsealed() {
            // The log write's own flush comes after all that ended before it was issued.
            self.collecting.flushes.push(bio);
        } else if self.writing.busy {
            self.writing.late_flushes.push(bio);
        } else {
            world.flush_store(bio);
        }
    }

    fn look_origin_write(&mut self, world: &mut W, bio: W::Bio, chunk: Chunk) -> Looked<W::Bio> {
        if self.mode == Mode::Fail {
            self.look_unprotected(world, bio);
            return Looked::Gone;
        }
        if let Some(n) = self.slots.find(chunk, |_| true) {
            self.wait_for_slot(n, bio);
            return Looked::Gone;
        }
        let mut remaps = [const { None }; MAX_DESTS];
        match self.plan_origin_copy(world, chunk, &mut remaps) {
            Ok(0) => {
                self.release(world, bio, chunk);
                Looked::Gone
            }
            Ok(_) => {
                self.start_copy(world, bio, chunk, Source::Origin, true, remaps);
                Looked::Gone
            }
            Err(e) => {
                for remap in remaps.iter_mut().filter_map(Option::take) {
                    self.store.give_back(remap);
                }
                if e == EAGAIN || e == ENOMEM {
                    return Looked::Stalled(bio, e);
                }
                if e == ENOSPC && self.preserve_on_error {
                    world.end(bio, Err(ENOSPC));
                    return Looked::Gone;
                }
                self.fail(world, e);
                self.look_unprotected(world, bio);
                Looked::Gone
            }
        }
    }

    /// The seed's loop: asks the store again and again what is left to remap, and takes a
    /// destination for each answer, until nothing is left or the job is full.
    fn plan_origin_copy(
        &mut self,
        world: &mut W,
        chunk: Chunk,
        remaps: &mut [Option<Remap>; MAX_DESTS],
    ) -> Result<usize> {
        self.store.reset_query(chunk)?;
        let mut n = 0;
        while n < MAX_DESTS {
            let Some(ids) = self.store.query_next_remap()? else {
                break;
            };
            match self.store.add_next_remap() {
                Ok(remap) => {
                    remaps[n] = Some(remap);
                    n += 1;
                    if self.mode == Mode::Full {
                        self.set_mode(world, Mode::Rw, ENOSPC);
                    }
                }
                Err(e) if e == ENOSPC => {
                    self.set_mode(world, Mode::Full, ENOSPC);
                    if self.preserve_on_error {
                        return Err(e);
                    }
                    self.store.record_lost(chunk, ids)?;
                    self.counts.lost += 1;
                    self.note_record(chunk);
                    // The answers so far are about a tree that has just changed.
                    self.store.reset_query(chunk)?;
                    for remap in remaps.iter_mut().filter_map(Option::take) {
                        self.store.give_back(remap);
                    }
                    n = 0;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(n)
    }

    /// Nothing is left to remap: the write goes on, once the records that say so are durable and
    /// the reads that did not see them have ended.
    fn release(&mut self, world: &mut W, bio: W::Bio, chunk: Chunk) {
        let held = self
            .collecting
            .recorded
            .hold(chunk.0, bio)
            .and_then(|bio| self.writing.recorded.hold(chunk.0, bio))
            .and_then(|bio| self.settling.hold(chunk.0, bio));
        let Some(bio) = held else { return };
        world.preserved(chunk);
        world.to_origin(bio);
    }

    /// Mode `fail`: the origin goes on without its snapshots, or stops.
    fn look_unprotected(&mut self, world: &mut W, bio: W::Bio) {
        if self.preserve_on_error {
            world.end(bio, Err(EIO));
        } else if world.passed(Users::OriginReads, self.fail_reads) {
            world.to_origin(bio);
        } else {
            // A snapshot read that began before must not see what this write brings.
            self.settling.wait(self.fail_reads, bio);
        }
    }

    fn look_snapshot_write(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        request: Request,
        id: SnapId,
    ) -> Looked<W::Bio> {
        let Request {
            who, chunk, whole, ..
        } = request;
        if self.mode == Mode::Fail || self.mode == Mode::Ro {
            world.end(bio, Err(EIO));
            return Looked::Gone;
        }
        let store = &*self.store;
        let conflict = self.slots.find(chunk, |slot| {
            let mut ids = slot.ids();
            ids.any(|ids| store.check_conflict(ids, who))
        });
        if let Some(n) = conflict {
            self.wait_for_slot(n, bio);
            return Looked::Gone;
        }
        match self.store.make_chunk_writeable(chunk, id) {
            Ok(Writeable::InPlace(dest)) => {
                for stage in [&mut self.collecting, &mut self.writing] {
                    if request.fua && stage.recorded.holds(chunk.0) {
                        stage.recorded.retry.push(bio);
                        return Looked::Gone;
                    }
                }
                let held = self
                    .collecting
                    .unshared
                    .hold(dest.0, bio)
                    .and_then(|bio| self.writing.unshared.hold(dest.0, bio))
                    .and_then(|bio| self.unsharing.hold(dest.0, bio));
                let Some(bio) = held else {
                    return Looked::Gone;
                };
                world.to_store(bio, dest);
            }
            Ok(Writeable::Copy { from, remap }) => {
                if from == Source::Lost && !whole {
                    self.store.give_back(remap);
                    world.end(bio, Err(EIO));
                } else if whole {
                    self.start_overwrite(world, bio, chunk, from, remap);
                } else {
                    let mut remaps = [const { None }; MAX_DESTS];
                    remaps[0] = Some(remap);
                    self.start_copy(world, bio, chunk, from, false, remaps);
                }
            }
            Err(e) if e == EAGAIN || e == ENOMEM => return Looked::Stalled(bio, e),
            Err(e) => {
                if e == ENOSPC {
                    self.set_mode(world, Mode::Full, e);
                } else {
                    self.store_error(world, e);
                }
                world.end(bio, Err(if e == ENOSPC { e } else { EIO }));
            }
        }
        Looked::Gone
    }

    fn wait_for_slot(&mut self, n: usize, bio: W::Bio) {
        if let Some(slot) = self.slots.get(n) {
            slot.waiters.push(bio);
        }
    }

    // --- copies ----------------------------------------------------------------------------------

    fn start_copy(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        chunk: Chunk,
        from: Source,
        for_origin: bool,
        remaps: [Option<Remap>; MAX_DESTS],
    ) {
        let Some((n, slot)) = self.take_slot(chunk, from, for_origin, remaps) else {
            return world.end(bio, Err(EIO));
        };
        slot.waiters.push(bio);
        slot.generation = world.enter(Users::StoreChunks);
        let (dests, count) = slot.dests();
        world.copy(n, chunk, from, &dests[..count]);
    }

    /// The bio itself brings all the data: no copy.
    fn start_overwrite(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        chunk: Chunk,
        from: Source,
        remap: Remap,
    ) {
        let dest = remap.dest;
        let mut remaps = [const { None }; MAX_DESTS];
        remaps[0] = Some(remap);
        match self.take_slot(chunk, from, false, remaps) {
            Some((n, _)) => world.overwrite(n, bio, dest),
            None => world.end(bio, Err(EIO)),
        }
    }

    /// Takes the slot that [`look_writes`](Self::look_writes) made sure of.
    fn take_slot(
        &mut self,
        chunk: Chunk,
        from: Source,
        for_origin: bool,
        mut remaps: [Option<Remap>; MAX_DESTS],
    ) -> Option<(usize, &mut slots::Slot<W::Bios>)> {
        let Some(n) = self.slots.take(chunk) else {
            for remap in remaps.iter_mut().filter_map(Option::take) {
                self.store.give_back(remap);
            }
            return None;
        };
        let slot = self.slots.get(n)?;
        slot.from = from;
        slot.for_origin = for_origin;
        slot.remaps = remaps;
        Some((n, slot))
    }

    /// The data of a slot is at its destinations, or is not. Answers whether the bio that caused
    /// it can go on.
    fn moved(&mut self, n: usize, copied: Copied) -> bool {
        let Some(slot) = self.slots.get(n) else {
            return true;
        };
        slot.state = State::Ready;
        let failed = match copied {
            Copied::Good => 0,
            Copied::ReadError => {
                self.counts.read_errors += 1;
                u32::MAX
            }
            Copied::WriteError(bits) => {
                self.counts.write_errors += 1;
                bits
            }
        };
        if failed == 0 {
            return true;
        }
        // No trace of what failed: a loss is recorded, or the bio is refused. What cannot be
        // read is lost under both policies, since the overwrite heals it.
        let lose = slot.for_origin && (copied == Copied::ReadError || !self.preserve_on_error);
        let mut refused = false;
        for bit in 0..MAX_DESTS {
            let Some(slot) = self.slots.get(n) else { break };
            if failed >> bit & 1 == 0 {
                continue;
            }
            if let Some(remap) = slot.remaps[bit].take() {
                refused |= !lose;
                slot.lost[bit] = lose.then_some(remap.ids);
                self.store.give_back(remap);
            }
        }
        !refused
    }

    /// Records the slots whose data is there, as long as the batch has room.
    fn record_ready(&mut self, world: &mut W) {
        let mut start = 0;
        while let Some(n) = self.slots.in_state(State::Ready, start) {
            start = n + 1;
            if !self.record_slot(world, n) {
                self.checkpoint_forced = true;
                return;
            }
        }
    }

    /// Enters the remaps of a slot and sends its bios on. `false` if there was no room.
    fn record_slot(&mut self, world: &mut W, n: usize) -> bool {
        let Some(slot) = self.slots.get(n) else {
            return true;
        };
        let chunk = slot.chunk;
        let lose = slot.for_origin && !self.preserve_on_error;
        // An overwrite brought its own data.
        let copied = slot.done.is_empty();
        let count = slot.remaps.iter().flatten().count();
        if self.mode != Mode::Fail && !self.store.has_room(MAX_DESTS) {
            return false;
        }
        let mut error = None;
        for bit in 0..MAX_DESTS {
            let Some(slot) = self.slots.get(n) else { break };
            let (remap, lost) = (slot.remaps[bit].take(), slot.lost[bit].take());
            let from = slot.from;
            let result = match (&remap, lost) {
                (None, None) => continue,
                _ if self.mode == Mode::Fail => Err(EIO),
                (Some(remap), _) => self.store.record(remap),
                (None, Some(ids)) => self.store.record_lost(chunk, ids),
            };
            match (result, remap) {
                (Ok(()), remap) => {
                    self.note_record(chunk);
                    if let Source::Store(dest) = from {
                        self.collecting.unshared.note(dest.0);
                    }
                    match remap {
                        Some(_) => self.counts.copied_chunks += u64::from(copied),
                        None => self.counts.lost += 1,
                    }
                }
                (Err(e), remap) if e == EAGAIN || e == ENOMEM => {
                    if let Some(slot) = self.slots.get(n) {
                        slot.remaps[bit] = remap;
                        slot.lost[bit] = lost;
                    }
                    world.later(NO_MEMORY_MS);
                    return false;
                }
                (Err(e), Some(remap)) => {
                    // Not recorded: as if the copy had failed.
                    let ids = remap.ids;
                    self.store.give_back(remap);
                    self.store_error(world, e);
                    error = Some(e);
                    if self.mode != Mode::Fail && lose {
                        match self.store.record_lost(chunk, ids) {
                            Ok(()) => {
                                self.note_record(chunk);
                                self.counts.lost += 1;
                            }
                            Err(e) => self.fail(world, e),
                        }
                    }
                }
                (Err(e), None) => self.fail(world, e),
            }
        }
        self.finish_slot(world, n, count, error);
        true
    }

    /// The batch has a record of this chunk.
    fn note_record(&mut self, chunk: Chunk) {
        self.collecting.recorded.note(chunk.0);
        self.collecting.busy = true;
    }

    /// Frees a slot whose remaps are settled, and sends its bios on.
    fn finish_slot(&mut self, world: &mut W, n: usize, count: usize, error: Option<Error>) {
        // In mode `fail` no batch is written any more: nobody may wait for one.
        let error = error.or((self.mode == Mode::Fail).then_some(EIO));
        let Some(slot) = self.slots.get(n) else {
            return;
        };
        while let Some(bio) = slot.done.pop() {
            let fua = world.request(&bio).fua;
            match error {
                Some(e) => world.end(bio, Err(e)),
                None if fua => self.collecting.ends.push(bio),
                None => world.end(bio, Ok(())),
            }
        }
        // A write that needs only this round waits for the batch; one that may need a further
        // round, or does not depend on the batch, is looked at again at once.
        if slot.for_origin && count > 0 && count < MAX_DESTS && error.is_none() {
            self.collecting.recorded.retry.append(&mut slot.waiters);
        } else {
            self.retry.append(&mut slot.waiters);
        }
        self.slots.put(n);
    }

    // --- commit and checkpoint -------------------------------------------------------------------

    /// Closes the batch if somebody waits for it and no other log write is out.
    fn commit(&mut self, world: &mut W) {
        if self.writing.busy || self.mode == Mode::Fail {
            return;
        }
        if !self.store.has_unsealed() {
            if self.collecting.busy {
                self.commit_nothing(world);
            }
            return;
        }
        let wanted = self.collecting.is_awaited()
            || self.checkpoint_forced
            || self.store.checkpoint_wanted()
            || self.slots.in_state(State::Ready, 0).is_some()
            || self.idle_due
            || self.control.is_some();
        if !wanted {
            if !core::mem::replace(&mut self.idle_armed, true) {
                world.later(IDLE_COMMIT_MS);
            }
            return;
        }
        self.idle_armed = false;
        self.idle_due = false;
        match self.store.seal() {
            Ok(Some(write)) => {
                core::mem::swap(&mut self.collecting, &mut self.writing);
                self.writing.busy = true;
                self.writing.recorded.since = world.ask(Users::OriginReads);
                self.writing.unshared.since = world.ask(Users::StoreChunks);
                self.note_freed(world);
                world.write_log(write);
            }
            Ok(None) => (),
            Err(e) if e == EAGAIN => self.checkpoint_forced = true,
            Err(e) => self.fail(world, e),
        }
    }

    /// The records collected changed nothing, so that there is no log write to wait for.
    fn commit_nothing(&mut self, world: &mut W) {
        let stage = &mut self.collecting;
        while let Some(bio) = stage.flushes.pop() {
            world.flush_store(bio);
        }
        while let Some(bio) = stage.ends.pop() {
            world.end(bio, Ok(()));
        }
        if core::mem::take(&mut stage.control) {
            let id = self.control_id.take();
            world.control_done(Ok(id));
        }
        stage.recorded.since = world.ask(Users::OriginReads);
        stage.unshared.since = world.ask(Users::StoreChunks);
        stage.busy = false;
        self.settling.take(&mut self.collecting.recorded);
        self.unsharing.take(&mut self.collecting.unshared);
    }

    /// Starts to wait for those who may still use what was freed so far.
    fn note_freed(&mut self, world: &mut W) {
        if self.freed.is_none() {
            if let Some(mark) = self.store.free_mark() {
                self.freed = Some((mark, world.ask(Users::StoreChunks)));
            }
        }
    }

    /// Freezes the store and has the checkpoint written, if it is time for one.
    fn start_checkpoint(&mut self, world: &mut W) {
        if self.checkpoint_out {
            return;
        }
        let closing = matches!(self.control, Some(Control::Close { .. })) && self.is_quiet();
        if self.mode == Mode::Fail || self.mode == Mode::Ro {
            // What is on disk is older than what the origin holds, and stays marked unclean.
            if closing {
                self.control = None;
                world.control_done(match self.mode {
                    Mode::Ro => Ok(None),
                    _ => Err(EIO),
                });
            }
            return;
        }
        let wanted = closing || self.checkpoint_forced || self.store.checkpoint_wanted();
        if !wanted || self.store.has_unsealed() {
            return;
        }
        let clean = match self.control.take() {
            Some(Control::Close { clean }) if closing => {
                self.control_on_checkpoint = true;
                clean
            }
            Some(Control::Checkpoint) => {
                self.control_on_checkpoint = true;
                None
            }
            other => {
                self.control = other;
                None
            }
        };
        match self.store.checkpoint(clean.as_deref()) {
            Ok(write) => {
                self.checkpoint_out = true;
                self.checkpoint_forced = false;
                world.write_checkpoint(write);
            }
            Err(e) => {
                if core::mem::take(&mut self.control_on_checkpoint) {
                    world.control_done(Err(e));
                }
                if e == ENOMEM || e == EAGAIN || e == EBUSY {
                    world.later(NO_MEMORY_MS);
                } else {
                    self.fail(world, e);
                }
            }
        }
    }

    /// Whether nothing is under way.
    fn is_quiet(&self) -> bool {
        self.slots.used() == 0
            && self.reads.is_empty()
            && self.writes.is_empty()
            && self.retry.is_empty()
            && !self.writing.busy
            && !self.settling.is_busy()
            && !self.unsharing.is_busy()
            && (self.mode == Mode::Fail || !self.store.has_unsealed())
    }

    /// Lets go what waited only for older reads, and frees what waited only for older users.
    /// Answers whether there is something to look at again.
    fn settle(&mut self, world: &mut W) -> bool {
        let retry = &mut self.retry;
        let passed = |ticket| world.passed(Users::OriginReads, ticket);
        let mut any = self.settling.settle(retry, passed);
        let passed = |ticket| world.passed(Users::StoreChunks, ticket);
        any |= self.unsharing.settle(retry, passed);
        if let Some((mark, ticket)) = self.freed {
            if world.passed(Users::StoreChunks, ticket) {
                self.store.free_passed(mark);
                self.freed = None;
            }
        }
        any
    }

    // --- control ---------------------------------------------------------------------------------

    /// Carries out the change that was asked for, as soon as the batch has room for it.
    fn start_control(&mut self, world: &mut W) {
        let room = self.store.has_room(1);
        let result = match &self.control {
            None | Some(Control::Close { .. }) => return,
            Some(_) if self.mode == Mode::Fail => Err(EIO),
            Some(_) if self.mode == Mode::Ro => Err(EROFS),
            Some(Control::Checkpoint) => {
                self.checkpoint_forced = true;
                return;
            }
            Some(_) if !room => {
                self.checkpoint_forced = true;
                return;
            }
            Some(Control::Create {
                parent,
                created,
                name,
            }) => self
                .store
                .create(*parent, *created, unpadded(name))
                .map(Some),
            Some(Control::Name { id, name }) => {
                self.store.rename(*id, unpadded(name)).map(|()| None)
            }
            Some(Control::Resize { origin, store }) => {
                self.store.resize(*origin, *store).map(|()| None)
            }
        };
        match result {
            Ok(id) => {
                if let Some(id) = id {
                    world.cut(id);
                }
                self.control = None;
                self.control_id = id;
                self.collecting.control = true;
                self.collecting.busy = true;
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                world.later(NO_MEMORY_MS);
            }
            Err(e) => {
                self.control = None;
                self.store_error(world, e);
                world.control_done(Err(e));
            }
        }
    }

    // --- failure ---------------------------------------------------------------------------------

    fn set_mode(&mut self, world: &mut W, mode: Mode, why: Error) {
        if self.mode != mode && self.mode != Mode::Fail && self.mode != Mode::Ro {
            self.mode = mode;
            world.mode_changed(mode, why);
        }
    }

    /// A store operation failed.
    fn store_error(&mut self, world: &mut W, e: Error) {
        self.counts.meta_errors += 1;
        if self.store.is_poisoned() {
            self.fail(world, e);
        }
    }

    /// The store cannot be relied on any more: no record will become durable.
    fn fail(&mut self, world: &mut W, why: Error) {
        if self.mode == Mode::Fail {
            return;
        }
        self.mode = Mode::Fail;
        self.look_again = true;
        self.fail_reads = world.ask(Users::OriginReads);
        world.mode_changed(Mode::Fail, why);
        let stage = &mut self.collecting;
        while let Some(bio) = stage.flushes.pop() {
            world.end(bio, Err(EIO));
        }
        while let Some(bio) = stage.ends.pop() {
            world.end(bio, Err(EIO));
        }
        if stage.control {
            self.control_id = None;
            world.control_done(Err(why));
        }
        stage.drain(&mut self.retry);
        self.settling.drain(&mut self.retry);
        self.unsharing.drain(&mut self.retry);
    }
}

/// A name without the zero bytes that pad it.
fn unpadded(name: &[u8]) -> &[u8] {
    name.split(|&c| c == 0).next().unwrap_or(&[])
}

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
//! 5. The bio goes to the origin. If its answer was not the last word (the job was full, a copy or
//!    its record failed, a snapshot was made meanwhile) it is looked at again from the start
//!    instead, until it finds nothing to remap in any stage.
//!
//! That retry is what keeps the rest simple: nothing needs to be known about a chunk but what
//! the store answers now.
//!
//! [`world`] has the words in which events and actions are told; [`look`], [`copies`] and
//! [`commit`] are the machine's parts in the order in which an origin write passes them, besides
//! [`control`] for commands, [`discard`] for bios that only take away, [`unread`] for metadata that
//! cannot be read, and [`heal`] for a store that has failed.

pub(crate) mod grace;

mod commit;
mod control;
mod copies;
mod discard;
mod gate;
mod heal;
mod known;
mod look;
mod slots;
mod stage;
mod sweep;
mod unread;
mod world;

pub(crate) use known::{Known, Place};
pub(crate) use slots::SLOTS;
pub(crate) use world::{Control, Copied, Counts, Fifo, Mode, Op, Request, Timer, Users, World};

use crate::store::{CheckpointWrite, ExceptionStore, LogWrite, SnapId};
use gate::Gate;
use grace::Ticket;
use heal::Heal;
use kernel::prelude::*;
use slots::Slots;
use stage::{Settling, Stage};
use unread::Unread;

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
    /// It waits for the batch to be closed.
    BatchFull(B),
}

/// The state machine of one origin and its store.
pub(crate) struct Machine<W: World> {
    store: KBox<dyn ExceptionStore>,
    slots: Slots<W::Bios>,
    reads: W::Bios,
    retry: W::Bios,
    writes: W::Bios,
    /// Origin bios whose wait is over.
    go: W::Bios,
    /// Snapshots made since the start.
    cuts: u64,
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
    /// The store is to be closed: users of origin and store from before that are waited for.
    leaving: Option<[Ticket; 2]>,
    control_id: Option<SnapId>,
    /// The id whose deletion is on its way to the log.
    deleting: Option<SnapId>,
    /// The one for which it is durable, and whether somebody waits for that.
    forgetting: Option<(SnapId, bool)>,
    /// That has failed, and is tried again when the timer has run.
    forget_held: bool,
    /// The one whose deletion was not carried out before the store failed, and whether its record is
    /// durable.
    lapsed: Option<(SnapId, bool)>,
    /// The one that goes though somebody was told that it does not: its making failed, or its deletion,
    /// whose record is in the batch.
    orphan: Option<SnapId>,
    /// The command on its way to the log is a [`Control::LoseAll`].
    parting: bool,
    /// It has ended so; who still reads the origin is waited for before that is told.
    parted: Option<(Result, Ticket)>,
    gate: Gate<W::Bios>,
    /// Deleted ids may have records left; the timer of the next turn runs, or has run out.
    sweeping: bool,
    sweep_armed: bool,
    sweep_due: bool,
    /// A copy has found no room since the sweep began, or just before.
    starved: bool,
    checkpoint_out: bool,
    checkpoint_forced: bool,
    /// The control command waits for the checkpoint, not for a log write.
    control_on_checkpoint: bool,
    /// The timer runs that commits what nobody waits for, and has run out.
    idle_armed: bool,
    idle_due: bool,
    stalls: u32,
    /// A write has stalled since the timer ran.
    stalled: bool,
    /// Everything must be looked at once more: the mode has become `fail`.
    look_again: bool,
    mode: Mode,
    preserve_on_error: bool,
    /// A discard of the origin is preserved like a write.
    discard_copy: bool,
    /// A bio waits for the batch to be closed, since it is full.
    batch_full: bool,
    /// In mode `fail`: when older snapshot reads of the origin have ended.
    fail_reads: Ticket,
    heal: Heal<W::Bios>,
    unread: Unread<W::Bios>,
    counts: Counts,
}

impl<W: World> Machine<W> {
    /// A machine for an opened store.
    #[inline(never)]
    pub(crate) fn new(
        mut store: KBox<dyn ExceptionStore>,
        preserve_on_error: bool,
        mode: Mode,
    ) -> Result<Self> {
        let forgetting = match mode {
            Mode::Rw => store.unforgotten()?.map(|id| (id, false)),
            _ => None,
        };
        Ok(Machine {
            store,
            slots: Slots::new()?,
            reads: W::Bios::default(),
            retry: W::Bios::default(),
            writes: W::Bios::default(),
            go: W::Bios::default(),
            cuts: 0,
            collecting: Stage::new()?,
            writing: Stage::new()?,
            settling: Settling::new()?,
            unsharing: Settling::new()?,
            freed: None,
            control: None,
            leaving: None,
            control_id: None,
            deleting: None,
            forgetting,
            forget_held: false,
            lapsed: None,
            orphan: None,
            parting: false,
            parted: None,
            gate: Gate::new(),
            sweeping: true,
            sweep_armed: false,
            sweep_due: false,
            starved: false,
            checkpoint_out: false,
            checkpoint_forced: false,
            control_on_checkpoint: false,
            idle_armed: false,
            idle_due: false,
            stalls: 0,
            stalled: false,
            look_again: false,
            mode,
            preserve_on_error,
            discard_copy: false,
            batch_full: false,
            fail_reads: Ticket::default(),
            heal: Heal::new(),
            unread: Unread::new(),
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

    /// Whether deleted snapshots may have records left.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.sweeping
    }

    /// Whether writes of a snapshot are held off.
    #[cfg(test)]
    pub(crate) fn is_gated(&self) -> bool {
        !self.gate.is_open()
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    // --- events --------------------------------------------------------------------------------

    /// Snapshot reads have arrived.
    pub(crate) fn read(&mut self, bios: &mut W::Bios) {
        self.reads.append(bios);
    }

    /// Writes and discards of the origin, and all of a snapshot but its reads, have arrived.
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
        self.collecting.control
            || self.writing.control
            || self.control_on_checkpoint
            || self.parted.is_some()
            || self.forgetting.is_some_and(|(_, told)| told)
    }

    /// The copy of a slot has ended.
    pub(crate) fn copied(&mut self, world: &mut W, n: usize, copied: Copied) {
        let Some(slot) = self.slots.get(n) else {
            return;
        };
        // As if it could not be read.
        let copied = if slot.overtaken {
            Copied::ReadError
        } else {
            copied
        };
        world.leave(Users::StoreChunks, slot.generation);
        self.counts.copies += 1;
        if self.moved(n, copied) {
            return;
        }
        // Only the bio that caused the copy is refused; the others may need none, or another.
        if let Some(bio) = self.slots.get(n).and_then(|slot| slot.waiters.pop()) {
            self.refuse(world, bio, EIO);
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
            self.durable_control(world, result);
        }
        self.stalls = 0;
        if let Err(e) = result {
            self.writing.drain(&mut self.retry);
            return self.fail(world, e, true);
        }
        self.loss_is_durable();
        if let Some(id) = self.writing.orphan.take() {
            self.orphan = None;
            self.forgetting = Some((id, false));
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
        if !self.heal_written(world, result) {
            if let Err(e) = result {
                self.fail(world, e, false);
            }
        }
    }

    /// The time asked for with [`World::later`] is over.
    pub(crate) fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Retry => self.stalled = false,
            Timer::Idle => self.idle_due |= core::mem::take(&mut self.idle_armed),
            Timer::Sweep => self.sweep_timer(),
            Timer::Heal => self.heal_timer(),
            Timer::Read => self.unread.timer(),
        }
    }

    /// Does all that can be done now. To be called after any event.
    pub(crate) fn run(&mut self, world: &mut W) {
        loop {
            self.record_ready(world);
            self.read_again();
            self.forget_deleted(world);
            self.withdraw_orphan(world);
            self.start_control(world);
            self.end_parting(world);
            while let Some(bio) = self.reads.pop() {
                self.look_read(world, bio);
            }
            // Before writes, which could fill each batch.
            self.sweep(world);
            self.look_writes(world);
            self.commit(world);
            self.start_checkpoint(world);
            // What has settled, or has nothing to wait for any more, is looked at again at once.
            if !self.settle(world) && !core::mem::take(&mut self.look_again) {
                return;
            }
        }
    }
}

/// A name without the zero bytes that pad it.
fn unpadded(name: &[u8]) -> &[u8] {
    name.split(|&c| c == 0).next().unwrap_or(&[])
}

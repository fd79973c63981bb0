// SPDX-License-Identifier: GPL-2.0

//! Where events for the worker arrive, from any context.
//!
//! Nobody who puts something in waits or allocates; the worker empties all of it at once.

use super::{
    bios::{Bios, OurBio},
    order::{Copied, Fifo, SLOTS}, //
};
use crate::dm::{
    io::{IoDone, PageBuf},
    kcopyd::CopyDone,
    queue::Kick, //
};
use crate::store::CheckpointWrite;
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{Arc, SpinLockIrq}, //
};

/// All that has arrived since the worker looked last.
pub(super) struct Events {
    /// Snapshot reads.
    pub(super) reads: Bios,
    /// Origin writes, snapshot writes and flushes.
    pub(super) writes: Bios,
    /// Overwrites of whole chunks that have ended.
    pub(super) overwritten: Bios,
    /// Copies that have ended, by slot.
    pub(super) copied: Ended,
    /// The log write that has ended.
    pub(super) log: Option<(PageBuf, Result)>,
    /// The checkpoint write that has ended.
    pub(super) checkpoint: Option<(CheckpointWrite, Result)>,
    /// The write that tried the store has ended.
    pub(super) probed: Option<Result>,
    /// Something other than the above needs a look: a grace period, a command, the timer.
    pub(super) other: bool,
}

/// The ended copies: a slot has at most one copy, so there is a place for each.
pub(super) struct Ended(KVec<(u8, Copied)>);

impl Ended {
    fn new() -> Result<Self> {
        Ok(Ended(KVec::with_capacity(SLOTS, GFP_KERNEL)?))
    }

    fn push(&mut self, slot: u8, copied: Copied) {
        // Room for all slots was made at the start: this neither allocates nor fails.
        let _ = self.0.push((slot, copied), GFP_ATOMIC);
    }

    /// Empties it into `f`.
    pub(super) fn drain(&mut self, mut f: impl FnMut(usize, Copied)) {
        for &(slot, copied) in self.0.iter() {
            f(usize::from(slot), copied);
        }
        self.0.truncate(0);
    }

    fn take_from(&mut self, other: &mut Self) {
        other.drain(|slot, copied| self.push(slot as u8, copied));
    }
}

impl Events {
    /// Nothing yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Events {
            reads: Bios::default(),
            writes: Bios::default(),
            overwritten: Bios::default(),
            copied: Ended::new()?,
            log: None,
            checkpoint: None,
            probed: None,
            other: false,
        })
    }

    fn is_empty(&self) -> bool {
        self.reads.is_empty()
            && self.writes.is_empty()
            && self.overwritten.is_empty()
            && self.copied.0.is_empty()
            && self.log.is_none()
            && self.checkpoint.is_none()
            && self.probed.is_none()
            && !self.other
    }
}

struct Inner {
    events: Events,
    /// The worker will look: nobody has to wake it. It is so until it has found nothing.
    awake: bool,
    /// The worker is about to go; no bio is taken in any more.
    closed: bool,
}

impl Inner {
    /// The worker has something to look at. Answers whether it must be woken for that.
    fn wake(&mut self) -> bool {
        !core::mem::replace(&mut self.awake, true)
    }
}

/// The worker's letter box.
#[pin_data]
pub(super) struct Inbox {
    /// A leaf: nothing else is locked while it is held.
    #[pin]
    inner: SpinLockIrq<Inner>,
    kick: Kick,
}

impl Inbox {
    pub(super) fn new(kick: Kick) -> Result<Arc<Self>> {
        let events = Events::new()?;
        Arc::pin_init(
            pin_init!(Self {
                inner <- new_spinlock_irq!(Inner { events, awake: false, closed: false }),
                kick,
            }),
            GFP_KERNEL,
        )
    }

    /// Runs `f` on the events under the lock, and wakes the worker.
    fn put(&self, f: impl FnOnce(&mut Events)) {
        let asleep = {
            let mut inner = self.inner.lock();
            f(&mut inner.events);
            inner.wake()
        };
        if asleep {
            self.kick.kick();
        }
    }

    /// A bio for the worker. It comes back if the worker has gone.
    pub(super) fn bio(&self, bio: OurBio, read: bool) -> Result<(), OurBio> {
        let asleep = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(bio);
            }
            match read {
                true => inner.events.reads.push(bio),
                false => inner.events.writes.push(bio),
            }
            inner.wake()
        };
        if asleep {
            self.kick.kick();
        }
        Ok(())
    }

    /// The overwrite of a whole chunk has ended.
    pub(super) fn overwritten(&self, bio: OurBio) {
        self.put(|events| events.overwritten.push(bio));
    }

    /// The checkpoint has been written.
    pub(super) fn checkpoint(&self, write: CheckpointWrite, result: Result) {
        self.put(|events| events.checkpoint = Some((write, result)));
    }

    /// The store was tried with a write.
    pub(super) fn probed(&self, result: Result) {
        self.put(|events| events.probed = Some(result));
    }

    /// Something needs a look.
    pub(super) fn look(&self) {
        self.put(|events| events.other = true);
    }

    /// Wakes the worker in this many milliseconds.
    pub(super) fn look_later(&self, ms: u32) {
        self.kick.kick_after(ms);
    }

    /// Moves all that has arrived to `to`; `false` if that was nothing. The worker must look again after
    /// any other answer.
    pub(super) fn take(&self, to: &mut Events) -> bool {
        let mut inner = self.inner.lock();
        if inner.events.is_empty() {
            inner.awake = false;
            return false;
        }
        inner.awake = true;
        let from = &mut inner.events;
        to.reads.append(&mut from.reads);
        to.writes.append(&mut from.writes);
        to.overwritten.append(&mut from.overwritten);
        to.copied.take_from(&mut from.copied);
        to.log = from.log.take();
        to.checkpoint = from.checkpoint.take();
        to.probed = from.probed.take();
        from.other = false;
        true
    }

    /// Whether nothing has arrived since that.
    pub(super) fn is_empty(&self) -> bool {
        self.inner.lock().events.is_empty()
    }

    /// Takes in no more bios; other events still arrive.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
    }
}

impl CopyDone for Inbox {
    fn copy_done(&self, slot: u32, read_error: bool, write_errors: u32) {
        let copied = match (read_error, write_errors) {
            (true, _) => Copied::ReadError,
            (false, 0) => Copied::Good,
            // kcopyd stops at the first error: no destination is known to be good.
            (false, _) => Copied::WriteError(u32::MAX),
        };
        self.put(|events| events.copied.push(slot as u8, copied));
    }
}

impl IoDone for Inbox {
    fn io_done(&self, _tag: u64, buf: PageBuf, result: Result) {
        self.put(|events| events.log = Some((buf, result)));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What cannot go on since metadata cannot be read.
//!
//! Reading changes nothing, so what is in core is right still, and the device may come back. An
//! origin write is tried again for a second. After that it is refused, if snapshots are to be kept;
//! else all content that has no record is lost, since that is the one loss that can be written down
//! without reading anything.

use super::{Fifo, Looked, Machine, Op, Timer, World};
use crate::store::Chunk;
use kernel::prelude::*;

/// Milliseconds between the tries of a write.
const ROUND_MS: u32 = 300;

/// Tries of a write.
const TRIES: u8 = 4;

/// Milliseconds between tries of what nobody waits for.
const REST_MS: u32 = 1000;

/// Writes that are to be tried again.
pub(super) struct Unread<Q> {
    waiting: Q,
    /// The timer runs, or has run out.
    armed: bool,
    due: bool,
}

impl<Q: Fifo> Unread<Q> {
    pub(super) fn new() -> Self {
        Unread {
            waiting: Q::default(),
            armed: false,
            due: false,
        }
    }

    /// Whether no bio waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets all go that waits.
    pub(super) fn drain(&mut self, retry: &mut Q) {
        retry.append(&mut self.waiting);
    }

    /// The timer has run.
    pub(super) fn timer(&mut self) {
        self.due |= core::mem::take(&mut self.armed);
    }
}

impl<W: World> Machine<W> {
    /// Whether an error of the store means only that something could not be read.
    pub(super) fn is_unread(&self, e: Error) -> bool {
        e == EIO && !self.store.is_poisoned()
    }

    /// What an origin write needs cannot be read. `keep`: nothing is to be lost for its sake.
    pub(super) fn look_unread(
        &mut self,
        world: &mut W,
        mut bio: W::Bio,
        chunk: Chunk,
        keep: bool,
    ) -> Looked<W::Bio> {
        self.counts.meta_errors += 1;
        // A hint is not worth the wait.
        let hint = world.request(&bio).op == Op::Discard;
        if !hint && world.tried(&mut bio) < TRIES {
            self.unread.waiting.push(bio);
            self.read_later(world, ROUND_MS);
            return Looked::Gone;
        }
        if keep {
            self.refuse(world, bio, EIO);
            return Looked::Gone;
        }
        let lost = self.lose_all(world);
        let left = lost.and_then(|()| {
            self.store.reset_query(chunk)?;
            self.store.query_next_remap()
        });
        match left {
            Ok(None) => self.release(world, bio, chunk),
            Err(e) if e == EAGAIN || e == ENOMEM => return Looked::Stalled(bio, e),
            _ => {
                self.fail(world, EIO, false);
                self.look_unprotected(world, bio);
            }
        }
        Looked::Gone
    }

    /// Records that all have lost what they do not have a record for.
    pub(super) fn lose_all(&mut self, world: &mut W) -> Result {
        self.store.record_all_lost()?;
        world.forget_all();
        world.all_lost();
        self.collecting.recorded.note_all();
        self.collecting.busy = true;
        self.counts.lost += 1;
        Ok(())
    }

    /// A copy for origin writes, which wait for slot `n`, cannot be recorded. Whether they are to be
    /// tried again, from the start; the oldest one decides.
    pub(super) fn retries_record(&mut self, world: &mut W, n: usize) -> bool {
        let Some(slot) = self.slots.get(n) else {
            return true;
        };
        let Some(mut bio) = slot.waiters.pop() else {
            return true;
        };
        let again = world.tried(&mut bio) < TRIES;
        slot.waiters.push_front(bio);
        again
    }

    /// Who waits for slot `n` is tried again in the next round.
    pub(super) fn park(&mut self, world: &mut W, n: usize) {
        if let Some(slot) = self.slots.get(n) {
            self.unread.waiting.append(&mut slot.waiters);
            self.read_later(world, ROUND_MS);
        }
    }

    /// What nobody waits for is tried again.
    pub(super) fn rest(&mut self, world: &mut W) {
        self.read_later(world, REST_MS);
    }

    /// Sets the timer, unless it runs.
    fn read_later(&mut self, world: &mut W, ms: u32) {
        if !core::mem::replace(&mut self.unread.armed, true) {
            world.later(Timer::Read, ms);
        }
    }

    /// Tries again, if it is time.
    pub(super) fn read_again(&mut self) {
        if core::mem::take(&mut self.unread.due) {
            self.forget_held = false;
            self.unread.drain(&mut self.retry);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What cannot go on since metadata cannot be read.
//!
//! Reading changes nothing, so what is in core is right still, and the device may come back. An
//! origin write is tried again for a second. After that it is refused, if snapshots are to be kept;
//! else all content that has no record is lost, since that is the one loss that can be written down
//! without reading anything.

use super::{Fifo, Looked, Machine, Timer, World};
use crate::store::Chunk;
use kernel::prelude::*;

/// Milliseconds before each further try of a write.
const TRY_MS: [u32; 3] = [100, 300, 600];

/// Milliseconds between tries of what nobody waits for, and until a write has all tries again.
const REST_MS: u32 = 1000;

/// Writes that are to be tried again.
pub(super) struct Unread<Q> {
    waiting: Q,
    /// How often they were.
    tries: usize,
    /// The timer runs, or has run out.
    armed: bool,
    due: bool,
}

impl<Q: Fifo> Unread<Q> {
    pub(super) fn new() -> Self {
        Unread {
            waiting: Q::default(),
            tries: 0,
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
        bio: W::Bio,
        chunk: Chunk,
        keep: bool,
    ) -> Looked<W::Bio> {
        self.counts.meta_errors += 1;
        self.read_later(world);
        if self.unread.tries < TRY_MS.len() {
            self.unread.waiting.push(bio);
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

    /// Sets the timer, unless it runs.
    pub(super) fn read_later(&mut self, world: &mut W) {
        if !core::mem::replace(&mut self.unread.armed, true) {
            let ms = TRY_MS.get(self.unread.tries).copied();
            world.later(Timer::Read, ms.unwrap_or(REST_MS));
        }
    }

    /// Tries again, if it is time.
    pub(super) fn read_again(&mut self, world: &mut W) {
        if !core::mem::take(&mut self.unread.due) {
            return;
        }
        self.forget_held = false;
        if self.unread.is_idle() {
            self.unread.tries = 0;
            return;
        }
        self.unread.tries += 1;
        self.unread.drain(&mut self.retry);
        self.read_later(world);
    }
}

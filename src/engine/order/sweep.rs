// SPDX-License-Identifier: GPL-2.0

//! The background sweep: takes away what only deleted snapshots needed, a little at a time.

use super::{Machine, Mode, Timer, World};
use kernel::prelude::*;

/// Milliseconds between steps while bios of users are under way.
const BUSY_MS: u32 = 20;

/// Milliseconds between steps otherwise: the worker must come to look for bios in between.
const IDLE_MS: u32 = 1;

/// Milliseconds until the next step after one that found no space at all.
const FULL_MS: u32 = 1000;

/// Milliseconds until it is tried again after an error.
const ERROR_MS: u32 = 5000;

/// Calls of the store for which there must be room before a step.
const ROOM: usize = 8;

impl<W: World> Machine<W> {
    /// Makes a step of the sweep, if it is time for one.
    pub(super) fn sweep(&mut self, world: &mut W) {
        if !self.sweeping || !matches!(self.mode, Mode::Rw | Mode::Full) || self.control.is_some() {
            return;
        }
        if !core::mem::take(&mut self.sweep_due) {
            if !core::mem::replace(&mut self.sweep_armed, true) {
                let busy = self.slots.used() > 0 || !self.collecting.recorded.is_free();
                world.later(Timer::Sweep, if busy { BUSY_MS } else { IDLE_MS });
            }
            return;
        }
        let result = match self.store.has_room(ROOM) {
            true => self.store.sweep_step(),
            false => Err(EAGAIN),
        };
        match result {
            Ok(more) => self.sweeping = more,
            // The batch must go out, or a checkpoint make room.
            Err(e) if e == EAGAIN => {
                self.idle_due = true;
                self.checkpoint_forced |= !self.store.has_unsealed() && !self.writing.busy;
            }
            Err(e) if e == ENOMEM => (),
            // Something else must make room first.
            Err(e) if e == ENOSPC => {
                self.sweep_armed = true;
                world.later(Timer::Sweep, FULL_MS);
            }
            // Nothing has changed, and it is not at its end.
            Err(e) => {
                self.store_error(world, e);
                self.sweep_armed = true;
                world.later(Timer::Sweep, ERROR_MS);
            }
        }
        self.note_freed(world);
        self.collecting.busy |= self.store.has_unsealed();
        self.look_again = true;
    }

    /// The timer has run.
    pub(super) fn sweep_timer(&mut self) {
        self.sweep_due |= core::mem::take(&mut self.sweep_armed);
    }
}

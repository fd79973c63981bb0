// SPDX-License-Identifier: GPL-2.0

//! The background sweep: takes away what only deleted snapshots needed, a little at a time.
//!
//! A bio that arrives meanwhile waits for one step, or for what is left of [`STEPS_MIN`]; and none
//! that the worker does not see waits long for the processor. That ends where a store has no chunk left
//! for a copy: until the sweep is over, it waits for nobody, since each write may cost content.

use super::{Machine, Mode, Timer, World};
use kernel::prelude::*;

/// Milliseconds between turns while bios come.
const BUSY_MS: u32 = 10;

/// Milliseconds between turns otherwise: others want the lock of the worker, too.
const IDLE_MS: u32 = 1;

/// Milliseconds until the next turn after one that found no space at all.
const FULL_MS: u32 = 1000;

/// Milliseconds until it is tried again after an error.
const ERROR_MS: u32 = 5000;

/// Steps of a turn while nothing else is to be done.
const STEPS_MAX: u32 = 64;

/// Steps of a turn in any case: a sweep comes to its end, however busy the worker is.
const STEPS_MIN: u32 = 4;

/// Calls of the store for which there must be room before a step.
const ROOM: usize = 8;

impl<W: World> Machine<W> {
    /// Takes a turn of the sweep, if it is time for one.
    pub(super) fn sweep(&mut self, world: &mut W) {
        if !self.sweeping || !matches!(self.mode, Mode::Rw | Mode::Full) || self.control.is_some() {
            return;
        }
        if !core::mem::take(&mut self.sweep_due) {
            if !core::mem::replace(&mut self.sweep_armed, true) {
                let busy = !self.starved && (world.was_used() || self.slots.used() > 0);
                world.later(Timer::Sweep, if busy { BUSY_MS } else { IDLE_MS });
            }
            return;
        }
        let mut steps = 0;
        let mut stuck = false;
        match self.sweep_turn(world, &mut steps) {
            Ok(more) => {
                self.sweeping = more;
                self.starved &= more;
            }
            // The batch must go out, or a checkpoint make room.
            Err(e) if e == EAGAIN => {
                self.idle_due = true;
                self.checkpoint_forced |= !self.store.has_unsealed() && !self.writing.busy;
                stuck = steps == 0;
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
        if !stuck {
            self.look_again = true;
            return;
        }
        // It is the first to use what becomes free, and need not wait for the timer, which is for what
        // nobody tells of.
        self.sweep_due = true;
        if !core::mem::replace(&mut self.sweep_armed, true) {
            world.later(Timer::Sweep, BUSY_MS);
        }
    }

    /// Makes steps until there is something else to do, and counts them.
    fn sweep_turn(&mut self, world: &W, steps: &mut u32) -> Result<bool> {
        while *steps < STEPS_MAX {
            if !self.store.has_room(ROOM) {
                return Err(EAGAIN);
            }
            if !self.store.sweep_step()? {
                return Ok(false);
            }
            *steps += 1;
            if *steps >= STEPS_MIN && !self.starved && world.is_wanted() {
                break;
            }
        }
        Ok(true)
    }

    /// The timer has run.
    pub(super) fn sweep_timer(&mut self) {
        self.sweep_due |= core::mem::take(&mut self.sweep_armed);
    }
}

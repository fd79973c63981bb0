// SPDX-License-Identifier: GPL-2.0

//! Making it durable: log writes, checkpoints, and who may go on after them.

use super::{Control, Fifo, Machine, Mode, Timer, Users, World, IDLE_COMMIT_MS, NO_MEMORY_MS};
use kernel::prelude::*;

impl<W: World> Machine<W> {
    /// Closes the batch if somebody waits for it and no other log write is out.
    pub(super) fn commit(&mut self, world: &mut W) {
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
            || self.slots.ready().is_some()
            || self.idle_due
            || self.batch_full
            || self.control.is_some();
        if !wanted {
            if !core::mem::replace(&mut self.idle_armed, true) {
                world.later(Timer::Idle, IDLE_COMMIT_MS);
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
                self.look_again |= core::mem::take(&mut self.batch_full);
                world.write_log(write);
            }
            Ok(None) => (),
            Err(e) if e == EAGAIN => {
                self.checkpoint_forced = true;
                world.later(Timer::Retry, NO_MEMORY_MS);
            }
            Err(e) => self.fail(world, e, false),
        }
    }

    /// The records collected changed nothing, so that there is no log write to wait for.
    pub(super) fn commit_nothing(&mut self, world: &mut W) {
        let stage = &mut self.collecting;
        while let Some(bio) = stage.flushes.pop() {
            world.flush_store(bio);
        }
        while let Some(bio) = stage.ends.pop() {
            world.end(bio, Ok(()));
        }
        if core::mem::take(&mut stage.control) {
            self.durable_control(world, Ok(()));
        }
        let stage = &mut self.collecting;
        stage.recorded.since = world.ask(Users::OriginReads);
        stage.unshared.since = world.ask(Users::StoreChunks);
        stage.busy = false;
        self.settling.take(&mut self.collecting.recorded);
        self.unsharing.take(&mut self.collecting.unshared);
    }

    /// The record of the command is durable, or failed.
    pub(super) fn durable_control(&mut self, world: &mut W, result: Result) {
        let (id, deleted) = (self.control_id.take(), self.deleting.take());
        if core::mem::take(&mut self.parting) {
            return self.part(world, result);
        }
        match (result, deleted) {
            // It is done when the id has left the live ones.
            (Ok(()), Some(deleted)) => self.forgetting = Some((deleted, true)),
            (result, deleted) => {
                // In doubt: if the store heals, it is deleted, or made, all the same.
                if result.is_err() {
                    self.lapsed = deleted.map(|id| (id, false)).or(self.lapsed);
                    self.orphan = id.or(self.orphan);
                }
                world.control_done(result.map(|()| id));
            }
        }
    }

    /// Starts to wait for those who may still use what was freed so far.
    pub(super) fn note_freed(&mut self, world: &mut W) {
        if self.freed.is_none() {
            if let Some(mark) = self.store.free_mark() {
                self.freed = Some((mark, world.ask(Users::StoreChunks)));
            }
        }
    }

    /// Freezes the store and has the checkpoint written, if it is time for one.
    pub(super) fn start_checkpoint(&mut self, world: &mut W) {
        if self.mode == Mode::Fail {
            return self.heal(world);
        }
        if self.checkpoint_out {
            return;
        }
        let closing = self.is_closing(world);
        if self.mode == Mode::Ro {
            if closing {
                self.control = None;
                world.control_done(Ok(None));
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
                    world.later(Timer::Retry, NO_MEMORY_MS);
                } else {
                    self.fail(world, e, false);
                }
            }
        }
    }

    /// Whether the store is to be closed, and nobody needs it any more. Whoever loads it next knows
    /// nothing of bios of snapshots that are under way on origin and store.
    pub(super) fn is_closing(&mut self, world: &mut W) -> bool {
        if !matches!(self.control, Some(Control::Close { .. })) || !self.is_quiet() {
            return false;
        }
        let kinds = [Users::OriginReads, Users::StoreChunks];
        let since = *self
            .leaving
            .get_or_insert_with(|| kinds.map(|users| world.ask(users)));
        let mut both = kinds.into_iter().zip(since);
        both.all(|(users, since)| world.passed(users, since))
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.slots.used() == 0
            && self.reads.is_empty()
            && self.writes.is_empty()
            && self.retry.is_empty()
            && self.heal.is_idle()
            && self.unread.is_idle()
            && self.gate.is_idle()
            && (self.mode == Mode::Fail
                || self.forget_held
                || self.forgetting.is_none() && self.orphan.is_none())
            && !self.writing.busy
            && !self.settling.is_busy()
            && !self.unsharing.is_busy()
            && (self.mode == Mode::Fail || !self.store.has_unsealed())
    }

    /// Lets go what waited only for older reads, and frees what waited only for older users.
    /// Answers whether there is something to look at again.
    pub(super) fn settle(&mut self, world: &mut W) -> bool {
        let (retry, go) = (&mut self.retry, &mut self.go);
        let passed = |ticket| world.passed(Users::OriginReads, ticket);
        let mut any = self.settling.settle(retry, go, self.cuts, passed);
        let passed = |ticket| world.passed(Users::StoreChunks, ticket);
        any |= self.unsharing.settle(retry, go, self.cuts, passed);
        if self.mode == Mode::Fail {
            // What holds then is decided in one place.
            self.retry.append(&mut self.go);
        }
        while let Some(bio) = self.go.pop() {
            world.preserved(world.request(&bio).chunk);
            world.to_origin(bio);
        }
        self.note_freed(world);
        if let Some((mark, ticket)) = self.freed {
            if world.passed(Users::StoreChunks, ticket) {
                self.store.free_passed(mark);
                self.freed = None;
                self.leave_full(world);
                // What was freed since then has its own wait, and a write may want these.
                any = true;
            }
        }
        any
    }
}

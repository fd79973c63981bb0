// SPDX-License-Identifier: GPL-2.0

//! Commands, and what an error of the store means.

use super::{
    slots::{Slot, State},
    unpadded, Control, Machine, Mode, Timer, Users, World, NO_MEMORY_MS,
};
use crate::store::{SnapId, Source, Who};
use kernel::prelude::*;

impl<W: World> Machine<W> {
    /// Carries out the change that was asked for, as soon as the batch has room for it.
    pub(super) fn start_control(&mut self, world: &mut W) {
        let room = self.store.has_room(1);
        let result = match &self.control {
            None | Some(Control::Close { .. }) => return,
            // What is being written now may end the failure, or be the last word: it does not know
            // of this, and who looks at what came of it must not think so.
            Some(Control::LoseAll) if self.mode == Mode::Fail && self.checkpoint_out => return,
            Some(Control::LoseAll) if self.mode == Mode::Fail => {
                self.end_control();
                return self.part(world, Err(EIO));
            }
            Some(_) if self.mode == Mode::Fail => Err(EIO),
            // That one waits for a deletion which cannot be completed for now; but nothing need be
            // read to lose all.
            Some(control) if self.orphan.is_some() && !matches!(control, Control::LoseAll) => {
                match self.forget_held {
                    true => Err(EIO),
                    false => return,
                }
            }
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
                parent: Some(parent),
                ..
            }) if !self.gate.is_shut(*parent) => {
                let parent = *parent;
                return self.shut_gate(world, parent);
            }
            Some(Control::Create {
                id: Some(id),
                created,
                name,
                ..
            }) => self
                .store
                .create_as(*id, *created, unpadded(name))
                .map(|()| Some(*id)),
            Some(Control::Create {
                parent,
                created,
                name,
                ..
            }) => self
                .store
                .create(*parent, *created, unpadded(name))
                .map(Some),
            Some(Control::Delete { .. }) if self.forget_held => Err(EIO),
            // One deletion after the other: an earlier one may have come back with a heal.
            Some(Control::Delete { .. }) if self.forgetting.is_some() => return,
            Some(Control::Delete { id }) => {
                let id = *id;
                self.store.delete(id).map(|()| {
                    self.deleting = Some(id);
                    None
                })
            }
            Some(Control::Name { id, name }) => {
                self.store.rename(*id, unpadded(name)).map(|()| None)
            }
            Some(Control::LoseAll) => {
                world.forget_all();
                self.store.record_all_lost().map(|()| None)
            }
            Some(Control::Resize { origin, store }) => {
                self.store.resize(*origin, *store).map(|()| None)
            }
        };
        match result {
            Ok(id) => {
                if let Some(id) = id {
                    self.cuts += 1;
                    world.cut(id);
                }
                if let Some(Control::Resize { .. }) = self.control {
                    self.leave_full(world);
                }
                self.parting = matches!(self.control, Some(Control::LoseAll));
                self.end_control();
                self.control_id = id;
                self.collecting.control = true;
                self.collecting.busy = true;
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                world.later(Timer::Retry, NO_MEMORY_MS);
            }
            Err(e) => {
                let parting = matches!(self.control, Some(Control::LoseAll));
                self.end_control();
                self.store_error(world, e);
                // A store that did not take this is not one whose snapshots are right: whatever it
                // takes next must say so.
                if parting && !matches!(self.mode, Mode::Fail | Mode::Ro) {
                    self.fail(world, e, false);
                }
                match parting {
                    true => self.part(world, Err(e)),
                    false => world.control_done(Err(e)),
                }
            }
        }
    }

    /// The loss of all that the origin holds is recorded, or cannot be. Then the origin may be
    /// written by others, and what becomes of the store must say so if it can.
    pub(super) fn part(&mut self, world: &mut W, result: Result) {
        if result.is_err() {
            self.expose();
        }
        self.parted = Some((result, world.ask(Users::OriginReads)));
        self.look_again = true;
    }

    /// Tells the end of a [`Control::LoseAll`] when nobody is left who still reads the origin for
    /// a snapshot.
    pub(super) fn end_parting(&mut self, world: &mut W) {
        let Some((result, since)) = self.parted else {
            return;
        };
        let reads = |slot: &Slot<W::Bios>| {
            slot.state == State::Moving && matches!(slot.from, Source::Origin)
        };
        if !self.slots.any(reads) && world.passed(Users::OriginReads, since) {
            self.parted = None;
            world.control_done(result.map(|()| None));
        } else {
            // Whoever ends wakes us; should nobody, this does.
            world.later(Timer::Retry, NO_MEMORY_MS);
        }
    }

    /// The command has been carried out, or refused: whoever it held off goes on.
    fn end_control(&mut self) {
        self.control = None;
        self.gate.open(&mut self.retry);
    }

    /// Room was made, or found.
    pub(super) fn leave_full(&mut self, world: &mut W) {
        if self.mode == Mode::Full {
            self.set_mode(world, Mode::Rw, ENOSPC);
        }
    }

    /// Holds off writes of `parent`, and waits for those under way.
    fn shut_gate(&mut self, world: &mut W, parent: SnapId) {
        let store = &*self.store;
        let who = Who::Snapshot(parent);
        if !self.gate.is_for(parent) {
            // The parent will not be alone with what it has.
            world.forget_all();
            let since = world.ask(Users::StoreChunks);
            self.gate.begin(parent, since);
            self.look_again = true;
        }
        let own = |slot: &Slot<W::Bios>| {
            let mut ids = slot.ids();
            !slot.for_origin && ids.any(|ids| store.check_conflict(ids, who))
        };
        if !self.slots.any(own) && world.passed(Users::StoreChunks, self.gate.since()) {
            self.gate.shut();
            self.look_again = true;
        }
    }

    /// The deletion that a command asked for is durable: the id leaves the live ones.
    pub(super) fn forget_deleted(&mut self, world: &mut W) {
        let Some((id, told)) = self.forgetting else {
            return;
        };
        if self.forget_held && self.mode != Mode::Fail {
            return;
        }
        self.forget_held = false;
        let result = match (self.mode, self.store.has_room(1)) {
            (Mode::Fail, _) => Err(EIO),
            (_, true) => self.store.forget(id),
            (_, false) => Err(EAGAIN),
        };
        match result {
            Ok(()) => {
                self.collecting.busy = true;
                self.sweeping = true;
                self.starved |= self.mode == Mode::Full;
                if !told {
                    // Nobody knew that it goes: it may have been opened meanwhile.
                    world.forget_all();
                }
                world.gone(id);
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                return world.later(Timer::Retry, NO_MEMORY_MS);
            }
            // It is deleted on disk, and is to be here as well.
            Err(_) if self.mode == Mode::Fail => self.lapsed = Some((id, true)),
            Err(e) => {
                self.store_error(world, e);
                self.forget_held = true;
                self.rest(world);
            }
        }
        self.forgetting = self.forget_held.then_some((id, false));
        if told {
            world.control_done(result.map(|()| None));
        }
    }

    /// Deletes a snapshot that was made after all, though its making was said to have failed; or
    /// whose deletion is in the batch, though that was said to have failed.
    pub(super) fn withdraw_orphan(&mut self, world: &mut W) {
        let Some(id) = self.orphan else { return };
        let held = self.forget_held || self.is_withdrawing();
        if self.mode == Mode::Fail || self.forgetting.is_some() || held {
            return;
        }
        let result = match self.store.has_room(1) {
            true => self.store.delete(id),
            false => Err(EAGAIN),
        };
        match result {
            // A deletion that was in doubt itself is in core, and on its way to the log or there.
            Err(e) if e == ENOENT && !self.store.has_unsealed() => {
                if self.writing.busy {
                    self.writing.orphan = Some(id);
                    return;
                }
                self.orphan = None;
                self.forgetting = Some((id, false));
                self.forget_deleted(world);
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                world.later(Timer::Retry, NO_MEMORY_MS);
            }
            // Tried again later.
            Err(e) if e != ENOENT => {
                self.store_error(world, e);
                self.forget_held = true;
                self.rest(world);
            }
            _ => {
                self.collecting.orphan = Some(id);
                self.collecting.busy = true;
            }
        }
    }

    /// Whether the deletion of the orphan is on its way to the log.
    fn is_withdrawing(&self) -> bool {
        self.collecting.orphan.is_some() || self.writing.orphan.is_some()
    }

    pub(super) fn set_mode(&mut self, world: &mut W, mode: Mode, why: Error) {
        if self.mode != mode && self.mode != Mode::Fail && self.mode != Mode::Ro {
            self.mode = mode;
            self.starved |= mode == Mode::Full && self.sweeping;
            world.mode_changed(mode, why);
        }
    }

    /// A store operation failed.
    pub(super) fn store_error(&mut self, world: &mut W, e: Error) {
        self.counts.meta_errors += 1;
        if self.store.is_poisoned() {
            self.fail(world, e, false);
        }
    }
}

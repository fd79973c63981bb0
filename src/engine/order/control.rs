// SPDX-License-Identifier: GPL-2.0

//! Commands, and what an error of the store means.

use super::{slots::Slot, unpadded, Control, Machine, Mode, Users, World, NO_MEMORY_MS};
use crate::store::{SnapId, Who};
use kernel::prelude::*;

impl<W: World> Machine<W> {
    /// Carries out the change that was asked for, as soon as the batch has room for it.
    pub(super) fn start_control(&mut self, world: &mut W) {
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
                parent: Some(parent),
                ..
            }) if !self.gate.is_shut(*parent) => {
                let parent = *parent;
                return self.shut_gate(world, parent);
            }
            Some(Control::Create {
                parent,
                created,
                name,
            }) => self
                .store
                .create(*parent, *created, unpadded(name))
                .map(Some),
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
            Some(Control::LoseAll) => self.store.record_all_lost().map(|()| None),
            Some(Control::Resize { origin, store }) => {
                self.store.resize(*origin, *store).map(|()| None)
            }
        };
        match result {
            Ok(id) => {
                if let Some(id) = id {
                    world.cut(id);
                }
                if let Some(Control::Resize { .. }) = self.control {
                    self.leave_full(world);
                }
                self.end_control();
                self.control_id = id;
                self.collecting.control = true;
                self.collecting.busy = true;
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                world.later(NO_MEMORY_MS);
            }
            Err(e) => {
                self.end_control();
                self.store_error(world, e);
                world.control_done(Err(e));
            }
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
        let result = match (self.mode, self.store.has_room(1)) {
            (Mode::Fail, _) => Err(EIO),
            (_, true) => self.store.forget(id),
            (_, false) => Err(EAGAIN),
        };
        match result {
            Ok(()) => {
                self.collecting.busy = true;
                self.sweeping = true;
                world.gone(id);
            }
            Err(e) if e == EAGAIN || e == ENOMEM => {
                self.checkpoint_forced |= e == EAGAIN;
                return world.later(NO_MEMORY_MS);
            }
            Err(e) => self.store_error(world, e),
        }
        self.forgetting = None;
        if told {
            world.control_done(result.map(|()| None));
        }
    }

    pub(super) fn set_mode(&mut self, world: &mut W, mode: Mode, why: Error) {
        if self.mode != mode && self.mode != Mode::Fail && self.mode != Mode::Ro {
            self.mode = mode;
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

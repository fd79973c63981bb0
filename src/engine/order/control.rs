// SPDX-License-Identifier: GPL-2.0

//! Commands, and what an error of the store means.

use super::{unpadded, Control, Machine, Mode, World, NO_MEMORY_MS};
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

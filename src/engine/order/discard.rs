// SPDX-License-Identifier: GPL-2.0

//! Bios that only take away: discards, and writes of zeroes.
//!
//! A discard of the origin is passed down when no live id needs the chunk any more, under the
//! same conditions as a write. Otherwise it ends without effect, or is preserved like a write if
//! that is wanted. A write of zeroes to the origin is a write.
//!
//! Of a snapshot, a whole chunk that becomes zero needs no copy and no chunk of the store: one
//! record says it. A discard makes such a record only where that gives a chunk back.
//!
//! A discard is a hint: it fails only where the device does not answer at all, and nothing is
//! lost, and no space taken, because it could not be carried out.

use super::{Looked, Machine, Mode, Op, Request, World};
use crate::store::{Chunk, Found, SnapId, Value};
use kernel::prelude::*;

use super::Fifo;

impl<W: World> Machine<W> {
    /// Whether discards of the origin are preserved from now on.
    pub(crate) fn set_discard_copy(&mut self, copy: bool) {
        self.discard_copy = copy;
    }

    /// Ends a bio that cannot be carried out: a discard without effect, all else with an error.
    pub(super) fn refuse(&mut self, world: &mut W, bio: W::Bio, e: Error) {
        let hint = world.request(&bio).op == Op::Discard;
        world.end(bio, if hint { Ok(()) } else { Err(e) });
    }

    /// A discard of the origin.
    pub(super) fn look_origin_discard(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        request: Request,
    ) -> Looked<W::Bio> {
        if self.discard_copy || self.mode == Mode::Fail {
            return self.look_origin_write(world, bio, request);
        }
        // After a copy that is under way it may have an effect.
        if let Some(n) = self.slots.find(request.chunk, |_| true) {
            self.wait_for_slot(n, bio);
            return Looked::Gone;
        }
        match self.is_needed(request.chunk) {
            Ok(false) => self.release(world, bio, request.chunk),
            Ok(true) => world.end(bio, Ok(())),
            Err(e) if e == EAGAIN || e == ENOMEM => return Looked::Stalled(bio, e),
            Err(e) => {
                self.store_error(world, e);
                self.refuse(world, bio, e);
            }
        }
        Looked::Gone
    }

    /// Whether some live id shares the origin's content of `chunk`.
    fn is_needed(&mut self, chunk: Chunk) -> Result<bool> {
        self.store.reset_query(chunk)?;
        Ok(self.store.query_next_remap()?.is_some())
    }

    /// Carries out a discard or a write of zeroes of a snapshot, if that can be done by a record
    /// or by nothing. Otherwise it comes back, and is a write.
    pub(super) fn look_zero(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        request: Request,
        id: SnapId,
    ) -> Result<Looked<W::Bio>, W::Bio> {
        let Request {
            op, chunk, whole, ..
        } = request;
        match op {
            Op::Discard if !whole => {
                world.end(bio, Ok(()));
                return Ok(Looked::Gone);
            }
            Op::Discard | Op::Zero => (),
            _ => return Err(bio),
        }
        let found = match self.store.find(chunk, id) {
            Ok(found) => found,
            Err(e) => {
                self.store_error(world, e);
                world.end(bio, Err(EIO));
                return Ok(Looked::Gone);
            }
        };
        match (op, found) {
            (Op::Discard, Found::Private(Value::Chunk(_))) => (),
            (Op::Zero, Found::Shared(Value::Zero) | Found::Private(Value::Zero)) => {
                self.end_recorded(world, bio, request);
                return Ok(Looked::Gone);
            }
            (Op::Zero, _) if whole => (),
            (Op::Zero, _) => return Err(bio),
            _ => {
                world.end(bio, Ok(()));
                return Ok(Looked::Gone);
            }
        }
        if !self.store.has_room(1) {
            let busy = self.store.has_unsealed() || self.writing.busy;
            return Ok(match busy {
                true => Looked::BatchFull(bio),
                false => Looked::Stalled(bio, EAGAIN),
            });
        }
        match self.store.record_zero(chunk, id) {
            Ok(()) => {
                self.note_record(world, chunk);
                if let Found::Shared(Value::Chunk(dest)) = found {
                    // Another may be alone with it from now on.
                    self.collecting.unshared.note(dest.0);
                }
                self.end_recorded(world, bio, request);
            }
            Err(e) if e == EAGAIN || e == ENOMEM => return Ok(Looked::Stalled(bio, e)),
            Err(e) => {
                if e == ENOSPC {
                    self.set_mode(world, Mode::Full, e);
                } else {
                    self.store_error(world, e);
                }
                self.refuse(world, bio, if e == ENOSPC { e } else { EIO });
            }
        }
        Ok(Looked::Gone)
    }

    /// Ends a bio whose chunk is as it should be, by a record that may not be durable yet.
    fn end_recorded(&mut self, world: &mut W, bio: W::Bio, Request { chunk, fua, .. }: Request) {
        if fua && self.collecting.recorded.holds(chunk.0) {
            self.collecting.ends.push(bio);
        } else if fua && self.writing.recorded.holds(chunk.0) {
            self.writing.ends.push(bio);
        } else {
            world.end(bio, Ok(()));
        }
    }
}

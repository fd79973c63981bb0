// SPDX-License-Identifier: GPL-2.0

//! Looking at bios: what is to become of a read, a write, a flush.
//!
//! What is found about a chunk of a snapshot is [learned](super::Known), for others to come:
//!
//! - Where it is read holds until a record about the chunk is made, all content is lost, or the
//!   mode becomes `fail`.
//! - That it may be written in place holds until then or until a snapshot of the snapshot is to
//!   be cut; and it is learned only when no wait applies to the write that was looked at.

use super::{
    Fifo, Looked, Machine, Mode, Op, Place, Request, Timer, World, MAX_STALLS, NO_MEMORY_MS,
};
use crate::store::{Chunk, Found, Remap, SnapId, Source, Value, Who, Writeable, MAX_DESTS};
use kernel::prelude::*;

/// Chunks that a read of a snapshot learns of.
const AHEAD: u64 = 32;

impl<W: World> Machine<W> {
    pub(super) fn look_read(&mut self, world: &mut W, bio: W::Bio) {
        let Request { who, chunk, .. } = world.request(&bio);
        let Who::Snapshot(id) = who else {
            return world.to_origin(bio);
        };
        if self.mode == Mode::Fail {
            return world.end(bio, Err(EIO));
        }
        // The chunks behind it are in the same leaf, and may be read next. An error will come again.
        let _ = self.store.look_ahead(chunk, id, AHEAD, &mut |chunk, dest| {
            world.learn(chunk, id, dest.map_or(Place::Origin, Place::Store));
        });
        match self.store.find(chunk, id) {
            Ok(Found::NotRemapped) => {
                world.learn(chunk, id, Place::Origin);
                world.read_origin(bio);
            }
            Ok(Found::Shared(value) | Found::Private(value)) => match value {
                Value::Chunk(dest) => {
                    world.learn(chunk, id, Place::Store(dest));
                    world.to_store(bio, dest);
                }
                Value::Zero => world.end_zeroed(bio),
                Value::Lost => world.end(bio, Err(EIO)),
            },
            Err(e) => {
                self.store_error(world, e);
                world.end(bio, Err(EIO));
            }
        }
    }

    pub(super) fn look_writes(&mut self, world: &mut W) {
        while self.slots.has_free() {
            let Some(bio) = self.retry.pop().or_else(|| self.writes.pop()) else {
                return;
            };
            match self.look_write(world, bio) {
                Looked::Gone => (),
                Looked::Stalled(bio, why) => {
                    self.retry.push_front(bio);
                    return self.stall(world, why);
                }
                Looked::BatchFull(bio) => {
                    self.retry.push_front(bio);
                    self.batch_full = true;
                    return;
                }
            }
        }
    }

    /// A write must wait until memory is found, or a commit or checkpoint has made room.
    pub(super) fn stall(&mut self, world: &mut W, why: Error) {
        world.later(Timer::Retry, NO_MEMORY_MS);
        if why == ENOMEM {
            return;
        }
        // One for each time that the timer runs: what is missing may be no checkpoint's business.
        self.checkpoint_forced |= !core::mem::replace(&mut self.stalled, true);
        // As long as something is under way it may bring what is missing.
        if self.slots.used() > 0
            || self.writing.busy
            || self.checkpoint_out
            || self.freed.is_some()
            || self.store.has_unsealed()
        {
            return;
        }
        self.stalls += 1;
        if self.stalls > MAX_STALLS {
            self.stalls = 0;
            self.fail(world, ENOSPC, false);
        }
    }

    pub(super) fn look_write(&mut self, world: &mut W, bio: W::Bio) -> Looked<W::Bio> {
        let request = world.request(&bio);
        match (request.op, request.who) {
            (Op::Flush, _) => self.look_flush(world, bio),
            (Op::Discard, Who::Origin) => return self.look_origin_discard(world, bio, request),
            (_, Who::Origin) => return self.look_origin_write(world, bio, request),
            (_, Who::Snapshot(id)) => return self.look_snapshot_write(world, bio, request, id),
        }
        Looked::Gone
    }

    /// A snapshot's flush: what it has written is flushed, and the records that lead to it are
    /// in the log.
    pub(super) fn look_flush(&mut self, world: &mut W, bio: W::Bio) {
        if self.mode == Mode::Fail {
            world.end(bio, Err(EIO));
        } else if self.store.has_unsealed() {
            // The log write's own flush comes after all that ended before it was issued.
            self.collecting.flushes.push(bio);
        } else if self.writing.busy {
            self.writing.late_flushes.push(bio);
        } else {
            world.flush_store(bio);
        }
    }

    pub(super) fn look_origin_write(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        Request { op, chunk, .. }: Request,
    ) -> Looked<W::Bio> {
        // A discard is a hint: nothing is lost for the sake of it.
        let keep = self.preserve_on_error || op == Op::Discard;
        if self.mode == Mode::Fail {
            self.look_unprotected(world, bio);
            return Looked::Gone;
        }
        if let Some(n) = self.slots.find(chunk, |_| true) {
            self.wait_for_slot(n, bio);
            return Looked::Gone;
        }
        let mut remaps = [const { None }; MAX_DESTS];
        match self.plan_origin_copy(world, chunk, keep, &mut remaps) {
            Ok(0) => {
                self.release(world, bio, chunk);
                Looked::Gone
            }
            Ok(_) => {
                self.start_copy(world, bio, chunk, Source::Origin, true, remaps);
                Looked::Gone
            }
            Err(e) => {
                for remap in remaps.iter_mut().filter_map(Option::take) {
                    self.store.give_back(remap);
                }
                if e == EAGAIN || e == ENOMEM {
                    return Looked::Stalled(bio, e);
                }
                if e == ENOSPC && keep {
                    self.refuse(world, bio, e);
                    return Looked::Gone;
                }
                if self.is_unread(e) {
                    return self.look_unread(world, bio, chunk, keep);
                }
                self.fail(world, e, false);
                self.look_unprotected(world, bio);
                Looked::Gone
            }
        }
    }

    /// The seed's loop: asks the store again and again what is left to remap, and takes a
    /// destination for each answer, until nothing is left or the job is full. When there is none,
    /// content is lost, unless it is to be kept.
    pub(super) fn plan_origin_copy(
        &mut self,
        world: &mut W,
        chunk: Chunk,
        keep: bool,
        remaps: &mut [Option<Remap>; MAX_DESTS],
    ) -> Result<usize> {
        self.store.reset_query(chunk)?;
        let mut n = 0;
        while n < MAX_DESTS {
            let Some(ids) = self.store.query_next_remap()? else {
                break;
            };
            match self.store.add_next_remap() {
                Ok(remap) => {
                    remaps[n] = Some(remap);
                    n += 1;
                    if self.mode == Mode::Full {
                        self.set_mode(world, Mode::Rw, ENOSPC);
                    }
                }
                Err(e) if e == ENOSPC => {
                    self.set_mode(world, Mode::Full, ENOSPC);
                    if keep {
                        return Err(e);
                    }
                    self.lose(world, chunk, ids)?;
                    // The answers so far are about a tree that has just changed.
                    self.store.reset_query(chunk)?;
                    for remap in remaps.iter_mut().filter_map(Option::take) {
                        self.store.give_back(remap);
                    }
                    n = 0;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(n)
    }

    /// Nothing is left to remap: the write goes on, once the records that say so are durable and
    /// the reads that did not see them have ended.
    pub(super) fn release(&mut self, world: &mut W, bio: W::Bio, chunk: Chunk) {
        let held = self
            .collecting
            .recorded
            .hold_origin(chunk.0, bio, self.cuts)
            .and_then(|bio| self.writing.recorded.hold_origin(chunk.0, bio, self.cuts))
            .and_then(|bio| self.settling.hold_origin(chunk.0, bio, self.cuts));
        let Some(bio) = held else { return };
        world.preserved(chunk);
        world.to_origin(bio);
    }

    pub(super) fn look_snapshot_write(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        request: Request,
        id: SnapId,
    ) -> Looked<W::Bio> {
        let Request {
            who, chunk, whole, ..
        } = request;
        if self.mode == Mode::Fail || self.mode == Mode::Ro {
            world.end(bio, Err(EIO));
            return Looked::Gone;
        }
        let bio = match self.gate.hold(id, bio) {
            Some(bio) => bio,
            None => return Looked::Gone,
        };
        let store = &*self.store;
        let conflict = self.slots.find(chunk, |slot| {
            let mut ids = slot.ids();
            ids.any(|ids| store.check_conflict(ids, who))
        });
        if let Some(n) = conflict {
            self.wait_for_slot(n, bio);
            return Looked::Gone;
        }
        let bio = match self.look_zero(world, bio, request, id) {
            Ok(looked) => return looked,
            Err(bio) => bio,
        };
        match self.store.make_chunk_writeable(chunk, id) {
            Ok(Writeable::InPlace(dest)) => {
                for stage in [&mut self.collecting, &mut self.writing] {
                    if request.fua && stage.recorded.holds(chunk.0) {
                        stage.recorded.retry.push(bio);
                        return Looked::Gone;
                    }
                }
                let held = self
                    .collecting
                    .unshared
                    .hold(dest.0, bio)
                    .and_then(|bio| self.writing.unshared.hold(dest.0, bio))
                    .and_then(|bio| self.unsharing.hold(dest.0, bio));
                let Some(bio) = held else {
                    return Looked::Gone;
                };
                // With a record on its way, one with FUA would have to wait.
                let stages = [&self.collecting, &self.writing];
                if !stages.iter().any(|stage| stage.recorded.holds(chunk.0)) {
                    world.learn(chunk, id, Place::Own(dest));
                }
                world.to_store(bio, dest);
            }
            Ok(Writeable::Copy { from, remap }) => {
                if from == Source::Lost && !whole {
                    self.store.give_back(remap);
                    world.end(bio, Err(EIO));
                } else if whole {
                    self.start_overwrite(world, bio, chunk, from, remap);
                } else {
                    let mut remaps = [const { None }; MAX_DESTS];
                    remaps[0] = Some(remap);
                    self.start_copy(world, bio, chunk, from, false, remaps);
                }
            }
            Err(e) if e == EAGAIN || e == ENOMEM => return Looked::Stalled(bio, e),
            Err(e) => {
                if e == ENOSPC {
                    self.set_mode(world, Mode::Full, e);
                } else {
                    self.store_error(world, e);
                }
                world.end(bio, Err(if e == ENOSPC { e } else { EIO }));
            }
        }
        Looked::Gone
    }

    pub(super) fn wait_for_slot(&mut self, n: usize, bio: W::Bio) {
        if let Some(slot) = self.slots.get(n) {
            slot.waiters.push(bio);
        }
    }
}

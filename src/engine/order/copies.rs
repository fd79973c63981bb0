// SPDX-License-Identifier: GPL-2.0

//! Pending copies, from the slot to the record.

use super::{slots, Copied, Fifo, Machine, Mode, Op, Request, Timer, Users, World, NO_MEMORY_MS};
use crate::store::{Chunk, Descriptor, Dest, Remap, Source, Who, MAX_DESTS};
use kernel::prelude::*;

impl<W: World> Machine<W> {
    pub(super) fn start_copy(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        chunk: Chunk,
        from: Source,
        for_origin: bool,
        remaps: [Option<Remap>; MAX_DESTS],
    ) {
        let hint = world.request(&bio).op == Op::Discard;
        let Some((n, slot)) = self.take_slot(chunk, from, for_origin, remaps) else {
            return self.refuse(world, bio, EIO);
        };
        slot.hint = hint;
        slot.waiters.push(bio);
        slot.generation = world.enter(Users::StoreChunks);
        let (dests, count) = slot.dests();
        world.copy(n, chunk, from, &dests[..count]);
    }

    /// The bio itself brings all the data: no copy.
    pub(super) fn start_overwrite(
        &mut self,
        world: &mut W,
        bio: W::Bio,
        chunk: Chunk,
        from: Source,
        remap: Remap,
    ) {
        let dest = remap.dest;
        let mut remaps = [const { None }; MAX_DESTS];
        remaps[0] = Some(remap);
        match self.take_slot(chunk, from, false, remaps) {
            Some((n, _)) => world.overwrite(n, bio, dest),
            None => world.end(bio, Err(EIO)),
        }
    }

    /// Takes the slot that [`look_writes`](Self::look_writes) made sure of.
    pub(super) fn take_slot(
        &mut self,
        chunk: Chunk,
        from: Source,
        for_origin: bool,
        mut remaps: [Option<Remap>; MAX_DESTS],
    ) -> Option<(usize, &mut slots::Slot<W::Bios>)> {
        let Some(n) = self.slots.take(chunk) else {
            for remap in remaps.iter_mut().filter_map(Option::take) {
                self.store.give_back(remap);
            }
            return None;
        };
        let slot = self.slots.get(n)?;
        slot.cuts = self.cuts;
        slot.from = from;
        slot.for_origin = for_origin;
        slot.full = remaps.iter().all(Option::is_some);
        slot.remaps = remaps;
        Some((n, slot))
    }

    /// The data of a slot is at its destinations, or is not. Answers whether the bio that caused
    /// it can go on.
    pub(super) fn moved(&mut self, n: usize, copied: Copied) -> bool {
        self.slots.set_ready(n);
        let Some(slot) = self.slots.get(n) else {
            return true;
        };
        let failed = match copied {
            Copied::Good => 0,
            Copied::ReadError | Copied::Gone => {
                self.counts.read_errors += 1;
                u32::MAX
            }
            Copied::WriteError(bits) => {
                self.counts.write_errors += 1;
                bits
            }
        };
        if failed == 0 {
            return true;
        }
        // No trace of what failed: a loss is recorded, or the bio is refused. What cannot be
        // read is lost under both policies, since the overwrite heals it; unless there is nothing left
        // that could be overwritten.
        let lose = slot.for_origin
            && !slot.hint
            && match copied {
                Copied::Gone => false,
                Copied::ReadError => true,
                _ => !self.preserve_on_error,
            };
        let mut refused = false;
        for bit in 0..MAX_DESTS {
            let Some(slot) = self.slots.get(n) else { break };
            if (failed >> bit) & 1 == 0 {
                continue;
            }
            if let Some(remap) = slot.remaps[bit].take() {
                refused |= !lose;
                slot.dropped |= !lose;
                slot.lost[bit] = lose.then_some(remap.ids);
                match copied {
                    Copied::WriteError(_) => self.store.give_back_bad(remap),
                    _ => self.store.give_back(remap),
                }
            }
        }
        !refused
    }

    /// Records the slots whose data is there, as long as the batch has room.
    pub(super) fn record_ready(&mut self, world: &mut W) {
        while let Some(n) = self.slots.ready() {
            if !self.record_slot(world, n) {
                self.checkpoint_forced = true;
                return;
            }
        }
    }

    /// Enters the remaps of a slot and sends its bios on. `false` if there was no room.
    pub(super) fn record_slot(&mut self, world: &mut W, n: usize) -> bool {
        let Some(slot) = self.slots.get(n) else {
            return true;
        };
        let chunk = slot.chunk;
        let lose = slot.for_origin && !slot.hint && !self.preserve_on_error;
        // An overwrite brought its own data.
        let copied = slot.done.is_empty();
        let count = slot.remaps.iter().flatten().count();
        // What a snapshot's write had copied is its own when that is recorded.
        let mut copies = slot.remaps.iter().flatten();
        let own = copies.next().filter(|_| copied && !slot.for_origin);
        let own = own.map(|remap| remap.dest);
        if self.mode != Mode::Fail && !self.store.has_room(MAX_DESTS) {
            return false;
        }
        let protects = slot.for_origin && !slot.hint;
        let mut error = None;
        let mut again = None;
        for bit in 0..MAX_DESTS {
            let Some(slot) = self.slots.get(n) else { break };
            let (remap, lost) = (slot.remaps[bit].take(), slot.lost[bit].take());
            let from = slot.from;
            let result = match (&remap, lost) {
                (None, None) => continue,
                _ if self.mode == Mode::Fail => Err(EIO),
                (Some(remap), _) => self.store.record(remap),
                (None, Some(ids)) => self.lose(world, chunk, ids),
            };
            match (result, remap) {
                (Ok(()), None) => (),
                (Ok(()), Some(_)) => {
                    self.note_record(world, chunk);
                    if let Source::Store(dest) = from {
                        self.collecting.unshared.note(dest.0);
                    }
                    self.counts.copied_chunks += u64::from(copied);
                }
                (Err(e), remap) if e == EAGAIN || e == ENOMEM => {
                    if let Some(slot) = self.slots.get(n) {
                        slot.remaps[bit] = remap;
                        slot.lost[bit] = lost;
                    }
                    world.later(Timer::Retry, NO_MEMORY_MS);
                    return false;
                }
                (Err(e), remap) if protects && self.mode != Mode::Fail && self.is_unread(e) => {
                    if let Some(remap) = remap {
                        self.store.give_back(remap);
                    }
                    error = Some(e);
                    self.unread_record(world, n, lose, &mut again);
                }
                // What could not be read is not worth all that there is.
                (Err(e), None) if e == ENOSPC && self.preserve_on_error => {
                    self.set_mode(world, Mode::Full, e);
                    error = Some(e);
                    if let Some(slot) = self.slots.get(n) {
                        slot.dropped = true;
                    }
                }
                (Err(e), Some(remap)) => {
                    // Not recorded: as if the copy had failed.
                    let ids = remap.ids;
                    self.store.give_back(remap);
                    self.store_error(world, e);
                    if e == ENOSPC {
                        self.set_mode(world, Mode::Full, e);
                    }
                    error = Some(e);
                    if self.mode == Mode::Fail || !lose {
                        if let Some(slot) = self.slots.get(n) {
                            slot.dropped = true;
                        }
                        continue;
                    }
                    match self.lose(world, chunk, ids) {
                        Ok(()) => (),
                        Err(e) if e == EAGAIN || e == ENOMEM => {
                            if let Some(slot) = self.slots.get(n) {
                                slot.lost[bit] = Some(ids);
                            }
                            world.later(Timer::Retry, NO_MEMORY_MS);
                            return false;
                        }
                        Err(e) if self.is_unread(e) => {
                            self.unread_record(world, n, lose, &mut again);
                        }
                        Err(e) => self.fail(world, e, false),
                    }
                }
                // The writes that wait are looked at again, whatever comes.
                (Err(_), None) if self.mode == Mode::Fail => (),
                (Err(e), None) => self.fail(world, e, false),
            }
        }
        if again == Some(true) && self.mode != Mode::Fail {
            self.park(world, n);
        }
        if let (Some(e), false, true) = (error, lose || self.mode == Mode::Fail, copied) {
            // To copy again would only fail again. The others may need no copy.
            if let Some(bio) = self.slots.get(n).and_then(|slot| slot.waiters.pop()) {
                self.refuse(world, bio, if e == ENOSPC { e } else { EIO });
            }
        }
        if let (Some(dest), None) = (own, error) {
            self.write_own(world, n, dest);
        }
        self.finish_slot(world, n, count, error);
        true
    }

    /// A record of slot `n` cannot be made, since metadata cannot be read. `again` says what became of
    /// an earlier one of the slot: whether the writes that wait are tried again later.
    fn unread_record(&mut self, world: &mut W, n: usize, lose: bool, again: &mut Option<bool>) {
        self.counts.meta_errors += 1;
        if let Some(slot) = self.slots.get(n) {
            slot.dropped = true;
        }
        if again.is_some() {
            return;
        }
        let retried = self.retries_record(world, n);
        *again = Some(retried);
        if retried || !lose {
            return;
        }
        match self.lose_all(world) {
            Ok(()) => (),
            // The writes come back for it.
            Err(e) if e == EAGAIN || e == ENOMEM => *again = Some(true),
            Err(e) => self.fail(world, e, false),
        }
    }

    /// Records that `ids` have lost `chunk`; when there is no more room for such records, that
    /// all have lost what they do not have a record for, if that may be.
    pub(super) fn lose(&mut self, world: &mut W, chunk: Chunk, ids: Descriptor) -> Result {
        match self.store.record_lost(chunk, ids) {
            Ok(()) => self.note_record(world, chunk),
            Err(e) if e == ENOSPC && !self.preserve_on_error => return self.lose_all(world),
            Err(e) => return Err(e),
        }
        self.counts.lost += 1;
        Ok(())
    }

    /// The batch has a record of this chunk.
    pub(super) fn note_record(&mut self, world: &mut W, chunk: Chunk) {
        world.forget(chunk);
        self.collecting.recorded.note(chunk.0);
        self.collecting.busy = true;
    }

    /// The write of a snapshot that a copy was made for goes to it, unless there is more to look at.
    fn write_own(&mut self, world: &mut W, n: usize, dest: Dest) {
        if self.mode == Mode::Fail || !self.gate.is_open() {
            return;
        }
        let Some(slot) = self.slots.get(n) else {
            return;
        };
        let Some(bio) = slot.waiters.pop() else {
            return;
        };
        let Request { who, fua, .. } = world.request(&bio);
        match who {
            Who::Snapshot(id) if !fua && self.store.is_live(id) => world.to_store(bio, dest),
            _ => slot.waiters.push_front(bio),
        }
    }

    /// Frees a slot whose remaps are settled, and sends its bios on.
    pub(super) fn finish_slot(
        &mut self,
        world: &mut W,
        n: usize,
        count: usize,
        error: Option<Error>,
    ) {
        // In mode `fail` no batch is written any more: nobody may wait for one.
        let error = error.or((self.mode == Mode::Fail).then_some(EIO));
        let Some(slot) = self.slots.get(n) else {
            return;
        };
        while let Some(bio) = slot.done.pop() {
            let fua = world.request(&bio).fua;
            match error {
                Some(e) => world.end(bio, Err(e)),
                None if fua => self.collecting.ends.push(bio),
                None => world.end(bio, Ok(())),
            }
        }
        // A write that needs only this round waits for the batch, and so has nothing left to
        // preserve then if it is one of the origin; one that may need a further round, or does not
        // depend on the batch, is looked at again at once.
        let complete = count > 0 && !slot.full && !slot.dropped;
        if slot.for_origin && complete && error.is_none() {
            let recorded = &mut self.collecting.recorded;
            while let Some(bio) = slot.waiters.pop() {
                match world.request(&bio).who {
                    Who::Origin => recorded.let_wait(bio, slot.cuts),
                    Who::Snapshot(_) => recorded.retry.push(bio),
                }
            }
        } else {
            self.retry.append(&mut slot.waiters);
        }
        self.slots.put(n);
    }
}

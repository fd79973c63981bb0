// SPDX-License-Identifier: GPL-2.0

//! The pending copies: a fixed number of them, so that a copy never waits for memory and there
//! is a bound on those in flight.

use super::{
    grace::Generation,
    Fifo, //
};
use crate::store::{Chunk, Descriptor, Dest, Remap, Source, MAX_DESTS};
use kernel::prelude::*;

/// Copies that may be in flight at once.
pub(crate) const SLOTS: usize = 128;
const BUCKETS: usize = 256;
const NONE: u8 = u8::MAX;
const _: () = assert!(SLOTS <= NONE as usize);

/// Where a pending copy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not in use.
    Free,
    /// kcopyd, or the bio that overwrites the whole chunk, is at work.
    Moving,
    /// The data is there; it waits to be recorded.
    Ready,
}

/// One pending copy.
pub(super) struct Slot<Q> {
    pub(super) state: State,
    pub(super) chunk: Chunk,
    pub(super) from: Source,
    /// Made for an origin write (its remaps are lost, not refused, when the copy fails).
    pub(super) for_origin: bool,
    /// Made for a discard: nothing is lost for the sake of it.
    pub(super) hint: bool,
    /// What is recorded when the data is there.
    pub(super) remaps: [Option<Remap>; MAX_DESTS],
    /// Sets of ids whose content is to be recorded lost, because the copy failed.
    pub(super) lost: [Option<Descriptor>; MAX_DESTS],
    /// There was no room for more when it was planned: who waits must look again.
    pub(super) full: bool,
    /// Content that was to be copied is neither recorded nor lost: who waits must look again.
    pub(super) dropped: bool,
    /// The origin was written while it is copied: what arrives is not the old content.
    pub(super) overtaken: bool,
    /// The count of snapshots made when it was taken.
    pub(super) cuts: u64,
    /// Bios that conflict with it; the one that caused it is the first.
    pub(super) waiters: Q,
    /// The bio whose own data was written, to be ended after the record.
    pub(super) done: Q,
    /// Counts among the users of store chunks, for as long as the copy may read one.
    pub(super) generation: Generation,
    next: u8,
    /// The slot that became ready after it.
    next_ready: u8,
}

impl<Q> Slot<Q> {
    /// The ids that the copy is for, or whose loss will be recorded.
    pub(super) fn ids(&self) -> impl Iterator<Item = Descriptor> + '_ {
        let copied = self.remaps.iter().flatten().map(|r| r.ids);
        // Spelled out, since pin-init has a `chain` too.
        Iterator::chain(copied, self.lost.iter().filter_map(|lost| *lost))
    }

    /// Its destinations, and how many there are.
    pub(super) fn dests(&self) -> ([Dest; MAX_DESTS], usize) {
        let mut dests = [Dest(0); MAX_DESTS];
        let mut n = 0;
        for (to, remap) in dests.iter_mut().zip(self.remaps.iter().flatten()) {
            *to = remap.dest;
            n += 1;
        }
        (dests, n)
    }
}

/// All slots, found by number or by chunk.
pub(super) struct Slots<Q> {
    slots: KVec<Slot<Q>>,
    heads: KVec<u8>,
    free: u8,
    used: usize,
    /// The slots that are ready, in the order in which they became so.
    first_ready: u8,
    last_ready: u8,
}

impl<Q: Fifo> Slots<Q> {
    pub(super) fn new() -> Result<Self> {
        let mut slots = KVec::with_capacity(SLOTS, GFP_KERNEL)?;
        for n in 0..SLOTS {
            slots.push(
                Slot {
                    state: State::Free,
                    chunk: Chunk(0),
                    from: Source::Origin,
                    for_origin: false,
                    hint: false,
                    remaps: [const { None }; MAX_DESTS],
                    lost: [None; MAX_DESTS],
                    full: false,
                    dropped: false,
                    overtaken: false,
                    cuts: 0,
                    waiters: Q::default(),
                    done: Q::default(),
                    generation: Generation::default(),
                    next: if n + 1 < SLOTS { n as u8 + 1 } else { NONE },
                    next_ready: NONE,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Slots {
            slots,
            heads: KVec::from_elem(NONE, BUCKETS, GFP_KERNEL)?,
            free: 0,
            used: 0,
            first_ready: NONE,
            last_ready: NONE,
        })
    }

    fn bucket(chunk: Chunk) -> usize {
        (chunk.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % BUCKETS
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn has_free(&self) -> bool {
        self.free != NONE
    }

    pub(super) fn get(&mut self, n: usize) -> Option<&mut Slot<Q>> {
        self.slots.get_mut(n)
    }

    /// The first slot of `chunk` for which `conflicts` answers true.
    pub(super) fn find(
        &mut self,
        chunk: Chunk,
        mut conflicts: impl FnMut(&Slot<Q>) -> bool,
    ) -> Option<usize> {
        let mut at = self.heads[Self::bucket(chunk)];
        while let Some(slot) = self.slots.get(usize::from(at)) {
            if slot.chunk == chunk && conflicts(slot) {
                return Some(usize::from(at));
            }
            at = slot.next;
        }
        None
    }

    /// Takes a free slot for `chunk`; `None` if all are in use.
    pub(super) fn take(&mut self, chunk: Chunk) -> Option<usize> {
        let n = self.free;
        let slot = self.slots.get_mut(usize::from(n))?;
        self.free = slot.next;
        let head = &mut self.heads[Self::bucket(chunk)];
        slot.next = *head;
        *head = n;
        slot.chunk = chunk;
        slot.state = State::Moving;
        slot.hint = false;
        slot.dropped = false;
        slot.overtaken = false;
        self.used += 1;
        Some(usize::from(n))
    }

    /// The chunk is written at the origin, whoever copies it from there.
    pub(super) fn overtake(&mut self, chunk: Chunk) {
        let mut at = self.heads[Self::bucket(chunk)];
        while let Some(slot) = self.slots.get_mut(usize::from(at)) {
            slot.overtaken |= slot.chunk == chunk && slot.from == Source::Origin;
            at = slot.next;
        }
    }

    /// The data of a slot is there: it becomes the last one that is ready.
    pub(super) fn set_ready(&mut self, n: usize) {
        let Some(slot) = self.slots.get_mut(n).filter(|s| s.state == State::Moving) else {
            return;
        };
        slot.state = State::Ready;
        slot.next_ready = NONE;
        match self.slots.get_mut(usize::from(self.last_ready)) {
            Some(last) => last.next_ready = n as u8,
            None => self.first_ready = n as u8,
        }
        self.last_ready = n as u8;
    }

    /// The first slot that is ready.
    pub(super) fn ready(&self) -> Option<usize> {
        (self.first_ready != NONE).then_some(usize::from(self.first_ready))
    }

    /// Gives a slot back; its remaps and bios were taken out before. Of those that are ready it is
    /// the first.
    pub(super) fn put(&mut self, n: usize) {
        let Some(chunk) = self.slots.get(n).map(|s| s.chunk) else {
            return;
        };
        if usize::from(self.first_ready) == n {
            self.first_ready = self.slots[n].next_ready;
            if self.first_ready == NONE {
                self.last_ready = NONE;
            }
        }
        let next = self.slots[n].next;
        let bucket = Self::bucket(chunk);
        let mut at = self.heads[bucket];
        if usize::from(at) == n {
            self.heads[bucket] = next;
        } else {
            while let Some(slot) = self.slots.get_mut(usize::from(at)) {
                if usize::from(slot.next) == n {
                    slot.next = next;
                    break;
                }
                at = slot.next;
            }
        }
        let slot = &mut self.slots[n];
        slot.state = State::Free;
        slot.next = self.free;
        self.free = n as u8;
        self.used -= 1;
    }

    /// Whether a slot in use is like that.
    pub(super) fn any(&self, mut is: impl FnMut(&Slot<Q>) -> bool) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| slot.state != State::Free && is(slot))
    }
}

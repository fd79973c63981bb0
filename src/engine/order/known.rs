// SPDX-License-Identifier: GPL-2.0

//! Where chunks of snapshots are, for whoever must not wait for the worker.
//!
//! The worker enters what it has found, and takes it out again as soon as that does not hold any
//! more: before it begins to wait for those who may still act on it ([`World::ask`]). Who looks
//! here and finds something is counted as a user under the same lock, so that such a wait covers
//! all who found it. See [`look`](super::look) for when what is found may be relied on.
//!
//! [`World::ask`]: super::World::ask

use crate::store::{Chunk, Dest, SnapId};
use kernel::prelude::*;

/// Entries of all the chunks that fall into one bucket.
const WAYS: usize = 4;

/// Where a chunk of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the origin.
    Origin,
    /// In this chunk of the store, to be read.
    Store(Dest),
    /// In this chunk of the store, which the snapshot has alone: to be read and written.
    Own(Dest),
}

impl Place {
    const ORIGIN: u64 = 1;
    const STORE: u64 = 2;
    const OWN: u64 = 3;

    /// It in a number that is not 0. (A chunk's number is far below 2^62.)
    fn pack(self) -> u64 {
        match self {
            Place::Origin => Self::ORIGIN,
            Place::Store(dest) => (dest.0 << 2) | Self::STORE,
            Place::Own(dest) => (dest.0 << 2) | Self::OWN,
        }
    }

    fn unpack(packed: u64) -> Option<Self> {
        let dest = Dest(packed >> 2);
        match packed & 3 {
            Self::ORIGIN => Some(Place::Origin),
            Self::STORE => Some(Place::Store(dest)),
            Self::OWN => Some(Place::Own(dest)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Entry {
    chunk: u64,
    id: u64,
    /// A packed place; 0 if there is no entry.
    place: u64,
}

impl Entry {
    fn is_of(&self, chunk: Chunk) -> bool {
        self.place != 0 && self.chunk == chunk.0
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    /// Entries of another turn are void.
    turn: u64,
    /// Which entry goes next.
    next: usize,
    entries: [Entry; WAYS],
}

/// A table of fixed size.
pub(crate) struct Known {
    buckets: KVVec<Bucket>,
    turn: u64,
    /// Nobody finds anything any more.
    closed: bool,
}

impl Known {
    /// Nothing is known yet. There are `buckets` buckets of four entries, or more to make a power
    /// of two; 8192 are 900 KiB.
    pub(crate) fn new(buckets: usize) -> Result<Self> {
        let bucket = Bucket {
            turn: 0,
            next: 0,
            entries: [Entry::default(); WAYS],
        };
        let buckets = buckets.next_power_of_two();
        Ok(Known {
            buckets: KVVec::from_elem(bucket, buckets, GFP_KERNEL)?,
            turn: 1,
            closed: false,
        })
    }

    /// Neighbours fall into neighbouring buckets.
    fn bucket(&self, chunk: Chunk) -> usize {
        (chunk.0 ^ (chunk.0 >> 13)) as usize & (self.buckets.len() - 1)
    }

    /// Where `chunk` of `id` is, if that is known.
    pub(crate) fn look(&self, chunk: Chunk, id: SnapId) -> Option<Place> {
        let bucket = self.buckets.get(self.bucket(chunk))?;
        if self.closed || bucket.turn != self.turn {
            return None;
        }
        let mut entries = bucket.entries.iter();
        let entry = entries.find(|e| e.is_of(chunk) && e.id == id.0)?;
        Place::unpack(entry.place)
    }

    /// Enters where `chunk` of `id` is.
    pub(crate) fn learn(&mut self, chunk: Chunk, id: SnapId, place: Place) {
        let (at, turn) = (self.bucket(chunk), self.turn);
        let Some(bucket) = self.buckets.get_mut(at) else {
            return;
        };
        if bucket.turn != turn {
            bucket.turn = turn;
            bucket.entries = [Entry::default(); WAYS];
        }
        let mut entries = bucket.entries.iter();
        let at = match entries.position(|e| e.is_of(chunk) && e.id == id.0) {
            Some(at) => at,
            None => {
                bucket.next = (bucket.next + 1) % WAYS;
                bucket.next
            }
        };
        let entry = &mut bucket.entries[at];
        let same = entry.is_of(chunk) && entry.id == id.0;
        if let (true, Place::Store(dest)) = (same, place) {
            // Who only reads does not look whose it is.
            if entry.place == Place::Own(dest).pack() {
                return;
            }
        }
        *entry = Entry {
            chunk: chunk.0,
            id: id.0,
            place: place.pack(),
        };
    }

    /// Takes out all entries of `chunk`.
    pub(crate) fn forget(&mut self, chunk: Chunk) {
        let at = self.bucket(chunk);
        if let Some(bucket) = self.buckets.get_mut(at) {
            for entry in bucket.entries.iter_mut().filter(|e| e.is_of(chunk)) {
                entry.place = 0;
            }
        }
    }

    /// Nothing will be found from now on, whatever is entered.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes out everything.
    pub(crate) fn forget_all(&mut self) {
        self.turn += 1;
    }
}

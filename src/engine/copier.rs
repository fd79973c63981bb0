// SPDX-License-Identifier: GPL-2.0

//! Copies of neighbours go out as one job.
//!
//! Writes in order ask for copies of one chunk after the other, to chunks of the store in the
//! same order. One job for all of them costs two bios instead of two for each. If it fails, each
//! of its copies is made alone: only a chunk that fails then has failed.
//!
//! Owned by the worker.

use super::{
    inbox::Inbox,
    order::{Copied, SLOTS}, //
};
use crate::dm::{
    device::BlockDev,
    kcopyd::{Kcopyd, Region, MAX_DESTS}, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Sectors of the longest job that is put together.
const JOB_SECTORS: u64 = 2048;

/// Where a copy comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyFrom {
    /// The origin, from this sector on.
    Origin(u64),
    /// The store, from this sector on.
    Store(u64),
    /// Zeroes.
    Zero,
}

impl CopyFrom {
    /// What follows `sectors` sectors behind it.
    fn after(self, sectors: u64) -> Option<Self> {
        match self {
            CopyFrom::Origin(at) => Some(CopyFrom::Origin(at + sectors)),
            CopyFrom::Store(at) => Some(CopyFrom::Store(at + sectors)),
            CopyFrom::Zero => None,
        }
    }
}

/// What is to be copied.
#[derive(Clone, Copy)]
pub(super) struct Copy {
    pub(super) from: CopyFrom,
    pub(super) sectors: u64,
    /// First sectors in the store.
    pub(super) to: [u64; MAX_DESTS],
    /// How many of them.
    pub(super) count: usize,
}

impl Copy {
    const NONE: Copy = Copy {
        from: CopyFrom::Zero,
        sectors: 0,
        to: [0; MAX_DESTS],
        count: 0,
    };

    /// Whether `next` goes on where this ends, at both ends.
    fn leads_to(&self, next: &Copy) -> bool {
        let to = self.to.iter().zip(&next.to).take(self.count);
        self.count == next.count
            && self.from.after(self.sectors) == Some(next.from)
            && to.fold(true, |all, (a, b)| all && a + self.sectors == *b)
    }
}

/// A job that is being put together.
#[derive(Clone, Copy)]
struct Job {
    /// All of it.
    copy: Copy,
    /// The slot of its first copy, under whose name it goes, and that of its last.
    first: u8,
    last: u8,
}

/// One for each origin.
pub(super) struct Copier {
    kcopyd: Kcopyd<Inbox>,
    origin: BlockDev,
    store: BlockDev,
    inbox: Arc<Inbox>,
    /// The copy of each slot.
    copies: KVec<Copy>,
    /// The slot whose copy follows in the same job.
    next: KVec<Option<u8>>,
    job: Option<Job>,
}

impl Copier {
    pub(super) fn new(origin: BlockDev, store: BlockDev, inbox: Arc<Inbox>) -> Result<Self> {
        Ok(Self {
            kcopyd: Kcopyd::new(SLOTS as u32, inbox.clone())?,
            origin,
            store,
            inbox,
            copies: KVec::from_elem(Copy::NONE, SLOTS, GFP_KERNEL)?,
            next: KVec::from_elem(None, SLOTS, GFP_KERNEL)?,
            job: None,
        })
    }

    /// Plans the copy of a slot; [`start`](Self::start) has to follow.
    pub(super) fn copy(&mut self, slot: u8, copy: Copy) {
        if let Some(place) = self.copies.get_mut(usize::from(slot)) {
            *place = copy;
        }
        if let Some(job) = &mut self.job {
            let long = job.copy.sectors + copy.sectors > JOB_SECTORS;
            let place = self.next.get_mut(usize::from(job.last));
            if let (false, true, Some(place)) = (long, job.copy.leads_to(&copy), place) {
                *place = Some(slot);
                job.copy.sectors += copy.sectors;
                job.last = slot;
                return;
            }
        }
        self.start();
        self.job = Some(Job {
            copy,
            first: slot,
            last: slot,
        });
    }

    /// Starts what has been planned.
    pub(super) fn start(&mut self) {
        if let Some(job) = self.job.take() {
            self.start_one(job.first, &job.copy);
        }
    }

    fn start_one(&self, slot: u8, copy: &Copy) {
        let sectors = copy.sectors;
        let in_store = |sector| Region {
            dev: &self.store,
            sector,
            sectors,
        };
        let to = copy.to.map(in_store);
        let to = &to[..copy.count.min(MAX_DESTS)];
        let slot_nr = u32::from(slot);
        let result = match copy.from {
            CopyFrom::Origin(sector) => {
                let from = Region {
                    dev: &self.origin,
                    sector,
                    sectors,
                };
                self.kcopyd.copy(slot_nr, from, to)
            }
            CopyFrom::Store(sector) => self.kcopyd.copy(slot_nr, in_store(sector), to),
            CopyFrom::Zero => self.kcopyd.zero(slot_nr, to),
        };
        if result.is_err() {
            crate::dm::kcopyd::CopyDone::copy_done(&*self.inbox, slot_nr, true, 0);
        }
    }

    /// The job of a slot has ended. Answers with the slot if its copy has, and that of those
    /// that [follow](Self::follower); otherwise all of them are being made alone.
    pub(super) fn ended(&mut self, slot: u8, copied: Copied) -> Option<u8> {
        let alone = self.next.get(usize::from(slot))?.is_none();
        if alone || copied == Copied::Good {
            return Some(slot);
        }
        let mut at = Some(slot);
        while let Some(slot) = at {
            at = self.follower(slot);
            if let Some(copy) = self.copies.get(usize::from(slot)) {
                self.start_one(slot, copy);
            }
        }
        None
    }

    /// The slot whose copy followed in the same job; it does not any more.
    pub(super) fn follower(&mut self, slot: u8) -> Option<u8> {
        self.next.get_mut(usize::from(slot))?.take()
    }
}

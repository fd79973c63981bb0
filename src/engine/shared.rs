// SPDX-License-Identifier: GPL-2.0

//! What map() and status may look at without waiting for the worker.

use super::{order::Known, status::Published};
use crate::dm::{
    bits::LazyBits,
    device::{BlockDev, DevT},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        SpinLockIrq, //
    },
};

/// Most chunks that a bio is not cut at: one without data may be huge.
const PRESERVED_RUN: u32 = 4096;

/// One for each engine.
#[pin_data]
pub(super) struct Shared {
    pub(super) origin: BlockDev,
    pub(super) store: BlockDev,
    /// The mapped device that the engine runs for.
    pub(super) mapped: DevT,
    /// The number that tells the store from all others.
    pub(super) uuid: [u8; 16],
    /// The store was loaded to be read only.
    pub(super) read_only: bool,
    /// Sectors in a chunk, as a shift.
    pub(super) chunk_shift: u32,
    pub(super) chunk_sectors: u32,
    /// First sector of the store's data area.
    pub(super) data_start: u64,
    /// Live ids; 0 means that origin writes need no look. Written while no origin bio is under
    /// way.
    pub(super) live: Atomic<u64>,
    /// Counts the cuts; what [`preserved`](Self::preserved) says holds for one of them. Written
    /// while no origin bio is under way.
    pub(super) generation: Atomic<u64>,
    /// Origin chunks that no live id needs any more, durably. Set by the worker only.
    pub(super) preserved: LazyBits,
    /// Where chunks of snapshots are. The worker writes, map() looks; taken before the lock of
    /// the origin's users.
    #[pin]
    pub(super) known: SpinLockIrq<Known>,
    /// A bio has come since the worker asked: map() sets it.
    pub(super) used: Atomic<bool>,
    /// The mode is `fail`.
    pub(super) failed: Atomic<bool>,
    /// Origin writes between map() and their end.
    pub(super) origin_writes: Atomic<i64>,
    #[pin]
    pub(super) published: Published,
}

impl Shared {
    /// Number of live snapshots.
    pub(super) fn live_ids(&self) -> u64 {
        self.live.load(Acquire)
    }

    /// Whether no live id needs this chunk of the origin any more, durably.
    pub(super) fn is_preserved(&self, chunk: u64) -> bool {
        self.preserved.test(chunk, self.generation.load(Acquire))
    }

    /// A bio comes.
    pub(super) fn note_use(&self) {
        // Most find it set, and leave the cache line where it is.
        if !self.is_in_use() {
            self.used.store(true, Relaxed);
        }
    }

    /// Whether one has come since [`take_use`](Self::take_use).
    pub(super) fn is_in_use(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// The same, and begins anew.
    pub(super) fn take_use(&self) -> bool {
        let used = self.is_in_use();
        self.used.store(false, Relaxed);
        used
    }

    /// No snapshot is live.
    pub(super) fn is_unprotected(&self) -> bool {
        self.live_ids() == 0
    }

    /// Sectors from `sector` to the end of its chunk.
    pub(super) fn left_in_chunk(&self, sector: u64) -> u32 {
        self.chunk_sectors - (sector as u32 & (self.chunk_sectors - 1))
    }

    /// How many of `sectors` sectors, in chunks of which the first is preserved, need no look.
    pub(super) fn preserved_run(&self, sector: u64, sectors: u32) -> u32 {
        let mut len = self.left_in_chunk(sector);
        for _ in 0..PRESERVED_RUN {
            let next = (sector + u64::from(len)) >> self.chunk_shift;
            if len >= sectors || !self.is_preserved(next) {
                break;
            }
            len = len.saturating_add(self.chunk_sectors);
        }
        len
    }

    pub(super) fn origin_write_begins(&self) {
        self.origin_writes.fetch_add(1, Relaxed);
    }

    pub(super) fn origin_write_ends(&self) {
        self.origin_writes.fetch_sub(1, Release);
    }
}

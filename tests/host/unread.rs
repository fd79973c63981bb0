// SPDX-License-Identifier: GPL-2.0

//! Metadata that is not in memory and cannot be read: whatever asks for it fails, has changed
//! nothing, and can be done later.

use super::disk::Disk;
use super::ram::BLOCK_SECTORS;
use super::range_check::{audit, audit_swept, params};
use super::range_model::Shared;
use crate::image::drive::{commit, freeze, preserve};
use crate::store::{blocks::Blocks, load, Chunk, ExceptionStore, Open, SnapId, StoreType};
use kernel::prelude::*;

const CHUNKS: u64 = 6000;

/// A store of which nothing needs to be in memory.
struct Cold {
    blocks: Shared,
    store: KBox<dyn ExceptionStore>,
    /// Calls that failed.
    failed: u64,
}

impl Cold {
    fn new(of: StoreType) -> Self {
        let blocks = Shared::new(Disk::new(40_000 * BLOCK_SECTORS));
        Open::format(blocks.clone(), &params(of, 8, CHUNKS)).unwrap();
        let store = load(Open::peek(blocks.clone(), false).unwrap()).unwrap();
        Self {
            blocks,
            store,
            failed: 0,
        }
    }

    /// What was recorded becomes durable, and part of a checkpoint.
    fn settle(&mut self) {
        commit(&mut *self.store, &mut self.blocks).unwrap();
        freeze(&mut *self.store, &mut self.blocks, None).unwrap();
    }

    /// Carries out a change that can be made.
    fn warm<T>(&mut self, f: impl Fn(&mut dyn ExceptionStore) -> Result<T>) -> T {
        loop {
            match f(&mut *self.store) {
                Ok(t) => return t,
                Err(e) if e == EAGAIN => self.settle(),
                Err(e) => panic!("{e:?}"),
            }
        }
    }

    /// Tries a change with nothing in memory and so many blocks that can be read, more each time,
    /// until it is made.
    fn change<T>(&mut self, f: impl Fn(&mut dyn ExceptionStore) -> Result<T>) -> T {
        // What was changed stays in memory until it is written.
        self.settle();
        let mut reads = 0;
        loop {
            {
                let mut blocks = self.blocks.0.lock().unwrap();
                blocks.drop_clean();
                blocks.cold_reads = Some(reads);
            }
            let result = f(&mut *self.store);
            self.blocks.0.lock().unwrap().cold_reads = None;
            assert!(!self.store.is_poisoned(), "half made after {reads} reads");
            match result {
                Ok(t) => return t,
                Err(e) if e == EIO => {
                    reads += 1;
                    self.failed += 1;
                }
                Err(e) if e == EAGAIN => self.settle(),
                Err(e) => panic!("{e:?}"),
            }
        }
    }
}

for_both!(a_change_that_cannot_be_read_for_is_not_begun);

fn a_change_that_cannot_be_read_for_is_not_begun(of: StoreType) {
    let mut cold = Cold::new(of);
    let scattered = |n: u64| n * 2357 % CHUNKS;
    // Old snapshots, their records and freed chunks all over the store.
    for round in 0..12 {
        cold.warm(|s| s.create(None, 1, b"old"));
        for n in 0..CHUNKS / 12 {
            while cold.warm(|s| preserve(s, scattered(round * CHUNKS / 12 + n))) {}
        }
    }
    for id in 1..=12 {
        cold.settle();
        if id % 3 == 0 {
            cold.warm(|s| s.delete(SnapId::top(id)));
            cold.warm(|s| s.forget(SnapId::top(id)));
        }
    }
    cold.settle();

    for n in 0..40 {
        cold.change(|s| s.create(None, 1, b""));
        let id = SnapId::top(13 + n);
        cold.change(|s| s.rename(id, b"of a few letters"));
        for k in 0..10 {
            let chunk = scattered(n as u64 * 97 + k);
            let mut more = true;
            while more {
                more = cold.change(|s| preserve(s, chunk));
            }
            let old = SnapId::top(1 + (k as u32 * 3) % 11);
            if cold.store.is_live(old) {
                cold.change(|s| s.record_zero(Chunk(chunk), old));
            }
        }
        if of == StoreType::Btree {
            let sub = cold.change(|s| s.create(Some(id), 1, b""));
            if n % 2 == 0 {
                cold.change(|s| s.delete(sub));
                cold.change(|s| s.forget(sub));
            }
        }
        if n % 4 != 0 {
            cold.change(|s| s.delete(id));
            cold.change(|s| s.forget(id));
        }
        if n % 5 == 0 {
            while cold.change(|s| s.sweep_step()) {}
            // A bit is needed again.
            cold.settle();
        }
    }
    cold.settle();
    while cold.change(|s| s.sweep_step()) {}
    cold.settle();
    std::println!("{} calls failed", cold.failed);
    assert!(cold.failed > 1000);
    audit(&mut *cold.store);
    audit_swept(&mut *cold.store, CHUNKS);
}

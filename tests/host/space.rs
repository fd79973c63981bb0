// SPDX-License-Identifier: GPL-2.0

//! Space: all of it can be used, however scattered it is, and what is deleted comes back.

use super::range::{cases, step, steps};
use super::range_check::{audit, audit_swept};
use super::range_model::{Rig, Shared};
use crate::image::drive::{commit, freeze};
use crate::store::{load, ExceptionStore, Open, SnapId, StoreType};
use kernel::prelude::*;
use proptest::prelude::*;
use std::vec::Vec;

/// Fills the store with one snapshot's chunks, and lets go of all but every `keep`th.
fn scattered(blocks: u64, chunks: u64, keep: u64) -> (Rig, SnapId) {
    // A bitmask store has one record for all that is zero, and so cannot be filled with them.
    let mut rig = Rig::new(StoreType::Btree, blocks, 8, chunks);
    let one = rig.create(None, b"").unwrap();
    let mut before = u64::MAX;
    while rig.store.space().used_chunks != before {
        before = rig.store.space().used_chunks;
        for chunk in 0..chunks {
            rig.write_snapshot(one, chunk, false);
        }
    }
    for chunk in (0..chunks).filter(|chunk| chunk % keep != 0) {
        rig.write_snapshot(one, chunk, true);
    }
    rig.commit();
    rig.pass();
    rig.check();
    (rig, one)
}

/// Free chunks that are no two neighbours are enough for metadata.
#[test]
fn metadata_takes_single_chunks() {
    for (blocks, chunks) in [(400, 600), (2000, 4000)] {
        let (mut rig, _) = scattered(blocks, chunks, 2);
        let free = |rig: &Rig| {
            let space = rig.store.space();
            space.total_chunks - space.used_chunks
        };
        let before = free(&rig);
        assert!(before > chunks / 8);
        // Each snapshot has zeroes in each chunk of its own: metadata alone.
        while let Some(id) = rig.create(None, b"") {
            let mut full = false;
            for chunk in 0..chunks {
                let records = rig.counts.get("really full").copied();
                rig.write_snapshot(id, chunk, true);
                full |= rig.counts.get("really full").copied() != records;
            }
            if full {
                break;
            }
        }
        rig.commit();
        rig.check();
        std::println!("{before} chunks were free: {:?}", rig.store.space());
        assert_eq!(free(&rig), 0);
        // A load needs no more blocks than the run did.
        let disk = rig.blocks.disk();
        let end = disk.log_len();
        rig.reload(disk.cut(end, |_, _| true), end);
        rig.check();
    }
}

for_both!(deletion_gives_back_what_nobody_needs);

/// The oldest of many goes: only what it alone had is touched.
#[test]
fn a_sweep_changes_no_record_that_stays() {
    let mut rig = Rig::new(StoreType::Btree, 2000, 8, 600);
    let oldest = rig.create(None, b"").unwrap();
    for chunk in 0..10 {
        rig.write_origin(chunk);
    }
    rig.create(None, b"").unwrap();
    for chunk in 10..600 {
        rig.write_origin(chunk);
    }
    rig.delete(oldest);
    rig.commit();
    rig.pass();
    let before = rig.store.space();
    let mut changes = 0;
    loop {
        let more = rig.store.sweep_step().unwrap();
        changes += u32::from(rig.store.has_unsealed());
        rig.commit();
        if !more {
            break;
        }
    }
    // The records of ten chunks, and that the sweep is at its end.
    assert_eq!(changes, 11);
    assert_eq!(before.used_chunks - rig.store.space().used_chunks, 10);
    rig.check();
    audit_swept(&mut *rig.store, 600);
}

/// What was deleted comes back when the sweep is through, but for what a live id needs: no
/// chunk more is in use than the live ids can be seen to hold.
fn deletion_gives_back_what_nobody_needs(of: StoreType) {
    let two = (steps(200), steps(200));
    proptest!(cases(100), |((first, second) in two, blocks in 180u64..400, gone in any::<u16>())| {
        let mut rig = Rig::new(of, blocks, 8, 6);
        for (i, part) in [first, second].iter().enumerate() {
            for s in part {
                step(&mut rig, *s);
            }
            for (n, id) in rig.live().into_iter().enumerate() {
                if (gone >> ((n + 8 * i) % 16)) & 1 == 1 {
                    rig.delete(id);
                }
            }
            // As long as one is under way, a bitmask store does not end a sweep.
            rig.end_all();
            rig.commit();
            while rig.sweep() {}
            rig.commit();
            rig.pass();
            rig.check();
            audit_swept(&mut *rig.store, 6);
        }
        // And all of it, in the end.
        for id in rig.live() {
            rig.delete(id);
        }
        rig.commit();
        while rig.sweep() {}
        rig.check();
        let space = rig.store.space();
        assert_eq!(space.used_chunks, space.metadata_chunks);
    });
}

/// Nothing but a deletion's second half may be what a load has no room for.
#[test]
fn a_deletion_that_had_no_room_for_its_rest_is_loaded() {
    let (mut rig, one) = scattered(400, 600, 2);
    let mut ids = Vec::new();
    'full: while let Some(id) = rig.create(None, b"") {
        ids.push(id);
        for chunk in 0..600 {
            let before = rig.counts.get("really full").copied();
            rig.write_snapshot(id, chunk, true);
            if rig.counts.get("really full").copied() != before {
                break 'full;
            }
        }
    }
    rig.commit();
    rig.begin_checkpoint(None);
    rig.end_checkpoint(true);
    let full = rig.blocks.disk().copy();
    let (mut tight, last) = (0, ids[ids.len() - 1]);
    for steps in 0..60 {
        let mut blocks = Shared::new(full.copy());
        let mut store = load(Open::peek(blocks.clone(), false).unwrap()).unwrap();
        store.delete(one).unwrap();
        commit(&mut *store, &mut blocks).unwrap();
        store.forget(one).unwrap();
        commit(&mut *store, &mut blocks).unwrap();
        freeze(&mut *store, &mut blocks, None).unwrap();
        for _ in 0..steps {
            if store.sweep_step().is_err() {
                break;
            }
            commit(&mut *store, &mut blocks).unwrap();
        }
        if store.delete(last).is_err() {
            continue;
        }
        commit(&mut *store, &mut blocks).unwrap();
        tight += u32::from(store.forget(last) == Err(EAGAIN));
        drop(store);
        // The machine stops here.
        for read_only in [true, false] {
            let blocks = Shared::new(blocks.disk().copy());
            let mut store = load(Open::peek(blocks.clone(), read_only).unwrap()).unwrap();
            audit(&mut *store);
            if !read_only {
                assert_eq!(store.unforgotten(), Ok(None), "{steps}");
                assert!(!store.is_live(last));
            }
        }
    }
    assert!(tight > 0, "there was room each time");
}

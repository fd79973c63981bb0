// SPDX-License-Identifier: GPL-2.0

//! The stores against their model: examples, random histories, power cuts.

use super::range_check::*;
use super::range_model::*;
use crate::store::{
    load, Chunk, ExceptionStore, Found, Identity, Open, SnapId, StoreType, Value, Writeable,
};
use kernel::prelude::{EAGAIN, EINVAL, ENOENT, ENOSPC};
use proptest::prelude::*;
use std::vec::Vec as StdVec;

fn rig(of: StoreType) -> Rig {
    Rig::new(of, 512, 8, 6)
}

/// Snapshots that a store can have, as far as these tests go.
fn most_ids(of: StoreType) -> u32 {
    if of == StoreType::Btree {
        150
    } else {
        64
    }
}

for_both!(
    one_copy_serves_all_snapshots,
    a_written_snapshot_splits_the_copy,
    the_newest_snapshot_written_first,
    a_chunk_that_cannot_be_written_is_passed_over,
    every_second_deleted_is_still_one_copy,
    a_full_store_can_be_emptied,
    a_freed_chunk_is_not_used_too_early,
    a_loss_in_doubt_waits_for_a_checkpoint_that_says_it,
    torn_commits,
    torn_checkpoints,
    a_hundred_thousand_in_order,
    histories,
    histories_with_cuts,
    long_histories,
);

fn one_copy_serves_all_snapshots(of: StoreType) {
    let mut rig = rig(of);
    for _ in 0..3 {
        rig.create(None, b"");
    }
    assert_eq!(rig.write_origin(0), 1);
    rig.commit();
    assert_eq!(rig.write_origin(0), 0);
    rig.commit();
    rig.check();
}

fn a_written_snapshot_splits_the_copy(of: StoreType) {
    let mut rig = rig(of);
    for _ in 0..3 {
        rig.create(None, b"");
    }
    rig.write_snapshot(SnapId::top(2), 0, false);
    // Two gaps, or one mask.
    let copies = if of == StoreType::Btree { 2 } else { 1 };
    assert_eq!(rig.write_origin(0), copies);
    rig.commit();
    assert_eq!(rig.write_origin(0), 0);
    rig.commit();
    rig.check();
}

fn the_newest_snapshot_written_first(of: StoreType) {
    let mut rig = rig(of);
    for _ in 0..3 {
        rig.create(None, b"");
    }
    rig.write_snapshot(SnapId::top(3), 0, false);
    assert_eq!(rig.write_origin(0), 1);
    rig.commit();
    assert_eq!(rig.write_origin(0), 0);
    rig.commit();
    rig.check();
}

fn a_chunk_that_cannot_be_written_is_passed_over(of: StoreType) {
    let all = |bad: bool| {
        let mut rig = rig(of);
        rig.create(None, b"");
        let mut dests = StdVec::new();
        let mut first = None;
        loop {
            rig.store.reset_query(Chunk(0)).unwrap();
            rig.store.query_next_remap().unwrap();
            match rig.store.add_next_remap() {
                Ok(remap) if bad && first.is_none() => {
                    first = Some(remap.dest);
                    rig.store.give_back_bad(remap);
                }
                Ok(remap) => dests.push(remap.dest),
                Err(e) => {
                    assert_eq!(e, ENOSPC);
                    return (dests, first);
                }
            }
        }
    };
    let (good, _) = all(false);
    let (dests, bad) = all(true);
    assert_ne!(dests[0], bad.unwrap());
    // Nothing is lost of the space there is, or of what metadata needs.
    assert_eq!(dests.len(), good.len());
}

fn every_second_deleted_is_still_one_copy(of: StoreType) {
    let mut rig = Rig::new(of, 2048, 8, 2);
    let all = if of == StoreType::Btree { 1000 } else { 64 };
    for _ in 0..all {
        rig.create(None, b"").unwrap();
    }
    for id in (2..=all).step_by(2) {
        rig.delete(SnapId::top(id));
        rig.commit();
    }
    assert_eq!(rig.store.live_ids(), u64::from(all / 2));
    assert_eq!(rig.write_origin(0), 1);
    rig.commit();
    rig.check();
    // The same with records of dead ids in between.
    for id in (1..=40).filter(|id| id % 2 == 1) {
        rig.write_snapshot(SnapId::top(id), 1, false);
    }
    for id in (1..=40).filter(|id| id % 4 == 1) {
        rig.delete(SnapId::top(id));
    }
    rig.commit();
    rig.check();
    rig.write_origin(1);
    rig.commit();
    rig.check();
}

#[test]
fn sub_snapshots_inherit() {
    let mut rig = rig(StoreType::Btree);
    let one = rig.create(None, b"one").unwrap();
    rig.write_snapshot(one, 0, false);
    let sub = rig.create(Some(one), b"sub").unwrap();
    assert_eq!(sub, SnapId::sub(1, 0));
    // The parent's chunk is shared now, and the child's too.
    assert!(matches!(
        rig.store.make_chunk_writeable(Chunk(0), one),
        Ok(Writeable::Copy { .. })
    ));
    rig.write_snapshot(one, 0, false);
    rig.write_snapshot(sub, 0, false);
    rig.create(Some(one), b"");
    assert_eq!(rig.write_origin(1), 1);
    rig.commit();
    rig.check();
    rig.delete(one);
    rig.commit();
    while rig.sweep() {}
    rig.commit();
    rig.check();
    assert_eq!(rig.store.live_ids(), 2);
}

/// Filled to the brim with many snapshots' own chunks, then emptied by deletions alone.
fn a_full_store_can_be_emptied(of: StoreType) {
    for (blocks, ids) in [(150, 6), (300, 40), (1200, 150.min(most_ids(of)))] {
        let mut rig = Rig::new(of, blocks, 8, 40);
        for _ in 0..ids {
            rig.create(None, b"");
        }
        let made = rig.live();
        // Until nothing fits any more, data or metadata.
        let mut before = u64::MAX;
        while rig.store.space().used_chunks != before {
            before = rig.store.space().used_chunks;
            for chunk in 0..40 {
                for id in &made {
                    rig.write_snapshot(*id, chunk, false);
                }
            }
        }
        rig.commit();
        rig.check();
        // Losses are recorded all the same.
        for chunk in 0..40 {
            rig.write_origin(chunk);
        }
        rig.commit();
        rig.check();
        let full = rig.store.space();
        for id in made {
            rig.delete(id);
            rig.commit();
        }
        while rig.sweep() {}
        rig.commit();
        rig.check();
        let space = rig.store.space();
        std::println!("{full:?} -> {space:?}");
        assert!(rig.live().is_empty());
        assert_eq!(space.used_chunks, space.metadata_chunks);
        // And used again.
        assert!(rig.create(None, b"again").is_some());
        for chunk in 0..40 {
            rig.write_origin(chunk);
        }
        rig.commit();
        rig.check();
    }
}

/// A freed chunk comes back only when its record is durable and its readers have gone, whichever
/// is last.
fn a_freed_chunk_is_not_used_too_early(of: StoreType) {
    for readers_last in [false, true] {
        let mut rig = Rig::new(of, 150, 8, 40);
        let one = rig.create(None, b"").unwrap();
        let mut before = u64::MAX;
        while rig.store.space().used_chunks != before {
            before = rig.store.space().used_chunks;
            for chunk in 0..40 {
                rig.write_snapshot(one, chunk, false);
            }
        }
        rig.commit();
        // The store is full; this frees two chunks.
        let take = |rig: &mut Rig| rig.store.make_chunk_writeable(Chunk(39), one);
        assert_eq!(take(&mut rig).err(), Some(ENOSPC));
        for chunk in 0..2 {
            rig.store.record_zero(Chunk(chunk), one).unwrap();
        }
        let mark = rig.store.free_mark().unwrap();
        assert_eq!(take(&mut rig).err(), Some(EAGAIN));
        for step in 0..2 {
            if (step == 0) == readers_last {
                let write = rig.store.seal().unwrap().unwrap();
                assert_eq!(take(&mut rig).err(), Some(EAGAIN));
                rig.store.sealed(write, Ok(()));
            } else {
                rig.store.free_passed(mark);
            }
            match take(&mut rig) {
                Err(e) => assert_eq!((e, step), (EAGAIN, 0)),
                Ok(Writeable::Copy { remap, .. }) => {
                    assert_eq!(step, 1);
                    rig.store.give_back(remap);
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
    }
}

/// A log write fails while a checkpoint that contains its batch is out, and then all is lost: that
/// checkpoint ends the doubt, but was made before the loss.
fn a_loss_in_doubt_waits_for_a_checkpoint_that_says_it(of: StoreType) {
    let mut rig = rig(of);
    rig.create(None, b"");
    rig.write_origin(0);
    rig.begin_checkpoint(None);
    rig.end_write_with(Some(0));
    assert_eq!(rig.store.record_all_lost(), Err(EAGAIN));
    rig.lose_all();
    // What may be written to the origin now must not be taken for the snapshot's.
    rig.write_origin(1);
    rig.commit();
    let disk = rig.blocks.disk();
    let at = disk.log_len();
    rig.reload(disk, at);
    rig.check();
    assert_eq!(
        rig.store.find(Chunk(1), SnapId::top(1)),
        Ok(Found::Private(Value::Lost))
    );
}

/// Commits of several blocks, torn again and again at the same place of the ring: blocks that are
/// left of one never complete another.
fn torn_commits(of: StoreType) {
    let mut lot = 5u64;
    let mut next = move || {
        lot = lot
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        lot >> 33
    };
    let mut rig = Rig::new(of, 4096, 8, 330);
    for _ in 0..3 {
        rig.create(None, b"");
    }
    rig.rebase();
    let mut whole = 0;
    for _ in 0..300 {
        // The same number of blocks each time, with other records.
        for chunk in 0..330 {
            rig.write_snapshot(SnapId::top(1 + next() as u32 % 3), chunk, next() % 4 == 0);
        }
        rig.seal();
        let batch = rig.batch() - 1;
        let begin = rig.blocks.disk().log_len();
        rig.end_write();
        // Its blocks are written one by one after a flush, and then flushed.
        let disk = rig.blocks.disk();
        let at = begin + 1 + next() as usize % (disk.log_len() - begin - 1);
        let torn = next() % 3 != 0;
        let seed = next();
        let disk = disk.cut(at, |i, s| {
            !torn || (seed ^ (i as u64 * 31) ^ (s / 8)).count_ones() % 2 == 0
        });
        rig.reload(disk, at);
        whole += u32::from(rig.last_state() == batch);
    }
    std::println!("{whole} of 300 commits were whole");
    assert!(whole > 10 && whole < 290);
}

/// A checkpoint that is torn leaves the one before, also the long one of a clean stop.
fn torn_checkpoints(of: StoreType) {
    for clean in [false, true] {
        let mut rig = rig(of);
        rig.create(None, b"");
        rig.write_origin(0);
        rig.rebase();
        rig.write_origin(1);
        rig.commit();
        let identity = Identity { digests: [7; 64] };
        rig.begin_checkpoint(clean.then_some(&identity));
        rig.end_checkpoint(true);
        let disk = rig.blocks.disk();
        for at in rig.durable_at[&(rig.batch() - 1)]..=disk.log_len() {
            for kept in 0..16 {
                let left = disk.cut(at, |_, s| (kept >> (s % 4)) & 1 == 1);
                let open = Open::peek(Shared::new(left.clone()), false).unwrap();
                assert!(open.identity().is_none() || open.identity() == Some(identity));
                let mut store = load(open).unwrap();
                rig.find_state(&mut *store, &left, at);
            }
        }
    }
}

/// Numbers that were passed over are never given, whatever is between the two creates.
#[test]
fn an_id_of_choice_is_at_least_the_next() {
    let mut rig = rig(StoreType::Btree);
    rig.create(None, b"");
    let store = &mut rig.store;
    assert_eq!(store.create_as(SnapId::top(1), 0, b""), Err(EINVAL));
    assert_eq!(store.create_as(SnapId::top(0), 0, b""), Err(EINVAL));
    assert_eq!(store.create_as(SnapId::top(5), 0, b"five"), Ok(()));
    assert_eq!(store.create_as(SnapId::top(4), 0, b""), Err(EINVAL));
    assert_eq!(store.create_as(SnapId::sub(5, 2), 0, b""), Ok(()));
    assert_eq!(store.create_as(SnapId::sub(5, 1), 0, b""), Err(EINVAL));
    assert_eq!(store.create_as(SnapId::sub(4, 0), 0, b""), Err(ENOENT));
    assert_eq!(store.next_id(None), Ok(SnapId::top(6)));
    assert_eq!(store.next_id(Some(SnapId::top(5))), Ok(SnapId::sub(5, 3)));
    let last = SnapId::top(u32::MAX);
    assert_eq!(store.create_as(last, 0, b""), Ok(()));
    assert!(store.next_id(None).is_err());
    let name = store.snapshot(SnapId::top(5)).unwrap().unwrap().name;
    assert_eq!(&name[..5], b"five\0");
    // What all have lost the last one has lost, too.
    store.record_all_lost().unwrap();
    for id in [SnapId::top(1), last] {
        assert_eq!(store.find(Chunk(1), id), Ok(Found::Private(Value::Lost)));
    }
    store.reset_query(Chunk(1)).unwrap();
    assert_eq!(store.query_next_remap(), Ok(None));
}

/// What recording costs when nothing is in its way: no more than a few lookups each.
fn a_hundred_thousand_in_order(of: StoreType) {
    let mut rig = Rig::new(of, 200_000, 8, 100_000);
    for _ in 0..10 {
        rig.create(None, b"");
    }
    let blocks = rig.blocks.clone();
    let (begin, ops) = (std::time::Instant::now(), blocks.0.lock().unwrap().ops);
    let writes = blocks.disk().counts().writes;
    for chunk in 0..100_000 {
        if !rig.store.has_room(1) {
            rig.commit();
        }
        if rig.store.checkpoint_wanted() {
            rig.begin_checkpoint(None);
            rig.end_checkpoint(true);
        }
        rig.store.reset_query(Chunk(chunk)).unwrap();
        rig.store.query_next_remap().unwrap().unwrap();
        let remap = rig.store.add_next_remap().unwrap();
        rig.store.record(&remap).unwrap();
        assert_eq!(rig.store.query_next_remap().unwrap(), None);
    }
    rig.commit();
    let ops = blocks.0.lock().unwrap().ops - ops;
    let writes = blocks.disk().counts().writes - writes;
    let time = begin.elapsed() / 100_000;
    std::println!(
        "{time:?} and {} block visits each, {writes} writes in all",
        ops / 100_000
    );
    assert!(ops < 100_000 * 60 && writes < 10_000);
}

/// One step of a history.
pub(super) fn step(rig: &mut Rig, (what, a, b): (u8, u8, u8)) {
    let chunks = rig.origin.len() as u64;
    let chunk = u64::from(b) % chunks;
    let live = rig.live();
    let id = (!live.is_empty()).then(|| live[usize::from(a) % live.len()]);
    rig.pass();
    match (what % 32, id) {
        (0..=8, _) => {
            rig.write_origin(chunk);
        }
        (9..=13, Some(id)) => rig.write_snapshot(id, chunk, false),
        (14, Some(id)) => rig.write_snapshot(id, chunk, true),
        (15 | 16, _) if live.len() < 12 => {
            rig.create(
                None,
                if a % 2 == 0 {
                    b""
                } else {
                    b"a-name_of.some+length"
                },
            );
        }
        (17, Some(id)) if !id.is_sub() && live.len() < 12 => {
            rig.create(Some(id), b"");
        }
        (18, Some(id)) => rig.delete(id),
        (19, _) => rig.seal(),
        (20, _) if a % 8 == 0 => rig.end_write_with(Some(usize::from(b % 4))),
        (20, _) => rig.end_write(),
        (21 | 22, _) => rig.commit(),
        (23 | 24, _) => {
            rig.begin_checkpoint(None);
        }
        (25 | 26, _) => rig.end_checkpoint(a % 8 != 0),
        (27 | 28, _) => {
            let _ = (0..=b % 8).all(|_| rig.sweep());
        }
        (29, Some(id)) if a % 8 == 0 => {
            let name = std::format!("n{b}");
            if rig.store.rename(id, name.as_bytes()).is_ok() {
                rig.model.names.insert(id.0, name.into_bytes());
            }
        }
        (30, _) if a % 16 == 0 => rig.lose_all(),
        (30, _) if a % 4 == 1 => rig.hold(chunk),
        (31, _) if a % 4 == 0 => rig.end_one(a % 16 != 0),
        _ => {}
    }
}

pub(super) fn steps(n: usize) -> impl Strategy<Value = StdVec<(u8, u8, u8)>> {
    proptest::collection::vec(any::<(u8, u8, u8)>(), 1..n)
}

/// Loads the disk as a cut at any place could have left it.
fn cut(rig: &Rig, at: usize, seed: u64) {
    let disk = rig.blocks.disk();
    let mut lot = seed;
    let mut below = move |n: u64| {
        lot = lot
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (lot >> 33) % n
    };
    let mode = below(4);
    let left = disk.cut(at, |_, _| match mode {
        0 => false,
        1 => true,
        _ => below(2) == 0,
    });
    if at < rig.durable_at.values().min().copied().unwrap_or(0) {
        return;
    }
    let mut store = open(&left).unwrap();
    rig.find_state(&mut *store, &left, at);
}

pub(super) fn cases(n: u32) -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("MULTISNAP_CASES")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(n),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn histories(of: StoreType) {
    proptest!(cases(200), |(steps in steps(400), blocks in 180u64..400)| {
        let mut rig = Rig::new(of, blocks, 8, 6);
        for (i, s) in steps.iter().enumerate() {
            step(&mut rig, *s);
            if i % 16 == 0 {
                rig.check();
            }
        }
        rig.commit();
        rig.check();
    });
}

fn histories_with_cuts(of: StoreType) {
    proptest!(cases(200), |(steps in steps(120), seed in any::<u64>(), eager in 0u64..40)| {
        let mut rig = Rig::new(of, 256, 8, 6);
        rig.blocks.0.lock().unwrap().eager = (eager > 2).then_some(eager);
        for s in &steps {
            step(&mut rig, *s);
        }
        let start = rig.durable_at[&0];
        let end = rig.blocks.disk().log_len();
        for i in 0..20u64 {
            let at = start + (seed.wrapping_mul(i * 2 + 1) >> 7) as usize % (end - start + 1);
            cut(&rig, at, seed ^ i);
        }
        cut(&rig, end, seed);
    });
}

/// Long runs with reloads, on stores so small that everything runs out; everything that can
/// happen must have happened.
fn long_histories(of: StoreType) {
    let mut all = std::collections::BTreeMap::new();
    for seed in 0..60u64 {
        let mut lot = seed;
        let mut next = move || {
            lot = lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = lot;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut rig = Rig::new(of, [150, 180, 260, 600][seed as usize % 4], 8, 30);
        rig.blocks.0.lock().unwrap().eager = (seed % 3 == 0).then_some(7);
        rig.skips = seed % 2 == 1;
        if seed % 5 < 2 {
            rig.store.set_cache(8, 32).unwrap();
        }
        for i in 0..3000 {
            let n = next();
            step(&mut rig, (n as u8, (n >> 8) as u8, (n >> 16) as u8));
            if i % 100 == 0 {
                rig.check();
            }
            if i % 50 == 49 {
                // Cuts at several places, and life goes on after the last.
                let end = rig.blocks.disk().log_len();
                for j in 0..3 {
                    let at = (next() % (end as u64 + 1)) as usize;
                    cut(&rig, if j == 0 { end } else { at }, next());
                }
                if next() % 4 == 0 {
                    let keep = next();
                    let mut n = keep;
                    let disk = rig.blocks.disk().cut(end, |_, _| {
                        n = n.wrapping_mul(6364136223846793005).wrapping_add(keep | 1);
                        n >> 63 == 0
                    });
                    rig.reload(disk, end);
                } else if next() % 4 == 0 {
                    rig.rebase();
                }
            }
        }
        rig.commit();
        rig.check();
        for (what, n) in &rig.counts {
            *all.entry(*what).or_insert(0) += n;
        }
    }
    std::println!("{all:?}");
    for what in [
        "again",
        "all lost",
        "checkpoints",
        "checkpoints for doubt",
        "failed checkpoints",
        "in place",
        "log writes after a wrap",
        "log writes in doubt",
        "lost",
        "reloads",
        "reused chunks",
        "extents",
        "full",
        "ids passed over",
        "copies held back",
        "held for some",
    ] {
        assert!(all.get(what).is_some_and(|n| *n > 20), "too few {what}");
    }
    assert!(all.contains_key("held for none"));
}

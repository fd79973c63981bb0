// SPDX-License-Identifier: GPL-2.0

//! What only the bitmask store has: bits, and that a new snapshot never sees what was there for
//! an old one with the same bit. And what its metadata costs.

use super::range_model::*;
use crate::image::drive::preserve;
use crate::store::{
    Chunk,
    ExceptionStore,
    Found,
    NoId,
    SnapId,
    StoreType,
    Value,
    Who,
    Writeable, //
};
use kernel::prelude::*;
use std::vec::Vec as StdVec;

fn rig(blocks: u64, chunks: u64) -> Rig {
    Rig::new(StoreType::Bitmask, blocks, 8, chunks)
}

/// Sweeps until nothing is left, or nothing more is done.
fn sweep(rig: &mut Rig) -> bool {
    (0..100).any(|_| !rig.sweep())
}

#[test]
fn the_sixty_fifth_snapshot_is_refused() {
    let mut rig = rig(1024, 4);
    for _ in 0..64 {
        rig.create(None, b"").unwrap();
    }
    let full = "the bitmask store holds 64 snapshots: delete one or use btree";
    assert_eq!(rig.store.next_id(None), Err(NoId::new(full, ENOSPC)));
    assert_eq!(rig.store.create(None, 0, b""), Err(ENOSPC));
    // Each of them has its own content.
    for id in rig.live() {
        rig.write_snapshot(id, 0, false);
        rig.commit();
    }
    assert_eq!(rig.write_origin(0), 0);
    assert_eq!(rig.write_origin(1), 1);
    rig.commit();
    rig.check();
    // A deleted one has its bit until the sweep has passed.
    rig.delete(SnapId::top(7));
    rig.commit();
    assert_eq!(rig.store.live_ids(), 63);
    let no = rig.store.next_id(None).unwrap_err();
    assert!(no.error == ENOSPC && no.why.contains("sweep"), "{no:?}");
    assert!(sweep(&mut rig));
    assert_eq!(rig.create(None, b""), Some(SnapId::top(65)));
    assert_eq!(rig.create(None, b""), None);
    rig.commit();
    rig.check();
}

/// The bits that a chunk of the origin is copied for.
fn mask(rig: &mut Rig, chunk: u64) -> u64 {
    rig.store.reset_query(Chunk(chunk)).unwrap();
    rig.store.query_next_remap().unwrap().unwrap().parts().0
}

#[test]
fn a_snapshot_gets_the_lowest_bit() {
    let mut rig = rig(1024, 4);
    for bits in [0b1, 0b11, 0b111, 0b1111] {
        rig.create(None, b"").unwrap();
        assert_eq!(mask(&mut rig, 0), bits);
    }
    for id in [3, 2] {
        rig.delete(SnapId::top(id));
    }
    rig.commit();
    assert!(sweep(&mut rig));
    assert_eq!(mask(&mut rig, 0), 0b1001);
    for bits in [0b1011, 0b1111, 0b11111] {
        rig.create(None, b"").unwrap();
        assert_eq!(mask(&mut rig, 0), bits);
    }
}

#[test]
fn a_snapshot_has_no_snapshots() {
    let mut rig = rig(512, 4);
    let one = rig.create(None, b"").unwrap();
    let no = rig.store.next_id(Some(one)).unwrap_err();
    assert!(no.error == EOPNOTSUPP && no.why.contains("use btree"));
    assert_eq!(rig.store.create(Some(one), 0, b""), Err(EOPNOTSUPP));
    let no = rig.store.next_id(Some(SnapId::top(9))).unwrap_err();
    assert_eq!(no.error, ENOENT);
}

/// The store with 64 snapshots, a copy under way for all of them, and one deleted meanwhile.
fn with_a_copy_held_back() -> Rig {
    let mut rig = rig(1024, 4);
    for _ in 0..64 {
        rig.create(None, b"").unwrap();
    }
    rig.rebase();
    rig.hold(0);
    rig.delete(SnapId::top(64));
    rig.commit();
    rig
}

/// A new snapshot's content of chunk 0 is the origin's, before and after a write to that.
fn new_one_is_right(rig: &mut Rig) {
    let new = rig.create(None, b"new").unwrap();
    assert_eq!(rig.store.find(Chunk(0), new), Ok(Found::NotRemapped));
    rig.commit();
    rig.check();
    assert_eq!(rig.write_origin(0), 1);
    rig.commit();
    rig.check();
    assert!(matches!(
        rig.store.find(Chunk(0), new),
        Ok(Found::Private(Value::Chunk(_)))
    ));
}

#[test]
fn a_bit_is_not_free_before_the_copies_of_then_have_ended() {
    let mut rig = with_a_copy_held_back();
    // However long it sweeps.
    assert!(!sweep(&mut rig));
    rig.commit();
    assert_eq!(rig.create(None, b""), None);
    rig.end_one(true);
    assert!(sweep(&mut rig));
    rig.commit();
    rig.check();
    new_one_is_right(&mut rig);
}

#[test]
fn a_crash_with_a_copy_held_back() {
    let mut rig = with_a_copy_held_back();
    assert!(!sweep(&mut rig));
    rig.commit();
    let disk = rig.blocks.disk();
    let end = disk.log_len();
    rig.reload(disk.cut(end, |_, _| false), end);
    // The copy has gone with the machine, so nothing holds the sweep.
    assert!(sweep(&mut rig));
    rig.commit();
    let new = rig.create(None, b"new").unwrap();
    assert_eq!(rig.store.find(Chunk(0), new), Ok(Found::NotRemapped));
    assert_eq!(rig.write_origin(0), 1);
    rig.commit();
    rig.check();
    let disk = rig.blocks.disk();
    let end = disk.log_len();
    rig.reload(disk.cut(end, |_, _| true), end);
    rig.check();
}

/// The bit of a deleted snapshot is in a record when the machine stops, before any sweep.
#[test]
fn a_crash_frees_no_bit() {
    let mut rig = rig(1024, 4);
    for _ in 0..64 {
        rig.create(None, b"").unwrap();
    }
    assert_eq!(rig.write_origin(0), 1);
    rig.delete(SnapId::top(64));
    rig.commit();
    for checkpoint in [false, true] {
        if checkpoint {
            rig.rebase();
        }
        let disk = rig.blocks.disk();
        let end = disk.log_len();
        rig.reload(disk.cut(end, |_, _| true), end);
        assert_eq!(rig.create(None, b""), None);
    }
    assert!(sweep(&mut rig));
    rig.commit();
    new_one_is_right(&mut rig);
}

/// A loss is recorded when its copy's destination has long been given back.
#[test]
fn a_late_loss_is_not_a_new_snapshots() {
    let mut rig = with_a_copy_held_back();
    rig.store.reset_query(Chunk(1)).unwrap();
    let ids = rig.store.query_next_remap().unwrap().unwrap();
    rig.end_one(true);
    rig.delete(SnapId::top(63));
    rig.commit();
    assert!(sweep(&mut rig));
    let new = [(); 2].map(|()| rig.create(None, b"").unwrap());
    rig.commit();
    for id in new {
        assert!(!rig.store.check_conflict(ids, Who::Snapshot(id)));
    }
    assert!(rig.store.check_conflict(ids, Who::Snapshot(SnapId::top(1))));
    rig.store.record_lost(Chunk(1), ids).unwrap();
    for id in new {
        assert_eq!(rig.store.find(Chunk(1), id), Ok(Found::NotRemapped));
    }
    assert_eq!(
        rig.store.find(Chunk(1), SnapId::top(1)),
        Ok(Found::Shared(Value::Lost))
    );
}

/// A write to a snapshot takes its bit out of the mask, and the content stays the others'.
#[test]
fn a_write_splits_the_mask() {
    let mut rig = rig(512, 4);
    for _ in 0..3 {
        rig.create(None, b"").unwrap();
    }
    let all =
        |rig: &mut Rig| [1, 2, 3].map(|id| rig.store.find(Chunk(0), SnapId::top(id)).unwrap());
    rig.write_origin(0);
    let [one, two, three] = all(&mut rig);
    assert!(matches!(one, Found::Shared(Value::Chunk(_))) && one == two && two == three);
    rig.write_snapshot(SnapId::top(2), 0, false);
    let [again, two, three] = all(&mut rig);
    assert!(again == one && three == one && matches!(two, Found::Private(_)) && two != one);
    rig.write_snapshot(SnapId::top(1), 0, true);
    let [one, _, three] = all(&mut rig);
    assert_eq!(one, Found::Private(Value::Zero));
    assert!(matches!(three, Found::Private(Value::Chunk(_))));
    rig.write_snapshot(SnapId::top(3), 0, true);
    // Nothing in the store is for more than one, but the zeroes are one record.
    let [one, two, three] = all(&mut rig);
    assert!(one == Found::Shared(Value::Zero) && one == three && matches!(two, Found::Private(_)));
    rig.commit();
    rig.check();
    assert!(matches!(
        rig.store.make_chunk_writeable(Chunk(0), SnapId::top(2)),
        Ok(Writeable::InPlace(_))
    ));
}

/// Copies that one origin write makes with `n` snapshots: when none has written to the chunk, and
/// when every second one has.
fn copies(of: StoreType, n: u32) -> [usize; 2] {
    let mut rig = Rig::new(of, 2048, 8, 4);
    for _ in 0..n {
        rig.create(None, b"").unwrap();
    }
    for id in (1..=n).skip(1).step_by(2) {
        rig.write_snapshot(SnapId::top(id), 1, false);
        rig.commit();
    }
    let copies = [0, 1].map(|chunk| rig.write_origin(chunk));
    rig.commit();
    rig.check();
    copies
}

#[test]
fn copies_for_one_origin_write() {
    for (of, most) in [(StoreType::Btree, [1, 4, 32]), (StoreType::Bitmask, [1; 3])] {
        for (n, after) in [1, 8, 64].into_iter().zip(most) {
            let copies = copies(of, n);
            let [before, now] = copies;
            std::println!(
                "{}, {n} snapshots: {before}, and {now} after writes to every second one",
                of.name()
            );
            assert_eq!(copies, [1, after]);
            assert_eq!(after, copies_of(of, n, true));
        }
    }
}

/// Records first overwrites in this order. Answers the number of copies.
fn overwrite(rig: &mut Rig, order: &[u64]) -> u64 {
    let mut copies = 0;
    for chunk in order {
        make_room(rig);
        while preserve(&mut *rig.store, *chunk).unwrap() {
            copies += 1;
            make_room(rig);
        }
    }
    rig.commit();
    copies
}

fn make_room(rig: &mut Rig) {
    if !rig.store.has_room(1) {
        rig.commit();
    }
    if rig.store.checkpoint_wanted() {
        rig.begin_checkpoint(None);
        rig.end_checkpoint(true);
    }
}

fn metadata_bytes(rig: &mut Rig) -> u64 {
    rig.store.space().metadata_blocks_used * 4096
}

/// Bytes of metadata for each pair of mask and chunk, after first overwrites in this order.
fn bytes_for_each(of: StoreType, order: &[u64]) -> f64 {
    let n = order.len() as u64;
    let mut rig = Rig::new(of, 2 * n, 8, n);
    let empty = metadata_bytes(&mut rig);
    for _ in 0..4 {
        rig.create(None, b"").unwrap();
    }
    assert_eq!(overwrite(&mut rig, order), n);
    (metadata_bytes(&mut rig) - empty) as f64 / n as f64
}

/// Bytes of metadata for each chunk, in order, with `n` snapshots: overwritten in the origin, and
/// overwritten after every second snapshot has written to it.
fn bytes_with(of: StoreType, n: u32) -> [f64; 2] {
    let chunks = if n < 64 { 10_000 } else { 2000 };
    let order: StdVec<u64> = (0..chunks).collect();
    [false, true].map(|written| {
        let mut rig = Rig::new(of, chunks * u64::from(n + 1) + 4096, 8, chunks);
        for _ in 0..n {
            rig.create(None, b"").unwrap();
        }
        rig.commit();
        let empty = metadata_bytes(&mut rig);
        for id in (1..=n).skip(1).step_by(2).filter(|_| written) {
            for &chunk in &order {
                make_room(&mut rig);
                rig.write_snapshot(SnapId::top(id), chunk, false);
            }
        }
        rig.commit();
        let copies = overwrite(&mut rig, &order) / chunks;
        assert_eq!(copies as usize, copies_of(of, n, written));
        (metadata_bytes(&mut rig) - empty) as f64 / chunks as f64
    })
}

/// What one origin write copies when every second of `n` snapshots has written, or none.
fn copies_of(of: StoreType, n: u32, written: bool) -> usize {
    match of {
        StoreType::Btree if written => n.div_ceil(2) as usize,
        _ => 1,
    }
}

#[test]
fn metadata_of_a_chunk() {
    for (of, record) in [(StoreType::Btree, 32.0), (StoreType::Bitmask, 24.0)] {
        for n in [1, 8, 64] {
            let bytes = bytes_with(of, n);
            let [before, after] = bytes;
            std::println!(
                "{}, {n} snapshots: {before:.1} bytes, and {after:.1} if every second one had written",
                of.name()
            );
            for (bytes, written) in bytes.into_iter().zip([false, true]) {
                let own = if written { n / 2 } else { 0 };
                let records = copies_of(of, n, written) as f64 + f64::from(own);
                // A record, and what its leaf's share and that of the lists of free blocks come to.
                assert!(bytes >= records * record && bytes <= records * record * 2.0 + 8.0);
            }
        }
    }
}

#[test]
fn metadata_is_small() {
    let mut order: StdVec<u64> = (0..100_000).collect();
    let mut most = [
        (StoreType::Btree, [34.5, 50.5]),
        (StoreType::Bitmask, [26.0, 38.0]),
    ]
    .map(|(of, most)| (of, bytes_for_each(of, &order), most));
    let mut lot = 7u64;
    for i in (1..order.len()).rev() {
        lot = lot
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        order.swap(i, (lot >> 33) as usize % (i + 1));
    }
    for (of, sequential, [a, b]) in &mut most {
        let random = bytes_for_each(*of, &order);
        std::println!(
            "{}: {sequential:.1} bytes for each pair in order, {random:.1} at random",
            of.name()
        );
        assert!(*sequential <= *a && random <= *b);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Discards and writes of zeroes.

use super::bench::{bench, bench_of, snap, At, Bench};
use crate::engine::order::{Control, Copied, Mode, Op};
use crate::store::{Chunk, Dest, Found, SnapId, Value, Who, NAME_LEN};
use kernel::prelude::*;
use std::vec::Vec;

fn discard(b: &mut Bench, who: Who, chunk: u64) -> usize {
    let n = b.submit(who, Op::Discard, chunk, true, false);
    b.run();
    n
}

fn zero(b: &mut Bench, who: Who, chunk: u64) -> usize {
    let n = b.submit(who, Op::Zero, chunk, true, false);
    b.run();
    n
}

fn zero_part(b: &mut Bench, who: Who, chunk: u64) -> usize {
    let n = b.submit(who, Op::Zero, chunk, false, false);
    b.run();
    n
}

fn found(b: &mut Bench, id: u32, chunk: u64) -> Found {
    let store = b.machine.store();
    store.find(Chunk(chunk), SnapId::top(id)).unwrap()
}

// --- the origin ---------------------------------------------------------------------------------

#[test]
fn goes_down_without_snapshots() {
    let mut b = bench(0);
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn has_no_effect_where_a_snapshot_needs_the_chunk() {
    let mut b = bench(2);
    let n = discard(&mut b, Who::Origin, 1);
    assert!(b.is_good(n));
    assert!(b.desk.copies.is_empty() && b.desk.log.is_none());
    assert!(b.desk.preserved.is_empty());
}

#[test]
fn goes_down_where_no_snapshot_needs_the_chunk_any_more() {
    let mut b = bench(2);
    b.write(1);
    b.finish();
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn waits_for_a_copy_of_its_chunk_and_for_the_log_write() {
    let mut b = bench(1);
    b.write(1);
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.at(n), At::Machine);
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn waits_for_a_copy_that_a_snapshot_makes_of_its_chunk() {
    let mut b = bench(1);
    b.write_part(snap(1), 1);
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.at(n), At::Machine);
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn waits_for_older_reads() {
    let mut b = bench(1);
    let read = b.read(snap(1), 1);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    let n = discard(&mut b, Who::Origin, 1);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn a_copy_for_it_is_made_if_that_is_wanted() {
    let mut b = bench(3);
    b.machine.set_discard_copy(true);
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.desk.copies.len(), 1);
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn its_copy_does_not_let_it_go_on_once_the_store_has_failed() {
    let mut b = bench(1);
    b.machine.set_discard_copy(true);
    let n = discard(&mut b, Who::Origin, 1);
    b.end_copy(Copied::Good);
    b.control(Control::Checkpoint);
    assert!(b.desk.log.is_some() && b.desk.checkpoint.is_some());
    b.end_checkpoint(Err(EIO));
    assert_eq!(b.desk.modes, [Mode::Fail]);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Done(Ok(())));
}

#[test]
fn nothing_is_lost_for_it() {
    for preserve_on_error in [true, false] {
        for copied in [Copied::ReadError, Copied::WriteError(u32::MAX)] {
            let mut b = bench_of(preserve_on_error, 100);
            b.create(2);
            b.machine.set_discard_copy(true);
            let n = discard(&mut b, Who::Origin, 1);
            let behind = b.write(1);
            b.end_copy(copied);
            assert!(b.is_good(n), "{copied:?}");
            // The write makes a copy of its own.
            assert_eq!(b.desk.copies.len(), 1);
            b.finish();
            assert!(b.is_good(behind));
            assert_eq!(b.machine.counts().lost, 0);
        }
    }
}

#[test]
fn a_full_store_is_no_error_for_it_and_no_loss() {
    for preserve_on_error in [true, false] {
        let mut b = bench_of(preserve_on_error, 1);
        b.create(1);
        b.machine.set_discard_copy(true);
        b.write(1);
        b.finish();
        let n = discard(&mut b, Who::Origin, 2);
        assert!(b.is_good(n));
        assert_eq!(b.machine.counts().lost, 0);
        let read = b.read(snap(1), 2);
        assert_eq!(b.at(read), At::Origin);
    }
}

#[test]
fn has_no_effect_in_mode_fail() {
    for copy in [true, false] {
        let mut b = bench_of(false, 100);
        b.create(1);
        b.machine.set_discard_copy(copy);
        b.faults.add("checkpoint", EIO);
        b.control(Control::Checkpoint);
        assert_eq!(b.machine.mode(), Mode::Fail);
        let n = discard(&mut b, Who::Origin, 1);
        assert!(b.is_good(n));
        b.finish();
        assert_eq!(b.desk.losses, 0);
    }
}

#[test]
fn is_tried_again_when_the_store_asks_for_it() {
    let mut b = bench(1);
    b.faults.add("reset_query", ENOMEM);
    let n = discard(&mut b, Who::Origin, 1);
    assert_eq!(b.at(n), At::Machine);
    b.finish();
    assert!(b.is_good(n));
}

#[test]
fn a_write_of_zeroes_to_the_origin_is_a_write() {
    let mut b = bench(1);
    let n = zero(&mut b, Who::Origin, 1);
    assert_eq!(b.desk.copies.len(), 1);
    b.end_copy(Copied::Good);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

// --- a snapshot ---------------------------------------------------------------------------------

#[test]
fn a_chunk_of_zeroes_needs_a_record_only() {
    let mut b = bench(1);
    let n = zero(&mut b, snap(1), 1);
    assert!(b.is_good(n));
    assert!(b.desk.copies.is_empty());
    assert_eq!(found(&mut b, 1, 1), Found::Private(Value::Zero));
    let read = b.read(snap(1), 1);
    assert!(b.is_good(read));
}

#[test]
fn with_fua_it_ends_with_the_log_write() {
    let mut b = bench(1);
    let n = b.submit(snap(1), Op::Zero, 1, true, true);
    // The same once more changes nothing, but may not end before.
    let again = b.submit(snap(1), Op::Zero, 1, true, true);
    b.run();
    assert_eq!(b.at(n), At::Machine);
    let late = b.submit(snap(1), Op::Zero, 1, true, true);
    b.run();
    assert_eq!(b.at(late), At::Machine);
    b.end_log(Ok(()));
    assert!([n, again, late].iter().all(|n| b.is_good(*n)));
}

#[test]
fn a_flush_takes_the_record_along() {
    let mut b = bench(1);
    zero(&mut b, snap(1), 1);
    let n = b.flush(snap(1));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert!(b.is_good(n));
}

#[test]
fn zeroes_in_a_part_of_a_chunk_are_a_write() {
    let mut b = bench(1);
    let n = zero_part(&mut b, snap(1), 1);
    assert_eq!(b.desk.copies.len(), 1);
    b.end_copy(Copied::Good);
    assert!(matches!(b.at(n), At::Store(_)));
}

#[test]
fn zeroes_in_a_part_of_what_is_zero_change_nothing() {
    let mut b = bench(1);
    zero(&mut b, snap(1), 1);
    let n = zero_part(&mut b, snap(1), 1);
    assert!(b.is_good(n));
    assert_eq!(found(&mut b, 1, 1), Found::Private(Value::Zero));
}

#[test]
fn a_discard_gives_back_what_the_snapshot_has_alone() {
    let mut b = bench_of(true, 1);
    b.create(1);
    b.write_whole(snap(1), 1);
    b.finish();
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Store(Dest(0)));
    let n = discard(&mut b, snap(1), 1);
    assert!(b.is_good(n));
    // Never a hole: that would show what the origin has now.
    assert_eq!(found(&mut b, 1, 1), Found::Private(Value::Zero));
    // The chunk is used again when the record is durable and the older read has ended.
    let next = b.write_whole(snap(1), 2);
    assert_eq!(b.at(next), At::Machine);
    while b.desk.log.is_some() {
        b.end_log(Ok(()));
    }
    while b.desk.checkpoint.is_some() {
        b.end_checkpoint(Ok(()));
    }
    assert_eq!(b.at(next), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(next), At::Store(Dest(0)));
}

#[test]
fn a_discard_costs_nothing_where_nothing_is_given_back() {
    let mut b = bench(2);
    let unmapped = discard(&mut b, snap(1), 1);
    assert_eq!(found(&mut b, 1, 1), Found::NotRemapped);
    b.write(2);
    b.finish();
    let shared = discard(&mut b, snap(1), 2);
    assert!(matches!(found(&mut b, 1, 2), Found::Shared(_)));
    b.write(3);
    b.end_copy(Copied::ReadError);
    b.finish();
    let lost = discard(&mut b, snap(1), 3);
    zero(&mut b, snap(1), 4);
    b.finish();
    let is_zero = discard(&mut b, snap(1), 4);
    assert!(b.desk.log.is_none() && !b.machine.store().has_unsealed());
    for n in [unmapped, shared, lost, is_zero] {
        assert!(b.is_good(n));
    }
}

#[test]
fn a_discard_of_a_part_has_no_effect() {
    let mut b = bench(1);
    b.write_whole(snap(1), 1);
    b.finish();
    let n = b.submit(snap(1), Op::Discard, 1, false, false);
    b.run();
    assert!(b.is_good(n));
    let kept = found(&mut b, 1, 1);
    assert!(matches!(kept, Found::Private(Value::Chunk(_))));
}

#[test]
fn both_wait_for_a_copy_that_is_for_the_snapshot() {
    for op in [Op::Discard, Op::Zero] {
        let mut b = bench(2);
        b.write(1);
        let n = b.submit(snap(1), op, 1, true, false);
        b.run();
        b.end_copy(Copied::Good);
        assert_eq!(b.at(n), At::Machine, "{op:?}");
        b.end_log(Ok(()));
        assert!(b.is_good(n));
        if op == Op::Zero {
            assert_eq!(found(&mut b, 1, 1), Found::Private(Value::Zero));
        }
    }
}

#[test]
fn both_wait_for_an_overwrite() {
    for op in [Op::Discard, Op::Zero] {
        let mut b = bench(1);
        b.write_whole(snap(1), 1);
        let n = b.submit(snap(1), op, 1, true, false);
        b.run();
        assert_eq!(b.at(n), At::Machine, "{op:?}");
        b.end_overwrite(Ok(()));
        assert!(b.is_good(n));
        assert_eq!(found(&mut b, 1, 1), Found::Private(Value::Zero));
    }
}

#[test]
fn an_origin_write_waits_for_a_zero_record() {
    let mut b = bench(1);
    let read = b.read(snap(1), 1);
    zero(&mut b, snap(1), 1);
    // Nothing is left to copy, but a cut would bring the snapshot back to the origin's chunk.
    let n = b.write(1);
    assert!(b.desk.copies.is_empty());
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Machine, "the read began before");
    b.end_bio(read);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn the_last_owner_writes_in_place_when_a_zero_record_is_durable() {
    let mut b = bench(2);
    b.write(1);
    b.finish();
    let read = b.read(snap(1), 1);
    let At::Store(dest) = b.at(read) else {
        panic!("not copied");
    };
    zero(&mut b, snap(1), 1);
    let n = b.write_part(snap(2), 1);
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Machine, "the read began before");
    b.end_bio(read);
    assert_eq!(b.at(n), At::Store(dest));
}

#[test]
fn a_write_to_zeroes_copies_zeroes() {
    let mut b = bench(1);
    zero(&mut b, snap(1), 1);
    b.write_part(snap(1), 1);
    let copy = b.desk.copies.values().next().unwrap();
    assert_eq!(copy.from, crate::store::Source::Zero);
}

#[test]
fn they_heal_what_was_lost() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::ReadError);
    b.finish();
    let part = zero_part(&mut b, snap(1), 1);
    assert_eq!(b.at(part), At::Done(Err(EIO)));
    let whole = zero(&mut b, snap(1), 1);
    assert!(b.is_good(whole));
    let read = b.read(snap(1), 1);
    assert!(b.is_good(read));
}

#[test]
fn more_than_a_batch_of_them_makes_log_writes_and_no_checkpoint_for_each() {
    let mut b = bench(1);
    let all: Vec<_> = (0..90).map(|n| zero(&mut b, snap(1), n)).collect();
    let mut logs = 0;
    while b.desk.log.is_some() {
        b.end_log(Ok(()));
        logs += 1;
    }
    assert!(all.iter().all(|n| b.is_good(*n)));
    assert_eq!(logs, 2);
    assert!(b.desk.checkpoint.is_none());
}

#[test]
fn a_store_that_has_no_room_refuses_zeroes_and_passes_over_discards() {
    let mut b = bench(1);
    b.write_whole(snap(1), 2);
    b.finish();
    for (op, chunk, wanted) in [(Op::Zero, 1, Err(ENOSPC)), (Op::Discard, 2, Ok(()))] {
        b.faults.add("record_zero", ENOSPC);
        let n = b.submit(snap(1), op, chunk, true, false);
        b.run();
        assert_eq!(b.at(n), At::Done(wanted));
    }
    let n = zero(&mut b, snap(1), 1);
    assert!(b.is_good(n));
}

#[test]
fn they_fail_in_mode_fail() {
    let mut b = bench(1);
    b.faults.add("checkpoint", EIO);
    b.control(Control::Checkpoint);
    assert_eq!(b.machine.mode(), Mode::Fail);
    for op in [Op::Zero, Op::Discard] {
        let n = b.submit(snap(1), op, 1, true, false);
        b.run();
        assert_eq!(b.at(n), At::Done(Err(EIO)));
    }
}

#[test]
fn a_create_that_comes_later_makes_the_chunk_needed_again() {
    let mut b = bench(1);
    b.write(1);
    b.finish();
    b.control(Control::Create {
        id: None,
        parent: None,
        created: 1,
        name: [0; NAME_LEN],
    });
    b.end_log(Ok(()));
    let n = discard(&mut b, Who::Origin, 1);
    assert!(b.is_good(n));
}

// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of snapshots.

use super::bench::{bench, snap, At};
use crate::engine::order::{Copied, Op};
use crate::store::{Dest, Source};
use kernel::prelude::*;

#[test]
fn a_whole_chunk_needs_no_copy() {
    let mut b = bench(1);
    let n = b.write_whole(snap(1), 1);
    assert!(b.desk.copies.is_empty());
    assert!(matches!(b.at(n), At::Store(_)));
    // The old content until the write has ended.
    let before = b.read(snap(1), 1);
    assert_eq!(b.at(before), At::Origin);
    b.end_overwrite(Ok(()));
    assert!(b.is_good(n), "not FUA: need not wait for the log");
    let after = b.read(snap(1), 1);
    assert!(matches!(b.at(after), At::Store(_)));
}

#[test]
fn a_fua_write_of_a_whole_chunk_ends_with_the_log_write() {
    let mut b = bench(1);
    let n = b.submit(snap(1), Op::Write, 1, true, true);
    b.run();
    b.end_overwrite(Ok(()));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert!(b.is_good(n));
}

#[test]
fn a_fua_write_in_place_waits_for_the_record_of_its_chunk() {
    let mut b = bench(1);
    b.write_part(snap(1), 1);
    b.end_copy(Copied::Good);
    let n = b.submit(snap(1), Op::Write, 1, false, true);
    b.run();
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert!(matches!(b.at(n), At::Store(_)));
}

#[test]
fn a_part_of_a_chunk_is_copied_first() {
    let mut b = bench(1);
    let n = b.write_part(snap(1), 1);
    assert_eq!(b.at(n), At::Machine);
    b.end_copy(Copied::Good);
    // Need not wait for the log.
    assert!(matches!(b.at(n), At::Store(_)));
}

#[test]
fn a_failed_overwrite_leaves_no_trace() {
    let mut b = bench(1);
    let n = b.write_whole(snap(1), 1);
    b.end_overwrite(Err(EIO));
    assert_eq!(b.at(n), At::Done(Err(EIO)));
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Origin);
    b.finish();
    assert!(b.desk.modes.is_empty());
}

/// Two snapshots that share one chunk of the store.
fn shared() -> (super::bench::Bench, Dest) {
    let mut b = bench(2);
    b.write(1);
    b.finish();
    let read = b.read(snap(1), 1);
    let At::Store(dest) = b.at(read) else {
        panic!("not copied");
    };
    b.end_bio(read);
    (b, dest)
}

#[test]
fn a_shared_chunk_is_copied_within_the_store() {
    let (mut b, dest) = shared();
    b.write_part(snap(1), 1);
    let copy = b.desk.copies.values().next().unwrap();
    assert_eq!(copy.from, Source::Store(dest));
}

#[test]
fn the_last_owner_writes_in_place_when_the_record_is_durable() {
    let (mut b, dest) = shared();
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    // Until the log says otherwise, a cut lets both snapshots find this chunk.
    let n = b.write_part(snap(2), 1);
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Store(dest));
}

#[test]
fn the_last_owner_writes_in_place_when_older_reads_have_ended() {
    let (mut b, dest) = shared();
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Store(dest));
    b.write_part(snap(1), 1);
    b.end_copy(Copied::Good);
    let n = b.write_part(snap(2), 1);
    b.end_log(Ok(()));
    // Snapshot 1 must not read what snapshot 2 writes.
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(n), At::Machine, "the first write is out as well");
    b.finish();
    assert!(b.is_good(n));
}

#[test]
fn the_same_holds_for_a_copy_that_has_two_sharers_less() {
    let mut b = bench(3);
    b.write(1);
    b.finish();
    let (one, two) = (b.write_part(snap(1), 1), b.write_part(snap(2), 1));
    assert_eq!(b.desk.copies.len(), 2);
    b.end_copy(Copied::Good);
    b.end_copy(Copied::Good);
    let three = b.write_part(snap(3), 1);
    assert_eq!(b.at(three), At::Machine);
    b.finish();
    assert!([one, two, three].iter().all(|n| b.is_good(*n)));
}

#[test]
fn lost_content_cannot_be_written_in_part() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::ReadError);
    b.finish();
    let part = b.write_part(snap(1), 1);
    assert_eq!(b.at(part), At::Done(Err(EIO)));
    let whole = b.write_whole(snap(1), 1);
    b.finish();
    assert!(b.is_good(whole));
    let read = b.read(snap(1), 1);
    assert!(matches!(b.at(read), At::Store(_)));
}

#[test]
fn a_full_store_refuses_it_alone() {
    let mut b = bench(1);
    b.faults.add("make_chunk_writeable", ENOSPC);
    let n = b.write_part(snap(1), 1);
    assert_eq!(b.at(n), At::Done(Err(ENOSPC)));
    let next = b.write_part(snap(1), 1);
    b.finish();
    assert!(b.is_good(next));
}

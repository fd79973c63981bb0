// SPDX-License-Identifier: GPL-2.0

//! Origin writes: copy, record, commit, older reads, release.

use super::bench::{bench, bench_of, snap, At};
use crate::engine::order::{Copied, Mode};
use crate::store::Chunk;
use kernel::prelude::*;
use std::vec::Vec;

#[test]
fn without_snapshots_nothing_is_copied() {
    let mut b = bench(0);
    let n = b.write(1);
    assert_eq!(b.at(n), At::Origin);
    assert!(b.desk.copies.is_empty() && b.desk.log.is_none());
}

#[test]
fn is_released_after_the_log_write_only() {
    let mut b = bench(3);
    let n = b.write(1);
    assert_eq!(b.at(n), At::Machine);
    // One copy serves all three.
    assert_eq!(b.desk.copies.len(), 1);
    assert_eq!(b.desk.copies.values().next().unwrap().dests.len(), 1);
    assert!(b.desk.log.is_none());
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    assert!(b.desk.log.is_some() && b.desk.preserved.is_empty());
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
    assert_eq!(b.desk.preserved, [Chunk(1)]);
}

#[test]
fn older_reads_delay_it_and_later_ones_do_not() {
    let mut b = bench(1);
    let old = b.read(snap(1), 1);
    assert_eq!(b.at(old), At::Origin);
    let n = b.write(1);
    let while_copying = b.read(snap(1), 1);
    assert_eq!(b.at(while_copying), At::Origin);
    b.end_copy(Copied::Good);
    let recorded = b.read(snap(1), 1);
    assert!(matches!(b.at(recorded), At::Store(_)));
    // Of another chunk, begun after the log write was issued.
    let later = b.read(snap(1), 2);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(old);
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(while_copying);
    assert_eq!(b.at(n), At::Origin);
    assert_eq!(b.at(later), At::Origin);
}

#[test]
fn two_writes_to_one_chunk_share_a_copy() {
    let mut b = bench(1);
    let (one, two) = (b.write(1), b.write(1));
    assert_eq!(b.desk.copies.len(), 1);
    b.end_copy(Copied::Good);
    let three = b.write(1);
    assert_eq!(b.at(three), At::Machine);
    b.end_log(Ok(()));
    for n in [one, two, three] {
        assert_eq!(b.at(n), At::Origin);
    }
}

#[test]
fn one_log_write_serves_many_chunks() {
    let mut b = bench(1);
    let first = b.write(0);
    b.end_copy(Copied::Good);
    // While it is out, the next batch collects.
    let rest: Vec<_> = (1..6).map(|chunk| b.write(chunk)).collect();
    for _ in &rest {
        b.end_copy(Copied::Good);
    }
    b.end_log(Ok(()));
    assert_eq!(b.at(first), At::Origin);
    assert!(rest.iter().all(|n| b.at(*n) == At::Machine));
    b.end_log(Ok(()));
    assert!(rest.iter().all(|n| b.at(*n) == At::Origin));
    assert!(b.desk.log.is_none());
}

#[test]
fn more_destinations_than_a_job_has_take_rounds() {
    let mut b = bench(20);
    for id in (2..=20).step_by(2) {
        b.write_whole(snap(id), 1);
        b.end_overwrite(Ok(()));
    }
    b.finish();
    let n = b.write(1);
    let dests = |b: &super::bench::Bench| b.desk.copies.values().next().unwrap().dests.len();
    assert_eq!(dests(&b), 8);
    b.end_copy(Copied::Good);
    assert_eq!(dests(&b), 2);
    assert_eq!(b.at(n), At::Machine);
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    while b.desk.log.is_some() {
        assert_eq!(b.at(n), At::Machine);
        b.end_log(Ok(()));
    }
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn waits_for_a_record_that_a_snapshot_made() {
    let mut b = bench(1);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    // Nothing is left to copy, but the log does not say so yet.
    let n = b.write(1);
    assert!(b.desk.copies.is_empty());
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn waits_for_a_copy_that_a_snapshot_makes() {
    let mut b = bench(1);
    let own = b.write_part(snap(1), 1);
    let n = b.write(1);
    assert_eq!(b.desk.copies.len(), 1);
    assert_eq!((b.at(own), b.at(n)), (At::Machine, At::Machine));
    b.end_copy(Copied::Good);
    assert!(matches!(b.at(own), At::Store(_)));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn is_refused_when_the_store_is_full_and_that_is_the_policy() {
    let mut b = bench_of(true, 1);
    b.create(1);
    let first = b.write(1);
    let n = b.write(2);
    assert_eq!(b.at(n), At::Done(Err(ENOSPC)));
    assert_eq!(b.desk.modes, [Mode::Full]);
    b.finish();
    assert!(b.is_good(first));
}

#[test]
fn loses_content_when_the_store_is_full_and_that_is_the_policy() {
    let mut b = bench_of(false, 1);
    b.create(1);
    b.write(1);
    let n = b.write(2);
    assert_eq!(b.at(n), At::Machine);
    assert!(b.desk.log.is_some(), "the loss comes before the write");
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
    let read = b.read(snap(1), 2);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
    assert_eq!(b.machine.counts().lost, 1);
    b.finish();
    assert!(b.open().is_empty());
}

#[test]
fn tries_again_when_the_store_asks_for_it() {
    for e in [EAGAIN, ENOMEM] {
        let mut b = bench(1);
        b.faults.add("add_next_remap", e);
        let n = b.write(1);
        assert!(b.desk.copies.is_empty() && !b.desk.later.is_empty());
        b.finish();
        assert!(b.is_good(n), "{e:?}");
        assert!(b.desk.modes.is_empty());
    }
}

#[test]
fn a_store_that_never_finds_room_is_given_up() {
    let mut b = bench(1);
    for _ in 0..10_000 {
        b.faults.add("add_next_remap", EAGAIN);
    }
    let n = b.write(1);
    b.finish();
    assert_eq!(b.at(n), At::Done(Err(EIO)));
    assert_eq!(b.desk.modes, [Mode::Fail]);
}

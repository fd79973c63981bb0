// SPDX-License-Identifier: GPL-2.0

//! Chunks that were freed: when they may be used again.

use super::bench::{bench_of, snap, At, Bench};
use crate::store::{Dest, SnapId};

/// Two snapshots, the first of which has filled the only chunk of the store.
fn full() -> Bench {
    let mut b = bench_of(true, 1);
    b.create(2);
    b.write_whole(snap(1), 1);
    b.finish();
    b
}

/// Snapshot 1 goes, and with it its chunk.
fn delete(b: &mut Bench) {
    b.machine.store().delete(SnapId::top(1)).unwrap();
    b.machine.store().forget(SnapId::top(1)).unwrap();
}

#[test]
fn not_before_the_record_that_frees_it_is_durable() {
    let mut b = full();
    delete(&mut b);
    let n = b.write_whole(snap(2), 2);
    assert!(b.desk.log.is_some());
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Store(Dest(0)));
}

#[test]
fn not_before_older_reads_of_it_have_ended() {
    let mut b = full();
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Store(Dest(0)));
    delete(&mut b);
    let n = b.write_whole(snap(2), 2);
    b.end_log(Ok(()));
    while b.desk.checkpoint.is_some() {
        b.end_checkpoint(Ok(()));
    }
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(n), At::Store(Dest(0)));
}

#[test]
fn also_if_nothing_is_committed_after_it() {
    let mut b = full();
    b.machine.store().delete(SnapId::top(1)).unwrap();
    b.flush(snap(2));
    b.finish();
    b.machine.store().forget(SnapId::top(1)).unwrap();
    let n = b.write_whole(snap(2), 2);
    b.finish();
    assert!(b.is_good(n));
    assert!(b.desk.modes.is_empty());
}

// SPDX-License-Identifier: GPL-2.0

//! Snapshot flushes, and commits that nobody waits for.

use super::bench::{bench, snap, At};
use crate::engine::order::{Copied, Op};
use kernel::prelude::*;

#[test]
fn goes_to_the_store_when_nothing_is_to_be_committed() {
    let mut b = bench(1);
    let n = b.flush(snap(1));
    assert_eq!(b.at(n), At::Flush);
}

#[test]
fn ends_with_the_log_write_that_it_joins() {
    let mut b = bench(1);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    assert!(b.desk.log.is_none(), "nobody waits yet");
    let n = b.flush(snap(1));
    assert!(b.desk.log.is_some());
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert!(b.is_good(n));
}

#[test]
fn flushes_by_itself_after_a_log_write_that_it_came_too_late_for() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::Good);
    assert!(b.desk.log.is_some());
    let n = b.flush(snap(1));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Flush);
}

#[test]
fn joins_the_next_log_write_when_records_wait() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::Good);
    b.write_whole(snap(1), 2);
    b.end_overwrite(Ok(()));
    let n = b.flush(snap(1));
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert!(b.is_good(n));
}

#[test]
fn fails_with_the_log_write() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::Good);
    let late = b.flush(snap(1));
    b.submit(snap(1), Op::Write, 2, true, true);
    b.run();
    b.end_overwrite(Ok(()));
    let next = b.flush(snap(1));
    b.end_log(Err(EIO));
    for n in [late, next] {
        assert_eq!(b.at(n), At::Done(Err(EIO)));
    }
    b.finish();
    assert!(b.open().is_empty());
}

#[test]
fn a_record_that_nobody_waits_for_is_committed_after_a_while() {
    let mut b = bench(1);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    assert!(b.desk.log.is_none());
    assert!(!b.desk.later.is_empty());
    b.timer();
    assert!(b.desk.log.is_some());
    b.end_log(Ok(()));
    assert!(b.desk.later.is_empty());
}

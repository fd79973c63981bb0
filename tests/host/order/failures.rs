// SPDX-License-Identifier: GPL-2.0

//! Copies, log writes, checkpoints and calls of the store that fail.

use super::bench::{bench, bench_of, snap, At, Bench};
use crate::engine::order::{Copied, Mode, Op};
use kernel::prelude::*;

fn with_policy(preserve: bool) -> Bench {
    let mut b = bench_of(preserve, 100);
    b.create(2);
    b
}

#[test]
fn what_cannot_be_read_is_lost_and_the_write_heals_it() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        let n = b.write(1);
        b.end_copy(Copied::ReadError);
        assert_eq!(b.at(n), At::Machine);
        b.end_log(Ok(()));
        assert_eq!(b.at(n), At::Origin);
        let read = b.read(snap(2), 1);
        assert_eq!(b.at(read), At::Done(Err(EIO)));
        assert_eq!(b.machine.counts().read_errors, 1);
    }
}

#[test]
fn a_copy_that_cannot_be_written_refuses_the_write() {
    let mut b = with_policy(true);
    let (n, second) = (b.write(1), b.write(1));
    b.end_copy(Copied::WriteError(1));
    assert_eq!(b.at(n), At::Done(Err(EIO)));
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Origin);
    // The next write tries again.
    assert_eq!(b.desk.copies.len(), 1);
    b.finish();
    assert!(b.is_good(second));
}

#[test]
fn a_copy_that_cannot_be_written_is_a_loss() {
    let mut b = with_policy(false);
    let n = b.write(1);
    b.end_copy(Copied::WriteError(u32::MAX));
    assert_eq!(b.at(n), At::Machine);
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
}

#[test]
fn one_bad_destination_of_several_costs_only_its_ids() {
    let mut b = bench_of(false, 100);
    b.create(3);
    b.write_whole(snap(2), 1);
    b.end_overwrite(Ok(()));
    b.finish();
    let n = b.write(1);
    assert_eq!(b.desk.copies.values().next().unwrap().dests.len(), 2);
    b.end_copy(Copied::WriteError(0b10));
    b.finish();
    assert!(b.is_good(n));
    let (one, three) = (b.read(snap(1), 1), b.read(snap(3), 1));
    assert!(matches!(b.at(one), At::Store(_)));
    assert_eq!(b.at(three), At::Done(Err(EIO)));
}

#[test]
fn a_failed_copy_for_a_snapshot_fails_its_write_only() {
    for copied in [Copied::ReadError, Copied::WriteError(1)] {
        let mut b = with_policy(false);
        let n = b.write_part(snap(1), 1);
        let origin = b.write(1);
        b.end_copy(copied);
        assert_eq!(b.at(n), At::Done(Err(EIO)));
        let read = b.read(snap(1), 1);
        b.finish();
        assert!(b.is_good(read));
        assert!(b.is_good(origin), "{copied:?}");
    }
}

#[test]
fn a_failed_overwrite_fails_nobody_else() {
    let mut b = with_policy(true);
    b.write_whole(snap(1), 1);
    let (origin, own) = (b.write(1), b.write_part(snap(1), 1));
    b.end_overwrite(Err(EIO));
    b.finish();
    assert!(b.is_good(origin) && b.is_good(own));
}

#[test]
fn a_failed_log_write_ends_the_store_and_hangs_nobody() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        let in_write = b.write(1);
        b.end_copy(Copied::Good);
        let behind = b.write(2);
        b.end_copy(Copied::Good);
        let copying = b.write(3);
        let fua = b.submit(snap(1), Op::Write, 4, true, true);
        b.run();
        b.end_overwrite(Ok(()));
        let flush = b.flush(snap(1));
        b.end_log(Err(EIO));
        assert_eq!(b.desk.modes, [Mode::Fail]);
        b.finish();
        for n in [in_write, behind, copying] {
            let want = if preserve { Err(EIO) } else { Ok(()) };
            assert_eq!(b.at(n), At::Done(want));
        }
        for n in [fua, flush] {
            assert_eq!(b.at(n), At::Done(Err(EIO)));
        }
        let (read, write) = (b.read(snap(1), 9), b.write_part(snap(1), 9));
        assert_eq!(b.at(read), At::Done(Err(EIO)));
        assert_eq!(b.at(write), At::Done(Err(EIO)));
        assert!(b.open().is_empty());
    }
}

#[test]
fn in_mode_fail_older_reads_are_still_waited_for() {
    let mut b = with_policy(false);
    let read = b.read(snap(1), 1);
    b.write(2);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    let n = b.write(1);
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn a_batch_that_cannot_be_sealed_ends_the_store_and_hangs_nobody() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        b.faults.add("seal", EIO);
        let n = b.write(1);
        b.end_copy(Copied::Good);
        let want = if preserve {
            At::Done(Err(EIO))
        } else {
            At::Origin
        };
        assert_eq!(b.at(n), want);
    }
}

#[test]
fn a_checkpoint_that_cannot_start_ends_the_store_and_hangs_nobody() {
    let mut b = with_policy(false);
    let n = b.write(1);
    b.end_copy(Copied::Good);
    b.faults.add("checkpoint", EIO);
    b.faults.add("add_next_remap", EAGAIN);
    let stalled = b.write(2);
    assert_eq!(b.desk.modes, [Mode::Fail]);
    assert_eq!(b.at(stalled), At::Origin);
    b.finish();
    assert!(b.is_good(n));
}

#[test]
fn a_copy_waits_for_room_in_the_batch() {
    let mut b = bench(1);
    let n = b.write(1);
    b.faults.add("has_room", EAGAIN);
    b.faults.add("has_room", EAGAIN);
    b.end_copy(Copied::Good);
    b.finish();
    assert!(b.is_good(n));
    assert!(b.desk.modes.is_empty());
}

#[test]
fn a_loss_that_waits_for_room_still_conflicts() {
    let mut b = with_policy(false);
    // So that the snapshot's slot has the lower number, and is recorded first.
    b.write(9);
    let origin = b.write(1);
    b.end_copy(Copied::Good);
    for _ in 0..8 {
        b.faults.add("has_room", EAGAIN);
    }
    b.end_copy(Copied::ReadError);
    // The loss is not recorded yet. What the snapshot writes must not be lost with it.
    let n = b.write_whole(snap(1), 1);
    if !b.desk.overwrites.is_empty() {
        b.end_overwrite(Ok(()));
    }
    b.finish();
    assert!(b.is_good(n) && b.is_good(origin));
    let read = b.read(snap(1), 1);
    assert!(matches!(b.at(read), At::Store(_)), "{:?}", b.at(read));
}

#[test]
fn a_record_that_fails_for_a_while_is_made_later() {
    for e in [EAGAIN, ENOMEM] {
        let mut b = bench(1);
        let n = b.write(1);
        b.faults.add("record", e);
        b.end_copy(Copied::Good);
        assert_eq!(b.at(n), At::Machine);
        b.finish();
        assert!(b.is_good(n));
        assert!(b.desk.modes.is_empty());
    }
}

#[test]
fn a_record_that_is_never_made_refuses_the_write() {
    for e in [ENOSPC, EIO] {
        let mut b = with_policy(true);
        for _ in 0..3 {
            b.faults.add("record", e);
        }
        let (origin, part) = (b.write(1), b.write_part(snap(1), 2));
        let whole = b.write_whole(snap(2), 2);
        b.end_copy(Copied::Good);
        b.end_copy(Copied::Good);
        b.end_overwrite(Ok(()));
        for n in [origin, part, whole] {
            assert_eq!(b.at(n), At::Done(Err(e)));
        }
        assert_eq!(b.desk.modes.contains(&Mode::Full), e == ENOSPC);
        b.finish();
        assert!(!b.desk.modes.contains(&Mode::Fail));
    }
}

#[test]
fn a_record_that_is_never_made_is_a_loss() {
    for retry in [false, true] {
        let mut b = with_policy(false);
        b.faults.add("record", ENOSPC);
        if retry {
            b.faults.add("record_lost", EAGAIN);
        }
        let n = b.write(1);
        b.end_copy(Copied::Good);
        b.finish();
        assert!(b.is_good(n));
        let read = b.read(snap(1), 1);
        assert_eq!(b.at(read), At::Done(Err(EIO)));
        assert!(!b.desk.modes.contains(&Mode::Fail));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Copies, log writes, checkpoints and calls of the store that fail.

use super::bench::{bench, bench_of, snap, At, Bench};
use crate::engine::order::{Control, Copied, Mode, Op};
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
fn who_waited_for_a_copy_that_failed_in_part_has_the_rest_copied() {
    let mut b = bench_of(true, 100);
    b.create(3);
    b.write_whole(snap(2), 1);
    b.end_overwrite(Ok(()));
    b.finish();
    let (first, second) = (b.write(1), b.write(1));
    b.end_copy(Copied::WriteError(0b10));
    assert_eq!(b.at(first), At::Done(Err(EIO)));
    assert_eq!(b.desk.copies.len(), 1);
    b.finish();
    assert!(b.is_good(second));
    let three = b.read(snap(3), 1);
    assert!(matches!(b.at(three), At::Store(_)));
}

#[test]
fn a_full_job_that_failed_in_part_is_not_the_last_one() {
    let mut b = bench_of(false, 200);
    b.create(17);
    for id in (2..17).step_by(2) {
        b.write_whole(snap(id), 1);
        b.end_overwrite(Ok(()));
    }
    b.finish();
    let n = b.write(1);
    assert_eq!(b.desk.copies.values().next().unwrap().dests.len(), 8);
    b.end_copy(Copied::WriteError(0b10));
    b.finish();
    assert!(b.is_good(n));
    let (mut kept, mut lost) = (0, 0);
    for id in (1..=17).step_by(2) {
        let read = b.read(snap(id), 1);
        match b.at(read) {
            At::Store(_) => kept += 1,
            At::Done(Err(EIO)) => lost += 1,
            other => panic!("snapshot {id}: {other:?}"),
        }
    }
    assert_eq!((kept, lost), (8, 1));
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

/// Nothing can overwrite what is on a device that is gone, so nothing of it is lost.
#[test]
fn an_origin_that_is_gone_costs_no_content() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        let refused = b.write(1);
        b.end_copy(Copied::Gone);
        b.finish();
        assert_eq!(b.at(refused), At::Done(Err(EIO)));
        let read = b.read(snap(1), 1);
        b.finish();
        assert!(b.is_good(read));
        assert!(b.desk.modes.is_empty());
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
fn a_failed_log_write_is_healed_by_a_checkpoint_and_hangs_nobody() {
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
        for n in [fua, flush] {
            assert_eq!(b.at(n), At::Done(Err(EIO)));
        }
        let (read, write) = (b.read(snap(1), 9), b.write_part(snap(1), 9));
        assert_eq!(b.at(read), At::Done(Err(EIO)));
        assert_eq!(b.at(write), At::Done(Err(EIO)));
        // No origin write goes on before the outcome is known.
        for n in [in_write, behind] {
            assert_eq!(b.at(n), At::Machine);
        }
        b.end_probe(Ok(()));
        b.end_checkpoint(Ok(()));
        assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
        b.finish();
        for n in [in_write, behind, copying] {
            assert!(b.is_good(n));
        }
        // What was copied is there, and so is what was not.
        for chunk in [1, 2, 3, 9] {
            let read = b.read(snap(1), chunk);
            assert!(matches!(b.at(read), At::Store(_)) == (chunk != 9));
        }
        assert_eq!(b.desk.losses, 0);
    }
}

#[test]
fn after_a_heal_older_reads_are_still_waited_for() {
    let mut b = with_policy(true);
    let read = b.read(snap(1), 1);
    let n = b.write(1);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_probe(Ok(()));
    b.end_checkpoint(Ok(()));
    assert_eq!(b.at(n), At::Machine);
    b.end_bio(read);
    assert_eq!(b.at(n), At::Origin);
}

#[test]
fn while_the_device_is_away_the_policy_says_what_becomes_of_writes() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        let n = b.write(1);
        b.end_copy(Copied::Good);
        b.end_log(Err(EIO));
        b.end_probe(Err(EIO));
        let later = b.write(2);
        for n in [n, later] {
            match preserve {
                true => assert_eq!(b.at(n), At::Done(Err(EIO))),
                false => assert_eq!(b.at(n), At::Origin),
            }
        }
        for _ in 0..3 {
            b.timer();
            b.end_probe(Err(EIO));
        }
        b.timer();
        b.end_probe(Ok(()));
        b.end_checkpoint(Ok(()));
        assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
        // What went on without its copy is lost, as is all else that the origin still held.
        let read = b.read(snap(1), 5);
        match preserve {
            true => assert_eq!(b.at(read), At::Origin),
            false => assert_eq!(b.at(read), At::Done(Err(EIO))),
        }
        assert_eq!(b.desk.losses, usize::from(!preserve));
        assert_eq!(b.machine.counts().lost, u64::from(!preserve));
        b.create(1);
        let new = b.write(1);
        b.end_copy(Copied::Good);
        b.finish();
        assert!(b.is_good(new));
        let read = b.read(snap(3), 1);
        assert!(matches!(b.at(read), At::Store(_)));
    }
}

#[test]
fn a_write_that_comes_during_a_heal_waits_for_it() {
    let mut b = with_policy(false);
    b.write(1);
    b.end_copy(Copied::Good);
    let fua = b.submit(snap(1), Op::Write, 4, true, true);
    b.run();
    b.end_log(Err(EIO));
    b.end_probe(Err(EIO));
    // What was parked went on, and is done; a second store has nothing exposed yet.
    b.finish();
    assert!(b.is_good(0) && b.open().is_empty() && !b.is_good(fua));

    let mut b = with_policy(false);
    let name = Control::Name {
        id: crate::store::SnapId::top(1),
        name: [0; 64],
    };
    b.control(name);
    b.end_log(Err(EIO));
    b.end_probe(Err(EIO));
    b.timer();
    b.end_probe(Ok(()));
    let n = b.write(1);
    assert_eq!(b.at(n), At::Machine);
    b.end_checkpoint(Ok(()));
    b.finish();
    assert!(b.is_good(n));
    let read = b.read(snap(1), 1);
    assert!(matches!(b.at(read), At::Store(_)));
    assert_eq!(b.desk.losses, 0);
}

#[test]
fn a_failed_checkpoint_ends_in_a_last_word_when_a_write_must_go_on() {
    for preserve in [true, false] {
        let mut b = with_policy(preserve);
        b.control(Control::Checkpoint);
        b.end_checkpoint(Err(EIO));
        assert_eq!(b.desk.modes, [Mode::Fail]);
        // Nothing is lost as long as nobody writes.
        assert_eq!((b.desk.probes, b.desk.losses), (0, 0));
        let n = b.write(1);
        if preserve {
            assert_eq!(b.at(n), At::Done(Err(EIO)));
            continue;
        }
        assert_eq!(b.at(n), At::Machine);
        b.end_probe(Ok(()));
        assert_eq!(b.at(n), At::Machine);
        b.end_last_word(Ok(()));
        assert_eq!((b.at(n), b.desk.losses), (At::Origin, 1));
        b.finish();
        assert_eq!(b.desk.modes, [Mode::Fail]);
    }
}

#[test]
fn a_last_word_is_tried_until_it_is_written() {
    let mut b = with_policy(false);
    b.control(Control::Checkpoint);
    b.end_checkpoint(Err(EIO));
    let n = b.write(1);
    b.end_probe(Ok(()));
    b.end_last_word(Err(EIO));
    assert_eq!(b.at(n), At::Origin);
    b.timer();
    b.end_probe(Err(EIO));
    b.timer();
    b.end_probe(Ok(()));
    b.end_last_word(Ok(()));
    assert_eq!(b.desk.losses, 1);
    b.end_bio(n);
    // A close has nothing left to say, and is told that the store is not clean.
    b.close();
    assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
}

#[test]
fn a_close_tries_once_more() {
    for good in [true, false] {
        let mut b = with_policy(true);
        let n = b.write(1);
        b.end_copy(Copied::Good);
        b.end_log(Err(EIO));
        b.end_probe(Err(EIO));
        assert_eq!(b.at(n), At::Done(Err(EIO)));
        b.close();
        if good {
            b.end_probe(Ok(()));
            b.end_checkpoint(Ok(()));
            b.end_checkpoint(Ok(()));
            assert_eq!(b.desk.control.pop(), Some(Ok(None)));
        } else {
            b.end_probe(Err(EIO));
            assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
        }
    }
}

#[test]
fn in_mode_fail_older_reads_are_still_waited_for() {
    let mut b = with_policy(false);
    let read = b.read(snap(1), 1);
    b.write(2);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_probe(Err(EIO));
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
        if preserve {
            assert_eq!(b.at(n), At::Done(Err(EIO)));
        } else {
            b.end_probe(Ok(()));
            b.end_last_word(Ok(()));
            assert_eq!(b.at(n), At::Origin);
        }
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
    b.finish();
    assert!(b.is_good(n) && b.is_good(stalled));
    assert_eq!(b.desk.losses, 1);
}

#[test]
fn when_no_loss_can_be_recorded_any_more_all_is_lost_in_one_record() {
    let mut b = bench_of(false, 0);
    b.create(2);
    b.faults.add("record_lost", ENOSPC);
    let (n, other) = (b.write(1), b.write(2));
    // All wait for that record, since it is about every chunk.
    assert_eq!((b.at(n), b.at(other)), (At::Machine, At::Machine));
    b.finish();
    assert!(b.is_good(n) && b.is_good(other));
    assert_eq!(
        (b.desk.losses, b.desk.modes.contains(&Mode::Fail)),
        (1, false)
    );
    let read = b.read(snap(1), 7);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
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
        for n in [part, whole] {
            assert_eq!(b.at(n), At::Done(Err(e)));
        }
        assert_eq!(b.desk.modes.contains(&Mode::Full), e == ENOSPC);
        b.finish();
        // What could not be read may be read soon.
        assert_eq!(
            b.at(origin),
            At::Done(if e == EIO { Ok(()) } else { Err(e) })
        );
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

#[test]
fn what_cannot_be_read_nor_noted_costs_no_more_than_the_write() {
    let mut b = with_policy(true);
    let n = b.write(1);
    b.faults.add("record_lost", ENOSPC);
    b.end_copy(Copied::ReadError);
    assert_eq!(b.at(n), At::Done(Err(ENOSPC)));
    assert_eq!((b.desk.losses, b.machine.mode()), (0, Mode::Full));
    b.finish();
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Origin);
}

#[test]
fn a_loss_that_cannot_be_noted_for_a_while_is_noted_later() {
    let mut b = with_policy(false);
    let n = b.write(1);
    b.faults.add("record", ENOSPC);
    b.faults.add("record_lost", EIO);
    b.end_copy(Copied::Good);
    assert_eq!(b.at(n), At::Machine);
    b.finish();
    assert!(b.is_good(n));
    assert!(!b.desk.modes.contains(&Mode::Fail));
}

#[test]
fn a_store_is_closed_when_nobody_uses_it_or_the_origin_any_more() {
    let mut b = with_policy(true);
    b.write_whole(snap(1), 2);
    b.finish();
    let (origin, store) = (b.read(snap(1), 1), b.read(snap(1), 2));
    assert_eq!(b.at(origin), At::Origin);
    assert!(matches!(b.at(store), At::Store(_)));
    b.desk.control.clear();
    b.close();
    assert!(b.desk.checkpoint.is_none());
    b.end_bio(origin);
    assert!(b.desk.checkpoint.is_none());
    b.end_bio(store);
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
}

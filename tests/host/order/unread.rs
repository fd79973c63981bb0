// SPDX-License-Identifier: GPL-2.0

//! Metadata that cannot be read, for a while or for good.

use super::bench::{bench_of, snap, At, Bench};
use crate::engine::order::{Control, Copied, Mode, Op, Timer};
use crate::store::{SnapId, Who};
use kernel::prelude::*;

/// Tries of a write before it is given up.
const TRIES: usize = 4;

fn with_policy(preserve: bool) -> Bench {
    let mut b = bench_of(preserve, 100);
    b.create(2);
    b
}

/// The next calls of this name cannot read.
fn unreadable(b: &Bench, name: &'static str, times: usize) {
    (0..times).for_each(|_| b.faults.add(name, EIO));
}

/// The timer of a further try runs out.
fn read_again(b: &mut Bench) {
    let old = b.desk.later.remove(&(Timer::Read as usize));
    assert!(old.is_some(), "no timer");
    b.machine.timer(Timer::Read);
    b.run();
}

#[test]
fn a_write_waits_for_what_can_be_read_soon() {
    for preserve in [true, false] {
        for name in ["query_next_remap", "add_next_remap"] {
            let mut b = with_policy(preserve);
            unreadable(&b, name, TRIES - 1);
            let n = b.write(1);
            for _ in 1..TRIES {
                assert_eq!(b.at(n), At::Machine);
                read_again(&mut b);
            }
            let other = b.write(2);
            b.finish();
            assert!(b.is_good(n) && b.is_good(other));
            let read = b.read(snap(1), 1);
            assert!(matches!(b.at(read), At::Store(_)));
            assert!(b.desk.modes.is_empty() && b.desk.losses == 0);
        }
    }
}

#[test]
fn then_it_is_refused_alone_if_snapshots_are_to_be_kept() {
    let mut b = with_policy(true);
    unreadable(&b, "query_next_remap", TRIES);
    let n = b.write(1);
    (1..TRIES).for_each(|_| read_again(&mut b));
    assert_eq!(b.at(n), At::Done(Err(EIO)));
    let other = b.write(2);
    let again = b.write(1);
    b.finish();
    assert!(b.is_good(other) && b.is_good(again));
    assert!(b.desk.modes.is_empty() && b.desk.losses == 0);
    assert_eq!(b.machine.counts().meta_errors, TRIES as u64);
}

#[test]
fn or_goes_on_when_the_loss_of_all_is_durable() {
    let mut b = with_policy(false);
    let kept = b.write(2);
    b.finish();
    assert!(b.is_good(kept));
    unreadable(&b, "query_next_remap", 100);
    let n = b.write(1);
    (1..TRIES).for_each(|_| read_again(&mut b));
    assert_eq!((b.at(n), b.desk.losses), (At::Machine, 1));
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
    // Nothing is left to be read for.
    let other = b.write(3);
    assert_eq!(b.at(other), At::Origin);
    let (lost, kept) = (b.read(snap(2), 1), b.read(snap(2), 2));
    assert_eq!(b.at(lost), At::Done(Err(EIO)));
    assert!(matches!(b.at(kept), At::Store(_)));
    assert!(b.desk.modes.is_empty());
}

#[test]
fn a_discard_is_no_reason_for_a_loss() {
    let mut b = with_policy(false);
    b.machine.set_discard_copy(true);
    unreadable(&b, "query_next_remap", 1);
    let n = b.submit(Who::Origin, Op::Discard, 1, true, false);
    b.run();
    assert!(b.is_good(n));
    assert_eq!(b.desk.losses, 0);
}

#[test]
fn a_write_has_all_its_tries_whatever_became_of_others() {
    let mut b = with_policy(false);
    for chunk in 1..10 {
        unreadable(&b, "query_next_remap", 1);
        let n = b.write(chunk);
        read_again(&mut b);
        b.end_copy(Copied::Good);
        b.end_log(Ok(()));
        assert_eq!(b.at(n), At::Origin);
    }
    b.finish();
    assert_eq!(b.desk.losses, 0);
}

#[test]
fn a_copy_that_cannot_be_recorded_is_made_again() {
    for (preserve, name) in [(false, "record"), (true, "record"), (false, "record_lost")] {
        for times in [1, 2 * TRIES] {
            let mut b = with_policy(preserve);
            let n = b.write(1);
            unreadable(&b, name, times);
            for _ in 0..TRIES {
                if b.desk.copies.is_empty() {
                    break;
                }
                b.end_copy(match name {
                    "record" => Copied::Good,
                    _ => Copied::WriteError(u32::MAX),
                });
                if b.desk.later.contains_key(&(Timer::Read as usize)) {
                    read_again(&mut b);
                }
            }
            b.finish();
            let kept = times == 1 && name == "record";
            let lost = b.desk.losses;
            assert_eq!(b.at(n) == At::Done(Err(EIO)), preserve && times != 1);
            assert_eq!(lost, usize::from(!preserve && times != 1));
            let read = b.read(snap(1), 1);
            assert_eq!(matches!(b.at(read), At::Store(_)), kept, "{name} {times}");
            assert!(b.desk.modes.is_empty());
        }
    }
}

#[test]
fn a_loss_of_all_that_has_no_room_yet_is_tried_again() {
    let mut b = with_policy(false);
    let n = b.write(1);
    unreadable(&b, "record", TRIES);
    b.faults.add("record_all_lost", EAGAIN);
    for _ in 1..TRIES {
        b.end_copy(Copied::Good);
        read_again(&mut b);
    }
    // The last one, long after the timer.
    b.end_copy(Copied::Good);
    b.finish();
    assert!(b.is_good(n) && b.open().is_empty());
    assert_eq!(b.desk.losses, 0);
}

#[test]
fn what_an_unreadable_origin_loses_is_not_all_under_preserve_on_error() {
    let mut b = with_policy(true);
    let n = b.write(1);
    unreadable(&b, "record_lost", 1);
    b.end_copy(Copied::ReadError);
    read_again(&mut b);
    b.end_copy(Copied::ReadError);
    b.finish();
    assert!(b.is_good(n));
    assert_eq!(b.desk.losses, 0);
    let (lost, other) = (b.read(snap(1), 1), b.read(snap(1), 2));
    assert_eq!(b.at(lost), At::Done(Err(EIO)));
    assert_eq!(b.at(other), At::Origin);
}

#[test]
fn a_device_that_takes_nothing_either_ends_in_mode_fail() {
    let mut b = with_policy(false);
    unreadable(&b, "query_next_remap", TRIES);
    let n = b.write(1);
    (1..TRIES).for_each(|_| read_again(&mut b));
    b.end_log(Err(EIO));
    assert_eq!(b.desk.modes, [Mode::Fail]);
    b.end_probe(Err(EIO));
    assert_eq!(b.at(n), At::Origin);
    b.finish();
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
}

#[test]
fn waiting_writes_are_not_forgotten_when_the_mode_becomes_fail() {
    let mut b = with_policy(true);
    unreadable(&b, "query_next_remap", 1);
    let n = b.write(1);
    let other = b.write(2);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_probe(Err(EIO));
    for n in [n, other] {
        assert_eq!(b.at(n), At::Done(Err(EIO)));
    }
    b.finish();
    let again = b.write(1);
    b.finish();
    assert!(b.is_good(again) && b.open().is_empty());
}

#[test]
fn a_sweep_goes_on_after_an_error() {
    let mut b = with_policy(true);
    unreadable(&b, "sweep_step", 3);
    b.control(Control::Delete { id: SnapId::top(1) });
    b.end_log(Ok(()));
    while b.desk.log.is_some() {
        b.end_log(Ok(()));
    }
    for _ in 0..3 {
        assert!(b.machine.is_sweeping());
        b.timer();
    }
    b.finish();
    assert!(!b.machine.is_sweeping());
    assert_eq!(b.machine.counts().meta_errors, 3);
}

#[test]
fn a_deletion_ends_when_what_it_takes_can_be_read() {
    let mut b = with_policy(true);
    unreadable(&b, "forget", 2);
    b.control(Control::Delete { id: SnapId::top(1) });
    b.end_log(Ok(()));
    assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
    // Another one does not wait for that.
    b.control(Control::Delete { id: SnapId::top(2) });
    assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
    assert_eq!(b.desk.gone, []);
    read_again(&mut b);
    assert_eq!(b.desk.gone, []);
    read_again(&mut b);
    assert_eq!(b.desk.gone, [SnapId::top(1)]);
    b.control(Control::Delete { id: SnapId::top(2) });
    b.finish();
    assert_eq!(b.desk.control.pop(), Some(Ok(None)));
}

#[test]
fn a_deletion_that_waits_holds_up_no_stop() {
    let mut b = with_policy(true);
    unreadable(&b, "forget", 1000);
    b.control(Control::Delete { id: SnapId::top(1) });
    b.end_log(Ok(()));
    assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
    b.close();
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.control.pop(), Some(Ok(None)));
}

// SPDX-License-Identifier: GPL-2.0

//! What a heal must not forget.

use super::bench::{bench, bench_of, snap, At, Bench};
use crate::engine::order::{Control, Copied, Mode};
use crate::store::{SnapId, NAME_LEN};
use kernel::prelude::*;

/// A log write and a checkpoint are out, and a record has been made behind them; the log write
/// fails, the checkpoint ends the doubt.
fn healed_by_a_checkpoint_that_was_out(b: &mut Bench, chunk: u64) -> usize {
    b.write_whole(snap(1), 9);
    b.end_overwrite(Ok(()));
    b.control(Control::Checkpoint);
    assert!(b.desk.log.is_some());
    // The checkpoint begins as soon as the batch is closed.
    assert!(b.desk.checkpoint.is_some());
    let n = b.write(chunk);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_checkpoint(Ok(()));
    b.end_probe(Ok(()));
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
    n
}

#[test]
fn a_record_that_is_in_the_batch_still_is_waited_for() {
    let mut b = bench(1);
    let n = healed_by_a_checkpoint_that_was_out(&mut b, 2);
    assert_eq!(b.at(n), At::Machine);
    assert!(!b.desk.preserved.contains(&crate::store::Chunk(2)));
    b.end_log(Ok(()));
    assert_eq!(b.at(n), At::Origin);
    b.finish();
    assert!(b.is_good(n));
}

#[test]
fn a_copy_that_was_overtaken_by_an_unprotected_write_is_not_recorded() {
    let mut b = bench_of(false, 100);
    b.create(1);
    let first = b.write(1);
    let part = b.write_part(snap(1), 2);
    assert_eq!(b.desk.copies.len(), 2);
    b.control(Control::Name {
        id: SnapId::top(1),
        name: [0; NAME_LEN],
    });
    b.end_log(Err(EIO));
    let (one, two) = (b.write(1), b.write(2));
    b.end_probe(Err(EIO));
    assert_eq!((b.at(one), b.at(two)), (At::Origin, At::Origin));
    b.end_bio(one);
    b.end_bio(two);
    b.timer();
    b.end_probe(Ok(()));
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
    b.end_copy(Copied::Good);
    b.end_copy(Copied::Good);
    b.finish();
    assert!(b.is_good(first));
    assert_eq!(b.at(part), At::Done(Err(EIO)));
    for chunk in [1, 2] {
        let read = b.read(snap(1), chunk);
        assert_eq!(b.at(read), At::Done(Err(EIO)));
    }
}

#[test]
fn a_loss_is_said_though_the_policy_has_changed() {
    let mut b = bench_of(false, 100);
    b.create(1);
    b.control(Control::Checkpoint);
    b.end_checkpoint(Err(EIO));
    let n = b.write(1);
    b.end_probe(Err(EIO));
    assert_eq!(b.at(n), At::Origin);
    b.machine.set_preserve_on_error(true);
    b.run();
    b.timer();
    b.end_probe(Ok(()));
    b.end_last_word(Ok(()));
    assert_eq!(b.desk.losses, 1);
    assert_eq!(b.machine.counts().lost, 1);
    let later = b.write(2);
    b.finish();
    assert_eq!(b.at(later), At::Done(Err(EIO)));
    assert_eq!(b.desk.losses, 1);
}

#[test]
fn a_deletion_is_not_half_done() {
    let mut b = bench(2);
    b.control(Control::Delete { id: SnapId::top(1) });
    // Durable, but there is no memory to forget it with; then the log fails.
    for _ in 0..3 {
        b.faults.add("forget", ENOMEM);
    }
    b.end_log(Ok(()));
    assert!(b.desk.control.is_empty());
    let n = b.write(1);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.finish();
    assert!(b.is_good(n));
    assert_eq!(b.desk.gone, [SnapId::top(1)]);
    assert!(!b.machine.store().is_live(SnapId::top(1)));
}

#[test]
fn a_create_that_failed_does_not_stay() {
    let mut b = bench(1);
    b.begin_create();
    b.end_log(Err(EIO));
    assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
    b.finish();
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
    assert_eq!(b.desk.gone, [SnapId::top(2)]);
    assert_eq!(b.machine.store().live_ids(), 1);
    b.create(1);
    assert_eq!(b.machine.store().live_ids(), 2);
}

#[test]
fn a_deletion_in_the_batch_is_in_force_when_that_is_out() {
    let mut b = bench(1);
    b.write_whole(snap(1), 9);
    b.end_overwrite(Ok(()));
    b.faults.add("add_next_remap", EAGAIN);
    let n = b.write(5);
    assert!(b.desk.log.is_some() && b.desk.checkpoint.is_some());
    b.control(Control::Delete { id: SnapId::top(1) });
    b.end_log(Err(EIO));
    b.end_checkpoint(Ok(()));
    b.end_probe(Ok(()));
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
    assert!(b.desk.gone.is_empty(), "its record is in the batch");
    assert!(b.machine.store().is_live(SnapId::top(1)));
    b.finish();
    assert!(b.is_good(n));
    assert_eq!(b.desk.gone, [SnapId::top(1)]);
    assert!(!b.machine.store().is_live(SnapId::top(1)));
}

#[test]
fn what_a_last_word_says_is_what_counts() {
    let mut b = bench(1);
    b.control(Control::Checkpoint);
    b.machine.store().set_needs_check();
    b.end_checkpoint(Err(EIO));
    b.end_probe(Ok(()));
    assert!(b.desk.last_word.is_some());
    // Nothing is lost under the policy of then, and the other one has it lost.
    b.machine.set_preserve_on_error(false);
    b.end_last_word(Ok(()));
    assert_eq!(b.desk.losses, 0);
    let n = b.write(1);
    assert_eq!(b.at(n), At::Machine);
    b.end_probe(Ok(()));
    b.end_last_word(Ok(()));
    assert_eq!((b.at(n), b.desk.losses), (At::Origin, 1));
}

#[test]
fn a_create_that_failed_is_withdrawn_though_that_fails_once() {
    let mut b = bench(1);
    b.begin_create();
    b.end_log(Err(EIO));
    b.faults.add("delete", EIO);
    b.finish();
    assert_eq!(b.desk.gone, [SnapId::top(2)]);
    assert_eq!(b.machine.store().live_ids(), 1);
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
}

#[test]
fn a_deletion_is_in_force_when_the_log_write_is_out_and_done() {
    let mut b = bench(1);
    b.write_whole(snap(1), 9);
    b.end_overwrite(Ok(()));
    b.faults.add("add_next_remap", EAGAIN);
    b.write(5);
    b.control(Control::Delete { id: SnapId::top(1) });
    b.end_log(Err(EIO));
    b.end_checkpoint(Ok(()));
    // The first look at it fails, and the batch goes out meanwhile.
    b.faults.add("delete", EIO);
    b.end_probe(Ok(()));
    for _ in 0..20 {
        if b.desk.log.is_some()
            && b.machine.store().has_room(1)
            && !b.machine.store().has_unsealed()
        {
            break;
        }
        match b.desk.copies.is_empty() {
            true => b.timer(),
            false => b.end_copy(Copied::Good),
        }
    }
    assert!(b.desk.log.is_some() && !b.machine.store().has_unsealed());
    for _ in 0..3 {
        if !b.desk.later.is_empty() {
            b.timer();
        }
        b.run();
    }
    assert!(b.desk.gone.is_empty(), "its record is on its way");
    b.finish();
    assert_eq!(b.desk.gone, [SnapId::top(1)]);
}

#[test]
fn a_create_in_doubt_and_a_deletion_that_waits_both_go() {
    let mut b = bench(1);
    b.write_whole(snap(1), 9);
    b.end_overwrite(Ok(()));
    b.finish();
    // Durable, and cannot be carried out for now.
    b.control(Control::Delete { id: SnapId::top(1) });
    for _ in 0..3 {
        b.faults.add("forget", EIO);
    }
    b.end_log(Ok(()));
    b.desk.control.clear();
    b.faults.add("add_next_remap", EAGAIN);
    b.write(5);
    b.begin_create();
    while b.desk.checkpoint.is_none() || b.desk.log.is_none() {
        b.timer();
    }
    let n = b.write(7);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_checkpoint(Ok(()));
    b.end_probe(Ok(()));
    b.finish();
    assert!(b.is_good(n));
    assert_eq!(b.desk.gone.len(), 2, "{:?}", b.desk.gone);
    assert_eq!(b.machine.store().live_ids(), 0);
}

#[test]
fn all_can_be_lost_though_a_withdrawal_cannot_be_done() {
    let mut b = bench(1);
    b.begin_create();
    b.end_log(Err(EIO));
    b.desk.control.clear();
    for _ in 0..4 {
        b.faults.add("delete", EIO);
    }
    b.end_probe(Ok(()));
    b.end_checkpoint(Ok(()));
    b.control(Control::LoseAll);
    b.end_log(Ok(()));
    b.finish();
    assert_eq!(b.desk.control, [Ok(None)]);
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
}

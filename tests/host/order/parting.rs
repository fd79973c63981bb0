// SPDX-License-Identifier: GPL-2.0

//! The loss of all that the origin holds, which is written down before others may write it.

use super::bench::{bench, bench_of, snap, At};
use crate::engine::order::{Control, Copied, Mode};
use kernel::prelude::*;

#[test]
fn it_is_told_when_it_is_durable() {
    let mut b = bench(2);
    b.control(Control::LoseAll);
    assert!(b.desk.control.is_empty());
    assert!(
        b.machine.control(Control::LoseAll).is_err(),
        "one at a time"
    );
    b.end_log(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
    let read = b.read(snap(2), 1);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
}

#[test]
fn who_still_reads_the_origin_is_waited_for() {
    let mut b = bench(1);
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Origin);
    b.control(Control::LoseAll);
    b.end_log(Ok(()));
    // What others write now, the read must not see.
    assert!(b.desk.control.is_empty());
    assert!(b.machine.control(Control::LoseAll).is_err(), "not yet done");
    b.end_bio(read);
    assert_eq!(b.desk.control, [Ok(None)]);
}

#[test]
fn a_copy_from_the_origin_is_waited_for_and_kept() {
    let mut b = bench(1);
    let n = b.write_part(snap(1), 1);
    assert_eq!(b.desk.copies.len(), 1);
    b.control(Control::LoseAll);
    b.end_log(Ok(()));
    assert!(b.desk.control.is_empty());
    b.end_copy(Copied::Good);
    assert_eq!(b.desk.control, [Ok(None)]);
    b.finish();
    assert!(b.is_good(n));
    // It was copied before others could write it, so it is right.
    let read = b.read(snap(1), 1);
    assert!(matches!(b.at(read), At::Store(_)));
    let read = b.read(snap(1), 2);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
}

#[test]
fn no_read_goes_to_the_origin_once_it_is_asked_for() {
    let mut b = bench(1);
    b.control(Control::LoseAll);
    let read = b.read(snap(1), 1);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
    let write = b.write_part(snap(1), 2);
    b.finish();
    assert_eq!(b.at(write), At::Done(Err(EIO)));
    assert!(b.desk.copies.is_empty());
}

#[test]
fn if_it_cannot_be_written_the_close_says_it() {
    for preserve in [false, true] {
        let mut b = bench_of(preserve, 100);
        b.create(1);
        b.control(Control::LoseAll);
        b.end_log(Err(EIO));
        assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
        assert_eq!(b.desk.modes, [Mode::Fail]);
        // The try that follows a failure may come to nothing.
        b.end_probe(Err(EIO));
        b.close();
        b.end_probe(Ok(()));
        // The checkpoint that ends the doubt has the loss in it.
        b.end_checkpoint(Ok(()));
        assert_eq!(b.desk.losses, 1);
        let read = b.read(snap(1), 1);
        assert_eq!(b.at(read), At::Done(Err(EIO)));
        b.end_checkpoint(Ok(()));
        assert_eq!(b.desk.control.pop(), Some(Ok(None)));
    }
}

#[test]
fn in_mode_fail_the_last_word_says_it() {
    for preserve in [false, true] {
        let mut b = bench_of(preserve, 100);
        b.create(1);
        let read = b.read(snap(1), 3);
        b.control(Control::Checkpoint);
        b.end_checkpoint(Err(EIO));
        assert_eq!(b.desk.modes, [Mode::Fail]);
        b.desk.control.clear();
        b.control(Control::LoseAll);
        // In this mode too.
        assert!(b.desk.control.is_empty());
        b.end_bio(read);
        assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
        b.close();
        b.end_probe(Ok(()));
        b.end_last_word(Ok(()));
        assert_eq!(b.desk.losses, 1);
        assert_eq!(b.desk.control.pop(), Some(Err(EIO)));
    }
}

#[test]
fn a_checkpoint_that_heals_meanwhile_does_not_speak_for_it() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    assert_eq!(b.desk.modes, [Mode::Fail]);
    b.end_probe(Ok(()));
    // That one was made before anybody asked.
    b.control(Control::LoseAll);
    assert!(b.desk.control.is_empty());
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.modes, [Mode::Fail, Mode::Rw]);
    // So it is written as always.
    assert!(b.desk.control.is_empty());
    b.end_log(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
    let read = b.read(snap(1), 2);
    assert_eq!(b.at(read), At::Done(Err(EIO)));
}

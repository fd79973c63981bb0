// SPDX-License-Identifier: GPL-2.0

//! How fast a sweep is.

use super::bench::{bench, bench_of, snap, At, Bench};
use crate::engine::order::{Control, Copied, Mode, Op, Timer};
use crate::store::SnapId;
use kernel::error::code::{EAGAIN, ENOSPC};
use std::sync::atomic::Ordering::SeqCst;

/// Whoever keeps the worker busy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    Nobody,
    /// A write whose copy is under way.
    Copy,
    /// A bio that is not the machine's business.
    Other,
}

/// Deletes a snapshot, whose sweep would take `steps` steps.
fn delete(b: &mut Bench, steps: u32) {
    b.sweep_left.store(steps, SeqCst);
    b.control(Control::Delete { id: SnapId::top(1) });
    while b.desk.log.is_some() {
        b.end_log(Ok(()));
    }
    assert!(b.machine.is_sweeping());
}

/// Milliseconds until the next turn.
fn until_next_turn(busy: Busy) -> Option<u32> {
    let mut b = bench(2);
    let write = (busy == Busy::Copy).then(|| b.write(1));
    b.desk.used = busy == Busy::Other;
    delete(&mut b, 0);
    let ms = b.desk.later.get(&(Timer::Sweep as usize)).copied();
    if let Some(write) = write {
        b.end_copy(Copied::Good);
        b.finish();
        assert!(b.is_good(write));
    }
    b.finish();
    assert!(!b.machine.is_sweeping());
    ms
}

#[test]
fn a_sweep_makes_way_for_others() {
    assert_eq!(until_next_turn(Busy::Copy), Some(10));
    assert_eq!(until_next_turn(Busy::Other), Some(10));
    assert_eq!(until_next_turn(Busy::Nobody), Some(1));
}

/// Steps of a turn during which something arrives, or nothing.
fn turn(wanted: bool) -> u32 {
    let mut b = bench(2);
    delete(&mut b, 1000);
    b.desk.wanted = wanted;
    let before = b.sweep_left.load(SeqCst);
    b.machine.timer(Timer::Sweep);
    b.run();
    before - b.sweep_left.load(SeqCst)
}

#[test]
fn a_turn_is_over_when_something_arrives() {
    assert_eq!(turn(false), 64);
    assert_eq!(turn(true), 4);
}

/// Each write may cost content there: nobody is waited for until the sweep is over.
#[test]
fn a_sweep_of_a_full_store_makes_way_for_nobody() {
    let mut b = bench_of(true, 1);
    b.create(2);
    b.desk.wanted = true;
    b.desk.used = true;
    b.write(1);
    b.finish();
    let refused = b.write(2);
    b.finish();
    assert_eq!(b.at(refused), At::Done(Err(ENOSPC)));
    assert_eq!(b.desk.modes, [Mode::Full]);
    delete(&mut b, 100);
    let sweep = Timer::Sweep as usize;
    assert_eq!(b.desk.later.get(&sweep), Some(&1));
    b.timer();
    assert_eq!(b.sweep_left.load(SeqCst), 100 - 64);
    b.timer();
    assert!(!b.machine.is_sweeping());
}

/// Records of others would fill each batch, and the one after it.
#[test]
fn a_sweep_is_the_first_to_use_a_batch() {
    let mut b = bench(2);
    delete(&mut b, 8);
    b.desk.wanted = true;
    for chunk in 0..100 {
        b.submit(snap(2), Op::Zero, chunk, true, false);
    }
    b.timer();
    assert_eq!(b.sweep_left.load(SeqCst), 8 - 4);
    assert!(b.desk.log.is_some());
    assert!(!b.open().is_empty());
}

/// A turn that finds no room is made up for as soon as there is some.
#[test]
fn a_sweep_without_room_waits_for_no_timer() {
    let mut b = bench(2);
    delete(&mut b, 8);
    // The command that nobody gives is the first to ask.
    b.faults.add("has_room", EAGAIN);
    b.faults.add("has_room", EAGAIN);
    b.timer();
    assert_eq!(b.sweep_left.load(SeqCst), 8);
    b.end_checkpoint(Ok(()));
    assert!(b.sweep_left.load(SeqCst) < 8);
}

/// However busy the worker is.
#[test]
fn a_sweep_comes_to_its_end() {
    let mut b = bench(2);
    delete(&mut b, 1000);
    b.desk.wanted = true;
    for _ in 0..1000 / 4 {
        assert!(b.machine.is_sweeping());
        b.read(snap(2), 1);
        b.timer();
    }
    b.timer();
    assert!(!b.machine.is_sweeping());
}

// SPDX-License-Identifier: GPL-2.0

//! How fast a sweep is.

use super::bench::{bench, snap, Bench};
use crate::engine::order::{Control, Copied, Timer};
use crate::store::SnapId;
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

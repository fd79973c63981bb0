// SPDX-License-Identifier: GPL-2.0

//! How fast a sweep is.

use super::bench::bench;
use crate::engine::order::{Control, Copied, Timer};
use crate::store::SnapId;

/// Milliseconds until the next step, with a copy under way or nothing.
fn until_next_step(busy: bool) -> Option<u32> {
    let mut b = bench(2);
    let write = busy.then(|| b.write(1));
    b.control(Control::Delete { id: SnapId::top(1) });
    while b.desk.log.is_some() {
        b.end_log(Ok(()));
    }
    assert!(b.machine.is_sweeping());
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
fn a_sweep_makes_way_for_writes() {
    assert_eq!(until_next_step(true), Some(20));
    assert_eq!(until_next_step(false), Some(1));
}

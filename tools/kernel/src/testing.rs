// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail, for tests. The real crate has nothing like it.

use core::cell::Cell;

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Lets the allocation after the next `n` of this thread fail, once; `None`: none fails.
pub fn fail_allocation_after(n: Option<u64>) {
    LEFT.set(n);
}

/// Allocations of this thread so far, those that failed included.
pub fn allocations() -> u64 {
    COUNT.get()
}

/// Counts an allocation and says whether it succeeds.
pub(crate) fn allocation_succeeds() -> bool {
    COUNT.set(COUNT.get() + 1);
    match LEFT.get() {
        Some(0) => {
            LEFT.set(None);
            false
        }
        Some(n) => {
            LEFT.set(Some(n - 1));
            true
        }
        None => true,
    }
}

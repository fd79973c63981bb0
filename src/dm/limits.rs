// SPDX-License-Identifier: GPL-2.0

//! The limits of a mapped device.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::ffi;
use core::marker::PhantomData;

/// The limits of a mapped device, in a target's `io_hints`.
///
/// # Invariants
///
/// The pointer is valid during `'a`, and nobody else uses what it points to.
pub(crate) struct Limits<'a> {
    limits: *mut ffi::QueueLimits,
    _limits: PhantomData<&'a mut ffi::QueueLimits>,
}

impl Limits<'_> {
    /// Wraps what dm passes to `io_hints`.
    ///
    /// # Safety
    ///
    /// The pointer is valid during the value's life, and nobody else uses it then.
    pub(super) unsafe fn new(limits: *mut ffi::QueueLimits) -> Self {
        // INVARIANT: By the function's contract.
        Self {
            limits,
            _limits: PhantomData,
        }
    }

    /// Sets the preferred smallest unit of I/O, in bytes.
    pub(crate) fn io_min(&mut self, bytes: u32) {
        // SAFETY: By the type invariant.
        unsafe { ffi::ms_limits_io(self.limits, bytes, 0) };
    }

    /// Sets the preferred size of I/O, in bytes.
    pub(crate) fn io_opt(&mut self, bytes: u32) {
        // SAFETY: By the type invariant.
        unsafe { ffi::ms_limits_io(self.limits, 0, bytes) };
    }

    /// Sets the unit of discards in bytes, counted from the device's start, and the most sectors
    /// of one.
    pub(crate) fn discard(&mut self, granularity: u32, max_sectors: u32) {
        // SAFETY: By the type invariant.
        unsafe { ffi::ms_limits_discard(self.limits, granularity, max_sectors) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Clocks, and random numbers.

use super::ffi;

/// Seconds since 1970; 0 if the clock is set to earlier.
pub(crate) fn real_seconds() -> u64 {
    // SAFETY: It reads a clock; any context.
    u64::try_from(unsafe { ffi::ktime_get_real_seconds() }).unwrap_or(0)
}

/// Milliseconds of a clock that never goes back. Any context.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: It reads a clock; any context.
    unsafe { ffi::ms_now_ms() }
}

/// 16 random bytes.
pub(crate) fn random_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // SAFETY: It fills that many bytes.
    unsafe { ffi::get_random_bytes(uuid.as_mut_ptr().cast(), uuid.len()) };
    uuid
}

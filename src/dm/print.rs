// SPDX-License-Identifier: GPL-2.0

//! A limit for messages that could come in great numbers.

use super::ffi;

/// Whether another such message may be printed now: ten in five seconds, for the whole module.
/// Any context.
pub(crate) fn allowed() -> bool {
    // SAFETY: It takes a lock of its own, if it can be had.
    unsafe { ffi::ms_ratelimit() }
}

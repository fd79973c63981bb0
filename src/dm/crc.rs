// SPDX-License-Identifier: GPL-2.0

//! Checksums.

use super::ffi;

/// crc32c of `data`, continued from `seed`, with no inversion before or after.
pub(crate) fn crc32c(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: It reads that many bytes.
    unsafe { ffi::crc32c(seed, data.as_ptr().cast(), data.len()) }
}

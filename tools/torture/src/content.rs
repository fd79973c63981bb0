// SPDX-License-Identifier: GPL-2.0

//! What is in a sector: it tells which write made it, and of which sector.

use std::alloc::{alloc_zeroed, dealloc, Layout};

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// The number of a write; 0 has left zeroes.
pub type Version = u32;

/// Memory that may be read and written past the page cache.
pub struct Buffer {
    data: *mut u8,
    len: usize,
}

const PAGE: usize = 4096;

impl Buffer {
    /// So many sectors of it.
    pub fn new(sectors: usize) -> Self {
        let len = (sectors * SECTOR).next_multiple_of(PAGE);
        // SAFETY: The length is not zero.
        let data = unsafe { alloc_zeroed(Self::layout(len)) };
        assert!(!data.is_null(), "no memory");
        Buffer { data, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(PAGE), PAGE).expect("a page is aligned")
    }

    /// The first `sectors` sectors.
    pub fn sectors(&mut self, sectors: usize) -> &mut [u8] {
        assert!(sectors * SECTOR <= self.len);
        // SAFETY: It is ours, initialised, and long enough.
        unsafe { std::slice::from_raw_parts_mut(self.data, sectors * SECTOR) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: It was allocated so.
        unsafe { dealloc(self.data, Self::layout(self.len)) };
    }
}

fn word(version: Version, sector: u64, n: usize) -> u64 {
    match n {
        0 => u64::from(version),
        1 => sector,
        _ => ((u64::from(version) << 32) ^ sector)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(n as u32),
    }
}

/// Fills a sector as the write `version` does.
pub fn fill(data: &mut [u8], version: Version, sector: u64) {
    if version == 0 {
        return data.fill(0);
    }
    for (n, bytes) in data.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(version, sector, n).to_le_bytes());
    }
}

/// Whether it is what the write `version` left.
pub fn matches(data: &[u8], version: Version, sector: u64) -> bool {
    if version == 0 {
        return data.iter().all(|&b| b == 0);
    }
    data.chunks_exact(8)
        .enumerate()
        .all(|(n, bytes)| bytes == word(version, sector, n).to_le_bytes())
}

/// Says what is in a sector.
pub fn describe(data: &[u8]) -> String {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&data[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let (version, sector) = (number(0), number(8));
    let whole = Version::try_from(version).is_ok_and(|v| matches(data, v, sector));
    match (version, whole) {
        (0, true) => "zeroes".to_owned(),
        (_, true) => format!("write {version} of sector {sector}"),
        _ => format!("torn: begins with write {version} of sector {sector}"),
    }
}

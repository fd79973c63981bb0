// SPDX-License-Identifier: GPL-2.0

//! How an origin is known again.

use super::BLOCK_SECTORS;
use crate::store::format;

/// Digests of some places of the origin: how it is known again after a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Digest of the 4 KiB at each [`position`](Self::position).
    pub(crate) digests: [u64; format::SAMPLES],
}

impl Identity {
    /// Sector where sample `i` begins, in an origin of this size. The last sample may be cut
    /// short by the origin's end.
    pub(crate) fn position(i: usize, origin_sectors: u64) -> u64 {
        // The first blocks one by one, where labels and superblocks are; the rest spread evenly.
        let last = origin_sectors.saturating_sub(1) / BLOCK_SECTORS;
        let i = (i as u64).min(format::SAMPLES as u64 - 1);
        let block = match i {
            0..=7 => i.min(last),
            _ => {
                let steps = format::SAMPLES as u64 - 8;
                // `last` may be large: divide before multiplying, then add what was cut off.
                let step = i - 7;
                last / steps * step + last % steps * step / steps
            }
        };
        block * BLOCK_SECTORS
    }

    /// How many samples of an origin of this size are taken: a part of a block at its end is none.
    pub(crate) fn taken(origin_sectors: u64) -> usize {
        let end = origin_sectors / BLOCK_SECTORS;
        (0..format::SAMPLES)
            .filter(|&i| Self::position(i, origin_sectors) / BLOCK_SECTORS < end)
            .count()
    }

    /// Digest of the content of a sample.
    pub(crate) fn digest(data: &[u8]) -> u64 {
        data.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, &b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// How many samples differ.
    pub(crate) fn differing(&self, other: &Self) -> usize {
        self.digests
            .iter()
            .zip(&other.digests)
            .filter(|(a, b)| a != b)
            .count()
    }
}

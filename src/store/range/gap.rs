// SPDX-License-Identifier: GPL-2.0

//! Which live ids have no record of a chunk: what an origin write must preserve.

use super::map::Map;
use crate::store::{blocks::Blocks, meta::Meta, snaps::Snaps, types::SnapId};
use kernel::prelude::*;

/// Records of dead ids that a gap may span; recording it removes all of them at once.
const SPAN_MAX: usize = 32;

/// The first gap from `from` on: the numbers from the span of its first live id to its last live
/// id. No live id within it has a record.
pub(super) fn next_gap<B: Blocks>(
    map: &Map,
    m: &mut Meta<B>,
    snaps: &Snaps,
    chunk: u64,
    from: u64,
) -> Result<Option<(u64, u64)>> {
    let mut from = from;
    let (first, mut next) = loop {
        let Some(id) = snaps.next_live(SnapId(from)) else {
            return Ok(None);
        };
        match map.around(m, chunk, id.0)? {
            (None, after) => break (id, after),
            (Some(rec), _) => match rec.hi.checked_add(1) {
                Some(next) => from = next,
                None => return Ok(None),
            },
        }
    };
    let lo = snaps.span_start(first).0;
    let mut hi = first.0;
    for _ in 0..=SPAN_MAX {
        // What is live before the next record has none.
        let limit = next.map_or(u64::MAX, |rec| rec.lo - 1);
        if let Some(last) = snaps.prev_live(SnapId(limit)) {
            hi = hi.max(last.0);
        }
        let Some(rec) = next else {
            break;
        };
        if snaps
            .next_live(SnapId(rec.lo))
            .is_some_and(|id| id.0 <= rec.hi)
        {
            break;
        }
        next = match rec.hi.checked_add(1) {
            Some(lo) => map.from(m, chunk, lo)?,
            None => None,
        };
    }
    Ok(Some((lo, hi)))
}

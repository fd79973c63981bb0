// SPDX-License-Identifier: GPL-2.0

//! The words of the exception-store trait: chunks, ids, remaps.
//!
//! Units: a *chunk* is the copy unit of the origin and of the store's data area; a *block* is
//! 4 KiB of store metadata; a *sector* is 512 bytes.

use core::fmt;
use kernel::prelude::*;

/// Number of a chunk of the origin, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chunk(pub(crate) u64);

/// Number of a chunk in the store's data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dest(pub(crate) u64);

/// Number of a snapshot: the id in the upper half, the sub-id in the lower.
///
/// The snapshot `<id>` itself has sub-id `0xffff_ffff` and its sub-snapshots 0, 1, 2, … in the
/// order in which they were cut, so that it stands to them as the origin stands to the snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SnapId(pub(crate) u64);

impl SnapId {
    /// The sub-id that stands for the snapshot itself.
    pub(crate) const ITSELF: u32 = u32::MAX;

    /// The snapshot `<id>`.
    pub(crate) const fn top(id: u32) -> Self {
        Self::sub(id, Self::ITSELF)
    }

    /// The sub-snapshot `<id>.<sub>`.
    pub(crate) const fn sub(id: u32, sub: u32) -> Self {
        Self(((id as u64) << 32) | sub as u64)
    }

    /// The part before the dot.
    pub(crate) const fn id(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The part after the dot; [`SnapId::ITSELF`] for a snapshot of the origin.
    pub(crate) const fn sub_id(self) -> u32 {
        self.0 as u32
    }

    /// Whether this is a snapshot of a snapshot.
    pub(crate) const fn is_sub(self) -> bool {
        self.sub_id() != Self::ITSELF
    }

    /// The number that follows among ids, or among the sub-ids of one id.
    pub(crate) fn next_of_kind(self) -> Option<Self> {
        let step = if self.is_sub() { 1 } else { 1 << 32 };
        self.0.checked_add(step).map(Self)
    }

    /// Reads `<id>` or `<id>.<sub>` in decimal, without signs, blanks or leading zeroes.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        fn number(text: &[u8]) -> Option<u32> {
            if text.is_empty() || (text.len() > 1 && text[0] == b'0') {
                return None;
            }
            let mut n = 0u32;
            for &c in text {
                let digit = c.wrapping_sub(b'0');
                if digit > 9 {
                    return None;
                }
                n = n.checked_mul(10)?.checked_add(u32::from(digit))?;
            }
            Some(n)
        }
        match text.iter().position(|&c| c == b'.') {
            None => Some(Self::top(number(text)?)),
            Some(dot) => {
                let sub = number(&text[dot + 1..])?;
                (sub != Self::ITSELF).then_some(Self::sub(number(&text[..dot])?, sub))
            }
        }
    }
}

impl fmt::Display for SnapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sub() {
            write!(f, "{}.{}", self.id(), self.sub_id())
        } else {
            write!(f, "{}", self.id())
        }
    }
}

/// Why no snapshot can be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoId {
    /// What is wrong; if the snapshot was to be one of a snapshot, what is wrong with that one.
    pub(crate) why: &'static str,
    /// The error number for it.
    pub(crate) error: Error,
}

impl NoId {
    /// What is wrong, and the error number for it.
    pub(crate) const fn new(why: &'static str, error: Error) -> Self {
        Self { why, error }
    }
}

impl From<NoId> for Error {
    fn from(no: NoId) -> Self {
        no.error
    }
}

/// What a record says a chunk of a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The content of this chunk of the store.
    Chunk(Dest),
    /// Zeroes; no chunk of the store is used.
    Zero,
    /// Nothing: the content could not be preserved. Reads answer EIO.
    Lost,
}

/// Answer of [`ExceptionStore::find`](super::ExceptionStore::find).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No record: the chunk is the origin's.
    NotRemapped,
    /// Recorded, and other ids rely on the same content: read only.
    Shared(Value),
    /// Recorded for this id alone: may be written in place.
    Private(Value),
}

/// Where a copy reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The same chunk of the origin.
    Origin,
    /// A chunk of the store (snapshot-to-snapshot copy).
    Store(Dest),
    /// Nowhere: the destination is filled with zeroes.
    Zero,
    /// Nowhere: the content is lost; only a write of the whole chunk may go on.
    Lost,
}

/// Which ids a copy is for. Opaque to the engine: a range of ids, or a mask of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(super) a: u64,
    pub(super) b: u64,
}

#[cfg(not(MODULE))]
impl Descriptor {
    /// In a `btree` store: the ids from `lo` to `hi`.
    pub(crate) fn of_range(lo: SnapId, hi: SnapId) -> Self {
        Descriptor { a: lo.0, b: hi.0 }
    }

    /// In a `bitmask` store: the ids that have the bits of `mask`.
    pub(crate) fn of_mask(mask: u64) -> Self {
        Descriptor {
            a: mask,
            b: u64::MAX,
        }
    }

    /// Its two numbers: the ends of a range, or a mask and something else.
    pub(crate) fn parts(self) -> (u64, u64) {
        (self.a, self.b)
    }
}

#[cfg(test)]
impl Descriptor {
    /// For stores that tests make up.
    pub(crate) fn new_for_test(a: u64, b: u64) -> Self {
        Descriptor { a, b }
    }
}

/// Who wants to touch a chunk, for [`ExceptionStore::check_conflict`](super::ExceptionStore::check_conflict).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A write to the origin: conflicts with every copy of the same chunk.
    Origin,
    /// A write to this snapshot.
    Snapshot(SnapId),
}

/// A planned remap: the destination is taken, nothing is recorded yet.
///
/// It ends in exactly one of [`record`](super::ExceptionStore::record) (the data is there) or
/// [`give_back`](super::ExceptionStore::give_back) (it is not).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Remap {
    /// The chunk of the origin that is preserved or overlaid.
    pub(crate) chunk: Chunk,
    /// The ids it is for.
    pub(crate) ids: Descriptor,
    /// The chunk of the store that gets the data.
    pub(crate) dest: Dest,
}

/// Answer of [`ExceptionStore::make_chunk_writeable`](super::ExceptionStore::make_chunk_writeable).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Writeable {
    /// The snapshot alone owns this chunk of the store already.
    InPlace(Dest),
    /// Data must be brought to `remap.dest` first.
    Copy {
        /// Where the present content is.
        from: Source,
        /// What to record when it is there.
        remap: Remap,
    },
}

/// The sizes that were fixed when the store was formatted, and the present sizes of the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Sectors in a chunk: a power of two, 8 to 2097152.
    pub(crate) chunk_sectors: u32,
    /// Sectors of the origin.
    pub(crate) origin_sectors: u64,
    /// First sector of chunk 0 of the store's data area.
    pub(crate) data_start: u64,
    /// Chunks in the data area.
    pub(crate) data_chunks: u64,
}

/// One row of the snapshot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapInfo {
    /// Its number.
    pub(crate) id: SnapId,
    /// Seconds since 1970 when it was cut.
    pub(crate) created: u64,
    /// Sectors of the origin when it was cut; the length of its table.
    pub(crate) sectors: u64,
    /// Flag bits; none is defined yet.
    pub(crate) flags: u64,
    /// Its deletion is recorded, and will take it from the live ones.
    pub(crate) deleted: bool,
    /// Name, padded with zero bytes; at most 63 bytes are used.
    pub(crate) name: [u8; 64],
}

/// Space in the store, for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Chunks of the data area that hold data or metadata.
    pub(crate) used_chunks: u64,
    /// Chunks of the data area.
    pub(crate) total_chunks: u64,
    /// Chunks of the data area that were given to metadata.
    pub(crate) metadata_chunks: u64,
    /// Metadata blocks (4 KiB) in use and free, those of the area made at format included.
    pub(crate) metadata_blocks_used: u64,
    /// Metadata blocks that are free now or after the next checkpoint.
    pub(crate) metadata_blocks_free: u64,
    /// Blocks in the log ring, and how many of them hold records that no checkpoint covers.
    pub(crate) log_blocks: u64,
    /// See `log_blocks`.
    pub(crate) log_used: u64,
}

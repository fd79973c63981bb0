// SPDX-License-Identifier: GPL-2.0

//! Blocks and records of the log.

use super::{BLOCK_SIZE, HEADER_LEN};
use kernel::prelude::*;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::*;

/// What follows the header in a log block; then come the records.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct LogInfo {
    /// Number of this block, counted from the format; it stands at this number modulo the
    /// length of the ring.
    pub(crate) seq: U64,
    /// Sequence number of the first block of its commit.
    pub(crate) first: U64,
    /// Blocks in its commit.
    pub(crate) blocks: U32,
    /// Slots in use.
    pub(crate) count: U32,
    /// Checksum of the block with the sequence number before this.
    pub(crate) previous: U32,
    /// Zero.
    pub(crate) reserved: U32,
}

/// Where the record slots of a log block begin.
pub(crate) const LOG_SLOTS: usize = HEADER_LEN + core::mem::size_of::<LogInfo>();

/// Record slots in a log block.
pub(crate) const LOG_SLOTS_MAX: usize = (BLOCK_SIZE - LOG_SLOTS) / core::mem::size_of::<LogSlot>();
const _: () = assert!(LOG_SLOTS_MAX == 100);

/// Most blocks of one commit that are accepted.
pub(crate) const LOG_COMMIT_MAX: usize = 8;

/// What a log record says; its words follow in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum RecordKind {
    /// \[chunk, lo, hi, value\]: this content for these ids. The last three are the store type's.
    Set = 1,
    /// \[chunk, limit\]: drops what only dead ids need of the chunk, from so many records at most.
    Trim = 2,
    /// \[id, time, sectors, flags\]: a snapshot is made.
    Create = 3,
    /// \[id, 8 words of name, 0...\]: three slots.
    Name = 4,
    /// \[id\]: a snapshot is to go.
    Delete = 5,
    /// \[id, pass\]: it is gone, and the sweep of that number may not have seen it.
    Forget = 6,
    /// \[first chunk, count\]: chunks of the data area become metadata blocks.
    Extent = 7,
    /// \[origin sectors, store sectors\].
    Size = 8,
    /// \[id\]: what ids up to this do not have a record for is lost.
    LostAll = 9,
    /// \[pass\]: the sweep with this number has come to the end.
    Swept = 10,
}

impl RecordKind {
    /// The kind with this number on disk.
    pub(crate) fn from_disk(n: u16) -> Option<Self> {
        Some(match n {
            1 => Self::Set,
            2 => Self::Trim,
            3 => Self::Create,
            4 => Self::Name,
            5 => Self::Delete,
            6 => Self::Forget,
            7 => Self::Extent,
            8 => Self::Size,
            9 => Self::LostAll,
            10 => Self::Swept,
            _ => return None,
        })
    }

    /// Slots that a record of this kind takes.
    pub(crate) fn slots(self) -> usize {
        match self {
            Self::Name => 3,
            _ => 1,
        }
    }
}

/// A slot of the log: one record, or a part of one.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct LogSlot {
    /// Kind of record.
    pub(crate) kind: U16,
    /// Slots of this record, this one included; they never cross a block's end.
    pub(crate) slots: U16,
    /// Zero.
    pub(crate) reserved: U32,
    /// The record's words.
    pub(crate) words: [U64; 4],
}
const _: () = assert!(core::mem::size_of::<LogSlot>() == 40);

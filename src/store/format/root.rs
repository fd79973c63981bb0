// SPDX-License-Identifier: GPL-2.0

//! The superblock and the checkpoints.

use kernel::prelude::*;
use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::*;

/// Format version that this code writes and reads.
pub(crate) const VERSION: u32 = 1;

/// Where the superblock is.
pub(crate) const SUPER_NR: u64 = 0;

/// The two places of checkpoints; a new one goes where the newest durable one is not.
pub(crate) const CHECKPOINT_NRS: [u64; 2] = [8, 16];

/// A block of the header that stays zero: written as it is, to see whether the device takes writes.
pub(crate) const PROBE_NR: u64 = 24;

/// Where a copy of the superblock is, with this number in it: for tools, if what is in front of it was
/// written over. The module never looks at it.
pub(crate) const SUPER_COPY_NR: u64 = 28;

/// Blocks of the header, all of which a store must own before it is formatted (128 KiB).
pub(crate) const HEADER_BLOCKS: u64 = 32;

/// Which implementation keeps the exceptions; fixed at format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum StoreType {
    /// A B+tree of ranges of ids.
    Btree = 1,
    /// A B+tree of masks of 64 bits.
    Bitmask = 2,
}

impl StoreType {
    /// All that are known.
    pub(crate) const ALL: [Self; 2] = [Self::Btree, Self::Bitmask];

    /// The type with this name, or this historical one.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let known = |of: &Self| of.name().as_bytes() == name || of.old_name().as_bytes() == name;
        Self::ALL.into_iter().find(known)
    }

    /// The type with this number on disk.
    pub(crate) fn from_disk(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Btree),
            2 => Some(Self::Bitmask),
            _ => None,
        }
    }

    /// Whether snapshots have bits.
    pub(crate) fn gives_bits(self) -> bool {
        self == Self::Bitmask
    }

    /// The word for it in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Btree => "btree",
            Self::Bitmask => "bitmask",
        }
    }

    /// The word that a table may have for it, too.
    pub(crate) fn old_name(self) -> &'static str {
        match self {
            Self::Btree => "mikulas",
            Self::Bitmask => "daniel",
        }
    }
}

/// What follows the header in the superblock.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct SuperInfo {
    /// [`VERSION`].
    pub(crate) version: U32,
    /// A [`StoreType`].
    pub(crate) store_type: U32,
    /// Features that an implementation may ignore.
    pub(crate) compat: U64,
    /// Features without which the store can only be read.
    pub(crate) ro_compat: U64,
    /// Features without which the store cannot be read.
    pub(crate) incompat: U64,
    /// Sectors in a chunk.
    pub(crate) chunk_sectors: U64,
    /// First block of the log ring.
    pub(crate) log_start: U64,
    /// Blocks in the log ring.
    pub(crate) log_len: U64,
    /// First block of the initial metadata area.
    pub(crate) meta_start: U64,
    /// Blocks in the initial metadata area.
    pub(crate) meta_len: U64,
    /// First block of the data area.
    pub(crate) data_start: U64,
}

/// Trees that a checkpoint can name. Which of them exist is the store type's affair.
pub(crate) const MAX_TREES: usize = 8;

/// Tree of the exceptions.
pub(crate) const TREE_MAP: usize = 0;
/// Tree of the snapshots' rows.
pub(crate) const TREE_SNAPS: usize = 1;
/// Tree of the ranges of live ids.
pub(crate) const TREE_LIVE: usize = 2;
/// Tree of the deleted ids that the sweep has not finished with.
pub(crate) const TREE_DYING: usize = 3;
/// Tree of the groups of data chunks in which some are free.
pub(crate) const TREE_FREE: usize = 4;
/// Tree of the sizes that the origin had.
pub(crate) const TREE_SIZES: usize = 5;
/// Tree of the bits that snapshots have, in a store that gives any.
pub(crate) const TREE_BITS: usize = 6;

/// Root of a tree.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct RootInfo {
    /// Block of the root node, or 0 for an empty tree.
    pub(crate) nr: U64,
    /// Levels of the tree; 0 if it is empty.
    pub(crate) depth: U64,
}

/// What was set by the last checkpoint of a cleanly stopped store.
pub(crate) const CHECKPOINT_CLEAN: u64 = 1;
/// Damage was seen; a checker should look at the store.
pub(crate) const CHECKPOINT_NEEDS_CHECK: u64 = 2;
/// Of two checkpoints of the same epoch this is the newer: the other one with a last word on what
/// was lost, written by a store that could not go on.
pub(crate) const CHECKPOINT_LAST_WORD: u64 = 4;

/// Bits in a mask of snapshots.
pub(crate) const BITS: usize = 64;

/// Places of the origin that are sampled to know it again.
pub(crate) const SAMPLES: usize = 64;

/// What follows the header in a checkpoint.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct CheckpointInfo {
    /// Sequence number of the first log block that is not contained in the trees.
    pub(crate) replay_seq: U64,
    /// Checksum of the log block before that one.
    pub(crate) replay_sum: U64,
    /// Epoch that log blocks carried until this checkpoint was durable.
    pub(crate) log_epoch: U64,
    /// `CHECKPOINT_*` bits.
    pub(crate) flags: U64,
    /// The trees.
    pub(crate) roots: [RootInfo; MAX_TREES],
    /// First block of the list of free metadata blocks, or 0.
    pub(crate) free_head: U64,
    /// Block numbers in that list.
    pub(crate) free_count: U64,
    /// First block and length of each range of metadata blocks that were never used.
    pub(crate) fresh: [[U64; 2]; 8],
    /// Metadata blocks in all: the initial area and the extents.
    pub(crate) meta_total: U64,
    /// Chunks of the data area below this have been used.
    pub(crate) data_next: U64,
    /// Data chunks that are not free, those given to metadata included.
    pub(crate) used_chunks: U64,
    /// Data chunks that were given to metadata.
    pub(crate) meta_chunks: U64,
    /// The next id of a snapshot of the origin.
    pub(crate) next_id: U64,
    /// Number of live ids.
    pub(crate) live_ids: U64,
    /// What ids up to this number do not have a record for is lost.
    pub(crate) lost_to: U64,
    /// Sectors of the origin.
    pub(crate) origin_sectors: U64,
    /// Sectors of the store.
    pub(crate) store_sectors: U64,
    /// Group of data chunks whose mask is in `hot_mask` rather than in the tree.
    pub(crate) hot_group: U64,
    /// Its free chunks.
    pub(crate) hot_mask: U64,
    /// Number of the sweep of deleted ids that goes on or comes next.
    pub(crate) sweep_pass: U64,
    /// Chunk of the origin where it goes on.
    pub(crate) sweep_chunk: U64,
    /// Digests of the origin; meaningful with [`CHECKPOINT_CLEAN`] only.
    pub(crate) digests: [U64; SAMPLES],
}

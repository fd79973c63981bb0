// SPDX-License-Identifier: GPL-2.0

//! What a survey of an image comes by.

use super::SnapshotId;
use crate::store::{self, format};
use std::{string::String, vec::Vec};

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// The records.
    Records,
    /// The snapshots.
    Snapshots,
}

impl From<Scope> for store::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::All => Self::All,
            Scope::Records => Self::Records,
            Scope::Snapshots => Self::Snapshots,
        }
    }
}

/// What a record says a chunk of a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The content of this chunk of the store.
    Chunk(u64),
    /// Zeroes.
    Zero,
    /// Nothing: the content could not be preserved.
    Lost,
}

impl From<store::Value> for Value {
    fn from(value: store::Value) -> Self {
        match value {
            store::Value::Chunk(dest) => Self::Chunk(dest.0),
            store::Value::Zero => Self::Zero,
            store::Value::Lost => Self::Lost,
        }
    }
}

/// For which snapshots a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Those with numbers from the first to the second, both included.
    Range(SnapshotId, SnapshotId),
    /// Those that have these bits.
    Mask(u64),
}

impl Ids {
    pub(super) fn new(ids: store::Descriptor, of: super::Type) -> Self {
        let (a, b) = ids.parts();
        match of {
            super::Type::Btree => Self::Range(SnapshotId(a), SnapshotId(b)),
            super::Type::Bitmask => Self::Mask(a),
        }
    }
}

/// A snapshot, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub id: SnapshotId,
    /// Seconds since 1970 when it was cut.
    pub created: u64,
    /// Sectors of the origin when it was cut.
    pub sectors: u64,
    /// Its deletion is recorded.
    pub deleted: bool,
    /// Its name; empty if it has none.
    pub name: String,
}

impl From<store::SnapInfo> for Row {
    fn from(info: store::SnapInfo) -> Self {
        let name: Vec<u8> = info
            .name
            .into_iter()
            .take_while(|byte| *byte != 0)
            .collect();
        Self {
            id: SnapshotId(info.id.0),
            created: info.created,
            sectors: info.sectors,
            deleted: info.deleted,
            name: String::from_utf8_lossy(&name).into_owned(),
        }
    }
}

/// One of the trees of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// The records.
    Map,
    /// The snapshots.
    Rows,
    /// Which ids are live.
    Live,
    /// Which deleted ids are not swept yet.
    Dying,
    /// Which chunks of the store are free.
    Free,
    /// The sizes that the origin had.
    Sizes,
    /// Which snapshot has which bit.
    Bits,
}

impl Tree {
    fn new(n: usize) -> Self {
        match n {
            format::TREE_MAP => Self::Map,
            format::TREE_SNAPS => Self::Rows,
            format::TREE_LIVE => Self::Live,
            format::TREE_DYING => Self::Dying,
            format::TREE_FREE => Self::Free,
            format::TREE_SIZES => Self::Sizes,
            _ => Self::Bits,
        }
    }

    /// Its name in `Documentation/format.rst`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Rows => "rows",
            Self::Live => "live",
            Self::Dying => "dying",
            Self::Free => "free",
            Self::Sizes => "sizes",
            Self::Bits => "bits",
        }
    }
}

/// The key of an entry of a tree; the second word is 0 if it has one only.
pub type Key = [u64; 2];

/// What a survey comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A metadata block that holds a node of a tree.
    Node(u64),
    /// A metadata block that holds none.
    FreeBlock(u64),
    /// A group of 64 chunks of the store, and a mask of those that are free.
    FreeChunks(u64, u64),
    /// A record.
    Record {
        /// Of which chunk of the origin.
        chunk: u64,
        /// For which snapshots.
        ids: Ids,
        /// What it says.
        value: Value,
    },
    /// A snapshot.
    Row(Row),
    /// A range of numbers of snapshots of the origin, or of snapshots of one snapshot, that are
    /// live.
    Live(SnapshotId, SnapshotId),
    /// The number that the next snapshot of a snapshot gets.
    NextSub(u32, u32),
    /// A deleted id that is not swept yet; whether it is out of the live ones.
    Dying(SnapshotId, bool),
    /// A bit, and the id that has it.
    Bit(u64, SnapshotId),
    /// A node that cannot be used, and with it all entries with keys from `low` on that are less
    /// than `high`.
    BadNode {
        /// Of which tree.
        tree: Tree,
        /// Its block.
        block: u64,
        /// Nothing less is lost.
        low: Key,
        /// `None`: up to the end.
        high: Option<Key>,
        /// Whether it could be read at all.
        readable: bool,
    },
    /// An entry that cannot be right: its first words.
    BadEntry {
        /// Of which tree.
        tree: Tree,
        /// Up to four.
        words: [u64; 4],
    },
    /// The lists of free metadata blocks cannot be read to the end.
    BadFreeList,
    /// What tools have no use for.
    Other,
}

impl Part {
    pub(super) fn new(part: store::Part, of: super::Type) -> Self {
        use store::{Bad, Part};
        match part {
            Part::Node(nr) => Self::Node(nr),
            Part::Free(nr) => Self::FreeBlock(nr),
            Part::FreeChunks(group, mask) => Self::FreeChunks(group, mask),
            Part::Record { chunk, ids, value } => Self::Record {
                chunk,
                ids: Ids::new(ids, of),
                value: value.into(),
            },
            Part::Row(info) => Self::Row(info.into()),
            Part::Live(entry) => live(entry),
            Part::Dying([pass, id]) => Self::Dying(SnapshotId(id), pass != u64::MAX),
            Part::Size(_) => Self::Other,
            Part::Bit([bit, id]) => Self::Bit(bit, SnapshotId(id)),
            Part::Bad(Bad::Node {
                tree,
                nr,
                low,
                high,
                error,
            }) => Self::BadNode {
                tree: Tree::new(tree),
                block: nr,
                low,
                high,
                readable: error != kernel::error::code::EIO,
            },
            Part::Bad(Bad::Entry { tree, words }) => Self::BadEntry {
                tree: Tree::new(tree),
                words,
            },
            Part::Bad(Bad::FreeList) => Self::BadFreeList,
        }
    }
}

fn live([class, lo, hi]: [u64; 3]) -> Part {
    let bad = || Part::BadEntry {
        tree: Tree::Live,
        words: [class, lo, hi, 0],
    };
    let (Ok(low), Ok(high)) = (u32::try_from(lo), u32::try_from(hi)) else {
        return if class == 1 && lo <= hi {
            Part::Live(SnapshotId(lo), SnapshotId(hi))
        } else {
            bad()
        };
    };
    match class {
        0 if low <= high => Part::Live(SnapshotId::top(low), SnapshotId::top(high)),
        1 if lo <= hi => Part::Live(SnapshotId(lo), SnapshotId(hi)),
        2 => Part::NextSub(low, high),
        _ => bad(),
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What is wrong with an image.

use super::{Ids, SnapshotId, Type};
use crate::store::{OpenError, Skipped};
use std::{
    fmt,
    string::{String, ToString},
};

/// Why an image cannot be opened. Sizes are in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The device is empty.
    Blank,
    /// It holds something else.
    Foreign,
    /// It holds what is left of a store, and none can be made of it.
    Rest,
    /// It is too small to hold a store.
    TooSmall,
    /// It is shorter than the store.
    CutShort {
        /// As recorded.
        store: u64,
        /// Its size.
        device: u64,
    },
    /// This part is damaged, at this block.
    Damaged(String, u64),
    /// It cannot be read or written.
    Io,
    /// Anything else, in words that follow the name of the device.
    Other(String),
}

impl Refusal {
    /// Whether the store is damaged, rather than something else or of another version.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::CutShort { .. } | Self::Damaged(..) | Self::Io)
    }
}

impl From<OpenError> for Refusal {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::Foreign => Self::Foreign,
            OpenError::TooSmall { .. } => Self::TooSmall,
            OpenError::StoreShrunk { store, device } => Self::CutShort { store, device },
            OpenError::Damaged(what, block) => Self::Damaged(what.to_string(), block),
            OpenError::Io(_) => Self::Io,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("is empty: no store was made on it yet"),
            Self::Foreign => f.write_str("holds no snapshot store"),
            Self::Rest => f.write_str(
                "holds what is left of a store of snapshots, or of one that was being made",
            ),
            Self::TooSmall => f.write_str("is too small to hold a snapshot store"),
            Self::CutShort { store, device } => {
                write!(
                    f,
                    "is cut short: the store had {store} sectors, {device} are there"
                )
            }
            Self::Damaged(what, block) => write!(f, "is damaged: {what}, block {block}"),
            Self::Io => f.write_str("cannot be read or written"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// What is wrong with an image that was opened all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is shorter than the store. Sizes are in sectors.
    CutShort {
        /// As recorded.
        store: u64,
        /// Its size.
        device: u64,
    },
    /// The kernel would refuse it for this, found at about this block.
    Load {
        /// What.
        what: &'static str,
        /// Where.
        block: u64,
    },
    /// A block that the kernel needs cannot be read.
    Unreadable,
    /// The log was not applied at all: what was done since the last checkpoint is not there.
    NoLog,
    /// The log goes on behind a place where it cannot be read.
    LogEnds,
    /// A record of the log could not be applied: what these ids of a chunk hold.
    Skipped {
        /// The chunk of the origin.
        chunk: u64,
        /// Two numbers: low and high id, or a mask and zero.
        ids: [u64; 2],
    },
    /// Another record of the log could not be applied: its kind, and its first word.
    SkippedOther(u16, u64),
    /// What a chunk holds could not be looked up.
    Lookup {
        /// The chunk of the origin.
        chunk: u64,
        /// Of which snapshot.
        id: SnapshotId,
    },
}

impl Fault {
    /// The ids of a skipped record, in a store of this type.
    pub fn ids(&self, of: Type) -> Option<Ids> {
        match (self, of) {
            (Self::Skipped { ids, .. }, Type::Btree) => {
                Some(Ids::Range(SnapshotId(ids[0]), SnapshotId(ids[1])))
            }
            (Self::Skipped { ids, .. }, Type::Bitmask) => Some(Ids::Mask(ids[0])),
            _ => None,
        }
    }
}

impl From<Skipped> for Fault {
    fn from(skipped: Skipped) -> Self {
        match skipped {
            Skipped::Set(chunk, ids) => {
                let (a, b) = ids.parts();
                Self::Skipped {
                    chunk: chunk.0,
                    ids: [a, b],
                }
            }
            Skipped::Other(kind, word) => Self::SkippedOther(kind, word),
            Skipped::Rest => Self::LogEnds,
        }
    }
}

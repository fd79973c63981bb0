// SPDX-License-Identifier: GPL-2.0

//! Why a store cannot be opened.

use crate::store::format::{self, StoreType};
use core::fmt;
use kernel::prelude::*;

/// Why a store cannot be opened. Sizes are in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Something else than a store is on the device.
    Foreign,
    /// The device is empty, and must not be written.
    NeedsFormat,
    /// The device is too small for a store with chunks of this size.
    TooSmall {
        /// Smallest size that would do.
        needed: u64,
        /// Its size.
        have: u64,
    },
    /// The store has a format version that is not ours.
    Version(u32),
    /// The store has a type that is not known here.
    UnknownType(u32),
    /// The store uses features without which it cannot be read.
    Features(u64),
    /// The store uses features without which it can only be read.
    ReadOnlyFeatures(u64),
    /// Not a chunk size.
    BadChunkSize(u32),
    /// The store was formatted with another chunk size.
    ChunkSize {
        /// Of the store.
        store: u32,
        /// Of the table.
        table: u32,
    },
    /// The store was formatted as another type.
    Type {
        /// Of the store.
        store: StoreType,
        /// Of the table.
        table: StoreType,
    },
    /// The table is shorter than the origin was.
    OriginShrunk {
        /// As recorded.
        store: u64,
        /// Length of the table.
        table: u64,
    },
    /// The device is smaller than the store was.
    StoreShrunk {
        /// As recorded.
        store: u64,
        /// Its size.
        device: u64,
    },
    /// What is in this block cannot be right.
    Damaged(&'static str, u64),
    /// An error of the device.
    Io(Error),
    /// Out of memory.
    NoMem,
}

impl OpenError {
    /// The error number to answer with.
    pub(crate) fn errno(&self) -> Error {
        match self {
            Self::Foreign | Self::BadChunkSize(_) => EINVAL,
            Self::ChunkSize { .. } | Self::Type { .. } => EINVAL,
            Self::OriginShrunk { .. } | Self::StoreShrunk { .. } => EINVAL,
            Self::NeedsFormat | Self::ReadOnlyFeatures(_) => EROFS,
            Self::TooSmall { .. } => ENOSPC,
            Self::Version(_) | Self::UnknownType(_) | Self::Features(_) => EOPNOTSUPP,
            Self::Damaged(..) => EILSEQ,
            Self::Io(e) => *e,
            Self::NoMem => ENOMEM,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Foreign => f.write_str("holds something else than a snapshot store"),
            Self::NeedsFormat => f.write_str("is empty, and read-only: it cannot be formatted"),
            Self::TooSmall { needed, have } => {
                write!(f, "is too small: {have} sectors, {needed} are needed")
            }
            Self::Version(v) => write!(f, "has format version {v}, not {}", format::VERSION),
            Self::UnknownType(t) => write!(f, "has the unknown store type {t}"),
            Self::Features(b) => write!(f, "uses unknown features {b:#x}"),
            Self::ReadOnlyFeatures(b) => {
                write!(f, "uses unknown features {b:#x}: it can only be read")
            }
            Self::BadChunkSize(n) => {
                write!(f, "chunk size {n} is not a power of two from 8 to 2097152")
            }
            Self::ChunkSize { store, table } => {
                write!(f, "has chunk size {store}, the table says {table}")
            }
            Self::Type { store, table } => {
                write!(
                    f,
                    "has type {}, the table says {}",
                    store.name(),
                    table.name()
                )
            }
            Self::OriginShrunk { store, table } => {
                write!(
                    f,
                    "belongs to an origin of {store} sectors, the table has {table}"
                )
            }
            Self::StoreShrunk { store, device } => {
                write!(f, "had {store} sectors, the device has {device}")
            }
            Self::Damaged(what, nr) => write!(f, "is damaged: {what}, block {nr}"),
            Self::Io(e) => write!(f, "cannot be read or written: error {}", e.to_errno()),
            Self::NoMem => f.write_str("cannot be opened: out of memory"),
        }
    }
}

impl From<Error> for OpenError {
    fn from(e: Error) -> Self {
        if e == ENOMEM {
            Self::NoMem
        } else {
            Self::Io(e)
        }
    }
}

impl From<kernel::alloc::AllocError> for OpenError {
    fn from(_: kernel::alloc::AllocError) -> Self {
        Self::NoMem
    }
}

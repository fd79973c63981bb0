// SPDX-License-Identifier: GPL-2.0

//! Where things are on the device.

use super::{FormatParams, OpenError, BLOCK_SECTORS};
use crate::store::{
    blocks::{Block, Blocks, BLOCK_SIZE},
    format::{self, Kind, StoreType, SuperInfo},
};
use kernel::prelude::*;

/// Smallest and largest chunk, in sectors.
const CHUNK_SECTORS: core::ops::RangeInclusive<u32> = 8..=2_097_152;

/// Fewest data chunks a store must have to be formatted.
const MIN_DATA_CHUNKS: u64 = 4;

/// Where things are on the device; fixed at format. All but the chunk size is in blocks.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// The store's own number.
    pub(crate) uuid: [u8; 16],
    /// The implementation it is for.
    pub(crate) store_type: StoreType,
    /// Sectors in a chunk.
    pub(crate) chunk_sectors: u32,
    /// First block of the log ring.
    pub(crate) log_start: u64,
    /// Its length.
    pub(crate) log_len: u64,
    /// First block of the initial metadata area.
    pub(crate) meta_start: u64,
    /// Its length.
    pub(crate) meta_len: u64,
    /// First block of the data area.
    pub(crate) data_start: u64,
}

impl Layout {
    /// The layout of a new store on a device of `len` blocks.
    pub(super) fn new(len: u64, params: &FormatParams) -> Result<Self, OpenError> {
        let chunk = check_chunk_sectors(params.chunk_sectors)?;
        let log_len = (len / 64).clamp(16, 1024);
        let meta_len = (len / 64).clamp(64, 16384);
        let log_start = format::HEADER_BLOCKS;
        let meta_start = log_start + log_len;
        let align = chunk.min((1 << 20) / BLOCK_SIZE as u64);
        let data_start = (meta_start + meta_len).next_multiple_of(align);
        let needed = data_start + MIN_DATA_CHUNKS * chunk;
        if len < needed {
            return Err(OpenError::TooSmall {
                needed: needed * BLOCK_SECTORS,
                have: len.saturating_mul(BLOCK_SECTORS),
            });
        }
        Ok(Self {
            uuid: params.uuid,
            store_type: params.store_type,
            chunk_sectors: params.chunk_sectors,
            log_start,
            log_len,
            meta_start,
            meta_len,
            data_start,
        })
    }

    /// The layout that a superblock tells, of a device of `len` blocks.
    pub(super) fn from_disk(
        uuid: [u8; 16],
        info: &SuperInfo,
        len: u64,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let damaged = OpenError::Damaged("superblock", format::SUPER_NR);
        if info.version.get() != format::VERSION {
            return Err(OpenError::Version(info.version.get()));
        }
        if info.incompat.get() != 0 {
            return Err(OpenError::Features(info.incompat.get()));
        }
        if info.ro_compat.get() != 0 && !read_only {
            return Err(OpenError::ReadOnlyFeatures(info.ro_compat.get()));
        }
        let store_type = StoreType::from_disk(info.store_type.get())
            .ok_or(OpenError::UnknownType(info.store_type.get()))?;
        let chunk_sectors = u32::try_from(info.chunk_sectors.get()).map_err(|_| damaged)?;
        check_chunk_sectors(chunk_sectors).map_err(|_| damaged)?;
        let layout = Self {
            uuid,
            store_type,
            chunk_sectors,
            log_start: info.log_start.get(),
            log_len: info.log_len.get(),
            meta_start: info.meta_start.get(),
            meta_len: info.meta_len.get(),
            data_start: info.data_start.get(),
        };
        let log_end = layout.log_start.checked_add(layout.log_len);
        let meta_end = layout.meta_start.checked_add(layout.meta_len);
        let good = layout.log_start >= format::HEADER_BLOCKS
            && (16..=1 << 20).contains(&layout.log_len)
            && log_end.is_some_and(|end| end <= layout.meta_start)
            && layout.meta_len > 0
            && meta_end.is_some_and(|end| end <= layout.data_start);
        if !good {
            return Err(damaged);
        }
        if layout.data_start > len {
            return Err(OpenError::StoreShrunk {
                store: layout.data_start.saturating_mul(BLOCK_SECTORS),
                device: len.saturating_mul(BLOCK_SECTORS),
            });
        }
        Ok(layout)
    }

    /// Blocks in a chunk.
    pub(crate) fn chunk_blocks(&self) -> u64 {
        u64::from(self.chunk_sectors) / BLOCK_SECTORS
    }

    /// Chunks in the data area of a store with this many sectors.
    pub(crate) fn data_chunks(&self, store_sectors: u64) -> u64 {
        let blocks = (store_sectors / BLOCK_SECTORS).saturating_sub(self.data_start);
        blocks.checked_div(self.chunk_blocks()).unwrap_or(0)
    }

    /// Writes the superblock, or its copy, as block `nr`. What was written before the superblock must be
    /// durable.
    pub(super) fn write_super<B: Blocks>(
        &self,
        nr: u64,
        blocks: &mut B,
        block: &mut Block,
    ) -> Result {
        block.fill(0);
        format::set_header(block, Kind::Super, &self.uuid, nr, 0);
        *format::info_mut::<SuperInfo>(block)? = SuperInfo {
            version: format::VERSION.into(),
            store_type: (self.store_type as u32).into(),
            compat: 0.into(),
            ro_compat: 0.into(),
            incompat: 0.into(),
            chunk_sectors: u64::from(self.chunk_sectors).into(),
            log_start: self.log_start.into(),
            log_len: self.log_len.into(),
            meta_start: self.meta_start.into(),
            meta_len: self.meta_len.into(),
            data_start: self.data_start.into(),
        };
        format::seal(block, |seed, data| blocks.crc32c(seed, data));
        blocks.write_raw(nr, block)
    }
}

/// Blocks in a chunk of this size, if it is one.
fn check_chunk_sectors(sectors: u32) -> Result<u64, OpenError> {
    if CHUNK_SECTORS.contains(&sectors) && sectors.is_power_of_two() {
        Ok(u64::from(sectors) / BLOCK_SECTORS)
    } else {
        Err(OpenError::BadChunkSize(sectors))
    }
}

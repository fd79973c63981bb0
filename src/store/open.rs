// SPDX-License-Identifier: GPL-2.0

//! Opening and formatting: what a constructor may do with a store before anyone relies on it.
//!
//! Nothing here changes the store device, except [`Open::format`] on an empty one.

use super::{
    blocks::{Block, Blocks, BLOCK_SIZE},
    format::{self, CheckpointInfo, Expect, Kind, StoreType, SuperInfo},
};
use core::fmt;
use kernel::prelude::*;

/// Sectors in a metadata block.
pub(crate) const BLOCK_SECTORS: u64 = (BLOCK_SIZE / 512) as u64;

/// Smallest and largest chunk, in sectors.
const CHUNK_SECTORS: core::ops::RangeInclusive<u32> = 8..=2_097_152;

/// Fewest data chunks a store must have to be formatted.
const MIN_DATA_CHUNKS: u64 = 4;

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
                write!(f, "has type {}, the table says {}", store.name(), table.name())
            }
            Self::OriginShrunk { store, table } => {
                write!(f, "belongs to an origin of {store} sectors, the table has {table}")
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

/// What a new store is made with.
#[derive(Clone, Copy)]
pub(crate) struct FormatParams {
    /// Drawn at random.
    pub(crate) uuid: [u8; 16],
    /// The implementation to use.
    pub(crate) store_type: StoreType,
    /// Sectors in a chunk.
    pub(crate) chunk_sectors: u32,
    /// Sectors of the origin.
    pub(crate) origin_sectors: u64,
}

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
    fn new(len: u64, params: &FormatParams) -> Result<Self, OpenError> {
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
    fn from_disk(
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

    fn write_super<B: Blocks>(&self, blocks: &mut B, block: &mut Block) -> Result {
        block.fill(0);
        let nr = format::SUPER_NR;
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

/// A store whose superblock and newest checkpoint were read and are sound.
pub(crate) struct Open<B> {
    pub(super) blocks: B,
    pub(super) layout: Layout,
    /// The newest checkpoint.
    pub(super) checkpoint: KBox<Block>,
    pub(super) read_only: bool,
}

impl<B: Blocks> Open<B> {
    /// Opens the store on `blocks`, or formats it with `params` if it is empty.
    pub(crate) fn open_or_format(
        mut blocks: B,
        params: &FormatParams,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        if is_blank(&mut blocks)? {
            if read_only {
                return Err(OpenError::NeedsFormat);
            }
            Self::format(blocks, params)
        } else {
            Self::peek(blocks, read_only)
        }
    }

    /// Writes an empty store on `blocks`. Only where nothing is that matters, see [`is_blank`].
    pub(crate) fn format(mut blocks: B, params: &FormatParams) -> Result<Self, OpenError> {
        let layout = Layout::new(blocks.len(), params)?;
        let mut block = KBox::<Block>::zeroed(GFP_KERNEL)?;
        let checkpoint_nr = format::CHECKPOINT_NRS[1];
        for nr in (1..format::HEADER_BLOCKS).filter(|nr| *nr != checkpoint_nr) {
            blocks.write_raw(nr, &block)?;
        }
        format::set_header(&mut block, Kind::Checkpoint, &layout.uuid, checkpoint_nr, 1);
        let info = format::info_mut::<CheckpointInfo>(&mut block)?;
        info.log_epoch = 1.into();
        info.fresh[0] = [layout.meta_start.into(), layout.meta_len.into()];
        info.sweep_pass = 1.into();
        info.meta_total = layout.meta_len.into();
        info.next_id = 1.into();
        info.origin_sectors = params.origin_sectors.into();
        info.store_sectors = blocks.len().saturating_mul(BLOCK_SECTORS).into();
        format::seal(&mut block, |seed, data| blocks.crc32c(seed, data));
        blocks.write_raw(checkpoint_nr, &block)?;
        // Only a complete store gets a superblock.
        blocks.write_dirty()?;
        layout.write_super(&mut blocks, &mut block)?;
        blocks.write_dirty()?;
        Self::peek(blocks, false)
    }

    /// Reads and checks the superblock and the newest checkpoint. Changes nothing.
    pub(crate) fn peek(mut blocks: B, read_only: bool) -> Result<Self, OpenError> {
        let mut block = KBox::<Block>::zeroed(GFP_KERNEL)?;
        blocks.read_raw(format::SUPER_NR, &mut block)?;
        let head = format::header(&block);
        if head.kind.get() != Kind::Super as u32 || head.nr.get() != format::SUPER_NR {
            return Err(OpenError::Foreign);
        }
        if !format::check_sum(&block, |seed, data| blocks.crc32c(seed, data)) {
            return Err(OpenError::Damaged("superblock", format::SUPER_NR));
        }
        let layout = Layout::from_disk(
            head.uuid,
            format::info(&block)?,
            blocks.len(),
            read_only,
        )?;

        let mut other = KBox::<Block>::zeroed(GFP_KERNEL)?;
        let even = read_checkpoint(&mut blocks, &layout, 0, &mut block)?;
        let odd = read_checkpoint(&mut blocks, &layout, 1, &mut other)?;
        if odd > even {
            core::mem::swap(&mut block, &mut other);
        }
        if even.max(odd) == 0 {
            let nr = format::CHECKPOINT_NRS[0];
            return Err(OpenError::Damaged("both checkpoints", nr));
        }
        let open = Self {
            blocks,
            layout,
            checkpoint: block,
            read_only,
        };
        open.check_checkpoint()?;
        Ok(open)
    }

    /// Compares the store with what a table says.
    pub(crate) fn check(
        &self,
        chunk_sectors: u32,
        store_type: StoreType,
        origin_sectors: u64,
    ) -> Result<(), OpenError> {
        if self.layout.store_type != store_type {
            return Err(OpenError::Type {
                store: self.layout.store_type,
                table: store_type,
            });
        }
        if self.layout.chunk_sectors != chunk_sectors {
            return Err(OpenError::ChunkSize {
                store: self.layout.chunk_sectors,
                table: chunk_sectors,
            });
        }
        if self.origin_sectors() > origin_sectors {
            return Err(OpenError::OriginShrunk {
                store: self.origin_sectors(),
                table: origin_sectors,
            });
        }
        Ok(())
    }

    /// Everything about the checkpoint that can be told without reading another block.
    fn check_checkpoint(&self) -> Result<(), OpenError> {
        let nr = format::header(&self.checkpoint).nr.get();
        let damaged = Err(OpenError::Damaged("checkpoint", nr));
        let info = self.info()?;
        let store_sectors = info.store_sectors.get();
        let device = self.blocks.len().saturating_mul(BLOCK_SECTORS);
        if store_sectors > device {
            return Err(OpenError::StoreShrunk {
                store: store_sectors,
                device,
            });
        }
        let chunks = self.layout.data_chunks(store_sectors);
        let epoch = format::header(&self.checkpoint).epoch.get();
        let known = format::CHECKPOINT_CLEAN | format::CHECKPOINT_NEEDS_CHECK;
        let good = info.flags.get() & !known == 0
            && info.log_epoch.get() <= epoch
            && info.data_next.get() <= chunks
            && info.used_chunks.get() <= info.data_next.get()
            && info.meta_chunks.get() <= info.used_chunks.get()
            && (1..=1 << 32).contains(&info.next_id.get())
            && info.replay_seq.get() <= u64::MAX / 2
            && (1..=u64::MAX / 2).contains(&info.sweep_pass.get())
            && info.meta_total.get() <= self.blocks.len()
            && info.replay_sum.get() <= u64::from(u32::MAX)
            && epoch <= u64::MAX / 2
            && info.origin_sectors.get() != 0
            && info.roots.iter().all(|root| {
                root.nr.get() < self.blocks.len()
                    && root.depth.get() <= u64::from(format::MAX_DEPTH)
            });
        if good {
            Ok(())
        } else {
            damaged
        }
    }

    pub(super) fn info(&self) -> Result<&CheckpointInfo> {
        format::info(&self.checkpoint)
    }

    /// Which implementation the store is for.
    pub(crate) fn store_type(&self) -> StoreType {
        self.layout.store_type
    }

    /// Sectors in a chunk.
    pub(crate) fn chunk_sectors(&self) -> u32 {
        self.layout.chunk_sectors
    }

    /// The number drawn when the store was formatted.
    pub(crate) fn uuid(&self) -> &[u8; 16] {
        &self.layout.uuid
    }

    /// Sectors of the origin as the newest checkpoint has it; a later growth may be in the log.
    pub(crate) fn origin_sectors(&self) -> u64 {
        self.info().map_or(0, |info| info.origin_sectors.get())
    }

    /// Sectors of the store as the newest checkpoint has it.
    pub(crate) fn store_sectors(&self) -> u64 {
        self.info().map_or(0, |info| info.store_sectors.get())
    }

    /// Whether damage was seen earlier.
    pub(crate) fn needs_check(&self) -> bool {
        self.info()
            .is_ok_and(|info| info.flags.get() & format::CHECKPOINT_NEEDS_CHECK != 0)
    }

    /// What the origin looked like when the store was stopped; `None` if it was not stopped
    /// cleanly.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let info = self.info().ok()?;
        if info.flags.get() & format::CHECKPOINT_CLEAN == 0 {
            return None;
        }
        let mut identity = Identity {
            digests: [0; format::SAMPLES],
        };
        for (to, from) in identity.digests.iter_mut().zip(&info.digests) {
            *to = from.get();
        }
        Some(identity)
    }

    /// Epoch of the newest checkpoint.
    pub(super) fn epoch(&self) -> u64 {
        format::header(&self.checkpoint).epoch.get()
    }

    /// Whether the store may only be read.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The same store, with its device seen in another way.
    pub(super) fn map_blocks<C>(self, f: impl FnOnce(B) -> C) -> Open<C> {
        Open {
            blocks: f(self.blocks),
            layout: self.layout,
            checkpoint: self.checkpoint,
            read_only: self.read_only,
        }
    }

    /// The device.
    pub(crate) fn blocks(&self) -> &B {
        &self.blocks
    }

    /// Gives the device back.
    pub(crate) fn into_blocks(self) -> B {
        self.blocks
    }
}

/// Reads checkpoint slot `slot` and returns its epoch, or 0 if there is no checkpoint of this
/// store.
fn read_checkpoint<B: Blocks>(
    blocks: &mut B,
    layout: &Layout,
    slot: usize,
    block: &mut Block,
) -> Result<u64, OpenError> {
    let nr = format::CHECKPOINT_NRS[slot & 1];
    blocks.read_raw(nr, block)?;
    let expect = Expect {
        kind: Kind::Checkpoint,
        uuid: layout.uuid,
        nr,
        max_epoch: u64::MAX,
    };
    let epoch = format::header(block).epoch.get();
    let good = format::check_sum(block, |seed, data| blocks.crc32c(seed, data))
        && format::check_header(block, &expect).is_ok();
    Ok(if good { epoch } else { 0 })
}

/// Whether the device may be formatted: block 0 is zero, and the rest of the header is zero or
/// holds checkpoints of ours. A cut may have torn those, so they are told by their beginnings.
pub(crate) fn is_blank<B: Blocks>(blocks: &mut B) -> Result<bool, OpenError> {
    let mut block = KBox::<Block>::zeroed(GFP_KERNEL)?;
    if blocks.len() < format::HEADER_BLOCKS {
        return Err(OpenError::TooSmall {
            needed: format::HEADER_BLOCKS * BLOCK_SECTORS,
            have: blocks.len() * BLOCK_SECTORS,
        });
    }
    blocks.read_raw(format::SUPER_NR, &mut block)?;
    if !is_zero(&block[..]) {
        return Ok(false);
    }
    for nr in 1..format::HEADER_BLOCKS {
        blocks.read_raw(nr, &mut block)?;
        if !is_zero(&block[..]) && !is_old_checkpoint(&block, nr) {
            return Err(OpenError::Foreign);
        }
    }
    Ok(true)
}

fn is_zero(data: &[u8]) -> bool {
    data.iter().all(|b| *b == 0)
}

fn is_old_checkpoint(block: &Block, nr: u64) -> bool {
    let head = format::header(block);
    let ours = head.kind.get() == Kind::Checkpoint as u32 && head.nr.get() == nr;
    // A checkpoint is zero behind its first sectors.
    format::CHECKPOINT_NRS.contains(&nr)
        && (ours || is_zero(&block[..512]))
        && is_zero(&block[CHECKPOINT_END..])
}

/// End of what a checkpoint uses of its block, in whole sectors.
const CHECKPOINT_END: usize =
    (format::HEADER_LEN + core::mem::size_of::<CheckpointInfo>()).next_multiple_of(512);

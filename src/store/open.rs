// SPDX-License-Identifier: GPL-2.0

//! Opening and formatting: what a constructor may do with a store before anyone relies on it.
//!
//! Nothing here changes the store device, except [`Open::format`] on an empty one.

mod error;
mod identity;
mod layout;

pub(crate) use error::OpenError;
pub(crate) use identity::Identity;
pub(crate) use layout::Layout;

use super::{
    blocks::{Block, Blocks, BLOCK_SIZE},
    format::{self, CheckpointInfo, Expect, Kind, StoreType},
};
use kernel::prelude::*;

/// Sectors in a metadata block.
pub(crate) const BLOCK_SECTORS: u64 = (BLOCK_SIZE / 512) as u64;

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

/// A store whose superblock and newest checkpoint were read and are sound.
pub(crate) struct Open<B> {
    pub(super) blocks: B,
    pub(super) layout: Layout,
    /// The newest checkpoint.
    pub(super) checkpoint: KBox<Block>,
    pub(super) read_only: bool,
    /// All snapshots have lost what the origin still held for them.
    pub(super) lost: bool,
}

/// By what a checkpoint is newer than another: its epoch, whether it is a last word of that epoch, and
/// of two last words the one that says more.
type Age = (u64, bool, u64, bool);

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
        layout.write_super(format::SUPER_COPY_NR, &mut blocks, &mut block)?;
        // Only a complete store gets a superblock.
        blocks.write_dirty()?;
        layout.write_super(format::SUPER_NR, &mut blocks, &mut block)?;
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
        let layout = Layout::from_disk(head.uuid, format::info(&block)?, blocks.len(), read_only)?;

        let mut other = KBox::<Block>::zeroed(GFP_KERNEL)?;
        let even = read_checkpoint(&mut blocks, &layout, 0, &mut block)?;
        let odd = read_checkpoint(&mut blocks, &layout, 1, &mut other)?;
        if odd > even {
            core::mem::swap(&mut block, &mut other);
        }
        if even.max(odd).is_none() {
            let nr = format::CHECKPOINT_NRS[0];
            return Err(OpenError::Damaged("both checkpoints", nr));
        }
        let open = Self {
            blocks,
            layout,
            checkpoint: block,
            read_only,
            lost: false,
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
        let known = format::CHECKPOINT_CLEAN
            | format::CHECKPOINT_NEEDS_CHECK
            | format::CHECKPOINT_LAST_WORD;
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

    /// What is lost, and the next id, as the newest checkpoint has it; for tools.
    #[cfg(not(MODULE))]
    pub(crate) fn lost_and_next(&self) -> (u64, u64) {
        self.info()
            .map_or((0, 1), |info| (info.lost_to.get(), info.next_id.get()))
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
            lost: self.lost,
        }
    }

    /// The device.
    pub(crate) fn blocks(&self) -> &B {
        &self.blocks
    }

    /// The origin was written without us: what it still held for the snapshots is lost. The load makes
    /// that durable together with the end of what told of it, the clean mark.
    pub(crate) fn lose_all(&mut self) {
        self.lost = true;
    }

    /// Gives the device back.
    pub(crate) fn into_blocks(self) -> B {
        self.blocks
    }
}

/// Reads checkpoint slot `slot`. `None` if there is no checkpoint of this store.
fn read_checkpoint<B: Blocks>(
    blocks: &mut B,
    layout: &Layout,
    slot: usize,
    block: &mut Block,
) -> Result<Option<Age>, OpenError> {
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
        && format::check_header(block, &expect).is_ok()
        && epoch != 0;
    let info = format::info::<CheckpointInfo>(block)?;
    let has = |flag| info.flags.get() & flag != 0;
    Ok(good.then_some((
        epoch,
        has(format::CHECKPOINT_LAST_WORD),
        info.lost_to.get(),
        has(format::CHECKPOINT_NEEDS_CHECK),
    )))
}

/// Whether the device may be formatted: block 0 is zero, and the rest of the header is zero or
/// holds checkpoints of ours, or a copy of a superblock. A cut may have torn those, so they are told by
/// their beginnings.
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
        if !is_zero(&block[..]) && !is_left(&block, nr) {
            return Err(OpenError::Foreign);
        }
    }
    Ok(true)
}

fn is_zero(data: &[u8]) -> bool {
    data.iter().all(|b| *b == 0)
}

/// Whether a block of the header may be left of a store.
fn is_left(block: &Block, nr: u64) -> bool {
    let head = format::header(block);
    let is = |kind: Kind| head.kind.get() == kind as u32 && head.nr.get() == nr;
    match nr {
        // All that it says is in its first sector.
        format::SUPER_COPY_NR => is(Kind::Super) && is_zero(&block[512..]),
        // A checkpoint is zero behind its first sectors.
        _ => {
            format::CHECKPOINT_NRS.contains(&nr)
                && (is(Kind::Checkpoint) || is_zero(&block[..512]))
                && is_zero(&block[CHECKPOINT_END..])
        }
    }
}

/// End of what a checkpoint uses of its block, in whole sectors.
const CHECKPOINT_END: usize =
    (format::HEADER_LEN + core::mem::size_of::<CheckpointInfo>()).next_multiple_of(512);

// SPDX-License-Identifier: GPL-2.0

//! How the store sees its device: blocks of 4 KiB, and nothing else.

use kernel::prelude::*;

/// Bytes in a metadata block.
pub(crate) const BLOCK_SIZE: usize = 4096;

/// One metadata block.
pub(crate) type Block = [u8; BLOCK_SIZE];

/// The device below the store, in blocks.
///
/// There are two ways to a block. The *cached* ways (`read`, `edit`, `create`, `forget`) are for
/// tree nodes and free lists: an edited block is written some time before the next checkpoint
/// ends, after [`format::seal`](super::format::seal) was called on it; a block that comes from
/// the disk passes [`format::check_block`](super::format::check_block) before anyone sees it. The
/// *raw* ways are for the superblock, checkpoints and recovery of the log; they go to the device
/// at once and neither seal nor check. No block is ever used both ways.
pub(crate) trait Blocks: Send {
    /// crc32c of `data`, continued from `seed`, without a final inversion.
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32;

    /// Blocks on the device.
    fn len(&self) -> u64;

    /// Shows block `nr` to `f`. `EILSEQ` if its checksum, or the order of its keys, is wrong.
    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R>;

    /// Lets `f` change block `nr` and marks it dirty.
    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R>;

    /// Lets `f` fill block `nr`, all zeroes before, without reading it, and marks it dirty.
    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R>;

    /// The content of block `nr` is no longer of use; it need not be written or kept.
    fn forget(&mut self, nr: u64);

    /// Starts reading block `nr` if that can be done without waiting.
    fn prefetch(&mut self, nr: u64);

    /// Reads block `nr` from the device, unchecked.
    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result;

    /// Writes block `nr` and waits until it is durable (FUA). Earlier writes are not flushed.
    fn write_raw(&mut self, nr: u64, block: &Block) -> Result;

    /// Writes every dirty block, and flushes the device's write cache.
    fn write_dirty(&mut self) -> Result;

    /// Drops every clean block from memory.
    fn forget_all(&mut self);

    /// What was made dirty until now is for a checkpoint that begins.
    fn checkpoint_begins(&mut self) {}

    /// That checkpoint has been written, or failed.
    fn checkpoint_ended(&mut self) {}

    /// Keeps at most so many blocks in memory from now on. After an error nothing has changed.
    fn set_limit(&mut self, _limit: u32) -> Result {
        Ok(())
    }
}

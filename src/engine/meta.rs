// SPDX-License-Identifier: GPL-2.0

//! The store's view of its device, made of dm-bufio: the one adapter between store and dm.

use crate::dm::{
    bufio::{Bufio, BufioWriter, Seal},
    crc::crc32c,
    device::BlockDev,
    io::{Flags, IoClient, PageBuf, Run}, //
};
use crate::store::{
    blocks::{Block, Blocks},
    format, //
};
use kernel::prelude::*;

/// Buffers that bufio keeps for us whatever happens: as many as the deepest operation of the
/// store holds at once (it edits or reads one block at a time), and one that is being written.
const RESERVED_BUFFERS: u32 = 4;

/// Sectors in a metadata block.
pub(super) const BLOCK_SECTORS: u64 = 8;

/// Puts the checksum into a block when bufio writes it.
pub(super) struct Checksum;

impl Seal for Checksum {
    fn seal(_nr: u64, block: &mut Block) {
        format::seal(block, crc32c);
    }
}

/// The store device as blocks.
pub(super) struct MetaBlocks {
    bufio: Bufio<Checksum>,
    raw: IoClient<()>,
    page: PageBuf,
    dev: BlockDev,
}

impl MetaBlocks {
    pub(super) fn new(dev: &BlockDev, done: kernel::sync::Arc<()>) -> Result<Self> {
        Ok(MetaBlocks {
            bufio: Bufio::new(dev, RESERVED_BUFFERS)?,
            raw: IoClient::new(dev.clone(), done)?,
            page: PageBuf::new(1)?,
            dev: dev.clone(),
        })
    }

    /// What a second thread needs to write the dirty blocks.
    pub(super) fn writer(&self) -> BufioWriter {
        self.bufio.writer()
    }

    fn run(&self, nr: u64) -> Result<Run> {
        if nr >= self.len() {
            return Err(EIO);
        }
        Ok(Run {
            sector: nr * BLOCK_SECTORS,
            first: 0,
            blocks: 1,
        })
    }
}

fn verify(block: &Block) -> Result {
    format::check_block(block, crc32c)
}

impl Blocks for MetaBlocks {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    /// Of now: a device that has grown is seen at once.
    fn len(&self) -> u64 {
        self.dev.sectors() / BLOCK_SECTORS
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        self.bufio.read(nr, verify, f)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.bufio.edit(nr, verify, f)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.bufio.create(nr, f)
    }

    fn forget(&mut self, nr: u64) {
        self.bufio.forget(nr);
    }

    fn forget_all(&mut self) {
        self.bufio.forget_all();
    }

    fn prefetch(&mut self, nr: u64) {
        if nr < self.len() {
            self.bufio.prefetch(nr, 1);
        }
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        let run = self.run(nr)?;
        self.raw.read_sync(&mut self.page, run)?;
        block.copy_from_slice(self.page.first().ok_or(EIO)?);
        Ok(())
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        let run = self.run(nr)?;
        self.page.first_mut().ok_or(EIO)?.copy_from_slice(block);
        self.raw.write_sync(&self.page, run, Flags::FUA)
    }

    fn write_dirty(&mut self) -> Result {
        self.bufio.writer().write_dirty()
    }
}

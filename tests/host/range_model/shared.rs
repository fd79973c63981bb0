// SPDX-License-Identifier: GPL-2.0

//! A device that the store and the engine's part of the model both see.

use super::super::{
    disk::Disk,
    ram::{RamBlocks, BLOCK_SECTORS},
};
use crate::store::blocks::{Block, Blocks};
use kernel::prelude::*;
use std::sync::{Arc, Mutex};

/// Blocks of a disk that the store and the engine share; raw writes can be torn.
#[derive(Clone)]
pub(in crate::tests) struct Shared(pub(in crate::tests) Arc<Mutex<RamBlocks>>);

impl Shared {
    pub(in crate::tests) fn new(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(RamBlocks::new(disk))))
    }

    pub(in crate::tests) fn disk(&self) -> Disk {
        self.0.lock().unwrap().disk().clone()
    }
}

impl Blocks for Shared {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crate::tests::ram::crc32c(seed, data)
    }
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len()
    }
    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        self.0.lock().unwrap().read(nr, f)
    }
    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.0.lock().unwrap().edit(nr, f)
    }
    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.0.lock().unwrap().create(nr, f)
    }
    fn forget(&mut self, nr: u64) {
        self.0.lock().unwrap().forget(nr);
    }
    fn prefetch(&mut self, nr: u64) {
        self.0.lock().unwrap().prefetch(nr);
    }
    fn forget_all(&mut self) {
        self.0.lock().unwrap().forget_all();
    }
    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        self.0.lock().unwrap().read_raw(nr, block)
    }
    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        let disk = self.disk();
        disk.write(nr * BLOCK_SECTORS, block, false)?;
        disk.flush()
    }
    fn write_dirty(&mut self) -> Result {
        self.0.lock().unwrap().write_dirty()
    }
}

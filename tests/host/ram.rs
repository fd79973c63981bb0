// SPDX-License-Identifier: GPL-2.0

//! The store's way to a [`Disk`]: cached blocks and faults on demand.

use super::disk::{Disk, SECTOR};
use crate::store::blocks::{Block, Blocks, BLOCK_SIZE};
use crate::store::format;
use kernel::prelude::*;
use std::collections::{btree_map::Entry, BTreeMap, HashSet};

/// Sectors in a block.
pub(crate) const BLOCK_SECTORS: u64 = (BLOCK_SIZE / SECTOR) as u64;

/// crc32c the way the kernel does it: continued from `seed`, without inversions.
pub(crate) fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

struct Cached {
    block: Box<Block>,
    dirty: bool,
}

/// Blocks of a disk, with a cache.
pub(crate) struct RamBlocks {
    disk: Disk,
    cache: BTreeMap<u64, Cached>,
    /// Calls so far.
    pub(crate) ops: u64,
    /// Calls until one fails, once.
    pub(crate) fail_after: Option<u64>,
    /// Blocks that can still be read from the disk; after that, only what is cached can.
    pub(crate) cold_reads: Option<u64>,
    /// Every so many calls the oldest dirty block is written, and the clean ones forgotten.
    pub(crate) eager: Option<u64>,
    /// Blocks that a load may need: changing them is a bug in the store.
    pub(crate) protected: HashSet<u64>,
}

impl RamBlocks {
    /// The blocks of `disk`, none cached.
    pub(crate) fn new(disk: Disk) -> Self {
        Self {
            disk,
            cache: BTreeMap::new(),
            ops: 0,
            fail_after: None,
            cold_reads: None,
            eager: None,
            protected: HashSet::new(),
        }
    }

    /// The disk below.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Number of dirty blocks.
    pub(crate) fn dirty(&self) -> usize {
        self.cache.values().filter(|c| c.dirty).count()
    }

    /// Number of blocks in memory.
    pub(crate) fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Forgets block `nr` if it is clean.
    pub(crate) fn drop_one(&mut self, nr: u64) {
        if self.cache.get(&nr).is_some_and(|c| !c.dirty) {
            self.cache.remove(&nr);
        }
    }

    /// Loses what block `nr` has that is not on the disk.
    pub(crate) fn lose(&mut self, nr: u64) {
        self.cache.remove(&nr);
    }

    /// Forgets what is clean.
    pub(crate) fn drop_clean(&mut self) {
        self.cache.retain(|_, c| c.dirty);
    }

    fn op(&mut self) -> Result {
        self.ops += 1;
        if let Some(n) = self.fail_after.as_mut() {
            if *n == 0 {
                self.fail_after = None;
                return Err(EIO);
            }
            *n -= 1;
        }
        if self.eager.is_some_and(|n| self.ops % n == 0) {
            self.drop_clean();
            let first = self.cache.iter().find(|(_, c)| c.dirty).map(|(nr, _)| *nr);
            if let Some(nr) = first {
                self.write_back(nr)?;
            }
        }
        Ok(())
    }

    fn write_back(&mut self, nr: u64) -> Result {
        let cached = self.cache.get_mut(&nr).unwrap();
        format::seal(&mut cached.block, crc32c);
        self.disk
            .write(nr * BLOCK_SECTORS, &cached.block[..], false)?;
        cached.dirty = false;
        Ok(())
    }

    fn load(&mut self, nr: u64) -> Result<&mut Cached> {
        Ok(match self.cache.entry(nr) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if let Some(n) = self.cold_reads.as_mut() {
                    *n = n.checked_sub(1).ok_or(EIO)?;
                }
                let mut block = Box::new([0; BLOCK_SIZE]);
                let sector = nr.checked_mul(BLOCK_SECTORS).ok_or(EIO)?;
                self.disk.read(sector, &mut block[..])?;
                format::check_block(&block, crc32c)?;
                entry.insert(Cached {
                    block,
                    dirty: false,
                })
            }
        })
    }
}

impl Blocks for RamBlocks {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.disk.sectors() / BLOCK_SECTORS
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        self.op()?;
        f(&self.load(nr)?.block)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.op()?;
        assert!(!self.protected.contains(&nr), "block {nr} is still needed");
        let cached = self.load(nr)?;
        cached.dirty = true;
        f(&mut cached.block)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.op()?;
        assert!(!self.protected.contains(&nr), "block {nr} is still needed");
        assert!(nr < self.len());
        let block = Box::new([0; BLOCK_SIZE]);
        self.cache.insert(nr, Cached { block, dirty: true });
        f(&mut self.cache.get_mut(&nr).unwrap().block)
    }

    fn forget(&mut self, nr: u64) {
        assert!(!self.protected.contains(&nr), "block {nr} is still needed");
        self.cache.remove(&nr);
    }

    fn prefetch(&mut self, _nr: u64) {}

    fn forget_all(&mut self) {
        self.cache.retain(|_, cached| cached.dirty);
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        self.op()?;
        self.disk
            .read(nr.checked_mul(BLOCK_SECTORS).ok_or(EIO)?, block)
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        self.op()?;
        self.disk
            .write(nr.checked_mul(BLOCK_SECTORS).ok_or(EIO)?, block, true)
    }

    fn write_dirty(&mut self) -> Result {
        self.op()?;
        let dirty: std::vec::Vec<u64> = self
            .cache
            .iter()
            .filter(|(_, c)| c.dirty)
            .map(|(nr, _)| *nr)
            .collect();
        for nr in dirty {
            self.write_back(nr)?;
        }
        self.disk.flush()
    }
}

#[test]
fn the_checksum_is_the_kernels() {
    assert_eq!(crc32c(!0, b"123456789"), 0x1cf9_6d7c);
}

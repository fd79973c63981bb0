// SPDX-License-Identifier: GPL-2.0

//! Blocks in memory. Which of them are *cached* is remembered, so that what a cache would have to
//! do when a block comes in or goes out is done here as well: checksums. Only transfer is missing.

use crate::store::{
    blocks::{Block, Blocks, BLOCK_SIZE},
    format,
};
use kernel::prelude::*;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

struct Kept {
    block: Box<Block>,
    cached: bool,
}

struct Inner {
    len: u64,
    /// Blocks of which something was written; the others are zero.
    kept: FxHashMap<u64, Kept>,
    /// Cached blocks that were changed.
    dirty: std::vec::Vec<u64>,
    written: u64,
}

/// A device of blocks of which only what was written takes room. Clones are the same one.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    /// A device of so many blocks of 4 KiB.
    pub fn new(len: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            len,
            kept: FxHashMap::default(),
            dirty: std::vec::Vec::new(),
            written: 0,
        })))
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn cached(&mut self, nr: u64) -> Result<&mut Block> {
        let kept = self.kept.get_mut(&nr).ok_or(EILSEQ)?;
        if !kept.cached {
            format::check_block(&kept.block, crc32c)?;
            kept.cached = true;
        }
        Ok(&mut kept.block)
    }
}

/// crc32c the way the kernel does it: continued from `seed`, without inversions.
fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

impl Blocks for Memory {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.lock().len
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        f(self.lock().cached(nr)?)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        inner.cached(nr)?;
        inner.dirty.push(nr);
        f(inner.cached(nr)?)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        let kept = Kept {
            block: Box::new([0; BLOCK_SIZE]),
            cached: true,
        };
        inner.kept.insert(nr, kept);
        inner.dirty.push(nr);
        f(inner.cached(nr)?)
    }

    fn forget(&mut self, nr: u64) {
        if let Some(kept) = self.lock().kept.get_mut(&nr) {
            kept.cached = false;
        }
    }

    fn prefetch(&mut self, _nr: u64) {}

    fn forget_all(&mut self) {
        let inner = &mut *self.lock();
        for kept in inner.kept.values_mut() {
            kept.cached = false;
        }
        for nr in &inner.dirty {
            if let Some(kept) = inner.kept.get_mut(nr) {
                kept.cached = true;
            }
        }
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        match self.lock().kept.get(&nr) {
            Some(kept) => block.copy_from_slice(&kept.block[..]),
            None => block.fill(0),
        }
        Ok(())
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        let mut inner = self.lock();
        inner.written += BLOCK_SIZE as u64;
        let kept = Kept {
            block: Box::new(*block),
            cached: false,
        };
        inner.kept.insert(nr, kept);
        Ok(())
    }

    fn write_dirty(&mut self) -> Result {
        let inner = &mut *self.lock();
        let mut dirty = std::mem::take(&mut inner.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for nr in dirty {
            // What was forgotten is not to be written.
            if let Some(kept) = inner.kept.get_mut(&nr).filter(|kept| kept.cached) {
                format::seal(&mut kept.block, crc32c);
                inner.written += BLOCK_SIZE as u64;
            }
        }
        Ok(())
    }
}

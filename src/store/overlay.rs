// SPDX-License-Identifier: GPL-2.0

//! A device that is only read: what is written stays in memory.
//!
//! A store that is loaded read-only replays its log here. The log bounds how many blocks that
//! takes.

use super::blocks::{Block, Blocks};
use kernel::prelude::*;

/// A device, and the blocks that would have been written to it.
pub(crate) struct Overlay<B> {
    below: B,
    /// Sorted by number.
    blocks: KVVec<(u64, KBox<Block>)>,
}

impl<B: Blocks> Overlay<B> {
    /// Nothing is written yet.
    pub(crate) fn new(below: B) -> Self {
        Self {
            below,
            blocks: KVVec::new(),
        }
    }

    fn find(&self, nr: u64) -> core::result::Result<usize, usize> {
        self.blocks.binary_search_by_key(&nr, |(nr, _)| *nr)
    }

    /// Enters `block` at index `at`.
    fn insert(&mut self, at: usize, nr: u64, block: KBox<Block>) -> Result {
        self.blocks.push((nr, block), GFP_KERNEL)?;
        if let Some(tail) = self.blocks.get_mut(at..) {
            tail.rotate_right(1);
        }
        Ok(())
    }
}

impl<B: Blocks> Blocks for Overlay<B> {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        self.below.crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        match self.find(nr) {
            Ok(at) => f(&self.blocks[at].1),
            Err(_) => self.below.read(nr, f),
        }
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let at = match self.find(nr) {
            Ok(at) => at,
            Err(at) => {
                let mut copy = KBox::<Block>::zeroed(GFP_KERNEL)?;
                self.below.read(nr, |block| {
                    copy.copy_from_slice(block);
                    Ok(())
                })?;
                self.insert(at, nr, copy)?;
                at
            }
        };
        f(&mut self.blocks[at].1)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let at = match self.find(nr) {
            Ok(at) => {
                self.blocks[at].1.fill(0);
                at
            }
            Err(at) => {
                self.insert(at, nr, KBox::<Block>::zeroed(GFP_KERNEL)?)?;
                at
            }
        };
        f(&mut self.blocks[at].1)
    }

    fn forget(&mut self, nr: u64) {
        if let Ok(at) = self.find(nr) {
            // There is such an element.
            let _ = self.blocks.remove(at);
        }
    }

    fn prefetch(&mut self, nr: u64) {
        if self.find(nr).is_err() {
            self.below.prefetch(nr);
        }
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        self.below.read_raw(nr, block)
    }

    fn write_raw(&mut self, _nr: u64, _block: &Block) -> Result {
        Err(EROFS)
    }

    fn write_dirty(&mut self) -> Result {
        Err(EROFS)
    }

    fn forget_all(&mut self) {
        self.below.forget_all();
    }

    fn set_limit(&mut self, limit: u32) -> Result {
        self.below.set_limit(limit)
    }
}

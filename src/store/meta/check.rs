// SPDX-License-Identifier: GPL-2.0

//! A walk through all free metadata blocks, for tools and tests.

use super::{Block, Blocks, Kind, Meta, UNCHECKED};
use crate::store::format;
use kernel::prelude::*;

/// Why a block is not part of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Free {
    /// Can be used.
    Now,
    /// Can be used when a checkpoint has been made.
    Later,
    /// Holds numbers of free blocks.
    List,
}

impl<B: Blocks> Meta<B> {
    /// Shows every metadata block that is free or holds a list to `f`, and checks all lists.
    pub(crate) fn walk_free(&mut self, mut f: impl FnMut(u64, Free) -> Result) -> Result {
        let mut avail = self.avail.iter().map(|nr| nr & !UNCHECKED);
        avail.try_for_each(|nr| f(nr, Free::Now))?;
        self.pending.iter().try_for_each(|&nr| f(nr, Free::Later))?;
        self.frozen.iter().try_for_each(|&nr| f(nr, Free::Later))?;
        self.lists.iter().try_for_each(|&nr| f(nr, Free::List))?;
        for &(start, len) in &self.fresh {
            (start..start + len).try_for_each(|nr| f(nr, Free::Now))?;
        }
        let (mut nr, mut left) = (self.list_head, self.list_count);
        while nr != 0 {
            f(nr, Free::List)?;
            let expect = self.expected(Kind::FreeList, nr, self.epoch - 1);
            let (lower, len) = (self.lower, self.blocks.len());
            nr = self.blocks.read(nr, |block: &Block| {
                format::check_header(block, &expect)?;
                let (next, numbers) = format::free_list(block)?;
                let count = numbers.len() as u64;
                if count == 0 || count > left || (next == 0) != (count == left) {
                    return Err(EILSEQ);
                }
                left -= count;
                for nr in numbers {
                    if nr.get() < lower || nr.get() >= len {
                        return Err(EILSEQ);
                    }
                    f(nr.get(), Free::Now)?;
                }
                if next != 0 && (next < lower || next >= len) {
                    return Err(EILSEQ);
                }
                Ok(next)
            })?;
        }
        Ok(())
    }
}

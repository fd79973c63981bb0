// SPDX-License-Identifier: GPL-2.0

//! Which metadata blocks are in memory, and which of them is to go when there are too many.
//!
//! The cache below knows no limit of one store, and drops a block only when it is told to and the
//! block is clean. So it is told here: what was used least recently goes first. What is dirty
//! stays until the checkpoint that it is for has been written.

use super::{
    blocks::{Block, Blocks},
    format,
};
use kernel::prelude::*;

/// The lists that a block can be in; each is a ring whose head is the slot of the same number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    /// Clean, the most recent first.
    Clean,
    /// Changed since the last checkpoint began.
    Dirty,
    /// Changed before it began; it is being written.
    Writing,
    /// Slots without a block.
    Free,
}

/// Number of the lists, and of the first slot that holds a block.
const HEADS: u32 = 4;

/// No slot.
const NONE: u32 = u32::MAX;

/// A block that is in memory.
#[derive(Clone, Copy)]
struct Slot {
    nr: u64,
    prev: u32,
    next: u32,
    /// The next slot of the same bucket.
    chain: u32,
    list: List,
    /// Which state of the block is the last, while it is dirty or being written.
    stamp: u64,
}

/// The blocks in memory, in the order of their last use. Nothing allocates but `new`.
pub(crate) struct Recent {
    slots: KVVec<Slot>,
    /// First slot of each bucket of numbers; a power of two of them.
    buckets: KVVec<u32>,
    len: usize,
    /// More blocks are in memory than there are slots.
    overflow: bool,
}

impl Recent {
    /// None are in memory yet, and at most `limit` will be.
    pub(crate) fn new(limit: u32) -> Result<Self> {
        let count = limit.clamp(1, NONE / 4);
        let mut slots = KVVec::with_capacity((HEADS + count) as usize, GFP_KERNEL)?;
        for i in 0..HEADS + count {
            let slot = Slot {
                nr: 0,
                prev: i,
                next: i,
                chain: NONE,
                list: List::Free,
                stamp: 0,
            };
            slots.push(slot, GFP_KERNEL)?;
        }
        let size = (count as usize).next_power_of_two();
        let mut buckets = KVVec::with_capacity(size, GFP_KERNEL)?;
        for _ in 0..size {
            buckets.push(NONE, GFP_KERNEL)?;
        }
        let mut recent = Self {
            slots,
            buckets,
            len: 0,
            overflow: false,
        };
        for i in HEADS..HEADS + count {
            recent.link(i, List::Free);
        }
        Ok(recent)
    }

    /// Number of blocks known to be in memory.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Block `nr` is used. The answer is the state in which it must be, if it is dirty or being
    /// written, and a clean block that has to go for it.
    pub(crate) fn used(&mut self, nr: u64) -> (Option<u64>, Option<u64>) {
        let Some(i) = self.find(nr) else {
            return (None, self.enter(nr, List::Clean));
        };
        if self.slots[i as usize].list != List::Clean {
            return (Some(self.slots[i as usize].stamp), None);
        }
        self.move_first(i, List::Clean);
        (None, None)
    }

    /// Block `nr` was changed, to the state `stamp`. The answer is as that of [`used`](Self::used).
    pub(crate) fn changed(&mut self, nr: u64, stamp: u64) -> Option<u64> {
        let Some(i) = self.find(nr) else {
            let evicted = self.enter(nr, List::Dirty);
            self.set_stamp(nr, stamp);
            return evicted;
        };
        self.move_first(i, List::Dirty);
        self.slots[i as usize].stamp = stamp;
        None
    }

    /// Enters a block that is not there.
    fn enter(&mut self, nr: u64, list: List) -> Option<u64> {
        let mut evicted = None;
        let mut i = self.last(List::Free);
        if i.is_none() {
            i = self.last(List::Clean);
            evicted = i.map(|i| self.slots[i as usize].nr);
        }
        let Some(i) = i else {
            self.overflow = true;
            return None;
        };
        if evicted.is_some() {
            self.drop_slot(i);
        }
        self.unlink(i);
        let bucket = self.bucket(nr);
        self.slots[i as usize].nr = nr;
        self.slots[i as usize].chain = self.buckets[bucket];
        self.buckets[bucket] = i;
        self.link(i, list);
        self.len += 1;
        evicted
    }

    /// The block, which is dirty, is in this state now.
    fn set_stamp(&mut self, nr: u64, stamp: u64) {
        if let Some(i) = self.find(nr) {
            self.slots[i as usize].stamp = stamp;
        }
    }

    /// Block `nr` is of no more use; if it is clean, it is not in memory any more.
    pub(crate) fn gone(&mut self, nr: u64) {
        if let Some(i) = self.find(nr) {
            if self.slots[i as usize].list == List::Clean {
                self.drop_slot(i);
            }
        }
    }

    /// A checkpoint begins: what is dirty now is being written from here on.
    pub(crate) fn begin(&mut self) {
        self.move_all(List::Dirty, List::Writing);
    }

    /// It has ended. Answers whether there may be clean blocks in memory that are not known here:
    /// all clean ones are to go then, and none is known any more.
    pub(crate) fn end(&mut self) -> bool {
        self.move_all(List::Writing, List::Clean);
        let overflow = core::mem::take(&mut self.overflow);
        if overflow {
            self.forget_clean();
        }
        overflow
    }

    /// All clean blocks go from memory.
    fn forget_clean(&mut self) {
        while let Some(i) = self.last(List::Clean) {
            self.drop_slot(i);
        }
    }

    /// Takes over what `old` has; `f` gets each block that has to go.
    fn take_over(&mut self, old: &Self, mut f: impl FnMut(u64)) {
        for list in [List::Writing, List::Dirty, List::Clean] {
            // From the oldest to the newest.
            let mut i = old.slots[list as usize].prev;
            while i >= HEADS {
                let Slot { nr, stamp, .. } = old.slots[i as usize];
                if let Some(nr) = self.enter(nr, list) {
                    f(nr);
                }
                self.set_stamp(nr, stamp);
                i = old.slots[i as usize].prev;
            }
        }
        self.overflow |= old.overflow;
    }

    fn bucket(&self, nr: u64) -> usize {
        let hash = nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.buckets.len() - 1)
    }

    fn find(&self, nr: u64) -> Option<u32> {
        let mut i = self.buckets[self.bucket(nr)];
        while i != NONE && self.slots[i as usize].nr != nr {
            i = self.slots[i as usize].chain;
        }
        (i != NONE).then_some(i)
    }

    /// The slot in `list` that has been there the longest.
    fn last(&self, list: List) -> Option<u32> {
        Some(self.slots[list as usize].prev).filter(|&i| i >= HEADS)
    }

    fn link(&mut self, i: u32, list: List) {
        let head = list as u32;
        let next = self.slots[head as usize].next;
        self.slots[i as usize].list = list;
        self.slots[i as usize].prev = head;
        self.slots[i as usize].next = next;
        self.slots[head as usize].next = i;
        self.slots[next as usize].prev = i;
    }

    /// Makes a slot the first of `list`.
    fn move_first(&mut self, i: u32, list: List) {
        if self.slots[list as usize].next != i {
            self.unlink(i);
            self.link(i, list);
        }
    }

    fn unlink(&mut self, i: u32) {
        let Slot { prev, next, .. } = self.slots[i as usize];
        self.slots[prev as usize].next = next;
        self.slots[next as usize].prev = prev;
        self.slots[i as usize].prev = i;
        self.slots[i as usize].next = i;
    }

    /// The block of a slot has left memory.
    fn drop_slot(&mut self, i: u32) {
        let Slot { nr, chain, .. } = self.slots[i as usize];
        let bucket = self.bucket(nr);
        if self.buckets[bucket] == i {
            self.buckets[bucket] = chain;
        } else {
            let mut before = self.buckets[bucket];
            while before != NONE && self.slots[before as usize].chain != i {
                before = self.slots[before as usize].chain;
            }
            if before != NONE {
                self.slots[before as usize].chain = chain;
            }
        }
        self.unlink(i);
        self.link(i, List::Free);
        self.len -= 1;
    }

    fn move_all(&mut self, from: List, to: List) {
        while let Some(i) = self.last(from) {
            self.unlink(i);
            self.link(i, to);
        }
    }
}

/// Blocks of which only so many are kept in memory.
///
/// The cache below may write a dirty block at any time, and drops it if that fails; what it shows
/// then is an older state. So each state carries a stamp, and another one than the last is `EIO`,
/// until a checkpoint has ended, which is told of such failures.
pub(crate) struct Limited<B> {
    below: B,
    limit: u32,
    recent: Recent,
    /// The last stamp given.
    stamp: u64,
}

impl<B: Blocks> Limited<B> {
    /// Keeps at most `limit` of the blocks of `below`.
    pub(crate) fn new(below: B, limit: u32) -> Result<Self> {
        Ok(Self {
            below,
            limit,
            recent: Recent::new(limit)?,
            stamp: 0,
        })
    }

    /// The blocks themselves.
    pub(crate) fn below(&self) -> &B {
        &self.below
    }

    /// See there.
    #[cfg(test)]
    pub(crate) fn below_mut(&mut self) -> &mut B {
        &mut self.below
    }

    /// To be called before the block gets into memory. Answers the state in which it must be, if
    /// that is known.
    fn note(&mut self, nr: u64) -> Option<u64> {
        let (expected, old) = self.recent.used(nr);
        if let Some(old) = old {
            self.below.forget(old);
        }
        expected
    }

    /// The closure of a change has run: the block is dirty.
    fn changed(&mut self, nr: u64) {
        // It has its place already.
        let _ = self.recent.changed(nr, self.stamp);
    }

    /// A stamp for the next state of a block.
    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}

/// `EIO` if the block is not in the state that it must be in.
fn check_stamp(block: &Block, expected: Option<u64>) -> Result {
    match expected {
        Some(stamp) if format::stamp(block) != stamp => Err(EIO),
        _ => Ok(()),
    }
}

impl<B: Blocks> Blocks for Limited<B> {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        self.below.crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        let expected = self.note(nr);
        self.below.read(nr, |block| {
            check_stamp(block, expected)?;
            f(block)
        })
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let expected = self.note(nr);
        let stamp = self.next_stamp();
        let mut ran = false;
        let result = self.below.edit(nr, |block| {
            check_stamp(block, expected)?;
            ran = true;
            let result = f(block);
            format::set_stamp(block, stamp);
            result
        });
        if ran {
            self.changed(nr);
        }
        result
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let stamp = self.next_stamp();
        self.note(nr);
        let mut ran = false;
        let result = self.below.create(nr, |block| {
            ran = true;
            let result = f(block);
            format::set_stamp(block, stamp);
            result
        });
        if ran {
            self.changed(nr);
        }
        result
    }

    fn forget(&mut self, nr: u64) {
        self.recent.gone(nr);
        self.below.forget(nr);
    }

    fn forget_all(&mut self) {
        self.recent.forget_clean();
        self.below.forget_all();
    }

    fn prefetch(&mut self, nr: u64) {
        self.note(nr);
        self.below.prefetch(nr);
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        self.below.read_raw(nr, block)
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        self.below.write_raw(nr, block)
    }

    fn write_dirty(&mut self) -> Result {
        self.below.write_dirty()
    }

    fn checkpoint_begins(&mut self) {
        self.recent.begin();
    }

    fn checkpoint_ended(&mut self) {
        if self.recent.end() {
            self.below.forget_all();
        }
    }

    fn set_limit(&mut self, limit: u32) -> Result {
        if limit == self.limit {
            return Ok(());
        }
        let mut recent = Recent::new(limit)?;
        let below = &mut self.below;
        recent.take_over(&self.recent, |nr| below.forget(nr));
        self.recent = recent;
        self.limit = limit;
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Metadata blocks: which are free, and nodes that are copied once per epoch before they change.
//!
//! What a checkpoint on disk refers to is never written over while that checkpoint may still be
//! the one a load starts from. So a block that is freed waits in `pending`, then (while the
//! checkpoint that no longer needs it is being written) in `frozen`, and only then in `avail`.
//!
//! Free numbers are kept on disk in a chain of list blocks. At each checkpoint the numbers held in
//! core are written to new list blocks in front of the part of the chain that was not read in.
//! Those list blocks (`lists`) are themselves free when the next checkpoint no longer names them.
//!
//! Replay of a log after a load starts with all that the checkpoint calls free, which is what the
//! run itself could use at best, and copies no node twice; so it never needs more than the run.

#[cfg(not(MODULE))]
mod check;

#[cfg(not(MODULE))]
pub(crate) use check::Free;

use super::blocks::{Block, Blocks};
use super::format::{self, Expect, Kind, Node, NodeMut, Shape, FREE_LIST_MAX};
use kernel::prelude::*;

/// Ranges of never used blocks that a checkpoint has room for.
pub(crate) const FRESH_MAX: usize = 8;

/// Blocks freed and not yet reusable; a checkpoint must come before there are more.
const PENDING_MAX: usize = 64 << 10;

/// Free numbers that stay in core after a checkpoint; the rest is left in the chain on disk.
const KEEP: usize = 4096;

/// Room in each of the vectors of numbers: it is never exceeded, so nothing allocates later.
const ROOM: usize = PENDING_MAX + KEEP + 4 * FREE_LIST_MAX;

/// The free metadata blocks as a checkpoint records them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FreeRoot {
    /// First block of the chain of lists, or 0.
    pub(crate) list_head: u64,
    /// Numbers in the whole chain.
    pub(crate) list_count: u64,
    /// First block and length of each range of never used blocks; unused ones have length 0.
    pub(crate) fresh: [(u64, u64); FRESH_MAX],
}

/// What [`Meta::thaw`] must know of the checkpoint that is being written.
struct Freeze {
    /// Numbers in its new list blocks.
    total: u64,
    /// Whether a list block behind the new ones was read in since.
    loaded: bool,
    /// Ranges of fresh blocks a load from it could have to hold.
    held: usize,
}

/// The metadata blocks of a store, and the device they are on.
pub(crate) struct Meta<B: Blocks> {
    blocks: B,
    uuid: [u8; 16],
    /// First block that may hold a node or a list.
    lower: u64,
    /// What new nodes carry: the epoch of the checkpoint that will be the first to name them.
    epoch: u64,
    poisoned: bool,
    /// Free in every checkpoint that a load could start from.
    avail: KVVec<u64>,
    /// Freed in this epoch.
    pending: KVVec<u64>,
    /// Freed before the checkpoint that is being written.
    frozen: KVVec<u64>,
    freeze: Option<Freeze>,
    /// The list blocks whose numbers are in core, the deepest in the chain first.
    lists: KVVec<u64>,
    /// The part of the chain that is not in core.
    list_head: u64,
    list_count: u64,
    fresh: [(u64, u64); FRESH_MAX],
    /// Ranges of fresh blocks that a load of the durable checkpoint could have to hold: those in
    /// it and those added since. Replay may use up none of them before the last is added.
    held: usize,
    scratch: KBox<Block>,
    pending_max: usize,
    keep: usize,
}

impl<B: Blocks> Meta<B> {
    /// The blocks as the checkpoint of `epoch` left them; for a new store `free` holds the area
    /// made at format and `epoch` is 0. `lower` is the first block that metadata may use.
    ///
    /// `EILSEQ` if `free` makes no sense. Lists are checked when they are read.
    pub(crate) fn restore(
        blocks: B,
        uuid: [u8; 16],
        lower: u64,
        epoch: u64,
        free: &FreeRoot,
    ) -> Result<Self> {
        let len = blocks.len();
        let mut held = 0;
        for (i, &(start, n)) in free.fresh.iter().enumerate() {
            if n == 0 {
                continue;
            }
            held += 1;
            let end = start.checked_add(n).ok_or(EILSEQ)?;
            let overlaps = free.fresh[..i]
                .iter()
                .any(|&(s, n)| n != 0 && s < end && start < s.saturating_add(n));
            if start < lower || end > len || overlaps {
                return Err(EILSEQ);
            }
        }
        let in_bounds = free.list_head >= lower && free.list_head < len;
        if free.list_count > len || (free.list_head == 0) != (free.list_count == 0) {
            return Err(EILSEQ);
        }
        if free.list_head != 0 && !in_bounds {
            return Err(EILSEQ);
        }
        Ok(Self {
            blocks,
            uuid,
            lower,
            epoch: epoch.checked_add(1).ok_or(EILSEQ)?,
            poisoned: false,
            avail: KVVec::with_capacity(ROOM, GFP_KERNEL)?,
            pending: KVVec::with_capacity(ROOM, GFP_KERNEL)?,
            frozen: KVVec::with_capacity(ROOM, GFP_KERNEL)?,
            freeze: None,
            lists: KVVec::with_capacity(2 * ROOM / FREE_LIST_MAX + 2, GFP_KERNEL)?,
            list_head: free.list_head,
            list_count: free.list_count,
            fresh: free.fresh,
            held,
            scratch: KBox::zeroed(GFP_KERNEL)?,
            pending_max: PENDING_MAX,
            keep: KEEP,
        })
    }

    /// Makes the limits small enough for tests to reach.
    #[cfg(test)]
    pub(crate) fn set_limits(&mut self, pending_max: usize, keep: usize) {
        self.pending_max = pending_max.min(PENDING_MAX);
        // What one change may take and give back in another order always stays in core.
        self.keep = keep.clamp(64, KEEP);
    }

    /// The device, for the raw ways.
    pub(crate) fn blocks(&mut self) -> &mut B {
        &mut self.blocks
    }

    /// The store's uuid.
    pub(crate) fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// The epoch that new nodes carry.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a change failed half-way.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Runs changes that make sense only together: if `f` fails, nothing can be trusted any more.
    /// Nests. `EIO` if that was so before.
    pub(crate) fn guarded<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.poisoned {
            return Err(EIO);
        }
        let result = f(self);
        self.poisoned |= result.is_err();
        result
    }

    // --- free blocks -------------------------------------------------------------------------

    /// Blocks that can be had before the next checkpoint.
    pub(crate) fn available_now(&self) -> u64 {
        let fresh = self
            .fresh
            .iter()
            .fold(0u64, |sum, r| sum.saturating_add(r.1));
        (self.avail.len() as u64)
            .saturating_add(self.list_count)
            .saturating_add(fresh)
    }

    /// Blocks that are free now or will be when checkpoints have been made.
    pub(crate) fn free_blocks(&self) -> u64 {
        self.available_now()
            .saturating_add((self.pending.len() + self.frozen.len()) as u64)
    }

    /// Whether a checkpoint should be made for the sake of freed blocks.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let pending = self.pending.len();
        self.freeze.is_none()
            && (pending >= self.pending_max / 4 * 3
                || (pending > 64 && pending as u64 > self.available_now()))
    }

    /// List blocks that the next checkpoint may take after a change of `n` blocks.
    fn list_need(&self, n: usize) -> u64 {
        let numbers = self.avail.len() + self.pending.len() + self.frozen.len() + self.lists.len();
        (numbers.saturating_add(n.saturating_mul(2)) / FREE_LIST_MAX + 3) as u64
    }

    /// Makes sure that a change may take `n` blocks and free `n`, and that `keep` more (besides
    /// what a checkpoint needs) are left then.
    ///
    /// `EAGAIN` if a checkpoint must come first, `ENOSPC` if that would not help. Nothing has
    /// changed then, nor after an error of reading a list.
    pub(crate) fn reserve(&mut self, n: usize, keep: u64) -> Result {
        if self.poisoned {
            return Err(EIO);
        }
        let need = self
            .list_need(n)
            .saturating_add(keep)
            .saturating_add(n as u64);
        if self.available_now() < need {
            let later = self.free_blocks();
            let hope = !(self.pending.is_empty() && self.frozen.is_empty());
            return Err(if later >= need && hope {
                EAGAIN
            } else {
                ENOSPC
            });
        }
        let lists = n / FREE_LIST_MAX + 2;
        if self.pending.len() + self.frozen.len() + n.saturating_add(lists) > self.pending_max {
            return Err(EAGAIN);
        }
        while self.avail.len() < n && self.list_head != 0 {
            self.load_list()?;
        }
        Ok(())
    }

    /// Takes a block. Needs no memory, and after [`reserve`](Self::reserve) no I/O either.
    pub(crate) fn alloc(&mut self) -> Result<u64> {
        if self.poisoned {
            return Err(EIO);
        }
        while self.avail.is_empty() && self.list_head != 0 {
            self.load_list()?;
        }
        match self.avail.pop() {
            Some(nr) => Ok(nr),
            None => self.take_fresh().ok_or(ENOSPC),
        }
    }

    /// Gives back a block that was taken in this epoch and that nothing ever referred to.
    pub(crate) fn unalloc(&mut self, nr: u64) {
        self.blocks.forget(nr);
        self.poisoned |= self.avail.push_within_capacity(nr).is_err();
    }

    /// Frees a block that the present state no longer needs. Needs no memory.
    pub(crate) fn free(&mut self, nr: u64) {
        // `reserve` has made sure of the room.
        self.poisoned |= self.pending.push_within_capacity(nr).is_err();
    }

    /// Adds never used blocks. `EINVAL` if they are not on the device, `ENOSPC` if no more ranges
    /// can be held, `EAGAIN` if one more can be held only after a checkpoint.
    pub(crate) fn add_extent(&mut self, start: u64, len: u64) -> Result {
        let end = start.checked_add(len).ok_or(EINVAL)?;
        if len == 0 || start < self.lower || end > self.blocks.len() {
            return Err(EINVAL);
        }
        let slot = self.fresh.iter_mut().find(|r| r.1 == 0).ok_or(ENOSPC)?;
        let held = self.freeze.as_ref().map_or(0, |freeze| freeze.held);
        if self.held.max(held) >= FRESH_MAX {
            return Err(EAGAIN);
        }
        *slot = (start, len);
        self.held += 1;
        if let Some(freeze) = &mut self.freeze {
            freeze.held += 1;
        }
        Ok(())
    }

    fn take_fresh(&mut self) -> Option<u64> {
        let range = self.fresh.iter_mut().find(|r| r.1 != 0)?;
        let nr = range.0;
        *range = (nr + 1, range.1 - 1);
        Some(nr)
    }

    /// The block that the `n`th next call of `take_fresh` would give.
    fn peek_fresh(&self, mut n: u64) -> Option<u64> {
        for &(start, len) in &self.fresh {
            if n < len {
                return Some(start + n);
            }
            n -= len;
        }
        None
    }

    /// Whether metadata may be at `nr` at all.
    pub(crate) fn in_bounds(&self, nr: u64) -> bool {
        nr >= self.lower && nr != 0 && nr < self.blocks.len()
    }

    /// Reads the first list block of the chain into `avail`; the block itself is free then.
    fn load_list(&mut self) -> Result {
        let (nr, len) = (self.list_head, self.blocks.len());
        let had = self.avail.len();
        if self.pending.len() >= self.pending.capacity()
            || had + FREE_LIST_MAX > self.avail.capacity()
        {
            return Err(EAGAIN);
        }
        let expect = self.expect(Kind::FreeList, nr, self.epoch - 1);
        let (fresh, avail, lower, left) =
            (&self.fresh, &mut self.avail, self.lower, self.list_count);
        let result = self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            let (next, numbers) = format::free_list(block)?;
            let n = numbers.len() as u64;
            let next_good = if n == left {
                next == 0
            } else {
                next >= lower && next < len
            };
            if n == 0 || n > left || !next_good || next == nr {
                return Err(EILSEQ);
            }
            for number in numbers {
                let number = number.get();
                let fresh = fresh.iter().any(|&(s, n)| number >= s && number - s < n);
                if number < lower || number >= len || number == nr || number == next || fresh {
                    return Err(EILSEQ);
                }
                avail.push_within_capacity(number)?;
            }
            Ok((next, n))
        });
        match result {
            Ok((next, n)) => {
                self.list_head = next;
                self.list_count -= n;
                if let Some(freeze) = &mut self.freeze {
                    freeze.loaded = true;
                }
                self.free(nr);
                Ok(())
            }
            Err(e) => {
                self.avail.truncate(had);
                Err(e)
            }
        }
    }

    // --- checkpoints -------------------------------------------------------------------------

    /// Fixes the free blocks as they are for the checkpoint of the present epoch, makes their
    /// list blocks (dirty, to be written by [`Blocks::write_dirty`]), and starts the next epoch.
    ///
    /// `EBUSY` while another checkpoint is out; after any error nothing has changed.
    pub(crate) fn freeze(&mut self) -> Result<FreeRoot> {
        if self.poisoned {
            return Err(EIO);
        }
        if self.freeze.is_some() {
            return Err(EBUSY);
        }
        let next_epoch = self.epoch.checked_add(1).ok_or(EILSEQ)?;
        if self.pending.len() + self.lists.len() + FREE_LIST_MAX > self.pending.capacity() {
            return Err(ENOSPC);
        }
        let (n, from_avail, total) = loop {
            let (n, from_avail, total) = self.plan_lists();
            if n == from_avail || self.peek_fresh((n - from_avail - 1) as u64).is_some() {
                break (n, from_avail, total);
            }
            if self.list_head == 0 {
                return Err(ENOSPC);
            }
            self.load_list()?;
        };
        let mut head = self.list_head;
        for i in 0..n {
            let nr = self.list_block(i, from_avail)?;
            self.write_list(nr, head, total * i / n, total * (i + 1) / n)?;
            head = nr;
        }

        // Nothing fails from here on. A number that no list block could be had for is in none.
        let first = self
            .pending
            .first()
            .or(self.lists.first())
            .or(self.avail.first());
        let alone = first.copied().filter(|_| n == 0);
        for i in 0..self.lists.len() {
            let nr = self.lists[i];
            self.free(nr);
        }
        self.lists.clear();
        for i in 0..n {
            let nr = self.list_block(i, from_avail)?;
            self.poisoned |= self.lists.push_within_capacity(nr).is_err();
        }
        self.avail.truncate(self.avail.len() - from_avail);
        for _ in from_avail..n {
            self.take_fresh();
        }
        let mut fresh = self.fresh;
        if let (Some(nr), Some(slot)) = (alone, fresh.iter_mut().find(|r| r.1 == 0)) {
            *slot = (nr, 1);
        }
        core::mem::swap(&mut self.pending, &mut self.frozen);
        self.epoch = next_epoch;
        self.freeze = Some(Freeze {
            total: total as u64,
            loaded: false,
            held: fresh.iter().filter(|r| r.1 != 0).count(),
        });
        Ok(FreeRoot {
            list_head: head,
            list_count: self.list_count.saturating_add(total as u64),
            fresh,
        })
    }

    /// How many list blocks to write, how many of them come from `avail`, and how many numbers
    /// they will hold.
    fn plan_lists(&self) -> (usize, usize, usize) {
        let numbers = self.pending.len() + self.lists.len() + self.avail.len();
        // A single number would need a list block besides; it goes into a range of its own.
        if numbers == 0 || (numbers == 1 && self.fresh.iter().any(|r| r.1 == 0)) {
            return (0, 0, 0);
        }
        let mut n = 1;
        loop {
            let from_avail = if numbers == 1 {
                0
            } else {
                n.min(self.avail.len())
            };
            if numbers - from_avail <= n * FREE_LIST_MAX {
                return (n, from_avail, numbers - from_avail);
            }
            n += 1;
        }
    }

    /// The block that becomes the `i`th new list block, the deepest in the chain first.
    fn list_block(&self, i: usize, from_avail: usize) -> Result<u64> {
        let nr = if i < from_avail {
            self.avail.get(self.avail.len() - 1 - i).copied()
        } else {
            self.peek_fresh((i - from_avail) as u64)
        };
        nr.ok_or(ENOSPC)
    }

    /// Writes numbers `from` to `to` of those to be listed. They come in the order that `thaw`
    /// gives them, so that the deepest list blocks hold those that would be used last.
    fn write_list(&mut self, nr: u64, next: u64, from: usize, to: usize) -> Result {
        let (uuid, epoch) = (self.uuid, self.epoch);
        let numbers = [&self.pending[..], &self.lists, &self.avail]
            .into_iter()
            .flatten();
        let numbers = numbers.skip(from).take(to - from);
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::FreeList, &uuid, nr, epoch);
            let room = format::new_free_list(block, next, (to - from) as u64)?;
            for (to, from) in room.iter_mut().zip(numbers) {
                *to = (*from).into();
            }
            Ok(())
        })
    }

    /// The checkpoint that [`freeze`](Self::freeze) began is durable, or has failed; it may be on
    /// disk all the same then, so nothing that it or the one before needs is used again.
    pub(crate) fn thaw(&mut self, result: Result) {
        let Some(freeze) = self.freeze.take() else {
            return;
        };
        if result.is_err() {
            for i in 0..self.frozen.len() {
                let nr = self.frozen[i];
                self.free(nr);
            }
            self.frozen.clear();
            self.held = self.held.max(freeze.held);
            return;
        }
        self.held = freeze.held;
        let dropped = self.drop_lists(&freeze);
        // The numbers in question are `frozen`, then `avail`; the first `dropped` are on disk.
        let (f, a) = (
            dropped.min(self.frozen.len()),
            dropped.saturating_sub(self.frozen.len()),
        );
        remove_front(&mut self.frozen, f);
        remove_front(&mut self.avail, a);
        for i in 0..self.avail.len() {
            let nr = self.avail[i];
            self.poisoned |= self.frozen.push_within_capacity(nr).is_err();
        }
        core::mem::swap(&mut self.avail, &mut self.frozen);
        self.frozen.clear();
    }

    /// Leaves as many of the new list blocks to the chain as core can do without, and returns the
    /// count of numbers in them.
    fn drop_lists(&mut self, freeze: &Freeze) -> usize {
        let numbers = self.frozen.len() + self.avail.len();
        let blocks = self.lists.len() as u64;
        // With a list behind them read in, the chain no longer hangs together; and all that was
        // in `avail` at the freeze was used, so few numbers are here.
        if freeze.loaded || blocks == 0 || numbers <= self.keep + FREE_LIST_MAX {
            return 0;
        }
        let limit = (numbers - self.keep) as u64;
        let (mut n, mut dropped) = (0, 0);
        while n < blocks && freeze.total * (n + 1) / blocks <= limit {
            n += 1;
            dropped = freeze.total * n / blocks;
        }
        if let Some(&head) = (n as usize).checked_sub(1).and_then(|i| self.lists.get(i)) {
            self.list_head = head;
            self.list_count = self.list_count.saturating_add(dropped);
            remove_front(&mut self.lists, n as usize);
        }
        dropped as usize
    }

    // --- nodes -------------------------------------------------------------------------------

    fn expect(&self, kind: Kind, nr: u64, max_epoch: u64) -> Expect {
        Expect {
            kind,
            uuid: self.uuid,
            nr,
            max_epoch,
        }
    }

    /// Shows a node to `f`, all of its header and counts checked. `EILSEQ` if it is not a node of
    /// this shape and level, or later than `max_epoch`.
    pub(crate) fn read_node<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        max_epoch: u64,
        f: impl FnOnce(&Node<'_>) -> Result<R>,
    ) -> Result<R> {
        if self.poisoned {
            return Err(EIO);
        }
        if !self.in_bounds(nr) {
            return Err(EILSEQ);
        }
        let expect = self.expect(Kind::Node, nr, max_epoch);
        self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            f(&format::node(block, shape, level)?)
        })
    }

    /// Lets `f` change a node of the present epoch in place. `EINVAL` if it is an older one.
    pub(crate) fn edit_node<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>) -> Result<R>,
    ) -> Result<R> {
        if self.poisoned {
            return Err(EIO);
        }
        let expect = self.expect(Kind::Node, nr, self.epoch);
        self.blocks.edit(nr, |block| {
            format::check_header(block, &expect)?;
            if format::header(block).epoch.get() != expect.max_epoch {
                return Err(EINVAL);
            }
            f(&mut format::node_mut(block, shape, level)?)
        })
    }

    /// Makes `nr`, which came from [`alloc`](Self::alloc), a node that `f` fills.
    pub(crate) fn new_node(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>) -> Result,
    ) -> Result {
        let (uuid, epoch) = (self.uuid, self.epoch);
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::Node, &uuid, nr, epoch);
            f(&mut format::new_node(block, shape, level)?)
        })
    }

    /// Copies the node `nr` to a new block of the present epoch and returns that. The caller
    /// replaces the reference and then frees `nr`.
    pub(crate) fn copy_node(&mut self, nr: u64, shape: &Shape, level: u16) -> Result<u64> {
        // Nothing may be half done when `free` finds no room.
        if self.pending.len() >= self.pending.capacity() {
            return Err(EAGAIN);
        }
        let new = self.alloc()?;
        let copied = self.load_scratch(nr, shape, level).and_then(|()| {
            let (uuid, epoch, scratch) = (self.uuid, self.epoch, &self.scratch);
            self.blocks.create(new, |block| {
                block.copy_from_slice(&scratch[..]);
                format::set_header(block, Kind::Node, &uuid, new, epoch);
                Ok(())
            })
        });
        match copied {
            Ok(()) => Ok(new),
            Err(e) => {
                self.unalloc(new);
                Err(e)
            }
        }
    }

    /// Frees the node `nr`; `current` if it is of the present epoch.
    pub(crate) fn free_node(&mut self, nr: u64, current: bool) {
        // An older one may be waiting to be written for the checkpoint that is out.
        if current {
            self.blocks.forget(nr);
        }
        self.free(nr);
    }

    /// Copies a node into the scratch block.
    pub(crate) fn load_scratch(&mut self, nr: u64, shape: &Shape, level: u16) -> Result {
        if self.poisoned {
            return Err(EIO);
        }
        let expect = self.expect(Kind::Node, nr, self.epoch);
        let scratch = &mut self.scratch;
        self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            format::node(block, shape, level)?;
            scratch.copy_from_slice(block);
            Ok(())
        })
    }

    /// As [`edit_node`](Self::edit_node), with the node in the scratch block at hand.
    pub(crate) fn edit_with_scratch<R>(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>, &Node<'_>) -> Result<R>,
    ) -> Result<R> {
        let expect = self.expect(Kind::Node, nr, self.epoch);
        let scratch = format::node(&self.scratch, shape, level)?;
        self.blocks.edit(nr, |block| {
            format::check_header(block, &expect)?;
            f(&mut format::node_mut(block, shape, level)?, &scratch)
        })
    }

    /// As [`new_node`](Self::new_node), with the node in the scratch block at hand.
    pub(crate) fn new_with_scratch(
        &mut self,
        nr: u64,
        shape: &Shape,
        level: u16,
        f: impl FnOnce(&mut NodeMut<'_>, &Node<'_>) -> Result,
    ) -> Result {
        let (uuid, epoch) = (self.uuid, self.epoch);
        let scratch = format::node(&self.scratch, shape, level)?;
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::Node, &uuid, nr, epoch);
            f(&mut format::new_node(block, shape, level)?, &scratch)
        })
    }
}

/// Removes the first `n` numbers.
fn remove_front(v: &mut KVVec<u64>, n: usize) {
    let n = n.min(v.len());
    if n != 0 {
        v.copy_within(n.., 0);
        v.truncate(v.len() - n);
    }
}

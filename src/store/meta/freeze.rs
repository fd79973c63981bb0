// SPDX-License-Identifier: GPL-2.0

//! What a checkpoint does with the free blocks.

use super::{FreeRoot, Freeze, Meta, UNCHECKED};
use crate::store::blocks::Blocks;
use crate::store::format::{self, Kind, FREE_LIST_MAX};
use kernel::prelude::*;

impl<B: Blocks> Meta<B> {
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
        self.check_avail(from_avail)?;
        self.check_fresh((n - from_avail) as u64)?;
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
        let alone = first.map(|nr| nr & !UNCHECKED).filter(|_| n == 0);
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
        self.dirty_frozen = core::mem::take(&mut self.dirty);
        self.blocks.checkpoint_begins();
        self.freeze = Some(Freeze {
            total: total as u64,
            mixed: false,
            added: 0,
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
        self.dirty += 1;
        self.blocks.create(nr, |block| {
            format::set_header(block, Kind::FreeList, &uuid, nr, epoch);
            let room = format::new_free_list(block, next, (to - from) as u64)?;
            for (to, from) in room.iter_mut().zip(numbers) {
                *to = (*from & !UNCHECKED).into();
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
        self.dirty_frozen = 0;
        self.blocks.checkpoint_ended();
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
        self.added = freeze.added;
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
        if freeze.mixed || blocks == 0 || numbers <= self.keep + FREE_LIST_MAX {
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
}

/// Removes the first `n` numbers.
fn remove_front(v: &mut KVVec<u64>, n: usize) {
    let n = n.min(v.len());
    if n != 0 {
        v.copy_within(n.., 0);
        v.truncate(v.len() - n);
    }
}

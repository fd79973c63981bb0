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
//! What the disk calls free is not believed: before such a block is used, the trees are asked
//! whether they lead to it (`meta/reuse.rs`).
//!
//! Replay of a log after a load starts with all that the checkpoint calls free, which is what the
//! run itself could use at best, and copies no node twice; so it never needs more than the run.

#[cfg(not(MODULE))]
mod check;
mod freeze;
mod node;
mod reuse;

#[cfg(not(MODULE))]
pub(crate) use check::Free;

use super::blocks::{Block, Blocks};
use super::format::{self, Expect, Kind, FREE_LIST_MAX, MAX_TREES};
use kernel::prelude::*;
use reuse::UNCHECKED;

/// Ranges of never used blocks that a checkpoint has room for.
pub(crate) const FRESH_MAX: usize = 8;

/// Blocks freed and not yet reusable; a checkpoint must come before there are more.
const PENDING_MAX: usize = 64 << 10;

/// Free numbers that stay in core after a checkpoint; the rest is left in the chain on disk.
const KEEP: usize = 4096;

/// Longest extent whose blocks become numbers in a list; there are few places for ranges.
const SMALL: u64 = 512;

/// Blocks of such extents that may be added before a checkpoint must come: replay holds them all.
const ADDED_MAX: u64 = 4096;

/// Room in each of the vectors of numbers: it is never exceeded, so nothing allocates later.
const ROOM: usize = PENDING_MAX + KEEP + 4 * FREE_LIST_MAX + ADDED_MAX as usize;

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
    /// Whether `avail` got numbers since that are not in the new list blocks, or the chain behind
    /// those was read on.
    mixed: bool,
    /// Ranges of fresh blocks a load from it could have to hold.
    held: usize,
    /// Blocks of small extents added since.
    added: u64,
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
    /// Free in every checkpoint that a load could start from; with [`UNCHECKED`] set, if only the
    /// disk says so.
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
    /// Fresh blocks, the next ones, that were checked.
    fresh_checked: u64,
    /// Root and depth of each tree, as it is now.
    roots: [(u64, u16); MAX_TREES],
    /// Ranges of fresh blocks that a load of the durable checkpoint could have to hold: those in
    /// it and those added since. Replay may use up none of them before the last is added.
    held: usize,
    /// Blocks of small extents that such a load would have to hold.
    added: u64,
    scratch: KBox<Block>,
    pending_max: usize,
    keep: usize,
    /// Blocks made dirty in this epoch, and for the checkpoint that is being written.
    dirty: u64,
    dirty_frozen: u64,
    /// How many of the former call for a checkpoint, and how many there may be of both.
    dirty_wanted: u64,
    dirty_max: u64,
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
            fresh_checked: 0,
            roots: [(0, 0); MAX_TREES],
            held,
            added: 0,
            scratch: KBox::zeroed(GFP_KERNEL)?,
            pending_max: PENDING_MAX,
            keep: KEEP,
            dirty: 0,
            dirty_frozen: 0,
            dirty_wanted: u64::MAX,
            dirty_max: u64::MAX,
        })
    }

    /// A checkpoint is to begin at `threshold` dirty blocks, and no more than `limit` are to be in
    /// memory. (Replay knows no such limits: it makes as many dirty as the run had done.) `ENOMEM`
    /// if nothing has changed.
    pub(crate) fn set_cache(&mut self, threshold: u32, limit: u32) -> Result {
        self.blocks.set_limit(limit)?;
        self.dirty_wanted = threshold.into();
        // A part is left for those that are only read.
        self.dirty_max = u64::from(limit - limit / 4);
        Ok(())
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

    /// Nothing can be trusted any more, or is to be changed.
    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
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
                || (pending > 64 && pending as u64 > self.available_now())
                || self.dirty >= self.dirty_wanted)
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
        // Few changes come near what is reserved for them.
        let dirty = self.dirty + self.dirty_frozen;
        let more = (n as u64).min(self.dirty_max / 8);
        if dirty != 0 && dirty.saturating_add(more) > self.dirty_max {
            return Err(EAGAIN);
        }
        while self.avail.len() < n && self.list_head != 0 {
            self.load_list()?;
        }
        self.check_next(n)
    }

    /// Takes a block. Needs no memory, and after [`reserve`](Self::reserve) no I/O either.
    pub(crate) fn alloc(&mut self) -> Result<u64> {
        if self.poisoned {
            return Err(EIO);
        }
        while self.avail.is_empty() && self.list_head != 0 {
            self.load_list()?;
        }
        // After `reserve` that was done.
        self.check_next(1)?;
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
    /// can be held (there is plenty then), `EAGAIN` if more can be held only after a checkpoint.
    pub(crate) fn add_extent(&mut self, start: u64, len: u64) -> Result {
        let end = start.checked_add(len).ok_or(EINVAL)?;
        if len == 0 || start < self.lower || end > self.blocks.len() {
            return Err(EINVAL);
        }
        if len <= SMALL {
            return self.add_numbers(start, len);
        }
        let slot = self.fresh.iter_mut().find(|r| r.1 == 0).ok_or(ENOSPC)?;
        let held = self.freeze.as_ref().map_or(0, |freeze| freeze.held);
        if self.held.max(held) >= FRESH_MAX {
            return Err(EAGAIN);
        }
        *slot = (start, len);
        // It may have come before others.
        self.fresh_checked = 0;
        self.held += 1;
        if let Some(freeze) = &mut self.freeze {
            freeze.held += 1;
        }
        Ok(())
    }

    /// Adds never used blocks to `avail`, so that any number of small pieces can be added.
    fn add_numbers(&mut self, start: u64, len: u64) -> Result {
        let room = KEEP + ADDED_MAX as usize;
        if self.added + len > ADDED_MAX || self.avail.len() + len as usize > room {
            return Err(EAGAIN);
        }
        // The first of them is used first.
        for nr in (start..start + len).rev() {
            self.avail.push_within_capacity(nr | UNCHECKED)?;
        }
        self.added += len;
        if let Some(freeze) = &mut self.freeze {
            freeze.mixed = true;
            freeze.added += len;
        }
        Ok(())
    }

    fn take_fresh(&mut self) -> Option<u64> {
        let range = self.fresh.iter_mut().find(|r| r.1 != 0)?;
        let nr = range.0;
        *range = (nr + 1, range.1 - 1);
        self.fresh_checked = self.fresh_checked.saturating_sub(1);
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
        let expect = self.expected(Kind::FreeList, nr, self.epoch - 1);
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
                avail.push_within_capacity(number | UNCHECKED)?;
            }
            Ok((next, n))
        });
        match result {
            Ok((next, n)) => {
                self.list_head = next;
                self.list_count -= n;
                if let Some(freeze) = &mut self.freeze {
                    freeze.mixed = true;
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

    fn expected(&self, kind: Kind, nr: u64, max_epoch: u64) -> Expect {
        Expect {
            kind,
            uuid: self.uuid,
            nr,
            max_epoch,
        }
    }
}

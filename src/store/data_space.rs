// SPDX-License-Identifier: GPL-2.0

//! The chunks of the data area: which are free, which are taken for copies that are not recorded
//! yet, and which were freed but may still be read.
//!
//! Chunks are handed out in order up to the end of the area; only then freed ones are looked
//! for. On disk there is the high-water mark `next`, and below it a tree of *groups* of 64 chunks
//! with a mask of the free ones; a group without any has no entry. The group that changed last
//! is kept out of the tree, in `hot`, so that a row of neighbours costs one change.
//!
//! What is taken is known in core only, so a crash gives it back. What was freed is held back
//! until the record that freed it is durable and nobody can be reading it any more.

use super::{blocks::Blocks, format, meta::Meta, tree::Tree, types::Dest};
use kernel::prelude::*;

/// Chunks that can be taken and not recorded at one time.
const TAKEN_MAX: usize = 4096;

/// Freed chunks that can be held back at one time.
const HELD_MAX: usize = 8192;

/// Chunks that could not be written and are passed over, at one time.
const BAD_MAX: usize = 64;

/// Longest distance between the mark on disk and a chunk that is recorded.
const GAP_MAX: u64 = 8192;

/// Chunks in a group.
const GROUP: u64 = 64;

/// A group of chunks and those of it that are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) nr: u64,
    pub(super) mask: u64,
}

/// A freed chunk that is held back.
#[derive(Clone, Copy)]
struct Held {
    dest: u64,
    /// Number of the batch with the record that freed it.
    batch: u64,
    /// Count of chunks freed up to this one.
    mark: u64,
}

/// The data area.
pub(super) struct DataSpace {
    tree: Tree<2, 1>,
    hot: Group,
    /// Chunks in the area.
    chunks: u64,
    /// No chunk from here on is recorded.
    next: u64,
    /// No chunk from here on is taken.
    next_taken: u64,
    /// Recorded chunks.
    used: u64,
    /// Chunks that only metadata may take.
    keep: u64,
    /// Where the search for freed chunks goes on.
    rover: u64,
    /// Sorted.
    taken: KVVec<u64>,
    /// Those of them that could not be written, the oldest first.
    bad: KVec<u64>,
    /// Sorted; the same chunks as in `queue`.
    held: KVVec<u64>,
    /// In the order of their marks, from `queue_start` on.
    queue: KVVec<Held>,
    queue_start: usize,
    /// The last mark given, and the last that the engine is done with.
    marked: u64,
    passed: u64,
}

impl DataSpace {
    /// The area as a checkpoint left it. `EILSEQ` if that makes no sense.
    pub(super) fn new(
        tree: Tree<2, 1>,
        hot: Group,
        chunks: u64,
        next: u64,
        used: u64,
        chunk_blocks: u64,
    ) -> Result<Self> {
        if used > next || next > chunks || hot.nr > chunks / GROUP {
            return Err(EILSEQ);
        }
        let mut space = Self {
            tree,
            hot,
            chunks,
            next,
            next_taken: next,
            used,
            keep: 0,
            rover: 0,
            taken: KVVec::with_capacity(TAKEN_MAX, GFP_KERNEL)?,
            bad: KVec::with_capacity(BAD_MAX, GFP_KERNEL)?,
            held: KVVec::with_capacity(HELD_MAX, GFP_KERNEL)?,
            queue: KVVec::with_capacity(2 * HELD_MAX, GFP_KERNEL)?,
            queue_start: 0,
            marked: 0,
            passed: 0,
        };
        space.grow(chunks, chunk_blocks);
        Ok(space)
    }

    /// The area has this many chunks now.
    pub(super) fn grow(&mut self, chunks: u64, chunk_blocks: u64) {
        self.chunks = self.chunks.max(chunks);
        // About 64 blocks, but never more than an eighth.
        self.keep = (64 / chunk_blocks.max(1)).clamp(1, (self.chunks / 8).max(1));
    }

    /// Chunks in the area.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Chunks that are not free on disk.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// High-water mark on disk.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The group that is not in the tree.
    pub(super) fn hot(&self) -> Group {
        self.hot
    }

    /// The tree of groups.
    pub(super) fn tree(&self) -> &Tree<2, 1> {
        &self.tree
    }

    /// Chunks that only metadata may take.
    #[cfg(not(MODULE))]
    pub(super) fn keep(&self) -> u64 {
        self.keep
    }

    /// Chunks that are neither recorded nor taken nor held back.
    pub(super) fn free(&self) -> u64 {
        let blocked = (self.taken.len() + self.held.len()) as u64;
        self.chunks
            .saturating_sub(self.used)
            .saturating_sub(blocked)
    }

    // --- taking ------------------------------------------------------------------------------

    /// Takes a chunk for a copy. `ENOSPC` if none is free; `EAGAIN` if one may soon be, or if too
    /// many are taken.
    pub(super) fn take<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result<Dest> {
        match self.take_good(m) {
            Err(e) if e == ENOSPC && !self.bad.is_empty() => {
                // A bad one may be good by now, and is better than none.
                while self.forgive() {}
                self.take_good(m)
            }
            other => other,
        }
    }

    fn take_good<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result<Dest> {
        if self.free() <= self.keep {
            return Err(if self.held.is_empty() { ENOSPC } else { EAGAIN });
        }
        if self.taken.len() >= TAKEN_MAX {
            return Err(EAGAIN);
        }
        let far = self.next_taken - self.next >= GAP_MAX / 2;
        let dest = if self.next_taken < self.chunks && !far {
            self.next_taken
        } else if let Some((dest, _)) = self.find_hole(1) {
            dest
        } else if let Some(dest) = self.find_free(m)? {
            dest
        } else {
            return Err(if far { EAGAIN } else { ENOSPC });
        };
        insert_sorted(&mut self.taken, dest)?;
        self.next_taken = self.next_taken.max(dest + 1);
        Ok(Dest(dest))
    }

    /// Gives back what was taken and not recorded.
    pub(super) fn give_back(&mut self, dest: Dest) {
        remove_sorted(&mut self.taken, dest.0);
        self.lower_taken();
    }

    /// Gives back what was taken and could not be written. It stays taken as long as there are
    /// others, so that one bad place is not tried again and again.
    pub(super) fn give_back_bad(&mut self, dest: Dest) {
        if self.bad.len() == BAD_MAX {
            self.forgive();
        }
        if self.bad.push_within_capacity(dest.0).is_err() {
            self.give_back(dest);
        }
    }

    /// Gives back the chunk that was found bad first, if there is one.
    fn forgive(&mut self) -> bool {
        let Ok(dest) = self.bad.remove(0) else {
            return false;
        };
        self.give_back(Dest(dest));
        true
    }

    /// Whether `dest` is taken.
    pub(super) fn is_taken(&self, dest: Dest) -> bool {
        self.taken.binary_search(&dest.0).is_ok()
    }

    fn lower_taken(&mut self) {
        let last = self.taken.last().map_or(0, |last| last + 1);
        self.next_taken = self.next.max(last);
    }

    /// A freed chunk that may be used again.
    fn find_free<B: Blocks>(&mut self, m: &mut Meta<B>) -> Result<Option<u64>> {
        let mut from = self.rover;
        let mut wrapped = from == 0;
        loop {
            let Some(group) = self.group_from(m, from)? else {
                if wrapped {
                    return Ok(None);
                }
                wrapped = true;
                from = 0;
                continue;
            };
            let free = self.unblocked(group);
            if free != 0 {
                self.rover = group.nr;
                return Ok(Some(group.nr * GROUP + u64::from(free.trailing_zeros())));
            }
            from = group.nr + 1;
        }
    }

    /// The first group not below `from` that has free chunks.
    fn group_from<B: Blocks>(&self, m: &mut Meta<B>, mut from: u64) -> Result<Option<Group>> {
        loop {
            let entry = self.tree.at_or_after(m, &[from])?;
            let mut found = None;
            if let Some([nr, mask]) = entry {
                if nr > self.chunks / GROUP {
                    return Err(EILSEQ);
                }
                found = Some(Group { nr, mask });
            }
            let hot = self.hot;
            let hot_first = hot.nr >= from && found.is_none_or(|group| hot.nr <= group.nr);
            if hot_first && hot.mask != 0 {
                return Ok(Some(hot));
            }
            match found {
                Some(group) if group.nr == hot.nr => from = group.nr + 1,
                other => return Ok(other),
            }
        }
    }

    /// Chunks of a group that are free, recorded as such, and not taken or held back.
    fn unblocked(&self, group: Group) -> u64 {
        let first = group.nr * GROUP;
        let mut mask = group.mask;
        for set in [&self.taken, &self.held] {
            let begin = set.partition_point(|d| *d < first);
            for dest in set[begin..].iter().take_while(|d| **d - first < GROUP) {
                mask &= !(1 << (dest - first));
            }
        }
        // Below the mark only, whatever the disk says.
        let below = self.next.saturating_sub(first);
        if below < GROUP {
            mask &= (1 << below) - 1;
        }
        mask
    }

    /// Up to `max` chunks above the mark that were given back while later ones are taken: they are
    /// in no mask yet.
    fn find_hole(&self, max: u64) -> Option<(u64, u64)> {
        let mut at = self.next;
        let begin = self.taken.partition_point(|dest| *dest < at);
        for &dest in self.taken.get(begin..)? {
            if dest > at {
                return Some((at, max.min(dest - at)));
            }
            at = dest + 1;
        }
        None
    }

    /// Up to `max` chunks in a row that are free, for metadata: the first and their number.
    /// `ENOSPC` if there are none, `EAGAIN` if there may be some soon.
    pub(super) fn find_run<B: Blocks>(&mut self, m: &mut Meta<B>, max: u64) -> Result<(u64, u64)> {
        let max = max.min(self.free());
        if max == 0 {
            return Err(if self.held.is_empty() { ENOSPC } else { EAGAIN });
        }
        if let Some(run) = self.find_hole(max) {
            return Ok(run);
        }
        if self.next_taken < self.chunks {
            return Ok((self.next_taken, max.min(self.chunks - self.next_taken)));
        }
        let first = self.find_free(m)?.ok_or(ENOSPC)?;
        let group = self.group_from(m, first / GROUP)?.ok_or(ENOSPC)?;
        let run = (self.unblocked(group) >> (first % GROUP)).trailing_ones();
        Ok((first, max.min(u64::from(run))))
    }

    // --- recording ---------------------------------------------------------------------------

    /// Most changes of the tree that [`mark_used`](Self::mark_used) makes for these chunks.
    pub(super) fn ops_for_used(&self, first: u64, count: u64) -> usize {
        let last = first.saturating_add(count);
        let groups = last / GROUP + 2;
        let from = first.min(self.next) / GROUP;
        if first == self.next || first / GROUP == self.hot.nr && last / GROUP == self.hot.nr {
            return 0;
        }
        usize::try_from(groups.saturating_sub(from)).unwrap_or(usize::MAX)
    }

    /// Blocks that one change of the tree needs.
    pub(super) fn blocks_per_op(&self) -> usize {
        self.tree.max_blocks_per_op() + 2
    }

    /// `count` chunks from `first` on are in use, as recorded. `EILSEQ` if they cannot be.
    pub(super) fn mark_used<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        first: u64,
        count: u64,
    ) -> Result {
        let end = first.checked_add(count).ok_or(EILSEQ)?;
        if end > self.chunks || end.saturating_sub(self.next) > GAP_MAX {
            return Err(EILSEQ);
        }
        // What is left out becomes free; it may be taken all the same, see `unblocked`.
        while self.next < first {
            let nr = self.next / GROUP;
            let upto = first.min((nr + 1) * GROUP);
            let mask = mask_of(self.next % GROUP, upto - self.next);
            self.warm(m, nr)?;
            self.hot.mask |= mask;
            self.next = upto;
        }
        let mut at = first;
        while at < end.min(self.next) {
            let nr = at / GROUP;
            let upto = end.min(self.next).min((nr + 1) * GROUP);
            let mask = mask_of(at % GROUP, upto - at);
            self.warm(m, nr)?;
            if self.hot.mask & mask != mask {
                return Err(EILSEQ);
            }
            self.hot.mask &= !mask;
            at = upto;
        }
        self.next = self.next.max(end);
        self.used = self.used.checked_add(count).ok_or(EILSEQ)?;
        for dest in first..end {
            remove_sorted(&mut self.taken, dest);
        }
        self.lower_taken();
        Ok(())
    }

    /// Whether `n` more chunks can be freed. `EAGAIN` if too many are held back.
    pub(super) fn check_frees(&self, n: usize) -> Result {
        if self.held.len() + n <= HELD_MAX {
            Ok(())
        } else {
            Err(EAGAIN)
        }
    }

    /// `dest` is no longer in use, as recorded in `batch`; `None` in replay, when nobody can be
    /// reading it. `EILSEQ` if it was not in use.
    pub(super) fn mark_free<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        dest: Dest,
        batch: Option<u64>,
    ) -> Result {
        if dest.0 >= self.next {
            return Err(EILSEQ);
        }
        self.warm(m, dest.0 / GROUP)?;
        let bit = 1 << (dest.0 % GROUP);
        if self.hot.mask & bit != 0 {
            return Err(EILSEQ);
        }
        self.hot.mask |= bit;
        self.used = self.used.checked_sub(1).ok_or(EILSEQ)?;
        if let Some(batch) = batch {
            self.hold(dest.0, batch)?;
        }
        Ok(())
    }

    /// Reads what a change of the state of `dest` reads.
    pub(super) fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>, dest: u64) -> Result {
        let nr = dest / GROUP;
        if nr == self.hot.nr {
            return Ok(());
        }
        self.tree.read_ahead(m, &[self.hot.nr])?;
        self.tree.read_ahead(m, &[nr])
    }

    /// Reads what [`mark_used`](Self::mark_used) reads.
    pub(super) fn read_ahead_used<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        first: u64,
        count: u64,
    ) -> Result {
        if self.ops_for_used(first, count) == 0 {
            return Ok(());
        }
        // The groups from the mark on are new, and come behind all others.
        self.read_ahead(m, self.next)?;
        self.read_ahead(m, first)?;
        self.read_ahead(m, first.saturating_add(count))
    }

    /// Makes `nr` the hot group.
    fn warm<B: Blocks>(&mut self, m: &mut Meta<B>, nr: u64) -> Result {
        if self.hot.nr == nr {
            return Ok(());
        }
        let entry = self.tree.get(m, &[nr])?;
        if self.hot.mask != 0 {
            self.tree.insert(m, &[self.hot.nr, self.hot.mask])?;
        } else {
            self.tree.remove(m, &[self.hot.nr])?;
        }
        self.hot = Group {
            nr,
            mask: entry.map_or(0, |[_, mask]| mask),
        };
        Ok(())
    }

    // --- chunks that are held back -----------------------------------------------------------

    fn hold(&mut self, dest: u64, batch: u64) -> Result {
        if self.queue.len() >= self.queue.capacity() {
            self.queue.copy_within(self.queue_start.., 0);
            self.queue.truncate(self.queue.len() - self.queue_start);
            self.queue_start = 0;
        }
        insert_sorted(&mut self.held, dest)?;
        self.marked += 1;
        let held = Held {
            dest,
            batch,
            mark: self.marked,
        };
        self.queue.push_within_capacity(held).map_err(|_| EAGAIN)
    }

    /// See [`ExceptionStore::free_mark`](super::ExceptionStore::free_mark).
    pub(super) fn free_mark(&self) -> Option<u64> {
        let last = self.queue.last()?;
        (self.queue_start < self.queue.len() && last.mark > self.passed).then_some(last.mark)
    }

    /// Nobody reads what was freed up to `mark` any more.
    pub(super) fn pass(&mut self, mark: u64) {
        self.passed = self.passed.max(mark.min(self.marked));
    }

    /// Lets go of the chunks that may be used again: all batches before `durable` are.
    pub(super) fn release(&mut self, durable: u64) {
        while let Some(held) = self.queue.get(self.queue_start) {
            if held.batch >= durable || held.mark > self.passed {
                return;
            }
            remove_sorted(&mut self.held, held.dest);
            self.queue_start += 1;
        }
        self.queue.clear();
        self.queue_start = 0;
    }

    /// The tree that `root` names.
    pub(super) fn load_tree<B: Blocks>(
        m: &mut Meta<B>,
        root: (u64, u16),
        epoch: u64,
    ) -> Result<Tree<2, 1>> {
        Tree::load(m, format::TREE_FREE as u16, root.0, root.1, epoch)
    }
}

/// `count` bits from bit `first` on.
fn mask_of(first: u64, count: u64) -> u64 {
    let ones = if count >= GROUP {
        u64::MAX
    } else {
        (1 << count) - 1
    };
    ones << (first % GROUP)
}

/// Enters `n` unless it is there. The vector is never grown.
fn insert_sorted(v: &mut KVVec<u64>, n: u64) -> Result {
    if let Err(at) = v.binary_search(&n) {
        v.push_within_capacity(n).map_err(|_| EAGAIN)?;
        v[at..].rotate_right(1);
    }
    Ok(())
}

fn remove_sorted(v: &mut KVVec<u64>, n: u64) {
    if let Ok(at) = v.binary_search(&n) {
        v[at..].rotate_left(1);
        v.pop();
    }
}

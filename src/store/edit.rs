// SPDX-License-Identifier: GPL-2.0

//! A change of the records of one chunk, planned whole before the first of them is touched.

use super::{blocks::Blocks, data_space::DataSpace, meta::Meta, tree::Tree, types::Dest};
use kernel::prelude::*;

/// Words of the longest record.
const WORDS: usize = 4;

/// One step of a change.
#[derive(Clone, Copy)]
enum Step {
    /// Removes the record with this key.
    Remove([u64; 2]),
    /// Enters a record, in place of one with the same key.
    Put([u64; WORDS]),
}

/// A planned change. Made once and used again, so that planning needs no memory.
pub(super) struct Edit {
    steps: KVec<Step>,
    /// Chunks of the store that no record names any more.
    frees: KVec<u64>,
    /// A chunk of the store that gets its first record.
    used: Option<u64>,
    /// Not everything could be planned at once.
    more: bool,
}

impl Edit {
    /// A change of no more than `steps` steps that frees no more than `frees` chunks.
    pub(super) fn new(steps: usize, frees: usize) -> Result<Self> {
        Ok(Self {
            steps: KVec::with_capacity(steps, GFP_KERNEL)?,
            frees: KVec::with_capacity(frees, GFP_KERNEL)?,
            used: None,
            more: false,
        })
    }

    // --- planning ----------------------------------------------------------------------------

    /// Begins a new plan.
    pub(super) fn reset(&mut self) {
        self.steps.clear();
        self.frees.clear();
        self.used = None;
        self.more = false;
    }

    /// Plans to enter a record, in place of one with the same key.
    pub(super) fn put<const N: usize>(&mut self, record: [u64; N]) -> Result {
        let mut words = [0; WORDS];
        words.get_mut(..N).ok_or(EINVAL)?.copy_from_slice(&record);
        self.step(Step::Put(words))
    }

    /// Plans to remove the record with this key.
    pub(super) fn remove(&mut self, key: [u64; 2]) -> Result {
        self.step(Step::Remove(key))
    }

    fn step(&mut self, step: Step) -> Result {
        self.steps.push_within_capacity(step).map_err(|_| EILSEQ)
    }

    /// The records that are planned to be entered.
    pub(super) fn puts(&self) -> impl Iterator<Item = &[u64; WORDS]> {
        self.steps.iter().filter_map(|step| match step {
            Step::Put(words) => Some(words),
            Step::Remove(_) => None,
        })
    }

    /// Plans to free a chunk of the store.
    pub(super) fn free(&mut self, dest: u64) -> Result {
        if self.frees.contains(&dest) {
            return Ok(());
        }
        self.frees.push_within_capacity(dest).map_err(|_| EILSEQ)
    }

    /// Plans not to free a chunk.
    pub(super) fn keep(&mut self, dest: u64) {
        self.frees.retain(|free| *free != dest);
    }

    /// Plans that a chunk gets its first record.
    pub(super) fn set_used(&mut self, dest: Option<u64>) {
        self.used = dest;
    }

    /// Not everything could be planned: another plan has to follow.
    pub(super) fn set_more(&mut self) {
        self.more = true;
    }

    // --- the plan ----------------------------------------------------------------------------

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the chunk needs another plan after this.
    pub(super) fn more(&self) -> bool {
        self.more
    }

    /// Chunks of the store that it frees.
    pub(super) fn frees(&self) -> usize {
        self.frees.len()
    }

    /// Metadata blocks that it needs at most.
    pub(super) fn blocks<const N: usize>(&self, tree: &Tree<N, 2>, data: &DataSpace) -> usize {
        let grow = usize::from(self.steps.len() > 1) * 2;
        let tree = self.steps.len() * (tree.max_blocks_per_op() + grow);
        let used = self.used.map_or(0, |dest| data.ops_for_used(dest, 1));
        // Each may be in a group of its own, and another leaves the core for it.
        let ops = used.saturating_add(self.frees.len());
        tree.saturating_add(ops.saturating_mul(data.blocks_per_op()))
    }

    /// Reads what [`apply`](Self::apply) will read, and planning has not read: an error comes before
    /// the first change then. (If memory does not hold all of it, it may come later still.)
    pub(super) fn read_ahead<const N: usize, B: Blocks>(
        &self,
        tree: &Tree<N, 2>,
        m: &mut Meta<B>,
        data: &DataSpace,
    ) -> Result {
        for step in &self.steps {
            match step {
                Step::Remove(key) => tree.read_ahead(m, key)?,
                // Planning has looked where the first one goes.
                Step::Put(_) if self.steps.len() == 1 => (),
                Step::Put(words) => tree.read_ahead(m, &[words[0], words[1]])?,
            }
        }
        let used = self
            .used
            .map_or(Ok(()), |dest| data.read_ahead_used(m, dest, 1));
        used?;
        self.frees
            .iter()
            .try_for_each(|dest| data.read_ahead(m, *dest))
    }

    /// Makes the change. An error leaves it half made. `batch` is the one that its record goes
    /// to; `None` in replay.
    pub(super) fn apply<const N: usize, B: Blocks>(
        &self,
        tree: &mut Tree<N, 2>,
        m: &mut Meta<B>,
        data: &mut DataSpace,
        batch: Option<u64>,
    ) -> Result {
        for step in &self.steps {
            match step {
                Step::Remove(key) => tree.remove(m, key).map(drop)?,
                Step::Put(words) => {
                    let record = words.first_chunk::<N>().ok_or(EINVAL)?;
                    tree.insert(m, record).map(drop)?;
                }
            }
        }
        if let Some(dest) = self.used {
            data.mark_used(m, dest, 1)?;
        }
        for dest in &self.frees {
            data.mark_free(m, Dest(*dest), batch)?;
        }
        Ok(())
    }
}

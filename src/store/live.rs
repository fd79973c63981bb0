// SPDX-License-Identifier: GPL-2.0

//! Sets of numbers kept as sorted ranges in memory: the live ids.

use kernel::{alloc::Flags, prelude::*};

/// How a set of ranges changes, by the lower ends: what is taken out, and what is entered in
/// place of a range with the same lower end, or anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) out: Option<u64>,
    pub(super) put: [Option<(u64, u64)>; 2],
}

/// A set of numbers as ranges that neither overlap nor touch.
pub(super) struct Ranges(KVVec<(u64, u64)>);

impl Ranges {
    /// The empty set.
    pub(super) fn new() -> Self {
        Self(KVVec::new())
    }

    /// Makes sure that the next change needs no memory.
    pub(super) fn reserve(&mut self, flags: Flags) -> Result {
        Ok(self.0.reserve(2, flags)?)
    }

    /// Enters a range behind all others. `EILSEQ` if it is not.
    pub(super) fn push(&mut self, lo: u64, hi: u64) -> Result {
        let good = lo <= hi && self.0.last().is_none_or(|last| last.1 < lo);
        if !good {
            return Err(EILSEQ);
        }
        Ok(self.0.push((lo, hi), GFP_KERNEL)?)
    }

    /// Index of the first range that does not end below `n`.
    fn index(&self, n: u64) -> usize {
        self.0.partition_point(|range| range.1 < n)
    }

    /// The smallest number not below `n`.
    pub(super) fn next(&self, n: u64) -> Option<u64> {
        self.0.get(self.index(n)).map(|range| range.0.max(n))
    }

    /// The largest number not above `n`.
    pub(super) fn prev(&self, n: u64) -> Option<u64> {
        let i = self.0.partition_point(|range| range.0 <= n);
        let range = self.0.get(i.checked_sub(1)?)?;
        Some(range.1.min(n))
    }

    /// The part from `n` on of the first range that has any.
    pub(super) fn range(&self, n: u64) -> Option<(u64, u64)> {
        self.0
            .get(self.index(n))
            .map(|range| (range.0.max(n), range.1))
    }

    /// Whether `n` is in the set.
    pub(super) fn contains(&self, n: u64) -> bool {
        self.next(n) == Some(n)
    }

    /// What has to change for `n`, which is not in the set, to be in it.
    pub(super) fn plan_insert(&self, n: u64) -> Change {
        let i = self.index(n);
        let left = i
            .checked_sub(1)
            .and_then(|i| self.0.get(i))
            .filter(|left| left.1.checked_add(1) == Some(n));
        let right = self
            .0
            .get(i)
            .filter(|right| n.checked_add(1) == Some(right.0));
        let lo = left.map_or(n, |left| left.0);
        let hi = right.map_or(n, |right| right.1);
        Change {
            out: right.map(|right| right.0),
            put: [Some((lo, hi)), None],
        }
    }

    /// What has to change for `n`, which is in the set, not to be in it.
    pub(super) fn plan_remove(&self, n: u64) -> Change {
        let mut change = Change::default();
        if let Some(&(lo, hi)) = self.0.get(self.index(n)) {
            if lo == n {
                change.out = Some(lo);
            } else {
                change.put[0] = Some((lo, n - 1));
            }
            if hi != n {
                change.put[1] = Some((n + 1, hi));
            }
        }
        change
    }

    /// Makes a change; [`reserve`](Self::reserve) was called for it.
    pub(super) fn apply(&mut self, change: &Change) -> Result {
        if let Some(out) = change.out {
            let i = self.index(out);
            if self.0.get(i).is_some_and(|range| range.0 == out) {
                self.0[i..].rotate_left(1);
                self.0.pop();
            }
        }
        // The first may shorten a range that the second then comes behind.
        for (lo, hi) in change.put.into_iter().flatten() {
            let i = self.0.partition_point(|range| range.0 < lo);
            match self.0.get_mut(i) {
                Some(range) if range.0 == lo => range.1 = hi,
                _ => {
                    self.0.push_within_capacity((lo, hi)).map_err(|_| ENOMEM)?;
                    self.0[i..].rotate_right(1);
                }
            }
        }
        Ok(())
    }
}

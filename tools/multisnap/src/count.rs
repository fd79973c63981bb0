// SPDX-License-Identifier: GPL-2.0

//! What is in use, counted from scratch: metadata blocks, and the chunks of the store.
//!
//! A bit for each chunk of the store and each use of it would not fit into memory for a large
//! store, so a part of the store is counted at a time.

use std::collections::HashMap;

/// Numbers in a page of a sparse set.
const PAGE: u64 = 4096;

/// A set of numbers that stand together in some places.
#[derive(Default)]
pub struct Sparse(HashMap<u64, Box<[u64; (PAGE / 64) as usize]>>);

impl Sparse {
    /// Enters `n`; false if it is there already.
    pub fn insert(&mut self, n: u64) -> bool {
        let page = self.0.entry(n / PAGE).or_insert_with(|| Box::new([0; 64]));
        let word = &mut page[(n % PAGE / 64) as usize];
        let bit = 1 << (n % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether `n` was entered.
    pub fn contains(&self, n: u64) -> bool {
        let page = self.0.get(&(n / PAGE));
        page.is_some_and(|page| page[(n % PAGE / 64) as usize] & (1 << (n % 64)) != 0)
    }
}

/// What is wrong with how a chunk of the store is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It belongs to snapshots and to metadata.
    DataAndMetadata,
    /// It is in use, and said to be free.
    UsedAndFree,
    /// It is neither in use nor free.
    Leaked,
    /// It is in use or free behind the mark up to which chunks were ever used.
    BehindMark,
}

/// How the chunks of a part of the store are used.
pub struct Window {
    /// The first of them, and the one behind the last.
    first: u64,
    end: u64,
    data: Vec<u64>,
    metadata: Vec<u64>,
    free: Vec<u64>,
}

/// Chunks that one bitmap has at most, with `memory` bytes for the three of a window.
pub fn window_chunks(memory: u64) -> u64 {
    (memory / 3).saturating_mul(8).max(64) / 64 * 64
}

impl Window {
    /// The chunks from `first` on that are less than `end`; `first` is a multiple of 64.
    pub fn new(first: u64, end: u64) -> Self {
        let words = usize::try_from(end.saturating_sub(first).div_ceil(64)).unwrap_or(0);
        let empty = || vec![0; words];
        Self {
            first,
            end,
            data: empty(),
            metadata: empty(),
            free: empty(),
        }
    }

    /// Where the bit of a chunk is.
    fn place(&self, chunk: u64) -> Option<(usize, u64)> {
        if chunk >= self.end {
            return None;
        }
        let at = chunk.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    /// A record names the chunk. False if one did before.
    pub fn name(&mut self, chunk: u64) -> bool {
        let Some((word, bit)) = self.place(chunk) else {
            return true;
        };
        let Some(word) = self.data.get_mut(word) else {
            return true;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// A metadata block is in the chunk.
    pub fn give(&mut self, chunk: u64) {
        if let Some((word, bit)) = self.place(chunk) {
            if let Some(word) = self.metadata.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// These chunks of a group of 64 are said to be free.
    pub fn free(&mut self, group: u64, mask: u64) {
        let Some(first) = group.checked_mul(64) else {
            return;
        };
        if let Some((word, _)) = self.place(first) {
            if let Some(word) = self.free.get_mut(word) {
                *word |= mask;
            }
        }
    }

    /// Counts the chunks in use for data and for metadata.
    pub fn used(&self) -> (u64, u64) {
        let ones = |words: &[u64]| words.iter().map(|word| u64::from(word.count_ones())).sum();
        (ones(&self.data), ones(&self.metadata))
    }

    /// Shows what is wrong to `f`, as ranges: the first chunk and the last. No chunk from
    /// `high_water` on was ever used.
    pub fn judge(&self, high_water: u64, mut f: impl FnMut(Wrong, u64, u64)) {
        for wrong in [
            Wrong::DataAndMetadata,
            Wrong::UsedAndFree,
            Wrong::Leaked,
            Wrong::BehindMark,
        ] {
            let mut run: Option<(u64, u64)> = None;
            for (i, base) in (self.first..self.end).step_by(64).enumerate() {
                let mut mask = self.word(wrong, i, base, high_water);
                if base.saturating_add(64) > self.end {
                    mask &= (1 << (self.end - base)) - 1;
                }
                while mask != 0 {
                    let chunk = base + u64::from(mask.trailing_zeros());
                    mask &= mask - 1;
                    run = match run {
                        Some((first, last)) if last + 1 == chunk => Some((first, chunk)),
                        other => {
                            if let Some((first, last)) = other {
                                f(wrong, first, last);
                            }
                            Some((chunk, chunk))
                        }
                    };
                }
            }
            if let Some((first, last)) = run {
                f(wrong, first, last);
            }
        }
    }

    /// The chunks of a group, which begins with `base`, with which something is wrong.
    fn word(&self, wrong: Wrong, i: usize, base: u64, high_water: u64) -> u64 {
        let get = |words: &[u64]| words.get(i).copied().unwrap_or(0);
        let (data, metadata, free) = (get(&self.data), get(&self.metadata), get(&self.free));
        let used = data | metadata;
        let below = match high_water.saturating_sub(base) {
            n if n >= 64 => u64::MAX,
            n => (1 << n) - 1,
        };
        match wrong {
            Wrong::DataAndMetadata => data & metadata,
            Wrong::UsedAndFree => used & free,
            Wrong::Leaked => below & !(used | free),
            Wrong::BehindMark => !below & (used | free),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(window: &Window, high_water: u64) -> Vec<(Wrong, u64, u64)> {
        let mut list = Vec::new();
        window.judge(high_water, |wrong, first, last| {
            list.push((wrong, first, last))
        });
        list
    }

    #[test]
    fn each_use_is_told_from_the_others() {
        let mut window = Window::new(64, 300);
        (64..250).for_each(|chunk| assert!(window.name(chunk)));
        assert_eq!(wrongs(&window, 250), []);
        assert!(!window.name(100));
        window.give(249);
        window.free(1, 0b110);
        let data = (Wrong::DataAndMetadata, 249, 249);
        let free = (Wrong::UsedAndFree, 65, 66);
        assert_eq!(wrongs(&window, 250), [data, free]);
        let leaked = (Wrong::Leaked, 250, 259);
        assert_eq!(wrongs(&window, 260), [data, free, leaked]);
        let behind = (Wrong::BehindMark, 240, 249);
        assert_eq!(wrongs(&window, 240), [data, free, behind]);
        assert_eq!(window.used(), (186, 1));
    }

    #[test]
    fn other_parts_of_the_store_do_not_count() {
        let mut window = Window::new(128, 192);
        assert!(window.name(5) && window.name(5) && window.name(192));
        window.give(0);
        window.free(u64::MAX, 1);
        window.free(3, u64::MAX);
        assert_eq!(window.used(), (0, 0));
        assert_eq!(wrongs(&window, 128), []);
    }

    #[test]
    fn a_sparse_set_tells_what_is_new() {
        let mut set = Sparse::default();
        for n in [0, 1, 63, 64, 4095, 4096, u64::MAX] {
            assert!(!set.contains(n));
            assert!(set.insert(n));
            assert!(!set.insert(n));
            assert!(set.contains(n));
        }
    }
}

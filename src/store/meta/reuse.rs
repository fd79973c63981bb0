// SPDX-License-Identifier: GPL-2.0

//! Blocks that the disk calls free are checked before they are used.
//!
//! A hostile list, range or mask may name a block that a tree leads to, or one block twice. A node
//! that is in use is whole, and its first key leads to it from the root of its tree; any other
//! block cannot be reached, so it may be used whatever it holds. That is one read and one descent
//! for each block, once; blocks that were freed since the load are known to be free.
//!
//! What this cannot tell: whether the block is part of a chunk that holds a snapshot's data.

use super::Meta;
use crate::store::blocks::Blocks;
use crate::store::format::{self, Kind, Node, NodeInfo, Shape, MAX_DEPTH};
use kernel::prelude::*;
use zerocopy::little_endian::U64;

/// Set in a free block's number that was not checked; no device has so many blocks.
pub(super) const UNCHECKED: u64 = 1 << 63;

/// Most words of a key.
const KEY_MAX: usize = 2;

/// What a block that is called free holds: a node of this shape and level, with this first key.
struct Old {
    shape: Shape,
    level: u16,
    key: [U64; KEY_MAX],
}

impl<B: Blocks> Meta<B> {
    /// The tree with this number has this root and depth from now on.
    pub(crate) fn note_root(&mut self, tree: u16, root: u64, depth: u16) {
        if let Some(to) = self.roots.get_mut(usize::from(tree)) {
            *to = (root, depth);
        }
    }

    /// Checks the next `n` blocks that [`alloc`](Self::alloc) will give. `EILSEQ` if one of them
    /// is not free.
    pub(super) fn check_next(&mut self, n: usize) -> Result {
        self.check_avail(n)?;
        self.check_fresh(n.saturating_sub(self.avail.len()) as u64)
    }

    /// Checks the last `n` numbers in `avail`.
    pub(super) fn check_avail(&mut self, n: usize) -> Result {
        let len = self.avail.len();
        for i in (len.saturating_sub(n)..len).rev() {
            let nr = self.avail[i] & !UNCHECKED;
            if self.avail[i] != nr {
                self.check_free(nr, Some(i))?;
                self.avail[i] = nr;
            }
        }
        Ok(())
    }

    /// Checks the next `n` fresh blocks.
    pub(super) fn check_fresh(&mut self, n: u64) -> Result {
        while self.fresh_checked < n {
            let Some(nr) = self.peek_fresh(self.fresh_checked) else {
                break;
            };
            self.check_free(nr, None)?;
            self.fresh_checked += 1;
        }
        Ok(())
    }

    /// Checks that `nr`, which is number `at` of `avail` or fresh, is free and nothing else.
    fn check_free(&mut self, nr: u64, at: Option<usize>) -> Result {
        let twice = self.pending.contains(&nr)
            || self.frozen.contains(&nr)
            || self.lists.contains(&nr)
            || self.list_head == nr
            || (self.avail.iter().enumerate())
                .any(|(i, other)| other & !UNCHECKED == nr && Some(i) != at);
        let ranges = self.fresh.iter();
        let ranges = ranges.filter(|&&(start, len)| nr >= start && nr - start < len);
        if twice || ranges.count() != usize::from(at.is_none()) || !self.in_bounds(nr) {
            return Err(EILSEQ);
        }
        let expect = self.expected(Kind::Node, nr, self.epoch);
        let old = self.blocks.read(nr, |block| {
            format::check_header(block, &expect)?;
            let info = format::info::<NodeInfo>(block)?;
            let shape = Shape {
                tree: info.tree.get(),
                words: info.words.get(),
                key_words: info.key_words.get(),
            };
            let level = info.level.get();
            let node = format::node(block, &shape, level)?;
            let mut key = [U64::ZERO; KEY_MAX];
            let words = usize::from(shape.key_words);
            let first = node.entry(0).get(..words).ok_or(EILSEQ)?;
            key.get_mut(..words).ok_or(EILSEQ)?.copy_from_slice(first);
            Ok(Old { shape, level, key })
        });
        match old {
            Err(ENOMEM) => return Err(ENOMEM),
            // No node, or one that no look-up would take: nothing leads there.
            Err(_) => {}
            Ok(old) if self.leads_to(&old, nr)? => return Err(EILSEQ),
            Ok(_) => self.blocks.forget(nr),
        }
        Ok(())
    }

    /// Whether the tree leads to `nr`, which holds `old`.
    fn leads_to(&mut self, old: &Old, nr: u64) -> Result<bool> {
        let roots = self.roots.get(usize::from(old.shape.tree));
        let Some(&(mut here, depth)) = roots.filter(|root| root.1 > old.level) else {
            return Ok(false);
        };
        let mut max_epoch = self.epoch;
        for level in (old.level + 1..depth.min(MAX_DEPTH)).rev() {
            let child = self.read_node(here, &old.shape, level, max_epoch, |node| {
                let child = node.entry(old.choose(node)).last().ok_or(EILSEQ)?.get();
                Ok((child, node.epoch))
            });
            (here, max_epoch) = match child {
                // No look-up would come by.
                Err(EILSEQ) => return Ok(false),
                other => other?,
            };
        }
        Ok(here == nr)
    }
}

impl Old {
    /// Which child of an inner node leads to its key.
    fn choose(&self, node: &Node<'_>) -> usize {
        let words = usize::from(self.shape.key_words);
        let not_above = |i: &usize| {
            let key = node.entry(*i).iter().take(words).map(|word| word.get());
            key.le(self.key.iter().take(words).map(|word| word.get()))
        };
        (0..node.count)
            .take_while(not_above)
            .count()
            .saturating_sub(1)
    }
}

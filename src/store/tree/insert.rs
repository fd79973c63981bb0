// SPDX-License-Identifier: GPL-2.0

//! Insertion: one edit of a leaf, or a row of splits from the leaf up.

use super::{key_at, Path, Tree, LEVELS};
use crate::store::blocks::Blocks;
use crate::store::format::{Node, MAX_DEPTH};
use crate::store::meta::Meta;
use kernel::prelude::*;
use zerocopy::little_endian::U64;

/// Entries that are looked at to tell a run.
const RUN: usize = 6;

/// Where to split a full leaf into which `key` comes at `at`, before other entries.
///
/// In the middle; but behind the new entry if it seems to belong to a run: if the next key is
/// farther away than the sixth before. So runs leave full leaves behind. The choice depends on
/// the entries alone, since replay of a log must split as the run did.
fn cut_leaf(node: &Node<'_>, at: usize, key: u64) -> usize {
    let first = |i: usize| node.entry(i).first().map_or(0, |word| word.get());
    let middle = node.count.div_ceil(2);
    if at <= middle || at < RUN {
        return middle;
    }
    let (before, after) = (
        key.saturating_sub(first(at - RUN)),
        first(at).saturating_sub(key),
    );
    if after > before {
        at
    } else {
        middle
    }
}

/// The entry of an inner node for `child`; the words behind it are of no use.
fn inner_entry<const K: usize>(separator: &[u64; K], child: u64) -> [U64; 3] {
    let mut words = [U64::ZERO; 3];
    for (to, from) in words.iter_mut().zip(separator) {
        *to = (*from).into();
    }
    words[K] = child.into();
    words
}

impl<const N: usize, const K: usize> Tree<N, K> {
    /// Enters `entry`, in place of one with the same key if there is one; says whether the key is
    /// new.
    ///
    /// The caller has reserved [`max_blocks_per_op`](Self::max_blocks_per_op) blocks. An error
    /// has changed nothing unless [`Meta::is_poisoned`] says so.
    pub(crate) fn insert<B: Blocks>(&mut self, m: &mut Meta<B>, entry: &[u64; N]) -> Result<bool> {
        let shape = self.shape();
        let words: [U64; N] = entry.map(U64::new);
        if self.depth == 0 {
            let nr = m.alloc()?;
            if let Err(e) = m.new_node(nr, &shape, 0, |node| node.insert(0, &words)) {
                m.unalloc(nr);
                return Err(e);
            }
            self.set_root(m, nr, 1);
            return Ok(true);
        }

        let mut key = [0; K];
        key.copy_from_slice(&entry[..K]);
        let mut path = Path::new();
        self.trace(m, &key, &mut path)?;
        let mut splits = 0;
        if !path.found {
            while splits < self.depth
                && usize::from(path.step(splits)?.count) >= shape.capacity(splits)
            {
                splits += 1;
            }
        }
        let new_root = splits == self.depth;
        if new_root && self.depth == MAX_DEPTH {
            return Err(ENOSPC);
        }
        let mut new = [0; LEVELS];
        let new = &mut new[..usize::from(splits) + usize::from(new_root)];
        for i in 0..new.len() {
            match m.alloc() {
                Ok(nr) => new[i] = nr,
                Err(e) => {
                    new[..i].iter().for_each(|&nr| m.unalloc(nr));
                    return Err(e);
                }
            }
        }

        let ready = self
            .copy_path(m, &mut path, 0)
            .and_then(|()| self.lower_separators(m, &path, &key));
        if let Err(e) = ready {
            new.iter().for_each(|&nr| m.unalloc(nr));
            return Err(e);
        }
        let leaf = *path.step(0)?;
        if path.found || splits == 0 {
            m.edit_node(leaf.nr, &shape, 0, |node| {
                let at = usize::from(leaf.at);
                if path.found {
                    node.entry_mut(at)?.copy_from_slice(&words);
                    Ok(())
                } else {
                    node.insert(at, &words)
                }
            })?;
        } else {
            m.guarded(|m| self.split(m, &path, new, splits, &words))?;
        }
        Ok(!path.found)
    }

    /// Makes the separators on the way low enough for `key`.
    fn lower_separators<B: Blocks>(&self, m: &mut Meta<B>, path: &Path, key: &[u64; K]) -> Result {
        for level in (1..self.depth).rev() {
            let step = path.step(level)?;
            if step.below {
                m.edit_node(step.nr, &self.shape(), level, |node| {
                    for (to, from) in node.entry_mut(0)?.iter_mut().zip(key) {
                        *to = (*from).into();
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Splits the nodes of `path` below level `splits`, enters `words` in the leaf and each new
    /// node in the level above. `new` are blocks for the new nodes.
    fn split<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        path: &Path,
        new: &[u64],
        splits: u16,
        words: &[U64; N],
    ) -> Result {
        let shape = self.shape();
        // What goes into the level above.
        let mut up = [U64::ZERO; 3];
        for level in 0..self.depth.min(splits + 1) {
            let step = path.step(level)?;
            let carry = if level == 0 { &words[..] } else { &up[..K + 1] };
            // A new node stands behind the one it was split from.
            let at = usize::from(step.at) + usize::from(level != 0);
            if level == splits {
                return m.edit_node(step.nr, &shape, level, |n| n.insert(at, carry));
            }
            let count = usize::from(step.count);
            let right = *new.get(usize::from(level)).ok_or(EINVAL)?;
            let cut = if at < count && level == 0 {
                let key = words[0].get();
                m.read_node(step.nr, &shape, 0, m.epoch(), |node| {
                    Ok(cut_leaf(node, at, key))
                })?
            } else if at < count {
                count.div_ceil(2)
            } else {
                count
            };
            let mut separator = [0; K];
            if cut < count {
                m.load_scratch(step.nr, &shape, level)?;
                m.new_with_scratch(right, &shape, level, |node, old| {
                    separator = key_at(old, cut);
                    node.insert(0, old.entries(cut, count))?;
                    if at > cut {
                        node.insert(at - cut, carry)?;
                    }
                    Ok(())
                })?;
                m.edit_node(step.nr, &shape, level, |node| {
                    node.remove(cut, count)?;
                    if at <= cut {
                        node.insert(at, carry)?;
                    }
                    Ok(())
                })?;
            } else {
                for (to, from) in separator.iter_mut().zip(carry) {
                    *to = from.get();
                }
                m.new_node(right, &shape, level, |node| node.insert(0, carry))?;
            }
            up = inner_entry(&separator, right);
        }

        // The root was split.
        let (left, level) = (self.root, self.depth - 1);
        let first: [u64; K] =
            m.read_node(left, &shape, level, m.epoch(), |node| Ok(key_at(node, 0)))?;
        let root = *new.last().ok_or(EINVAL)?;
        let left = inner_entry(&first, left);
        m.new_node(root, &shape, self.depth, |node| {
            node.insert(0, &left[..K + 1])?;
            node.insert(1, &up[..K + 1])
        })?;
        self.set_root(m, root, self.depth + 1);
        Ok(())
    }
}

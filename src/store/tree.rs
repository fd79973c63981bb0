// SPDX-License-Identifier: GPL-2.0

//! A B+tree whose nodes are copied once per epoch before they change.
//!
//! Separators are lower bounds: the separator of a child is not above any key below that child,
//! and the next separator is above all of them. No node is empty. A child is never of a later
//! epoch than its parent, since a copied child must be entered in its parent.
//!
//! A change has three parts. First everything is read and planned: an error changes nothing. Then
//! the nodes on the way are copied where needed: the tree holds the same entries after each step,
//! so an error still changes nothing. Then come the edits. A change of one node is one edit, which
//! is made or not made; only splits and merges can stop half-way, which poisons [`Meta`].

#[cfg(not(MODULE))]
mod check;
mod insert;
mod remove;

#[cfg(not(MODULE))]
pub(crate) use check::{Broken, Seen};

use super::blocks::Blocks;
use super::format::{Node, Shape, MAX_DEPTH};
use super::meta::Meta;
use kernel::prelude::*;

/// Levels of the deepest tree.
const LEVELS: usize = MAX_DEPTH as usize;

/// A B+tree with entries of `N` words of which the first `K` are the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree<const N: usize, const K: usize> {
    number: u16,
    root: u64,
    depth: u16,
}

/// A node as its parent describes it.
#[derive(Clone, Copy)]
struct Child<const K: usize> {
    nr: u64,
    level: u16,
    max_epoch: u64,
    /// No key in it is below this.
    low: Option<[u64; K]>,
    /// Every key in it is below this.
    high: Option<[u64; K]>,
}

/// A node on the way from the root to an entry.
#[derive(Clone, Copy, Default)]
struct Step {
    nr: u64,
    /// Which of its entries leads on; in the leaf, where the key is or would be.
    at: u16,
    count: u16,
    /// The key is below the first separator.
    below: bool,
    /// It is of the present epoch.
    current: bool,
}

/// The way from the root to a leaf, by level.
struct Path {
    steps: [Step; LEVELS],
    /// Whether the leaf has the key.
    found: bool,
}

/// Where a lookup goes in each inner node.
#[derive(Clone, Copy)]
enum Aim<'a, const K: usize> {
    First,
    Last,
    Key(&'a [u64; K]),
}

impl<const N: usize, const K: usize> Tree<N, K> {
    const SHAPE_GOOD: () = assert!(K >= 1 && K <= 2 && N >= K && N <= 16);

    /// The empty tree with this number.
    pub(crate) const fn new(number: u16) -> Self {
        let () = Self::SHAPE_GOOD;
        Self {
            number,
            root: 0,
            depth: 0,
        }
    }

    /// The tree that a checkpoint of `epoch` names. `EILSEQ` if it cannot be one.
    pub(crate) fn load<B: Blocks>(
        m: &mut Meta<B>,
        number: u16,
        root: u64,
        depth: u16,
        epoch: u64,
    ) -> Result<Self> {
        let tree = Self {
            number,
            root,
            depth,
        };
        if (root == 0) != (depth == 0) || depth > MAX_DEPTH {
            return Err(EILSEQ);
        }
        if depth != 0 {
            m.read_node(root, &tree.shape(), depth - 1, epoch, |_| Ok(()))?;
        }
        m.note_root(number, root, depth);
        Ok(tree)
    }

    fn set_root<B: Blocks>(&mut self, m: &mut Meta<B>, root: u64, depth: u16) {
        (self.root, self.depth) = (root, depth);
        m.note_root(self.number, root, depth);
    }

    /// Block of the root, 0 if the tree is empty.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// Levels; 0 if the tree is empty.
    pub(crate) fn depth(&self) -> u16 {
        self.depth
    }

    /// Most blocks that one insertion or removal takes, and most that it frees.
    pub(crate) fn max_blocks_per_op(&self) -> usize {
        2 * usize::from(self.depth) + 2
    }

    fn shape(&self) -> Shape {
        Shape {
            tree: self.number,
            words: N as u16,
            key_words: K as u16,
        }
    }

    /// The entry with this key.
    pub(crate) fn get<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        key: &[u64; K],
    ) -> Result<Option<[u64; N]>> {
        let entry = self.at_or_before(m, key)?;
        Ok(entry.filter(|e| e[..K] == key[..]))
    }

    /// The entry with the largest key that is not above `key`.
    pub(crate) fn at_or_before<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        key: &[u64; K],
    ) -> Result<Option<[u64; N]>> {
        self.lookup(m, Aim::Key(key), true, |node| {
            let i = upper_bound(node, key).checked_sub(1)?;
            Some(entry(node, i))
        })
    }

    /// The entry with the smallest key that is not below `key`.
    pub(crate) fn at_or_after<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        key: &[u64; K],
    ) -> Result<Option<[u64; N]>> {
        self.lookup(m, Aim::Key(key), false, |node| {
            let i = lower_bound(node, key);
            (i < node.count).then(|| entry(node, i))
        })
    }

    /// The entry with the largest key that is not above `key`, and the one with the smallest key
    /// that is.
    pub(crate) fn around<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        key: &[u64; K],
    ) -> Result<[Option<[u64; N]>; 2]> {
        if self.depth == 0 {
            return Ok([None; 2]);
        }
        let here = self.leaf_of(m, key)?;
        let (before, after) = m.read_node(here.nr, &self.shape(), 0, here.max_epoch, |node| {
            here.check_keys(node)?;
            let i = upper_bound(node, key);
            let before = i.checked_sub(1).map(|i| entry(node, i));
            Ok((before, (i < node.count).then(|| entry(node, i))))
        })?;
        // At an end of the leaf one of them is in another.
        let before = match before {
            None => self.at_or_before(m, key)?,
            before => before,
        };
        let after = match (after, after_key(key)) {
            (None, Some(next)) => self.at_or_after(m, &next)?,
            (after, _) => after,
        };
        Ok([before, after])
    }

    /// The entry with the smallest key.
    pub(crate) fn first<B: Blocks>(&self, m: &mut Meta<B>) -> Result<Option<[u64; N]>> {
        self.lookup(m, Aim::First, false, |node| Some(entry(node, 0)))
    }

    /// The entry with the largest key.
    pub(crate) fn last<B: Blocks>(&self, m: &mut Meta<B>) -> Result<Option<[u64; N]>> {
        self.lookup(m, Aim::Last, true, |node| Some(entry(node, node.count - 1)))
    }

    /// Shows entries of one leaf to `f`, in order, from the first whose key is not below `key` on,
    /// until it answers false. Answers the key from which on entries may be missing: that of the
    /// next leaf, or `None` if there is none.
    pub(crate) fn leaf_from<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        key: &[u64; K],
        mut f: impl FnMut([u64; N]) -> bool,
    ) -> Result<Option<[u64; K]>> {
        if self.depth == 0 {
            return Ok(None);
        }
        let here = self.leaf_of(m, key)?;
        m.read_node(here.nr, &self.shape(), 0, here.max_epoch, |node| {
            here.check_keys(node)?;
            for i in lower_bound(node, key)..node.count {
                if !f(entry(node, i)) {
                    break;
                }
            }
            Ok(here.high)
        })
    }

    // --- lookups -----------------------------------------------------------------------------

    fn top<B: Blocks>(&self, m: &Meta<B>) -> Child<K> {
        Child {
            nr: self.root,
            level: self.depth.saturating_sub(1),
            max_epoch: m.epoch(),
            low: None,
            high: None,
        }
    }

    /// The leaf that has `key`, if any has. The tree is not empty.
    fn leaf_of<B: Blocks>(&self, m: &mut Meta<B>, key: &[u64; K]) -> Result<Child<K>> {
        let shape = self.shape();
        let mut here = self.top(m);
        while here.level != 0 {
            here = m.read_node(here.nr, &shape, here.level, here.max_epoch, |node| {
                here.check_keys(node)?;
                here.child(node, Aim::Key(key).choose(node))
            })?;
        }
        Ok(here)
    }

    /// Goes down to the leaf that `aim` leads to and asks `pick` for the entry; if it has none,
    /// the entry wanted is the next one outside of the leaf, which is the last one before it or
    /// the first one after it.
    fn lookup<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        aim: Aim<'_, K>,
        before: bool,
        pick: impl FnOnce(&Node<'_>) -> Option<[u64; N]>,
    ) -> Result<Option<[u64; N]>> {
        if self.depth == 0 {
            return Ok(None);
        }
        let shape = self.shape();
        let mut here = self.top(m);
        let mut beside = None;
        while here.level != 0 {
            here = m.read_node(here.nr, &shape, here.level, here.max_epoch, |node| {
                here.check_keys(node)?;
                let i = aim.choose(node);
                let other = if before {
                    i.checked_sub(1)
                } else {
                    Some(i + 1)
                };
                if let Some(other) = other.filter(|&i| i < node.count) {
                    beside = Some((here, other));
                }
                here.child(node, i)
            })?;
        }
        let found = m.read_node(here.nr, &shape, 0, here.max_epoch, |node| {
            here.check_keys(node)?;
            Ok(pick(node))
        })?;
        let (None, Some((above, other))) = (found, beside) else {
            return Ok(found);
        };
        let mut here = m.read_node(above.nr, &shape, above.level, above.max_epoch, |node| {
            above.check_keys(node)?;
            if other >= node.count {
                return Err(EILSEQ);
            }
            above.child(node, other)
        })?;
        let aim: Aim<'_, K> = if before { Aim::Last } else { Aim::First };
        while here.level != 0 {
            here = m.read_node(here.nr, &shape, here.level, here.max_epoch, |node| {
                here.check_keys(node)?;
                here.child(node, aim.choose(node))
            })?;
        }
        m.read_node(here.nr, &shape, 0, here.max_epoch, |node| {
            here.check_keys(node)?;
            let i = if before { node.count - 1 } else { 0 };
            Ok(Some(entry(node, i)))
        })
    }

    /// Finds the way to `key`.
    fn trace<B: Blocks>(&self, m: &mut Meta<B>, key: &[u64; K], path: &mut Path) -> Result {
        let shape = self.shape();
        let epoch = m.epoch();
        let mut here = self.top(m);
        loop {
            let level = here.level;
            let step = path.step_mut(level)?;
            step.nr = here.nr;
            let next = m.read_node(here.nr, &shape, level, here.max_epoch, |node| {
                here.check_keys(node)?;
                step.current = node.epoch == epoch;
                step.count = node.count as u16;
                if level == 0 {
                    let at = lower_bound(node, key);
                    step.at = at as u16;
                    return Ok((here, at < node.count && key_at(node, at) == *key));
                }
                let i = Aim::Key(key).choose(node);
                step.at = i as u16;
                step.below = *key < key_at(node, 0);
                Ok((here.child(node, i)?, false))
            })?;
            if level == 0 {
                path.found = next.1;
                return Ok(());
            }
            here = next.0;
        }
    }

    /// Makes the nodes of `path` down to level `to` ones of the present epoch. The entries of the
    /// tree are the same after each step.
    fn copy_path<B: Blocks>(&mut self, m: &mut Meta<B>, path: &mut Path, to: u16) -> Result {
        for level in (to..self.depth).rev() {
            let step = *path.step(level)?;
            if step.current {
                continue;
            }
            let new = m.copy_node(step.nr, &self.shape(), level)?;
            if let Err(e) = self.link(m, path, level, new) {
                m.unalloc(new);
                return Err(e);
            }
            m.free_node(step.nr, false);
            let step = path.step_mut(level)?;
            step.nr = new;
            step.current = true;
        }
        Ok(())
    }

    /// Makes `nr` the node of `path` at `level` for its parent.
    fn link<B: Blocks>(&mut self, m: &mut Meta<B>, path: &Path, level: u16, nr: u64) -> Result {
        if level + 1 == self.depth {
            self.set_root(m, nr, self.depth);
            return Ok(());
        }
        let parent = path.step(level + 1)?;
        self.set_child(m, parent.nr, level + 1, usize::from(parent.at), nr)
    }

    /// Enters `nr` as child `at` of the inner node `parent`.
    fn set_child<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        parent: u64,
        level: u16,
        at: usize,
        nr: u64,
    ) -> Result {
        m.edit_node(parent, &self.shape(), level, |node| {
            let child = node.entry_mut(at)?.last_mut().ok_or(EILSEQ)?;
            *child = nr.into();
            Ok(())
        })
    }
}

impl<const K: usize> Child<K> {
    /// Checks that the ends of `node` are within what its parent says. The keys between are in
    /// order: that was checked when the node came from the disk.
    fn check_keys(&self, node: &Node<'_>) -> Result {
        let (first, last) = (key_at::<K>(node, 0), key_at::<K>(node, node.count - 1));
        let low = self.low.is_none_or(|low| !is_below(&first, &low));
        let high = self.high.is_none_or(|high| is_below(&last, &high));
        if low && high && !is_below(&last, &first) {
            Ok(())
        } else {
            Err(EILSEQ)
        }
    }

    /// Child `i` of `node`, which is the node that `self` describes.
    fn child(&self, node: &Node<'_>, i: usize) -> Result<Self> {
        let nr = node.entry(i).last().ok_or(EILSEQ)?.get();
        Ok(Self {
            nr,
            level: self.level.checked_sub(1).ok_or(EILSEQ)?,
            max_epoch: node.epoch,
            low: Some(key_at(node, i)),
            high: if i + 1 < node.count {
                Some(key_at(node, i + 1))
            } else {
                self.high
            },
        })
    }
}

impl<const K: usize> Aim<'_, K> {
    /// Which child of an inner node to take.
    fn choose(&self, node: &Node<'_>) -> usize {
        match self {
            Aim::First => 0,
            Aim::Last => node.count - 1,
            Aim::Key(key) => upper_bound(node, key).saturating_sub(1),
        }
    }
}

impl Path {
    fn new() -> Self {
        Self {
            steps: [Step::default(); LEVELS],
            found: false,
        }
    }

    fn step(&self, level: u16) -> Result<&Step> {
        self.steps.get(usize::from(level)).ok_or(EINVAL)
    }

    fn step_mut(&mut self, level: u16) -> Result<&mut Step> {
        self.steps.get_mut(usize::from(level)).ok_or(EINVAL)
    }
}

/// The smallest key above `key`.
fn after_key<const K: usize>(key: &[u64; K]) -> Option<[u64; K]> {
    let mut after = *key;
    for word in after.iter_mut().rev() {
        *word = word.wrapping_add(1);
        if *word != 0 {
            return Some(after);
        }
    }
    None
}

/// The key of entry `i`, which must be below the node's count.
fn key_at<const K: usize>(node: &Node<'_>, i: usize) -> [u64; K] {
    node.entry(i)
        .first_chunk::<K>()
        .map_or([0; K], |key| key.map(|word| word.get()))
}

/// Entry `i` of a leaf; `i` must be below the node's count.
fn entry<const N: usize>(node: &Node<'_>, i: usize) -> [u64; N] {
    node.entry(i)
        .first_chunk::<N>()
        .map_or([0; N], |words| words.map(|word| word.get()))
}

/// Whether `a` comes before `b`. Word by word, since the comparison of arrays is a call.
#[inline]
fn is_below<const K: usize>(a: &[u64; K], b: &[u64; K]) -> bool {
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return a < b;
        }
    }
    false
}

/// The count of entries whose keys `low` says are low; the keys are in order.
#[inline]
fn partition<const K: usize>(node: &Node<'_>, low: impl Fn(&[u64; K]) -> bool) -> usize {
    let (mut from, mut to) = (0, node.count);
    while from < to {
        let middle = (from + to) / 2;
        if low(&key_at(node, middle)) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

/// The count of keys below `key`.
fn lower_bound<const K: usize>(node: &Node<'_>, key: &[u64; K]) -> usize {
    partition(node, |k| is_below(k, key))
}

/// The count of keys not above `key`.
fn upper_bound<const K: usize>(node: &Node<'_>, key: &[u64; K]) -> usize {
    partition(node, |k| !is_below(key, k))
}

// SPDX-License-Identifier: GPL-2.0

//! Removal: one edit of a leaf, or a row of repairs from the leaf up.

use super::{key_at, Child, Path, Tree, LEVELS};
use crate::store::blocks::Blocks;
use crate::store::meta::Meta;
use kernel::prelude::*;

/// What is done with a node that lost an entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Repair {
    /// Nothing.
    #[default]
    Keep,
    /// It is empty: it goes.
    Drop,
    /// It and its sibling become one.
    Merge,
    /// It gets entries of its sibling.
    Share,
}

/// The repair of a node, and the sibling it takes.
#[derive(Clone, Copy, Default)]
struct Plan {
    repair: Repair,
    nr: u64,
    count: u16,
    /// Whether the sibling is the left one of the two.
    left: bool,
    /// Whether the sibling is of the present epoch.
    current: bool,
}

impl<const N: usize, const K: usize> Tree<N, K> {
    /// Removes the entry with this key; says whether there was one.
    ///
    /// The caller has reserved [`max_blocks_per_op`](Self::max_blocks_per_op) blocks. An error
    /// has changed nothing unless [`Meta::is_poisoned`] says so.
    pub(crate) fn remove<B: Blocks>(&mut self, m: &mut Meta<B>, key: &[u64; K]) -> Result<bool> {
        if self.depth == 0 {
            return Ok(false);
        }
        let mut path = Path::new();
        self.trace(m, key, &mut path)?;
        if !path.found {
            return Ok(false);
        }
        let mut plans = [Plan::default(); LEVELS];
        self.plan(m, &path, &mut plans)?;
        let dropped = plans
            .iter()
            .take_while(|p| p.repair == Repair::Drop)
            .count();
        let dropped = dropped as u16;

        if dropped < self.depth {
            self.copy_path(m, &mut path, dropped)?;
            self.copy_siblings(m, &path, &mut plans)?;
            let step = path.step(dropped)?;
            let (nr, at) = (step.nr, usize::from(step.at));
            let shape = self.shape();
            if dropped == 0 && plans[0].repair == Repair::Keep {
                m.edit_node(nr, &shape, 0, |node| node.remove(at, at + 1))?;
                return Ok(true);
            }
            m.guarded(|m| {
                m.edit_node(nr, &shape, dropped, |node| node.remove(at, at + 1))?;
                self.repair(m, &path, &plans, dropped)
            })?;
        }
        for level in 0..dropped {
            let step = path.step(level)?;
            m.free_node(step.nr, step.current);
        }
        if dropped == self.depth {
            self.set_root(m, 0, 0);
        }
        self.collapse(m);
        Ok(true)
    }

    /// Reads what an insertion or removal of this key reads, so that what comes after that only
    /// has to be read from memory.
    #[inline(never)]
    pub(crate) fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>, key: &[u64; K]) -> Result {
        if self.depth == 0 {
            return Ok(());
        }
        let mut path = Path::new();
        self.trace(m, key, &mut path)?;
        if !path.found {
            return Ok(());
        }
        self.plan(m, &path, &mut [Plan::default(); LEVELS])
    }

    /// Decides the repairs, and reads the siblings for them.
    // Not inlined, for the sake of the stack of `remove`.
    #[inline(never)]
    fn plan<B: Blocks>(&self, m: &mut Meta<B>, path: &Path, plans: &mut [Plan; LEVELS]) -> Result {
        let shape = self.shape();
        for (level, plan) in (0..self.depth).zip(plans) {
            let left = path.step(level)?.count.saturating_sub(1);
            if left == 0 {
                plan.repair = Repair::Drop;
                continue;
            }
            let capacity = shape.capacity(level);
            if level + 1 == self.depth || usize::from(left) >= capacity / 3 {
                break;
            }
            let parent = path.step(level + 1)?;
            if parent.count < 2 {
                break;
            }
            plan.left = parent.at != 0;
            let at = usize::from(parent.at);
            let at = if plan.left { at - 1 } else { at + 1 };
            let here = Child::<K> {
                nr: parent.nr,
                level: level + 1,
                max_epoch: m.epoch(),
                low: None,
                high: None,
            };
            let sibling = m.read_node(here.nr, &shape, level + 1, here.max_epoch, |node| {
                if at >= node.count {
                    return Err(EILSEQ);
                }
                here.child(node, at)
            })?;
            plan.nr = sibling.nr;
            let epoch = m.epoch();
            m.read_node(sibling.nr, &shape, level, sibling.max_epoch, |node| {
                sibling.check_keys(node)?;
                plan.current = node.epoch == epoch;
                plan.count = node.count as u16;
                Ok(())
            })?;
            if usize::from(left) + usize::from(plan.count) > capacity / 4 * 3 {
                plan.repair = Repair::Share;
                break;
            }
            plan.repair = Repair::Merge;
        }
        Ok(())
    }

    /// Makes the siblings that will change nodes of the present epoch.
    fn copy_siblings<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        path: &Path,
        plans: &mut [Plan; LEVELS],
    ) -> Result {
        for (level, plan) in (0..self.depth).zip(plans) {
            let changes = match plan.repair {
                Repair::Share => true,
                // The right one is only read.
                Repair::Merge => plan.left,
                Repair::Keep | Repair::Drop => false,
            };
            if !changes || plan.current {
                continue;
            }
            let parent = path.step(level + 1)?;
            let at = usize::from(parent.at);
            let at = if plan.left { at - 1 } else { at + 1 };
            let new = m.copy_node(plan.nr, &self.shape(), level)?;
            if let Err(e) = self.set_child(m, parent.nr, level + 1, at, new) {
                m.unalloc(new);
                return Err(e);
            }
            m.free_node(plan.nr, false);
            plan.nr = new;
            plan.current = true;
        }
        Ok(())
    }

    /// Carries out the plans from level `from` on, where an entry has been removed.
    fn repair<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        path: &Path,
        plans: &[Plan; LEVELS],
        from: u16,
    ) -> Result {
        let shape = self.shape();
        for level in from..self.depth {
            let plan = plans.get(usize::from(level)).ok_or(EINVAL)?;
            if matches!(plan.repair, Repair::Keep | Repair::Drop) {
                break;
            }
            let (step, parent) = (path.step(level)?, path.step(level + 1)?);
            let count = step.count - 1;
            let (left, right, at) = if plan.left {
                ((plan.nr, plan.count), (step.nr, count), parent.at)
            } else {
                ((step.nr, count), (plan.nr, plan.count), parent.at + 1)
            };
            let (at, lefts, rights) = (usize::from(at), usize::from(left.1), usize::from(right.1));
            if plan.repair == Repair::Merge {
                m.load_scratch(right.0, &shape, level)?;
                m.edit_with_scratch(left.0, &shape, level, |node, right| {
                    node.insert(lefts, right.entries(0, rights))
                })?;
                m.edit_node(parent.nr, &shape, level + 1, |node| node.remove(at, at + 1))?;
                let current = if plan.left {
                    step.current
                } else {
                    plan.current
                };
                m.free_node(right.0, current);
                continue;
            }

            let new_lefts = (lefts + rights) / 2;
            let mut separator = [0; K];
            if lefts > new_lefts {
                m.load_scratch(left.0, &shape, level)?;
                m.edit_with_scratch(right.0, &shape, level, |node, left| {
                    separator = key_at(left, new_lefts);
                    node.insert(0, left.entries(new_lefts, lefts))
                })?;
                m.edit_node(left.0, &shape, level, |node| node.remove(new_lefts, lefts))?;
            } else {
                let moved = new_lefts - lefts;
                m.load_scratch(right.0, &shape, level)?;
                m.edit_with_scratch(left.0, &shape, level, |node, right| {
                    separator = key_at(right, moved);
                    node.insert(lefts, right.entries(0, moved))
                })?;
                m.edit_node(right.0, &shape, level, |node| node.remove(0, moved))?;
            }
            return m.edit_node(parent.nr, &shape, level + 1, |node| {
                for (to, from) in node.entry_mut(at)?.iter_mut().zip(separator) {
                    *to = from.into();
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// Takes away roots with one child. A root that cannot be read stays: the tree is right with
    /// it too.
    fn collapse<B: Blocks>(&mut self, m: &mut Meta<B>) {
        while self.depth > 1 {
            let top = self.top(m);
            let only = m.read_node(top.nr, &self.shape(), top.level, top.max_epoch, |node| {
                let child = (node.count == 1).then(|| top.child(node, 0)).transpose()?;
                Ok(child.map(|child| (child.nr, node.epoch == top.max_epoch)))
            });
            let Ok(Some((child, current))) = only else {
                break;
            };
            m.free_node(self.root, current);
            self.set_root(m, child, self.depth - 1);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The snapshots: their rows, which of them are live, and what sizes the origin had.
//!
//! Rows are read from their tree when they are asked for. What the I/O path needs is in core: the
//! live ids as ranges, and for a live snapshot that has sub-snapshots the number of the next one.

mod bits;
mod load;

use super::{
    blocks::Blocks,
    format::{self, TREE_BITS, TREE_DYING, TREE_LIVE, TREE_SIZES, TREE_SNAPS},
    live::{Change, Ranges},
    meta::Meta,
    tree::Tree,
    types::{Chunk, NoId, SnapId, SnapInfo},
};
use bits::Bits;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Words of a row: id, time, sectors, flags, state, three spare ones, eight of name.
pub(super) const ROW: usize = 16;
/// Word with the state of a snapshot.
const STATE: usize = 4;
/// First word of the name.
const NAME: usize = 8;
/// State of a snapshot whose deletion is recorded.
const DELETED: u64 = 1;

/// First word of the keys of the tree of live ids: what the second word and the value are.
const CLASS_TOP: u64 = 0;
/// The ends of a range of numbers of sub-snapshots.
const CLASS_SUB: u64 = 1;
/// A live id, and the number that its next sub-snapshot gets.
const CLASS_NEXT: u64 = 2;

/// What stands for the number of a sweep in the tree of dying ids before an id is forgotten.
const NOT_YET: u64 = u64::MAX;

/// Entries that one `Swept` record removes at most.
const SWEPT_MAX: usize = 4;

/// The snapshot table.
pub(super) struct Snaps {
    rows: Tree<ROW, 1>,
    live: Tree<3, 2>,
    dying: Tree<2, 2>,
    sizes: Tree<2, 1>,
    /// Live ids.
    tops: Ranges,
    /// Live sub-snapshots, by their whole numbers.
    subs: Ranges,
    /// Live ids that have or had sub-snapshots, and the next number; sorted.
    nexts: KVVec<(u32, u32)>,
    /// First id with each size of the origin, and the size; sorted, sizes ascending.
    history: KVVec<(u32, u64)>,
    next_id: u64,
    count: u64,
    bits: Bits,
}

/// Roots and depths of the trees.
pub(super) struct Roots(pub(super) [(u64, u16); format::MAX_TREES]);

impl Snaps {
    /// Enters the roots of the trees.
    pub(super) fn roots(&self, roots: &mut Roots) {
        roots.0[TREE_SNAPS] = (self.rows.root(), self.rows.depth());
        roots.0[TREE_LIVE] = (self.live.root(), self.live.depth());
        roots.0[TREE_DYING] = (self.dying.root(), self.dying.depth());
        roots.0[TREE_SIZES] = (self.sizes.root(), self.sizes.depth());
        roots.0[TREE_BITS] = self.bits.root();
    }

    // --- who is live -------------------------------------------------------------------------

    /// Number of live ids.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The next id of a snapshot of the origin.
    pub(super) fn next_top(&self) -> u64 {
        self.next_id
    }

    /// The bits of snapshots, in a store that gives any.
    pub(super) fn bits(&self) -> &Bits {
        &self.bits
    }

    /// Whether `id` is live.
    pub(super) fn is_live(&self, id: SnapId) -> bool {
        if id.is_sub() {
            self.subs.contains(id.0)
        } else {
            self.tops.contains(id.id().into())
        }
    }

    /// The live id with the smallest number not below `from`.
    pub(super) fn next_live(&self, from: SnapId) -> Option<SnapId> {
        // Whatever `from` is, it is not above the snapshot itself.
        let top = self.tops.next(from.id().into()).map(top_id);
        let sub = self.subs.next(from.0).map(SnapId);
        match (top, sub) {
            (Some(top), Some(sub)) => Some(top.min(sub)),
            (top, sub) => top.or(sub),
        }
    }

    /// The live id with the largest number not above `to`.
    pub(super) fn prev_live(&self, to: SnapId) -> Option<SnapId> {
        let whole = if to.is_sub() {
            to.id().checked_sub(1)
        } else {
            Some(to.id())
        };
        let top = whole.and_then(|id| self.tops.prev(id.into())).map(top_id);
        top.max(self.subs.prev(to.0).map(SnapId))
    }

    /// The first run of live ids from `from` on.
    pub(super) fn live_range(&self, from: SnapId) -> Option<(SnapId, SnapId)> {
        let top = self
            .tops
            .range(from.id().into())
            .map(|(lo, hi)| (top_id(lo), top_id(hi)));
        let sub = self
            .subs
            .range(from.0)
            .map(|(lo, hi)| (SnapId(lo), SnapId(hi)));
        match (top, sub) {
            (Some(top), Some(sub)) if sub.0 < top.0 => Some(sub),
            (Some(mut top), Some(sub)) => {
                // Sub-snapshots of ids within the run stand between those.
                if sub.0 < top.1 {
                    top.1 = top_id(u64::from(sub.0.id()) - 1).max(top.0);
                }
                Some(top)
            }
            (top, sub) => top.or(sub),
        }
    }

    /// The number that the next sub-snapshot of `id` gets.
    pub(super) fn next_sub(&self, id: u32) -> u32 {
        match self.nexts.binary_search_by_key(&id, |next| next.0) {
            Ok(i) => self.nexts[i].1,
            Err(_) => 0,
        }
    }

    /// First number of the span of `id`, which ends with it: the sub-snapshots it may still get,
    /// and itself.
    pub(super) fn span_start(&self, id: SnapId) -> SnapId {
        if id.is_sub() {
            id
        } else {
            SnapId::sub(id.id(), self.next_sub(id.id()))
        }
    }

    /// The part of [`lo`, `hi`] from the first live id's span to the last live id.
    pub(super) fn trim(&self, lo: u64, hi: u64) -> Option<(u64, u64)> {
        if lo > hi {
            return None;
        }
        let first = self.next_live(SnapId(lo)).filter(|id| id.0 <= hi)?;
        let last = self.prev_live(SnapId(hi))?;
        Some((self.span_start(first).0.max(lo), last.0))
    }

    /// The newest id that exists, live or not.
    pub(super) fn newest(&self) -> Option<SnapId> {
        let id = self.next_id.checked_sub(1).filter(|id| *id != 0)?;
        Some(top_id(id))
    }

    // --- sizes -------------------------------------------------------------------------------

    /// No id below this reaches as far as `chunk`. `None` if no id at all does.
    pub(super) fn first_needing(&self, chunk: Chunk, chunk_sectors: u32) -> Option<SnapId> {
        let begin = chunk.0.checked_mul(chunk_sectors.into())?;
        let i = self.history.partition_point(|size| size.1 <= begin);
        self.history.get(i).map(|size| SnapId::sub(size.0, 0))
    }

    // --- rows --------------------------------------------------------------------------------

    /// The row of `id`, live or not.
    pub(super) fn row<B: Blocks>(&self, m: &mut Meta<B>, id: SnapId) -> Result<Option<SnapInfo>> {
        Ok(self.rows.get(m, &[id.0])?.as_ref().map(info))
    }

    /// Whether the deletion of `id` is recorded. `ENOENT` if there is no such row.
    pub(super) fn is_deleted<B: Blocks>(&self, m: &mut Meta<B>, id: SnapId) -> Result<bool> {
        let row = self.rows.get(m, &[id.0])?.ok_or(ENOENT)?;
        Ok(row[STATE] == DELETED)
    }

    /// Blocks that making a snapshot and naming it needs at most.
    pub(super) fn blocks_to_create(&self) -> usize {
        ops(&self.rows, 2) + ops(&self.live, 2) + ops(&self.sizes, 1) + self.bits.blocks()
    }

    /// Blocks that naming a snapshot needs at most.
    pub(super) fn blocks_to_name(&self) -> usize {
        ops(&self.rows, 1)
    }

    /// Blocks that recording a deletion needs at most.
    pub(super) fn blocks_to_delete(&self) -> usize {
        ops(&self.rows, 1) + ops(&self.dying, 1)
    }

    /// Blocks that forgetting a snapshot needs at most.
    pub(super) fn blocks_to_forget(&self) -> usize {
        ops(&self.rows, 1) + ops(&self.live, 3) + ops(&self.dying, 2)
    }

    /// Blocks that the removal of swept ids needs at most.
    pub(super) fn blocks_for_swept(&self) -> usize {
        ops(&self.dying, SWEPT_MAX) + self.bits.blocks()
    }

    /// Makes sure that the next change needs no memory. Does not wait for it: swapping it out may
    /// need the caller.
    pub(super) fn reserve(&mut self) -> Result {
        self.reserve_with(GFP_NOWAIT | __GFP_NOWARN)
    }

    fn reserve_with(&mut self, flags: Flags) -> Result {
        self.tops.reserve(flags)?;
        self.subs.reserve(flags)?;
        self.nexts.reserve(1, flags)?;
        Ok(self.history.reserve(1, flags)?)
    }

    /// The id that the next snapshot (of the origin, or of `parent`) gets.
    pub(super) fn next_number(&self, parent: Option<SnapId>) -> Result<SnapId, NoId> {
        let Some(parent) = parent else {
            if let Some(no) = self.bits.none_left() {
                return Err(no);
            }
            let no = NoId::new("no snapshot can be created: ids have run out", ENOSPC);
            return u32::try_from(self.next_id).map(SnapId::top).or(Err(no));
        };
        if parent.is_sub() {
            let why = "is a snapshot of a snapshot: it can have none";
            return Err(NoId::new(why, EINVAL));
        }
        if !self.is_live(parent) {
            return Err(NoId::new("does not exist", ENOENT));
        }
        if self.bits.are_given() {
            // It would need its bit in each record that has the parent's.
            let why = "can have no snapshots of its own in a bitmask store: use btree";
            return Err(NoId::new(why, EOPNOTSUPP));
        }
        let sub = self.next_sub(parent.id());
        if sub == SnapId::ITSELF {
            let why = "can have no more snapshots: their ids have run out";
            return Err(NoId::new(why, ENOSPC));
        }
        Ok(SnapId::sub(parent.id(), sub))
    }

    // --- reading ahead -----------------------------------------------------------------------
    //
    // A change that fails half-way leaves nothing that can be trusted. So what it reads is read
    // before.

    /// Reads what [`create`](Self::create) reads.
    pub(super) fn read_to_create<B: Blocks>(&self, m: &mut Meta<B>, id: SnapId) -> Result {
        self.rows.read_ahead(m, &[id.0])?;
        if id.is_sub() {
            self.live.read_ahead(m, &[CLASS_NEXT, id.id().into()])?;
            self.read_live(m, CLASS_SUB, &self.subs.plan_insert(id.0))?;
        } else {
            let n = u64::from(id.id());
            self.sizes.read_ahead(m, &[n])?;
            self.read_live(m, CLASS_TOP, &self.tops.plan_insert(n))?;
        }
        self.bits.read_ahead(m)
    }

    /// Reads what [`name`](Self::name) reads.
    pub(super) fn read_to_name<B: Blocks>(&self, m: &mut Meta<B>, id: SnapId) -> Result {
        self.rows.read_ahead(m, &[id.0])
    }

    /// Reads what [`delete`](Self::delete) reads.
    pub(super) fn read_to_delete<B: Blocks>(&self, m: &mut Meta<B>, id: SnapId) -> Result {
        self.rows.read_ahead(m, &[id.0])?;
        self.dying.read_ahead(m, &[NOT_YET, id.0])
    }

    /// Reads what [`forget`](Self::forget) reads.
    pub(super) fn read_to_forget<B: Blocks>(
        &self,
        m: &mut Meta<B>,
        id: SnapId,
        pass: u64,
    ) -> Result {
        self.dying.read_ahead(m, &[NOT_YET, id.0])?;
        self.dying.read_ahead(m, &[pass, id.0])?;
        self.rows.read_ahead(m, &[id.0])?;
        if id.is_sub() {
            return self.read_live(m, CLASS_SUB, &self.subs.plan_remove(id.0));
        }
        let n = u64::from(id.id());
        self.live.read_ahead(m, &[CLASS_NEXT, n])?;
        self.read_live(m, CLASS_TOP, &self.tops.plan_remove(n))
    }

    /// Reads what [`swept`](Self::swept) reads.
    pub(super) fn read_for_swept<B: Blocks>(&self, m: &mut Meta<B>) -> Result {
        let mut from = Some([0, 0]);
        for _ in 0..SWEPT_MAX {
            let Some(key) = from else { break };
            let Some(key) = self.dying.at_or_after(m, &key)? else {
                break;
            };
            self.dying.read_ahead(m, &key)?;
            from = key[1].checked_add(1).map(|id| [key[0], id]);
        }
        self.bits.read_ahead(m)
    }

    fn read_live<B: Blocks>(&self, m: &mut Meta<B>, class: u64, change: &Change) -> Result {
        let puts = change.put.map(|put| put.map(|(lo, _)| lo));
        for lo in [change.out, puts[0], puts[1]].into_iter().flatten() {
            self.live.read_ahead(m, &[class, lo])?;
        }
        Ok(())
    }

    // --- changes, as records say them --------------------------------------------------------

    /// Makes the snapshot `id`, which must be the next of its kind or a later one. `EILSEQ` if it
    /// is not.
    pub(super) fn create<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        id: SnapId,
        created: u64,
        sectors: u64,
        flags: u64,
    ) -> Result {
        let parent = id.is_sub().then_some(SnapId::top(id.id()));
        match self.next_number(parent) {
            Ok(next) if next <= id => (),
            _ => return Err(EILSEQ),
        }
        // Nothing to do, but in a replay.
        self.reserve_with(GFP_KERNEL)?;
        let mut row = [0; ROW];
        row[..4].copy_from_slice(&[id.0, created, sectors, flags]);
        self.rows.insert(m, &row)?;
        if id.is_sub() {
            let change = self.subs.plan_insert(id.0);
            self.subs.apply(&change)?;
            self.change_live(m, CLASS_SUB, &change)?;
            self.set_next(m, id.id(), id.sub_id() + 1)?;
        } else {
            let n = u64::from(id.id());
            let change = self.tops.plan_insert(n);
            self.tops.apply(&change)?;
            self.change_live(m, CLASS_TOP, &change)?;
            self.next_id = n + 1;
            let last = self.history.last().map_or(0, |last| last.1);
            if sectors < last {
                return Err(EILSEQ);
            }
            if sectors > last {
                self.sizes.insert(m, &[n, sectors])?;
                self.history
                    .push_within_capacity((id.id(), sectors))
                    .map_err(|_| ENOMEM)?;
            }
        }
        self.count = self.count.checked_add(1).ok_or(EILSEQ)?;
        self.bits.give(m, id)
    }

    /// Names the snapshot `id`. `EILSEQ` if there is none.
    pub(super) fn name<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        id: SnapId,
        name: &[u64; 8],
    ) -> Result {
        let mut row = self.rows.get(m, &[id.0])?.ok_or(EILSEQ)?;
        row[NAME..].copy_from_slice(name);
        self.rows.insert(m, &row)?;
        Ok(())
    }

    /// Marks the live snapshot `id` as deleted.
    pub(super) fn delete<B: Blocks>(&mut self, m: &mut Meta<B>, id: SnapId) -> Result {
        let mut row = self.rows.get(m, &[id.0])?.ok_or(EILSEQ)?;
        if !self.is_live(id) || row[STATE] != 0 {
            return Err(EILSEQ);
        }
        row[STATE] = DELETED;
        self.rows.insert(m, &row)?;
        self.dying.insert(m, &[NOT_YET, id.0])?;
        Ok(())
    }

    /// Takes the deleted snapshot `id` out of the live ones; its chunks are for the sweep that
    /// comes after number `pass`.
    pub(super) fn forget<B: Blocks>(&mut self, m: &mut Meta<B>, id: SnapId, pass: u64) -> Result {
        if !self.is_live(id) || pass == NOT_YET {
            return Err(EILSEQ);
        }
        // Nothing to do, but in a replay.
        self.reserve_with(GFP_KERNEL)?;
        if !self.dying.remove(m, &[NOT_YET, id.0])? {
            return Err(EILSEQ);
        }
        self.dying.insert(m, &[pass, id.0])?;
        self.rows.remove(m, &[id.0])?;
        if id.is_sub() {
            let change = self.subs.plan_remove(id.0);
            self.subs.apply(&change)?;
            self.change_live(m, CLASS_SUB, &change)?;
        } else {
            let n = u64::from(id.id());
            let change = self.tops.plan_remove(n);
            self.tops.apply(&change)?;
            self.change_live(m, CLASS_TOP, &change)?;
            if let Ok(i) = self.nexts.binary_search_by_key(&id.id(), |next| next.0) {
                self.nexts[i..].rotate_left(1);
                self.nexts.pop();
                self.live.remove(m, &[CLASS_NEXT, n])?;
            }
        }
        self.count = self.count.checked_sub(1).ok_or(EILSEQ)?;
        self.bits.forget(id);
        Ok(())
    }

    /// Sweep number `pass` has seen everything: removes some of the dying ids that were there
    /// when it began.
    pub(super) fn swept<B: Blocks>(&mut self, m: &mut Meta<B>, pass: u64) -> Result {
        for _ in 0..SWEPT_MAX {
            match self.dying.first(m)? {
                Some(key) if key[0] < pass => {
                    self.dying.remove(m, &key)?;
                    self.bits.take_back(m, SnapId(key[1]))?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// The number of the last sweep that did not see all of a forgotten id, the smallest one.
    pub(super) fn oldest_dying<B: Blocks>(&self, m: &mut Meta<B>) -> Result<Option<u64>> {
        let first = self.dying.first(m)?;
        Ok(first.map(|[pass, _]| pass).filter(|pass| *pass != NOT_YET))
    }

    /// A snapshot whose deletion is recorded and that is still live.
    pub(super) fn not_forgotten<B: Blocks>(&self, m: &mut Meta<B>) -> Result<Option<SnapId>> {
        let entry = self.dying.at_or_after(m, &[NOT_YET, 0])?;
        Ok(entry.map(|[_, id]| SnapId(id)))
    }

    /// No id of a snapshot of the origin below `next` is given any more; for tools.
    #[cfg(not(MODULE))]
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next_id = self.next_id.max(next);
    }

    pub(super) fn set_next<B: Blocks>(&mut self, m: &mut Meta<B>, id: u32, next: u32) -> Result {
        match self.nexts.binary_search_by_key(&id, |next| next.0) {
            Ok(i) => self.nexts[i].1 = next,
            Err(i) => {
                self.nexts
                    .push_within_capacity((id, next))
                    .map_err(|_| ENOMEM)?;
                self.nexts[i..].rotate_right(1);
            }
        }
        self.live.insert(m, &[CLASS_NEXT, id.into(), next.into()])?;
        Ok(())
    }

    fn change_live<B: Blocks>(&mut self, m: &mut Meta<B>, class: u64, change: &Change) -> Result {
        if let Some(out) = change.out {
            self.live.remove(m, &[class, out])?;
        }
        for (lo, hi) in change.put.into_iter().flatten() {
            self.live.insert(m, &[class, lo, hi])?;
        }
        Ok(())
    }
}

/// What a row says.
pub(super) fn info(row: &[u64; ROW]) -> SnapInfo {
    let mut name = [0; 64];
    for (to, word) in name.chunks_exact_mut(8).zip(&row[NAME..]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    name[63] = 0;
    SnapInfo {
        id: SnapId(row[0]),
        created: row[1],
        sectors: row[2],
        flags: row[3],
        deleted: row[STATE] == DELETED,
        name,
    }
}

/// Blocks that `n` changes of `tree` need at most, of which each may make it deeper.
fn ops<const N: usize, const K: usize>(tree: &Tree<N, K>, n: usize) -> usize {
    n * tree.max_blocks_per_op() + 2 * n.saturating_sub(1)
}

/// The snapshot whose number in the set of live ids is `n`.
fn top_id(n: u64) -> SnapId {
    // The set holds numbers that fit only.
    SnapId::top(u32::try_from(n).unwrap_or(u32::MAX))
}

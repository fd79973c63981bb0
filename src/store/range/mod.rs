// SPDX-License-Identifier: GPL-2.0

//! The exceptions of a `btree` store: ranges of ids, so that one record serves any number of
//! snapshots.

mod gap;
mod map;
mod plan;

use super::{
    base::Base,
    blocks::Blocks,
    both::{Ahead, Exceptions, Seen},
    data_space::DataSpace,
    edit::Edit,
    format::{self, RecordKind},
    log::Record,
    meta::Meta,
    types::{Chunk, Descriptor, SnapId, Value},
};
use kernel::prelude::*;
use map::{Map, Rec};
use plan::Plan;

/// The exceptions.
pub(super) struct Ranges {
    map: Map,
    plan: Plan,
}

impl Exceptions for Ranges {
    fn load<B: Blocks>(m: &mut Meta<B>, root: (u64, u16), epoch: u64) -> Result<Self> {
        Ok(Self {
            map: Map::load(m, root, epoch)?,
            plan: Plan::new()?,
        })
    }

    fn root(&self) -> (u64, u16) {
        (self.map.tree.root(), self.map.tree.depth())
    }

    /// A set is a gap: the ids from one to another of which no live one has a record.
    fn next_shared<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        from: u64,
    ) -> Result<Option<(Descriptor, Option<u64>)>> {
        let Base { meta, snaps, .. } = base;
        let gap = gap::next_gap(&self.map, meta, snaps, chunk.0, from)?;
        // The span of the first id may begin before what was asked for.
        Ok(gap.map(|(a, b)| (Descriptor { a: a.max(from), b }, b.checked_add(1))))
    }

    fn lookup<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        id: SnapId,
    ) -> Result<Option<(Value, bool)>> {
        let Base {
            meta, snaps, data, ..
        } = base;
        let Some(rec) = self.map.at(meta, chunk.0, id.0)? else {
            return Ok(None);
        };
        let value = format::value_of(rec.word, data.chunks())?;
        let alone = |rec: &Rec| {
            let first = snaps.next_live(SnapId(rec.lo));
            let last = snaps.prev_live(SnapId(rec.hi));
            first == Some(id) && last == Some(id)
        };
        let mut private = alone(&rec);
        if let (true, Some(dest)) = (private, rec.dest()) {
            let lo = rec.lo;
            self.map.each(meta, chunk.0, |rec| {
                let live = snaps
                    .next_live(SnapId(rec.lo))
                    .is_some_and(|id| id.0 <= rec.hi);
                private &= rec.lo == lo || rec.dest() != Some(dest) || !live;
            })?;
        }
        Ok(Some((value, private)))
    }

    fn look_ahead<B: Blocks>(
        &self,
        base: &mut Base<B>,
        ahead: &mut Ahead<'_>,
        id: SnapId,
    ) -> Result {
        let Base { meta, data, .. } = base;
        let chunks = data.chunks();
        let mut bad = None;
        let from = [ahead.begin(), 0];
        let bound = self
            .map
            .tree
            .leaf_from(meta, &from, |[chunk, lo, hi, word]| {
                let value = match (lo..=hi).contains(&id.0) {
                    true => format::value_of(word, chunks).map(Some),
                    false => Ok(None),
                };
                bad = value.is_err().then_some(chunk);
                bad.is_none() && ahead.entry(chunk, value.unwrap_or(None))
            })?;
        ahead.end(bad.or(bound.map(|[chunk, _]| chunk)));
        Ok(())
    }

    /// Its span: the sub-snapshots that it may still get, and itself.
    fn written<B: Blocks>(&self, base: &Base<B>, id: SnapId) -> Descriptor {
        Descriptor {
            a: base.snaps.span_start(id).0,
            b: id.0,
        }
    }

    fn overlap<B: Blocks>(&self, base: &Base<B>, ids: Descriptor, id: SnapId) -> bool {
        let span = self.written(base, id);
        span.a <= ids.b && ids.a <= span.b
    }

    /// Those with a record that no live id is in. Ids at its ends that are not live any more do no
    /// harm, as none comes again: to take them out would change nearly all records when the oldest
    /// snapshot goes.
    fn look_for_trim<B: Blocks>(&self, base: &mut Base<B>, from: [u64; 2]) -> Result<Seen> {
        let Base { meta, snaps, .. } = base;
        let mut found = None;
        let next = self.map.tree.leaf_from(meta, &from, |[chunk, lo, hi, _]| {
            found = snaps.trim(lo, hi).is_none().then_some(chunk);
            found.is_none()
        })?;
        Ok(found.map_or(next.map_or(Seen::End, Seen::Next), Seen::Chunk))
    }

    fn plan_set<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: Chunk,
        ids: Descriptor,
        value: Value,
    ) -> Result<Option<Record>> {
        let Base { meta, snaps, .. } = base;
        let Some((lo, hi)) = snaps.trim(ids.a, ids.b) else {
            return Ok(None);
        };
        let word = format::value_word(value);
        let rec = Rec { lo, hi, word };
        self.plan.set(&self.map, meta, snaps, chunk.0, &rec)?;
        let record = Record::new(RecordKind::Set, [chunk.0, lo, hi, word]);
        Ok(Some(record))
    }

    fn plan_trim<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: u64,
        limit: usize,
    ) -> Result<Option<Record>> {
        let Base { meta, snaps, .. } = base;
        self.plan.trim(&self.map, meta, snaps, chunk, limit)?;
        let record = Record::new(RecordKind::Trim, [chunk, limit as u64, 0, 0]);
        Ok((!self.plan.edit.is_empty()).then_some(record))
    }

    fn plan_replay<B: Blocks>(&mut self, base: &mut Base<B>, record: &Record) -> Result {
        let [chunk, lo, hi, word] = [0, 1, 2, 3].map(|i| record.words[i]);
        let Base {
            meta, snaps, data, ..
        } = base;
        if record.kind == RecordKind::Trim {
            let limit = usize::try_from(lo).map_err(|_| EILSEQ)?;
            return self.plan.trim(&self.map, meta, snaps, chunk, limit);
        }
        format::value_of(word, data.chunks())?;
        if lo > hi {
            return Err(EILSEQ);
        }
        let rec = Rec { lo, hi, word };
        self.plan.set(&self.map, meta, snaps, chunk, &rec)
    }

    fn edit(&self) -> &Edit {
        &self.plan.edit
    }

    fn blocks(&self, data: &DataSpace) -> usize {
        self.plan.edit.blocks(&self.map.tree, data)
    }

    fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>, data: &DataSpace) -> Result {
        self.plan.edit.read_ahead(&self.map.tree, m, data)
    }

    fn apply<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        data: &mut DataSpace,
        batch: Option<u64>,
    ) -> Result {
        self.plan.edit.apply(&mut self.map.tree, m, data, batch)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The `btree` store: a B+tree of ranges of ids, so that one record serves any number of
//! snapshots.

#[cfg(not(MODULE))]
pub(crate) mod check;
mod edit;
mod gap;
mod map;
mod recover;

use super::{
    base::{Base, Urgency},
    blocks::Blocks,
    format::RecordKind,
    log::Record,
    CheckpointWrite, Chunk, Descriptor, ExceptionStore, Found, Geometry, Identity, LogWrite, Remap,
    SnapId, SnapInfo, Source, Space, Value, Who, Writeable,
};
use edit::Edit;
use kernel::prelude::*;
use map::{Map, Rec};

/// Entries of the map that one step of the sweep looks at.
const SWEEP_CHUNKS: usize = 64;

/// A query that is going on.
#[derive(Clone, Copy)]
struct Query {
    chunk: Chunk,
    /// Where the next set is looked for; `None` when all has been seen.
    from: Option<u64>,
    /// The set reported last.
    last: Option<Descriptor>,
}

/// The store.
pub(crate) struct RangeStore<B: Blocks> {
    base: Base<B>,
    map: Map,
    edit: Edit,
    query: Option<Query>,
}

impl<B: Blocks> RangeStore<B> {
    /// Root and depth of the map.
    fn root(&self) -> (u64, u16) {
        (self.map.tree.root(), self.map.tree.depth())
    }

    /// The numbers that a write to `id` is for.
    fn span(&self, id: SnapId) -> Descriptor {
        Descriptor {
            a: self.base.snaps.span_start(id).0,
            b: id.0,
        }
    }

    /// What `chunk` holds for the live `id`: its record's value, and whether that is its own.
    fn lookup(&mut self, chunk: Chunk, id: SnapId) -> Result<Option<(Value, bool)>> {
        let Base {
            meta, snaps, data, ..
        } = &mut self.base;
        let Some(rec) = self.map.at(meta, chunk.0, id.0)? else {
            // Nothing of such an id's is the origin's any more.
            return Ok((id.0 <= self.base.lost_to).then_some((Value::Lost, true)));
        };
        let value = map::value_of(rec.word, data.chunks())?;
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

    /// Records `value` for what is live of `ids`. Whether there was anything.
    fn set(
        &mut self,
        chunk: Chunk,
        ids: Descriptor,
        value: Value,
        urgency: Urgency,
    ) -> Result<bool> {
        let base = &mut self.base;
        base.check_writable()?;
        let Some((lo, hi)) = base.snaps.trim(ids.a, ids.b) else {
            return Ok(false);
        };
        let word = map::word_of(value);
        let rec = Rec { lo, hi, word };
        let edit = &mut self.edit;
        edit.plan_set(&self.map, &mut base.meta, &base.snaps, chunk.0, &rec)?;
        let record = Record::new(RecordKind::Set, [chunk.0, lo, hi, word]);
        self.finish(&record, urgency)?;
        Ok(true)
    }

    /// Drops what no live id needs of `chunk`. Whether there was anything.
    fn trim(&mut self, chunk: u64) -> Result<bool> {
        // When space is short, one record at a time makes some.
        for limit in [edit::TOUCH_MAX, 1] {
            let Base { meta, snaps, .. } = &mut self.base;
            self.edit.plan_trim(&self.map, meta, snaps, chunk, limit)?;
            if self.edit.is_empty() {
                return Ok(false);
            }
            let record = Record::new(RecordKind::Trim, [chunk, limit as u64, 0, 0]);
            match self.finish(&record, Urgency::Free) {
                Err(ENOSPC) => {}
                other => return other.map(|()| true),
            }
        }
        Err(ENOSPC)
    }

    /// Makes the planned change and appends its record.
    fn finish(&mut self, record: &Record, urgency: Urgency) -> Result {
        let base = &mut self.base;
        base.data.check_frees(self.edit.frees())?;
        // A piece of the data area that goes to metadata may cost more of it than before.
        let blocks = self.edit.blocks(&self.map, &base.data);
        base.prepare(blocks, 1, urgency)?;
        let blocks = self.edit.blocks(&self.map, &base.data);
        base.prepare(blocks, 1, urgency)?;
        let batch = Some(base.log.batch());
        let Base { meta, data, .. } = base;
        let (edit, map) = (&self.edit, &mut self.map);
        meta.guarded(|m| edit.apply(map, m, data, batch))?;
        base.append(record)
    }
}

impl<B: Blocks> ExceptionStore for RangeStore<B> {
    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    fn uuid(&self) -> [u8; 16] {
        self.base.layout.uuid
    }

    fn is_poisoned(&self) -> bool {
        self.base.meta.is_poisoned()
    }

    fn reset_query(&mut self, chunk: Chunk) -> Result {
        // Nothing is preserved for who has lost it, nor beyond the end of the origin of then.
        let base = &self.base;
        let sectors = base.layout.chunk_sectors;
        let needing = base.snaps.first_needing(chunk, sectors);
        let from = match (needing, base.lost_to.checked_add(1)) {
            (Some(id), Some(not_lost)) if base.lost_to != 0 => Some(id.0.max(not_lost)),
            (Some(id), _) => Some(id.0),
            (None, _) => None,
        };
        self.query = Some(Query {
            chunk,
            from,
            last: None,
        });
        Ok(())
    }

    fn query_next_remap(&mut self) -> Result<Option<Descriptor>> {
        let mut query = self.query.ok_or(EINVAL)?;
        query.last = None;
        if let Some(from) = query.from {
            let Base { meta, snaps, .. } = &mut self.base;
            let gap = gap::next_gap(&self.map, meta, snaps, query.chunk.0, from)?;
            query.from = gap.and_then(|(_, hi)| hi.checked_add(1));
            // The span of the first id may begin before what was asked for.
            query.last = gap.map(|(a, b)| Descriptor { a: a.max(from), b });
        }
        self.query = Some(query);
        Ok(query.last)
    }

    fn add_next_remap(&mut self) -> Result<Remap> {
        self.base.check_writable()?;
        let query = self.query.as_mut().ok_or(EINVAL)?;
        let ids = query.last.ok_or(EINVAL)?;
        let dest = self.base.data.take(&mut self.base.meta)?;
        query.last = None;
        Ok(Remap {
            chunk: query.chunk,
            ids,
            dest,
        })
    }

    fn find(&mut self, chunk: Chunk, id: SnapId) -> Result<Found> {
        if !self.is_live(id) {
            return Err(ENOENT);
        }
        Ok(match self.lookup(chunk, id)? {
            None => Found::NotRemapped,
            Some((value, true)) => Found::Private(value),
            Some((value, false)) => Found::Shared(value),
        })
    }

    fn make_chunk_writeable(&mut self, chunk: Chunk, id: SnapId) -> Result<Writeable> {
        self.base.check_writable()?;
        let from = match self.find(chunk, id)? {
            Found::Private(Value::Chunk(dest)) => return Ok(Writeable::InPlace(dest)),
            Found::NotRemapped => Source::Origin,
            Found::Shared(value) | Found::Private(value) => match value {
                Value::Chunk(dest) => Source::Store(dest),
                Value::Zero => Source::Zero,
                Value::Lost => Source::Lost,
            },
        };
        let dest = self.base.data.take(&mut self.base.meta)?;
        let ids = self.span(id);
        let remap = Remap { chunk, ids, dest };
        Ok(Writeable::Copy { from, remap })
    }

    fn check_conflict(&self, ids: Descriptor, who: Who) -> bool {
        match who {
            Who::Origin => true,
            Who::Snapshot(id) => {
                let span = self.span(id);
                span.a <= ids.b && ids.a <= span.b
            }
        }
    }

    fn has_room(&self, n: usize) -> bool {
        self.base
            .log
            .has_room(n.saturating_mul(2).saturating_add(8), false)
    }

    fn record(&mut self, remap: &Remap) -> Result {
        let value = Value::Chunk(remap.dest);
        if !self.base.data.is_taken(remap.dest) {
            return Err(EINVAL);
        }
        if !self.set(remap.chunk, remap.ids, value, Urgency::Normal)? {
            self.base.data.give_back(remap.dest);
        }
        Ok(())
    }

    fn give_back(&mut self, remap: Remap) {
        self.base.data.give_back(remap.dest);
    }

    fn record_lost(&mut self, chunk: Chunk, ids: Descriptor) -> Result {
        self.set(chunk, ids, Value::Lost, Urgency::Loss).map(|_| ())
    }

    fn record_all_lost(&mut self) -> Result {
        self.base.record_all_lost()
    }

    fn record_zero(&mut self, chunk: Chunk, id: SnapId) -> Result {
        if !self.is_live(id) {
            return Err(ENOENT);
        }
        let ids = self.span(id);
        self.set(chunk, ids, Value::Zero, Urgency::Normal)
            .map(|_| ())
    }

    fn free_passed(&mut self, mark: u64) {
        self.base.data.pass(mark);
        self.base.data.release(self.base.log.durable());
    }

    fn free_mark(&self) -> Option<u64> {
        self.base.data.free_mark()
    }

    fn has_unsealed(&self) -> bool {
        !self.base.log.is_empty()
    }

    fn seal(&mut self) -> Result<Option<LogWrite>> {
        let Base { log, meta, .. } = &mut self.base;
        log.seal(meta.blocks())
    }

    fn sealed(&mut self, write: LogWrite, result: Result) {
        self.base.log.sealed(write, result);
        self.base.data.release(self.base.log.durable());
    }

    fn checkpoint_wanted(&self) -> bool {
        self.base.wants_checkpoint()
    }

    fn checkpoint(&mut self, clean: Option<&Identity>) -> Result<CheckpointWrite> {
        let root = self.root();
        self.base.checkpoint(root, clean)
    }

    fn give_up(&mut self, lost: bool) -> Result<CheckpointWrite> {
        self.base.give_up(lost)
    }

    fn checkpointed(&mut self, write: CheckpointWrite, result: Result) {
        self.base.checkpointed(write, result);
    }

    fn set_needs_check(&mut self) {
        self.base.set_needs_check();
    }

    fn needs_check(&self) -> bool {
        self.base.needs_check()
    }

    fn next_id(&self, parent: Option<SnapId>) -> Result<SnapId> {
        self.base.snaps.next_number(parent)
    }

    fn create(&mut self, parent: Option<SnapId>, created: u64, name: &[u8]) -> Result<SnapId> {
        self.base.create(parent, created, name)
    }

    fn delete(&mut self, id: SnapId) -> Result {
        self.base.delete(id)
    }

    fn forget(&mut self, id: SnapId) -> Result {
        self.base.forget(id)
    }

    fn rename(&mut self, id: SnapId, name: &[u8]) -> Result {
        self.base.rename(id, name)
    }

    fn snapshot(&mut self, id: SnapId) -> Result<Option<SnapInfo>> {
        if !self.is_live(id) {
            return Ok(None);
        }
        let row = self.base.snaps.row(&mut self.base.meta, id)?;
        row.ok_or(EILSEQ).map(Some)
    }

    fn snapshot_from(&mut self, from: SnapId) -> Result<Option<SnapInfo>> {
        match self.base.snaps.next_live(from) {
            Some(id) => self.snapshot(id),
            None => Ok(None),
        }
    }

    fn live_ids(&self) -> u64 {
        self.base.snaps.count()
    }

    fn live_range(&self, from: SnapId) -> Option<(SnapId, SnapId)> {
        self.base.snaps.live_range(from)
    }

    fn is_live(&self, id: SnapId) -> bool {
        self.base.snaps.is_live(id)
    }

    fn space(&self) -> Space {
        self.base.space()
    }

    fn resize(&mut self, origin_sectors: u64, store_sectors: u64) -> Result {
        self.base.resize(origin_sectors, store_sectors)
    }

    fn sweep_position(&self) -> Chunk {
        Chunk(self.base.sweep_chunk)
    }

    fn sweep_step(&mut self) -> Result<bool> {
        self.base.check_writable()?;
        let Some(oldest) = self.base.snaps.oldest_dying(&mut self.base.meta)? else {
            return Ok(false);
        };
        let pass = self.base.sweep_pass;
        if oldest < pass - 1 {
            // The last sweep left more to remove than fits into one record.
            return self.base.swept(pass - 1);
        }
        for _ in 0..SWEEP_CHUNKS {
            let at = self.base.sweep_chunk;
            let next = self.map.chunk_from(&mut self.base.meta, at)?;
            let Some(chunk) = next else {
                return self.base.swept(pass);
            };
            let done = !self.trim(chunk)?;
            if !self.edit.more() {
                match chunk.checked_add(1) {
                    Some(next) => self.base.sweep_chunk = next,
                    None => return self.base.swept(pass),
                }
            }
            if !done {
                break;
            }
        }
        Ok(true)
    }
}

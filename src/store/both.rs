// SPDX-License-Identifier: GPL-2.0

//! A store of either type: what the engine asks of it, made of what [`Base`] does for both and
//! what each does in its own way, the [`Exceptions`].

mod ahead;
#[cfg(not(MODULE))]
pub(crate) mod check;
mod recover;
#[cfg(not(MODULE))]
mod tools;

use super::{
    base::{Base, Urgency},
    blocks::Blocks,
    data_space::DataSpace,
    edit::Edit,
    log::Record,
    meta::Meta,
    CheckpointWrite, Chunk, Descriptor, Dest, ExceptionStore, Found, Geometry, Identity, LogWrite,
    NoId, Remap, SnapId, SnapInfo, Source, Space, Value, Who, Writeable,
};
pub(super) use ahead::Ahead;
use kernel::prelude::*;

/// Records that a trim may change at once, when space is not short.
const TRIM_MAX: usize = 64;

/// What was seen in a leaf.
pub(super) enum Seen {
    /// The first such chunk.
    Chunk(u64),
    /// None; the next leaf begins with this key.
    Next([u64; 2]),
    /// None, and it is the last leaf.
    End,
}

/// What the types of stores do each in its own way: which ids have which content of a chunk.
///
/// A change is first planned, which may fail and changes nothing; then there is made sure of
/// space for it; then it is applied.
pub(super) trait Exceptions: Send + Sized {
    /// The exceptions whose tree has this root and depth.
    fn load<B: Blocks>(m: &mut Meta<B>, root: (u64, u16), epoch: u64) -> Result<Self>;

    /// Root and depth of their tree.
    fn root(&self) -> (u64, u16);

    // --- questions ---------------------------------------------------------------------------

    /// The first set of live ids, all from number `from` on, that share the origin's content of
    /// `chunk`, and the number from which on the next one is looked for.
    fn next_shared<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        from: u64,
    ) -> Result<Option<(Descriptor, Option<u64>)>>;

    /// What a record says `chunk` of the live `id` holds, and whether that is its own alone.
    fn lookup<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        id: SnapId,
    ) -> Result<Option<(Value, bool)>>;

    /// Tells `ahead` of the records for the live `id` that one leaf of the tree shows.
    fn look_ahead<B: Blocks>(
        &self,
        base: &mut Base<B>,
        ahead: &mut Ahead<'_>,
        id: SnapId,
    ) -> Result;

    /// The ids that a write to `id` is for.
    fn written<B: Blocks>(&self, base: &Base<B>, id: SnapId) -> Descriptor;

    /// Whether a write to `id` is for some of `ids` as well.
    fn overlap<B: Blocks>(&self, base: &Base<B>, ids: Descriptor, id: SnapId) -> bool;

    /// Looks through a leaf of their tree, from the key `from` on, for a chunk that
    /// [`plan_trim`](Self::plan_trim) would change.
    fn look_for_trim<B: Blocks>(&self, base: &mut Base<B>, from: [u64; 2]) -> Result<Seen>;

    // --- changes -----------------------------------------------------------------------------

    /// Plans that what is live of `ids` holds `value`, whatever was there, and answers with the
    /// record of that; `None` if nothing is live.
    fn plan_set<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: Chunk,
        ids: Descriptor,
        value: Value,
    ) -> Result<Option<Record>>;

    /// Plans that only what live ids need of `chunk` stays, changing no more than about `limit`
    /// records, and answers with the record of that; `None` if there is nothing to do.
    fn plan_trim<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: u64,
        limit: usize,
    ) -> Result<Option<Record>>;

    /// Plans what a record of one of these two says. `EILSEQ` if that cannot be.
    fn plan_replay<B: Blocks>(&mut self, base: &mut Base<B>, record: &Record) -> Result;

    /// The plan.
    fn edit(&self) -> &Edit;

    /// Metadata blocks that it needs at most.
    fn blocks(&self, data: &DataSpace) -> usize;

    /// Reads what that will read; see [`Edit::read_ahead`].
    fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>, data: &DataSpace) -> Result;

    /// Carries it out; see [`Edit::apply`].
    fn apply<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        data: &mut DataSpace,
        batch: Option<u64>,
    ) -> Result;

    // --- copies under way --------------------------------------------------------------------

    /// A copy for these ids was planned.
    fn begun(&mut self, _ids: Descriptor) {}

    /// It was recorded, or given up.
    fn ended(&mut self, _ids: Descriptor) {}

    /// Whether the sweep must not end before some of these copies have.
    fn holds_sweep<B: Blocks>(&self, _base: &Base<B>) -> bool {
        false
    }
}

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
pub(super) struct Store<B: Blocks, X> {
    base: Base<B>,
    exceptions: X,
    query: Option<Query>,
}

impl<B: Blocks, X: Exceptions> Store<B, X> {
    /// What `chunk` holds for the live `id`, and whether that is its own alone.
    fn lookup(&mut self, chunk: Chunk, id: SnapId) -> Result<Option<(Value, bool)>> {
        let found = self.exceptions.lookup(&mut self.base, chunk, id)?;
        // Of an id that has lost what it had no record for, nothing is the origin's any more.
        let lost = id.0 <= self.base.lost_to;
        Ok(found.or(lost.then_some((Value::Lost, true))))
    }

    /// Records `value` for what is live of `ids`. Whether there was anything.
    fn set(
        &mut self,
        chunk: Chunk,
        ids: Descriptor,
        value: Value,
        urgency: Urgency,
    ) -> Result<bool> {
        let Self {
            base, exceptions, ..
        } = self;
        base.check_writable()?;
        let Some(record) = exceptions.plan_set(base, chunk, ids, value)? else {
            return Ok(false);
        };
        self.finish(&record, urgency)?;
        Ok(true)
    }

    /// Drops what no live id needs of `chunk`. Whether there was anything.
    fn trim(&mut self, chunk: u64) -> Result<bool> {
        // When space is short, one record at a time makes some.
        for limit in [TRIM_MAX, 1] {
            let plan = self.exceptions.plan_trim(&mut self.base, chunk, limit)?;
            let Some(record) = plan else {
                return Ok(false);
            };
            match self.finish(&record, Urgency::Free) {
                // Less may need nothing that has to come first.
                Err(ENOSPC | EAGAIN) if limit > 1 => {}
                other => return other.map(|()| true),
            }
        }
        Err(ENOSPC)
    }

    /// The sweep has seen all; whether more is left to do.
    fn end_sweep(&mut self, pass: u64) -> Result<bool> {
        if self.exceptions.holds_sweep(&self.base) {
            return Ok(true);
        }
        self.base.swept(pass)
    }

    /// Makes the planned change and appends its record.
    fn finish(&mut self, record: &Record, urgency: Urgency) -> Result {
        let Self {
            base, exceptions, ..
        } = self;
        base.data.check_frees(exceptions.edit().frees())?;
        // A piece of the data area that goes to metadata may cost more of it than before.
        loop {
            let blocks = exceptions.blocks(&base.data);
            base.prepare(blocks, 1, urgency)?;
            if exceptions.blocks(&base.data) <= blocks {
                break;
            }
        }
        let batch = Some(base.log.batch());
        let Base { meta, data, .. } = base;
        exceptions.read_ahead(meta, data)?;
        meta.guarded(|m| exceptions.apply(m, data, batch))?;
        base.append(record)
    }
}

impl<B: Blocks, X: Exceptions> ExceptionStore for Store<B, X> {
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
        // The last number that an id can have may have lost it, too.
        let not_lost = base.lost_to.checked_add(1);
        let from = needing.zip(not_lost).map(|(id, from)| match base.lost_to {
            0 => id.0,
            _ => id.0.max(from),
        });
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
            let base = &mut self.base;
            let next = self.exceptions.next_shared(base, query.chunk, from)?;
            query.from = next.and_then(|(_, from)| from);
            query.last = next.map(|(ids, _)| ids);
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
        self.exceptions.begun(ids);
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

    fn look_ahead(
        &mut self,
        chunk: Chunk,
        id: SnapId,
        count: u64,
        f: &mut dyn FnMut(Chunk, Option<Dest>),
    ) -> Result {
        if !self.is_live(id) {
            return Err(ENOENT);
        }
        let lost = id.0 <= self.base.lost_to;
        let mut tell = |chunk, value| match value {
            Some(Value::Chunk(dest)) => f(Chunk(chunk), Some(dest)),
            None if !lost => f(Chunk(chunk), None),
            _ => (),
        };
        let mut ahead = Ahead::new(chunk.0, chunk.0.saturating_add(count), &mut tell);
        self.exceptions.look_ahead(&mut self.base, &mut ahead, id)
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
        let ids = self.exceptions.written(&self.base, id);
        self.exceptions.begun(ids);
        let remap = Remap { chunk, ids, dest };
        Ok(Writeable::Copy { from, remap })
    }

    fn check_conflict(&self, ids: Descriptor, who: Who) -> bool {
        match who {
            Who::Origin => true,
            Who::Snapshot(id) => self.exceptions.overlap(&self.base, ids, id),
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
        self.exceptions.ended(remap.ids);
        Ok(())
    }

    fn give_back(&mut self, remap: Remap) {
        self.base.data.give_back(remap.dest);
        self.exceptions.ended(remap.ids);
    }

    fn give_back_bad(&mut self, remap: Remap) {
        self.base.data.give_back_bad(remap.dest);
        self.exceptions.ended(remap.ids);
    }

    fn record_lost(&mut self, chunk: Chunk, ids: Descriptor) -> Result {
        self.set(chunk, ids, Value::Lost, Urgency::Loss).map(|_| ())
    }

    fn record_all_lost(&mut self) -> Result {
        self.base.record_all_lost()
    }

    fn record_zero(&mut self, chunk: Chunk, id: SnapId) -> Result {
        let urgency = match self.find(chunk, id)? {
            // It gives back what is in its way.
            Found::Private(Value::Chunk(_)) => Urgency::Free,
            _ => Urgency::Normal,
        };
        let ids = self.exceptions.written(&self.base, id);
        self.set(chunk, ids, Value::Zero, urgency).map(|_| ())
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
        self.base.checkpoint(self.exceptions.root(), clean)
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

    fn next_id(&self, parent: Option<SnapId>) -> Result<SnapId, NoId> {
        self.base.snaps.next_number(parent)
    }

    fn create(&mut self, parent: Option<SnapId>, created: u64, name: &[u8]) -> Result<SnapId> {
        let id = self.next_id(parent)?;
        self.base.create(id, created, name)?;
        Ok(id)
    }

    fn create_as(&mut self, id: SnapId, created: u64, name: &[u8]) -> Result {
        self.base.create(id, created, name)
    }

    fn delete(&mut self, id: SnapId) -> Result {
        self.base.delete(id)
    }

    fn forget(&mut self, id: SnapId) -> Result {
        self.base.forget(id)
    }

    fn unforgotten(&mut self) -> Result<Option<SnapId>> {
        let base = &mut self.base;
        base.snaps.not_forgotten(&mut base.meta)
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

    fn set_cache(&mut self, threshold: u32, limit: u32) -> Result {
        self.base.meta.set_cache(threshold, limit)
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
        if oldest > pass {
            // That sweep would never come.
            return Err(EILSEQ);
        }
        if oldest < pass - 1 {
            // The last sweep left more to remove than fits into one record.
            return self.base.swept(pass - 1);
        }
        // Where the next step goes on is a chunk, so that one with many leaves is seen in one.
        let begin = self.base.sweep_chunk;
        let mut from = [begin, 0];
        let chunk = loop {
            match self.exceptions.look_for_trim(&mut self.base, from)? {
                Seen::Chunk(chunk) => break chunk,
                Seen::Next(next) => from = next,
                Seen::End => return self.end_sweep(pass),
            }
            self.base.sweep_chunk = from[0];
            if from[0] != begin {
                return Ok(true);
            }
        };
        self.base.sweep_chunk = chunk;
        self.trim(chunk)?;
        if !self.exceptions.edit().more() {
            match chunk.checked_add(1) {
                Some(next) => self.base.sweep_chunk = next,
                None => return self.end_sweep(pass),
            }
        }
        Ok(true)
    }

    #[cfg(not(MODULE))]
    fn walk(&mut self, f: &mut dyn FnMut(check::Item) -> Result) -> Result {
        self.walk_all(f)
    }

    #[cfg(not(MODULE))]
    fn tools(&mut self) -> Option<&mut dyn super::Tools> {
        Some(self)
    }

    #[cfg(not(MODULE))]
    fn high_water(&self) -> u64 {
        self.base.data.next()
    }

    #[cfg(not(MODULE))]
    fn is_full(&self, all: bool) -> bool {
        let data = &self.base.data;
        data.free() <= if all { 0 } else { data.keep() }
    }
}

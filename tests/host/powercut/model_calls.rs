// SPDX-License-Identifier: GPL-2.0

//! The calls of the store of plain collections.

use super::model_store::{block, padded, slot, words, ModelStore, LAST_WORD, LOG_START, MAGIC};
use crate::store::{
    blocks::Block, CheckpointWrite, Chunk, Descriptor, ExceptionStore, Found, Geometry, Identity,
    Item, LogWrite, NoId, Remap, SnapId, SnapInfo, Source, Space, Value, Who, Writeable,
};
use kernel::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use std::vec::Vec;

impl ExceptionStore for ModelStore {
    fn geometry(&self) -> Geometry {
        Geometry {
            chunk_sectors: self.sizes.chunk_sectors,
            origin_sectors: self.sizes.origin_sectors,
            data_start: self.sizes.data_start(),
            data_chunks: self.sizes.data_chunks,
        }
    }

    fn uuid(&self) -> [u8; 16] {
        [0; 16]
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn reset_query(&mut self, chunk: Chunk) -> Result {
        self.faults.check("reset_query")?;
        self.query = Some((chunk, 0));
        Ok(())
    }

    fn query_next_remap(&mut self) -> Result<Option<Descriptor>> {
        let Some((chunk, from)) = self.query else {
            return Err(EINVAL);
        };
        // Without an id that has not lost all, nothing need be read.
        if self
            .state
            .live
            .range(self.state.lost_to + 1..)
            .next()
            .is_some()
        {
            self.faults.check("query_next_remap")?;
        }
        let row = self.state.map.get(&chunk.0);
        let lost_to = self.state.lost_to;
        let has = |id: &u64| *id <= lost_to || row.is_some_and(|row| row.contains_key(id));
        let mut ids = self.state.live.range(from..).map(|(id, _)| *id);
        let Some(first) = ids.by_ref().find(|id| !has(id)) else {
            return Ok(None);
        };
        let last = ids.take_while(|id| !has(id)).last().unwrap_or(first);
        self.query = Some((chunk, last + 1));
        let ids = Descriptor::new_for_test(first, last);
        self.reported = Some(ids);
        Ok(Some(ids))
    }

    fn add_next_remap(&mut self) -> Result<Remap> {
        self.faults.check("add_next_remap")?;
        let (Some((chunk, _)), Some(ids)) = (self.query, self.reported.take()) else {
            return Err(EINVAL);
        };
        let dest = self.allocate();
        if dest.is_err() {
            self.reported = Some(ids);
        }
        Ok(Remap {
            chunk,
            ids,
            dest: dest?,
        })
    }

    fn find(&mut self, chunk: Chunk, id: SnapId) -> Result<Found> {
        self.faults.check("find")?;
        if !self.is_live(id) {
            return Err(ENOENT);
        }
        Ok(match self.state.value(chunk, id.0) {
            None => Found::NotRemapped,
            Some(v) if self.state.shares(chunk, id.0, v) => Found::Shared(v),
            Some(v) => Found::Private(v),
        })
    }

    fn make_chunk_writeable(&mut self, chunk: Chunk, id: SnapId) -> Result<Writeable> {
        self.faults.check("make_chunk_writeable")?;
        let from = match self.find(chunk, id)? {
            Found::NotRemapped => Source::Origin,
            Found::Private(Value::Chunk(dest)) => return Ok(Writeable::InPlace(dest)),
            Found::Shared(Value::Chunk(dest)) => Source::Store(dest),
            Found::Shared(Value::Zero) | Found::Private(Value::Zero) => Source::Zero,
            Found::Shared(Value::Lost) | Found::Private(Value::Lost) => Source::Lost,
        };
        let ids = Descriptor::new_for_test(id.0, id.0);
        let dest = self.allocate()?;
        let remap = Remap { chunk, ids, dest };
        Ok(Writeable::Copy { from, remap })
    }

    fn check_conflict(&self, ids: Descriptor, who: Who) -> bool {
        let (a, b) = ids.parts();
        match who {
            Who::Origin => true,
            Who::Snapshot(id) => (a..=b).contains(&id.0),
        }
    }

    fn has_room(&self, n: usize) -> bool {
        self.faults.check("has_room").is_ok()
            && !self.doubt
            && self.batch + n <= self.sizes.batch
            && self.seq - self.tail < self.sizes.log_len
    }

    fn record(&mut self, remap: &Remap) -> Result {
        self.faults.check("record")?;
        self.note()?;
        let live = self.live_in(remap.ids);
        let (a, b) = remap.ids.parts();
        for id in &live {
            // A copy for the origin never replaces what a snapshot has.
            assert!(a == b || self.state.own(remap.chunk, *id).is_none());
            self.put(remap.chunk, *id, Value::Chunk(remap.dest));
        }
        self.planned.remove(&remap.dest.0);
        if live.is_empty() {
            self.free(remap.dest);
        }
        Ok(())
    }

    fn give_back(&mut self, remap: Remap) {
        assert!(self.planned.remove(&remap.dest.0), "was not planned");
    }

    fn give_back_bad(&mut self, remap: Remap) {
        self.give_back(remap);
    }

    fn record_lost(&mut self, chunk: Chunk, ids: Descriptor) -> Result {
        self.faults.check("record_lost")?;
        self.note()?;
        for id in self.live_in(ids) {
            assert!(self.state.own(chunk, id).is_none(), "not lost at all");
            self.put(chunk, id, Value::Lost);
        }
        Ok(())
    }

    fn record_all_lost(&mut self) -> Result {
        self.faults.check("record_all_lost")?;
        if !self.doubt {
            self.note()?;
        }
        self.state.lose_all();
        Ok(())
    }

    fn record_zero(&mut self, chunk: Chunk, id: SnapId) -> Result {
        self.faults.check("record_zero")?;
        self.note()?;
        self.put(chunk, id.0, Value::Zero);
        Ok(())
    }

    fn free_passed(&mut self, mark: u64) {
        for freed in self.freed.iter_mut().filter(|f| f.mark <= mark) {
            freed.passed = true;
        }
        self.reclaim();
    }

    fn free_mark(&self) -> Option<u64> {
        self.freed
            .iter()
            .filter(|f| !f.passed)
            .map(|f| f.mark)
            .max()
    }

    fn has_unsealed(&self) -> bool {
        self.batch > 0
    }

    fn seal(&mut self) -> Result<Option<LogWrite>> {
        self.faults.check("seal")?;
        if self.batch == 0 {
            return Ok(None);
        }
        if self.doubt {
            return Err(EAGAIN);
        }
        assert!(!self.out, "another write is out");
        assert!(self.seq - self.tail < self.sizes.log_len, "log is full");
        let mut buf = KVec::new();
        let words = [MAGIC, self.seq + 1, self.push_state(), 0];
        buf.push(block(words), GFP_KERNEL)?;
        let write = LogWrite {
            buf,
            count: 1,
            nr: LOG_START + self.seq % self.sizes.log_len,
            seq: self.seq,
        };
        self.seq += 1;
        self.batch = 0;
        self.out = true;
        Ok(Some(write))
    }

    fn sealed(&mut self, write: LogWrite, result: Result) {
        self.out = false;
        match result {
            Ok(()) => self.durable = write.seq + 1,
            Err(_) => {
                self.doubt = true;
                self.doubt_end = write.seq + 1;
            }
        }
        self.reclaim();
    }

    fn checkpoint_wanted(&self) -> bool {
        self.doubt || self.seq - self.tail >= self.sizes.log_len / 2
    }

    fn checkpoint(&mut self, _clean: Option<&Identity>) -> Result<CheckpointWrite> {
        self.faults.check("checkpoint")?;
        if self.frozen.is_some() || (self.batch > 0 && !self.doubt) {
            return Err(EBUSY);
        }
        self.frozen = Some(self.seq);
        self.epoch += 1;
        let words = [MAGIC, self.epoch, self.push_state(), self.seq];
        let mut buf = KBox::<Block>::zeroed(GFP_KERNEL)?;
        *buf = block(words);
        Ok(CheckpointWrite {
            nr: slot(self.epoch),
            block: buf,
        })
    }

    fn give_up(&mut self, lost: bool) -> Result<CheckpointWrite> {
        self.faults.check("give_up")?;
        self.poisoned = true;
        let [_, epoch, index, seq] = self.checkpoint;
        let words = [LAST_WORD[usize::from(lost)], epoch, index, seq];
        let mut buf = KBox::<Block>::zeroed(GFP_KERNEL)?;
        *buf = block(words);
        Ok(CheckpointWrite {
            nr: slot(epoch + 1),
            block: buf,
        })
    }

    fn checkpointed(&mut self, write: CheckpointWrite, result: Result) {
        self.poisoned |= result.is_err();
        if result.is_ok() {
            self.checkpoint = words(&write.block).expect("a checkpoint");
        }
        if let (Some(seq), Ok(())) = (self.frozen.take(), result) {
            self.tail = seq;
            self.durable = self.durable.max(seq);
            self.doubt &= self.doubt_end > seq;
            self.reclaim();
        }
    }

    fn next_id(&self, parent: Option<SnapId>) -> Result<SnapId, NoId> {
        match parent {
            None => Ok(SnapId::top(self.state.next)),
            Some(_) => Err(NoId::new("has no snapshots here", EINVAL)),
        }
    }

    fn create(&mut self, parent: Option<SnapId>, _created: u64, name: &[u8]) -> Result<SnapId> {
        self.faults.check("create")?;
        let id = self.next_id(parent)?;
        self.note()?;
        self.state.next += 1;
        self.state.live.insert(id.0, padded(name));
        Ok(id)
    }

    fn create_as(&mut self, id: SnapId, _created: u64, name: &[u8]) -> Result {
        self.faults.check("create")?;
        if id.is_sub() || id.id() < self.state.next {
            return Err(EINVAL);
        }
        self.note()?;
        self.state.next = id.id() + 1;
        self.state.live.insert(id.0, padded(name));
        Ok(())
    }

    fn delete(&mut self, id: SnapId) -> Result {
        self.faults.check("delete")?;
        self.state.live.get(&id.0).ok_or(ENOENT)?;
        if self.state.dying.contains(&id.0) {
            return Err(ENOENT);
        }
        self.note()?;
        self.state.dying.insert(id.0);
        Ok(())
    }

    fn unforgotten(&mut self) -> Result<Option<SnapId>> {
        Ok(self.state.dying.first().map(|id| SnapId(*id)))
    }

    fn forget(&mut self, id: SnapId) -> Result {
        self.faults.check("forget")?;
        self.state.live.remove(&id.0).ok_or(ENOENT)?;
        self.state.dying.remove(&id.0);
        let chunks: Vec<u64> = self.state.map.keys().copied().collect();
        for chunk in chunks {
            let row = self.state.map.get_mut(&chunk).ok_or(EIO)?;
            if let Some(Value::Chunk(dest)) = row.remove(&id.0) {
                self.free(dest);
            }
        }
        Ok(())
    }

    fn rename(&mut self, id: SnapId, name: &[u8]) -> Result {
        self.faults.check("rename")?;
        if !self.is_live(id) {
            return Err(ENOENT);
        }
        self.note()?;
        self.state.live.insert(id.0, padded(name));
        Ok(())
    }

    fn snapshot(&mut self, id: SnapId) -> Result<Option<SnapInfo>> {
        Ok(self.state.live.get(&id.0).map(|name| SnapInfo {
            id,
            created: 0,
            sectors: self.sizes.origin_sectors,
            flags: 0,
            deleted: self.state.dying.contains(&id.0),
            name: *name,
        }))
    }

    fn snapshot_from(&mut self, from: SnapId) -> Result<Option<SnapInfo>> {
        match self.state.live.range(from.0..).next() {
            Some((&id, _)) => self.snapshot(SnapId(id)),
            None => Ok(None),
        }
    }

    fn live_ids(&self) -> u64 {
        self.state.live.len() as u64
    }

    fn live_range(&self, from: SnapId) -> Option<(SnapId, SnapId)> {
        let id = *self.state.live.range(from.0..).next()?.0;
        Some((SnapId(id), SnapId(id)))
    }

    fn is_live(&self, id: SnapId) -> bool {
        self.state.live.contains_key(&id.0)
    }

    fn needs_check(&self) -> bool {
        self.damaged
    }

    fn set_needs_check(&mut self) {
        self.damaged = true;
    }

    fn set_cache(&mut self, _threshold: u32, _limit: u32) -> Result {
        Ok(())
    }

    fn space(&self) -> Space {
        Space::default()
    }

    fn resize(&mut self, _origin_sectors: u64, _store_sectors: u64) -> Result {
        self.note()
    }

    fn sweep_position(&self) -> Chunk {
        Chunk(0)
    }

    fn sweep_step(&mut self) -> Result<bool> {
        self.faults.check("sweep_step")?;
        let one_less = |n: u32| n.checked_sub(1);
        Ok(self
            .sweep_left
            .fetch_update(SeqCst, SeqCst, one_less)
            .is_ok())
    }

    fn walk(&mut self, _f: &mut dyn FnMut(Item) -> Result) -> Result {
        Err(EOPNOTSUPP)
    }

    fn high_water(&self) -> u64 {
        self.sizes.data_chunks
    }

    fn is_full(&self, _all: bool) -> bool {
        false
    }
}

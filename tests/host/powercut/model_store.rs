// SPDX-License-Identifier: GPL-2.0

//! The simplest exception store that is right: plain collections, with a log of whole states.
//!
//! A log block and a checkpoint name a state that the history keeps, so that a power cut finds
//! the state that its blocks lead to. It shows that the machine and the harness are right before
//! any real store is, and fails where a test asks it to.

use super::{
    blocks::Shared,
    disk::BLOCK_SECTORS, //
};
use crate::store::{
    blocks::{Block, Blocks},
    CheckpointWrite, Chunk, Descriptor, Dest, ExceptionStore, Found, Geometry, Identity, LogWrite,
    Remap, SnapId, SnapInfo, Source, Space, Value, Who, Writeable, NAME_LEN,
};
use kernel::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// What is remembered of the store, and brought back after a cut.
#[derive(Clone, Default)]
struct State {
    live: BTreeMap<u64, [u8; NAME_LEN]>,
    next: u32,
    /// Chunk, then id: what it holds.
    map: BTreeMap<u64, BTreeMap<u64, Value>>,
}

impl State {
    fn value(&self, chunk: Chunk, id: u64) -> Option<Value> {
        self.map.get(&chunk.0)?.get(&id).copied()
    }

    /// Whether another id than `id` has this value at `chunk`.
    fn shares(&self, chunk: Chunk, id: u64, value: Value) -> bool {
        let row = self.map.get(&chunk.0);
        matches!(value, Value::Chunk(_))
            && row.is_some_and(|row| row.iter().any(|(i, v)| *i != id && *v == value))
    }

    fn used(&self) -> BTreeSet<u64> {
        let values = self.map.values().flat_map(|row| row.values());
        values
            .filter_map(|v| match v {
                Value::Chunk(dest) => Some(dest.0),
                _ => None,
            })
            .collect()
    }
}

/// Every state that was ever sealed.
pub(crate) type History = Arc<Mutex<Vec<State_>>>;
/// A state, opaque to others.
pub(crate) struct State_(State);

/// What shall go wrong: the next calls of the named functions.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<HashMap<&'static str, Vec<Error>>>>);

impl Faults {
    /// The next call of `name` that has no such order yet fails with `e`.
    pub(crate) fn add(&self, name: &'static str, e: Error) {
        self.0.lock().unwrap().entry(name).or_default().push(e);
    }

    fn check(&self, name: &'static str) -> Result {
        match self.0.lock().unwrap().get_mut(name).and_then(Vec::pop) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }
}

/// Sizes of a store that is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Sectors in a chunk.
    pub(crate) chunk_sectors: u32,
    /// Sectors of the origin.
    pub(crate) origin_sectors: u64,
    /// Chunks for data.
    pub(crate) data_chunks: u64,
    /// Blocks in the log ring.
    pub(crate) log_len: u64,
    /// Records in a batch.
    pub(crate) batch: usize,
}

const LOG_START: u64 = 24;
const MAGIC: u64 = 0x6d6f_6465_6c20_2121;

impl Sizes {
    /// Sector at which the data begins.
    pub(crate) fn data_start(&self) -> u64 {
        (LOG_START + self.log_len) * BLOCK_SECTORS
    }

    /// Sectors of the store.
    pub(crate) fn store_sectors(&self) -> u64 {
        self.data_start() + self.data_chunks * u64::from(self.chunk_sectors)
    }
}

fn block(words: [u64; 4]) -> Block {
    let mut block = [0; 4096];
    for part in block.chunks_exact_mut(32) {
        for (to, word) in part.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    block
}

fn words(block: &Block) -> Option<[u64; 4]> {
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(block.chunks_exact(8)) {
        *to = u64::from_le_bytes(from.try_into().ok()?);
    }
    let whole = block.chunks_exact(32).all(|part| *part == block[..32]);
    whole.then_some(words)
}

fn padded(name: &[u8]) -> [u8; NAME_LEN] {
    let mut padded = [0; NAME_LEN];
    padded[..name.len()].copy_from_slice(name);
    padded
}

/// A chunk that was freed.
struct Freed {
    mark: u64,
    dest: u64,
    /// Sequence number of the log block that frees it.
    seq: u64,
    passed: bool,
}

/// The store.
pub(crate) struct ModelStore {
    sizes: Sizes,
    history: History,
    state: State,
    /// Destinations that are planned.
    planned: BTreeSet<u64>,
    freed: Vec<Freed>,
    freed_marks: u64,
    query: Option<(Chunk, u64)>,
    reported: Option<Descriptor>,
    batch: usize,
    /// The next log block, and the first that no durable checkpoint contains.
    seq: u64,
    tail: u64,
    /// Commits below this are durable.
    durable: u64,
    epoch: u64,
    out: bool,
    frozen: Option<u64>,
    doubt: bool,
    poisoned: bool,
    /// Says no to `has_room` that often.
    pub(crate) faults: Faults,
}

impl ModelStore {
    /// An empty store on `shared`.
    pub(crate) fn format(shared: &Shared, history: &History) {
        let mut history = history.lock().unwrap();
        history.push(State_(State {
            next: 1,
            ..State::default()
        }));
        let words = [MAGIC, 1, history.len() as u64 - 1, 0];
        let _ = shared.clone().write_raw(16, &block(words));
    }

    /// The store that `shared` leads to.
    pub(crate) fn open(shared: &Shared, sizes: Sizes, history: &History) -> Result<Self> {
        let mut shared = shared.clone();
        let mut best = [0; 4];
        let mut buf = [0; 4096];
        for nr in [8, 16] {
            shared.read_raw(nr, &mut buf)?;
            match words(&buf) {
                Some(words) if words[0] == MAGIC && words[1] > best[1] => best = words,
                _ => {}
            }
        }
        let [_, epoch, mut index, mut seq] = best;
        loop {
            shared.read_raw(LOG_START + seq % sizes.log_len, &mut buf)?;
            match words(&buf) {
                Some([MAGIC, s, i, _]) if s == seq + 1 => index = i,
                _ => break,
            }
            seq += 1;
        }
        let epoch = epoch + 1;
        let words = [MAGIC, epoch, index, seq];
        shared.write_raw(8 + epoch % 2 * 8, &block(words))?;
        let state = history.lock().unwrap()[index as usize].0.clone();
        Ok(ModelStore {
            sizes,
            history: history.clone(),
            state,
            planned: BTreeSet::new(),
            freed: Vec::new(),
            freed_marks: 0,
            query: None,
            reported: None,
            batch: 0,
            seq,
            tail: seq,
            durable: seq,
            epoch,
            out: false,
            frozen: None,
            doubt: false,
            poisoned: false,
            faults: Faults::default(),
        })
    }

    fn allocate(&mut self) -> Result<Dest> {
        let used = self.state.used();
        let waits = |dest: u64, freed: &[Freed]| freed.iter().any(|f| f.dest == dest);
        for dest in 0..self.sizes.data_chunks {
            if !used.contains(&dest) && !self.planned.contains(&dest) && !waits(dest, &self.freed) {
                self.planned.insert(dest);
                return Ok(Dest(dest));
            }
        }
        Err(if self.freed.is_empty() {
            ENOSPC
        } else {
            EAGAIN
        })
    }

    fn note(&mut self) -> Result {
        if self.batch >= self.sizes.batch || !self.has_room(1) {
            return Err(EAGAIN);
        }
        self.batch += 1;
        Ok(())
    }

    fn put(&mut self, chunk: Chunk, id: u64, value: Value) {
        let row = self.state.map.entry(chunk.0).or_default();
        if let Some(Value::Chunk(old)) = row.insert(id, value) {
            self.free(old);
        }
    }

    /// Frees `dest` if nothing refers to it any more.
    fn free(&mut self, dest: Dest) {
        if !self.state.used().contains(&dest.0) {
            self.freed_marks += 1;
            self.freed.push(Freed {
                mark: self.freed_marks,
                dest: dest.0,
                seq: self.seq,
                passed: false,
            });
        }
    }

    fn reclaim(&mut self) {
        let durable = self.durable;
        self.freed.retain(|f| !(f.passed && f.seq < durable));
    }

    fn live_in(&self, ids: Descriptor) -> Vec<u64> {
        let (a, b) = ids.parts();
        self.state.live.range(a..=b).map(|(id, _)| *id).collect()
    }

    fn push_state(&self) -> u64 {
        let mut history = self.history.lock().unwrap();
        history.push(State_(self.state.clone()));
        history.len() as u64 - 1
    }
}

impl ExceptionStore for ModelStore {
    fn geometry(&self) -> Geometry {
        Geometry {
            chunk_sectors: self.sizes.chunk_sectors,
            origin_sectors: self.sizes.origin_sectors,
            data_start: self.sizes.data_start(),
            data_chunks: self.sizes.data_chunks,
        }
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
        let row = self.state.map.get(&chunk.0);
        let has = |id: &u64| row.is_some_and(|row| row.contains_key(id));
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
            assert!(a == b || self.state.value(remap.chunk, *id).is_none());
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

    fn record_lost(&mut self, chunk: Chunk, ids: Descriptor) -> Result {
        self.faults.check("record_lost")?;
        self.note()?;
        for id in self.live_in(ids) {
            assert!(self.state.value(chunk, id).is_none(), "not lost at all");
            self.put(chunk, id, Value::Lost);
        }
        Ok(())
    }

    fn record_all_lost(&mut self) -> Result {
        Err(EINVAL)
    }

    fn record_zero(&mut self, chunk: Chunk, id: SnapId) -> Result {
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
            Err(_) => self.doubt = true,
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
            nr: 8 + self.epoch % 2 * 8,
            block: buf,
        })
    }

    fn checkpointed(&mut self, _write: CheckpointWrite, result: Result) {
        if let (Some(seq), Ok(())) = (self.frozen.take(), result) {
            self.tail = seq;
            self.durable = self.durable.max(seq);
            self.doubt = false;
            self.reclaim();
        }
    }

    fn next_id(&self, parent: Option<SnapId>) -> Result<SnapId> {
        match parent {
            None => Ok(SnapId::top(self.state.next)),
            Some(_) => Err(EINVAL),
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

    fn delete(&mut self, id: SnapId) -> Result {
        self.state.live.get(&id.0).ok_or(ENOENT)?;
        self.note()
    }

    fn forget(&mut self, id: SnapId) -> Result {
        self.state.live.remove(&id.0).ok_or(ENOENT)?;
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
        false
    }

    fn set_needs_check(&mut self) {}

    fn space(&self) -> Space {
        Space::default()
    }

    fn resize(&mut self, _origin_sectors: u64, _store_sectors: u64) -> Result {
        self.note()
    }

    fn sweep_step(&mut self) -> Result<bool> {
        Ok(false)
    }
}

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
    Chunk, Descriptor, Dest, ExceptionStore, Value, NAME_LEN,
};
use kernel::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{atomic::AtomicU32, Arc, Mutex};
use std::vec::Vec;

/// What is remembered of the store, and brought back after a cut.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) live: BTreeMap<u64, [u8; NAME_LEN]>,
    pub(super) next: u32,
    /// Deleted ids that are still readable.
    pub(super) dying: BTreeSet<u64>,
    /// Chunk, then id: what it holds.
    pub(super) map: BTreeMap<u64, BTreeMap<u64, Value>>,
    /// What ids up to this have no value for is lost.
    pub(super) lost_to: u64,
}

impl State {
    pub(super) fn value(&self, chunk: Chunk, id: u64) -> Option<Value> {
        let own = self.own(chunk, id);
        own.or((id <= self.lost_to).then_some(Value::Lost))
    }

    pub(super) fn own(&self, chunk: Chunk, id: u64) -> Option<Value> {
        self.map.get(&chunk.0)?.get(&id).copied()
    }

    /// All ids that there are have lost what they have no value for.
    pub(super) fn lose_all(&mut self) {
        let newest = self.live.keys().next_back();
        self.lost_to = self.lost_to.max(newest.copied().unwrap_or(0));
    }

    /// Whether another id than `id` has this value at `chunk`.
    pub(super) fn shares(&self, chunk: Chunk, id: u64, value: Value) -> bool {
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

    pub(super) fn check(&self, name: &'static str) -> Result {
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

pub(super) const LOG_START: u64 = 24;
pub(super) const MAGIC: u64 = 0x6d6f_6465_6c20_2121;
/// Of a last word, without and with a loss.
pub(super) const LAST_WORD: [u64; 2] = [MAGIC + 1, MAGIC + 2];

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

/// Where the checkpoint of an epoch is.
pub(super) fn slot(epoch: u64) -> u64 {
    8 + epoch % 2 * 8
}

pub(super) fn block(words: [u64; 4]) -> Block {
    let mut block = [0; 4096];
    for part in block.chunks_exact_mut(32) {
        for (to, word) in part.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    block
}

pub(super) fn words(block: &Block) -> Option<[u64; 4]> {
    let mut words = [0; 4];
    for (to, from) in words.iter_mut().zip(block.chunks_exact(8)) {
        *to = u64::from_le_bytes(from.try_into().ok()?);
    }
    let whole = block.chunks_exact(32).all(|part| *part == block[..32]);
    whole.then_some(words)
}

pub(super) fn padded(name: &[u8]) -> [u8; NAME_LEN] {
    let mut padded = [0; NAME_LEN];
    padded[..name.len()].copy_from_slice(name);
    padded
}

/// A chunk that was freed.
pub(super) struct Freed {
    pub(super) mark: u64,
    pub(super) dest: u64,
    /// Sequence number of the log block that frees it.
    pub(super) seq: u64,
    pub(super) passed: bool,
}

/// The store.
pub(crate) struct ModelStore {
    pub(super) sizes: Sizes,
    pub(super) history: History,
    pub(super) state: State,
    /// Destinations that are planned.
    pub(super) planned: BTreeSet<u64>,
    pub(super) freed: Vec<Freed>,
    pub(super) freed_marks: u64,
    pub(super) query: Option<(Chunk, u64)>,
    pub(super) reported: Option<Descriptor>,
    pub(super) batch: usize,
    /// The next log block, and the first that no durable checkpoint contains.
    pub(super) seq: u64,
    pub(super) tail: u64,
    /// Commits below this are durable.
    pub(super) durable: u64,
    pub(super) epoch: u64,
    /// The newest durable checkpoint.
    pub(super) checkpoint: [u64; 4],
    pub(super) out: bool,
    pub(super) frozen: Option<u64>,
    /// A log write failed, and what it held is in no durable checkpoint; where it ended.
    pub(super) doubt: bool,
    pub(super) doubt_end: u64,
    pub(super) poisoned: bool,
    /// What shall go wrong.
    pub(crate) faults: Faults,
    /// Steps that a sweep would take. There is nothing to sweep.
    pub(crate) sweep_left: Arc<AtomicU32>,
    /// Damage was seen. It is not kept.
    pub(super) damaged: bool,
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
        let mut best = [0u64; 4];
        let mut best_nr = 0;
        let mut buf = [0; 4096];
        for nr in [8, 16] {
            shared.read_raw(nr, &mut buf)?;
            match words(&buf) {
                Some(words) if (MAGIC..=LAST_WORD[1]).contains(&words[0]) => {
                    if (words[1], words[0]) > (best[1], best[0]) {
                        best = words;
                        best_nr = nr;
                    }
                }
                _ => {}
            }
        }
        let [magic, epoch, mut index, mut seq] = best;
        loop {
            shared.read_raw(LOG_START + seq % sizes.log_len, &mut buf)?;
            match words(&buf) {
                Some([MAGIC, s, i, _]) if s == seq + 1 => index = i,
                _ => break,
            }
            seq += 1;
        }
        let mut states = history.lock().unwrap();
        let mut state = states[index as usize].0.clone();
        if magic == LAST_WORD[1] {
            state.lose_all();
            states.push(State_(state.clone()));
            index = states.len() as u64 - 1;
        }
        drop(states);
        // Not where the last word is, which is all that tells of a loss should this be cut.
        let epoch = epoch + 1 + u64::from(slot(epoch + 1) == best_nr);
        let checkpoint = [MAGIC, epoch, index, seq];
        shared.write_raw(slot(epoch), &block(checkpoint))?;
        for id in std::mem::take(&mut state.dying) {
            state.live.remove(&id);
            for row in state.map.values_mut() {
                row.remove(&id);
            }
        }
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
            checkpoint,
            out: false,
            frozen: None,
            doubt: false,
            doubt_end: 0,
            poisoned: false,
            faults: Faults::default(),
            sweep_left: Arc::default(),
            damaged: false,
        })
    }

    pub(super) fn allocate(&mut self) -> Result<Dest> {
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

    pub(super) fn note(&mut self) -> Result {
        if self.batch >= self.sizes.batch || !self.has_room(1) {
            return Err(EAGAIN);
        }
        self.batch += 1;
        Ok(())
    }

    pub(super) fn put(&mut self, chunk: Chunk, id: u64, value: Value) {
        let row = self.state.map.entry(chunk.0).or_default();
        if let Some(Value::Chunk(old)) = row.insert(id, value) {
            self.free(old);
        }
    }

    /// Frees `dest` if nothing refers to it any more.
    pub(super) fn free(&mut self, dest: Dest) {
        if !self.state.used().contains(&dest.0) {
            self.freed_marks += 1;
            self.freed.push(Freed {
                mark: self.freed_marks,
                dest: dest.0,
                // An id is forgotten when the record of its end is durable; all else is freed by
                // a record of the batch.
                seq: self.seq - u64::from(self.batch == 0),
                passed: false,
            });
        }
    }

    pub(super) fn reclaim(&mut self) {
        let durable = self.durable;
        self.freed.retain(|f| !(f.passed && f.seq < durable));
    }

    pub(super) fn live_in(&self, ids: Descriptor) -> Vec<u64> {
        let (a, b) = ids.parts();
        self.state.live.range(a..=b).map(|(id, _)| *id).collect()
    }

    pub(super) fn push_state(&self) -> u64 {
        let mut history = self.history.lock().unwrap();
        history.push(State_(self.state.clone()));
        history.len() as u64 - 1
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A store of either type and the engine's part of its work, side by side with a naive model: for each id
//! and chunk the content it must have.
//!
//! Contents are numbers. The data area really is on the disk, so that a node or another copy
//! that lands on a chunk in use is seen.

mod held;
mod shared;

use super::disk::Disk;
use super::ram::BLOCK_SECTORS;
use super::range_check::{audit, compare, contents, read_data};
pub(super) use super::range_check::{open, params};
use crate::store::blocks::Blocks;
use crate::store::{
    load, CheckpointWrite, Chunk, Descriptor, Dest, ExceptionStore, Identity, LogWrite, Open,
    Remap, SnapId, Source, StoreType, Who, Writeable,
};
use held::Held;
use kernel::prelude::*;
pub(super) use shared::Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec as StdVec;

/// What a chunk of a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// What the origin holds.
    Shared,
    Token(u64),
    Zero,
    Lost,
}

/// What must be found after a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) ids: BTreeMap<u64, StdVec<Content>>,
    /// Deleted in the log, not yet taken out.
    pub(super) dying: BTreeSet<u64>,
    pub(super) names: BTreeMap<u64, StdVec<u8>>,
}

/// An origin write that waits for its copies' records.
struct Waiting {
    chunk: u64,
    token: u64,
    batch: u64,
}

pub(super) struct Rig {
    pub(super) blocks: Shared,
    pub(super) store: KBox<dyn ExceptionStore>,
    pub(super) origin: StdVec<u64>,
    pub(super) model: Model,
    /// The model after each batch, by number.
    pub(super) after: BTreeMap<u64, Model>,
    /// Position in the disk's log at which a batch was sealed, and was known durable.
    pub(super) sealed_at: BTreeMap<u64, usize>,
    pub(super) durable_at: BTreeMap<u64, usize>,
    batch: u64,
    found: u64,
    waiting: StdVec<Waiting>,
    out: Option<(LogWrite, u64)>,
    /// The batch whose write failed, until a checkpoint that contains it has succeeded.
    doubt: Option<u64>,
    checkpoint: Option<(CheckpointWrite, u64)>,
    /// Deletions whose record is in the batch of this number.
    deleted: StdVec<(u64, SnapId)>,
    /// Copies that are held back.
    held: StdVec<Held>,
    next_token: u64,
    chunk_sectors: u64,
    data_start: u64,
    /// Some snapshots get a later id than the next.
    pub(super) skips: bool,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Rig {
    pub(super) fn new(of: StoreType, blocks: u64, chunk_sectors: u32, origin_chunks: u64) -> Self {
        let disk = Disk::new(blocks * BLOCK_SECTORS);
        let shared = Shared::new(disk);
        let p = params(of, chunk_sectors, origin_chunks);
        let open = Open::open_or_format(shared.clone(), &p, false).unwrap();
        Self::with(shared, open, origin_chunks, chunk_sectors)
    }

    fn with(blocks: Shared, open: Open<Shared>, chunks: u64, chunk_sectors: u32) -> Self {
        let store = load(open).unwrap();
        let data_start = store.geometry().data_start;
        let origin: StdVec<u64> = (0..chunks).map(|c| 1000 + c).collect();
        let position = blocks.disk().log_len();
        let mut rig = Self {
            blocks,
            store,
            origin,
            model: Model::default(),
            after: BTreeMap::new(),
            sealed_at: BTreeMap::new(),
            durable_at: BTreeMap::new(),
            batch: 1,
            found: 0,
            waiting: StdVec::new(),
            out: None,
            doubt: None,
            checkpoint: None,
            deleted: StdVec::new(),
            held: StdVec::new(),
            next_token: 1_000_000,
            chunk_sectors: chunk_sectors.into(),
            data_start,
            counts: BTreeMap::new(),
            skips: false,
        };
        rig.after.insert(0, Model::default());
        rig.durable_at.insert(0, position);
        rig
    }

    /// Forgets states and commands of the past: all is durable.
    pub(super) fn rebase(&mut self) {
        self.commit();
        self.end_checkpoint(true);
        self.commit();
        self.blocks.disk().flush().unwrap();
        self.blocks.disk().forget_log();
        self.after.clear();
        self.sealed_at.clear();
        self.durable_at.clear();
        self.after.insert(self.batch - 1, self.model.clone());
        self.durable_at.insert(self.batch - 1, 0);
    }

    /// Number of the batch that is collected.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// The batch after which the last reload found the store.
    pub(super) fn last_state(&self) -> u64 {
        self.found
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn write_data(&mut self, dest: Dest, token: u64) {
        if dest.0 < self.store.high_water() {
            self.count("reused chunks");
        }
        let extents = self.store.space().metadata_chunks;
        self.counts.insert(
            "extents",
            extents.max(self.counts.get("extents").copied().unwrap_or(0)),
        );
        let mut data = [0; 512];
        data[..8].copy_from_slice(&token.to_le_bytes());
        let sector = self.data_start + dest.0 * self.chunk_sectors;
        self.blocks.disk().write(sector, &data, false).unwrap();
    }

    fn read_data(&self, dest: Dest) -> u64 {
        read_data(
            &self.blocks.disk(),
            self.data_start + dest.0 * self.chunk_sectors,
        )
    }

    // --- commits -----------------------------------------------------------------------------

    /// Seals the batch if there is one and none is out.
    pub(super) fn seal(&mut self) {
        if self.out.is_some() {
            return;
        }
        if self.doubt.is_some() {
            assert!(self
                .store
                .seal()
                .map(|w| w.is_none())
                .map_or(true, |none| none));
            return;
        }
        match self.store.seal() {
            Ok(None) => assert!(!self.store.has_unsealed()),
            Ok(Some(write)) => {
                let at = self.blocks.disk().log_len();
                self.sealed_at.insert(self.batch, at);
                self.after.insert(self.batch, self.model.clone());
                self.out = Some((write, self.batch));
                self.batch += 1;
            }
            Err(e) => panic!("{e:?}"),
        }
    }

    /// The write that is out ends.
    pub(super) fn end_write(&mut self) {
        self.end_write_with(None);
    }

    /// The write that is out ends; with `Some(n)` it fails after `n` blocks.
    pub(super) fn end_write_with(&mut self, fail: Option<usize>) {
        let Some((write, batch)) = self.out.take() else {
            return;
        };
        let disk = self.blocks.disk();
        disk.flush().unwrap();
        for i in 0..write.count.min(fail.unwrap_or(usize::MAX)) {
            let sector = (write.nr + i as u64) * BLOCK_SECTORS;
            disk.write(sector, &write.buf[i], false).unwrap();
        }
        if fail.is_some() {
            self.count("log writes in doubt");
            self.store.sealed(write, Err(EIO));
            self.doubt = Some(batch);
            return;
        }
        disk.flush().unwrap();
        if write.seq >= self.store.space().log_blocks {
            self.count("log writes after a wrap");
        }
        self.store.sealed(write, Ok(()));
        self.durable(batch);
    }

    /// Batch `batch` and all before are durable.
    fn durable(&mut self, batch: u64) {
        let at = self.blocks.disk().log_len();
        self.durable_at.insert(batch, at);
        for w in std::mem::take(&mut self.waiting) {
            if w.batch <= batch {
                self.origin[w.chunk as usize] = w.token;
            } else {
                self.waiting.push(w);
            }
        }
        for (in_batch, id) in std::mem::take(&mut self.deleted) {
            if in_batch > batch {
                self.deleted.push((in_batch, id));
                continue;
            }
            self.retry(|rig| rig.store.forget(id)).unwrap();
            self.model.ids.remove(&id.0);
            self.model.names.remove(&id.0);
            self.model.dying.remove(&id.0);
        }
        self.pass();
    }

    /// Nobody reads what was freed so far: here every read ends at once.
    pub(super) fn pass(&mut self) {
        if let Some(mark) = self.store.free_mark() {
            self.store.free_passed(mark);
        }
    }

    pub(super) fn commit(&mut self) {
        self.end_write();
        if self.doubt.is_some() {
            self.end_checkpoint(true);
        }
        if self.doubt.is_some() {
            self.begin_checkpoint(None);
            self.end_checkpoint(true);
        }
        self.seal();
        self.end_write();
    }

    pub(super) fn begin_checkpoint(&mut self, clean: Option<&Identity>) {
        if self.checkpoint.is_some() {
            return;
        }
        while self.store.has_unsealed() && self.doubt.is_none() {
            self.end_write();
            self.seal();
        }
        if self.doubt.is_some() {
            // What is in the batch is in the checkpoint.
            let at = self.blocks.disk().log_len();
            self.sealed_at.insert(self.batch, at);
            self.after.insert(self.batch, self.model.clone());
            self.batch += 1;
            self.count("checkpoints for doubt");
        }
        match self.store.checkpoint(clean) {
            Ok(write) => self.checkpoint = Some((write, self.batch - 1)),
            Err(e) => panic!("checkpoint: {e:?}"),
        }
    }

    pub(super) fn end_checkpoint(&mut self, ok: bool) {
        let Some((write, batch)) = self.checkpoint.take() else {
            return;
        };
        self.blocks.write_dirty().unwrap();
        // One that failed may be on the disk all the same.
        if ok || batch % 2 == 0 {
            let (nr, block) = (write.nr, KBox::init(*write.block, GFP_KERNEL).unwrap());
            self.blocks.write_raw(nr, &block).unwrap();
        }
        let result = if ok { Ok(()) } else { Err(EIO) };
        self.store.checkpointed(write, result);
        self.count(if ok {
            "checkpoints"
        } else {
            "failed checkpoints"
        });
        if ok && self.doubt.is_some_and(|doubt| doubt <= batch) {
            self.doubt = None;
            self.durable(batch);
        }
    }

    /// The machine stops; `disk` is what is left of the store, which must hold one of the states
    /// it may hold. Goes on with that.
    pub(super) fn reload(&mut self, disk: Disk, at: usize) {
        let mut store = open(&disk).unwrap();
        let (batch, model) = self.find_state(&mut *store, &disk, at);
        self.found = batch;
        self.blocks = Shared::new(disk);
        drop(store);
        // The first load has changed the disk already; a second finds the same.
        self.store = load(Open::peek(self.blocks.clone(), false).unwrap()).unwrap();
        self.blocks.disk().forget_log();
        // Only what was released has been written to the origin, but the new state may know more.
        self.model = model;
        self.after.clear();
        self.sealed_at.clear();
        self.durable_at.clear();
        self.after.insert(self.batch, self.model.clone());
        self.durable_at.insert(self.batch, 0);
        self.batch += 1;
        self.waiting.clear();
        self.deleted.clear();
        self.held.clear();
        self.out = None;
        self.checkpoint = None;
        self.doubt = None;
        self.count("reloads");
    }

    /// The state that `store`, loaded from `disk` after a cut at `at`, must be in.
    pub(super) fn find_state(
        &self,
        store: &mut dyn ExceptionStore,
        disk: &Disk,
        at: usize,
    ) -> (u64, Model) {
        audit(store);
        let found = contents(store, disk, self.origin.len());
        // What was known to be durable, and what was on its way.
        let last = self
            .durable_at
            .iter()
            .filter(|(_, p)| **p <= at)
            .map(|(b, _)| *b)
            .max();
        let last = last.unwrap();
        let mut errors = StdVec::new();
        for (batch, model) in self.after.range(last..) {
            if *batch != last && self.sealed_at.get(batch).is_none_or(|p| *p > at) {
                continue;
            }
            let mut model = model.clone();
            // What the log says is to go, is gone.
            for id in std::mem::take(&mut model.dying) {
                model.ids.remove(&id);
                model.names.remove(&id);
            }
            match compare(&found, &model) {
                Ok(()) => return (*batch, model),
                Err(e) => errors.push((*batch, e)),
            }
        }
        panic!("cut at {at}, durable {last}: {errors:?}");
    }

    /// `e` is what was answered for want of a chunk for a copy, or with `meta`, of metadata: there
    /// must be none.
    fn check_full(&mut self, e: Error, meta: bool) {
        assert_eq!(e, ENOSPC);
        let space = self.store.space();
        assert!(self.store.is_full(meta), "{meta} {space:?}");
        self.count("really full");
    }

    /// Calls `f` until it does not ask for a checkpoint or commit first.
    fn retry<R>(&mut self, mut f: impl FnMut(&mut Self) -> Result<R>) -> Result<R> {
        for _ in 0..4 {
            match f(self) {
                Err(e) if e == EAGAIN => {
                    self.count("again");
                    assert!(!self.store.is_poisoned());
                    self.commit();
                    self.end_checkpoint(true);
                    self.begin_checkpoint(None);
                    self.end_checkpoint(true);
                    self.pass();
                }
                other => return other,
            }
        }
        Err(EAGAIN)
    }

    // --- what users do -----------------------------------------------------------------------

    fn is_waiting(&self, chunk: u64) -> bool {
        self.waiting.iter().any(|w| w.chunk == chunk)
    }

    pub(super) fn live(&self) -> StdVec<SnapId> {
        self.model.ids.keys().map(|id| SnapId(*id)).collect()
    }

    /// A write to the origin: what it must preserve is copied and recorded; the write itself
    /// waits for that to be durable. Returns how many copies were made.
    pub(super) fn write_origin(&mut self, chunk: u64) -> usize {
        self.let_go(|held| held.remap.chunk.0 == chunk, true);
        if self.is_waiting(chunk) {
            self.commit();
        }
        let mut copies = 0;
        let mut remaps: StdVec<Remap> = StdVec::new();
        self.store.reset_query(Chunk(chunk)).unwrap();
        while let Some(ids) = self.store.query_next_remap().unwrap() {
            match self.store.add_next_remap() {
                Ok(remap) => {
                    self.write_data(remap.dest, self.origin[chunk as usize]);
                    remaps.push(remap);
                    copies += 1;
                }
                Err(e) if e == EAGAIN && remaps.is_empty() => {
                    // Starts again when there may be space.
                    self.commit();
                    self.pass();
                    match self.store.add_next_remap() {
                        Ok(remap) => {
                            self.write_data(remap.dest, self.origin[chunk as usize]);
                            remaps.push(remap);
                            copies += 1;
                        }
                        Err(e) => {
                            self.check_full(e, false);
                            self.lose(chunk, ids);
                        }
                    }
                }
                // What is taken already is part of the same job.
                Err(e) if e == EAGAIN => self.lose(chunk, ids),
                Err(e) => {
                    self.check_full(e, false);
                    self.lose(chunk, ids);
                }
            }
        }
        for remap in remaps {
            match self.retry(|rig| rig.store.record(&remap)) {
                Ok(()) => {
                    let token = Content::Token(self.origin[chunk as usize]);
                    self.set(chunk, remap.ids, token);
                }
                Err(e) => {
                    self.check_full(e, true);
                    let ids = remap.ids;
                    self.store.give_back(remap);
                    self.lose(chunk, ids);
                }
            }
        }
        for (id, contents) in &self.model.ids {
            assert_ne!(
                contents[chunk as usize],
                Content::Shared,
                "{} of {chunk}",
                SnapId(*id)
            );
        }
        let token = self.token();
        self.waiting.push(Waiting {
            chunk,
            token,
            batch: if self.store.has_unsealed() {
                self.batch
            } else {
                self.batch - 1
            },
        });
        if !self.store.has_unsealed() && self.out.is_none() && self.doubt.is_none() {
            self.durable(self.batch - 1);
        }
        copies
    }

    /// The ids in `ids`, which share the origin's content, have their own now.
    fn set(&mut self, chunk: u64, ids: Descriptor, new: Content) {
        for (id, contents) in &mut self.model.ids {
            if self.store.check_conflict(ids, Who::Snapshot(SnapId(*id))) {
                let content = &mut contents[chunk as usize];
                assert_eq!(*content, Content::Shared);
                *content = new;
            }
        }
    }

    fn lose(&mut self, chunk: u64, ids: Descriptor) {
        self.count("full");
        self.count("lost");
        match self.retry(|rig| rig.store.record_lost(Chunk(chunk), ids)) {
            Ok(()) => self.set(chunk, ids, Content::Lost),
            Err(e) => {
                self.check_full(e, true);
                self.lose_all();
            }
        }
    }

    pub(super) fn lose_all(&mut self) {
        self.count("all lost");
        self.retry(|rig| rig.store.record_all_lost()).unwrap();
        for contents in self.model.ids.values_mut() {
            for content in contents {
                if *content == Content::Shared {
                    *content = Content::Lost;
                }
            }
        }
    }

    /// A write to a whole chunk of a snapshot, or of zeroes.
    pub(super) fn write_snapshot(&mut self, id: SnapId, chunk: u64, zero: bool) {
        if self.model.dying.contains(&id.0) {
            return;
        }
        let same = |held: &Held| held.remap.chunk.0 == chunk && held.ids.contains(&id.0);
        self.let_go(same, true);
        if zero {
            match self.retry(|rig| rig.store.record_zero(Chunk(chunk), id)) {
                Ok(()) => self.put(id, chunk, Content::Zero),
                Err(e) => self.check_full(e, true),
            }
            return;
        }
        let plan = match self.retry(|rig| rig.store.make_chunk_writeable(Chunk(chunk), id)) {
            Ok(plan) => plan,
            Err(e) => {
                self.check_full(e, false);
                return;
            }
        };
        let before = self.model.ids[&id.0][chunk as usize];
        match plan {
            // That is the engine's business alone, and would only blur what a cut may leave.
            Writeable::InPlace(dest) => {
                self.count("in place");
                assert_eq!(Content::Token(self.read_data(dest)), before);
            }
            Writeable::Copy { from, remap } => {
                match from {
                    Source::Origin => assert_eq!(before, Content::Shared),
                    Source::Store(dest) => {
                        assert_eq!(before, Content::Token(self.read_data(dest)))
                    }
                    Source::Zero => assert_eq!(before, Content::Zero),
                    Source::Lost => assert_eq!(before, Content::Lost),
                }
                let token = self.token();
                self.write_data(remap.dest, token);
                match self.retry(|rig| rig.store.record(&remap)) {
                    Ok(()) => self.put(id, chunk, Content::Token(token)),
                    Err(e) => {
                        self.check_full(e, true);
                        self.store.give_back(remap);
                    }
                }
            }
        }
    }

    fn put(&mut self, id: SnapId, chunk: u64, content: Content) {
        self.model.ids.get_mut(&id.0).unwrap()[chunk as usize] = content;
    }

    pub(super) fn create(&mut self, parent: Option<SnapId>, name: &[u8]) -> Option<SnapId> {
        if parent.is_some_and(|p| self.model.dying.contains(&p.0)) {
            return None;
        }
        // The cut waits for all writes, and for the origin's flush. (Copies that are held back
        // would be waited for as well; the store need not rely on that.)
        if parent.is_some() {
            self.let_go(|_| true, true);
        }
        self.commit();
        let contents = match parent {
            None => std::vec![Content::Shared; self.origin.len()],
            Some(parent) => self.model.ids[&parent.0].clone(),
        };
        let next = self.store.next_id(parent);
        let later = next.ok().filter(|_| self.skips && self.batch % 3 == 0);
        let made = match later.map(|id| SnapId(id.0 + if id.is_sub() { 3 } else { 3 << 32 })) {
            Some(id) => self.retry(|rig| rig.store.create_as(id, 77, name).map(|()| id)),
            None => self.retry(|rig| rig.store.create(parent, 77, name)),
        };
        match made {
            Ok(id) => {
                assert!(later.is_some() || next == Ok(id));
                self.count(if later.is_some() {
                    "ids passed over"
                } else {
                    "ids"
                });
                assert!(self.model.ids.insert(id.0, contents).is_none());
                if !name.is_empty() {
                    self.model.names.insert(id.0, name.to_vec());
                }
                self.commit();
                Some(id)
            }
            Err(e) => {
                match next {
                    Ok(_) => self.check_full(e, true),
                    Err(no) => assert_eq!(e, no.error),
                }
                None
            }
        }
    }

    pub(super) fn delete(&mut self, id: SnapId) {
        match self.retry(|rig| rig.store.delete(id)) {
            Ok(()) => {
                self.model.dying.insert(id.0);
                self.deleted.push((self.batch, id));
            }
            // A full store takes deletions.
            Err(e) => assert!(self.model.dying.contains(&id.0), "{e:?}"),
        }
    }

    pub(super) fn sweep(&mut self) -> bool {
        match self.retry(|rig| rig.store.sweep_step()) {
            Ok(more) => more,
            Err(e) => panic!("{e:?}"),
        }
    }

    // --- checks ------------------------------------------------------------------------------

    pub(super) fn check(&mut self) {
        let model = self.model.clone();
        let disk = self.blocks.disk();
        let found = contents(&mut *self.store, &disk, self.origin.len());
        // A deleted id may still be there.
        compare(&found, &model).unwrap();
        audit(&mut *self.store);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A small engine, for tests of tools: one thing at a time, with origin and store on any device.

use super::{
    device::Cache,
    digest,
    drive::{commit, freeze},
    sample_sector, Device, Page, Params, SnapshotId, DIGESTS,
};
use crate::store::{self, Chunk, ExceptionStore, FormatParams, Identity, Open, SnapId, Writeable};
use kernel::prelude::*;
use std::{sync::Arc, vec, vec::Vec};

/// A store at work.
pub struct Rig {
    store: KBox<dyn ExceptionStore>,
    cache: Cache,
    device: Arc<dyn Device>,
    origin: Arc<dyn Device>,
}

impl Rig {
    /// Makes a store.
    pub fn format(
        device: &Arc<dyn Device>,
        origin: &Arc<dyn Device>,
        params: &Params,
    ) -> Result<Self> {
        let params = FormatParams {
            uuid: params.uuid,
            store_type: params.store_type.into(),
            chunk_sectors: params.chunk_sectors,
            origin_sectors: params.origin_sectors,
        };
        let cache = Cache::new(device.clone(), None);
        Open::format(cache, &params).map_err(|e| e.errno())?;
        Self::load(device, origin)
    }

    /// Loads a store as the module does.
    pub fn load(device: &Arc<dyn Device>, origin: &Arc<dyn Device>) -> Result<Self> {
        let cache = Cache::new(device.clone(), None);
        let open = Open::peek(cache.clone(), false).map_err(|e| e.errno())?;
        Ok(Self {
            store: store::load(open).map_err(|e| e.errno())?,
            cache,
            device: device.clone(),
            origin: origin.clone(),
        })
    }

    fn chunk_blocks(&self) -> u64 {
        u64::from(self.store.geometry().chunk_sectors) / 8
    }

    fn dest_block(&self, dest: store::Dest) -> u64 {
        self.store.geometry().data_start / 8 + dest.0 * self.chunk_blocks()
    }

    fn origin_pages(&self, chunk: u64) -> Result<Vec<Page>> {
        let n = self.chunk_blocks();
        let mut pages = vec![Page::ZERO; n as usize];
        let read = self.origin.read(chunk * n, &mut pages);
        read.map_err(|_| EIO)?;
        Ok(pages)
    }

    fn put(&self, block: u64, pages: &[Page]) -> Result {
        self.device.write(block, pages).map_err(|_| EIO)
    }

    /// Makes a change, once more after a checkpoint if it needs one.
    fn change<T>(&mut self, mut f: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.make_room()?;
        match f(self) {
            Err(e) if e == EAGAIN => {
                self.checkpoint()?;
                f(self)
            }
            other => other,
        }
    }

    /// Makes room for a change, by commits and checkpoints.
    fn make_room(&mut self) -> Result {
        if !self.store.has_room(16) {
            self.commit()?;
        }
        if self.store.checkpoint_wanted() {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Writes a chunk of the origin; the old content goes to the store first, or is lost if that
    /// is said.
    pub fn write_origin(&mut self, chunk: u64, pages: &[Page], lose: bool) -> Result {
        let old = self.origin_pages(chunk)?;
        // One set after the other is preserved.
        while self.change(|rig| rig.preserve(chunk, &old, lose))? {}
        self.commit()?;
        let written = self.origin.write(chunk * self.chunk_blocks(), pages);
        written.map_err(|_| EIO)
    }

    /// Preserves the old content of a chunk for the first who need it; whether there were any.
    fn preserve(&mut self, chunk: u64, old: &[Page], lose: bool) -> Result<bool> {
        self.store.reset_query(Chunk(chunk))?;
        let Some(ids) = self.store.query_next_remap()? else {
            return Ok(false);
        };
        if lose {
            self.store.record_lost(Chunk(chunk), ids)?;
        } else {
            let remap = self.store.add_next_remap()?;
            self.put(self.dest_block(remap.dest), old)?;
            self.record(remap)?;
        }
        Ok(true)
    }

    fn record(&mut self, remap: store::Remap) -> Result {
        let result = self.store.record(&remap);
        if result.is_err() {
            self.store.give_back(remap);
        }
        result
    }

    /// Writes a chunk of a snapshot.
    pub fn write_snapshot(&mut self, id: SnapshotId, chunk: u64, pages: &[Page]) -> Result {
        self.change(|rig| {
            let plan = rig.store.make_chunk_writeable(Chunk(chunk), SnapId(id.0))?;
            match plan {
                Writeable::InPlace(dest) => rig.put(rig.dest_block(dest), pages),
                // All of it is written, so it does not matter what was there.
                Writeable::Copy { remap, .. } => {
                    rig.put(rig.dest_block(remap.dest), pages)?;
                    rig.record(remap)
                }
            }
        })
    }

    /// Makes a chunk of a snapshot zero.
    pub fn zero_snapshot(&mut self, id: SnapshotId, chunk: u64) -> Result {
        self.change(|rig| rig.store.record_zero(Chunk(chunk), SnapId(id.0)))
    }

    /// Cuts a snapshot of the origin, or of `parent`.
    pub fn create(
        &mut self,
        parent: Option<SnapshotId>,
        created: u64,
        name: &str,
    ) -> Result<SnapshotId> {
        let parent = parent.map(|id| SnapId(id.0));
        let id = self.change(|rig| rig.store.create(parent, created, name.as_bytes()))?;
        self.commit()?;
        Ok(SnapshotId(id.0))
    }

    /// Deletes a snapshot.
    pub fn delete(&mut self, id: SnapshotId) -> Result {
        self.change(|rig| rig.store.delete(SnapId(id.0)))?;
        self.commit()?;
        self.change(|rig| rig.store.forget(SnapId(id.0)))
    }

    /// Sweeps what was deleted, up to the end.
    pub fn sweep(&mut self) -> Result {
        loop {
            self.make_room()?;
            match self.store.sweep_step() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) if e == EAGAIN => {
                    self.commit()?;
                    self.checkpoint()?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// What snapshots share with the origin is lost.
    pub fn lose_all(&mut self) -> Result {
        self.change(|rig| rig.store.record_all_lost())
    }

    /// The origin has grown.
    pub fn grow_origin(&mut self, sectors: u64) -> Result {
        let len = self.device.blocks() * 8;
        self.change(|rig| rig.store.resize(sectors, len))
    }

    /// Writes to the log what has happened.
    pub fn commit(&mut self) -> Result {
        commit(&mut *self.store, &mut self.cache)
    }

    /// Makes a checkpoint.
    pub fn checkpoint(&mut self) -> Result {
        self.commit()?;
        self.freeze(None)
    }

    fn freeze(&mut self, clean: Option<&Identity>) -> Result {
        freeze(&mut *self.store, &mut self.cache, clean)
    }

    /// Stops in good order. To be dropped without it is a power cut.
    pub fn stop(mut self) -> Result {
        self.commit()?;
        let mut digests = [0; DIGESTS];
        let sectors = self.store.geometry().origin_sectors;
        for (i, to) in digests.iter_mut().enumerate() {
            let block = sample_sector(i, sectors) / 8;
            let mut page = [Page::ZERO];
            if block < sectors / 8 {
                self.origin.read(block, &mut page).map_err(|_| EIO)?;
                *to = digest(&page[0].0);
            }
        }
        self.freeze(Some(&Identity { digests }))
    }
}

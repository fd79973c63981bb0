// SPDX-License-Identifier: GPL-2.0

//! An exception store at work, without an engine or data: `benches/growth.rs` measures with it what
//! its operations cost as it grows.

// Most of the stores is not called here; what nobody calls is found in the kernel's build.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

#[path = "../../store/src/image/drive.rs"]
mod drive;

mod memory;

use crate::store::{
    Chunk, ExceptionStore, FormatParams, Found, Limited, Open, OpenError, SnapId, StoreType,
};
use drive::{commit, freeze, preserve};
use kernel::prelude::*;
use memory::Memory;

/// Sectors of a chunk.
const CHUNK: u32 = 32;

/// Result of a call of the store.
pub type Outcome<T> = core::result::Result<T, String>;

/// Blocks of the cache, and how many of them may be dirty: as in the module if nothing is said.
const CACHE: (u32, u32) = (16 << 10, 4 << 10);

/// A store, with its metadata in memory: 64 MiB as in the module's cache, into which each block
/// comes with its checksum compared, and the rest behind that.
pub struct Grown {
    store: KBox<dyn ExceptionStore>,
    memory: Memory,
    snapshots: u64,
    remaps: u64,
}

/// Counts of what a store has, and of what it has written.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Live snapshots.
    pub snapshots: u64,
    /// Copies that were recorded, ever.
    pub remaps: u64,
    /// Records that are there; each names a copy of its own here.
    pub records: u64,
    /// Bytes of metadata that it has, without log and free blocks.
    pub metadata: u64,
    /// Bytes of metadata that it has written: log, nodes and checkpoints.
    pub written: u64,
}

impl Grown {
    /// A new store of this type, for an origin of so many chunks.
    pub fn new(of: &str, chunks: u64) -> Outcome<Self> {
        let store_type =
            StoreType::from_name(of.as_bytes()).ok_or_else(|| format!("no type {of}"))?;
        let per_chunk = u64::from(CHUNK) / 8;
        // Room for what is copied, ten times over, and for metadata.
        let memory = Memory::new(chunks * per_chunk * 11 + (1 << 20));
        let params = FormatParams {
            uuid: [7; 16],
            store_type,
            chunk_sectors: CHUNK,
            origin_sectors: chunks * u64::from(CHUNK),
        };
        let errno = |e: OpenError| format!("{:?}", e.errno());
        let (limit, threshold) = CACHE;
        let blocks = Limited::new(memory.clone(), limit).map_err(text)?;
        Open::format(memory.clone(), &params).map_err(errno)?;
        let open = Open::peek(blocks, false).map_err(errno)?;
        let mut store = store::load(open).map_err(errno)?;
        store.set_cache(threshold, limit).map_err(text)?;
        Ok(Self {
            store,
            memory,
            snapshots: 0,
            remaps: 0,
        })
    }

    /// What the store has.
    pub fn size(&self) -> Size {
        let space = self.store.space();
        Size {
            snapshots: self.snapshots,
            remaps: self.remaps,
            records: space.used_chunks - space.metadata_chunks,
            metadata: space.metadata_blocks_used * 4096,
            written: self.memory.written(),
        }
    }

    /// Makes a snapshot of the origin.
    pub fn create(&mut self) -> Outcome<()> {
        self.change(|store| store.create(None, 1, b""))?;
        self.snapshots += 1;
        self.commit().map_err(text)
    }

    /// The first write to a chunk: what the engine asks of the store. Whether there was something
    /// to preserve.
    pub fn overwrite(&mut self, chunk: u64) -> Outcome<bool> {
        let made = self.change(|store| preserve(store, chunk))?;
        self.remaps += u64::from(made);
        Ok(made)
    }

    /// Asks whether a write to a chunk has something to preserve.
    pub fn ask(&mut self, chunk: u64) -> Outcome<bool> {
        let ask = |store: &mut dyn ExceptionStore| {
            store.reset_query(Chunk(chunk))?;
            Ok(store.query_next_remap()?.is_some())
        };
        ask(&mut *self.store).map_err(text)
    }

    /// Looks up where a chunk of a snapshot is; whether it was copied. `id` is from 1 on.
    pub fn find(&mut self, chunk: u64, id: u64) -> Outcome<bool> {
        let found = self.store.find(Chunk(chunk), top(id)?);
        found.map(|found| found != Found::NotRemapped).map_err(text)
    }

    /// Deletes a snapshot, of which the store keeps what it has.
    pub fn delete(&mut self, id: u64) -> Outcome<()> {
        let id = top(id)?;
        self.change(|store| store.delete(id))?;
        self.commit().map_err(text)?;
        self.change(|store| store.forget(id))?;
        self.snapshots -= 1;
        Ok(())
    }

    /// The oldest snapshot.
    pub fn oldest(&self) -> Option<u64> {
        let (id, _) = self.store.live_range(SnapId::top(1))?;
        Some(id.id().into())
    }

    /// Frees what only deleted snapshots have: the whole tree is looked at.
    pub fn sweep(&mut self) -> Outcome<()> {
        while self.change(|store| store.sweep_step())? {}
        Ok(())
    }

    /// Makes all durable, and begins a new log.
    pub fn checkpoint(&mut self) -> Outcome<()> {
        self.commit().and_then(|()| self.freeze()).map_err(text)
    }

    /// Makes a change, once more after a checkpoint if it needs one.
    fn change<T>(&mut self, mut f: impl FnMut(&mut dyn ExceptionStore) -> Result<T>) -> Outcome<T> {
        self.make_room().map_err(text)?;
        match f(&mut *self.store) {
            Err(e) if e == EAGAIN => {
                self.checkpoint()?;
                f(&mut *self.store).map_err(text)
            }
            other => other.map_err(text),
        }
    }

    fn make_room(&mut self) -> Result {
        if !self.store.has_room(16) {
            self.commit()?;
        }
        if self.store.checkpoint_wanted() {
            self.commit()?;
            self.freeze()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result {
        commit(&mut *self.store, &mut self.memory)
    }

    fn freeze(&mut self) -> Result {
        freeze(&mut *self.store, &mut self.memory, None)
    }
}

fn top(id: u64) -> Outcome<SnapId> {
    let id = u32::try_from(id).map_err(|e| e.to_string())?;
    Ok(SnapId::top(id))
}

fn text(e: Error) -> String {
    format!("{e:?}")
}

// SPDX-License-Identifier: GPL-2.0

//! A store made anew, out of what is known of another.

use super::{device::Cache, is_rest, Device, Ids, Refusal, SnapshotId, Type, Value, DIGESTS};
use crate::store::{
    self,
    blocks::{Blocks, BLOCK_SIZE},
    format, Chunk, Descriptor, ExceptionStore, FormatParams, Identity, Open, OpenError, SnapId,
};
use kernel::prelude::*;
use std::sync::Arc;

/// What a new store is made with.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Drawn at random.
    pub uuid: [u8; 16],
    /// The implementation to use.
    pub store_type: Type,
    /// Sectors in a chunk.
    pub chunk_sectors: u32,
    /// Sectors of the origin at first.
    pub origin_sectors: u64,
}

/// A store that is being made. It is none before [`finish`](Self::finish) has ended well: its
/// superblock is written last. If it is dropped before, nothing is left that looks like one.
pub struct Maker {
    store: KBox<dyn ExceptionStore>,
    cache: Cache,
    of: Type,
    /// Block where the data area begins, and blocks of a chunk.
    data: (u64, u64),
    done: bool,
}

impl Drop for Maker {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for nr in format::CHECKPOINT_NRS {
            // If that fails, there is something left.
            let _ = self.cache.write_raw(nr, &[0; BLOCK_SIZE]);
        }
    }
}

impl Maker {
    /// Begins a store on an empty device.
    pub fn new(device: &Arc<dyn Device>, params: &Params) -> Result<Self, Refusal> {
        if is_rest(device)? {
            return Err(Refusal::Rest);
        }
        let mut cache = Cache::new(device.clone(), None);
        if !store::is_blank(&mut cache)? {
            return Err(Refusal::Foreign);
        }
        cache.hold();
        let format = FormatParams {
            uuid: params.uuid,
            store_type: params.store_type.into(),
            chunk_sectors: params.chunk_sectors,
            origin_sectors: params.origin_sectors,
        };
        let open = Open::format(cache.clone(), &format)?;
        let mut store = store::load(open)?;
        store.set_cache(4096, 1 << 20).map_err(OpenError::from)?;
        let geometry = store.geometry();
        Ok(Self {
            store,
            cache,
            of: params.store_type,
            data: (
                geometry.data_start / 8,
                u64::from(geometry.chunk_sectors) / 8,
            ),
            done: false,
        })
    }

    /// First block of chunk `dest` of the store.
    pub fn data_block(&self, dest: u64) -> Option<u64> {
        dest.checked_mul(self.data.1)?.checked_add(self.data.0)
    }

    /// The origin has this size from here on.
    pub fn grow_origin(&mut self, sectors: u64) -> Result<(), Refusal> {
        let own = self.cache.len().saturating_mul(8);
        self.change(|store| {
            let geometry = store.geometry();
            if sectors <= geometry.origin_sectors {
                return Ok(());
            }
            store.resize(sectors, own)
        })
    }

    /// Makes a snapshot, whose number is above those before.
    pub fn create(&mut self, id: SnapshotId, created: u64, name: &str) -> Result<(), Refusal> {
        self.change(|store| store.create_as(SnapId(id.0), created, name.as_bytes()))
    }

    /// Takes a snapshot away again.
    pub fn remove(&mut self, id: SnapshotId) -> Result<(), Refusal> {
        self.change(|store| store.delete(SnapId(id.0)))?;
        self.change(|store| store.forget(SnapId(id.0)))
    }

    /// Ids of snapshots of the origin below `next` are not given any more.
    pub fn skip_to(&mut self, next: u64) {
        if let Some(tools) = self.store.tools() {
            tools.skip_to(next);
        }
    }

    /// Numbers of snapshots of the snapshot `id` below `next` are not given any more.
    pub fn skip_sub_to(&mut self, id: u32, next: u32) -> Result<(), Refusal> {
        self.change(|store| {
            let tools = store.tools().ok_or(EINVAL)?;
            if next <= tools.next_sub(id) {
                return Ok(());
            }
            tools.skip_sub_to(id, next)
        })
    }

    /// What all ids up to now have no record for is lost.
    pub fn lose_all(&mut self) -> Result<(), Refusal> {
        self.change(|store| store.record_all_lost())
    }

    /// Number of the next snapshot of the snapshot `id`.
    fn next_sub(&mut self, id: u32) -> u32 {
        self.store.tools().map_or(0, |tools| tools.next_sub(id))
    }

    /// The mask of the bits that these snapshots have here.
    pub fn mask(&mut self, ids: impl Iterator<Item = SnapshotId>) -> u64 {
        let Some(tools) = self.store.tools() else {
            return 0;
        };
        ids.fold(0, |mask, id| mask | tools.mask_of(SnapId(id.0)))
    }

    fn descriptor(&mut self, ids: Ids) -> Descriptor {
        match ids {
            Ids::Mask(mask) => Descriptor::of_mask(mask),
            Ids::Range(lo, hi) => {
                // A snapshot stands for those that it may still get.
                let lo = match lo.sub_id() {
                    Some(_) => SnapId(lo.0),
                    None => SnapId::sub(lo.id(), self.next_sub(lo.id())),
                };
                Descriptor::of_range(lo, SnapId(hi.0))
            }
        }
    }

    /// Records that these snapshots hold the content of a chunk of the store, and returns that.
    /// `fill` brings the content there. The ends of a range are live snapshots.
    pub fn put_chunk<E: From<Refusal>>(
        &mut self,
        chunk: u64,
        ids: Ids,
        fill: impl FnOnce(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let ids = self.descriptor(ids);
        let remap = self.change(|store| {
            let tools = store.tools().ok_or(EINVAL)?;
            tools.plan_for(Chunk(chunk), ids)
        })?;
        let block = self.data_block(remap.dest.0).ok_or(Refusal::Io)?;
        if let Err(e) = fill(block) {
            self.store.give_back(remap);
            return Err(e);
        }
        let done = self.change(|store| store.record(&remap));
        Ok(done?)
    }

    /// Records that these snapshots hold zeroes, or nothing.
    pub fn put_value(&mut self, chunk: u64, ids: Ids, value: Value) -> Result<(), Refusal> {
        let ids = self.descriptor(ids);
        let value = match value {
            Value::Zero => store::Value::Zero,
            Value::Lost => store::Value::Lost,
            Value::Chunk(_) => return Err(Refusal::Other("takes no such value".into())),
        };
        self.change(|store| {
            let tools = store.tools().ok_or(EINVAL)?;
            tools.set_value(Chunk(chunk), ids, value)
        })
    }

    /// Makes a change; when the store has no room for more of them, a checkpoint comes first.
    fn change<T>(
        &mut self,
        mut f: impl FnMut(&mut dyn ExceptionStore) -> Result<T>,
    ) -> Result<T, Refusal> {
        if self.store.checkpoint_wanted() || !self.store.has_room(8) {
            self.checkpoint(None)?;
        }
        let result = match f(&mut *self.store) {
            Err(EAGAIN) => {
                self.checkpoint(None)?;
                f(&mut *self.store)
            }
            other => other,
        };
        result.map_err(|e| match e {
            ENOSPC => Refusal::Other("has no space for all of it: take a larger one".into()),
            e if e == EIO => Refusal::Io,
            e => Refusal::Other(std::format!("takes no such thing: error {}", e.to_errno())),
        })
    }

    /// Writes everything so far, with what the origin looked like if the store is complete and
    /// that is known.
    fn checkpoint(&mut self, clean: Option<&Identity>) -> Result<(), Refusal> {
        let mut write = || -> Result {
            if let Some(write) = self.store.seal()? {
                // No one will replay it: the checkpoint contains all of it.
                self.store.sealed(write, Ok(()));
            }
            let write = self.store.checkpoint(clean)?;
            let result = self
                .cache
                .write_dirty()
                .and_then(|()| self.cache.write_raw(write.nr, &write.block));
            self.store.checkpointed(write, result);
            let mark = self.store.free_mark();
            self.store.free_passed(mark.unwrap_or(0));
            result
        };
        write().map_err(|e| OpenError::from(e).into())
    }

    /// Makes the store whole. With `digests`, as one that was stopped in good order when the
    /// origin had these.
    pub fn finish(mut self, digests: Option<[u64; DIGESTS]>) -> Result<(), Refusal> {
        let identity = digests.map(|digests| Identity { digests });
        self.checkpoint(identity.as_ref())?;
        // From here on there may be a superblock.
        self.done = true;
        self.cache.release().map_err(|_| Refusal::Io)
    }
}

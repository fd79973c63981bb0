// SPDX-License-Identifier: GPL-2.0

//! A store at work: calls as the engine makes them, chosen by bytes.

use super::device::Ram;
use crate::store::blocks::{Blocks, BLOCK_SIZE};
use crate::store::format::SAMPLES;
use crate::store::{
    load, CheckpointWrite, Chunk, ExceptionStore, Identity, LogWrite, Open, OpenError, Remap,
    SnapId, Writeable,
};
use kernel::prelude::*;
use std::vec::Vec as StdVec;

/// Bytes of one call: what, and two numbers for it.
pub(crate) const CALL: usize = 3;

/// Remaps that may be planned and not recorded.
const PLANNED: usize = 16;

/// What an origin of so many sectors is known by that holds zeroes only.
pub(crate) fn empty_origin(sectors: u64) -> Identity {
    let digest = Identity::digest(&[0; BLOCK_SIZE]);
    let mut identity = Identity {
        digests: [digest; SAMPLES],
    };
    for (i, digest) in identity.digests.iter_mut().enumerate() {
        // A part of a block is not looked at.
        if Identity::position(i, sectors) / 8 >= sectors / 8 {
            *digest = 0;
        }
    }
    identity
}

/// A loaded store, and what the engine would hold of it.
pub(crate) struct Session {
    pub(crate) store: KBox<dyn ExceptionStore>,
    device: Ram,
    planned: StdVec<Remap>,
    /// Deleted in the batch with this number, or in one before.
    deleted: StdVec<(u64, SnapId)>,
    out: Option<LogWrite>,
    checkpoint: Option<CheckpointWrite>,
    batch: u64,
}

impl Session {
    /// Loads the store on `device`.
    pub(crate) fn load(device: &Ram, read_only: bool) -> Result<Self, OpenError> {
        device.begin();
        let open = Open::peek(device.clone(), read_only)?;
        let _ = (open.identity(), open.needs_check(), open.origin_sectors());
        Ok(Self {
            store: load(open)?,
            device: device.clone(),
            planned: StdVec::new(),
            deleted: StdVec::new(),
            out: None,
            checkpoint: None,
            batch: 0,
        })
    }

    /// Makes the calls that `data` names. Ends early if the store cannot be loaded again.
    pub(crate) fn run(mut self, data: &[u8]) -> Option<Self> {
        for call in data.chunks_exact(CALL) {
            self.device.begin();
            if self.store.is_poisoned() || call[0] % 32 == 31 {
                self = self.again(call[1], call[2])?;
            }
            // What is refused is refused; the next call says whether all is well.
            let _ = self.call(call[0], call[1], call[2]);
        }
        Some(self)
    }

    /// The machine stops, with or without the dirty blocks written, and comes back.
    fn again(self, how: u8, last: u8) -> Option<Self> {
        let mut device = self.device.clone();
        let mut store = self.store;
        if store.is_poisoned() && last % 2 == 0 {
            if let Ok(write) = store.give_up(last % 4 == 0) {
                let _ = device.write_raw(write.nr, &write.block);
                store.checkpointed(write, Ok(()));
            }
        }
        drop(store);
        if how % 2 == 0 {
            let _ = device.write_dirty();
        }
        device.cut();
        Self::load(&device, how % 8 == 7).ok()
    }

    fn id(&self, n: u8) -> SnapId {
        let from = SnapId(u64::from(n) << 31);
        let live = self
            .store
            .live_range(from)
            .or(self.store.live_range(SnapId(0)));
        live.map_or(
            SnapId::top(n.into()),
            |(lo, hi)| {
                if n % 4 == 3 {
                    hi
                } else {
                    lo
                }
            },
        )
    }

    fn plan(&mut self, remap: Remap) {
        if self.planned.len() < PLANNED {
            self.planned.push(remap);
        } else {
            self.store.give_back(remap);
        }
    }

    /// One call, and those that go with it.
    pub(crate) fn call(&mut self, what: u8, a: u8, b: u8) -> Result {
        let chunk = Chunk(u64::from(b));
        let id = self.id(a);
        match what % 32 {
            0..=3 => {
                self.store.reset_query(chunk)?;
                for _ in 0..8 {
                    let Some(ids) = self.store.query_next_remap()? else {
                        break;
                    };
                    match self.store.add_next_remap() {
                        Ok(remap) => self.plan(remap),
                        Err(_) => self.store.record_lost(chunk, ids)?,
                    }
                }
                if what % 32 < 3 {
                    self.record()?;
                }
            }
            4 | 5 => {
                self.store.find(chunk, id)?;
            }
            6..=8 => {
                if let Writeable::Copy { remap, .. } = self.store.make_chunk_writeable(chunk, id)? {
                    self.plan(remap);
                }
                if what % 32 < 8 {
                    self.record()?;
                }
            }
            9 => self.store.record_zero(chunk, id)?,
            10 => self.record()?,
            11 => {
                if let Some(remap) = self.planned.pop() {
                    self.store.give_back(remap);
                }
            }
            12 | 13 => {
                let parent = (what % 32 == 13).then_some(id);
                let _ = self.store.next_id(parent);
                let name = [b'n'; 40];
                let name = name.get(..usize::from(b) % 64).unwrap_or(b"");
                self.store.create(parent, b.into(), name)?;
            }
            14 => self.store.rename(id, &[a; 9])?,
            15 => {
                self.store.delete(id)?;
                self.deleted.push((self.batch, id));
            }
            16 | 17 => self.seal(b)?,
            18 => self.freeze(None)?,
            19 => self.thaw(b),
            20 => {
                self.seal(0)?;
                self.freeze(None)?;
                self.thaw(0);
            }
            21..=23 => {
                for _ in 0..=a % 64 {
                    if !self.store.sweep_step()? {
                        break;
                    }
                }
            }
            24 => {
                let mark = self.store.free_mark();
                self.store.free_passed(mark.unwrap_or(0));
            }
            25 => {
                let geometry = self.store.geometry();
                let origin = geometry.origin_sectors.saturating_add(a.into());
                let len = self.device.len() * 8;
                self.store.resize(origin, len)?;
            }
            26 => self.store.record_all_lost()?,
            27 => {
                let mut from = SnapId(0);
                for _ in 0..a {
                    let Some(info) = self.store.snapshot_from(from)? else {
                        break;
                    };
                    let Some(next) = info.id.0.checked_add(1) else {
                        break;
                    };
                    from = SnapId(next);
                }
            }
            28 => {
                let _ = (self.store.space(), self.store.checkpoint_wanted());
                let _ = (self.store.has_room(a.into()), self.store.sweep_position());
            }
            29 => self.device.fail_after(u64::from(a)),
            _ => {
                self.seal(0)?;
                self.freeze(Some(&empty_origin(super::base::ORIGIN)))?;
                self.thaw(0);
            }
        }
        Ok(())
    }

    fn record(&mut self) -> Result {
        while let Some(remap) = self.planned.pop() {
            if let Err(e) = self.store.record(&remap) {
                self.store.give_back(remap);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Writes the batch; `how` says what becomes of the write.
    fn seal(&mut self, how: u8) -> Result {
        if self.out.is_none() {
            self.out = self.store.seal()?;
            self.batch += 1;
        }
        let Some(write) = self.out.take() else {
            return Ok(());
        };
        if how % 8 == 7 {
            self.out = Some(write);
            return Ok(());
        }
        let count = if how % 8 == 6 {
            write.count / 2
        } else {
            write.count
        };
        let mut result = if how % 8 == 6 { Err(EIO) } else { Ok(()) };
        for (nr, block) in (write.nr..).zip(&write.buf).take(count) {
            result = result.and(self.device.write_raw(nr, block));
        }
        self.store.sealed(write, result);
        if result.is_ok() {
            for (batch, id) in core::mem::take(&mut self.deleted) {
                if batch < self.batch {
                    self.store.forget(id)?;
                }
            }
        }
        Ok(())
    }

    fn freeze(&mut self, clean: Option<&Identity>) -> Result {
        if self.checkpoint.is_none() && self.out.is_none() {
            self.checkpoint = Some(self.store.checkpoint(clean)?);
        }
        Ok(())
    }

    /// Writes the checkpoint that is out; `how` says what becomes of it.
    fn thaw(&mut self, how: u8) {
        let Some(write) = self.checkpoint.take() else {
            return;
        };
        let mut result = self.device.write_dirty();
        if result.is_ok() && how % 8 != 7 {
            result = self.device.write_raw(write.nr, &write.block);
        }
        if how % 8 >= 6 {
            result = Err(EIO);
        }
        self.store.checkpointed(write, result);
    }
}

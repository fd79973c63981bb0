// SPDX-License-Identifier: GPL-2.0

//! The store's view of the simulated device: a buffer cache that behaves like dm-bufio.
//!
//! Dirty buffers may be written at any time, and those that were forgotten too. A fuse lets all
//! writes fail from some point on, which is a power cut seen from inside.

use super::{
    disk::{Disk, WriteId, BLOCK_SECTORS},
    rng::Rng,
};
use crate::store::{
    blocks::{Block, Blocks},
    format,
};
use kernel::prelude::*;
use std::collections::{btree_map::Entry, BTreeMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

struct Buffer {
    data: Box<Block>,
    dirty: bool,
    writing: bool,
}

/// The store's device and its buffers.
pub(crate) struct Device {
    /// What is below.
    pub(crate) disk: Disk,
    buffers: BTreeMap<u64, Buffer>,
    rng: Rng,
    /// Write steps until the power fails.
    fuse: Option<usize>,
}

/// The store's device, shared by the store and the simulator.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Device>>);

impl Shared {
    /// A device without buffers.
    pub(crate) fn new(disk: Disk, seed: u64) -> Self {
        Shared(Arc::new(Mutex::new(Device {
            disk,
            buffers: BTreeMap::new(),
            rng: Rng::new(seed),
            fuse: None,
        })))
    }

    /// The device itself.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Device> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Device {
    /// Lets the power fail after this many write steps.
    pub(crate) fn set_fuse(&mut self, steps: usize) {
        self.fuse = Some(steps);
    }

    /// Lets the power stay.
    pub(crate) fn clear_fuse(&mut self) {
        self.fuse = None;
    }

    /// Whether the power has failed.
    pub(crate) fn is_dead(&self) -> bool {
        self.fuse == Some(0)
    }

    fn step(&mut self) -> Result {
        if let Some(left) = &mut self.fuse {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(EIO);
            }
        }
        Ok(())
    }

    /// Blocks that are to be written, or being written.
    pub(crate) fn unwritten(&self) -> Vec<u64> {
        self.buffers
            .iter()
            .filter(|(_, b)| b.dirty || b.writing)
            .map(|(nr, _)| *nr)
            .collect()
    }

    /// Begins to write block `nr`, if it is dirty and not being written.
    pub(crate) fn start_write(&mut self, nr: u64) -> Option<WriteId> {
        let buffer = self.buffers.get_mut(&nr)?;
        if !buffer.dirty || buffer.writing {
            return None;
        }
        buffer.dirty = false;
        buffer.writing = true;
        format::seal(&mut buffer.data, crc32c);
        Some(self.disk.submit_block(nr, &buffer.data, false))
    }

    /// The write of block `nr` has ended.
    pub(crate) fn end_write(&mut self, nr: u64, id: WriteId) {
        self.disk.complete(id);
        if let Some(buffer) = self.buffers.get_mut(&nr) {
            buffer.writing = false;
        }
    }

    /// Whether block `nr` still has to reach the disk.
    pub(crate) fn is_unwritten(&self, nr: u64) -> bool {
        self.buffers.get(&nr).is_some_and(|b| b.dirty || b.writing)
    }

    /// Drops some buffers that are clean.
    pub(crate) fn evict(&mut self) {
        let rng = &mut self.rng;
        self.buffers
            .retain(|_, b| b.dirty || b.writing || !rng.one_in(4));
    }

    fn buffer(&mut self, nr: u64) -> Result<&mut Buffer> {
        if nr * BLOCK_SECTORS >= self.disk.len() || self.is_dead() {
            return Err(EIO);
        }
        match self.buffers.entry(nr) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let data = Box::new(self.disk.read_block(nr));
                format::check_block(&data, crc32c)?;
                Ok(entry.insert(Buffer {
                    data,
                    dirty: false,
                    writing: false,
                }))
            }
        }
    }

    fn write_now(&mut self, nr: u64, block: &Block, fua: bool) -> Result {
        self.step()?;
        let id = self.disk.submit_block(nr, block, fua);
        // A cut here finds it flying.
        self.step()?;
        self.disk.complete(id);
        Ok(())
    }
}

impl Blocks for Shared {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.lock().disk.len() / BLOCK_SECTORS
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        f(&self.lock().buffer(nr)?.data)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut device = self.lock();
        let buffer = device.buffer(nr)?;
        buffer.dirty = true;
        f(&mut buffer.data)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut device = self.lock();
        if nr * BLOCK_SECTORS >= device.disk.len() || device.is_dead() {
            return Err(EIO);
        }
        let buffer = device.buffers.entry(nr).or_insert_with(|| Buffer {
            data: Box::new([0; 4096]),
            dirty: false,
            writing: false,
        });
        buffer.data.fill(0);
        buffer.dirty = true;
        f(&mut buffer.data)
    }

    fn forget(&mut self, nr: u64) {
        let mut device = self.lock();
        // As bufio does: a dirty buffer may stay, and be written later.
        let drop = device.rng.one_in(2);
        if let Some(buffer) = device.buffers.get(&nr) {
            if !buffer.writing && (!buffer.dirty || drop) {
                device.buffers.remove(&nr);
            }
        }
    }

    fn prefetch(&mut self, _nr: u64) {}

    fn forget_all(&mut self) {
        let mut device = self.lock();
        device
            .buffers
            .retain(|_, buffer| buffer.dirty || buffer.writing);
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        let device = self.lock();
        if nr * BLOCK_SECTORS >= device.disk.len() || device.is_dead() {
            return Err(EIO);
        }
        *block = device.disk.read_block(nr);
        Ok(())
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        self.lock().write_now(nr, block, true)
    }

    fn write_dirty(&mut self) -> Result {
        let mut device = self.lock();
        let mut todo = device.unwritten();
        device.rng.shuffle(&mut todo);
        for nr in todo {
            device.step()?;
            if let Some(id) = device.start_write(nr) {
                device.step()?;
                device.end_write(nr, id);
            }
        }
        let mark = device.disk.begin_flush();
        device.step()?;
        device.disk.end_flush(mark);
        Ok(())
    }
}

fn crc32c(seed: u32, data: &[u8]) -> u32 {
    // The crate inverts before and after.
    !crc32c::crc32c_append(!seed, data)
}

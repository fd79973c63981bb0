// SPDX-License-Identifier: GPL-2.0

//! Where an image is: blocks of 4 KiB that can be read and written, and a cache of some of them.

use crate::store::{
    blocks::{Block, Blocks, BLOCK_SIZE},
    format,
};
use kernel::prelude::*;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};
use zerocopy_derive::*;

/// Bytes of a block of metadata, and of a page.
pub const PAGE_BYTES: usize = BLOCK_SIZE;

/// A block of 4 KiB in memory that can be read and written past the page cache.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Page(pub [u8; PAGE_BYTES]);

impl Page {
    /// All zeroes.
    pub const ZERO: Self = Self([0; PAGE_BYTES]);
}

/// The bytes of some pages.
pub fn bytes(pages: &[Page]) -> &[u8] {
    pages.as_bytes()
}

/// The bytes of some pages, to be changed.
pub fn bytes_mut(pages: &mut [Page]) -> &mut [u8] {
    pages.as_mut_bytes()
}

/// A file or a block device that holds a store. All is counted in blocks of 4 KiB.
pub trait Device: Send + Sync {
    /// Blocks on it; what is beyond is cut off.
    fn blocks(&self) -> u64;

    /// Fills `pages` from block `nr` on.
    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()>;

    /// Writes `pages` from block `nr` on.
    fn write(&self, nr: u64, pages: &[Page]) -> io::Result<()>;

    /// Makes durable what was written.
    fn sync(&self) -> io::Result<()>;
}

/// Clean blocks that are kept in memory.
const CLEAN_MAX: usize = 4096;

struct Cached {
    block: Box<Block>,
    dirty: bool,
    used: bool,
}

struct Inner {
    device: Arc<dyn Device>,
    /// Blocks that the device is said to have, if that is not what it has.
    len: Option<u64>,
    cache: HashMap<u64, Cached>,
    clean: usize,
    /// The superblock, if it is to be written last; or what it was, if it is damaged.
    held: Option<Box<Block>>,
    /// Its copy, if that is to be written last.
    held_copy: Option<Box<Block>>,
    hold: bool,
    /// What cannot be read of the header is as if it were zero.
    forgiving: bool,
}

/// A device as the stores see it. Clones are the same one.
#[derive(Clone)]
pub(super) struct Cache(Arc<Mutex<Inner>>);

impl Cache {
    /// `len`: say that the device has so many blocks; what is not there cannot be read.
    pub(super) fn new(device: Arc<dyn Device>, len: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            device,
            len,
            cache: HashMap::new(),
            clean: 0,
            held: None,
            held_copy: None,
            hold: false,
            forgiving: false,
        })))
    }

    /// The superblock as its copy says that it was; `None` if there is no copy.
    pub(super) fn copy(&self) -> Option<Box<Block>> {
        let nr = format::SUPER_COPY_NR;
        let mut block = self.lock().load(nr).ok()?;
        let head = format::header(&block);
        let ours = head.kind.get() == format::Kind::Super as u32 && head.nr.get() == nr;
        if !ours || !format::check_sum(&block, crc32c) {
            return None;
        }
        let uuid = head.uuid;
        format::set_header(&mut block, format::Kind::Super, &uuid, format::SUPER_NR, 0);
        format::seal(&mut block, crc32c);
        Some(block)
    }

    /// From here on the superblock is what its copy says that it was. `false` if there is no copy.
    pub(super) fn use_copy(&self) -> bool {
        let copy = self.copy();
        let found = copy.is_some();
        self.lock().held = copy;
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        match self.0.lock() {
            Ok(inner) => inner,
            Err(e) => e.into_inner(),
        }
    }

    /// From here on the superblock and its copy are not written before they are
    /// [released](Self::release).
    pub(super) fn hold(&self) {
        self.lock().hold = true;
    }

    /// Writes the superblock, and its copy before.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.hold = false;
        let (copy, block) = (inner.held_copy.take(), inner.held.take());
        for (nr, block) in [(format::SUPER_COPY_NR, copy), (format::SUPER_NR, block)] {
            if let Some(block) = block {
                inner.device.sync()?;
                inner.device.write(nr, &[Page(*block)])?;
            }
        }
        inner.device.sync()
    }

    /// From here on what cannot be read of the header is as if it were zero.
    pub(super) fn forgive(&self) {
        self.lock().forgiving = true;
    }

    /// Whether a block can be read.
    pub(super) fn is_readable(&self, nr: u64) -> bool {
        self.lock().load(nr).is_ok()
    }
}

impl Inner {
    fn load(&self, nr: u64) -> Result<Box<Block>> {
        if nr == format::SUPER_NR {
            if let Some(block) = &self.held {
                return Ok(block.clone());
            }
        }
        if nr >= self.device.blocks() {
            return Err(EIO);
        }
        let mut page = [Page::ZERO];
        if self.device.read(nr, &mut page).is_err() {
            if !self.forgiving || nr >= format::HEADER_BLOCKS {
                return Err(EIO);
            }
            page = [Page::ZERO];
        }
        Ok(Box::new(page[0].0))
    }

    fn cached(&mut self, nr: u64) -> Result<&mut Cached> {
        if !self.cache.contains_key(&nr) {
            self.fetch(nr)?;
        }
        let cached = self.cache.get_mut(&nr).ok_or(EIO)?;
        cached.used = true;
        Ok(cached)
    }

    /// Brings a block into the cache.
    fn fetch(&mut self, nr: u64) -> Result {
        let block = self.load(nr)?;
        format::check_block(&block, crc32c)?;
        self.make_room();
        self.clean += 1;
        let (dirty, used) = (false, false);
        self.cache.insert(nr, Cached { block, dirty, used });
        Ok(())
    }

    /// Lets go of the clean blocks that were not used since this was last done.
    fn make_room(&mut self) {
        if self.clean < CLEAN_MAX {
            return;
        }
        for pass in 0..2 {
            self.cache.retain(|_, cached| {
                let keep = cached.dirty || (cached.used && pass == 0);
                cached.used = false;
                keep
            });
            self.clean = self.cache.values().filter(|cached| !cached.dirty).count();
            if self.clean < CLEAN_MAX / 2 {
                return;
            }
        }
    }

    fn make_dirty(&mut self, nr: u64) {
        if let Some(cached) = self.cache.get_mut(&nr) {
            self.clean -= usize::from(!cached.dirty);
            cached.dirty = true;
        }
    }
}

/// crc32c the way the kernel does it: continued from `seed`, without inversions.
fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

impl Blocks for Cache {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        let inner = self.lock();
        inner.len.unwrap_or_else(|| inner.device.blocks())
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        // What `f` does may take long, but it never comes back here.
        let mut inner = self.lock();
        f(&inner.cached(nr)?.block)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        inner.cached(nr)?;
        inner.make_dirty(nr);
        f(&mut inner.cached(nr)?.block)
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.forget(nr);
        let cached = Cached {
            block: Box::new([0; BLOCK_SIZE]),
            dirty: true,
            used: true,
        };
        let mut inner = self.lock();
        inner.cache.insert(nr, cached);
        f(&mut inner.cached(nr)?.block)
    }

    fn forget(&mut self, nr: u64) {
        let mut inner = self.lock();
        if inner.cache.remove(&nr).is_some_and(|cached| !cached.dirty) {
            inner.clean -= 1;
        }
    }

    fn forget_all(&mut self) {
        let mut inner = self.lock();
        inner.cache.retain(|_, cached| cached.dirty);
        inner.clean = 0;
    }

    fn prefetch(&mut self, _nr: u64) {}

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        let loaded = self.lock().load(nr)?;
        block.copy_from_slice(&loaded[..]);
        Ok(())
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        let mut inner = self.lock();
        let is_super = format::header(block).kind.get() == format::Kind::Super as u32;
        if inner.hold && is_super {
            let held = match nr {
                format::SUPER_NR => &mut inner.held,
                _ => &mut inner.held_copy,
            };
            *held = Some(Box::new(*block));
            return Ok(());
        }
        inner.device.write(nr, &[Page(*block)]).map_err(|_| EIO)
    }

    fn write_dirty(&mut self) -> Result {
        let inner = &mut *self.lock();
        let mut dirty: std::vec::Vec<u64> = inner
            .cache
            .iter()
            .filter(|(_, cached)| cached.dirty)
            .map(|(nr, _)| *nr)
            .collect();
        dirty.sort_unstable();
        for nr in dirty {
            let cached = inner.cache.get_mut(&nr).ok_or(EIO)?;
            format::seal(&mut cached.block, crc32c);
            let page = [Page(*cached.block)];
            inner.device.write(nr, &page).map_err(|_| EIO)?;
            cached.dirty = false;
            inner.clean += 1;
        }
        inner.device.sync().map_err(|_| EIO)
    }
}

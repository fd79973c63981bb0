// SPDX-License-Identifier: GPL-2.0

//! A small device in memory: a shared image, and what was written over it.

use crate::store::blocks::{Block, Blocks, BLOCK_SIZE};
use crate::store::format;
use kernel::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec as StdVec;

/// Block reads of one call of the store beyond which it is taken to be endless.
///
/// Everything in an image of a few hundred blocks, once for each level of a tree, is far less.
const READS_MAX: u64 = 1_000_000;

/// crc32c the way the kernel does it: continued from `seed`, without inversions.
pub(crate) fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

/// The blocks of an image, shared with those it was made from; what is `None` is zero.
pub(crate) type Image = StdVec<Option<Arc<Block>>>;

/// A block that was read or changed in the cached way.
struct Cached {
    block: Arc<Block>,
    dirty: bool,
}

struct Inner {
    below: Arc<Image>,
    written: Image,
    cache: StdVec<Option<Cached>>,
    reads: u64,
    /// Calls until one fails, once.
    fail_after: Option<u64>,
}

/// The device. Its clones are the same one.
#[derive(Clone)]
pub(crate) struct Ram(Arc<Mutex<Inner>>);

impl Ram {
    /// A device that holds `image`.
    pub(crate) fn new(image: Arc<Image>) -> Self {
        let len = image.len();
        Self(Arc::new(Mutex::new(Inner {
            below: image,
            written: (0..len).map(|_| None).collect(),
            cache: (0..len).map(|_| None).collect(),
            reads: 0,
            fail_after: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        match self.0.lock() {
            Ok(inner) => inner,
            Err(e) => e.into_inner(),
        }
    }

    /// A new call of the store begins.
    pub(crate) fn begin(&self) {
        self.lock().reads = 0;
    }

    /// Lets the access after the next `n` fail.
    pub(crate) fn fail_after(&self, n: u64) {
        self.lock().fail_after = Some(n);
    }

    /// The machine stops: what is not written is gone.
    pub(crate) fn cut(&self) {
        let mut inner = self.lock();
        inner.cache.iter_mut().for_each(|cached| *cached = None);
        inner.fail_after = None;
    }

    /// What is on the device now.
    pub(crate) fn image(&self) -> Image {
        let inner = self.lock();
        (0..inner.below.len())
            .map(|nr| inner.on_disk(nr).cloned())
            .collect()
    }
}

impl Inner {
    fn on_disk(&self, nr: usize) -> Option<&Arc<Block>> {
        self.written[nr].as_ref().or(self.below[nr].as_ref())
    }

    /// Checks and counts an access.
    fn access(&mut self, nr: u64) -> Result<usize> {
        self.reads += 1;
        assert!(self.reads < READS_MAX, "no end is in sight");
        if let Some(n) = self.fail_after.as_mut() {
            if *n == 0 {
                self.fail_after = None;
                return Err(EIO);
            }
            *n -= 1;
        }
        usize::try_from(nr)
            .ok()
            .filter(|nr| *nr < self.below.len())
            .ok_or(EIO)
    }

    fn cached(&mut self, nr: u64) -> Result<&mut Cached> {
        let nr = self.access(nr)?;
        if self.cache[nr].is_none() {
            let block = self.on_disk(nr).ok_or(EILSEQ)?.clone();
            format::check_block(&block, crc32c)?;
            let dirty = false;
            self.cache[nr] = Some(Cached { block, dirty });
        }
        self.cache[nr].as_mut().ok_or(EIO)
    }
}

impl Blocks for Ram {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c(seed, data)
    }

    fn len(&self) -> u64 {
        self.lock().below.len() as u64
    }

    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        f(&self.lock().cached(nr)?.block)
    }

    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        let cached = inner.cached(nr)?;
        cached.dirty = true;
        f(Arc::make_mut(&mut cached.block))
    }

    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        let mut inner = self.lock();
        assert!(nr >= format::HEADER_BLOCKS, "metadata at block {nr}");
        let nr = inner.access(nr)?;
        let cached = inner.cache[nr].insert(Cached {
            block: Arc::new([0; BLOCK_SIZE]),
            dirty: true,
        });
        f(Arc::make_mut(&mut cached.block))
    }

    fn forget(&mut self, nr: u64) {
        if let Some(cached) = self.lock().cache.get_mut(nr as usize) {
            *cached = None;
        }
    }

    fn prefetch(&mut self, _nr: u64) {}

    fn forget_all(&mut self) {
        let mut inner = self.lock();
        for cached in &mut inner.cache {
            *cached = cached.take().filter(|cached| cached.dirty);
        }
    }

    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        let mut inner = self.lock();
        let nr = inner.access(nr)?;
        match inner.on_disk(nr) {
            Some(from) => *block = **from,
            None => block.fill(0),
        }
        Ok(())
    }

    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        let mut inner = self.lock();
        let nr = inner.access(nr)?;
        inner.written[nr] = Some(Arc::new(*block));
        Ok(())
    }

    fn write_dirty(&mut self) -> Result {
        let inner = &mut *self.lock();
        for (cached, to) in inner.cache.iter_mut().zip(&mut inner.written) {
            if let Some(cached) = cached.as_mut().filter(|cached| cached.dirty) {
                format::seal(Arc::make_mut(&mut cached.block), crc32c);
                *to = Some(cached.block.clone());
                cached.dirty = false;
            }
        }
        Ok(())
    }
}

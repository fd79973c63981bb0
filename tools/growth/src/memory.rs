// SPDX-License-Identifier: GPL-2.0

//! A large device in memory, of which only what was written takes room.

use crate::device::{Device, Page};
use std::{
    collections::HashMap,
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        Mutex, MutexGuard, PoisonError,
    },
};

/// Pages of which something was written; the others are zero.
pub struct Memory {
    blocks: u64,
    pages: Mutex<HashMap<u64, Box<Page>>>,
    written: AtomicU64,
}

impl Memory {
    /// A device of so many blocks of 4 KiB.
    pub fn new(blocks: u64) -> Self {
        Self {
            blocks,
            pages: Mutex::new(HashMap::new()),
            written: AtomicU64::new(0),
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn pages(&self) -> MutexGuard<'_, HashMap<u64, Box<Page>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Memory {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        let all = self.pages();
        for (nr, page) in (nr..).zip(pages) {
            *page = all.get(&nr).map_or(Page::ZERO, |page| **page);
        }
        Ok(())
    }

    fn write(&self, nr: u64, pages: &[Page]) -> io::Result<()> {
        let mut all = self.pages();
        for (nr, page) in (nr..).zip(pages) {
            all.insert(nr, Box::new(*page));
        }
        let bytes = pages.len() * size_of::<Page>();
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A large bitmap that takes memory only where bits are set, and forgets all of them at once.

use core::ptr::null_mut;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
};

/// Bits of a page.
const PAGE_BITS: u64 = 4096 * 8;

/// Pages that one node of the middle level leads to.
const NODE_PAGES: u64 = 256;

/// Most bits.
const MAX_BITS: u64 = 1 << 40;

/// How the bitmap takes memory: it never waits, and never complains.
fn gfp() -> Flags {
    GFP_NOWAIT | __GFP_NOWARN | __GFP_ZERO
}

/// What consists of atomic numbers and pointers only.
///
/// # Safety
///
/// Zeroes are a value of the type.
unsafe trait Zero {}

// SAFETY: An atomic number may be 0.
unsafe impl Zero for Words {}

// SAFETY: An atomic pointer may be null, an atomic number 0.
unsafe impl Zero for Node {}

type Words = [Atomic<u64>; 512];

/// A page, and the generation that its bits belong to.
///
/// # Invariants
///
/// `words` is null, or a page that stays until the bitmap is dropped. A bit was set after
/// `generation` had got its value, and before it gets another one.
struct Entry {
    words: Atomic<*mut Words>,
    generation: Atomic<u64>,
}

type Node = [Entry; NODE_PAGES as usize];

/// A bitmap whose bits belong to a generation; bits of other generations read as clear.
///
/// Any number of threads may test bits, in any context, while one thread sets them. Memory is
/// taken with the first bit of a page that is set; a bit for which there is none stays clear. So
/// a set bit can be relied on, and a clear one says nothing.
///
/// # Invariants
///
/// Each entry of `nodes` is null, or a node that stays until the bitmap is dropped.
pub(crate) struct LazyBits {
    bits: u64,
    max_pages: u32,
    pages: Atomic<u32>,
    nodes: KVVec<Atomic<*mut Node>>,
}

impl LazyBits {
    /// `bits` (at most 2^40) bits, all clear, that take at most `max_pages` pages of 4 KiB.
    pub(crate) fn new(bits: u64, max_pages: u32) -> Result<Self> {
        if bits > MAX_BITS {
            return Err(EINVAL);
        }
        let count = bits.div_ceil(PAGE_BITS * NODE_PAGES) as usize;
        let mut nodes = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            nodes.push(Atomic::new(null_mut()), GFP_KERNEL)?;
        }
        Ok(Self {
            bits,
            max_pages,
            pages: Atomic::new(0),
            nodes,
        })
    }

    /// Number of pages taken.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.load(Relaxed)
    }

    /// Where `bit` is: its entry in a node, and its word in the page, and the word's bit.
    fn place(bit: u64) -> (usize, usize, u64) {
        let entry = bit / PAGE_BITS % NODE_PAGES;
        let word = bit % PAGE_BITS / 64;
        (entry as usize, word as usize, 1 << (bit % 64))
    }

    fn node(&self, bit: u64) -> Option<&Atomic<*mut Node>> {
        if bit >= self.bits {
            return None;
        }
        self.nodes.get((bit / (PAGE_BITS * NODE_PAGES)) as usize)
    }

    /// Whether `bit` was set in `generation` (which is not 0). Any context.
    pub(crate) fn test(&self, bit: u64, generation: u64) -> bool {
        self.try_test(bit, generation).unwrap_or(false)
    }

    fn try_test(&self, bit: u64, generation: u64) -> Option<bool> {
        let (entry, word, mask) = Self::place(bit);
        let node = self.node(bit)?.load(Acquire);
        // SAFETY: Null or a node, by the type invariant; the acquire shows it initialised.
        let entry = unsafe { node.as_ref() }?.get(entry)?;
        if generation == 0 || entry.generation.load(Acquire) != generation {
            return Some(false);
        }
        let words = entry.words.load(Acquire);
        // SAFETY: Null or a page, by the type invariant; the acquire shows it initialised.
        let set = unsafe { words.as_ref() }?.get(word)?.load(Acquire) & mask != 0;
        // The acquire shows the generation that the bit was set in, or a later one: if it is
        // still ours, so is the bit.
        Some(set && entry.generation.load(Relaxed) == generation)
    }

    /// Sets `bit` in `generation` (which is not 0), if memory can be had for it.
    ///
    /// Generations only grow; a bit of an older one than its page has is not set. For one thread
    /// at a time; any context.
    pub(crate) fn set(&self, bit: u64, generation: u64) {
        // Without memory the bit stays clear.
        let _ = self.try_set(bit, generation);
    }

    fn try_set(&self, bit: u64, generation: u64) -> Result<(), AllocError> {
        let (entry, word, mask) = Self::place(bit);
        let Some(node) = self.node(bit) else {
            return Ok(());
        };
        let node = self.get(node)?;
        let Some(entry) = node.get(entry) else {
            return Ok(());
        };
        let words = self.get(&entry.words)?;
        let Some(word) = words.get(word) else {
            return Ok(());
        };

        let current = entry.generation.load(Relaxed);
        if generation == 0 || generation < current {
            return Ok(());
        }
        if generation > current {
            // Invalid first. Bits are set with release, so that whoever sees one of the new
            // generation sees this as well.
            entry.generation.store(0, Relaxed);
            for word in words {
                word.store(0, Relaxed);
            }
            // INVARIANT: Cleared before anyone sees the new generation.
            entry.generation.store(generation, Release);
        }
        let mut old = word.load(Relaxed);
        while old & mask == 0 {
            match word.cmpxchg(old, old | mask, Full) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        Ok(())
    }

    /// What `slot` points to; makes it if it is not there.
    fn get<T: Zero>(&self, slot: &Atomic<*mut T>) -> Result<&T, AllocError> {
        let mut ptr = slot.load(Acquire);
        if ptr.is_null() {
            if self.pages() >= self.max_pages {
                return Err(AllocError);
            }
            let new = KBox::<T>::new_uninit(gfp())?;
            // SAFETY: The memory is zeroed, and zeroes are a value of the type. (Made in place: a
            // page is too much for the stack.)
            let new = KBox::into_raw(unsafe { new.assume_init() });
            // INVARIANT: It stays until the bitmap is dropped.
            match slot.cmpxchg(null_mut(), new, Full) {
                Ok(_) => {
                    self.pages.add(1, Relaxed);
                    ptr = new;
                }
                Err(other) => {
                    // Another thread was faster.
                    // SAFETY: It is ours: nobody has seen it.
                    drop(unsafe { KBox::from_raw(new) });
                    ptr = other;
                }
            }
        }
        // SAFETY: It stays until the bitmap is dropped, and is only borrowed shared.
        Ok(unsafe { &*ptr })
    }
}

impl Drop for LazyBits {
    fn drop(&mut self) {
        for node in self.nodes.iter() {
            let node = node.load(Relaxed);
            if node.is_null() {
                continue;
            }
            // SAFETY: It is ours by the type invariant, and nobody else sees the bitmap.
            let node = unsafe { KBox::from_raw(node) };
            for entry in node.iter() {
                let words = entry.words.load(Relaxed);
                if !words.is_null() {
                    // SAFETY: As above.
                    drop(unsafe { KBox::from_raw(words) });
                }
            }
        }
    }
}

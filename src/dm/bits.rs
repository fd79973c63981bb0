// SPDX-License-Identifier: GPL-2.0

//! A large bitmap that takes memory only where bits are set, and forgets all of them at once.

use core::ptr::null_mut;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        rcu, //
    },
};

/// Bits of a page.
const PAGE_BITS: u64 = 4096 * 8;

/// Pages that one node of the lower level leads to.
const NODE_PAGES: u64 = 256;

/// Nodes that one branch of the upper level leads to.
const BRANCH_NODES: u64 = 512;

/// Bits below a branch.
const BRANCH_BITS: u64 = PAGE_BITS * NODE_PAGES * BRANCH_NODES;

/// Most branches.
const BRANCHES: usize = 256;

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

// SAFETY: An atomic pointer may be null.
unsafe impl Zero for Branch {}

type Words = [Atomic<u64>; 512];

/// A page, and the generation that its bits belong to.
///
/// # Invariants
///
/// `words` is null, or a page of its own that stays as long as the node. A bit was set after
/// `generation` had got its value, and before it gets another one.
struct Entry {
    words: Atomic<*mut Words>,
    generation: Atomic<u64>,
}

type Node = [Entry; NODE_PAGES as usize];

/// Each is null, or a node of its own that stays as long as the branch.
type Branch = [Atomic<*mut Node>; BRANCH_NODES as usize];

/// A bitmap whose bits belong to a generation; bits of other generations read as clear.
///
/// Any number of threads may test bits, in any context, while one thread sets them. Memory is
/// taken with the first bit of a page that is set; a bit for which there is none stays clear, as
/// does one beyond the end (2^40). So a set bit can be relied on, and a clear one says nothing.
///
/// # Invariants
///
/// Each entry of `branches` is null, or a branch that stays until it has been taken out of its
/// place and an RCU grace period has passed, or until the bitmap is dropped.
pub(crate) struct LazyBits {
    max_pages: Atomic<u32>,
    pages: Atomic<u32>,
    branches: KVec<Atomic<*mut Branch>>,
}

impl LazyBits {
    /// A bitmap, all clear, that takes at most `max_pages` pages of 4 KiB.
    pub(crate) fn new(max_pages: u32) -> Result<Self> {
        let mut branches = KVec::with_capacity(BRANCHES, GFP_KERNEL)?;
        for _ in 0..BRANCHES {
            branches.push(Atomic::new(null_mut()), GFP_KERNEL)?;
        }
        Ok(Self {
            max_pages: Atomic::new(max_pages),
            pages: Atomic::new(0),
            branches,
        })
    }

    /// Number of pages taken.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.load(Relaxed)
    }

    /// Changes how many pages it takes at most. If it has more than that, all bits are forgotten,
    /// which may sleep.
    pub(crate) fn set_max_pages(&self, max_pages: u32) {
        self.max_pages.store(max_pages, Relaxed);
        if self.pages() <= max_pages {
            return;
        }
        for place in self.branches.iter() {
            let branch = place.xchg(null_mut(), Full);
            if !branch.is_null() {
                rcu::synchronize_rcu();
                // SAFETY: It is ours by the type invariant; whoever found it in its place before
                // has ended, as the grace period is over.
                let freed = unsafe { Self::free(branch) };
                self.pages.fetch_sub(freed, Relaxed);
            }
        }
    }

    /// Where `bit` is: its node in the branch, its entry in a node, its word in the page, and the
    /// word's bit.
    fn place(bit: u64) -> (usize, usize, usize, u64) {
        let node = bit / (PAGE_BITS * NODE_PAGES) % BRANCH_NODES;
        let entry = bit / PAGE_BITS % NODE_PAGES;
        let word = bit % PAGE_BITS / 64;
        (
            node as usize,
            entry as usize,
            word as usize,
            1 << (bit % 64),
        )
    }

    fn branch(&self, bit: u64) -> Option<&Atomic<*mut Branch>> {
        self.branches.get((bit / BRANCH_BITS) as usize)
    }

    /// Whether `bit` was set in `generation` (which is not 0). Any context.
    pub(crate) fn test(&self, bit: u64, generation: u64) -> bool {
        self.try_test(bit, generation).unwrap_or(false)
    }

    fn try_test(&self, bit: u64, generation: u64) -> Option<bool> {
        let (node, entry, word, mask) = Self::place(bit);
        let place = self.branch(bit)?;
        // What is found below stays until it is dropped.
        let _rcu = rcu::read_lock();
        let branch = place.load(Acquire);
        // SAFETY: Null or a branch, by the type invariant; the acquire shows it initialised.
        let node = unsafe { branch.as_ref() }?.get(node)?.load(Acquire);
        // SAFETY: Null or a node, which stays as long as the branch.
        let entry = unsafe { node.as_ref() }?.get(entry)?;
        if generation == 0 || entry.generation.load(Acquire) != generation {
            return Some(false);
        }
        let words = entry.words.load(Acquire);
        // SAFETY: Null or a page, which stays as long as the node.
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
        let (node, entry, word, mask) = Self::place(bit);
        let Some(place) = self.branch(bit) else {
            return Ok(());
        };
        let rcu = rcu::read_lock();
        let Some(node) = self.get(place, &rcu)?.get(node) else {
            return Ok(());
        };
        let Some(entry) = self.get(node, &rcu)?.get(entry) else {
            return Ok(());
        };
        let words = self.get(&entry.words, &rcu)?;
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
    fn get<'a, T: Zero>(
        &self,
        slot: &Atomic<*mut T>,
        _rcu: &'a rcu::Guard,
    ) -> Result<&'a T, AllocError> {
        let mut ptr = slot.load(Acquire);
        if ptr.is_null() {
            if self.pages() >= self.max_pages.load(Relaxed) {
                return Err(AllocError);
            }
            let new = KBox::<T>::new_uninit(gfp())?;
            // SAFETY: The memory is zeroed, and zeroes are a value of the type. (Made in place: a
            // page is too much for the stack.)
            let new = KBox::into_raw(unsafe { new.assume_init() });
            // INVARIANT: It is in its place, or goes with what the place is in.
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
        // SAFETY: It stays until the grace period that our guard holds up is over, and is only
        // borrowed shared.
        Ok(unsafe { &*ptr })
    }

    /// Frees a branch and all below it, and answers how many pages that were.
    ///
    /// # Safety
    ///
    /// The caller owns the branch, and nobody else sees it.
    unsafe fn free(branch: *mut Branch) -> u32 {
        let mut pages = 1;
        // SAFETY: By the function's contract.
        let branch = unsafe { KBox::from_raw(branch) };
        for node in branch.iter() {
            let node = node.load(Relaxed);
            if node.is_null() {
                continue;
            }
            pages += 1;
            // SAFETY: It is the branch's own.
            let node = unsafe { KBox::from_raw(node) };
            for entry in node.iter() {
                let words = entry.words.load(Relaxed);
                if !words.is_null() {
                    pages += 1;
                    // SAFETY: It is the node's own.
                    drop(unsafe { KBox::from_raw(words) });
                }
            }
        }
        pages
    }
}

impl Drop for LazyBits {
    fn drop(&mut self) {
        for branch in self.branches.iter() {
            let branch = branch.load(Relaxed);
            if !branch.is_null() {
                // SAFETY: It is ours by the type invariant, and nobody else sees the bitmap.
                unsafe { Self::free(branch) };
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A queue of bios, linked through the bios themselves.

use super::{
    bio::{
        Bio,
        BioData, //
    },
    ffi, //
};
use core::{
    marker::PhantomData,
    mem::{
        replace,
        ManuallyDrop, //
    },
    ptr::null_mut, //
};

/// A first-in first-out queue of bios that never allocates.
///
/// Dropping it ends what is in it with an I/O error. That calls into whoever issued the bios:
/// take the list out of its lock first.
///
/// # Invariants
///
/// `head` is null, or the first of `len` owned bios, given up with [`Bio::into_raw`], that are
/// linked by `bi_next`; the last one is `tail`, and its `bi_next` is null.
pub(crate) struct BioList<D: BioData> {
    head: *mut ffi::Bio,
    tail: *mut ffi::Bio,
    len: usize,
    _bios: PhantomData<Bio<D>>,
}

// SAFETY: It owns its bios, and a `Bio<D>` can be sent.
unsafe impl<D: BioData> Send for BioList<D> {}

// SAFETY: A shared list only shows its length and `&Bio<D>`.
unsafe impl<D: BioData> Sync for BioList<D> {}

impl<D: BioData> BioList<D> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            head: null_mut(),
            tail: null_mut(),
            len: 0,
            _bios: PhantomData,
        }
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds a bio at the end.
    pub(crate) fn push(&mut self, bio: Bio<D>) {
        let bio = bio.into_raw();
        // SAFETY: The bio is ours, and so is the last one; a bio that waits with a target uses
        // its `bi_next` for nothing else.
        unsafe {
            ffi::ms_bio_set_next(bio, null_mut());
            if self.tail.is_null() {
                self.head = bio;
            } else {
                ffi::ms_bio_set_next(self.tail, bio);
            }
        }
        // INVARIANT: `bio` is the last one now.
        self.tail = bio;
        self.len = self.len.wrapping_add(1);
    }

    /// Adds a bio at the front.
    pub(crate) fn push_front(&mut self, bio: Bio<D>) {
        let bio = bio.into_raw();
        // SAFETY: As in `push()`.
        unsafe { ffi::ms_bio_set_next(bio, self.head) };
        // INVARIANT: `bio` is the first one now.
        self.head = bio;
        if self.tail.is_null() {
            self.tail = bio;
        }
        self.len = self.len.wrapping_add(1);
    }

    /// Takes the first bio out.
    pub(crate) fn pop(&mut self) -> Option<Bio<D>> {
        let bio = self.head;
        if bio.is_null() {
            return None;
        }
        // INVARIANT: The rest of the list is a list.
        // SAFETY: The bio is ours. A bio with a stale `bi_next` must not be sent on.
        unsafe {
            self.head = ffi::ms_bio_next(bio);
            ffi::ms_bio_set_next(bio, null_mut());
        }
        if self.head.is_null() {
            self.tail = null_mut();
        }
        self.len = self.len.wrapping_sub(1);
        // SAFETY: It came from `into_raw()`, and is out of the list.
        Some(unsafe { Bio::from_raw(bio) })
    }

    /// Moves all of `other` to the end.
    pub(crate) fn append(&mut self, other: &mut Self) {
        let other = ManuallyDrop::new(other.take());
        if other.is_empty() {
            return;
        }
        if self.tail.is_null() {
            self.head = other.head;
        } else {
            // SAFETY: The last bio is ours.
            unsafe { ffi::ms_bio_set_next(self.tail, other.head) };
        }
        // INVARIANT: Both lists in a row; `other` is forgotten.
        self.tail = other.tail;
        self.len = self.len.wrapping_add(other.len);
    }

    /// Takes all of it out.
    pub(crate) fn take(&mut self) -> Self {
        replace(self, Self::new())
    }
}

impl<D: BioData> Drop for BioList<D> {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One shared object of the module: what the targets' constructors, which are given no context,
//! have in common.

use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::sync::{
    atomic::{
        Acquire,
        Atomic,
        Full, //
    },
    rcu,
    Arc,
    ArcBorrow, //
};

/// A place for one [`Arc`] that lives as long as the module is loaded.
///
/// # Invariants
///
/// `ptr` is null, or came from [`Arc::into_raw`] and owns one reference. Whoever takes it out
/// gives that reference up after an RCU grace period only.
pub(crate) struct Global<T: Send + Sync + 'static> {
    ptr: Atomic<*mut T>,
    kind: PhantomData<Arc<T>>,
}

// SAFETY: The place owns an `Arc<T>`, which may be shared between and sent to all threads since
// `T` is `Send` and `Sync`; the word that holds it is atomic.
unsafe impl<T: Send + Sync + 'static> Sync for Global<T> {}

impl<T: Send + Sync + 'static> Global<T> {
    /// An empty place.
    pub(crate) const fn new() -> Self {
        // INVARIANT: It is null.
        Self {
            ptr: Atomic::new(null_mut()),
            kind: PhantomData,
        }
    }

    /// Fills the place until the answer is dropped. To be called once, at module load, before a
    /// target is registered; the answer is dropped after the targets are unregistered.
    pub(crate) fn fill(&'static self, object: Arc<T>) -> Filled<T> {
        self.put(Arc::into_raw(object).cast_mut());
        Filled(self)
    }

    /// Puts `ptr` there, and drops what was there. May sleep.
    ///
    /// `ptr` is null, or comes from [`Arc::into_raw`].
    fn put(&self, ptr: *mut T) {
        // INVARIANT: The reference moves into the place.
        let old = self.ptr.xchg(ptr, Full);
        if !old.is_null() {
            rcu::synchronize_rcu();
            // SAFETY: By the invariant the place owned this reference; it was taken out exactly
            // once, and nobody who saw it there is still about to take another from it.
            drop(unsafe { Arc::from_raw(old) });
        }
    }

    /// Another reference to the object; `None` before the module was set up.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        let _guard = rcu::read_lock();
        let ptr = self.ptr.load(Acquire);
        if ptr.is_null() {
            return None;
        }
        // SAFETY: By the invariant `ptr` came from `Arc::into_raw`, and the place's reference is
        // given up only after our read-side section, in which we take another.
        Some(unsafe { ArcBorrow::from_raw(ptr.cast_const()) }.into())
    }
}

/// Empties a [`Global`] when dropped.
pub(crate) struct Filled<T: Send + Sync + 'static>(&'static Global<T>);

impl<T: Send + Sync + 'static> Drop for Filled<T> {
    fn drop(&mut self) {
        self.0.put(null_mut());
    }
}

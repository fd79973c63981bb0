// SPDX-License-Identifier: GPL-2.0

//! Work queues of our own, and work items that can be kicked from anywhere.
//!
//! The `kernel` crate can put work on a queue, but neither make a queue nor wait for work to end.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::ffi;
use core::mem::ManuallyDrop;
use kernel::{
    bindings,
    container_of,
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
    types::Opaque, //
};

/// # Invariants
///
/// The queue is ours.
struct Queue(*mut ffi::Workqueue);

// SAFETY: A queue may be used and destroyed by any thread.
unsafe impl Send for Queue {}

// SAFETY: Queues do their own locking.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: Nobody puts work on it any more: each `Kick` has a reference to it, and waits
        // for its timer when it goes. This runs what is still queued.
        unsafe { ffi::destroy_workqueue(self.0) };
    }
}

/// A work queue that makes progress even when memory is short.
///
/// Its work items run at the same time; each by itself runs on one thread at a time. The last
/// reference (kicks have one too) must be dropped in process context, and by none of its items.
#[derive(Clone)]
pub(crate) struct WorkQueue(Arc<Queue>);

impl WorkQueue {
    /// A queue whose threads show that name.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is copied.
        let queue = unsafe { ffi::ms_queue_new(name.as_char_ptr()) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: It is ours.
        Ok(Self(Arc::new(Queue(queue), GFP_KERNEL)?))
    }
}

/// What a work item does.
pub(crate) trait Run: Send + Sync {
    /// Does it. Kicks that come from now on lead to another run.
    fn run(&self);
}

/// A work item.
///
/// It has one reference for its owner, one while `now` is queued or runs, and one while the same
/// holds for `later`.
#[pin_data]
struct Item {
    queue: *mut ffi::Workqueue,
    #[pin]
    handler: SpinLockIrq<Option<Arc<dyn Run>>>,
    #[pin]
    now: Opaque<bindings::work_struct>,
    #[pin]
    later: Opaque<bindings::delayed_work>,
}

// SAFETY: The queue pointer is not tied to a thread, and all else can be sent.
unsafe impl Send for Item {}

// SAFETY: Work items do their own locking.
unsafe impl Sync for Item {}

impl Item {
    fn now(&self) -> *mut ffi::Work {
        self.now.get().cast()
    }

    fn later(&self) -> *mut ffi::DelayedWork {
        self.later.get().cast()
    }

    fn kick(self: &Arc<Self>) {
        let item = ManuallyDrop::new(self.clone());
        // SAFETY: The item is initialised, and the reference that we have just given away keeps
        // it until `run_now()` takes it. The queue stays as long as the owner's `Kick`, or, if
        // `run_later()` calls us, as long as it takes the owner to wait for that.
        if !unsafe { ffi::ms_work_queue(self.queue, self.now()) } {
            // It was queued already, with a reference.
            drop(ManuallyDrop::into_inner(item));
        }
    }

    /// # Safety
    ///
    /// Called by the queue, for `now` of an item whose reference we take.
    unsafe extern "C" fn run_now(work: *mut ffi::Work) {
        let work = Opaque::cast_from(work.cast::<bindings::work_struct>());
        // SAFETY: `work` is that field; the reference was given away by `kick()`.
        let item = unsafe { Arc::from_raw(container_of!(work, Item, now)) };
        // The lock is not held while it runs.
        let handler = item.handler.lock().clone();
        if let Some(handler) = handler {
            handler.run();
        }
    }

    /// # Safety
    ///
    /// Called by the queue, for `later` of an item whose reference we take.
    unsafe extern "C" fn run_later(work: *mut ffi::Work) {
        // The work is the first field of a delayed work.
        let work = Opaque::cast_from(work.cast::<bindings::delayed_work>());
        // SAFETY: `work` is in that field; the reference was given away by `kick_after()`.
        let item = unsafe { Arc::from_raw(container_of!(work, Item, later)) };
        item.kick();
    }
}

// `run_later()` reckons with it.
const _: () = assert!(core::mem::offset_of!(bindings::delayed_work, work) == 0);

/// The owner of an item.
struct Owner {
    item: Arc<Item>,
    /// Keeps `item.queue`.
    _queue: WorkQueue,
}

impl Owner {
    fn stop(&self) {
        let handler = self.item.handler.lock().take();
        // SAFETY: Both works are initialised. If one was still queued, its reference comes back
        // to us.
        unsafe {
            if ffi::cancel_delayed_work_sync(self.item.later()) {
                drop(Arc::from_raw(Arc::as_ptr(&self.item)));
            }
            // A run that stops its own item cannot wait for itself.
            if ffi::current_work() != self.item.now() && ffi::cancel_work_sync(self.item.now()) {
                drop(Arc::from_raw(Arc::as_ptr(&self.item)));
            }
        }
        drop(handler);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A handle to a work item: something that runs on a queue after each kick.
#[derive(Clone)]
pub(crate) struct Kick(Arc<Owner>);

impl Kick {
    /// An item on `queue` that does nothing yet.
    pub(crate) fn new(queue: &WorkQueue) -> Result<Self> {
        let raw = queue.0 .0;
        let item = Arc::pin_init(
            pin_init!(Item {
                queue: raw,
                handler <- new_spinlock_irq!(None, "multisnapshot:kick"),
                now <- Opaque::ffi_init(|work: *mut bindings::work_struct| {
                    // SAFETY: It is memory for a work.
                    unsafe { ffi::ms_work_init(work.cast(), Item::run_now) }
                }),
                later <- Opaque::ffi_init(|work: *mut bindings::delayed_work| {
                    // SAFETY: It is memory for a delayed work.
                    unsafe { ffi::ms_dwork_init(work.cast(), Item::run_later) }
                }),
            }),
            GFP_KERNEL,
        )?;
        let owner = Owner {
            item,
            _queue: queue.clone(),
        };
        Ok(Self(Arc::new(owner, GFP_KERNEL)?))
    }

    /// From now on kicks run `handler`.
    ///
    /// This makes a cycle if the handler holds the `Kick`; [`stop`](Self::stop) breaks it.
    pub(crate) fn bind(&self, handler: Arc<dyn Run>) {
        let old = self.0.item.handler.lock().replace(handler);
        drop(old);
    }

    /// Has the handler run, now or after its present run. Any context.
    pub(crate) fn kick(&self) {
        self.0.item.kick();
    }

    /// Has the handler run after `ms` milliseconds; a kick of this kind that is already waiting
    /// then comes at that time instead. Any context.
    pub(crate) fn kick_after(&self, ms: u32) {
        let item = &self.0.item;
        // SAFETY: The item is initialised. If it waited, its reference comes back to us.
        unsafe {
            if ffi::cancel_delayed_work(item.later()) {
                drop(Arc::from_raw(Arc::as_ptr(item)));
            }
        }
        let given = ManuallyDrop::new(item.clone());
        // SAFETY: The item is initialised; the reference that we have just given away keeps it
        // until `run_later()` takes it. The owner waits for that before the queue goes.
        if !unsafe { ffi::ms_dwork_queue(item.queue, item.later(), ms) } {
            drop(ManuallyDrop::into_inner(given));
        }
    }

    /// Drops the handler, and waits until no run of it is left; later kicks do nothing.
    ///
    /// Process context. Called by the handler itself it does not wait for that very run.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }
}

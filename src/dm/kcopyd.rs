// SPDX-License-Identifier: GPL-2.0

//! Copies within and between block devices, by kcopyd.
//!
//! C header: [`include/linux/dm-kcopyd.h`](srctree/include/linux/dm-kcopyd.h)

use super::{
    device::BlockDev,
    ffi, //
};
use core::{
    cell::UnsafeCell,
    ptr::{
        null,
        null_mut, //
    },
};
use kernel::{
    error::from_err_ptr,
    ffi::{
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    },
};

/// Most destinations of one job.
pub(crate) const MAX_DESTS: usize = ffi::COPY_MAX_DESTS;

/// A range of a block device.
#[derive(Clone, Copy)]
pub(crate) struct Region<'a> {
    /// The device.
    pub(crate) dev: &'a BlockDev,
    /// First sector.
    pub(crate) sector: u64,
    /// Length in sectors.
    pub(crate) sectors: u64,
}

impl Region<'_> {
    fn raw(&self) -> ffi::Region {
        ffi::Region {
            bdev: self.dev.as_raw(),
            sector: self.sector,
            sectors: self.sectors,
        }
    }
}

/// Who wants to know that a job is done.
pub(crate) trait CopyDone: Send + Sync + 'static {
    /// The job of `slot` is done, and the slot free.
    ///
    /// With any error, no destination holds anything that can be relied on, even one whose bit
    /// in `write_errors` (bit n for destination n) is clear: kcopyd leaves a long job at the
    /// first error.
    ///
    /// Called on kcopyd's one thread: while this runs no other copy goes on. It should only
    /// queue something, and must not start a job.
    fn copy_done(&self, slot: u32, read_error: bool, write_errors: u32);
}

/// What the slot's job uses.
struct Job {
    source: Option<BlockDev>,
    dests: [Option<BlockDev>; MAX_DESTS],
    count: usize,
}

impl Job {
    const NONE: Job = Job {
        source: None,
        dests: [const { None }; MAX_DESTS],
        count: 0,
    };
}

/// The context of one job at a time.
///
/// `job` belongs to whoever turned `busy` from 0 to 1, then to kcopyd's callback, which turns it
/// back.
struct Slot<T> {
    done: Arc<T>,
    index: u32,
    busy: Atomic<i32>,
    job: UnsafeCell<Job>,
}

// SAFETY: `busy` hands `job` from one thread to the next; the rest is not changed.
unsafe impl<T: CopyDone> Sync for Slot<T> {}

/// A kcopyd client with a fixed number of jobs at a time.
///
/// Dropping it waits for all jobs; `T` must not own it. The last reference to a device that a job
/// uses may be dropped on kcopyd's thread.
///
/// # Invariants
///
/// `client` is a client, and only ours.
pub(crate) struct Kcopyd<T: CopyDone> {
    client: *mut ffi::KcopydClient,
    slots: KVec<Slot<T>>,
}

// SAFETY: A client may be used and destroyed by any thread.
unsafe impl<T: CopyDone> Send for Kcopyd<T> {}

// SAFETY: kcopyd serialises its callers, and each slot has one user at a time.
unsafe impl<T: CopyDone> Sync for Kcopyd<T> {}

impl<T: CopyDone> Kcopyd<T> {
    /// A client with `slots` jobs at a time; `done` hears of the end of each.
    pub(crate) fn new(slots: u32, done: Arc<T>) -> Result<Self> {
        let mut vec = KVec::with_capacity(slots as usize, GFP_KERNEL)?;
        for index in 0..slots {
            vec.push(
                Slot {
                    done: done.clone(),
                    index,
                    busy: Atomic::new(0),
                    job: UnsafeCell::new(Job::NONE),
                },
                GFP_KERNEL,
            )?;
        }
        // SAFETY: A client without throttle. INVARIANT: It is ours.
        let client = from_err_ptr(unsafe { ffi::dm_kcopyd_client_create(null_mut()) })?;
        Ok(Self { client, slots: vec })
    }

    /// Copies `from` to all of `to`.
    ///
    /// `EINVAL` if there are no destinations or more than [`MAX_DESTS`], or if the ranges are
    /// empty or differ in length; `EBUSY` if the slot has a job. Allocates nothing of its own, but
    /// may sleep until kcopyd has a job free.
    pub(crate) fn copy(&self, slot: u32, from: Region<'_>, to: &[Region<'_>]) -> Result {
        self.start(slot, Some(from), to)
    }

    /// Writes zeroes to all of `to`. As [`copy`](Self::copy) otherwise.
    pub(crate) fn zero(&self, slot: u32, to: &[Region<'_>]) -> Result {
        self.start(slot, None, to)
    }

    fn start(&self, slot: u32, from: Option<Region<'_>>, to: &[Region<'_>]) -> Result {
        let slot = self.slots.get(slot as usize).ok_or(EINVAL)?;
        let sectors = to.first().ok_or(EINVAL)?.sectors;
        // kcopyd copies the destinations unchecked into an array, and takes the length of one
        // range for that of all.
        let same = |r: &Region<'_>| r.sectors == sectors;
        if to.len() > MAX_DESTS || sectors == 0 || !to.iter().all(same) {
            return Err(EINVAL);
        }
        if from.is_some_and(|from| !same(&from)) {
            return Err(EINVAL);
        }
        if slot.busy.cmpxchg(0, 1, Acquire).is_err() {
            return Err(EBUSY);
        }

        let mut raw = [ffi::Region {
            bdev: null_mut(),
            sector: 0,
            sectors: 0,
        }; MAX_DESTS];
        // SAFETY: We turned `busy` on: the job is ours until it is started below.
        let job = unsafe { &mut *slot.job.get() };
        job.source = from.map(|from| from.dev.clone());
        job.count = to.len();
        for ((dest, raw), region) in job.dests.iter_mut().zip(raw.iter_mut()).zip(to) {
            *dest = Some(region.dev.clone());
            *raw = region.raw();
        }

        let from = from.map(|from| from.raw());
        // SAFETY: kcopyd copies the ranges. The devices stay open through the job, the slot stays
        // through the client, whose destruction waits for the callback. From here on the job
        // belongs to the callback.
        unsafe {
            ffi::ms_copy(
                self.client,
                from.as_ref().map_or(null(), |from| from),
                to.len() as c_uint,
                raw.as_ptr(),
                Self::done,
                core::ptr::from_ref(slot).cast_mut().cast(),
            )
        };
        Ok(())
    }

    /// # Safety
    ///
    /// Called by kcopyd, once for each job; `context` is the slot that it was started with.
    unsafe extern "C" fn done(read_err: c_int, write_err: c_ulong, context: *mut c_void) {
        // SAFETY: The slot lives as long as the client, which waits for us.
        let slot = unsafe { &*context.cast_const().cast::<Slot<T>>() };
        // SAFETY: The job is ours until `busy` is turned off.
        let job = unsafe { slot.job.get().replace(Job::NONE) };
        slot.busy.store(0, Release);

        let all = (1u32 << job.count) - 1;
        // kcopyd sets all bits if it could not even start to write.
        let write_errors = write_err as u32 & all;
        slot.done.copy_done(slot.index, read_err != 0, write_errors);
    }
}

impl<T: CopyDone> Drop for Kcopyd<T> {
    fn drop(&mut self) {
        // SAFETY: The client is ours and not used again. This waits until the last callback has
        // returned; the slots are freed after that.
        unsafe { ffi::dm_kcopyd_client_destroy(self.client) };
    }
}

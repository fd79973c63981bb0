// SPDX-License-Identifier: GPL-2.0

//! I/O of our own on a block device, by dm-io.
//!
//! C header: [`include/linux/dm-io.h`](srctree/include/linux/dm-io.h)

use super::{
    bufio::{
        Block,
        BLOCK_SIZE, //
    },
    device::BlockDev,
    ffi, //
};
use core::{
    ops::{
        BitOr,
        Deref,
        DerefMut, //
    },
    pin::Pin,
    ptr::null, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion,
        Refcount, //
    },
};

const SECTORS_PER_BLOCK: u64 = BLOCK_SIZE as u64 / 512;

/// Most blocks of a [`PageBuf`].
pub(crate) const MAX_BLOCKS: u32 = 1024;

/// Most runs of one write.
pub(crate) const MAX_RUNS: usize = 2;

/// One block on a page of its own, as dm-io wants its memory.
#[repr(C, align(4096))]
#[derive(Zeroable)]
struct Page(Block);

/// State of the write that a buffer is in.
struct Job {
    /// The `Shared<T>` of the client.
    shared: *const c_void,
    tag: u64,
    /// One for each run under way, and one for whoever starts them.
    pending: Refcount,
    /// The errno of the first failure, or 0.
    error: Atomic<i32>,
}

struct Buffer {
    pages: KVec<Page>,
    job: Job,
}

/// A buffer of whole blocks, fit for I/O. Its size never changes.
///
/// It carries all that an asynchronous write needs, so that none allocates.
pub(crate) struct PageBuf(KBox<Buffer>);

// SAFETY: While the buffer has an owner no write uses `job`, whose pointer is stale then.
unsafe impl Send for PageBuf {}

// SAFETY: A shared buffer only shows its blocks.
unsafe impl Sync for PageBuf {}

impl PageBuf {
    /// A buffer of `blocks` (1 to [`MAX_BLOCKS`]) blocks of zeroes.
    pub(crate) fn new(blocks: u32) -> Result<Self> {
        if blocks == 0 || blocks > MAX_BLOCKS {
            return Err(EINVAL);
        }
        let pages = KVec::zeroed(blocks as usize, GFP_KERNEL)?;
        let job = Job {
            shared: null(),
            tag: 0,
            pending: Refcount::new(1),
            error: Atomic::new(0),
        };
        Ok(Self(KBox::new(Buffer { pages, job }, GFP_KERNEL)?))
    }

    /// Its size in blocks.
    pub(crate) fn blocks(&self) -> u32 {
        // `new()` made sure that it fits.
        self.0.pages.len() as u32
    }

    /// The memory of a run; `EINVAL` if it is empty or not within the buffer.
    fn range(&self, run: &Run) -> Result<*mut c_void> {
        let end = run.first.checked_add(run.blocks).ok_or(EINVAL)?;
        if run.blocks == 0 || end > self.blocks() {
            return Err(EINVAL);
        }
        let base = self.0.pages.as_ptr().cast_mut();
        // SAFETY: In bounds, as just checked.
        Ok(unsafe { base.add(run.first as usize) }.cast())
    }
}

impl Deref for PageBuf {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        let pages = self.0.pages.as_slice();
        // SAFETY: A `Page` is a `Block` with a stricter alignment and no padding.
        unsafe { core::slice::from_raw_parts(pages.as_ptr().cast(), pages.len()) }
    }
}

impl DerefMut for PageBuf {
    fn deref_mut(&mut self) -> &mut [Block] {
        let pages = self.0.pages.as_mut_slice();
        // SAFETY: As above, and borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len()) }
    }
}

/// How a write relates to the device's write cache.
#[derive(Clone, Copy)]
pub(crate) struct Flags(c_uint);

impl Flags {
    /// Everything that has ended before becomes durable before it.
    pub(crate) const PREFLUSH: Self = Self(ffi::IO_PREFLUSH);
    /// It is durable when it ends.
    pub(crate) const FUA: Self = Self(ffi::IO_FUA);
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Blocks `first..first + blocks` of a buffer, and where they lie on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// First sector on the device.
    pub(crate) sector: u64,
    /// First block in the buffer.
    pub(crate) first: u32,
    /// Number of blocks.
    pub(crate) blocks: u32,
}

impl Run {
    fn region(&self, dev: &BlockDev) -> ffi::Region {
        ffi::Region {
            bdev: dev.as_raw(),
            sector: self.sector,
            sectors: u64::from(self.blocks) * SECTORS_PER_BLOCK,
        }
    }
}

/// Who wants to know that an asynchronous write has ended.
pub(crate) trait IoDone: Send + Sync + 'static {
    /// The write with that tag has ended, and the buffer comes back. Any context, interrupts
    /// too; must not sleep, nor drop the buffer if that can be helped.
    fn io_done(&self, tag: u64, buf: PageBuf, result: Result);
}

/// For clients that only do synchronous I/O.
impl IoDone for () {
    fn io_done(&self, _tag: u64, _buf: PageBuf, _result: Result) {}
}

/// # Invariants
///
/// `client` is a dm-io client, and only ours.
#[pin_data(PinnedDrop)]
struct Shared<T> {
    client: *mut ffi::IoClient,
    dev: BlockDev,
    done: Arc<T>,
    /// One for the owner, and one for each write under way.
    users: Refcount,
    #[pin]
    idle: Completion,
}

impl<T> Shared<T> {
    fn put(&self) {
        if self.users.dec_and_test() {
            self.idle.complete_all();
        }
    }
}

#[pinned_drop]
impl<T> PinnedDrop for Shared<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The client is ours and not used again; no I/O is under way.
        unsafe { ffi::dm_io_client_destroy(self.client) };
    }
}

/// A device, and what is needed for I/O on it without fail.
///
/// Dropping it waits for its writes; `T` must not own it.
pub(crate) struct IoClient<T: IoDone>(Pin<KBox<Shared<T>>>);

// SAFETY: A client may be used and destroyed by any thread.
unsafe impl<T: IoDone> Send for IoClient<T> {}

// SAFETY: dm-io takes calls from any number of threads.
unsafe impl<T: IoDone> Sync for IoClient<T> {}

impl<T: IoDone> IoClient<T> {
    /// A client on `dev`; `done` hears of the end of each asynchronous write.
    pub(crate) fn new(dev: BlockDev, done: Arc<T>) -> Result<Self> {
        // SAFETY: It may be called at any time.
        let client = from_err_ptr(unsafe { ffi::dm_io_client_create() })?;
        let shared = KBox::pin_init(
            pin_init!(Shared {
                client,
                dev,
                done,
                users: Refcount::new(1),
                idle <- Completion::new(),
            }),
            GFP_KERNEL,
        );
        if shared.is_err() {
            // SAFETY: It is ours, and was never used.
            unsafe { ffi::dm_io_client_destroy(client) };
        }
        // INVARIANT: The client is ours.
        Ok(Self(shared?))
    }

    /// Writes runs of the buffer (1 or 2, in no order); the buffer comes back to
    /// [`IoDone::io_done`] when all have ended.
    ///
    /// With [`Flags::PREFLUSH`] the cache is flushed before each run. Runs that are not within the
    /// buffer end with `EINVAL`, before this returns. Process context; may sleep until dm-io has a
    /// request free, but never fails for lack of memory.
    pub(crate) fn write_async(&self, mut buf: PageBuf, runs: &[Run], flags: Flags, tag: u64) {
        let done = &self.0.done;
        if runs.is_empty() || runs.len() > MAX_RUNS {
            return done.io_done(tag, buf, Err(EINVAL));
        }
        for run in runs {
            if let Err(error) = buf.range(run) {
                return done.io_done(tag, buf, Err(error));
            }
        }

        self.0.users.inc();
        let job = &mut buf.0.job;
        job.shared = core::ptr::from_ref(&*self.0).cast();
        job.tag = tag;
        job.pending = Refcount::new(1);
        job.error = Atomic::new(0);
        let buffer = KBox::into_raw(buf.0);
        // SAFETY: The buffer is ours until our own count below is given up; the runs only read
        // its pages, and touch but the atomic parts of its job.
        let (job, pages) = unsafe { (&(*buffer).job, (*buffer).pages.as_ptr()) };
        for run in runs {
            job.pending.inc();
            // SAFETY: In bounds: checked above.
            let mem = unsafe { pages.add(run.first as usize) }.cast_mut().cast();
            let flags = ffi::IO_WRITE | flags.0;
            // SAFETY: Memory and job stay until the callback has given up its count; device and
            // client stay until the job has given up its use of the client.
            let r = unsafe {
                ffi::ms_io(
                    self.0.client,
                    flags,
                    &run.region(&self.0.dev),
                    mem,
                    Some(Self::run_done),
                    buffer.cast(),
                )
            };
            if r != 0 {
                // It was not started: there is no callback.
                // SAFETY: The count is that of the run.
                unsafe { Self::put(buffer, r) };
            }
        }
        // SAFETY: The count is our own.
        unsafe { Self::put(buffer, 0) };
    }

    /// # Safety
    ///
    /// Called by dm-io, once for each run; `context` is the buffer that it was started with.
    unsafe extern "C" fn run_done(error: c_ulong, unsupported: c_ulong, context: *mut c_void) {
        let errno = match (error, unsupported) {
            (0, 0) => 0,
            (0, _) => EOPNOTSUPP.to_errno(),
            _ => EIO.to_errno(),
        };
        // SAFETY: The count is that of the run.
        unsafe { Self::put(context.cast(), errno) };
    }

    /// Gives up a count of the buffer's job; the last one ends the job.
    ///
    /// # Safety
    ///
    /// The caller owns that count, and must not touch the buffer afterwards.
    unsafe fn put(buffer: *mut Buffer, errno: i32) {
        // SAFETY: The buffer stays while we have our count.
        let job = unsafe { &(*buffer).job };
        if errno != 0 {
            let _ = job.error.cmpxchg(0, errno, Relaxed);
        }
        if !job.pending.dec_and_test() {
            return;
        }
        let result = to_result(job.error.load(Relaxed));
        let (shared, tag) = (job.shared.cast::<Shared<T>>(), job.tag);
        // SAFETY: That was the last count: the buffer is ours, as `write_async()` got it.
        let buf = PageBuf(unsafe { KBox::from_raw(buffer) });
        // SAFETY: The client cannot go before we have given up the job's use of it.
        let shared = unsafe { &*shared };
        shared.done.io_done(tag, buf, result);
        shared.put();
    }

    /// Reads a run into the buffer, and waits for it.
    pub(crate) fn read_sync(&self, buf: &mut PageBuf, run: Run) -> Result {
        self.sync(0, buf, run)
    }

    /// Writes a run of the buffer, and waits for it.
    pub(crate) fn write_sync(&self, buf: &PageBuf, run: Run, flags: Flags) -> Result {
        self.sync(ffi::IO_WRITE | flags.0, buf, run)
    }

    /// A read needs `buf` borrowed mutably by the caller.
    fn sync(&self, flags: c_uint, buf: &PageBuf, run: Run) -> Result {
        let mem = buf.range(&run)?;
        // SAFETY: The memory is the buffer's, which is borrowed until the I/O has ended; it was
        // allocated as bytes to be changed.
        to_result(unsafe {
            ffi::ms_io(
                self.0.client,
                flags,
                &run.region(&self.0.dev),
                mem,
                None,
                core::ptr::null_mut(),
            )
        })
    }
}

impl<T: IoDone> Drop for IoClient<T> {
    fn drop(&mut self) {
        self.0.put();
        self.0.idle.wait_for_completion();
    }
}

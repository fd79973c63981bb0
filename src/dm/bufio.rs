// SPDX-License-Identifier: GPL-2.0

//! A write-back cache of metadata blocks, by dm-bufio.
//!
//! One thread, the owner of the [`Bufio`], looks at blocks and changes them. A second one may
//! write the changed blocks meanwhile, with a [`BufioWriter`]; dm-bufio itself may do so too, at
//! any time, when memory is short or many blocks are dirty.
//!
//! Locks: each buffer has a mutex that is held while its content is shown, changed or sealed. In
//! the write callback it is taken inside dm-bufio's own lock; so no dm-bufio function is called
//! with it held. (What a closure could call needs `&mut Bufio`, which is borrowed then.)
//!
//! A block can be changed again while an earlier state of it is on its way to the device, so that
//! a mixture of both lands there. It is then dirty still, and the next write is whole. Whoever
//! needs a state to be whole on the device must not change its blocks before `write_dirty` has
//! returned.
//!
//! C header: [`include/linux/dm-bufio.h`](srctree/include/linux/dm-bufio.h)

use super::{
    device::BlockDev,
    ffi, //
};
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::c_void,
    prelude::*,
    sync::Arc, //
};

/// Bytes of a block.
pub(crate) const BLOCK_SIZE: usize = 4096;

/// A metadata block.
pub(crate) type Block = [u8; BLOCK_SIZE];

/// What is done to a block just before it is written.
pub(crate) trait Seal: 'static {
    /// Makes block `nr` fit for the device: fills in its checksum. On any thread; never at the
    /// same time as a closure of [`Bufio::read`] or [`Bufio::edit`] sees the block.
    fn seal(nr: u64, block: &mut Block);
}

/// `dm_bufio_read` or `dm_bufio_new`.
type GetFn = unsafe extern "C" fn(*mut ffi::BufioClient, u64, *mut *mut ffi::Buffer) -> *mut c_void;

/// # Invariants
///
/// `client` is a dm-bufio client with 4096-byte blocks and the auxiliary data of `shim.c`, on
/// `_dev`, which it needs open.
struct Client {
    client: *mut ffi::BufioClient,
    _dev: BlockDev,
}

// SAFETY: A client may be used and destroyed by any thread.
unsafe impl Send for Client {}

// SAFETY: dm-bufio does its own locking.
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: The client is ours and not used again; nobody holds a buffer, as each is
        // released by the call that got it. Dirty buffers are written first.
        unsafe { ffi::dm_bufio_client_destroy(self.client) };
    }
}

/// A buffer that is held.
///
/// # Invariants
///
/// `buffer` is held by us, and `data` is its content: a `Block`, which does not move meanwhile.
struct Held {
    buffer: *mut ffi::Buffer,
    data: *mut Block,
}

impl Held {
    /// Locks the buffer against being sealed, and calls `f` with its content.
    fn locked<R>(&mut self, f: impl FnOnce(&mut Self, &mut Block) -> R) -> R {
        // SAFETY: The buffer is held. We have no other buffer's lock: see the head of the file.
        unsafe { ffi::ms_bufio_lock(self.buffer) };
        let data = self.data;
        // SAFETY: The lock keeps the write callback out, and the owner's other calls need
        // `&mut Bufio`, which is borrowed; the content is ours alone until the unlock.
        let r = f(self, unsafe { &mut *data });
        // SAFETY: Locked above.
        unsafe { ffi::ms_bufio_unlock(self.buffer) };
        r
    }

    fn is_verified(&self) -> bool {
        // SAFETY: The buffer is held; only its owner touches the mark.
        unsafe { ffi::ms_bufio_verified(self.buffer) }
    }

    fn set_verified(&mut self) {
        // SAFETY: As above.
        unsafe { ffi::ms_bufio_set_verified(self.buffer) }
    }

    fn mark_dirty(&mut self) {
        // SAFETY: The buffer is held, not being read, and its lock not taken by us.
        unsafe { ffi::dm_bufio_mark_buffer_dirty(self.buffer) };
    }

    /// Runs `verify` if the content has not passed it since it came from the device.
    fn verify(&mut self, verify: impl FnOnce(&Block) -> Result) -> Result {
        if self.is_verified() {
            return Ok(());
        }
        self.locked(|this, block| {
            verify(block)?;
            this.set_verified();
            Ok(())
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: It is held, and not used again.
        unsafe { ffi::dm_bufio_release(self.buffer) };
    }
}

/// The cache, for the one thread that reads and changes blocks.
///
/// Blocks are numbered from 0. Everything here may sleep and do I/O. When the last of this and
/// its writers is dropped, what is dirty is written, and errors of that are lost.
pub(crate) struct Bufio<S: Seal> {
    client: Arc<Client>,
    _seal: PhantomData<fn(S)>,
}

impl<S: Seal> Bufio<S> {
    /// A cache on `dev`. One buffer is held at a time; `reserved` (at least 1) are kept for when
    /// memory is short.
    pub(crate) fn new(dev: &BlockDev, reserved: u32) -> Result<Self> {
        // SAFETY: The device stays open as long as the client.
        let client = from_err_ptr(unsafe {
            ffi::ms_bufio_create(dev.as_raw(), reserved.max(1), Self::write_callback)
        })?;
        // INVARIANT: As `shim.c` made it. (If there is no memory for the Arc, the client is
        // destroyed with its initialiser.)
        let client = Client {
            client,
            _dev: dev.clone(),
        };
        Ok(Self {
            client: Arc::new(client, GFP_KERNEL)?,
            _seal: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called by dm-bufio right before it writes the content of `buffer`, which stays meanwhile.
    unsafe extern "C" fn write_callback(buffer: *mut ffi::Buffer) {
        // SAFETY: By the function's contract; nobody who holds the lock waits for dm-bufio.
        unsafe { ffi::ms_bufio_lock(buffer) };
        // SAFETY: The content is a `Block`, and with the lock held it is ours alone.
        unsafe {
            let nr = ffi::dm_bufio_get_block_number(buffer);
            S::seal(nr, &mut *ffi::dm_bufio_get_block_data(buffer).cast());
        }
        // SAFETY: Locked above.
        unsafe { ffi::ms_bufio_unlock(buffer) };
    }

    /// Gets hold of a block.
    ///
    /// # Safety
    ///
    /// `get` is `dm_bufio_read` or `dm_bufio_new`.
    unsafe fn hold(&mut self, nr: u64, get: GetFn) -> Result<Held> {
        // dm-bufio shifts the number unchecked.
        if nr >= self.blocks() {
            return Err(EIO);
        }
        let mut buffer = null_mut();
        // SAFETY: The client lives; `buffer` gets what is to be released.
        let data = from_err_ptr(unsafe { get(self.client.client, nr, &mut buffer) });
        // A device has many errors; to us they are one, and other numbers mean other things.
        let data = data.map_err(|e| if e == ENOMEM { e } else { EIO })?;
        if data.is_null() {
            return Err(EIO);
        }
        // INVARIANT: It is held, and its content one block.
        Ok(Held {
            buffer,
            data: data.cast(),
        })
    }

    fn hold_verified(&mut self, nr: u64, verify: impl FnOnce(&Block) -> Result) -> Result<Held> {
        // SAFETY: It is `dm_bufio_read`.
        let mut held = unsafe { self.hold(nr, ffi::dm_bufio_read)? };
        if let Err(error) = held.verify(verify) {
            drop(held);
            self.forget(nr);
            return Err(error);
        }
        Ok(held)
    }

    /// Shows block `nr` to `f`.
    ///
    /// If the block comes from the device, `verify` sees it first; what fails there is forgotten,
    /// and read anew the next time.
    pub(crate) fn read<R>(
        &mut self,
        nr: u64,
        verify: impl FnOnce(&Block) -> Result,
        f: impl FnOnce(&Block) -> Result<R>,
    ) -> Result<R> {
        self.hold_verified(nr, verify)?.locked(|_, block| f(block))
    }

    /// Lets `f` change block `nr`, and marks it dirty, also if `f` fails.
    ///
    /// `verify` is as in [`read`](Self::read).
    pub(crate) fn edit<R>(
        &mut self,
        nr: u64,
        verify: impl FnOnce(&Block) -> Result,
        f: impl FnOnce(&mut Block) -> Result<R>,
    ) -> Result<R> {
        let mut held = self.hold_verified(nr, verify)?;
        let r = held.locked(|_, block| f(block));
        held.mark_dirty();
        r
    }

    /// Lets `f` fill block `nr`, all zeroes before, without reading it; marks it dirty, also if
    /// `f` fails.
    pub(crate) fn create<R>(
        &mut self,
        nr: u64,
        f: impl FnOnce(&mut Block) -> Result<R>,
    ) -> Result<R> {
        // SAFETY: It is `dm_bufio_new`.
        let mut held = match unsafe { self.hold(nr, ffi::dm_bufio_new) } {
            Ok(held) => held,
            // A prefetch of the block has failed; that buffer is gone now.
            // SAFETY: As above.
            Err(_) => unsafe { self.hold(nr, ffi::dm_bufio_new)? },
        };
        held.set_verified();
        let r = held.locked(|_, block| {
            block.fill(0);
            f(block)
        });
        held.mark_dirty();
        r
    }

    /// Starts to read `n` blocks from `nr` on; does not wait for them.
    pub(crate) fn prefetch(&mut self, nr: u64, n: u32) {
        let blocks = self.blocks();
        if nr < blocks {
            let n = u64::from(n).min(blocks - nr) as u32;
            // SAFETY: The client lives; the blocks exist.
            unsafe { ffi::dm_bufio_prefetch(self.client.client, nr, n) };
        }
    }

    /// Drops block `nr` from the cache, if it is there and clean; a dirty one stays, and will be
    /// written.
    pub(crate) fn forget(&mut self, nr: u64) {
        // SAFETY: The client lives; we hold no buffer and no lock.
        unsafe { ffi::dm_bufio_forget(self.client.client, nr) };
    }

    /// Drops all clean blocks from the cache.
    pub(crate) fn forget_all(&mut self) {
        // SAFETY: The client lives; we hold no buffer and no lock.
        unsafe { ffi::dm_bufio_forget_buffers(self.client.client, 0, u64::MAX) };
    }

    /// Number of blocks on the device, at this moment.
    pub(crate) fn blocks(&self) -> u64 {
        // SAFETY: The client lives.
        unsafe { ffi::dm_bufio_get_device_size(self.client.client) }
    }

    /// A handle for whoever writes the dirty blocks.
    pub(crate) fn writer(&self) -> BufioWriter {
        BufioWriter(self.client.clone())
    }
}

/// The cache, for the thread that writes dirty blocks.
#[derive(Clone)]
pub(crate) struct BufioWriter(Arc<Client>);

impl BufioWriter {
    /// Writes what was dirty when this was called, waits for it, and flushes the device.
    ///
    /// An error is that of any write since the last call, and is told once. The failed block may
    /// be out of the cache then, and reading it gives what the device has: after an error the
    /// cache's content must not be trusted any more.
    pub(crate) fn write_dirty(&self) -> Result {
        // SAFETY: The client lives.
        to_result(unsafe { ffi::dm_bufio_write_dirty_buffers(self.0.client) })
    }
}

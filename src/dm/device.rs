// SPDX-License-Identifier: GPL-2.0

//! Block devices: those of a table, and references of our own that need no table.
//!
//! C headers: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h),
//! [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::{
    ffi,
    text::FixedText, //
};
use core::{
    fmt::{
        self,
        Write as _, //
    },
    ptr::null_mut, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::Arc, //
};

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For reading only.
    ReadOnly,
    /// For reading and writing.
    ReadWrite,
}

impl Mode {
    fn writes(self) -> bool {
        self == Mode::ReadWrite
    }
}

/// A device number; shown as `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DevT(u32);

impl DevT {
    /// The major number.
    pub(crate) fn major(self) -> u32 {
        self.0 >> 20
    }

    /// The minor number.
    pub(crate) fn minor(self) -> u32 {
        self.0 & 0xfffff
    }

    pub(super) fn from_raw(dev: u32) -> Self {
        Self(dev)
    }

    /// Calls `f` with `major:minor` as a C string.
    pub(super) fn with_name<R>(self, f: impl FnOnce(&CStr) -> R) -> R {
        let mut buf = [0; 24];
        let mut text = FixedText::new(&mut buf);
        // Two numbers of 32 bits fit.
        let _ = write!(text, "{self}");
        f(text.as_cstr())
    }
}

impl fmt::Display for DevT {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major(), self.minor())
    }
}

/// For the kernel's print macros.
impl kernel::fmt::Display for DevT {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Most devices that one target can hold.
pub(crate) const MAX_DEVICES: usize = 8;

/// The devices that a target holds through its table.
///
/// # Invariants
///
/// The first `len` entries of `dev` are references got with `dm_get_device()` for one target,
/// and the same entries of `bdev` are their block devices, open as long as they are not put.
pub(super) struct Devices {
    dev: [*mut ffi::DmDev; MAX_DEVICES],
    bdev: [*mut ffi::BlockDevice; MAX_DEVICES],
    len: usize,
}

impl Devices {
    pub(super) const fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            dev: [null_mut(); MAX_DEVICES],
            bdev: [null_mut(); MAX_DEVICES],
            len: 0,
        }
    }

    /// Gets the device that `path` names.
    ///
    /// # Safety
    ///
    /// `ti` is the target of all calls for this object, in its constructor.
    pub(super) unsafe fn get(
        &mut self,
        ti: *mut ffi::TargetInstance,
        path: &CStr,
        mode: Mode,
    ) -> Result<TableDevice> {
        let index = self.len;
        if index >= MAX_DEVICES {
            return Err(E2BIG);
        }
        let mut dev = null_mut();
        // SAFETY: By the function's contract `ti` is in its constructor.
        to_result(unsafe { ffi::ms_get_device(ti, path.as_char_ptr(), mode.writes(), &mut dev) })?;
        // SAFETY: `dev` was just got, and its device is open.
        let bdev = unsafe { ffi::ms_dm_dev_bdev(dev) };
        // Asked for more than before, dm has another object for the same device, and the earlier one
        // is gone.
        for (old, held) in self.dev.iter_mut().zip(&self.bdev).take(index) {
            if *held == bdev {
                *old = dev;
            }
        }
        let (Some(dev_slot), Some(bdev_slot)) = (self.dev.get_mut(index), self.bdev.get_mut(index))
        else {
            // Was compared above.
            return Err(E2BIG);
        };
        // INVARIANT: One more reference.
        *dev_slot = dev;
        *bdev_slot = bdev;
        self.len = index + 1;
        Ok(TableDevice {
            index,
            // SAFETY: It is open.
            dev: DevT(unsafe { ffi::ms_bdev_dev(bdev) }),
        })
    }

    /// Whether a bio of the target may be sent to `bdev`.
    pub(super) fn contains(&self, bdev: *mut ffi::BlockDevice) -> bool {
        self.bdev.iter().take(self.len).any(|&held| held == bdev)
    }

    /// The dm device behind `dev`, if it is one of these.
    pub(super) fn find(&self, dev: &TableDevice) -> Option<*mut ffi::DmDev> {
        if dev.index >= self.len {
            return None;
        }
        let bdev = *self.bdev.get(dev.index)?;
        // SAFETY: By the type invariant the device is open.
        if unsafe { ffi::ms_bdev_dev(bdev) } != dev.dev.0 {
            return None;
        }
        self.dev.get(dev.index).copied()
    }

    /// Puts all devices.
    ///
    /// # Safety
    ///
    /// `ti` is the target they were got for, and its table still exists.
    pub(super) unsafe fn put(&mut self, ti: *mut ffi::TargetInstance) {
        for dev in self.dev.iter().take(self.len) {
            // SAFETY: The reference is ours, and `ti` is its target; it is not used again, as
            // the list is empty below.
            unsafe { ffi::dm_put_device(ti, *dev) };
        }
        // INVARIANT: Empty.
        self.len = 0;
    }
}

/// A device that a target has got through its table; the table holds it as long as the target
/// exists. This is only its name in calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableDevice {
    index: usize,
    dev: DevT,
}

impl TableDevice {
    /// Its number.
    pub(crate) fn dev(&self) -> DevT {
        self.dev
    }

    /// A reference of our own to the same device.
    pub(crate) fn open(&self, mode: Mode) -> Result<BlockDev> {
        BlockDev::open(self.dev, mode)
    }
}

/// An open device.
///
/// # Invariants
///
/// `file` is an open block device file whose one reference is ours, and `bdev` its device, which
/// is valid as long as the file is open.
struct Opened {
    file: *mut ffi::File,
    bdev: *mut ffi::BlockDevice,
}

// SAFETY: Neither pointer is tied to a thread.
unsafe impl Send for Opened {}

// SAFETY: Everything done through a shared reference may be done by any number of threads.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: The reference is ours and is not used again.
        unsafe { ffi::bdev_fput(self.file) };
    }
}

/// A counted reference to an open block device, independent of any table.
///
/// It claims nothing: the exclusive claim is the table's. The last reference must be dropped in
/// process context.
#[derive(Clone)]
pub(crate) struct BlockDev(Arc<Opened>);

impl BlockDev {
    /// Opens a device. `EROFS` if it is to be written and is read-only. May sleep.
    pub(crate) fn open(dev: DevT, mode: Mode) -> Result<Self> {
        // SAFETY: Any number and mode may be asked for; the file is ours if it is not an error.
        let file = from_err_ptr(unsafe { ffi::ms_bdev_open(dev.0, mode.writes()) })?;
        // SAFETY: It is an open block device file. INVARIANT: And ours.
        let opened = unsafe {
            Opened {
                file,
                bdev: ffi::ms_bdev_of(file),
            }
        };
        let this = Self(Arc::new(opened, GFP_KERNEL)?);
        if mode.writes() && this.is_read_only() {
            return Err(EROFS);
        }
        Ok(this)
    }

    pub(super) fn as_raw(&self) -> *mut ffi::BlockDevice {
        self.0.bdev
    }

    /// Its number.
    pub(crate) fn dev(&self) -> DevT {
        // SAFETY: The device is open.
        DevT(unsafe { ffi::ms_bdev_dev(self.as_raw()) })
    }

    /// Its size in sectors, at this moment.
    pub(crate) fn sectors(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { ffi::ms_bdev_sectors(self.as_raw()) }
    }

    /// Whether its disk was pulled out: what is sent to it fails from then on.
    pub(crate) fn is_gone(&self) -> bool {
        // SAFETY: The device is open, and keeps its disk until it is closed.
        unsafe { ffi::ms_bdev_gone(self.as_raw()) }
    }

    /// Its logical block size in bytes.
    pub(crate) fn logical_block_size(&self) -> u32 {
        // SAFETY: The device is open.
        unsafe { ffi::ms_bdev_logical_block_size(self.as_raw()) }
    }

    /// Whether it cannot be written, at this moment.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: The device is open.
        unsafe { ffi::ms_bdev_read_only(self.as_raw()) }
    }

    /// Makes all writes that have ended durable. Sleeps.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { ffi::blkdev_issue_flush(self.as_raw()) })
    }
}

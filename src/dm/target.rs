// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets as a trait.
//!
//! A target type implements [`Target`] and is made known to dm with
//! [`register`](super::register). dm calls the constructor with a [`NewTarget`]; the value that it
//! returns belongs to dm until [`Target::dtr`] gets it back. Everything that can be used safely
//! outside of dm's calls goes through a [`TargetRef`], which outlives the target.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::{
    bio::{
        BioData,
        EndedBio,
        MapBio,
        Status, //
    },
    device::{
        DevT,
        Devices,
        Mode,
        TableDevice, //
    },
    ffi, //
};
use core::{
    ops::BitOr,
    ptr::null_mut, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_uint,
        c_void, //
    },
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

pub(crate) use super::{
    limits::Limits,
    text::{
        Args,
        Text, //
    },
};

/// Features of a target type.
#[derive(Clone, Copy)]
pub(crate) struct Features(c_uint);

impl Features {
    /// A table with such a target has no other target.
    pub(crate) const SINGLETON: Self = Self(ffi::FEATURE_SINGLETON);
    /// Its map function heeds [`Bio::is_nowait`](super::bio::Bio::is_nowait).
    pub(crate) const NOWAIT: Self = Self(ffi::FEATURE_NOWAIT);
    /// While its table is live, dm takes no table of another target for the device, unless that
    /// is a [`WILDCARD`](Self::WILDCARD).
    pub(crate) const IMMUTABLE: Self = Self(ffi::FEATURE_IMMUTABLE);
    /// A table with it may take the place of any other of the same kind.
    pub(crate) const WILDCARD: Self = Self(ffi::FEATURE_WILDCARD);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn raw(self) -> c_uint {
        self.0
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

/// What a status call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusKind {
    /// The target's state.
    Info,
    /// The table line's arguments, to load it again.
    Table,
    /// Measurements for IMA: `key=value,...;`.
    Ima,
}

/// A device-mapper target.
///
/// Unless said otherwise the functions are called in process context and may sleep.
#[vtable]
pub(crate) trait Target: Send + Sync + Sized + 'static {
    /// What is kept with each bio; its default value when the bio comes to `map`.
    type Data: BioData;

    /// Name in tables.
    const NAME: &'static CStr;

    /// Version, as `dmsetup targets` shows it.
    const VERSION: [u32; 3];

    /// Features.
    const FEATURES: Features;

    /// Constructor: makes the target that a table line describes. The table is not live yet.
    fn ctr(ti: &mut NewTarget<'_>, args: Args<'_>) -> Result<Self>;

    /// Destructor. No bio of the target is left. Its devices are put when this returns.
    fn dtr(self) {}

    /// Says what becomes of a bio. What is done to `bio` is the answer; there is no other.
    ///
    /// Must not wait for I/O: what is sent from here only starts when this returns.
    fn map(&self, bio: MapBio<'_, Self::Data>);

    /// A bio that was remapped or submitted has been ended by its device. Any context; must not
    /// sleep. Not called for bios that the target itself ended.
    fn end_io(&self, bio: EndedBio<'_, Self::Data>, status: Status);

    /// A suspend starts; bios still come.
    fn presuspend(&self) {}

    /// The suspend was given up.
    fn presuspend_undo(&self) {}

    /// All bios have ended, except when the device is being removed: then nobody waited.
    fn postsuspend(&self) {}

    /// The table becomes live; no bio has come yet. An error leaves the device suspended.
    fn preresume(&self) -> Result {
        Ok(())
    }

    /// The table is live.
    fn resume(&self) {}

    /// Writes the status line's part of this target. With `noflush`, nothing is to be written
    /// back for it.
    fn status(&self, _kind: StatusKind, _noflush: bool, _out: &mut Text<'_>) {}

    /// Carries out a message. If anything is written to `out`, user space gets it as the answer.
    ///
    /// It runs inside dm's SRCU section: it must not wait for a suspend or for user I/O.
    fn message(&self, _args: Args<'_>, _out: &mut Text<'_>) -> Result {
        Err(EINVAL)
    }

    /// Shows each range of a device that it uses.
    fn iterate_devices(&self, _each: &mut EachDevice<'_>) -> Result<(), Stop> {
        Ok(())
    }

    /// Adapts the limits of the mapped device.
    fn io_hints(&self, _limits: &mut Limits<'_>) {}
}

/// The target that a constructor is making.
///
/// # Invariants
///
/// `ti` is in its constructor during the value's life.
pub(crate) struct NewTarget<'a> {
    ti: *mut ffi::TargetInstance,
    handle: &'a TargetRef,
    pub(super) devices: Devices,
    pub(super) opts: ffi::TargetOpts,
}

impl<'a> NewTarget<'a> {
    /// Wraps a target.
    ///
    /// # Safety
    ///
    /// `ti` is in its constructor during the value's life, and `handle` is its handle.
    pub(super) unsafe fn new(ti: *mut ffi::TargetInstance, handle: &'a TargetRef) -> Self {
        // INVARIANT: By the function's contract.
        Self {
            ti,
            handle,
            devices: Devices::new(),
            opts: ffi::TargetOpts::default(),
        }
    }

    /// Its length in sectors.
    pub(crate) fn len(&self) -> u64 {
        self.handle.len()
    }

    /// How the table is loaded.
    pub(crate) fn mode(&self) -> Mode {
        // SAFETY: By the type invariant.
        if unsafe { ffi::ms_target_writable(self.ti) } {
            Mode::ReadWrite
        } else {
            Mode::ReadOnly
        }
    }

    /// The number of the mapped device itself.
    pub(crate) fn mapped_dev(&self) -> DevT {
        self.handle.mapped_dev()
    }

    /// The name of the mapped device, as given to dmsetup.
    pub(crate) fn mapped_name<'b>(&self, buf: &'b mut [u8; 128]) -> Result<&'b CStr> {
        // SAFETY: By the type invariant; a name is at most `DM_NAME_LEN` (128) bytes long with
        // its zero byte.
        to_result(unsafe { ffi::ms_target_name(self.ti, buf.as_mut_ptr().cast()) })?;
        CStr::from_bytes_until_nul(buf).map_err(|_| EINVAL)
    }

    /// Sets the message that dm logs when the constructor fails.
    pub(crate) fn set_error(&mut self, error: &'static CStr) {
        // SAFETY: By the type invariant; the string is there for ever.
        unsafe { ffi::ms_target_set_error(self.ti, error.as_char_ptr()) };
    }

    /// Gets a device for the target, by path or `major:minor`, and claims it for device-mapper.
    pub(crate) fn get_device(&mut self, path: &CStr, mode: Mode) -> Result<TableDevice> {
        // SAFETY: By the type invariant.
        unsafe { self.devices.get(self.ti, path, mode) }
    }

    /// Gets a device for the target by number.
    pub(crate) fn get_device_at(&mut self, dev: DevT, mode: Mode) -> Result<TableDevice> {
        dev.with_name(|name| self.get_device(name, mode))
    }

    /// A handle for later.
    pub(crate) fn handle(&self) -> TargetRef {
        self.handle.clone()
    }

    /// Whether flushes come to map (one bio each).
    pub(crate) fn flush_bios(&mut self, on: bool) {
        self.opts.flush_bios = on;
    }

    /// Whether discards come to map (one bio each), if the device announces them.
    pub(crate) fn discard_bios(&mut self, on: bool) {
        self.opts.discard_bios = on;
    }

    /// Whether the device announces discards even if no device below does.
    pub(crate) fn discards_supported(&mut self, on: bool) {
        self.opts.discards_supported = on;
    }

    /// Whether writes of zeroes come to map (one bio each); the device announces them if all
    /// devices below do.
    pub(crate) fn write_zeroes_bios(&mut self, on: bool) {
        self.opts.write_zeroes_bios = on;
    }

    /// Whether flushes come even if no underlying device has a write cache.
    pub(crate) fn flush_supported(&mut self, on: bool) {
        self.opts.flush_supported = on;
    }

    /// Whether dm limits how many swap bios are under way at once.
    pub(crate) fn limit_swap_bios(&mut self, on: bool) {
        self.opts.limit_swap_bios = on;
    }
}

/// The dm target behind a handle; null once it is gone.
struct Live(*mut ffi::TargetInstance);

// SAFETY: The pointer is not tied to a thread; its uses are serialised by the lock around it.
unsafe impl Send for Live {}

#[pin_data]
struct Handle {
    #[pin]
    live: Mutex<Live>,
    dev: DevT,
    len: u64,
}

/// A handle to a target that may be used after the target is gone.
///
/// What it asks dm for is done under a mutex that the destructor takes too, hence in process
/// context only.
#[derive(Clone)]
pub(crate) struct TargetRef(Arc<Handle>);

impl TargetRef {
    /// Makes the handle of `ti`.
    ///
    /// # Safety
    ///
    /// `ti` is in its constructor, and [`clear`](Self::clear) is called before it goes away.
    pub(super) unsafe fn new(ti: *mut ffi::TargetInstance) -> Result<Self> {
        // SAFETY: The target is there.
        let (dev, len) = unsafe { (ffi::ms_target_dev(ti), ffi::ms_target_len(ti)) };
        Ok(Self(Arc::pin_init(
            pin_init!(Handle {
                live <- new_mutex!(Live(ti), "multisnapshot:target"),
                dev: DevT::from_raw(dev),
                len,
            }),
            GFP_KERNEL,
        )?))
    }

    /// The target goes away: later calls do nothing.
    pub(super) fn clear(&self) {
        self.0.live.lock().0 = null_mut();
    }

    fn with<R>(&self, gone: R, f: impl FnOnce(*mut ffi::TargetInstance) -> R) -> R {
        let live = self.0.live.lock();
        if live.0.is_null() {
            gone
        } else {
            f(live.0)
        }
    }

    /// Wakes those who wait for an event of the mapped device (`dmsetup wait`).
    pub(crate) fn event(&self) {
        // SAFETY: The target, and hence its table, stays while the lock is held.
        self.with((), |ti| unsafe { ffi::ms_target_event(ti) });
    }

    /// Whether the mapped device is suspended; `true` if the target is gone.
    pub(crate) fn is_suspended(&self) -> bool {
        // SAFETY: As in `event()`.
        self.with(true, |ti| unsafe { ffi::dm_suspended(ti) != 0 })
    }

    /// Whether the mapped device is being removed; `true` if the target is gone.
    pub(crate) fn is_being_removed(&self) -> bool {
        // SAFETY: As in `event()`.
        self.with(true, |ti| unsafe { ffi::ms_target_removing(ti) })
    }

    /// Whether the mapped device cannot be written, whatever its table is by now; `false` if the
    /// target is gone.
    pub(crate) fn is_disk_read_only(&self) -> bool {
        // SAFETY: As in `event()`.
        self.with(false, |ti| unsafe { ffi::ms_target_disk_ro(ti) })
    }

    /// Whether the destructor has not run.
    pub(crate) fn is_live(&self) -> bool {
        self.with(false, |_| true)
    }

    /// The number of the mapped device. Any context.
    pub(crate) fn mapped_dev(&self) -> DevT {
        self.0.dev
    }

    /// The target's length in sectors. Any context.
    pub(crate) fn len(&self) -> u64 {
        self.0.len
    }
}

/// Whoever wants to see a target's devices, in [`Target::iterate_devices`].
pub(crate) struct EachDevice<'a> {
    ti: *mut ffi::TargetInstance,
    devices: &'a Devices,
    visit: ffi::DeviceFn,
    data: *mut c_void,
}

impl<'a> EachDevice<'a> {
    /// Wraps dm's callback.
    ///
    /// # Safety
    ///
    /// `visit` may be called with `ti`, any of `devices`, and `data` during the value's life.
    pub(super) unsafe fn new(
        ti: *mut ffi::TargetInstance,
        devices: &'a Devices,
        visit: ffi::DeviceFn,
        data: *mut c_void,
    ) -> Self {
        Self {
            ti,
            devices,
            visit,
            data,
        }
    }

    /// Shows `len` sectors of `dev` from `start`. An error is to be passed on at once.
    pub(crate) fn visit(&mut self, dev: &TableDevice, start: u64, len: u64) -> Result<(), Stop> {
        let Some(dev) = self.devices.find(dev) else {
            return Err(Stop(EINVAL.to_errno()));
        };
        // SAFETY: By the contract of `new()`; the device is held.
        match unsafe { (self.visit)(self.ti, dev, start, len, self.data) } {
            0 => Ok(()),
            stop => Err(Stop(stop)),
        }
    }
}

/// The visitor wants to see no more devices.
pub(crate) struct Stop(pub(super) kernel::ffi::c_int);

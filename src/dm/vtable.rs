// SPDX-License-Identifier: GPL-2.0

//! The adaptor between dm's calls and [`Target`].
//!
//! A registered type is a C `struct target_type` whose functions are the ones here, made for one
//! `T`. Between constructor and destructor `ti->private` is an [`Instance`].

use super::{
    bio::{
        EndedBio,
        MapBio,
        PerBio,
        Status, //
    },
    device::Devices,
    ffi,
    noio::NoIo,
    target::{
        Args,
        EachDevice,
        Limits,
        NewTarget,
        StatusKind,
        Stop,
        Target,
        TargetRef,
        Text, //
    },
    text::Words, //
};
use core::{
    cell::Cell,
    marker::PhantomData, //
};
use kernel::{
    error::{
        from_err_ptr,
        from_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*,
};

/// What `ti->private` points to.
///
/// `devices` comes first: a bio finds it there whatever `T` is.
#[repr(C)]
struct Instance<T> {
    devices: Devices,
    handle: TargetRef,
    target: T,
}

/// The functions of one target type.
struct Vtable<T: Target>(PhantomData<T>);

impl<T: Target> Vtable<T> {
    /// Borrows the instance.
    ///
    /// # Safety
    ///
    /// The constructor of `ti` has succeeded, and its destructor does not run during `'a`.
    unsafe fn instance<'a>(ti: *mut ffi::TargetInstance) -> &'a Instance<T> {
        // SAFETY: From then till then `ti->private` is what the constructor put there, and it is
        // only borrowed shared.
        unsafe { &*ffi::ms_target_private(ti).cast() }
    }

    /// # Safety
    ///
    /// Called by dm to construct `ti`; `argv` has `argc` C strings.
    unsafe extern "C" fn ctr(
        ti: *mut ffi::TargetInstance,
        argc: c_uint,
        argv: *mut *mut c_char,
    ) -> c_int {
        // Locks are taken that others need while their device is suspended.
        let _noio = NoIo::enter();
        from_result(|| {
            // Before the target exists, so that it cannot be lost for lack of memory.
            let place = KBox::<Instance<T>>::new_uninit(GFP_KERNEL)?;
            // SAFETY: It is cleared below, or by the destructor.
            let handle = unsafe { TargetRef::new(ti)? };
            // SAFETY: This is the constructor; the strings stay until it returns.
            let (mut new, args) = unsafe { (NewTarget::new(ti, &handle), Args::new(argc, argv)) };
            let made = T::ctr(&mut new, args);
            let NewTarget {
                mut devices, opts, ..
            } = new;
            let target = match made {
                Ok(target) => target,
                Err(error) => {
                    handle.clear();
                    // SAFETY: They were got for `ti`, whose table still exists.
                    unsafe { devices.put(ti) };
                    return Err(error);
                }
            };
            let instance = KBox::write(
                place,
                Instance {
                    devices,
                    handle,
                    target,
                },
            );
            // SAFETY: Ownership of the instance goes to `ti`, until the destructor takes it back.
            // The size is what `bio.rs` reckons with.
            unsafe {
                ffi::ms_target_setup(
                    ti,
                    &opts,
                    PerBio::<T::Data>::SIZE as c_uint,
                    KBox::into_raw(instance).cast(),
                )
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by dm, once, for a constructed target of which no bio is left.
    unsafe extern "C" fn dtr(ti: *mut ffi::TargetInstance) {
        let _noio = NoIo::enter();
        // SAFETY: The constructor put it there; dm makes no other call for `ti` any more, so
        // nobody borrows it.
        let instance: KBox<Instance<T>> =
            unsafe { KBox::from_raw(ffi::ms_target_private(ti).cast()) };
        let Instance {
            mut devices,
            handle,
            target,
        } = KBox::into_inner(instance);
        target.dtr();
        handle.clear();
        // SAFETY: They were got for `ti`, whose table still exists.
        unsafe { devices.put(ti) };
    }

    /// # Safety
    ///
    /// Called by dm for a live target, which gives `bio` away.
    unsafe extern "C" fn map(ti: *mut ffi::TargetInstance, bio: *mut ffi::Bio) -> c_int {
        let outcome = Cell::new(ffi::MAP_SUBMITTED);
        // SAFETY: `ti` was set up by `ctr`; the outcome is returned below.
        let bio = unsafe { MapBio::new(ti, bio, &outcome) };
        // SAFETY: The target is live.
        let instance = unsafe { Self::instance(ti) };
        instance.target.map(bio);
        outcome.get()
    }

    /// # Safety
    ///
    /// Called by dm for a live target and a bio that went through `map`; `error` is valid.
    unsafe extern "C" fn end_io(
        ti: *mut ffi::TargetInstance,
        bio: *mut ffi::Bio,
        error: *mut u8,
    ) -> c_int {
        let outcome = Cell::new(ffi::END_DONE);
        // SAFETY: By the function's contract.
        let status = Status::from_raw(unsafe { *error });
        // SAFETY: The bio went through `map`; the outcome is returned below.
        if let Some(bio) = unsafe { EndedBio::new(bio, &outcome) } {
            // SAFETY: The target is live: it has this bio.
            let instance = unsafe { Self::instance(ti) };
            instance.target.end_io(bio, status);
        }
        outcome.get()
    }

    /// # Safety
    ///
    /// Called by dm for a constructed target, as are all below.
    unsafe extern "C" fn presuspend(ti: *mut ffi::TargetInstance) {
        // SAFETY: It is constructed.
        unsafe { Self::instance(ti) }.target.presuspend();
    }

    /// # Safety
    ///
    /// See `presuspend`.
    unsafe extern "C" fn presuspend_undo(ti: *mut ffi::TargetInstance) {
        // SAFETY: It is constructed.
        unsafe { Self::instance(ti) }.target.presuspend_undo();
    }

    /// # Safety
    ///
    /// See `presuspend`.
    unsafe extern "C" fn postsuspend(ti: *mut ffi::TargetInstance) {
        let _noio = NoIo::enter();
        // SAFETY: It is constructed.
        unsafe { Self::instance(ti) }.target.postsuspend();
    }

    /// # Safety
    ///
    /// See `presuspend`.
    unsafe extern "C" fn preresume(ti: *mut ffi::TargetInstance) -> c_int {
        let _noio = NoIo::enter();
        from_result(|| {
            // SAFETY: It is constructed.
            unsafe { Self::instance(ti) }.target.preresume()?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See `presuspend`.
    unsafe extern "C" fn resume(ti: *mut ffi::TargetInstance) {
        let _noio = NoIo::enter();
        // SAFETY: It is constructed.
        unsafe { Self::instance(ti) }.target.resume();
    }

    /// # Safety
    ///
    /// See `presuspend`; `result` has room for `maxlen` bytes.
    unsafe extern "C" fn status(
        ti: *mut ffi::TargetInstance,
        kind: c_uint,
        flags: c_uint,
        result: *mut c_char,
        maxlen: c_uint,
    ) {
        let kind = match kind {
            0 => StatusKind::Info,
            1 => StatusKind::Table,
            _ => StatusKind::Ima,
        };
        // SAFETY: The buffer is ours during the call.
        let mut out = unsafe { Text::new(result, maxlen) };
        // SAFETY: It is constructed.
        let instance = unsafe { Self::instance(ti) };
        instance
            .target
            .status(kind, flags & ffi::STATUS_NOFLUSH != 0, &mut out);
    }

    /// # Safety
    ///
    /// See `presuspend`; `argv` has `argc` C strings, `result` room for `maxlen` bytes.
    unsafe extern "C" fn message(
        ti: *mut ffi::TargetInstance,
        argc: c_uint,
        argv: *mut *mut c_char,
        result: *mut c_char,
        maxlen: c_uint,
    ) -> c_int {
        let _noio = NoIo::enter();
        from_result(|| {
            // SAFETY: By the function's contract.
            let mut words = unsafe { Words::copy(argc, argv)? };
            // SAFETY: The buffer is ours during the call; nobody looks at `argv` any more, which
            // may be in it.
            let mut out = unsafe { Text::new(result, maxlen) };
            // SAFETY: It is constructed.
            let instance = unsafe { Self::instance(ti) };
            instance.target.message(words.args(), &mut out)?;
            // 1: there is something in the buffer.
            Ok(c_int::from(!out.is_empty()))
        })
    }

    /// # Safety
    ///
    /// See `presuspend`; `visit` may be called with `data` and the target's devices.
    unsafe extern "C" fn iterate_devices(
        ti: *mut ffi::TargetInstance,
        visit: ffi::DeviceFn,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: It is constructed.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: By the function's contract.
        let mut each = unsafe { EachDevice::new(ti, &instance.devices, visit, data) };
        match instance.target.iterate_devices(&mut each) {
            Ok(()) => 0,
            Err(Stop(stop)) => stop,
        }
    }

    /// # Safety
    ///
    /// See `presuspend`; `limits` is valid and only ours.
    unsafe extern "C" fn io_hints(ti: *mut ffi::TargetInstance, limits: *mut ffi::QueueLimits) {
        // SAFETY: By the function's contract.
        let mut limits = unsafe { Limits::new(limits) };
        // SAFETY: It is constructed.
        let instance = unsafe { Self::instance(ti) };
        instance.target.io_hints(&mut limits);
    }

    fn desc(module: &'static ThisModule) -> ffi::TargetDesc {
        ffi::TargetDesc {
            name: T::NAME.as_char_ptr(),
            module: module.as_ptr().cast(),
            version: T::VERSION,
            features: T::FEATURES.raw(),
            ctr: Self::ctr,
            dtr: Self::dtr,
            map: Self::map,
            end_io: Self::end_io,
            presuspend: T::HAS_PRESUSPEND.then_some(Self::presuspend),
            presuspend_undo: T::HAS_PRESUSPEND_UNDO.then_some(Self::presuspend_undo),
            postsuspend: T::HAS_POSTSUSPEND.then_some(Self::postsuspend),
            preresume: T::HAS_PRERESUME.then_some(Self::preresume),
            resume: T::HAS_RESUME.then_some(Self::resume),
            status: T::HAS_STATUS.then_some(Self::status),
            message: T::HAS_MESSAGE.then_some(Self::message),
            iterate_devices: T::HAS_ITERATE_DEVICES.then_some(Self::iterate_devices),
            io_hints: T::HAS_IO_HINTS.then_some(Self::io_hints),
        }
    }
}

/// Keeps a target type known to dm; dropping it unregisters the type.
///
/// Only the module's own exit may drop it: dm holds a reference to the module for each target,
/// so none is left then.
///
/// # Invariants
///
/// `target_type` was registered with the functions of `T`.
pub(crate) struct Registration<T: Target> {
    target_type: *mut ffi::TargetType,
    _type: PhantomData<T>,
}

// SAFETY: It can be dropped by any thread.
unsafe impl<T: Target> Send for Registration<T> {}

// SAFETY: A shared reference to it is of no use.
unsafe impl<T: Target> Sync for Registration<T> {}

/// Makes a target type known to dm.
///
/// `module` is the module that the code of `T` lies in; it cannot be unloaded while targets of
/// the type exist.
pub(crate) fn register<T: Target>(module: &'static ThisModule) -> Result<Registration<T>> {
    let desc = Vtable::<T>::desc(module);
    // SAFETY: The functions keep to dm's contracts, and `name` is there for ever. C copies `desc`.
    let target_type = from_err_ptr(unsafe { ffi::ms_target_register(&desc) })?;
    // INVARIANT: Just registered.
    Ok(Registration {
        target_type,
        _type: PhantomData,
    })
}

impl<T: Target> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: It is registered, and not used again.
        unsafe { ffi::ms_target_unregister(self.target_type) };
    }
}

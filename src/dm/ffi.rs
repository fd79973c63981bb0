// SPDX-License-Identifier: GPL-2.0

//! The C functions and structs that this room calls: `shim.h` first, in its order, then what the
//! kernel exports and the `kernel` crate lacks.
//!
//! Kernel objects are opaque here; whoever needs a field of one asks `shim.c`.

#![allow(missing_docs)]

use kernel::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

macro_rules! opaque {
    ($($name:ident)*) => {$(
        /// A C struct whose layout only C knows.
        #[repr(C)]
        pub(super) struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque! {
    Bio BlockDevice Buffer BufioClient DelayedWork DmDev File IoClient KcopydClient Module
    QueueLimits TargetInstance TargetType Work Workqueue
}

pub(super) const FEATURE_SINGLETON: c_uint = 1;
pub(super) const FEATURE_NOWAIT: c_uint = 2;
pub(super) const FEATURE_IMMUTABLE: c_uint = 4;
pub(super) const FEATURE_WILDCARD: c_uint = 8;

pub(super) const MAP_SUBMITTED: c_int = 0;
pub(super) const MAP_REMAPPED: c_int = 1;
pub(super) const END_DONE: c_int = 0;
pub(super) const END_INCOMPLETE: c_int = 1;

pub(super) const STATUS_NOFLUSH: c_uint = 1;

pub(super) type DeviceFn =
    unsafe extern "C" fn(*mut TargetInstance, *mut DmDev, u64, u64, *mut c_void) -> c_int;

#[repr(C)]
pub(super) struct TargetDesc {
    pub(super) name: *const c_char,
    pub(super) module: *mut Module,
    pub(super) version: [c_uint; 3],
    pub(super) features: c_uint,
    pub(super) ctr: unsafe extern "C" fn(*mut TargetInstance, c_uint, *mut *mut c_char) -> c_int,
    pub(super) dtr: unsafe extern "C" fn(*mut TargetInstance),
    pub(super) map: unsafe extern "C" fn(*mut TargetInstance, *mut Bio) -> c_int,
    pub(super) end_io: unsafe extern "C" fn(*mut TargetInstance, *mut Bio, *mut u8) -> c_int,
    pub(super) presuspend: Option<unsafe extern "C" fn(*mut TargetInstance)>,
    pub(super) presuspend_undo: Option<unsafe extern "C" fn(*mut TargetInstance)>,
    pub(super) postsuspend: Option<unsafe extern "C" fn(*mut TargetInstance)>,
    pub(super) preresume: Option<unsafe extern "C" fn(*mut TargetInstance) -> c_int>,
    pub(super) resume: Option<unsafe extern "C" fn(*mut TargetInstance)>,
    pub(super) status:
        Option<unsafe extern "C" fn(*mut TargetInstance, c_uint, c_uint, *mut c_char, c_uint)>,
    pub(super) message: Option<
        unsafe extern "C" fn(
            *mut TargetInstance,
            c_uint,
            *mut *mut c_char,
            *mut c_char,
            c_uint,
        ) -> c_int,
    >,
    pub(super) iterate_devices:
        Option<unsafe extern "C" fn(*mut TargetInstance, DeviceFn, *mut c_void) -> c_int>,
    pub(super) io_hints: Option<unsafe extern "C" fn(*mut TargetInstance, *mut QueueLimits)>,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct TargetOpts {
    pub(super) flush_bios: bool,
    pub(super) discard_bios: bool,
    pub(super) write_zeroes_bios: bool,
    pub(super) flush_supported: bool,
    pub(super) discards_supported: bool,
    pub(super) limit_swap_bios: bool,
}

pub(super) const OP_READ: u8 = 0;
pub(super) const OP_WRITE: u8 = 1;
pub(super) const OP_FLUSH: u8 = 2;
pub(super) const OP_DISCARD: u8 = 3;
pub(super) const OP_WRITE_ZEROES: u8 = 4;

pub(super) const BIO_FUA: u8 = 1;
pub(super) const BIO_NOWAIT: u8 = 2;

pub(super) const STS_OK: u8 = 0;
pub(super) const STS_NOTSUPP: u8 = 1;
pub(super) const STS_IOERR: u8 = 10;
pub(super) const STS_AGAIN: u8 = 12;

#[repr(C)]
pub(super) struct BioHead {
    pub(super) private: *mut c_void,
    pub(super) sector: u64,
    pub(super) sectors: u32,
    pub(super) op: u8,
    pub(super) flags: u8,
    pub(super) bi_flags: u16,
    pub(super) iter: [u8; 24],
}

pub(super) const COPY_MAX_DESTS: usize = 8;

pub(super) const IO_WRITE: c_uint = 1;
pub(super) const IO_PREFLUSH: c_uint = 2;
pub(super) const IO_FUA: c_uint = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub(super) bdev: *mut BlockDevice,
    pub(super) sector: u64,
    pub(super) sectors: u64,
}

pub(super) type CopyFn = unsafe extern "C" fn(c_int, c_ulong, *mut c_void);
pub(super) type IoFn = unsafe extern "C" fn(c_ulong, c_ulong, *mut c_void);

extern "C" {
    pub(super) fn ms_target_register(desc: *const TargetDesc) -> *mut TargetType;
    pub(super) fn ms_target_unregister(type_: *mut TargetType);
    pub(super) fn ms_target_setup(
        ti: *mut TargetInstance,
        opts: *const TargetOpts,
        per_bio_size: c_uint,
        private: *mut c_void,
    );
    pub(super) fn ms_target_private(ti: *mut TargetInstance) -> *mut c_void;
    pub(super) fn ms_target_set_error(ti: *mut TargetInstance, error: *const c_char);
    pub(super) fn ms_target_len(ti: *mut TargetInstance) -> u64;
    pub(super) fn ms_target_writable(ti: *mut TargetInstance) -> bool;
    pub(super) fn ms_target_dev(ti: *mut TargetInstance) -> u32;
    pub(super) fn ms_target_name(ti: *mut TargetInstance, name: *mut c_char) -> c_int;
    pub(super) fn ms_target_event(ti: *mut TargetInstance);
    pub(super) fn ms_target_removing(ti: *mut TargetInstance) -> bool;
    pub(super) fn ms_target_disk_ro(ti: *mut TargetInstance) -> bool;
    pub(super) fn ms_get_device(
        ti: *mut TargetInstance,
        path: *const c_char,
        write: bool,
        dev: *mut *mut DmDev,
    ) -> c_int;
    pub(super) fn ms_dm_dev_bdev(dev: *mut DmDev) -> *mut BlockDevice;
    pub(super) fn ms_limits_io(limits: *mut QueueLimits, min: u32, opt: u32);
    pub(super) fn ms_limits_discard(limits: *mut QueueLimits, granularity: u32, max_sectors: u32);

    pub(super) fn ms_bio_begin(ti: *mut TargetInstance, bio: *mut Bio, size: usize)
        -> *mut BioHead;
    pub(super) fn ms_bio_accept_partial(bio: *mut Bio, head: *mut BioHead, sectors: c_uint)
        -> bool;
    pub(super) fn ms_bio_aim(
        bio: *mut Bio,
        head: *mut BioHead,
        bdev: *mut BlockDevice,
        sector: u64,
    );
    pub(super) fn ms_bio_rearm(bio: *mut Bio, head: *const BioHead);
    pub(super) fn ms_bio_end(bio: *mut Bio, status: u8);
    pub(super) fn ms_bio_zero(bio: *mut Bio);
    pub(super) fn ms_bio_next(bio: *mut Bio) -> *mut Bio;
    pub(super) fn ms_bio_set_next(bio: *mut Bio, next: *mut Bio);

    pub(super) fn ms_bdev_open(dev: u32, write: bool) -> *mut File;
    pub(super) fn ms_bdev_of(file: *mut File) -> *mut BlockDevice;
    pub(super) fn ms_bdev_sectors(bdev: *mut BlockDevice) -> u64;
    pub(super) fn ms_bdev_gone(bdev: *mut BlockDevice) -> bool;
    pub(super) fn ms_bdev_dev(bdev: *mut BlockDevice) -> u32;
    pub(super) fn ms_bdev_logical_block_size(bdev: *mut BlockDevice) -> u32;
    pub(super) fn ms_bdev_read_only(bdev: *mut BlockDevice) -> bool;

    pub(super) fn ms_copy(
        kc: *mut KcopydClient,
        from: *const Region,
        dests: c_uint,
        to: *const Region,
        callback: CopyFn,
        context: *mut c_void,
    );
    pub(super) fn ms_io(
        client: *mut IoClient,
        flags: c_uint,
        region: *const Region,
        mem: *mut c_void,
        callback: Option<IoFn>,
        context: *mut c_void,
    ) -> c_int;

    pub(super) fn ms_bufio_create(
        bdev: *mut BlockDevice,
        reserved: c_uint,
        write: unsafe extern "C" fn(*mut Buffer),
    ) -> *mut BufioClient;
    pub(super) fn ms_bufio_lock(b: *mut Buffer);
    pub(super) fn ms_bufio_unlock(b: *mut Buffer);
    pub(super) fn ms_bufio_verified(b: *mut Buffer) -> bool;
    pub(super) fn ms_bufio_set_verified(b: *mut Buffer);

    pub(super) fn ms_queue_new(name: *const c_char) -> *mut Workqueue;
    pub(super) fn ms_work_init(work: *mut Work, callback: unsafe extern "C" fn(*mut Work));
    pub(super) fn ms_dwork_init(work: *mut DelayedWork, callback: unsafe extern "C" fn(*mut Work));
    pub(super) fn ms_work_queue(wq: *mut Workqueue, work: *mut Work) -> bool;
    pub(super) fn ms_dwork_queue(wq: *mut Workqueue, work: *mut DelayedWork, ms: u32) -> bool;
    pub(super) fn ms_noio_save() -> c_uint;
    pub(super) fn ms_noio_restore(flags: c_uint);
    pub(super) fn ms_now_ms() -> u64;
    pub(super) fn ms_ratelimit() -> bool;
}

// Exported by the kernel, dm-mod and dm-bufio.
extern "C" {
    pub(super) fn dm_put_device(ti: *mut TargetInstance, dev: *mut DmDev);
    pub(super) fn dm_suspended(ti: *mut TargetInstance) -> c_int;
    pub(super) fn dm_per_bio_data(bio: *mut Bio, size: usize) -> *mut c_void;
    pub(super) fn dm_submit_bio_remap(clone: *mut Bio, other: *mut Bio);
    pub(super) fn errno_to_blk_status(errno: c_int) -> u8;
    pub(super) fn bdev_fput(file: *mut File);
    pub(super) fn blkdev_issue_flush(bdev: *mut BlockDevice) -> c_int;

    pub(super) fn dm_kcopyd_client_create(throttle: *mut c_void) -> *mut KcopydClient;
    pub(super) fn dm_kcopyd_client_destroy(kc: *mut KcopydClient);
    pub(super) fn dm_io_client_create() -> *mut IoClient;
    pub(super) fn dm_io_client_destroy(client: *mut IoClient);

    pub(super) fn dm_bufio_client_destroy(c: *mut BufioClient);
    pub(super) fn dm_bufio_read(
        c: *mut BufioClient,
        block: u64,
        b: *mut *mut Buffer,
    ) -> *mut c_void;
    pub(super) fn dm_bufio_new(c: *mut BufioClient, block: u64, b: *mut *mut Buffer)
        -> *mut c_void;
    pub(super) fn dm_bufio_release(b: *mut Buffer);
    pub(super) fn dm_bufio_mark_buffer_dirty(b: *mut Buffer);
    pub(super) fn dm_bufio_prefetch(c: *mut BufioClient, block: u64, blocks: c_uint);
    pub(super) fn dm_bufio_forget(c: *mut BufioClient, block: u64);
    pub(super) fn dm_bufio_forget_buffers(c: *mut BufioClient, block: u64, n_blocks: u64);
    pub(super) fn dm_bufio_write_dirty_buffers(c: *mut BufioClient) -> c_int;
    pub(super) fn dm_bufio_get_device_size(c: *mut BufioClient) -> u64;
    pub(super) fn dm_bufio_get_block_number(b: *mut Buffer) -> u64;
    pub(super) fn dm_bufio_get_block_data(b: *mut Buffer) -> *mut c_void;

    pub(super) fn destroy_workqueue(wq: *mut Workqueue);
    pub(super) fn cancel_work_sync(work: *mut Work) -> bool;
    pub(super) fn cancel_delayed_work(work: *mut DelayedWork) -> bool;
    pub(super) fn cancel_delayed_work_sync(work: *mut DelayedWork) -> bool;
    pub(super) fn current_work() -> *mut Work;

    pub(super) fn crc32c(seed: u32, data: *const c_void, len: usize) -> u32;
    pub(super) fn ktime_get_real_seconds() -> i64;
    pub(super) fn get_random_bytes(buf: *mut c_void, len: usize);
}

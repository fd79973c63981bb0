// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers over the C interfaces of the kernel that the `kernel` crate lacks.
//!
//! This is the only room with `unsafe`, and the only one that knows C. It knows nothing of
//! snapshots. What it promises: whatever its callers do in safe code, no memory is touched that
//! is not theirs, no bio is lost or ended twice, and none of the `BUG_ON`s of device-mapper that
//! depend on arguments is hit. Where a contract of C cannot be put into a type, it is checked at
//! run time, or the documentation of the function says what the caller owes (contexts, mostly).
//!
//! Only `engine` and `main.rs` use it; it uses only the `kernel` crate. Differences between kernel
//! versions are dealt with here.
//!
//! One file for one concept of C:
//!
//! - [`target`]: target types and targets; [`vtable`] adapts them to dm's calls.
//! - [`bio`], [`bio_list`]: bios.
//! - [`device`], [`limits`]: block devices, and the limits of a mapped one.
//! - [`text`]: words from user space, and text for it.
//! - [`kcopyd`], [`bufio`], [`io`]: copies, cached metadata blocks, other I/O.
//! - [`queue`]: work queues.
//! - [`bits`]: a bitmap that is not C at all, but lock-free.
//! - [`noio`], [`crc`], [`time`], [`print`]: small things.
//! - [`ffi`], with `shim.h` and `shim.c`: the C side.

pub(crate) mod bio;
pub(crate) mod bits;
pub(crate) mod bufio;
pub(crate) mod crc;
pub(crate) mod device;
pub(crate) mod global;
pub(crate) mod io;
pub(crate) mod kcopyd;
pub(crate) mod noio;
pub(crate) mod print;
pub(crate) mod queue;
pub(crate) mod target;
pub(crate) mod time;

mod bio_list;
mod ffi;
mod limits;
mod text;
mod vtable;

pub(crate) use vtable::{
    register,
    Registration, //
};

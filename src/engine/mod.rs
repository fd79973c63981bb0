// SPDX-License-Identifier: GPL-2.0

//! The snapshot engine: joins bios (`dm`) to decisions (`store`).
//!
//! The path of one origin write is told by three files, in this order: [`origin`] (map), the
//! state machine in [`order`], and [`worker`], which carries out what the machine asks for.
//!
//! Lock order, outermost first:
//!
//! 1. `Origin::control`: commands and table changes of one origin, held while a command waits
//!    for the worker;
//! 2. the registry's `entries`;
//! 3. `Engine::core`: the state machine, the store and what they act on, held by the worker while
//!    it works and by those who look something up in the store;
//! 4. the checkpoint thread's `job`, a waiter's `result`;
//! 5. spinlocks: `Origin::engine`, then `Inbox::inner` or `Shared::known`, in the latter
//!    `Origin::grace`; that, `Origin::brief` and those of `Published` are leaves.
//!
//! The checkpoint thread holds its own `device` lock during I/O; nobody else takes it.
//!
//! map() takes spinlocks only. The worker takes neither of 1 and 2, so whoever holds them may
//! wait for it.

#![forbid(unsafe_code)]

mod args;
mod bios;
mod checkpoint;
mod command;
mod control;
mod copier;
mod identity;
mod inbox;
mod low_water;
mod meta;
mod name;
mod order;
mod origin;
mod out;
mod registry;
mod shared;
mod snap;
mod status;
mod sync;
mod worker;

pub(crate) use origin::OriginTarget;
pub(crate) use out::OutTarget;
pub(crate) use registry::{init, Registry};
pub(crate) use snap::SnapTarget;

// SPDX-License-Identifier: GPL-2.0

//! The exception stores and the engine's state machine on the host, with their tests; and images
//! of stores, as tools see them.

// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

pub mod image;

#[path = "../../../src/engine"]
mod engine {
    #[path = "order/mod.rs"]
    pub(crate) mod order;
}

#[cfg(test)]
#[path = "../../../tests/host/mod.rs"]
mod tests;

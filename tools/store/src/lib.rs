// SPDX-License-Identifier: GPL-2.0

//! The exception stores and the engine's state machine on the host, with their tests.

// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

#[path = "../../../src/engine"]
mod engine {
    #[path = "order/mod.rs"]
    pub(crate) mod order;
}

#[cfg(test)]
#[path = "../../../tests/host/mod.rs"]
mod tests;

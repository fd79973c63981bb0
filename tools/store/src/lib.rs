// SPDX-License-Identifier: GPL-2.0

//! The exception stores on the host, with their tests.

// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

// Only what is there yet.
#[path = "../../../src/store"]
mod store {
    pub(crate) mod blocks;
    pub(crate) mod format;
    pub(crate) mod meta;
    pub(crate) mod tree;
}

#[cfg(test)]
#[path = "../../../tests/host/mod.rs"]
mod tests;

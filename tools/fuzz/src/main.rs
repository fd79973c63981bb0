// SPDX-License-Identifier: GPL-2.0

//! Damaged images for the exception stores, by libFuzzer. `scripts/fuzz` builds and runs it.

#![no_main]
// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run(data));

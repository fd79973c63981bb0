// SPDX-License-Identifier: GPL-2.0

//! Tests that need no kernel.

mod disk;
mod meta;
mod ram;
mod tree;

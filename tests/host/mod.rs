// SPDX-License-Identifier: GPL-2.0

//! Tests that need no kernel.

mod base;
mod disk;
mod hostile;
mod meta;
mod order;
mod powercut;
mod ram;
mod range;
mod range_check;
mod range_model;
mod recent;
mod space;
mod tree;

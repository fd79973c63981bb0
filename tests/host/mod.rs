// SPDX-License-Identifier: GPL-2.0

//! Tests that need no kernel.

/// Makes a test of each of these functions for each type of store.
macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod btree {
            $(#[test] fn $name() { super::$name(crate::store::StoreType::Btree) })*
        }
        mod bitmask {
            $(#[test] fn $name() { super::$name(crate::store::StoreType::Bitmask) })*
        }
    };
}
#[path = "../fuzz/mod.rs"]
mod fuzz;

mod ahead;
mod base;
mod bitmask;
mod disk;
mod hostile;
mod loss;
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
mod unread;

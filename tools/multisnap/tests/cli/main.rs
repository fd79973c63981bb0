// SPDX-License-Identifier: GPL-2.0

//! Runs of `multisnap` on stores that the store code has made, and damaged ones.

mod basic;
mod damage;
mod fixture;
mod flips;
mod forged;
mod history;
mod images;
mod lock;
mod memory;
mod progress;
mod round;
mod usage;

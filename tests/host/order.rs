// SPDX-License-Identifier: GPL-2.0

//! Tests of the order machine alone, step by step, on a store of plain collections.

mod bench;
mod chaos;
mod control;
mod discard;
mod failures;
mod flush;
mod heal;
mod known;
mod origin;
mod parting;
mod reuse;
mod snapshot;
mod sweep;
mod unread;

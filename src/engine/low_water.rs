// SPDX-License-Identifier: GPL-2.0

//! `low-water`: tells, once each time, that the store is about to get full.

use super::{
    args::OriginArgs,
    name::{say, Name}, //
};
use crate::dm::{
    device::DevT,
    print, //
};
use crate::store::Space;

/// How many chunks should be free, and whether fewer are.
pub(super) struct LowWater {
    mark: u64,
    low: bool,
}

impl LowWater {
    /// What a table says; nothing was told for it yet.
    pub(super) fn new(args: &OriginArgs) -> Self {
        LowWater {
            mark: args.low_water.unwrap_or(0),
            low: false,
        }
    }

    /// Whether fewer chunks were free when it was looked at last.
    pub(super) fn is_low(&self) -> bool {
        self.low
    }

    /// Looks at the space of `store`. Answers whether somebody should be told.
    pub(super) fn look(&mut self, space: &Space, name: &Name, store: DevT, origin: DevT) -> bool {
        let free = space.total_chunks.saturating_sub(space.used_chunks);
        let mark = self.mark;
        let was_low = core::mem::replace(&mut self.low, free < mark);
        let news = self.low && !was_low;
        // At the mark it may go to and fro.
        if news && print::allowed() {
            say!(
                pr_warn,
                "{name}: store {store} has {free} free chunks, fewer than {mark}: grow it or \
                 delete snapshots of origin {origin}"
            );
        }
        news
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Devices that become larger while snapshots are in use.

use super::{
    run::{Command, Run},
    Config,
};
use crate::engine::order::Control;

impl Run {
    /// The devices have become larger.
    pub(super) fn grow(&mut self, config: &Config) {
        let sim = &mut self.sim;
        let chunk = sim.chunk();
        let more = if sim.origin.len() < 3 * config.origin_sectors {
            2 * chunk as usize
        } else {
            1
        };
        let origin = sim.origin.len() + sim.rng.below(more) as u64;
        sim.origin.grow(origin);
        sim.oracle.origin.grow(origin);
        let chunks = sim.rng.below(4) as u64;
        let mut store = sim.store.lock();
        let len = store.disk.len();
        store.disk.grow(len + chunks * chunk);
        drop(store);
        self.command = Command::Idle;
        self.record_sizes();
    }

    /// Asks the machine to record the sizes of the devices, if they are larger than it knows.
    pub(super) fn record_sizes(&mut self) {
        let sim = &mut self.sim;
        let (origin, store) = (sim.origin.len(), sim.store.lock().disk.len());
        let data_chunks = (store - sim.geometry.data_start) / sim.chunk();
        if (origin, data_chunks) == (sim.geometry.origin_sectors, sim.geometry.data_chunks) {
            return;
        }
        sim.note("grown", origin, store);
        sim.geometry.origin_sectors = origin;
        sim.geometry.data_chunks = data_chunks;
        sim.preserved.resize(origin as usize, 0);
        self.tell_control(Control::Resize { origin, store });
        self.command = Command::Growing;
    }
}

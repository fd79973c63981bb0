// SPDX-License-Identifier: GPL-2.0

//! Power cuts on two simulated devices with a write cache each, under the real order machine.
//!
//! A run is repeated exactly by its seed: everything that happens at random asks one generator.
//! [`disk`] and [`blocks`] are the devices, [`sim`] and [`events`] what is under way on them,
//! [`run`] the users, [`oracle`] what must be seen, [`cut`] the cuts, [`history`] several lives
//! of one store. [`model_store`] is a store that is right because it is simple.
//!
//! `MULTISNAP_CUTS` sets how many cuts are made, `MULTISNAP_SEED` the first seed,
//! `MULTISNAP_TRACE` how many of the last events are printed when something is wrong.

mod bios;
pub(super) mod blocks;
mod cut;
pub(super) mod disk;
mod events;
mod grow;
mod history;
mod leave;
mod lost;
mod model_calls;
pub(super) mod model_store;
mod oracle;
pub(super) mod rng;
mod run;
mod sim;
mod tests;
mod windows;
mod world;

use crate::store::ExceptionStore;
use blocks::Shared;
use kernel::prelude::*;
use rng::Rng;

/// Makes an empty store.
type Format = dyn Fn(&Shared) -> Result<(), String>;

/// Loads a store, for an origin of so many sectors.
type Load = dyn Fn(&Shared, u64) -> Result<KBox<dyn ExceptionStore>, String>;

/// How to make and load the store that is tested.
pub(crate) struct Maker {
    /// Sectors of its device.
    pub(crate) sectors: u64,
    /// Whether it has snapshots of snapshots.
    pub(crate) subs: bool,
    /// Whether its devices may grow.
    pub(crate) grows: bool,
    /// Whether an origin write may need several copies.
    pub(crate) many: bool,
    /// Makes an empty one.
    pub(crate) format: Box<Format>,
    /// Loads it.
    pub(crate) open: Box<Load>,
}

/// What a history is like.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Sectors in a chunk.
    pub(crate) chunk_sectors: u32,
    /// Sectors of the origin; the last chunk may be short.
    pub(crate) origin_sectors: u64,
    /// Chunks for data that the store should have.
    pub(crate) data_chunks: u64,
    /// Operations in a life.
    pub(crate) operations: usize,
    /// Bios that are out at most.
    pub(crate) depth: usize,
    /// Snapshots at most.
    pub(crate) max_ids: usize,
    /// How many of a hundred bios are for the origin.
    pub(crate) origin_percent: usize,
    /// Most bios are for this many chunks; 0: all alike.
    pub(crate) hot: usize,
    /// Only every second snapshot is written to.
    pub(crate) every_second: bool,
    /// Snapshots are deleted.
    pub(crate) deletes: bool,
    /// Snapshots of snapshots are cut.
    pub(crate) subs: bool,
    /// The devices grow.
    pub(crate) grows: bool,
    /// There are discards and writes of zeroes.
    pub(crate) discards: bool,
    /// What a discard of the origin takes away is preserved.
    pub(crate) discard_copy: bool,
    /// The policy.
    pub(crate) preserve_on_error: bool,
    /// One copy of so many fails; 0: none.
    pub(crate) errors: usize,
    /// One log or checkpoint write of so many fails; 0: none.
    pub(crate) meta_errors: usize,
    /// Log writes are slow most of the time.
    pub(crate) slow_log: bool,
    /// Lives of the store.
    pub(crate) lives: usize,
    /// One step of so many is followed by cuts.
    pub(crate) cut_every: usize,
    /// Cuts each time.
    pub(crate) cuts: usize,
    /// Small sizes, so that limits are met.
    pub(crate) log_len: u64,
    /// See `log_len`.
    pub(crate) batch: usize,
}

impl Config {
    /// A configuration of any kind.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut config = Self::usual(rng);
        if rng.one_in(4) {
            config.meta_errors = [25, 100][rng.below(2)];
        }
        if rng.one_in(8) {
            // Hardly any space, and much of it given back: what is freed is soon used again.
            return Config {
                origin_sectors: 3 * u64::from(config.chunk_sectors),
                // Some of it becomes metadata.
                data_chunks: 17 + rng.below(6) as u64,
                operations: 400,
                depth: 20,
                max_ids: 3,
                origin_percent: 10,
                hot: 0,
                discards: true,
                slow_log: true,
                cut_every: 12,
                cuts: 1,
                ..config
            };
        }
        if rng.one_in(6) {
            // Few chunks and snapshots, so that everything meets.
            return Config {
                origin_sectors: 2 * u64::from(config.chunk_sectors),
                data_chunks: 80,
                operations: 400,
                depth: 20,
                max_ids: 3,
                origin_percent: 15,
                hot: 1,
                cut_every: 50,
                cuts: 1,
                ..config
            };
        }
        if rng.one_in(6) {
            // Many snapshots, of which many have written: one origin write makes many copies.
            return Config {
                origin_sectors: 4 * u64::from(config.chunk_sectors),
                data_chunks: 250,
                operations: 600,
                depth: 20,
                max_ids: 60,
                origin_percent: 2,
                hot: 0,
                every_second: true,
                deletes: false,
                cut_every: 100,
                cuts: 1,
                ..config
            };
        }
        config
    }

    fn usual(rng: &mut Rng) -> Self {
        let short = rng.one_in(3);
        let chunk_sectors = [8, 8, 8, 16][rng.below(4)];
        let most = [4, 8, 40][rng.below(3)];
        let chunks = 1 + rng.below(most) as u64;
        let cut_off = rng.below(chunk_sectors as usize) as u64;
        let max_ids = [1, 3, 5, 24][rng.below(4)];
        let scarce = rng.one_in(4);
        let plenty = chunks * (max_ids as u64 + 1);
        Config {
            chunk_sectors,
            origin_sectors: chunks * u64::from(chunk_sectors) - cut_off,
            data_chunks: match scarce {
                true => 4 + rng.below(plenty as usize) as u64 / 2,
                false => plenty + 40,
            },
            operations: if short { 30 } else { 60 + rng.below(400) },
            depth: [2, 6, 20][rng.below(3)],
            max_ids,
            origin_percent: [2, 30, 50, 80][rng.below(4)],
            hot: rng.below(4),
            every_second: false,
            deletes: !rng.one_in(3),
            subs: false,
            grows: false,
            discards: !rng.one_in(3),
            discard_copy: rng.one_in(3),
            preserve_on_error: rng.one_in(2),
            errors: [0, 0, 0, 20][rng.below(4)],
            meta_errors: 0,
            slow_log: false,
            lives: 1 + rng.below(4),
            cut_every: if short { 1 } else { 24 },
            cuts: if short { 2 } else { 1 },
            log_len: 4 + rng.below(8) as u64,
            batch: 8 + rng.below(20),
        }
    }
}

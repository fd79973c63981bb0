// SPDX-License-Identifier: GPL-2.0

//! The power-cut runs themselves, and the proof that they notice broken rules.

use super::{
    history::{history, Stats},
    model_store::{History, ModelStore, Sizes},
    rng::Rng,
    sim::Mutation,
    Config, Maker,
};
use crate::store::{self, FormatParams, Open, StoreType};
use std::time::Instant;

/// A store of the simplest kind.
fn model(config: &Config) -> Maker {
    let sizes = Sizes {
        chunk_sectors: config.chunk_sectors,
        origin_sectors: config.origin_sectors,
        data_chunks: config.data_chunks,
        log_len: config.log_len,
        batch: config.batch,
    };
    let states = History::default();
    let again = states.clone();
    Maker {
        sectors: sizes.store_sectors(),
        subs: false,
        grows: false,
        many: true,
        format: Box::new(move |shared| {
            ModelStore::format(shared, &states);
            Ok(())
        }),
        open: Box::new(move |shared, _| {
            let store = ModelStore::open(shared, sizes, &again).map_err(|e| format!("{e:?}"))?;
            Ok(Box::new(store))
        }),
    }
}

fn btree(config: &Config) -> Maker {
    real(StoreType::Btree, config)
}

fn bitmask(config: &Config) -> Maker {
    real(StoreType::Bitmask, config)
}

/// The real store, of the smallest size that holds so many chunks.
fn real(store_type: StoreType, config: &Config) -> Maker {
    let params = FormatParams {
        uuid: [0x5a; 16],
        store_type,
        chunk_sectors: config.chunk_sectors,
        origin_sectors: config.origin_sectors,
    };
    // Header, log and metadata of a store that is not large.
    let fixed = (32 + 16 + 64) * 8;
    Maker {
        sectors: fixed + config.data_chunks.max(4) * u64::from(config.chunk_sectors),
        subs: store_type == StoreType::Btree,
        grows: true,
        many: store_type == StoreType::Btree,
        format: Box::new(move |shared| {
            let open = Open::format(shared.clone(), &params);
            open.map(drop).map_err(|e| format!("format: {e}"))
        }),
        open: Box::new(move |shared, origin_sectors| {
            let explain = |e| format!("load: {e}");
            let open = Open::peek(shared.clone(), false).map_err(explain)?;
            open.check(params.chunk_sectors, params.store_type, origin_sectors)
                .map_err(explain)?;
            store::load(open).map_err(explain)
        }),
    }
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|t| t.parse().ok()).unwrap_or(default)
}

/// Histories from `seed` on, until `cuts` were made.
fn soak(make: fn(&Config) -> Maker, cuts: u64, seed: u64) -> Stats {
    let begin = Instant::now();
    let mut stats = Stats::default();
    for seed in seed.. {
        if stats.cuts >= cuts {
            break;
        }
        let config = Config::random(&mut Rng::new(!seed));
        match history(seed, &config, &make(&config), Mutation::None) {
            Ok(more) => stats.add(&more),
            Err(what) => panic!("{what}"),
        }
    }
    println!(
        "{} cuts, {} copies, {} lives, {} of them ended cleanly, {:.1} s\n{}",
        stats.cuts,
        stats.copies,
        stats.lives,
        stats.clean,
        begin.elapsed().as_secs_f64(),
        stats.windows
    );
    stats
}

/// The first seed that notices `mutation`.
fn caught(make: fn(&Config) -> Maker, mutation: Mutation, seeds: u64) -> Option<u64> {
    (0..seeds).find(|seed| {
        let config = Config::random(&mut Rng::new(!seed));
        let result = history(*seed, &config, &make(&config), mutation);
        if let Err(what) = &result {
            println!("{mutation:?}: {}", what.lines().next().unwrap_or(""));
        }
        result.is_err()
    })
}

#[test]
fn model_store_survives_every_cut() {
    survives_every_cut(model, 20_000);
}

fn survives_every_cut(make: fn(&Config) -> Maker, cuts: u64) {
    let cuts = number("MULTISNAP_CUTS", cuts);
    let stats = soak(make, cuts, number("MULTISNAP_SEED", 1));
    if cuts >= 20_000 {
        let missing = stats.windows.missing();
        assert!(missing.is_empty(), "no cut fell into {missing:?}");
    }
}

#[test]
fn btree_survives_every_cut() {
    survives_every_cut(btree, 35_000);
}

#[test]
fn bitmask_survives_every_cut() {
    survives_every_cut(bitmask, 30_000);
}

/// Checks that each of these is noticed within so many seeds.
fn all_noticed(make: fn(&Config) -> Maker, mutations: &[Mutation], seeds: u64) {
    let noticed = |m: &&Mutation| caught(make, **m, seeds).is_none();
    let missed: Vec<_> = mutations.iter().filter(noticed).collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn broken_rules_are_noticed_with_the_model() {
    let mutations = [
        Mutation::NoOriginFlush,
        Mutation::NoPreflush,
        Mutation::NoLogFua,
        Mutation::ReadersPass,
        Mutation::UsersPass,
        Mutation::EarlyReuse,
        Mutation::EarlyLog,
        Mutation::EarlyCopy,
        Mutation::StaleFastPath,
        Mutation::NoStoreFlush,
        Mutation::BlindDiscard,
        Mutation::StaleKnown,
        Mutation::KeptKnown,
        Mutation::SilentOut,
    ];
    all_noticed(model, &mutations, 5000);
}

/// Rules that both real stores rely on.
const RULES: &[Mutation] = &[
    Mutation::NoOriginFlush,
    Mutation::NoPreflush,
    Mutation::NoLogFua,
    Mutation::ReadersPass,
    Mutation::UsersPass,
    Mutation::EarlyReuse,
    Mutation::ReplayAnywhere,
    Mutation::EarlyLog,
    Mutation::EarlyCopy,
    Mutation::NoCheckpointFlush,
    Mutation::EarlyCheckpoint,
    Mutation::StaleFastPath,
    Mutation::NoStoreFlush,
    Mutation::BlindDiscard,
    Mutation::StaleKnown,
    Mutation::SilentOut,
];

#[test]
fn broken_rules_are_noticed_with_btree() {
    all_noticed(btree, RULES, 5000);
    // Snapshots of snapshots are of this type only.
    all_noticed(btree, &[Mutation::KeptKnown], 5000);
}

#[test]
fn broken_rules_are_noticed_with_bitmask() {
    all_noticed(bitmask, RULES, 5000);
}

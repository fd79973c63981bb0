// SPDX-License-Identifier: GPL-2.0

//! What an operation of a store costs as it grows: in remaps, up to `GROWTH_REMAPS`, with two
//! snapshots; and in snapshots, up to `GROWTH_SNAPSHOTS`, with a million remaps. `scripts/growth`
//! runs it; `GROWTH_ONLY=btree/remaps` is one store and axis.
//!
//! A store of so many remaps and snapshots is made by overwriting each chunk of an origin once, in
//! random order, the worst for a tree, while the snapshots are made in equal steps. So each chunk
//! has one record, of some first snapshots. Then comes one more snapshot: all chunks have something
//! to preserve again.
//!
//! - `query`: whether a write has something to preserve, where it has;
//! - `rewrite`: the same for a chunk that has been preserved for all;
//! - `find`: where a snapshot's chunk is;
//! - `overwrite`: a first overwrite, with its share of commits and checkpoints;
//! - `create`: a snapshot, committed; in a store of ten thousand remaps, or one for each snapshot;
//! - `holes/query`, `holes/find`: after every second snapshot was deleted, so that no two live ids
//!   follow each other.
//!
//! The lines `grow` tell of the making of the store, from one power of ten to the next: time and
//! bytes written per overwrite, everything counted; and bytes of metadata kept per remap. `sweep`
//! is a pass over the store for one deleted snapshot, per record of it.

use criterion::{measurement::WallTime, BenchmarkGroup, BenchmarkId, Criterion};
use multisnap_growth::{Grown, Outcome};
use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

/// Numbers below `len` in a random order, each once, again and again.
struct Order {
    len: u64,
    bits: u32,
    next: u64,
}

impl Order {
    fn new(len: u64) -> Self {
        let bits = len.next_power_of_two().trailing_zeros().max(2);
        Self { len, bits, next: 0 }
    }

    /// One to one on numbers of `bits` bits: odd factors and shifted sums can be undone.
    fn mix(&self, mut x: u64) -> u64 {
        let mask = (1 << self.bits) - 1;
        for factor in [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9u64] {
            x = x.wrapping_mul(factor) & mask;
            x ^= x >> (self.bits / 2);
        }
        x
    }

    fn next(&mut self) -> u64 {
        loop {
            let x = self.mix(self.next);
            self.next = (self.next + 1) % (1 << self.bits);
            if x < self.len {
                return x;
            }
        }
    }
}

/// A store of some size, and what comes next.
struct Work {
    grown: Grown,
    /// Chunks in some order.
    any: Order,
    /// Chunks that were not overwritten since the last snapshot, while there are any.
    fresh: Order,
    left: u64,
}

impl Work {
    /// A store with so many snapshots, made while each of so many chunks was overwritten once.
    fn new(of: &str, snapshots: u64, remaps: u64) -> Outcome<Self> {
        let mut grown = Grown::new(of, remaps)?;
        let mut order = Order::new(remaps);
        grown.create()?;
        for done in 0..remaps {
            // In equal steps.
            while grown.size().snapshots * remaps < done * snapshots {
                grown.create()?;
            }
            grown.overwrite(order.next())?;
        }
        while grown.size().snapshots < snapshots {
            grown.create()?;
        }
        grown.checkpoint()?;
        Ok(Self {
            grown,
            any: Order::new(remaps),
            fresh: Order::new(remaps),
            left: 0,
        })
    }

    /// Another snapshot: all chunks have something to preserve.
    fn freshen(&mut self) -> Outcome<()> {
        self.grown.create()?;
        self.fresh = Order::new(self.fresh.len);
        self.left = self.fresh.len;
        Ok(())
    }

    /// Overwrites the next chunk that has something to preserve.
    fn overwrite(&mut self) -> Outcome<bool> {
        self.left -= 1;
        self.grown.overwrite(self.fresh.next())
    }
}

/// Runs `f` so many times, on stores that `make` makes when one is used up, and tells the time of
/// `f` alone.
fn timed<T>(
    times: u64,
    most: u64,
    work: &mut Option<(T, u64)>,
    make: impl Fn() -> T,
    mut f: impl FnMut(&mut T),
) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        if work.as_ref().is_none_or(|(_, used)| *used >= most) {
            *work = None;
            *work = Some((make(), 0));
        }
        let Some((it, used)) = work else { continue };
        let now = left.min(most - *used);
        let start = Instant::now();
        (0..now).for_each(|_| f(it));
        took += start.elapsed();
        *used += now;
        left -= now;
    }
    took
}

fn must<T>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|e| panic!("the store says {e}"))
}

/// What a size is called.
fn label(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{:.0e}", n as f64),
    }
}

/// Makes a store step by step, and tells what each step took.
fn grow(of: &str, most: u64) {
    let mut grown = must(Grown::new(of, most));
    let mut order = Order::new(most);
    must(grown.create());
    let mut step = 10_000;
    while step <= most {
        let before = grown.size();
        let start = Instant::now();
        while grown.size().remaps < step {
            must(grown.overwrite(order.next()));
        }
        must(grown.checkpoint());
        let took = start.elapsed().as_nanos() as f64;
        let size = grown.size();
        let more = (size.remaps - before.remaps) as f64;
        println!(
            "grow: {of} to {} remaps: {:.0} ns, {:.1} bytes written per overwrite; {:.1} bytes kept per remap",
            label(step),
            took / more,
            (size.written - before.written) as f64 / more,
            size.metadata as f64 / size.remaps as f64
        );
        step *= 10;
    }
}

/// One axis of one store.
struct Axis<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    of: &'a str,
    name: &'a str,
}

impl Axis<'_> {
    fn id(&self, what: &str, size: &str) -> BenchmarkId {
        BenchmarkId::new(format!("{}/{}/{what}", self.of, self.name), size)
    }

    fn asks(&mut self, size: &str, what: &str, work: &mut Work) {
        self.group.bench_function(self.id(what, size), |b| {
            b.iter(|| black_box(must(work.grown.ask(work.any.next()))))
        });
    }

    /// `id` of the `n`th of so many snapshots that is looked up.
    fn finds(&mut self, size: &str, what: &str, work: &mut Work, of: u64, id: impl Fn(u64) -> u64) {
        let mut n = 0;
        self.group.bench_function(self.id(what, size), |b| {
            b.iter(|| {
                n = (n + 7919) % of;
                black_box(must(work.grown.find(work.any.next(), id(n))))
            })
        });
    }

    /// All operations of one size. `constant`: the number of snapshots is to stay what it is.
    fn measure(&mut self, size: &str, snapshots: u64, remaps: u64, constant: bool) {
        let mut work = must(Work::new(self.of, snapshots, remaps));
        self.asks(size, "rewrite", &mut work);
        must(work.freshen());
        must(work.grown.checkpoint());
        self.asks(size, "query", &mut work);
        self.finds(size, "find", &mut work, snapshots, |n| n + 1);
        self.group.bench_function(self.id("overwrite", size), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    if work.left == 0 {
                        if constant {
                            must(
                                work.grown
                                    .oldest()
                                    .map_or(Ok(()), |id| work.grown.delete(id)),
                            );
                            must(work.grown.sweep());
                        }
                        must(work.freshen());
                    }
                    let now = left.min(work.left);
                    let start = Instant::now();
                    (0..now).for_each(|_| {
                        black_box(must(work.overwrite()));
                    });
                    took += start.elapsed();
                    left -= now;
                }
                took
            })
        });
        let records = work.grown.size().remaps;
        must(
            work.grown
                .oldest()
                .map_or(Ok(()), |id| work.grown.delete(id)),
        );
        let start = Instant::now();
        must(work.grown.sweep());
        let took = start.elapsed().as_nanos() as f64 / records as f64;
        println!(
            "sweep: {} {} {size}: {took:.1} ns per record",
            self.of, self.name
        );
    }

    fn creates(&mut self, size: &str, snapshots: u64) {
        let most = (snapshots / 10).max(16);
        let make = || must(Work::new(self.of, snapshots, snapshots.max(10_000)));
        let mut state = None;
        self.group.bench_function(self.id("create", size), |b| {
            b.iter_custom(|times| {
                timed(times, most, &mut state, make, |work| {
                    must(work.grown.create())
                })
            })
        });
    }

    fn holes(&mut self, size: &str, snapshots: u64, remaps: u64) {
        let mut work = must(Work::new(self.of, snapshots, remaps));
        for id in (2..=snapshots).step_by(2) {
            must(work.grown.delete(id));
        }
        must(work.grown.sweep());
        must(work.freshen());
        self.asks(size, "holes/query", &mut work);
        self.finds(size, "holes/find", &mut work, snapshots / 2, |n| 2 * n + 1);
    }
}

/// Powers of ten from `least` to what a variable says.
fn sizes(least: u64, variable: &str) -> Vec<u64> {
    let most: u64 = match env::var(variable).map(|n| n.parse()) {
        Ok(Ok(n)) => n,
        _ => panic!("{variable} is to be the largest size"),
    };
    (0..12)
        .map(|power| least * 10u64.pow(power))
        .take_while(|n| *n <= most)
        .collect()
}

fn main() {
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let only = env::var("GROWTH_ONLY").unwrap_or_default();
    for of in ["btree", "bitmask"] {
        for name in ["remaps", "snapshots"] {
            if !format!("{of}/{name}").starts_with(&only) {
                continue;
            }
            let group = c.benchmark_group("growth");
            let mut axis = Axis { group, of, name };
            if name == "remaps" {
                let sizes = sizes(10_000, "GROWTH_REMAPS");
                grow(of, sizes.last().copied().unwrap_or(0));
                for remaps in sizes {
                    axis.measure(&label(remaps), 1, remaps, true);
                }
                continue;
            }
            let mut counts = sizes(1, "GROWTH_SNAPSHOTS");
            if of == "bitmask" {
                // 64 is the most, and `create` makes 16 more.
                counts.retain(|n| *n < 46);
                counts.push(46);
            }
            for snapshots in counts {
                let size = label(snapshots);
                axis.measure(&size, snapshots, 1_000_000, false);
                axis.creates(&size, snapshots);
                // More runs of live ids than these are refused.
                if (2..=100_000).contains(&snapshots) {
                    axis.holes(&size, snapshots, 1_000_000);
                }
            }
            axis.group.finish();
        }
    }
    c.final_summary();
}

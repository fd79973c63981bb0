// SPDX-License-Identifier: GPL-2.0

//! What an operation of a store costs as it grows: in remaps, up to `GROWTH_REMAPS`, with two
//! snapshots; and in snapshots, up to `GROWTH_SNAPSHOTS`, with a million remaps. `scripts/growth`
//! runs it; `GROWTH_ONLY=btree/remaps` is one store and axis.
//!
//! A store of so many remaps and snapshots is made by overwriting each of so many chunks once, in
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
//! The lines `grow` tell of a store that grows, from one power of ten to the next: time and
//! bytes written per overwrite, everything counted; and bytes of metadata kept per remap. `sweep`
//! is a pass over the store for the oldest snapshot, which was deleted.

use criterion::{measurement::WallTime, BenchmarkGroup, BenchmarkId, Criterion};
use multisnap_growth::{Grown, Outcome};
use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

/// All numbers of so many bits, each once, in an order that looks random.
struct Order {
    bits: u32,
}

impl Order {
    /// At least `len` numbers.
    fn new(len: u64) -> Self {
        let bits = len.next_power_of_two().trailing_zeros().max(2);
        Self { bits }
    }

    fn len(&self) -> u64 {
        1 << self.bits
    }

    /// The number at place `x`: odd factors and shifted sums can be undone.
    fn at(&self, mut x: u64) -> u64 {
        let mask = self.len() - 1;
        for factor in [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9u64] {
            x = x.wrapping_mul(factor) & mask;
            x ^= x >> (self.bits / 2);
        }
        x
    }
}

/// A store of some size, and what comes next.
struct Work {
    grown: Grown,
    order: Order,
    /// The chunks that have a record are the first so many of the order.
    chunks: u64,
    any: u64,
    /// So many of them were overwritten since the last snapshot.
    fresh: u64,
}

impl Work {
    /// An empty store with one snapshot, for up to so many chunks with records.
    fn new(of: &str, most: u64) -> Outcome<Self> {
        let order = Order::new(most);
        let mut grown = Grown::new(of, order.len())?;
        grown.create()?;
        Ok(Self {
            grown,
            order,
            chunks: 0,
            any: 0,
            fresh: 0,
        })
    }

    /// One with so many snapshots, made while so many chunks were overwritten.
    fn with(of: &str, snapshots: u64, remaps: u64) -> Outcome<Self> {
        let mut work = Self::new(of, remaps)?;
        while work.chunks < remaps {
            // In equal steps.
            while work.grown.size().snapshots * remaps < work.chunks * snapshots {
                work.grown.create()?;
            }
            work.extend()?;
        }
        while work.grown.size().snapshots < snapshots {
            work.grown.create()?;
        }
        work.grown.checkpoint()?;
        work.fresh = work.chunks;
        Ok(work)
    }

    /// The first overwrite of one more chunk.
    fn extend(&mut self) -> Outcome<bool> {
        self.chunks += 1;
        self.grown.overwrite(self.order.at(self.chunks - 1))
    }

    /// Another snapshot: all chunks have something to preserve again.
    fn freshen(&mut self) -> Outcome<()> {
        self.fresh = 0;
        self.grown.create()
    }

    /// Overwrites the next chunk that has a record, and something to preserve.
    fn overwrite(&mut self) -> Outcome<bool> {
        self.fresh += 1;
        self.grown.overwrite(self.order.at(self.fresh - 1))
    }

    /// A chunk that has a record.
    fn any(&mut self) -> u64 {
        self.any = (self.any + 1) % self.chunks;
        self.order.at(self.any)
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
            b.iter(|| {
                let chunk = work.any();
                black_box(must(work.grown.ask(chunk)))
            })
        });
    }

    /// `id` of the `n`th of so many snapshots that is looked up.
    fn finds(&mut self, size: &str, what: &str, work: &mut Work, of: u64, id: impl Fn(u64) -> u64) {
        let mut n = 0;
        self.group.bench_function(self.id(what, size), |b| {
            b.iter(|| {
                n = (n + 7919) % of;
                let chunk = work.any();
                black_box(must(work.grown.find(chunk, id(n))))
            })
        });
    }

    /// `query`, `rewrite` and `find`. All chunks have something to preserve after that.
    fn looks(&mut self, size: &str, work: &mut Work) {
        let snapshots = work.grown.size().snapshots;
        self.asks(size, "rewrite", work);
        must(work.freshen());
        must(work.grown.checkpoint());
        self.asks(size, "query", work);
        self.finds(size, "find", work, snapshots, |n| n + 1);
    }

    /// A store that grows from one power of ten to the next.
    fn grows(&mut self, sizes: &[u64]) {
        let Some(&most) = sizes.last() else { return };
        let mut work = must(Work::new(self.of, most));
        for &step in sizes {
            let before = work.grown.size();
            let start = Instant::now();
            while work.chunks < step {
                must(work.extend());
            }
            must(work.grown.checkpoint());
            let took = start.elapsed().as_nanos() as f64;
            let size = work.grown.size();
            let more = (size.remaps - before.remaps) as f64;
            println!(
                "grow: {} to {} remaps: {:.0} ns, {:.1} bytes written per overwrite; {:.1} bytes kept per remap",
                self.of,
                label(step),
                took / more,
                (size.written - before.written) as f64 / more,
                size.metadata as f64 / size.records as f64
            );
            self.looks(&label(step), &mut work);
        }
        self.sweeps(&label(most), &mut work);
    }

    /// First overwrites in a store that keeps its number of snapshots, if it is to.
    fn overwrites(&mut self, size: &str, work: &mut Work, constant: bool) {
        self.group.bench_function(self.id("overwrite", size), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    if work.fresh == work.chunks {
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
                    let now = left.min(work.chunks - work.fresh);
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
    }

    fn sweeps(&mut self, size: &str, work: &mut Work) {
        must(
            work.grown
                .oldest()
                .map_or(Ok(()), |id| work.grown.delete(id)),
        );
        let records = work.grown.size().records;
        let start = Instant::now();
        must(work.grown.sweep());
        let took = start.elapsed().as_nanos() as f64;
        let kept = work.grown.size().records;
        println!(
            "sweep: {} {} {size}: {:.1} ns for each of {records} records, of which {} went",
            self.of,
            self.name,
            took / records as f64,
            records - kept
        );
    }

    /// All operations of one size. `constant`: the number of snapshots is to stay what it is.
    fn measure(&mut self, size: &str, snapshots: u64, remaps: u64, constant: bool) {
        let mut work = must(Work::with(self.of, snapshots, remaps));
        if !constant {
            self.looks(size, &mut work);
        }
        self.overwrites(size, &mut work, constant);
        self.sweeps(size, &mut work);
    }

    fn creates(&mut self, size: &str, snapshots: u64) {
        let most = (snapshots / 10).max(16);
        let make = || must(Work::with(self.of, snapshots, snapshots.max(10_000)));
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
        let mut work = must(Work::with(self.of, snapshots, remaps));
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
                axis.grows(&sizes);
                // More take long to make, and their overwrites are in what it took to grow.
                for remaps in sizes.into_iter().filter(|n| *n <= 10_000_000) {
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

// SPDX-License-Identifier: GPL-2.0

//! What an operation of a store costs as it grows: in remaps, with one snapshot, and in snapshots,
//! with a million remaps (for `create`, ten thousand, or one for each snapshot). `scripts/growth` runs
//! it.
//!
//! How to read it: below a million remaps `overwrite` is measured between two checkpoints, without
//! the cost of one. With ten snapshots and more each chunk has ten records; a query has something to
//! preserve for most chunks then, and nothing with one snapshot. Live ids are one run.
//!
//! Chunks are overwritten in random order, the worst case for a tree: each operation meets another
//! leaf. `GROWTH_REMAPS` and `GROWTH_SNAPSHOTS` are the largest sizes.

use criterion::{BenchmarkId, Criterion};
use multisnap_growth::{Grown, Outcome, Size};
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
    order: Order,
    /// Chunks that are overwritten from the last snapshot on, in this order.
    fresh: Order,
}

impl Work {
    /// A store with so many snapshots and remaps. The snapshots are made while the origin is
    /// overwritten, up to ten times.
    fn new(of: &str, snapshots: u64, remaps: u64) -> Outcome<Self> {
        let space = remaps / snapshots.clamp(1, 10);
        let mut grown = Grown::new(of, space * 2)?;
        let mut order = Order::new(space);
        grown.create()?;
        for done in 0..remaps {
            // After the first round a chunk is fresh if there was a snapshot since.
            while grown.size().snapshots * remaps < (done * snapshots) {
                grown.create()?;
            }
            grown.overwrite(order.next())?;
        }
        while grown.size().snapshots < snapshots {
            grown.create()?;
        }
        grown.checkpoint()?;
        let fresh = Order::new(space);
        Ok(Self {
            grown,
            order,
            fresh,
        })
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

/// A line of the curve of bytes.
fn tell(of: &str, size: Size, before: Size) {
    let remaps = size.remaps.max(1) as f64;
    let more = (size.remaps - before.remaps).max(1) as f64;
    println!(
        "bytes: {of} snapshots {} remaps {} metadata/remap {:.1} written/remap {:.1}",
        size.snapshots,
        size.remaps,
        size.metadata as f64 / remaps,
        (size.written - before.written) as f64 / more
    );
}

/// All operations of one size.
fn measure(c: &mut Criterion, of: &str, axis: &str, snapshots: u64, remaps: u64) {
    let size = label(if axis == "remaps" { remaps } else { snapshots });
    let name = |what: &str| BenchmarkId::new(format!("{of}/{axis}/{what}"), &size);
    let mut group = c.benchmark_group("growth");
    let mut work = must(Work::new(of, snapshots, remaps));
    group.bench_function(name("query"), |b| {
        b.iter(|| black_box(must(work.grown.ask(work.order.next()))))
    });
    let mut id = 0;
    group.bench_function(name("find"), |b| {
        b.iter(|| {
            id = (id + 7919) % snapshots;
            black_box(must(work.grown.find(work.order.next(), id + 1)))
        })
    });
    // From here on the store grows, by a tenth at most.
    let most = (remaps / 10).max(1);
    let fresh = |mut work: Work| {
        must(work.grown.create());
        must(work.grown.checkpoint());
        work
    };
    let make = || fresh(must(Work::new(of, snapshots, remaps)));
    let mut work = fresh(work);
    let before = work.grown.size();
    let some = most / 2;
    for _ in 0..some {
        must(work.grown.overwrite(work.fresh.next()));
    }
    must(work.grown.checkpoint());
    tell(of, work.grown.size(), before);
    let mut state = Some((work, some));
    group.bench_function(name("overwrite"), |b| {
        b.iter_custom(|times| {
            timed(times, most, &mut state, make, |work| {
                let chunk = work.fresh.next();
                black_box(must(work.grown.overwrite(chunk)));
            })
        })
    });
    if let Some((work, _)) = &mut state {
        let size = work.grown.size();
        let start = Instant::now();
        must(work.grown.delete_and_sweep());
        let took = start.elapsed().as_nanos() as f64 / size.remaps as f64;
        println!(
            "sweep: {of} snapshots {} remaps {} ns/remap {took:.1}",
            size.snapshots, size.remaps
        );
    }
    let mut state = None;
    if axis == "snapshots" {
        let most = (snapshots / 10).max(16);
        let make = || must(Work::new(of, snapshots, 10_000.max(snapshots)));
        group.bench_function(name("create"), |b| {
            b.iter_custom(|times| {
                timed(times, most, &mut state, make, |work| {
                    must(work.grown.create())
                })
            })
        });
    }
    group.finish();
}

/// Powers of ten from `least` to what a variable says.
fn sizes(least: u64, variable: &str, most: u64) -> Vec<u64> {
    let most: u64 = match env::var(variable) {
        Ok(n) => n.parse().unwrap_or_else(|e| panic!("{variable}: {e}")),
        Err(_) => most,
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
    for of in ["btree", "bitmask"] {
        for remaps in sizes(10_000, "GROWTH_REMAPS", 100_000_000) {
            measure(&mut c, of, "remaps", 1, remaps);
        }
        let mut counts = sizes(1, "GROWTH_SNAPSHOTS", 1_000_000);
        if of == "bitmask" {
            // `create` makes 16 more.
            counts.retain(|n| *n < 46);
            counts.push(46);
        }
        for snapshots in counts {
            measure(&mut c, of, "snapshots", snapshots, 1_000_000);
        }
    }
    c.final_summary();
}

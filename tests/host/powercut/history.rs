// SPDX-License-Identifier: GPL-2.0

//! Several lives of one store, with power cuts tried all along and one kept at the end of each.

use super::{
    blocks::Shared,
    cut::{cut, Survivor},
    disk::Disk,
    oracle::Oracle,
    rng::Rng,
    run::{Command, Run},
    sim::{Event, Mutation, Sim},
    windows::{Window, Windows},
    Config, Maker,
};
use crate::store::SnapId;
use std::fmt::Write;

/// What was seen.
#[derive(Clone, Default)]
pub(crate) struct Stats {
    /// Cuts made and found right.
    pub(crate) cuts: u64,
    /// Where they fell.
    pub(crate) windows: Windows,
    /// Copies made by the machine.
    pub(crate) copies: u64,
    /// Lives, and those that ended cleanly.
    pub(crate) lives: u64,
    /// See `lives`.
    pub(crate) clean: u64,
}

impl Stats {
    /// Adds another history's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.windows.add(&other.windows);
        self.copies += other.copies;
        self.lives += other.lives;
        self.clean += other.clean;
    }
}

/// How a life ends, if it comes to that.
#[derive(Clone, Copy)]
enum End {
    /// By a power cut and nothing else.
    Cut,
    /// The device is removed.
    Clean,
    /// The origin is taken out, and others write it.
    Out,
}

/// Runs the history of `seed`. An error tells all that is needed to find its cause.
pub(crate) fn history(
    seed: u64,
    config: &Config,
    maker: &Maker,
    mutation: Mutation,
) -> Result<Stats, String> {
    let mut rng = Rng::new(seed);
    let config = &Config {
        subs: maker.subs && rng.one_in(2),
        // What becomes of a growth that cannot be recorded is another matter.
        grows: maker.grows && config.meta_errors == 0 && rng.one_in(2),
        ..config.clone()
    };
    let shared = Shared::new(Disk::new(maker.sectors), rng.next());
    (maker.format)(&shared)?;
    let store = (maker.open)(&shared, config.origin_sectors)?;
    let origin = Disk::new(config.origin_sectors);
    let oracle = Oracle::new(config.origin_sectors);
    let mut sim = Sim::new(Rng::new(rng.next()), origin, shared, oracle);
    sim.mutation = mutation;
    sim.geometry = store.geometry();
    sim.lossy = !config.preserve_on_error;
    sim.slow_log = config.slow_log;
    sim.errors = config.errors;
    sim.meta_errors = config.meta_errors;
    let mut run = Run::new(sim, store, config);
    let mut stats = Stats::default();
    for life in 0..config.lives {
        // Chosen before, so that it does not depend on what the machine does.
        let end = match rng.below(6) {
            0 | 1 => End::Clean,
            // A loss that cannot be written is another matter.
            2 if config.meta_errors == 0 => End::Out,
            _ => End::Cut,
        };
        let most = config.operations * 40;
        let steps = if rng.one_in(3) {
            1 + rng.below(most)
        } else {
            usize::MAX
        };
        let result = live(&mut run, config, maker, &mut rng, &mut stats, steps, end);
        stats.lives += 1;
        stats.copies += run.machine.counts().copies;
        let survivor = match result {
            Ok(survivor) => survivor,
            Err(what) => return Err(report(seed, life, config, &mut run, &what)),
        };
        let mut sim = run.sim;
        sim.oracle = survivor.oracle;
        sim.restart(survivor.origin, survivor.shared, survivor.store.geometry());
        run = Run::new(sim, survivor.store, config);
    }
    Ok(stats)
}

/// One life; what its end leaves.
fn live(
    run: &mut Run,
    config: &Config,
    maker: &Maker,
    rng: &mut Rng,
    stats: &mut Stats,
    steps: usize,
    end: End,
) -> Result<Survivor, String> {
    let limit = 4000 + config.operations * 400;
    for step in 0.. {
        if step == steps || run.command == Command::Closed {
            break;
        }
        if step == limit {
            run.check_quiet();
            return Err(run
                .sim
                .failure
                .take()
                .unwrap_or("never comes to rest".into()));
        }
        if run.command == Command::Idle {
            match end {
                End::Clean if run.budget == 0 => run.stop(),
                // Its snapshots stay in use meanwhile.
                End::Out if run.budget <= config.operations / 2 => run.leave(),
                _ => {}
            }
        }
        let more = run.step(config);
        if let Some(what) = run.sim.failure.take() {
            return Err(what);
        }
        if !more {
            run.check_quiet();
            if let Some(what) = run.sim.failure.take() {
                return Err(what);
            }
            break;
        }
        if rng.one_in(config.cut_every) || (is_rare(run) && rng.one_in(4)) {
            for _ in 0..config.cuts {
                let mutation = run.sim.mutation;
                try_cut(run, maker, mutation, rng, stats)?;
            }
        }
    }
    let closed = run.command == Command::Closed;
    stats.clean += u64::from(closed);
    // What the next life begins with was recovered as it must be.
    try_cut(run, maker, Mutation::None, rng, stats)
}

/// Whether this is a moment that cuts would seldom find.
fn is_rare(run: &mut Run) -> bool {
    let parked = |run: &Run| run.sim.bios.iter().any(|b| b.protected && !b.ended);
    let eight = |e: &Event| matches!(e, Event::Copy(.., dests, _) if dests.len() == 8);
    run.sim.last_word
        || (run.sim.readers_hold() && !run.log_is_out() && parked(run))
        || run.sim.events.iter().any(eight)
}

/// Cuts the power now, in a copy of the world.
fn try_cut(
    run: &mut Run,
    maker: &Maker,
    mutation: Mutation,
    rng: &mut Rng,
    stats: &mut Stats,
) -> Result<Survivor, String> {
    let windows = &mut stats.windows;
    run.sim.windows(windows);
    windows.hit(Window::Recorded, run.machine.store().has_unsealed());
    let parked = run.sim.bios.iter().any(|b| b.protected && !b.ended);
    let held = run.sim.readers_hold();
    windows.hit(Window::Readers, parked && held && !run.log_is_out());
    windows.hit(Window::Draining, run.command == Command::Draining);
    let creating = run.command == Command::Creating && run.sim.cut_id.is_some();
    windows.hit(Window::CreateLog, creating && run.log_is_out());
    let deleting = matches!(run.command, Command::Deleting(_));
    windows.hit(Window::Deleting, deleting);
    if maker.subs {
        windows.hit(Window::Gated, run.machine.is_gated());
        let sub = run.sim.cut_id.is_some_and(|id| SnapId(id).is_sub());
        windows.hit(Window::SubLog, creating && sub && run.log_is_out());
    } else {
        windows.hit(Window::Gated, true);
        windows.hit(Window::SubLog, true);
    }
    let log = run.machine.store().has_unsealed() || run.log_is_out();
    let named = creating && run.named.is_some();
    windows.hit(Window::Named, named && run.log_is_out());
    let growing = run.command == Command::Growing;
    windows.hit(Window::Growing, (growing && log) || !maker.grows);
    windows.hit(Window::Zeroed, run.sim.zeroed && log);
    if !maker.many {
        windows.hit(Window::EightDests, true);
    }
    windows.hit(Window::Leaving, run.command == Command::Letting);
    let out = matches!(run.command, Command::Out(_));
    windows.hit(Window::Out, out && !run.sim.oracle.snaps.is_empty());
    windows.hit(Window::Closing, run.command == Command::Closing);
    stats.cuts += 1;
    let disk = run.sim.store.lock().disk.clone();
    let (oracle, origin) = (&run.sim.oracle, &run.sim.origin);
    let windows = &mut stats.windows;
    cut(maker, mutation, oracle, origin, &disk, rng, windows)
}

fn report(seed: u64, life: usize, config: &Config, run: &mut Run, what: &str) -> String {
    let space = run.machine.store().space();
    let mut text = format!(
        "seed {seed}, life {life}: {what}\n{config:?}\n{space:?}\n\
         (again: MULTISNAP_SEED={seed} MULTISNAP_CUTS=1)\nlast events:\n"
    );
    for (event, a, b) in &run.sim.trace {
        let _ = writeln!(text, "  {event} {a:x} {b:x}");
    }
    text
}

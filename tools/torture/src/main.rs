// SPDX-License-Identifier: GPL-2.0

//! Random concurrent I/O on an origin and its snapshots, with cuts, deletions, renames, suspends,
//! reloads and restarts in between, beside a model that knows what each sector must show.
//!
//! A seed repeats what every thread does; how the threads interleave is not repeated.

mod content;
mod control;
mod dm;
mod io;
mod model;
mod rng;
mod run;
mod volume;

use std::{env, process::ExitCode};

/// Most snapshots at a time.
pub const MOST: usize = 12;

/// Which errors are to be reckoned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None.
    None,
    /// The store is too small.
    Full {
        /// It was loaded with preserve-on-error.
        preserve: bool,
    },
    /// The devices fail now and then.
    Broken,
}

/// What to do.
pub struct Options {
    seed: u64,
    origin: String,
    store: String,
    chunk: u64,
    store_type: String,
    generic: String,
    rounds: u64,
    ops: u64,
    threads: u64,
    sectors: u64,
    faults: Faults,
    restarts: bool,
    stop: String,
    until: String,
}

const USAGE: &str = "torture <word>=<value>...: \
    seed=1 origin=DEV store=DEV sectors=<of the origin> chunk=32 type=btree generic=0 \
    rounds=8 ops=150 threads=4 faults=none|full|broken restarts=yes \
    stop=<file made at the end of the rounds; whoever breaks the devices removes it when all is well> \
    until=<file made by them when it may be the end: there are more rounds before>";

fn options() -> Option<Options> {
    let mut options = Options {
        seed: 1,
        origin: String::new(),
        store: String::new(),
        chunk: 32,
        store_type: "btree".to_owned(),
        generic: "0".to_owned(),
        rounds: 8,
        ops: 150,
        threads: 4,
        sectors: 0,
        faults: Faults::None,
        restarts: true,
        stop: String::new(),
        until: String::new(),
    };
    let mut faults = "none".to_owned();
    for word in env::args().skip(1) {
        let (name, value) = word.split_once('=')?;
        let number = value.parse();
        match name {
            "seed" => options.seed = number.ok()?,
            "origin" => options.origin = value.to_owned(),
            "store" => options.store = value.to_owned(),
            "sectors" => options.sectors = number.ok()?,
            "chunk" => options.chunk = number.ok()?,
            "type" => options.store_type = value.to_owned(),
            "generic" => options.generic = value.to_owned(),
            "rounds" => options.rounds = number.ok()?,
            "ops" => options.ops = number.ok()?,
            "threads" => options.threads = number.ok()?,
            "faults" => faults = value.to_owned(),
            "stop" => options.stop = value.to_owned(),
            "until" => options.until = value.to_owned(),
            "restarts" => options.restarts = value == "yes",
            _ => return None,
        }
    }
    let preserve = options.generic.contains("preserve-on-error");
    options.faults = match faults.as_str() {
        "none" => Faults::None,
        "full" => Faults::Full { preserve },
        "broken" => Faults::Broken,
        _ => return None,
    };
    (options.sectors != 0).then_some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // A thread that is gone would leave the others waiting for its sectors.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        told(info);
        std::process::exit(101);
    }));
    match run::run(&options) {
        Ok(summary) => {
            println!("seed {}: {summary}", options.seed);
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("seed {}: {wrong}", options.seed);
            ExitCode::FAILURE
        }
    }
}

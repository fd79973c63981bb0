// SPDX-License-Identifier: GPL-2.0

//! Power cuts under the real module, with a write cache for each of its two devices.
//!
//! `cutdisk host` serves the disks of a guest: origin, store, and one for notes. It puts every
//! write, flush and note on one tape. `cutdisk guest` runs in that guest. First it does random
//! things with the module, and notes what has become durable. Then the host cuts: for each of some
//! positions of the tape it lets both disks hold what they had flushed there, and a part of the
//! rest; the guest loads that and tells what it reads, and the host compares it with what may be
//! there. `tests/guest/cuts` runs both.

mod cut;
mod director;
mod guest;
mod loss;
mod model;
mod nbd;
mod note;
mod sector;
mod server;
mod tape;
mod window;

use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the disks, make the cuts, and say as TAP what was found.
    Host(Options),
    /// Do what the host says; in the guest.
    Guest,
}

/// What the host is to do.
#[derive(Args, Clone)]
#[command(args_override_self = true)]
pub struct Options {
    /// Socket for QEMU.
    #[arg(long)]
    socket: PathBuf,
    /// Folder for the images of cuts that failed.
    #[arg(long)]
    keep: PathBuf,
    /// Cuts in each round.
    #[arg(long, default_value_t = 20)]
    cuts: usize,
    /// Workloads, each with cuts of its own.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// Seed of everything that the programs do at random.
    #[arg(long)]
    seed: Option<u64>,
    /// How long a workload runs.
    #[arg(long, default_value_t = 10_000)]
    milliseconds: u64,
    /// MiB of the origin.
    #[arg(long, default_value_t = 2)]
    origin: usize,
    /// MiB of the store.
    #[arg(long, default_value_t = 8)]
    store: usize,
    /// Type of the store.
    #[arg(long, default_value = "btree")]
    store_type: String,
    /// Cut only where a window is open whose name begins so.
    #[arg(long)]
    window: Option<String>,
    /// It is a failure if no cut falls into some window.
    #[arg(long)]
    all_windows: bool,
    /// Stop at the first cut that fails.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Host(options) => server::run(options),
        Command::Guest => guest::run().map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("cutdisk: {e:#}");
            ExitCode::FAILURE
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Stores of dm-multisnapshot without the module: checked, dumped, made again, repaired, read.
//!
//! Everything that knows the format is the code that the kernel runs (`multisnap-store`).

mod cat;
mod check;
mod check_pass;
mod check_report;
mod copy;
mod count;
mod device;
mod dump;
mod failure;
mod losses;
mod out;
mod progress;
mod records;
mod repair;
mod repair_report;
mod restore;
mod size;
mod spans;
mod table;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Look at snapshot stores, check and repair them, and read snapshots without the module.
#[derive(Parser)]
#[command(name = "multisnap", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 all is well; 1 damaged, or something is lost; 2 it cannot be \
    done; 3 sound, but not stopped in good order (check only). Sizes are in bytes, or with K, M, \
    G or T."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything in a store, without changing it.
    Check(check::Args),
    /// Write what a store knows as lines of JSON.
    Dump(dump::Args),
    /// Make a store again from a dump, on an empty device or in a new file.
    Restore(restore::Args),
    /// Save what can be saved of a damaged store, to an empty device or a new file.
    Repair(repair::Args),
    /// Write the content of a snapshot.
    Cat(cat::Args),
    /// Show where each chunk of a snapshot is.
    Map(spans::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Cat(args) => cat::run(&args),
        Command::Map(args) => spans::run(&args),
    };
    match result {
        Ok(code) => code.into(),
        // Whoever reads the output has seen enough.
        Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("multisnap: {failure}");
            failure.code().into()
        }
    }
}

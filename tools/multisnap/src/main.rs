// SPDX-License-Identifier: GPL-2.0

//! Origins and snapshots of dm-multisnapshot: made, started, cut, listed and removed through the
//! module; and stores without it: checked, dumped, made again, repaired, read.
//!
//! Everything that knows the format is the code that the kernel runs (`multisnap-store`).

mod cat;
mod check;
mod check_pass;
mod check_report;
mod claims;
mod copy;
mod count;
mod device;
mod dm;
mod dump;
mod failure;
mod identity;
mod loops;
mod losses;
mod online;
mod out;
mod page;
mod pages;
mod progress;
mod records;
mod repair;
mod repair_report;
mod restore;
mod signature;
mod size;
mod spans;
mod table;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Make snapshots of a block device, look at them and remove them; check, repair and read their
/// stores.
#[derive(Parser)]
#[command(name = "multisnap", version, about, max_term_width = 100)]
#[command(
    after_help = "VOLUME is the name of an origin's mapped device, or a path to it, to its origin \
    or to its store. Exit status: 0 all is well; 1 damaged, or something is lost; 2 it cannot be \
    done; 3 sound, but not stopped in good order (check only). Sizes are in bytes, or with K, M, \
    G or T."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a store of an empty device, and start its origin.
    Create(online::create::Args),
    /// Start an origin with its store.
    Start(online::start::Args),
    /// Put a mapped device, such as a logical volume, under multisnapshot while it is in use.
    Under(online::under::Args),
    /// Take it out again while it is in use.
    Out(online::take_out::Args),
    /// Stop origins, and remove the devices of their snapshots.
    Stop(online::stop::Args),
    /// Make a snapshot, and print its id.
    Snapshot(online::snapshot::Args),
    /// List origins and their snapshots.
    List(online::list::Args),
    /// Tell how origins and their stores are.
    Status(online::status::Args),
    /// Make devices of snapshots.
    Activate(online::activate::Args),
    /// Remove devices of snapshots. The snapshots stay.
    Deactivate(online::deactivate::Args),
    /// Start an origin, and activate snapshots, each time the machine starts.
    Enable(online::enable::Args),
    /// Do so no more.
    Disable(online::disable::Args),
    /// Give a snapshot another name.
    Rename(online::rename::Args),
    /// Remove snapshots for good.
    Remove(online::remove::Args),
    /// Remove the snapshots that no rule keeps.
    Prune(online::prune::Args),
    /// Use what the devices of an origin and its store have grown by.
    Grow(online::grow::Args),
    /// What units and rules call when the machine starts and ends.
    #[command(hide = true)]
    System(online::system::Args),
    #[command(hide = true)]
    Thaw(online::thaw::Args),
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
    /// Print what a shell needs to complete these commands.
    Completion(pages::CompletionArgs),
    /// Write man pages to a folder.
    #[command(hide = true)]
    Man(pages::ManArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Create(args) => online::create::run(&args),
        Command::Start(args) => online::start::run(&args),
        Command::Under(args) => online::under::run(&args),
        Command::Out(args) => online::take_out::run(&args),
        Command::Stop(args) => online::stop::run(&args),
        Command::Snapshot(args) => online::snapshot::run(&args),
        Command::List(args) => online::list::run(&args),
        Command::Status(args) => online::status::run(&args),
        Command::Activate(args) => online::activate::run(&args),
        Command::Deactivate(args) => online::deactivate::run(&args),
        Command::Enable(args) => online::enable::run(&args),
        Command::Disable(args) => online::disable::run(&args),
        Command::System(args) => online::system::run(&args),
        Command::Rename(args) => online::rename::run(&args),
        Command::Remove(args) => online::remove::run(&args),
        Command::Prune(args) => online::prune::run(&args),
        Command::Grow(args) => online::grow::run(&args),
        Command::Thaw(args) => online::thaw::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Cat(args) => cat::run(&args),
        Command::Map(args) => spans::run(&args),
        Command::Completion(args) => pages::completion(&args, Cli::command()),
        Command::Man(args) => pages::man(&args, Cli::command()),
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

// SPDX-License-Identifier: GPL-2.0

//! `multisnap system`: what the machine itself calls when it starts and ends; see `tools/boot`.

mod shutdown;
mod start;
mod stop;
mod udev;

use crate::failure::{Code, Failure};
use clap::Subcommand;

/// What `system` is told.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start an origin as its file says, and its snapshots; for multisnap@.service.
    Start(start::Args),
    /// Start all origins whose devices are there, without snapshots; for an initramfs.
    StartPresent,
    /// Put under what is to be, and fail if that is not done; for an initramfs, before it mounts.
    PutUnder(start::PutUnder),
    /// Stop an origin that nobody uses any more; for multisnap@.service.
    Stop(stop::Args),
    /// Leave every store in good order; for the last moment before the machine is off.
    Shutdown,
    /// Tell udev whose a device is; for its rules.
    Udev,
}

/// Whether the kernel's command line has `multisnap=off`: then plain devices are used as they are.
fn is_off() -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_ascii_whitespace()
        .any(|word| word == "multisnap=off")
}

/// Does it.
pub fn run(args: &Args) -> Result<Code, Failure> {
    match &args.command {
        Command::Start(args) => start::run(args),
        Command::StartPresent => start::present(),
        Command::PutUnder(args) => start::put_under(args),
        Command::Stop(args) => stop::run(args),
        Command::Shutdown => shutdown::run(),
        Command::Udev => udev::run(),
    }
}

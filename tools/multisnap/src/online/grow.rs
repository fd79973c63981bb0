// SPDX-License-Identifier: GPL-2.0

//! `multisnap grow`: takes origin and store as large as their devices are now.

use super::{
    because,
    swap::Swap,
    volume::{path_of, Devices},
    At, SEE_LOG,
};
use crate::{
    device::{Disk, For},
    dm::{self, node},
    failure::{Code, Failure},
    out,
    size::{self, SECTOR},
};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// What `grow` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: lvextend -L +10G vg/store; multisnap grow home")]
pub struct Args {
    /// The origin.
    volume: String,
    /// How long what is under way on the device may be waited for.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Sizes before and after.
#[derive(Serialize)]
struct Grown<'a> {
    volume: &'a str,
    old_sectors: u64,
    sectors: u64,
    old_chunks: u64,
    total_chunks: u64,
}

/// Loads the table with the present sizes.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    at.volume.writable()?;
    let volume = at.volume.clone();
    let name = &volume.name;
    let before = at.info()?;
    if before.pending.is_some() {
        let what = "has a snapshot that waits, which this would make";
        let then = format!("drop it: multisnap snapshot {name} --cancel");
        return Err(volume.failure(what, then));
    }
    let flags = at.control.info(name).map_or(0, |info| info.flags);
    if flags & dm::INACTIVE != 0 {
        let then = format!("drop it: multisnap snapshot {name} --cancel");
        return Err(volume.failure("has another table loaded", then));
    }
    if flags & dm::SUSPENDED != 0 {
        let then = format!("resume it: dmsetup resume {name}");
        return Err(volume.failure("is suspended", then));
    }
    let path = path_of(volume.line.origin);
    let sectors = Disk::open(Path::new(&path), For::Live)?.len() / SECTOR;
    if sectors < volume.sectors {
        let what = format!(
            "has {sectors} sectors, and had {}: it has shrunk",
            volume.sectors
        );
        let then = "make it as large again, before what is behind its end is needed";
        return Err(Failure::new(Path::new(&path), what, then));
    }
    if before.is_cut_short(node::sectors(volume.line.store)) {
        let what = "was made smaller than the store that it holds";
        let then = "make it as large as it was at once, then: multisnap check";
        return Err(Failure::new(
            Path::new(&node::show(volume.line.store)),
            what,
            then,
        ));
    }
    let table = volume.line.target(sectors);
    let swap = Swap::begin(&at.control, name, Duration::from_secs(args.timeout));
    let failed = swap.to(&[table]).err().map(|e| {
        let interrupted = e.raw_os_error() == Some(libc::EINTR);
        let failure = because(&mut at.log, name, "cannot grow", &e, SEE_LOG);
        (interrupted, failure)
    });
    // It is suspended if the new table could not be started, as when the store cannot record it. With
    // the old one it goes on; nobody has used what is behind that.
    if failed.is_some() && swap.is_suspended() {
        let _ = swap.to(&[volume.line.target(volume.sectors)]);
    }
    let stuck = swap.settle();
    drop(swap);
    if let Some(stuck) = stuck {
        return Err(volume.failure(format!("did not grow: {}", stuck.what), stuck.then));
    }
    let live = Devices::find(&at.control)?.volume(name)?.sectors;
    match failed {
        Some((true, _)) => {
            let what = format!(
                "did not grow: a signal came, or I/O that is under way did not end in {} s; nothing \
                 is changed",
                args.timeout
            );
            let then = format!("say it again, or wait longer: multisnap grow {name} --timeout 600");
            return Err(volume.failure(what, then));
        }
        // The store failed as it wrote the record, so that nobody knows which sizes it would find:
        // then the module takes no table that is smaller.
        Some((false, _)) if live > volume.sectors => {
            let what = format!(
                "has grown to {}, but its store takes no writes, and records that only when it does",
                size::show_sectors(live)
            );
            let then = format!("make no snapshot before its mode is rw: multisnap status {name}");
            return Err(volume.failure(what, then));
        }
        Some((false, failure)) => return Err(failure),
        None => (),
    }
    let after = at.info()?;
    let grown = Grown {
        volume: name,
        old_sectors: volume.sectors,
        sectors: live,
        old_chunks: before.total_chunks,
        total_chunks: after.total_chunks,
    };
    if args.json {
        out::line(&grown)?;
    } else {
        out::text(&say(
            "origin",
            size::show_sectors(volume.sectors),
            size::show_sectors(live),
        ))?;
        out::text(&say(
            "store",
            before.show_chunks(before.total_chunks),
            after.show_chunks(after.total_chunks),
        ))?;
    }
    Ok(Code::Good)
}

fn say(what: &str, old: String, new: String) -> String {
    if old == new {
        return format!("{what}: {new}, as before\n");
    }
    format!("{what}: {new}, was {old}\n")
}

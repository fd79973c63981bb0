// SPDX-License-Identifier: GPL-2.0

//! `multisnap out`: takes a device out again that was put under multisnapshot, while it is in use.

use super::{
    config, hidden, line, need_target, rows, stop,
    swap::{Stuck, Swap},
    volume::Active,
    At, SEE_LOG,
};
use crate::{
    dm,
    failure::{Code, Failure},
    out,
    size::count,
};
use serde::Serialize;
use std::{io, time::Duration};

/// What `out` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap out vg-home --lose-snapshots")]
pub struct Args {
    /// The device.
    volume: String,
    /// Do it although there are snapshots. They lose what they share with the device, and keep
    /// what is in the store.
    #[arg(long)]
    lose_snapshots: bool,
    /// How long what is under way on the device may be waited for.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Out<'a> {
    volume: &'a str,
    snapshots: usize,
}

/// Takes a device out.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    need_target(&at.control, line::OUT)?;
    let volume = at.volume.clone();
    let name = &volume.name;
    let Some(origin) = hidden::name_at(volume.line.origin) else {
        let then = format!("stop it: multisnap stop {name}");
        return Err(volume.failure("stands on its origin, and was not put under", then));
    };
    volume.writable()?;
    let info = at.control.info(name);
    if info.is_ok_and(|info| info.flags & dm::INACTIVE != 0) {
        let what = "has another table loaded";
        return Err(volume.failure(what, format!("drop it: multisnap snapshot {name} --cancel")));
    }
    let snapshots = match rows::read(&at.control, &volume) {
        Ok(rows) => rows.len(),
        // A store that does not answer must not keep a device from leaving it.
        Err(_) if args.lose_snapshots => 0,
        Err(failure) => return Err(failure),
    };
    if snapshots > 0 && !args.lose_snapshots {
        let has = count(snapshots as u64, "snapshot");
        let what = format!("has {has}, which would lose what is shared with it");
        let then = format!(
            "stop using it, and keep them: multisnap stop {name}; or: multisnap out {name} \
             --lose-snapshots"
        );
        return Err(volume.failure(what, then));
    }
    let active: Vec<Active> = at.devices.of(&volume).cloned().collect();
    let names = active.iter().map(|active| active.name.as_str());
    if let Some(busy) = stop::first_in_use(&at, names) {
        return Err(stop::in_use(&at, busy));
    }
    let table = at.control.targets(&origin);
    let table = table.map_err(|e| at.failed_for(&origin, "cannot be looked at", &e, SEE_LOG))?;
    for (i, one) in active.iter().enumerate() {
        let removed = at.control.remove(&one.name);
        let gone = active.get(..i).unwrap_or_default();
        let then = again(name, gone, SEE_LOG);
        removed.map_err(|e| at.failed_for(&one.name, "cannot be removed", &e, then))?;
    }
    let timeout = Duration::from_secs(args.timeout);
    let swap = Swap::begin(&at.control, name, timeout);
    let first = swap.to(&[line::out_target(volume.line.origin, volume.sectors)]);
    let second = match &first {
        Ok(()) => swap.to(&table),
        Err(_) => Ok(()),
    };
    let stuck = swap.settle();
    drop(swap);
    first.map_err(|e| not_out(&mut at, &e, args, &active, stuck.as_ref()))?;
    second.map_err(|e| not_back(&mut at, &e, &origin, stuck.as_ref()))?;
    if let Err(e) = hidden::remove(&at.control, &origin) {
        let then = format!("try it yourself: dmsetup remove {origin}");
        return Err(at.failed_for(&origin, "cannot be removed", &e, then));
    }
    if config::exists(name) {
        out::warn(&format!(
            "{name} is put under again when the machine starts; to have that end: multisnap disable \
             {name}"
        ));
    }
    if args.json {
        out::line(&Out {
            volume: name,
            snapshots,
        })?;
    } else {
        out::text(&format!("{name} is not under multisnapshot any more\n"))?;
    }
    Ok(Code::Good)
}

/// How the devices of snapshots come back that are `gone`, before what else is to be done.
fn again(name: &str, gone: &[Active], then: &str) -> String {
    if gone.is_empty() {
        return then.to_owned();
    }
    let ids: Vec<String> = gone.iter().map(|active| active.id.to_string()).collect();
    let has = match gone.len() {
        1 => "the device of a snapshot was removed, make it again".to_owned(),
        n => format!("the devices of {n} snapshots were removed, make them again"),
    };
    format!("{has}: multisnap activate {name} {}; {then}", ids.join(" "))
}

fn not_out(
    at: &mut At,
    e: &io::Error,
    args: &Args,
    gone: &[Active],
    stuck: Option<&Stuck>,
) -> Failure {
    let name = at.volume.name.clone();
    let again = |then: &str| again(&name, gone, then);
    if let Some(stuck) = stuck {
        let what = format!("is not out: {}", stuck.what);
        return at.volume.failure(what, again(&stuck.then));
    }
    if e.raw_os_error() == Some(libc::EINTR) {
        let what = format!(
            "is not out: a signal came, or I/O that is under way did not end in {} s",
            args.timeout
        );
        let then = again("say it again, or wait longer: --timeout 600");
        return at.volume.failure(what, then);
    }
    at.failed("cannot be taken out", e, again(SEE_LOG))
}

/// It passes everything to the second device by a table of `multisnap-out`, which does no harm.
fn not_back(at: &mut At, e: &io::Error, origin: &str, stuck: Option<&Stuck>) -> Failure {
    let name = &at.volume.name;
    let rest = format!("for a logical volume: lvchange --refresh; then: dmsetup remove {origin}");
    if let Some(stuck) = stuck {
        let what = format!("is out, but {}", stuck.what);
        return at.volume.failure(what, format!("{}; {rest}", stuck.then));
    }
    let doing = format!(
        "is out and in use as before, by way of {origin}, but {name} cannot get its own table back"
    );
    at.failed(&doing, e, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::wire::Dev;
    use multisnap_store::image::SnapshotId;

    #[test]
    fn devices_that_are_gone_are_named() {
        let dev = Dev {
            major: 253,
            minor: 1,
        };
        let one = |id| Active {
            name: format!("home-{id}"),
            dev,
            flags: 0,
            open: 0,
            origin: dev,
            id: SnapshotId::top(id),
        };
        let gone = [one(1), one(4)];
        assert_eq!(again("home", &[], "wait"), "wait");
        assert_eq!(
            again("home", &gone[..1], "wait"),
            "the device of a snapshot was removed, make it again: multisnap activate home 1; wait"
        );
        assert_eq!(
            again("home", &gone, "wait"),
            "the devices of 2 snapshots were removed, make them again: multisnap activate home 1 4; wait"
        );
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap status`: how origins and their stores are.

use super::{
    info::{percent, Info},
    metrics,
    volume::{Devices, Volume},
    when,
};
use crate::{
    dm::{self, node, wire::Dev, Control},
    failure::{Code, Failure},
    out,
    size::{self, count},
};
use serde::Serialize;
use std::{
    io::{stdout, IsTerminal},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

/// What `status` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap status home --watch 5")]
pub struct Args {
    /// Origins; all that are started if none is said.
    volume: Vec<String>,
    /// Print an object instead of text.
    #[arg(long, conflicts_with = "openmetrics")]
    json: bool,
    /// Print text for Prometheus and the like.
    #[arg(long, conflicts_with = "watch")]
    openmetrics: bool,
    /// Do so every so many seconds, until the origins are gone.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    watch: Option<u64>,
}

#[derive(Serialize)]
struct Told<'a> {
    /// Seconds since 1970.
    time: u64,
    volumes: &'a [State],
}

/// How an origin is.
#[derive(Serialize)]
pub struct State {
    /// Its name.
    pub volume: String,
    device: PathBuf,
    uuid: String,
    origin: String,
    store: String,
    /// Sectors of the origin.
    pub sectors: u64,
    suspended: bool,
    /// The device of the store is smaller than the store by now.
    pub store_cut_short: bool,
    /// Origin and store, if they have another table loaded, as a command of LVM leaves it that was
    /// refused: the next suspension would make it live.
    other_tables: Vec<String>,
    /// Devices of its snapshots.
    pub active: usize,
    /// Its status line.
    #[serde(flatten)]
    pub info: Info,
}

/// Tells how origins are. The exit status is that of the worst one.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    loop {
        let (states, failed) = look(&control, &args.volume)?;
        let bad = states.iter().any(|state| {
            state.info.is_bad() || state.store_cut_short || !state.other_tables.is_empty()
        });
        if args.json {
            out::line(&Told {
                time: when::now(),
                volumes: &states,
            })?;
        } else if args.openmetrics {
            out::text(&metrics::text(&states))?;
        } else {
            let clear = args.watch.is_some() && stdout().is_terminal();
            let mut text = String::from(if clear { "\x1b[H\x1b[2J" } else { "" });
            if args.watch.is_some() {
                text = text + &when::show(when::now()) + "\n";
            }
            if states.is_empty() && failed.is_none() {
                text += "nothing is started: multisnap start ORIGIN STORE\n";
            }
            out::text(&states.iter().fold(text, |text, state| text + &show(state)))?;
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        let Some(seconds) = args.watch else {
            return Ok(if bad { Code::Damaged } else { Code::Good });
        };
        sleep(Duration::from_secs(seconds));
    }
}

/// How origins are, and why the first one that does not tell does not.
fn look(control: &Control, words: &[String]) -> Result<(Vec<State>, Option<Failure>), Failure> {
    let devices = Devices::find(control)?;
    let volumes: Vec<&Volume> = if words.is_empty() {
        devices.volumes.iter().collect()
    } else {
        let found = words.iter().map(|word| devices.volume(word));
        found.collect::<Result<_, _>>()?
    };
    let mut states = Vec::new();
    let mut failed = None;
    for volume in volumes {
        match super::info(control, volume) {
            Ok(info) => states.push(State {
                volume: volume.name.clone(),
                device: node::path(&volume.name),
                uuid: volume.uuid.clone(),
                origin: node::show(volume.line.origin),
                store: node::show(volume.line.store),
                sectors: volume.sectors,
                suspended: volume.flags & dm::SUSPENDED != 0,
                store_cut_short: info.is_cut_short(node::sectors(volume.line.store)),
                other_tables: [volume.line.origin, volume.line.store]
                    .into_iter()
                    .filter_map(|dev| other_table(control, dev))
                    .collect(),
                active: devices.of(volume).count(),
                info,
            }),
            Err(failure) => {
                failed.get_or_insert(failure);
            }
        }
    }
    Ok((states, failed))
}

/// The name of a mapped device that has another table loaded.
fn other_table(control: &Control, dev: Dev) -> Option<String> {
    let path = node::show(dev);
    let name = path.strip_prefix("/dev/mapper/")?;
    let info = control.info(name).ok()?;
    (info.flags & dm::INACTIVE != 0).then(|| name.to_owned())
}

/// How an origin is, for people.
fn show(state: &State) -> String {
    let info = &state.info;
    let mut lines = vec![("mode", mode(state))];
    let size = size::show_sectors(state.sectors);
    lines.push(("origin", format!("{}, {size}", state.origin)));
    let chunk = size::show_sectors(info.chunk_sectors.into());
    lines.push((
        "store",
        format!("{}, {}, chunks of {chunk}", state.store, info.store_type),
    ));
    if state.store_cut_short {
        let what = "the device of the store was made smaller than the store";
        let then = "make it as large as it was at once, then: multisnap check";
        lines.push(("cut short", format!("{what}: {then}")));
    }
    for name in &state.other_tables {
        let what = format!("{name} has another one loaded, which may be made live by others");
        lines.push(("table", format!("{what}; drop it: dmsetup clear {name}")));
    }
    let share = percent(info.used_chunks, info.total_chunks);
    let (used, total) = (info.bytes(info.used_chunks), info.bytes(info.total_chunks));
    let low = if info.low {
        ", less than low-water is free"
    } else {
        ""
    };
    lines.push((
        "used",
        format!(
            "{share}, {} of {}{low}",
            size::show(used),
            size::show(total)
        ),
    ));
    let share = percent(info.used_metadata_blocks, info.total_metadata_blocks);
    let log = percent(info.used_log_blocks, info.total_log_blocks);
    lines.push(("metadata", format!("{share} of what it has, log {log}")));
    let ids = if info.ids.is_empty() {
        String::new()
    } else {
        format!(": {}", info.ids)
    };
    let active = match state.active {
        0 => String::new(),
        n => format!(", {n} active"),
    };
    lines.push(("snapshots", format!("{}{active}{ids}", info.snapshots)));
    if let Some(id) = &info.pending {
        lines.push(("waits", format!("snapshot {id}, for a suspend")));
    }
    if let Some(chunk) = info.sweep {
        let chunks = state.sectors.div_ceil(u64::from(info.chunk_sectors).max(1));
        lines.push((
            "freed",
            format!("{} of the origin looked at", percent(chunk, chunks)),
        ));
    }
    let errors = [info.read_errors, info.write_errors, info.metadata_errors];
    if errors.iter().any(|n| *n != 0) {
        let [read, write, metadata] = errors;
        lines.push((
            "errors",
            format!("{read} reading, {write} writing, {metadata} of metadata"),
        ));
    }
    if info.lost != 0 {
        let what = count(info.lost, "record");
        let then = "see what: multisnap map STORE ID --live";
        lines.push(("lost", format!("{what} of lost content; {then}")));
    }
    let mut text = format!("{}\n", state.volume);
    for (name, value) in lines {
        text = text + &format!("  {name:<10} {value}\n");
    }
    text
}

/// The mode, and what it means where something is wrong.
fn mode(state: &State) -> String {
    let info = &state.info;
    let means = match info.mode.as_str() {
        "rw" => "",
        "ro" => ", was started read-only",
        "full" => ", the store is full: remove snapshots, or make it larger and: multisnap grow",
        "fail" => ", the store does not work, snapshots give errors: see dmesg",
        _ => "",
    };
    let suspended = if state.suspended { ", suspended" } else { "" };
    let check = if info.needs_check {
        ", damage was seen: multisnap check"
    } else {
        ""
    };
    format!("{}{means}{check}{suspended}", info.mode)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// One that has all there is to tell.
    pub fn state() -> State {
        let line =
            "full - 4 created:3 btree 32 12/5000 1 7/64 3/16 1 2 3 40 50 60 70 5 low - 17 3 1-3";
        State {
            volume: "home".into(),
            device: "/dev/mapper/home".into(),
            uuid: "MSNAP-0".into(),
            origin: "/dev/sda".into(),
            store: "/dev/sdb".into(),
            sectors: 3200,
            suspended: true,
            store_cut_short: true,
            other_tables: vec!["vg-store".into()],
            active: 2,
            info: Info::parse(line).unwrap(),
        }
    }

    #[test]
    fn all_of_it_is_told() {
        let text = show(&state());
        for part in [
            "home\n  mode       full, the store is full",
            "suspended",
            "origin     /dev/sda, 1.5 MiB",
            "store      /dev/sdb, btree, chunks of 16 KiB",
            "cut short  the device of the store was made smaller",
            "table      vg-store has another one loaded",
            "used       0.2 %, 192 KiB of 78.1 MiB, less than low-water is free",
            "snapshots  3, 2 active: 1-3",
            "waits      snapshot 4",
            "freed      17.0 %",
            "errors     1 reading, 2 writing, 3 of metadata",
            "lost       5 records",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn objects_are_flat() {
        let json = serde_json::to_value(state()).unwrap();
        assert_eq!(json["mode"], "full");
        assert_eq!(json["used_chunks"], 12);
        assert_eq!(json["volume"], "home");
        assert_eq!(json["sweep"], 17);
    }
}

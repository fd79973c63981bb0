// SPDX-License-Identifier: GPL-2.0

//! Starts origins as their files say.

use crate::{
    dm::{node, wire::Dev, Control},
    failure::{Code, Failure},
    online::{
        activate,
        config::{self, Config, Wanted},
        hidden, line,
        lock::Lock,
        need_target, rows, start,
        under::Plan,
        volume::{Devices, Volume},
        At,
    },
    out,
};
use std::{
    collections::BTreeSet,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// What `system start` is told.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the origin's file.
    name: String,
    /// Wait so long for the devices.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Starts an origin and activates its snapshots. What is done already is left as it is.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let config = config::read(&args.name)?;
    let end = Instant::now() + Duration::from_secs(args.wait);
    started(&config, end)?;
    snapshots(&config)
}

/// Starts all origins whose devices are there. One that cannot be does not keep the others.
pub fn present() -> Result<Code, Failure> {
    if super::is_off() {
        return Ok(Code::Good);
    }
    let mut first = None;
    for name in config::names() {
        let started = config::read(&name).and_then(|config| match missing(&config) {
            Some(_) => Ok(()),
            None => origin(&config),
        });
        if let Err(failure) = started {
            match &first {
                None => first = Some(failure),
                Some(_) => out::warn(&failure.to_string()),
            }
        }
    }
    first.map_or(Ok(Code::Good), Err)
}

/// What `system put-under` is told.
#[derive(clap::Args)]
pub struct PutUnder {
    /// Wait so long for their stores.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Puts under what is there and is to be put under. It fails if one of them stays plain, so that
/// nobody mounts it.
pub fn put_under(args: &PutUnder) -> Result<Code, Failure> {
    if super::is_off() {
        return Ok(Code::Good);
    }
    let end = Instant::now() + Duration::from_secs(args.wait);
    for name in config::names() {
        let config = config::read(&name)?;
        if !config.how.under || node::dev_at(&config.origin).is_none() {
            continue;
        }
        started(&config, end).inspect_err(|_| {
            out::warn(&format!(
                "{name} cannot be put under multisnapshot; to use it as it is, start with multisnap=off"
            ));
        })?;
    }
    Ok(Code::Good)
}

/// Starts an origin as soon as its devices are there.
fn started(config: &Config, end: Instant) -> Result<(), Failure> {
    while let Some(missing) = missing(config) {
        if Instant::now() >= end {
            let activate = match config.how.under {
                true => "a logical volume is activated with lvchange -ay; ",
                false => "",
            };
            let then = format!(
                "it is started when that appears; {activate}or: multisnap disable {}",
                config.name
            );
            return Err(Failure::new(
                Path::new(&config.name),
                format!("cannot be started: there is no {}", missing.display()),
                then,
            ));
        }
        sleep(Duration::from_millis(100));
    }
    origin(config)
}

/// The device that is not there yet.
fn missing(config: &Config) -> Option<&Path> {
    [&config.origin, &config.store]
        .into_iter()
        .find(|path| node::dev_at(path).is_none())
        .map(AsRef::as_ref)
}

/// Starts an origin, if it is not started.
fn origin(config: &Config) -> Result<(), Failure> {
    let control = Control::open()?;
    need_target(&control, line::ORIGIN)?;
    let (origin, store) = start::pair(&config.origin, &config.store)?;
    let _lock = Lock::take(origin)?;
    let devices = Devices::find(&control)?;
    let same = |volume: &Volume| {
        let line = &volume.line;
        let plain = match config.how.under {
            true => volume.dev,
            false => line.origin,
        };
        volume.name == config.name && (plain, line.store) == (origin, store)
    };
    if devices.volumes.iter().any(same) {
        return Ok(());
    }
    if config.how.under {
        hidden::clear(&control, &devices, &config.name)?;
        return under(&control, config, origin);
    }
    let name = config
        .how
        .check(&control, &config.origin, origin, store, false)?;
    let up = start::up(&control, &config.origin, &config.store, &name, &config.how)?;
    out::told(up.tell(false).map(drop))
}

/// Puts an origin under. Its snapshots lose nothing by that: where they would, it is not done.
fn under(control: &Control, config: &Config, origin: Dev) -> Result<(), Failure> {
    if hidden::mapped_name(origin).as_ref() != Some(&config.name) {
        let path = config.origin.display();
        let what = format!("puts {path} under, which has another name by now");
        let then = format!(
            "say so anew: multisnap disable {}; then: multisnap under {path} {} --enable",
            config.name,
            config.store.display()
        );
        return Err(Failure::new(&config::path(&config.name), what, then));
    }
    let plan = Plan {
        device: &config.origin,
        store: &config.store,
        options: &config.how.options,
        lose_snapshots: false,
        timeout: 60,
        patience: Duration::from_secs(20),
    };
    let (device, ..) = plan.put(control, None)?;
    out::text(&format!("{} is under multisnapshot\n", device.name()))
}

/// Activates the snapshots of a started origin. One that is gone is told, and keeps nobody.
fn snapshots(config: &Config) -> Result<Code, Failure> {
    if config.snapshots.is_empty() {
        return Ok(Code::Good);
    }
    let mut at = At::find(&config.name)?;
    need_target(&at.control, line::SNAPSHOT)?;
    let volume = at.volume.clone();
    let store = volume.store_uuid()?;
    let rows = rows::read(&at.control, &volume)?;
    // Who names one snapshot says more of its device than who names many.
    let names_one = |wanted: &&Wanted| rows::one(&rows, &wanted.word).is_ok();
    let (mut wanted, many): (Vec<&Wanted>, Vec<&Wanted>) =
        config.snapshots.iter().partition(names_one);
    wanted.extend(many);
    let mut done = BTreeSet::new();
    let mut first = None;
    for wanted in wanted {
        let found = match rows::several(&rows, &wanted.word) {
            Ok(found) => found,
            Err(why) => {
                let why = why.failure(&wanted.word, &volume);
                out::warn(&format!(
                    "{why}; want it no more: multisnap disable {} {}",
                    config.name, wanted.word
                ));
                continue;
            }
        };
        for row in found {
            let active = at.devices.of(&volume).any(|active| active.id == row.id);
            if active || !done.insert(row.id) {
                continue;
            }
            let name = match &wanted.device {
                Some(name) => name.clone(),
                None => activate::device_name(&volume.name, row.id),
            };
            let read_only = wanted.read_only || volume.is_read_only();
            if let Err(failure) = activate::device(&mut at, &store, row, &name, read_only) {
                match &first {
                    None => first = Some(failure),
                    Some(_) => out::warn(&failure.to_string()),
                }
            }
        }
    }
    first.map_or(Ok(Code::Good), Err)
}

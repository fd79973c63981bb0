// SPDX-License-Identifier: GPL-2.0

//! `multisnap stop`: removes an origin's device, and those of its snapshots.

use super::{hidden, volume::Active, At};
use crate::{
    dm::{node, Control},
    failure::{Code, Failure},
    out,
    size::count,
};
use serde::Serialize;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// What `stop` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap stop home")]
pub struct Args {
    /// The origins.
    #[arg(required = true)]
    volume: Vec<String>,
    /// Print an object for each instead of a sentence.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Stopped<'a> {
    volume: &'a str,
    deactivated: Vec<&'a str>,
}

/// Removes origins and their active snapshots. One that is in use is left as it is, and the others
/// are not.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut code = Code::Good;
    for word in &args.volume {
        match out::told(stop(word, args.json)) {
            Ok(()) => {}
            // That is no reason for the next one to go on.
            Err(failure) => {
                out::warn(&failure.to_string());
                code = Code::Failed;
            }
        }
    }
    Ok(code)
}

/// Removes one, unless it is in use, and tells of it.
pub fn stop(word: &str, json: bool) -> Result<(), Failure> {
    let mut at = At::find(word)?;
    let volume = at.volume.clone();
    let active: Vec<Active> = at.devices.of(&volume).cloned().collect();
    // Nothing is taken down before all can be.
    let names = active.iter().map(|active| active.name.as_str());
    if let Some(busy) = first_in_use(&at, names.chain([volume.name.as_str()])) {
        return Err(in_use(&at, busy));
    }
    let origin = hidden::name_at(volume.line.origin);
    let names = active.iter().map(|active| active.name.as_str());
    for name in names.clone().chain([volume.name.as_str()]) {
        if let Err(e) = at.control.remove(name) {
            let gone = names.clone().position(|one| one == name);
            let gone = gone.unwrap_or(active.len());
            return Err(match e.raw_os_error() {
                Some(libc::EBUSY) => in_use(&at, name),
                _ => {
                    let doing = match gone {
                        0 => "cannot be removed".to_owned(),
                        n => format!(
                            "cannot be removed after the devices of {}",
                            count(n as u64, "snapshot")
                        ),
                    };
                    let then = format!(
                        "{0} is still started: see the kernel log (dmesg | tail), then: multisnap \
                         stop {0}",
                        volume.name
                    );
                    at.failed_for(name, &doing, &e, then)
                }
            });
        }
    }
    if let Some(origin) = origin {
        if let Err(e) = hidden::remove(&at.control, &origin) {
            let doing = format!("cannot be removed, and {} is stopped", volume.name);
            let then = format!("try it yourself: dmsetup remove {origin}");
            return Err(at.failed_for(&origin, &doing, &e, then));
        }
    }
    let deactivated: Vec<&str> = names.collect();
    if json {
        let volume = &volume.name;
        return out::line(&Stopped {
            volume,
            deactivated,
        });
    }
    let with = match deactivated.len() {
        0 => String::new(),
        n => format!(
            ", and so {} of its snapshots",
            if n == 1 {
                "is one".into()
            } else {
                format!("are {n}")
            }
        ),
    };
    out::text(&format!("{} is stopped{with}\n", volume.name))
}

/// How long who has a device open, and is not known, is waited for: udev, which only looks at it, is
/// gone in a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first of these mapped devices that stays in use.
pub fn first_in_use<'a>(at: &At, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let end = Instant::now() + PATIENCE;
    names.find(|name| stays_open(&at.control, name, 0, end))
}

/// Whether somebody has a mapped device open, who is known or does not close it until then. The caller
/// himself has it `own` times.
pub fn stays_open(control: &Control, name: &str, own: u32, end: Instant) -> bool {
    loop {
        match control.info(name) {
            Ok(info) if info.open > own => {
                if node::users(info.dev).is_some() || Instant::now() >= end {
                    return true;
                }
            }
            _ => return false,
        }
        sleep(Duration::from_millis(100));
    }
}

/// A mapped device cannot be removed.
pub fn in_use(at: &At, name: &str) -> Failure {
    let dev = at.control.info(name).map(|info| info.dev);
    let users = dev.ok().and_then(node::users);
    let path = node::path(name);
    let (what, then) = users.unwrap_or_else(|| {
        let then = format!("see who uses it: fuser -v {}", path.display());
        ("is in use".to_owned(), then)
    });
    Failure::new(&path, what, then)
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap deactivate`: removes devices of snapshots, which go on existing.

use super::{glob, rows, stop, volume::Active, At};
use crate::{
    dm::node,
    failure::{Code, Failure},
    out,
};
use multisnap_store::image::SnapshotId;
use serde::Serialize;
use std::path::Path;

/// What `deactivate` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap deactivate home 12")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Ids or names of snapshots, patterns and ranges of them, or devices. All if none is said.
    snapshot: Vec<String>,
    /// Print an object for each instead of nothing.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Deactivated<'a> {
    volume: &'a str,
    id: String,
}

/// Removes the devices. All that can be removed is, before it fails for one that cannot.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    let volume = at.volume.clone();
    let active: Vec<Active> = at.devices.of(&volume).cloned().collect();
    let wanted = match args.snapshot.is_empty() {
        true => active,
        false => wanted(&at, &active, &args.snapshot)?,
    };
    let mut first = None;
    for active in &wanted {
        match at.control.remove(&active.name) {
            Ok(()) if args.json => out::told(out::line(&Deactivated {
                volume: &volume.name,
                id: active.id.to_string(),
            }))?,
            Ok(()) => {}
            Err(e) => {
                let failure = match e.raw_os_error() {
                    Some(libc::EBUSY) => stop::in_use(&at, &active.name),
                    _ => at.failed_for(&active.name, "cannot be removed", &e, super::SEE_LOG),
                };
                first.get_or_insert(failure);
            }
        }
    }
    first.map_or(Ok(Code::Good), Err)
}

/// The active snapshots that these words mean.
fn wanted(at: &At, active: &[Active], words: &[String]) -> Result<Vec<Active>, Failure> {
    let volume = &at.volume;
    let rows = rows::read(&at.control, volume)?;
    let mut wanted: Vec<Active> = Vec::new();
    for word in words {
        let dev = node::dev_at(Path::new(word));
        let ids: Vec<SnapshotId> = match active
            .iter()
            .find(|a| a.name == *word || Some(a.dev) == dev)
        {
            Some(one) => vec![one.id],
            None => {
                let found = rows::several(&rows, word).map_err(|why| why.failure(word, volume))?;
                found.iter().map(|row| row.id).collect()
            }
        };
        let before = wanted.len();
        wanted.extend(
            active
                .iter()
                .filter(|active| ids.contains(&active.id))
                .cloned(),
        );
        if wanted.len() == before && ids.len() == 1 && !glob::is_pattern(word) {
            let then = format!("see which are: multisnap list {}", volume.name);
            return Err(volume.failure(format!("has snapshot {word}, but it is not active"), then));
        }
    }
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    wanted.dedup_by(|a, b| a.name == b.name);
    Ok(wanted)
}

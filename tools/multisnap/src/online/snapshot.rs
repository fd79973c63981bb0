// SPDX-License-Identifier: GPL-2.0

//! `multisnap snapshot`: makes a snapshot, whole in one command.

use super::{
    cut::{self, How},
    rows,
    volume::Active,
    At,
};
use crate::{
    failure::{Code, Failure},
    out,
};
use multisnap_store::image::{SnapshotId, Type};
use serde::Serialize;
use std::time::Duration;

/// What `snapshot` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap snapshot home --name before-upgrade")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Its name: 1 to 63 of the letters A-Z a-z 0-9 + _ . -
    #[arg(long, value_parser = rows::check_name)]
    name: Option<String>,
    /// Make it of this snapshot instead of the origin.
    #[arg(long, value_name = "SNAPSHOT")]
    of: Option<String>,
    /// How long the file system may be frozen, and what is under way be waited for.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Freeze no file system: the snapshot is what a power cut would leave.
    #[arg(long)]
    no_freeze: bool,
    /// Make none, but drop one that was asked for and is not made.
    #[arg(long, conflicts_with_all = ["name", "of", "no_freeze"])]
    cancel: bool,
    /// Print an object instead of the id, or of nothing.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made<'a> {
    volume: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Cancelled<'a> {
    cancelled: &'a str,
}

/// Makes a snapshot, and prints its id.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    if args.cancel {
        cut::cancel(&mut at)?;
        if args.json {
            let volume = &at.volume.name;
            out::line(&Cancelled { cancelled: volume })?;
        }
        return Ok(Code::Good);
    }
    at.volume.writable()?;
    let rows = match (&args.name, &args.of) {
        (None, None) => Vec::new(),
        _ => rows::read(&at.control, &at.volume)?,
    };
    if let Some(name) = &args.name {
        if let Some(row) = rows.iter().find(|row| row.name.as_ref() == Some(name)) {
            let what = format!("has snapshot {} with the name {name}", row.id);
            let then = format!(
                "say another name, or: multisnap rename {} {} NAME",
                at.volume.name, row.id
            );
            return Err(at.volume.failure(what, then));
        }
    }
    let parent = match &args.of {
        None => None,
        Some(word) => Some(parent(&at, &rows, word)?),
    };
    let parents: Vec<Active> = at
        .devices
        .of(&at.volume)
        .filter(|active| Some(active.id) == parent)
        .cloned()
        .collect();
    let mut message = match parent {
        None => "create".to_owned(),
        Some(id) => format!("create_subsnap {id}"),
    };
    if let Some(name) = &args.name {
        message = message + " " + name;
    }
    let how = How {
        timeout: Duration::from_secs(args.timeout),
        freeze: !args.no_freeze,
    };
    let id = cut::cut(&mut at, &message, &parents, &how)?;
    let told = if args.json {
        out::line(&Made {
            volume: &at.volume.name,
            id: id.to_string(),
            name: args.name.as_deref(),
        })
    } else {
        out::text(&format!("{id}\n"))
    };
    // Whoever says it again would have two.
    told.map_err(|_| {
        let name = &at.volume.name;
        let what = format!("has snapshot {id} now, but standard output does not take its number");
        at.volume
            .failure(what, format!("see it: multisnap list {name}"))
    })?;
    Ok(Code::Good)
}

/// The snapshot of which one is to be made.
fn parent(at: &At, rows: &[rows::Row], word: &str) -> Result<SnapshotId, Failure> {
    let volume = &at.volume;
    let id = rows::one(rows, word)
        .map_err(|why| why.failure(word, volume))?
        .id;
    if let Some(parent) = id.parent() {
        let what = format!("has snapshot {id}, but that is one of {parent} and can have none");
        return Err(volume.failure(what, "say a snapshot of the origin after --of"));
    }
    let of = &volume.line.store_type;
    if !Type::from_name(of).is_some_and(Type::has_subs) {
        let what = format!("has a {of} store, which has no snapshots of snapshots");
        return Err(volume.failure(what, "make one of the origin: leave --of away"));
    }
    Ok(id)
}

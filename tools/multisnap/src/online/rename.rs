// SPDX-License-Identifier: GPL-2.0

//! `multisnap rename`: gives a snapshot another name.

use super::{rows, At};
use crate::{
    failure::{Code, Failure},
    out,
};
use serde::Serialize;

/// What `rename` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap rename home 12 before-upgrade")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Id or name of the snapshot.
    snapshot: String,
    /// Its new name: 1 to 63 of the letters A-Z a-z 0-9 + _ . -
    #[arg(value_parser = rows::check_name)]
    name: String,
    /// Print an object instead of nothing.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Renamed<'a> {
    volume: &'a str,
    id: String,
    name: &'a str,
}

/// Gives the snapshot its name; an active one keeps its device's name.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    at.volume.writable()?;
    let rows = rows::read(&at.control, &at.volume)?;
    let found = rows::one(&rows, &args.snapshot);
    let id = found
        .map_err(|why| why.failure(&args.snapshot, &at.volume))?
        .id;
    let other = rows
        .iter()
        .find(|row| row.name.as_ref() == Some(&args.name) && row.id != id);
    if let Some(other) = other {
        let what = format!("has snapshot {} with the name {}", other.id, args.name);
        return Err(at
            .volume
            .failure(what, "say another name, or give that one another before"));
    }
    let message = format!("name {id} {}", args.name);
    if let Err(e) = at.control.message(&at.volume.name, &message) {
        let then = format!("see its state: multisnap status {}", at.volume.name);
        return Err(at.failed(&format!("cannot rename snapshot {id}"), &e, then));
    }
    if args.json {
        out::line(&Renamed {
            volume: &at.volume.name,
            id: id.to_string(),
            name: &args.name,
        })?;
    }
    Ok(Code::Good)
}

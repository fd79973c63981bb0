// SPDX-License-Identifier: GPL-2.0

//! `multisnap activate`: makes devices of snapshots.

use super::{
    line, need_target,
    rows::{self, Row},
    At,
};
use crate::{
    dm::node,
    failure::{Code, Failure},
    out,
};
use multisnap_store::image::SnapshotId;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `activate` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: mount -o ro $(multisnap activate home 12 --read-only) /mnt")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Ids or names of snapshots; patterns and ranges too, as in 'daily-*' or 3-7.
    #[arg(required = true)]
    snapshot: Vec<String>,
    /// The devices cannot be written.
    #[arg(long)]
    read_only: bool,
    /// Name below /dev/mapper, for one snapshot; that of the origin, "-" and the id if nothing is
    /// said.
    #[arg(long)]
    device: Option<String>,
    /// Print an object for each instead of its path.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Activated<'a> {
    volume: &'a str,
    id: String,
    device: PathBuf,
    read_only: bool,
}

/// Makes the devices, and prints where they are.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    let volume = at.volume.clone();
    need_target(&at.control, line::SNAPSHOT)?;
    let rows = rows::read(&at.control, &volume)?;
    let mut wanted = Vec::new();
    for word in &args.snapshot {
        let found = rows::several(&rows, word);
        wanted.extend(found.map_err(|why| why.failure(word, &volume))?);
    }
    wanted.sort_by_key(|row| row.id);
    wanted.dedup();
    if args.device.is_some() && wanted.len() != 1 {
        let then = "say one snapshot, or leave --device away";
        return Err(volume.failure("cannot give one name to several devices", then));
    }
    if volume.is_read_only() && !args.read_only {
        let then = "say --read-only, too";
        return Err(volume.failure("was started read-only", then));
    }
    let store = volume.store_uuid()?;
    for row in wanted {
        let name = match &args.device {
            Some(name) => name.clone(),
            None => device_name(&volume.name, row.id),
        };
        let active = at.devices.of(&volume).find(|active| active.id == row.id);
        if let Some(active) = active {
            let path = node::path(&active.name);
            let what = format!("has snapshot {} as {} already", row.id, path.display());
            let then = format!(
                "use that, or: multisnap deactivate {} {}",
                volume.name, row.id
            );
            return Err(volume.failure(what, then));
        }
        let device = device(&mut at, &store, row, &name, args.read_only)?;
        out::told(match args.json {
            true => out::line(&Activated {
                volume: &volume.name,
                id: row.id.to_string(),
                device,
                read_only: args.read_only,
            }),
            false => out::text(&format!("{}\n", device.display())),
        })?;
    }
    Ok(Code::Good)
}

/// Makes the device `name` of a snapshot that is not active; where it is.
pub fn device(
    at: &mut At,
    store: &[u8; 16],
    row: &Row,
    name: &str,
    read_only: bool,
) -> Result<PathBuf, Failure> {
    let then = "say another one with --device, of letters, digits and # + - . : = @ _";
    let bad = |what: &str| Failure::new(Path::new(name), what, then);
    if !line::is_device_name(name) {
        return Err(bad("can be no name of a device"));
    }
    if at.control.info(name).is_ok() {
        return Err(bad("is the name of a device already"));
    }
    let table = line::snapshot_target(at.volume.line.origin, row.id, row.sectors);
    let uuid = line::snapshot_uuid(store, row.id);
    let made = at
        .control
        .create(name, &uuid, &[table], read_only, node::NO_LINKS);
    made.map_err(|e| at.failed_for(name, "cannot be made", &e, super::SEE_LOG))?;
    Ok(node::path(name))
}

/// Name of the device of a snapshot that nobody has named.
pub fn device_name(volume: &str, id: SnapshotId) -> String {
    format!("{volume}-{id}")
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap remove`: removes snapshots for good.

use super::{
    rows::{self, Row},
    sweep,
    volume::Volume,
    when, At,
};
use crate::{
    failure::{Code, Failure},
    out,
    size::count,
};
use multisnap_store::image::SnapshotId;
use serde::Serialize;

/// What `remove` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap remove home 'daily-*' 3-7 --dry-run")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Ids or names of snapshots; patterns and ranges too, as in 'daily-*' or 3-7.
    #[arg(required_unless_present = "older_than")]
    snapshot: Vec<String>,
    /// Only those that were made longer ago than this; all of them if no others are said.
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    older_than: Option<u64>,
    #[command(flatten)]
    how: How,
}

/// How snapshots are removed.
#[derive(clap::Args)]
pub struct How {
    /// Only say what would be removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait until the space is free again.
    #[arg(long)]
    pub no_wait: bool,
    /// Print an object instead of a sentence.
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Removed<'a> {
    volume: &'a str,
    dry_run: bool,
    removed: Vec<String>,
}

/// Removes snapshots. None is removed if one of them cannot be.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    at.volume.writable()?;
    let volume = at.volume.clone();
    let rows = rows::read(&at.control, &volume)?;
    let mut wanted: Vec<&Row> = if args.snapshot.is_empty() {
        rows.iter().collect()
    } else {
        let mut wanted = Vec::new();
        for word in &args.snapshot {
            let found = rows::several(&rows, word);
            wanted.extend(found.map_err(|why| why.failure(word, &volume))?);
        }
        wanted
    };
    if let Some(span) = args.older_than {
        let end = when::now().saturating_sub(span);
        wanted.retain(|row| row.time < end);
    }
    wanted.sort_by_key(|row| row.id);
    wanted.dedup();
    sweep::not_active(&at.devices, &volume, &wanted)?;
    let ids: Vec<SnapshotId> = wanted.iter().map(|row| row.id).collect();
    if args.how.dry_run && !args.how.json {
        for row in wanted {
            out::text(&format!("would remove {}\n", describe(row)))?;
        }
    }
    finish(&mut at, &volume, &ids, &args.how)
}

/// Removes these, and tells of it.
pub fn finish(
    at: &mut At,
    volume: &Volume,
    ids: &[SnapshotId],
    how: &How,
) -> Result<Code, Failure> {
    let mut freed = Ok(());
    if !how.dry_run {
        sweep::delete(at, ids)?;
        if !how.no_wait && !ids.is_empty() {
            freed = sweep::wait(at);
        }
    }
    if how.json {
        out::line(&Removed {
            volume: &volume.name,
            dry_run: how.dry_run,
            removed: ids.iter().map(SnapshotId::to_string).collect(),
        })?;
    } else if !how.dry_run {
        let n = count(ids.len() as u64, "snapshot");
        out::text(&format!("removed {n} of {}\n", volume.name))?;
    }
    freed.map(|()| Code::Good)
}

/// A snapshot in a line.
pub fn describe(row: &Row) -> String {
    let name = row.name.as_deref().unwrap_or("-");
    format!("{} {name} {}", row.id, when::show(row.time))
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap prune`: removes snapshots that no rule keeps.

use super::{
    glob,
    keep::Rules,
    remove::{self, How},
    rows::{self, Row},
    At,
};
use crate::{
    dm::sys,
    failure::{Code, Failure},
    out,
};
use multisnap_store::image::SnapshotId;
use serde::Serialize;

/// What `prune` is told.
#[derive(clap::Args)]
#[command(
    after_help = "Example: multisnap prune home --keep-last 12 --keep-hourly 24 --keep-daily 7 --dry-run"
)]
pub struct Args {
    /// The origin.
    volume: String,
    #[command(flatten)]
    rules: Rules,
    /// Look at snapshots with names like this, instead of those without a name.
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    #[command(flatten)]
    how: How,
}

/// What is said of a snapshot without removing any.
#[derive(Serialize)]
struct Verdict {
    id: String,
    time: u64,
    kept: Vec<&'static str>,
}

#[derive(Serialize)]
struct Plan<'a> {
    volume: &'a str,
    dry_run: bool,
    snapshots: Vec<Verdict>,
    removed: Vec<String>,
}

/// Removes what no rule keeps. Snapshots with a name, those of snapshots and active ones stay.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut at = At::find(&args.volume)?;
    at.volume.writable()?;
    let volume = at.volume.clone();
    let rows = rows::read(&at.control, &volume)?;
    let active: Vec<SnapshotId> = at.devices.of(&volume).map(|active| active.id).collect();
    let looked_at = candidates(&rows, args.pattern.as_deref());
    let times: Vec<u64> = looked_at.iter().map(|row| row.time).collect();
    let mut kept = args.rules.apply(&times, sys::local_offset);
    for (row, why) in looked_at.iter().zip(&mut kept) {
        if active.contains(&row.id) {
            why.push("active");
        }
    }
    let both = || looked_at.iter().zip(&kept);
    let mut ids: Vec<SnapshotId> = both()
        .filter(|(_, why)| why.is_empty())
        .map(|(row, _)| row.id)
        .collect();
    ids.sort_unstable();
    if args.how.dry_run && args.how.json {
        let verdict = |(row, why): (&&Row, &Vec<&'static str>)| Verdict {
            id: row.id.to_string(),
            time: row.time,
            kept: why.clone(),
        };
        out::line(&Plan {
            volume: &volume.name,
            dry_run: true,
            snapshots: both().map(verdict).collect(),
            removed: ids.iter().map(SnapshotId::to_string).collect(),
        })?;
        return Ok(Code::Good);
    }
    if args.how.dry_run {
        for (row, why) in both() {
            let what = match why.is_empty() {
                true => "would remove".to_owned(),
                false => format!("keep ({})", why.join(", ")),
            };
            out::text(&format!("{what} {}\n", remove::describe(row)))?;
        }
    }
    remove::finish(&mut at, &volume, &ids, &args.how)
}

/// Snapshots that may go, the newest first: by their ids, since the clock may have been wrong.
fn candidates<'a>(rows: &'a [Row], pattern: Option<&str>) -> Vec<&'a Row> {
    let wanted = |row: &&Row| match (pattern, &row.name) {
        (None, None) => true,
        (Some(pattern), Some(name)) => glob::matches(pattern, name),
        _ => false,
    };
    let tops = rows.iter().filter(|row| row.id.sub_id().is_none());
    let mut found: Vec<&Row> = tops.filter(wanted).collect();
    found.sort_by_key(|row| std::cmp::Reverse(row.id));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_protect() {
        let row = |id: SnapshotId, time, name: Option<&str>| Row {
            id,
            time,
            sectors: 8,
            name: name.map(str::to_owned),
        };
        let rows = [
            row(SnapshotId::top(1), 10, None),
            row(SnapshotId::top(2), 20, Some("before-upgrade")),
            row(SnapshotId::sub(3, 0), 40, None),
            row(SnapshotId::top(3), 30, None),
            row(SnapshotId::top(4), 30, Some("auto-4")),
            // The clock was wrong.
            row(SnapshotId::top(5), 9000, None),
            row(SnapshotId::top(6), 5, None),
        ];
        let ids = |pattern| {
            let found = candidates(&rows, pattern);
            found.iter().map(|row| row.id.id()).collect::<Vec<_>>()
        };
        assert_eq!(ids(None), [6, 5, 3, 1]);
        assert_eq!(ids(Some("auto-*")), [4]);
        assert_eq!(ids(Some("*")), [4, 2]);
    }
}

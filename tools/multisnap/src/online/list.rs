// SPDX-License-Identifier: GPL-2.0

//! `multisnap list`: origins and their snapshots.

use super::{
    columns::columns,
    rows::{self, Row},
    space::{self, Shares},
    volume::{Active, Devices, Volume},
    when,
};
use crate::{
    dm::{self, node, Control},
    failure::{Code, Failure},
    out, size,
};
use multisnap_store::image::SnapshotId;
use serde::Serialize;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long what snapshots have of the store may be read for, unless it is asked for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `list` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap list home")]
pub struct Args {
    /// Origins; all that are started if none is said.
    volume: Vec<String>,
    /// Tell what each snapshot has of the store, alone and together with others, however long it
    /// takes to read all metadata for it. Else that is told if it takes no more than two seconds.
    #[arg(long)]
    space: bool,
    /// Leave that out, and do not read the store.
    #[arg(long, conflicts_with = "space")]
    no_space: bool,
    /// Print an object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    volumes: Vec<Origin>,
}

/// An origin.
#[derive(Serialize)]
struct Origin {
    volume: String,
    device: PathBuf,
    origin: String,
    store: String,
    store_type: String,
    chunk_sectors: u32,
    sectors: u64,
    read_only: bool,
    /// Why it is not told what snapshots have of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    space_unread: Option<String>,
    snapshots: Vec<Snapshot>,
}

/// A snapshot.
#[derive(Serialize)]
struct Snapshot {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Seconds since 1970.
    time: u64,
    sectors: u64,
    /// Bytes of the store that it has alone, and that others have as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<u32>,
}

/// Prints the snapshots of some origins, or of all.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    let devices = Devices::find(&control)?;
    let volumes: Vec<&Volume> = if args.volume.is_empty() {
        devices.volumes.iter().collect()
    } else {
        let found = args.volume.iter().map(|word| devices.volume(word));
        found.collect::<Result<_, _>>()?
    };
    let mut listed = Vec::new();
    let mut failed = None;
    for volume in volumes {
        // One that does not answer must not hide the others.
        match one(&control, &devices, volume, args) {
            Ok(None) => {}
            Ok(Some(origin)) => listed.push(origin),
            Err(Failure::Pipe) => return Err(Failure::Pipe),
            Err(failure) => {
                failed.get_or_insert(failure);
            }
        }
    }
    if args.json {
        out::line(&Listed { volumes: listed })?;
    } else if devices.volumes.is_empty() {
        out::text("nothing is started: multisnap start ORIGIN STORE\n")?;
    }
    failed.map_or(Ok(Code::Good), Err)
}

/// Prints an origin, or gives it back to be printed with others.
fn one(
    control: &Control,
    devices: &Devices,
    volume: &Volume,
    args: &Args,
) -> Result<Option<Origin>, Failure> {
    let rows = rows::read(control, volume)?;
    let active: Vec<&Active> = devices.of(volume).collect();
    let space = match rows.is_empty() {
        true => Space::Left,
        false => Space::read(volume, args)?,
    };
    if args.json {
        return Ok(Some(origin(volume, &rows, &active, &space)));
    }
    out::text(&table(volume, &rows, &active, &space))?;
    Ok(None)
}

/// What is told of what snapshots have of the store.
enum Space {
    /// Nothing: it was left out.
    Left,
    Read(Shares),
    /// Why it was not read.
    Unread(String),
}

impl Space {
    fn read(volume: &Volume, args: &Args) -> Result<Self, Failure> {
        if args.no_space {
            return Ok(Self::Left);
        }
        let end = (!args.space).then(|| Instant::now() + PATIENCE);
        Ok(match space::read(volume, end) {
            Ok(Some(shares)) => Self::Read(shares),
            Ok(None) => Self::Unread(format!(
                "it takes longer to read: multisnap list {} --space",
                volume.name
            )),
            Err(failure) if args.space => return Err(failure),
            // The rest can be told all the same.
            Err(failure) => Self::Unread(failure.to_string()),
        })
    }

    fn shares(&self) -> Option<&Shares> {
        match self {
            Self::Read(shares) => Some(shares),
            _ => None,
        }
    }
}

/// Bytes of chunks of an origin.
fn bytes(volume: &Volume, chunks: u64) -> u64 {
    let chunk = u64::from(volume.line.chunk).saturating_mul(size::SECTOR);
    chunks.saturating_mul(chunk)
}

fn origin(volume: &Volume, rows: &[Row], active: &[&Active], space: &Space) -> Origin {
    let snapshot = |row: &Row| {
        let share = space.shares().and_then(|shares| shares.get(&row.id));
        let device = active.iter().find(|active| active.id == row.id);
        Snapshot {
            id: row.id.to_string(),
            name: row.name.clone(),
            time: row.time,
            sectors: row.sectors,
            own_bytes: share.map(|share| bytes(volume, share.own)),
            shared_bytes: share.map(|share| bytes(volume, share.shared)),
            parent: row.id.parent().map(|id| id.to_string()),
            device: device.map(|active| node::path(&active.name)),
            read_only: device.map(|active| active.flags & dm::READ_ONLY != 0),
            open: device.map(|active| active.open),
        }
    };
    Origin {
        volume: volume.name.clone(),
        device: node::path(&volume.name),
        origin: node::show(volume.line.origin),
        store: node::show(volume.line.store),
        store_type: volume.line.store_type.clone(),
        chunk_sectors: volume.line.chunk,
        sectors: volume.sectors,
        read_only: volume.is_read_only(),
        space_unread: match space {
            Space::Unread(why) => Some(why.clone()),
            _ => None,
        },
        snapshots: tree(rows)
            .into_iter()
            .map(|(row, _)| snapshot(row))
            .collect(),
    }
}

/// The snapshots with those of a snapshot behind it, and what is drawn before each.
fn tree(rows: &[Row]) -> Vec<(&Row, &'static str)> {
    // By the number before the dot; the snapshot itself has the largest one behind it.
    let key = |row: &Row| {
        (
            row.id.id(),
            row.id.sub_id().map_or(0, |sub| u64::from(sub) + 1),
        )
    };
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| key(row));
    let has = |id: SnapshotId| rows.binary_search_by_key(&id, |row| row.id).is_ok();
    let mut tree = Vec::new();
    for (n, row) in sorted.iter().enumerate() {
        let branch = match row.id.parent() {
            Some(parent) if has(parent) => {
                let next = sorted
                    .get(n + 1)
                    .is_some_and(|next| next.id.parent() == Some(parent));
                if next {
                    "├─"
                } else {
                    "└─"
                }
            }
            _ => "",
        };
        tree.push((*row, branch));
    }
    tree
}

/// An origin and its snapshots, for people.
fn table(volume: &Volume, rows: &[Row], active: &[&Active], space: &Space) -> String {
    let line = &volume.line;
    let text = format!(
        "{}  {}  origin {}  store {} ({}, chunks of {})\n",
        volume.name,
        size::show_sectors(volume.sectors),
        node::show(line.origin),
        node::show(line.store),
        line.store_type,
        size::show_sectors(line.chunk.into())
    );
    if rows.is_empty() {
        return text + "  no snapshots\n";
    }
    let mut head = vec!["ID", "NAME", "MADE", "SIZE"];
    if !matches!(space, Space::Left) {
        head.extend(["OWN", "SHARED"]);
    }
    head.push("STATE");
    let mut lines: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    for (row, branch) in tree(rows) {
        let active = active.iter().find(|active| active.id == row.id);
        let mut line = vec![
            format!("{branch}{}", row.id),
            row.name.clone().unwrap_or_else(|| "-".to_owned()),
            when::show(row.time),
            size::show_sectors(row.sectors),
        ];
        if !matches!(space, Space::Left) {
            let share = space.shares().and_then(|shares| shares.get(&row.id));
            let show = |chunks: Option<u64>| {
                chunks.map_or_else(|| "-".to_owned(), |n| size::show(bytes(volume, n)))
            };
            line.push(show(share.map(|share| share.own)));
            line.push(show(share.map(|share| share.shared)));
        }
        line.push(active.map_or_else(|| "-".to_owned(), |active| state(active)));
        lines.push(line);
    }
    let note = match space {
        Space::Unread(why) => format!("  no OWN and SHARED: {why}\n"),
        _ => String::new(),
    };
    text + &columns(&lines) + &note
}

fn state(active: &Active) -> String {
    let mut state = node::path(&active.name).display().to_string();
    if active.flags & dm::READ_ONLY != 0 {
        state += ", read-only";
    }
    if active.open > 0 {
        state += ", open";
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::{line::OriginLine, space::Share};

    fn rows() -> Vec<Row> {
        let ids = ["1", "2.0", "3.0", "3.1", "3", "10"];
        let row = |id: &&str| Row {
            id: id.parse().unwrap(),
            time: 0,
            sectors: 2048,
            name: (*id == "3").then(|| "three".to_owned()),
        };
        ids.iter().map(row).collect()
    }

    #[test]
    fn the_tree_has_all_in_order() {
        let rows = rows();
        let tree = tree(&rows);
        let shown: Vec<String> = tree
            .iter()
            .map(|(row, branch)| format!("{branch}{}", row.id))
            .collect();
        // The parent of 2.0 was removed.
        assert_eq!(shown, ["1", "2.0", "3", "├─3.0", "└─3.1", "10"]);
    }

    #[test]
    fn the_table_has_columns() {
        let dev = |minor| crate::dm::wire::Dev { major: 999, minor };
        let volume = Volume {
            name: "home".into(),
            dev: dev(0),
            uuid: String::new(),
            flags: 0,
            sectors: 2048,
            line: OriginLine::new(dev(1), dev(2), 32, "btree"),
        };
        let active = Active {
            name: "home-3".into(),
            dev: dev(3),
            flags: dm::READ_ONLY,
            open: 1,
            origin: dev(1),
            id: SnapshotId::top(3),
        };
        let text = table(&volume, &rows(), &[&active], &Space::Left);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "home  1 MiB  origin 999:1  store 999:2 (btree, chunks of 16 KiB)"
        );
        let at = lines[1].find("STATE").unwrap();
        assert_eq!(&lines[4][at..], "/dev/mapper/home-3, read-only, open");
        assert!(lines[4].contains(" three "));
        assert!(lines[2].ends_with("  -"));
        assert!(table(&volume, &[], &[], &Space::Left).ends_with("no snapshots\n"));
        let share = Share { own: 2, shared: 64 };
        let space = Space::Read(Shares::from([(SnapshotId::top(3), share)]));
        let text = table(&volume, &rows(), &[&active], &space);
        let at = text
            .lines()
            .nth(1)
            .and_then(|line| line.find("OWN"))
            .unwrap();
        let line = text.lines().nth(4).unwrap();
        assert_eq!(&line[at..at + 13], "32 KiB  1 MiB");
        let json = serde_json::to_value(origin(&volume, &rows(), &[&active], &space)).unwrap();
        assert_eq!(json["snapshots"][2]["device"], "/dev/mapper/home-3");
        assert_eq!(json["snapshots"][3]["parent"], "3");
        assert_eq!(json["snapshots"][2]["own_bytes"], 32768);
        assert_eq!(json["snapshots"][0].get("device"), None);
        assert_eq!(json.get("space_unread"), None);
        let space = Space::Unread("not now".into());
        let text = table(&volume, &rows(), &[&active], &space);
        assert!(text.contains(" OWN ") && text.ends_with("  no OWN and SHARED: not now\n"));
        let json = serde_json::to_value(origin(&volume, &rows(), &[], &space)).unwrap();
        assert_eq!(json["space_unread"], "not now");
        assert_eq!(json["snapshots"][2].get("own_bytes"), None);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap map`: where the chunks of a snapshot are, as ranges.

use crate::{
    check_pass::chunks_of,
    device::{Disk, For},
    failure::{Code, Failure},
    out,
    progress::Progress,
    table::Table,
};
use multisnap_store::image::{Fault, Image, Part, Scope, SnapshotId, Value};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `map` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap map /dev/vg/store 3")]
pub struct Args {
    /// The store: a block device or a file.
    store: PathBuf,
    /// The snapshot: 3, or 3.0 for the first snapshot of snapshot 3.
    id: SnapshotId,
    /// Look at a store although it is in use. What changes meanwhile may be shown wrong.
    #[arg(long)]
    live: bool,
    /// Print an object of JSON for each range.
    #[arg(long)]
    json: bool,
}

/// Where a range of chunks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The snapshot shares them with the origin.
    Origin,
    /// In the store, from this chunk of it on.
    Store(u64),
    /// Nowhere: they are zero.
    Zero,
    /// Nowhere: they are lost.
    Lost,
    /// Nobody knows: the metadata that tells it is damaged.
    Unknown,
}

impl Place {
    fn of(found: Result<Option<Value>, Fault>) -> Self {
        match found {
            Ok(None) => Self::Origin,
            Ok(Some(Value::Chunk(dest))) => Self::Store(dest),
            Ok(Some(Value::Zero)) => Self::Zero,
            Ok(Some(Value::Lost)) => Self::Lost,
            Err(_) => Self::Unknown,
        }
    }

    /// Where chunks are that follow `count` others here.
    fn behind(self, count: u64) -> Self {
        match self {
            Self::Store(dest) => Self::Store(dest.saturating_add(count)),
            other => other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Store(_) => "store",
            Self::Zero => "zero",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}

/// Chunks in a row that are in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first chunk of the snapshot.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Where they are.
    pub place: Place,
}

/// A snapshot in a store that was opened.
pub struct Opened {
    /// The store.
    pub image: Image,
    /// The device that it is on.
    pub disk: std::sync::Arc<Disk>,
    /// Sectors of the snapshot.
    pub sectors: u64,
    /// The snapshot.
    pub id: SnapshotId,
    /// It and the others.
    pub table: Table,
}

impl Opened {
    /// Opens a store to look at one of its snapshots.
    pub fn new(path: &Path, id: SnapshotId, live: bool) -> Result<Self, Failure> {
        let what_for = if live { For::Live } else { For::Store };
        let (disk, device) = Disk::open(path, what_for)?.shared();
        let mut image = Image::open(&device).map_err(|e| Failure::refused(path, &e))?;
        let table = Table::read(&mut image);
        let row = table.row(id).ok_or_else(|| {
            let name = path.display();
            let known = table.live();
            let there = match (known.first(), known.last()) {
                (Some(first), Some(last)) => {
                    format!("it has {} from {first} to {last}", known.len())
                }
                _ => "it has none".into(),
            };
            let then = format!("{there}; see them: multisnap dump {name} | grep '^{{\"snapshot\"'");
            Failure::new(path, format!("has no snapshot {id}"), then)
        })?;
        let sectors = row.sectors.min(image.header().origin_sectors);
        Ok(Self {
            image,
            disk,
            sectors,
            id,
            table,
        })
    }

    /// Chunks of the snapshot.
    pub fn chunks(&self) -> u64 {
        let sectors = u64::from(self.image.header().chunk_sectors);
        self.sectors.div_ceil(sectors.max(1))
    }

    /// The next span: from chunk `first` on, no longer than `most` chunks.
    pub fn span(&mut self, first: u64, most: u64) -> Option<Span> {
        let end = self.chunks().min(first.saturating_add(most));
        if first >= end {
            return None;
        }
        let place = Place::of(self.image.find(first, self.id));
        let mut count = 1;
        while first + count < end {
            let next = Place::of(self.image.find(first + count, self.id));
            if next != place.behind(count) {
                break;
            }
            count += 1;
        }
        Some(Span {
            first,
            count,
            place,
        })
    }
}

/// A range, for programs.
#[derive(Serialize)]
struct Line {
    first: u64,
    count: u64,
    #[serde(rename = "where")]
    place: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<u64>,
}

/// Shows where the chunks of a snapshot are.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut opened = Opened::new(&args.store, args.id, args.live)?;
    let total = opened.image.space().map_or(0, |space| space.metadata_used);
    let mut progress = Progress::new("map", total);
    if !args.json {
        out::text(&format!("{:<24} {:>12} WHERE\n", "CHUNKS", "COUNT"))?;
    }
    let header = opened.image.header();
    let lost = header.lost_to.is_some_and(|to| args.id <= to);
    let mut walker = Walker {
        chunks: opened.chunks(),
        silent: if lost { Place::Lost } else { Place::Origin },
        next: 0,
        unknown: 0,
        held: None,
        code: Code::Good,
        json: args.json,
    };
    let (table, header) = (&opened.table, header.clone());
    let mut result = Ok(());
    opened.image.survey(Scope::Records, &mut |part| {
        result = match part {
            Part::Node(_) => {
                progress.step(1);
                Ok(())
            }
            Part::Record { chunk, ids, value } if table.is_in(args.id, ids) => {
                walker.record(chunk, value)
            }
            Part::BadNode { low, high, .. } => {
                let (first, last) = chunks_of(&header, low, high);
                walker.unknown(first, last)
            }
            Part::BadEntry { words, .. } => walker.unknown(words[0], words[0]),
            _ => Ok(()),
        };
        result.is_ok()
    });
    result?;
    walker.end()?;
    Ok(walker.code)
}

/// Makes spans of the records of a snapshot, which come in the order of their chunks.
struct Walker {
    /// Chunks of the snapshot.
    chunks: u64,
    /// Where chunks are that have no record.
    silent: Place,
    /// All chunks before this one are shown or held.
    next: u64,
    /// Nobody knows of chunks before this one, unless they have a record.
    unknown: u64,
    held: Option<Span>,
    code: Code,
    json: bool,
}

impl Walker {
    fn record(&mut self, chunk: u64, value: Value) -> Result<(), Failure> {
        if chunk < self.next || chunk >= self.chunks {
            return Ok(());
        }
        self.reach(chunk)?;
        self.span(1, Place::of(Ok(Some(value))))
    }

    /// Nobody knows of the chunks from `first` to `last`.
    fn unknown(&mut self, first: u64, last: u64) -> Result<(), Failure> {
        self.reach(first.min(self.chunks))?;
        self.unknown = self.unknown.max(last.saturating_add(1));
        Ok(())
    }

    /// There is no record before `chunk`.
    fn reach(&mut self, chunk: u64) -> Result<(), Failure> {
        let known = self.unknown.min(chunk);
        if known > self.next {
            self.code = Code::Damaged;
            self.span(known - self.next, Place::Unknown)?;
        }
        if chunk > self.next {
            self.span(chunk - self.next, self.silent)?;
        }
        Ok(())
    }

    /// The next `count` chunks are there.
    fn span(&mut self, count: u64, place: Place) -> Result<(), Failure> {
        let first = self.next;
        self.next = first.saturating_add(count);
        if let Some(last) = &mut self.held {
            if last.place.behind(last.count) == place {
                last.count = last.count.saturating_add(count);
                return Ok(());
            }
            show(last, self.json)?;
        }
        self.held = Some(Span {
            first,
            count,
            place,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.reach(self.chunks)?;
        match self.held.take() {
            Some(last) => show(&last, self.json),
            None => Ok(()),
        }
    }
}

fn show(span: &Span, json: bool) -> Result<(), Failure> {
    let store = match span.place {
        Place::Store(dest) => Some(dest),
        _ => None,
    };
    let place = span.place.word();
    let (first, count) = (span.first, span.count);
    if json {
        return out::line(&Line {
            first,
            count,
            place,
            store,
        });
    }
    let last = first + (count - 1);
    let chunks = match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let dest = store.map(|dest| match count {
        1 => format!(" {dest}"),
        _ => format!(" {dest}-{}", dest.saturating_add(count - 1)),
    });
    out::text(&format!(
        "{chunks:<24} {count:>12} {place}{}\n",
        dest.unwrap_or_default()
    ))
}

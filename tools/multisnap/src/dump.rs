// SPDX-License-Identifier: GPL-2.0

//! `multisnap dump`: what a store knows, as lines of JSON. Documentation/multisnap.rst has the
//! form.

use crate::{
    device::{self, Disk, For},
    failure::{Code, Failure},
    out,
    records::Contents,
    table::{show, Table},
};
use multisnap_store::image::{Image, Part, Scope, Value, DIGESTS};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
};

/// The form of a dump; another one has another number. In form 1 it was not said of which moment the
/// dump is.
pub const FORM: u32 = 2;

/// What `dump` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap dump /dev/vg/store --output store.dump")]
pub struct Args {
    /// The store: a block device or a file.
    store: PathBuf,
    /// Write to this new file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Look at a store although it is in use. What changes meanwhile may make the dump useless.
    #[arg(long)]
    live: bool,
}

/// A line of a dump.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// The first line.
    Store(Store),
    /// A snapshot; they come in the order of their numbers, before all records.
    Snapshot(Snapshot),
    /// What some snapshots hold of a chunk; they come in the order of their chunks.
    Record(Record),
    /// The last line.
    End(End),
}

/// What is known of the store.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// [`FORM`].
    pub form: u32,
    /// In hexadecimal.
    pub uuid: String,
    /// Epoch of the newest checkpoint, and blocks of the log since that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<[u64; 2]>,
    /// `btree` or `bitmask`.
    #[serde(rename = "type")]
    pub store_type: String,
    /// Sectors in a chunk.
    pub chunk_sectors: u32,
    /// Sectors of the origin.
    pub origin_sectors: u64,
    /// Sectors of the store.
    pub store_sectors: u64,
    /// Block of 4 KiB of the store where its data area begins.
    pub data_start: u64,
    /// Chunks in the data area.
    pub data_chunks: u64,
    /// Number of the next snapshot of the origin.
    pub next_id: u64,
    /// What ids up to this one have no record for is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_to: Option<String>,
    /// What the origin looked like when the store was stopped in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Vec<u64>>,
}

/// A snapshot.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Its number.
    pub id: String,
    /// Seconds since 1970 when it was cut.
    pub time: u64,
    /// Sectors of the origin then.
    pub sectors: u64,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The number that its next snapshot gets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub next_sub: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What some snapshots hold of a chunk.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The chunk of the origin.
    pub chunk: u64,
    /// The snapshots, as in `1-3,5`: from 1 to 3 all that there are, and 5.
    pub ids: String,
    /// What they hold.
    pub value: Holds,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Holds {
    /// The content of this chunk of the store.
    Chunk(u64),
    /// A word.
    Word(Word),
}

/// What a snapshot holds without a chunk of the store.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Zeroes.
    Zero,
    /// Nothing.
    Lost,
}

impl From<Value> for Holds {
    fn from(value: Value) -> Self {
        match value {
            Value::Chunk(dest) => Self::Chunk(dest),
            Value::Zero => Self::Word(Word::Zero),
            Value::Lost => Self::Word(Word::Lost),
        }
    }
}

impl From<Holds> for Value {
    fn from(holds: Holds) -> Self {
        match holds {
            Holds::Chunk(dest) => Self::Chunk(dest),
            Holds::Word(Word::Zero) => Self::Zero,
            Holds::Word(Word::Lost) => Self::Lost,
        }
    }
}

/// How many lines there were; a dump without it is not whole.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Lines with snapshots.
    pub snapshots: u64,
    /// Lines with records.
    pub records: u64,
}

/// Dumps a store.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let what_for = if args.live { For::Live } else { For::Store };
    let (_, device) = Disk::open(&args.store, what_for)?.shared();
    let mut image = Image::open(&device).map_err(|e| Failure::refused(&args.store, &e))?;
    let whole = match &args.output {
        Some(path) => {
            let file = File::create_new(path);
            let file = file.map_err(|e| Failure::io(path, "cannot be made", &e))?;
            let mut to = BufWriter::new(&file);
            // Somebody may erase the store next.
            let whole = write(&mut image, &mut to)
                .and_then(|whole| to.flush().map(|()| whole))
                .and_then(|whole| file.sync_all().map(|()| whole))
                .and_then(|whole| device::sync_name(path).map(|()| whole))
                .map_err(|e| Failure::io(path, "cannot be written", &e));
            if !matches!(whole, Ok(true)) {
                // The failure that led here is what is told.
                let _ = fs::remove_file(path);
            }
            whole?
        }
        None => {
            let mut to = BufWriter::new(io::stdout().lock());
            write(&mut image, &mut to)
                .and_then(|whole| to.flush().map(|()| whole))
                .map_err(|e| out::failed(&e))?
        }
    };
    if !whole {
        return Err(Failure::damage(
            &args.store,
            "is damaged, and the dump is not whole",
            format!(
                "save what is left: multisnap repair {} OUT",
                args.store.display()
            ),
        ));
    }
    Ok(Code::Good)
}

/// Writes the dump of a store; whether it is whole.
fn write(image: &mut Image, to: &mut dyn Write) -> io::Result<bool> {
    let table = Table::read(image);
    if !table.gone.is_empty() || !table.odd.is_empty() {
        return Ok(false);
    }
    let header = image.header();
    let log = image.space().map_or(0, |space| space.log_used);
    put(
        to,
        &Line::Store(Store {
            form: FORM,
            uuid: out::hex(&header.uuid),
            at: Some([header.epoch(), log]),
            store_type: header.store_type.name().into(),
            chunk_sectors: header.chunk_sectors,
            origin_sectors: header.origin_sectors,
            store_sectors: header.store_sectors,
            data_start: header.data_start,
            data_chunks: header.data_chunks,
            next_id: header.next_id,
            lost_to: header.lost_to.map(|id| id.to_string()),
            digests: header
                .digests
                .map(|digests: [u64; DIGESTS]| digests.to_vec()),
        }),
    )?;
    let mut end = End {
        snapshots: 0,
        records: 0,
    };
    for id in table.live() {
        let Some(row) = table.row(*id) else {
            return Ok(false);
        };
        let next_sub = match id.sub_id() {
            None => table.next_sub(id.id()),
            Some(_) => 0,
        };
        put(
            to,
            &Line::Snapshot(Snapshot {
                id: id.to_string(),
                time: row.created,
                sectors: row.sectors,
                name: row.name.clone(),
                next_sub,
            }),
        )?;
        end.snapshots += 1;
    }
    let mut chunk = Chunk::default();
    let mut result = Ok(());
    let mut whole = true;
    image.survey(Scope::Records, &mut |part| {
        result = match part {
            Part::Record {
                chunk: of,
                ids,
                value,
            } => {
                let shown = chunk.turn_to(of, to, &mut end);
                chunk.contents.add(table.runs(ids), value);
                shown
            }
            Part::Node(_) => Ok(()),
            _ => {
                whole = false;
                Ok(())
            }
        };
        whole && result.is_ok()
    });
    result?;
    if !whole {
        return Ok(false);
    }
    chunk.show(to, &mut end)?;
    put(to, &Line::End(end))?;
    Ok(true)
}

fn put(to: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// The records of the chunk that is being read.
#[derive(Default)]
struct Chunk {
    nr: u64,
    contents: Contents,
}

impl Chunk {
    /// The next record is of chunk `nr`.
    fn turn_to(&mut self, nr: u64, to: &mut dyn Write, end: &mut End) -> io::Result<()> {
        if nr == self.nr {
            return Ok(());
        }
        self.show(to, end)?;
        self.nr = nr;
        Ok(())
    }

    fn show(&mut self, to: &mut dyn Write, end: &mut End) -> io::Result<()> {
        for content in std::mem::take(&mut self.contents).list() {
            let record = Record {
                chunk: self.nr,
                ids: show(&content.runs),
                value: content.value.into(),
            };
            put(to, &Line::Record(record))?;
            end.records += 1;
        }
        Ok(())
    }
}

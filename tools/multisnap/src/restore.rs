// SPDX-License-Identifier: GPL-2.0

//! `multisnap restore`: a store again from a dump. The content comes from the store that was
//! dumped, which only has to be readable.

use crate::{
    copy::{Copier, CopyError, Output},
    device::{Disk, For},
    dump::{self, Line},
    failure::{Code, Failure},
    out,
    progress::Progress,
    records::{Content, Facts, Writer},
    size::{self, SECTOR},
    table::{parse, Runs, Table},
};
use multisnap_store::image::{
    epoch_of, Device, Image, Maker, Params, Row, SnapshotId, Type, DIGESTS,
};
use serde::Serialize;
use std::{
    borrow::Cow,
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What `restore` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap restore store.dump /dev/vg/larger --data /dev/vg/store")]
pub struct Args {
    /// What `multisnap dump` has written.
    dump: PathBuf,
    /// An empty block device or file, or a file that is made.
    store_out: PathBuf,
    /// The store that was dumped: the content comes from it.
    #[arg(long, value_name = "FROM")]
    data: PathBuf,
    /// Size of a file that is made; that of the old store if it is not said.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Do it although FROM was used since it was dumped. What was written since is taken for what the
    /// snapshots hold.
    #[arg(long)]
    stale: bool,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// What is told of a store that was made.
#[derive(Serialize)]
struct Restored<'a> {
    store: Cow<'a, str>,
    uuid: String,
    snapshots: u64,
    records: u64,
}

/// Longest line of a dump that is read.
const LINE_MAX: u64 = 64 << 20;

/// Makes a store from a dump.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut lines = Lines::open(&args.dump)?;
    let store = match lines.next()? {
        Some(Line::Store(store)) => store,
        _ => return Err(lines.bad("no dump begins so")),
    };
    let (facts, params, digests) = read_store(&store).map_err(|why| lines.bad(&why))?;
    let mut rows = Vec::new();
    let mut next_subs = Vec::new();
    let mut first = None;
    while let Some(line) = lines.next()? {
        match line {
            Line::Snapshot(snapshot) => {
                let row =
                    read_row(&snapshot, &facts, rows.last()).map_err(|why| lines.bad(&why))?;
                next_subs.push((row.id, snapshot.next_sub));
                rows.push(row);
            }
            other => {
                first = Some(other);
                break;
            }
        }
    }
    let snapshots = rows.len() as u64;
    let table = Table::new(rows, &next_subs);
    let (from, device) = Disk::open(&args.data, For::Store)?.shared();
    from.is_not(&args.store_out)?;
    same_store(&from, &params.uuid)?;
    let certain = as_it_was(&args.data, &device, &store, &params.uuid, args.stale)?;

    let old = store.store_sectors.saturating_mul(SECTOR);
    let output = Output::open(
        &args.store_out,
        args.size.unwrap_or(old),
        args.size.is_some(),
    )?;
    let uuid = out::draw_uuid()?;
    let made = (|| {
        let params = Params {
            uuid,
            origin_sectors: facts.first_size(&table),
            ..params
        };
        let refused = |e| output.refused(&e);
        let mut maker = Maker::new(&output.device, &params).map_err(refused)?;
        facts.make(&mut maker, &table).map_err(refused)?;
        let copier = Copier::new(from.clone(), output.disk.clone());
        let table = &table;
        let mut writer = Writer {
            maker,
            table,
            facts,
            copier,
        };
        let records = put_records(&mut lines, first, &mut writer, &output)?;
        let end = dump::End { snapshots, records };
        if lines.end.as_ref() != Some(&end) {
            return Err(lines.bad("the dump is not whole"));
        }
        // The origin may be another one by now as well.
        writer
            .maker
            .finish(digests.filter(|_| certain))
            .map_err(refused)
    })();
    made.inspect_err(|_| output.abandon())?;
    let records = lines.end.map_or(0, |end| end.records);
    if args.json {
        out::line(&Restored {
            store: args.store_out.to_string_lossy(),
            uuid: out::hex(&uuid),
            snapshots,
            records,
        })?;
    } else {
        out::text(&format!(
            "{} is a store with {} and {}\n",
            args.store_out.display(),
            size::count(snapshots, "snapshot"),
            size::count(records, "record")
        ))?;
    }
    Ok(Code::Good)
}

/// Brings the records into the new store; how many there were.
fn put_records(
    lines: &mut Lines,
    first: Option<Line>,
    writer: &mut Writer<'_>,
    output: &Output,
) -> Result<u64, Failure> {
    let mut progress = Progress::new("restore", writer.facts.data.1);
    let mut records = 0;
    let mut here: (u64, Vec<Content>) = (0, Vec::new());
    let mut next = first;
    while let Some(line) = next {
        match line {
            Line::Record(record) => {
                records += 1;
                progress.step(1);
                if record.chunk < here.0 {
                    return Err(lines.bad("records are not in the order of their chunks"));
                }
                if record.chunk != here.0 {
                    put_chunk(writer, output, &here)?;
                    here = (record.chunk, Vec::new());
                }
                let runs = read_runs(&record.ids, writer.table).map_err(|why| lines.bad(&why))?;
                let value = record.value.into();
                here.1.push(Content { runs, value });
            }
            Line::End(end) => {
                lines.end = Some(end);
                break;
            }
            _ => return Err(lines.bad("this line has its place before the records")),
        }
        next = lines.next()?;
    }
    put_chunk(writer, output, &here)?;
    Ok(records)
}

fn put_chunk(
    writer: &mut Writer<'_>,
    output: &Output,
    (chunk, contents): &(u64, Vec<Content>),
) -> Result<(), Failure> {
    let done = writer.chunk(*chunk, contents, &mut |_, _| false);
    done.map_err(|e| copy_failed(&e, writer.copier.from().path(), output))
}

/// What a failed copy means for the run.
pub fn copy_failed(e: &CopyError, from: &Path, output: &Output) -> Failure {
    match e {
        CopyError::Read(block, e) => {
            let then = "save what is left: multisnap repair";
            let what = format!("cannot be read at block {block}: {e}");
            Failure::damage(from, what, format!("{then} {} OUT", from.display()))
        }
        CopyError::Write(e) => Failure::io(output.disk.path(), "cannot be written", e),
        CopyError::Refused(refusal) => output.refused(refusal),
    }
}

/// Makes sure that content comes from the store that was dumped.
fn same_store(from: &Arc<Disk>, uuid: &[u8; 16]) -> Result<(), Failure> {
    let mut page = [multisnap_store::image::Page::ZERO];
    // A superblock that is damaged, or cannot be read, says nothing.
    if from.read_to_end(0, &mut page).is_err() {
        return Ok(());
    }
    let has = page[0].0.get(8..24);
    let is_store = page[0].0.get(4..8) == Some(&0x4d53_5355u32.to_le_bytes());
    if is_store && has != Some(uuid) {
        return Err(another(from.path()));
    }
    Ok(())
}

fn another(from: &Path) -> Failure {
    let then = "say the right one after --data";
    Failure::new(from, "is not the store that was dumped", then)
}

/// Makes sure that nobody has used the store since it was dumped: then its chunks hold something else.
/// Answers whether that is certain.
fn as_it_was(
    from: &Path,
    device: &Arc<dyn Device>,
    dump: &dump::Store,
    uuid: &[u8; 16],
    stale: bool,
) -> Result<bool, Failure> {
    let unknown = || {
        out::warn(&format!(
            "{}: nobody can tell whether it is as it was when it was dumped",
            from.display()
        ));
        Ok(false)
    };
    let epoch = epoch_of(device, uuid).map_err(|_| another(from))?;
    let (Some([then, log]), Some(epoch)) = (dump.at, epoch) else {
        return unknown();
    };
    // The log can be counted only in a store that is in order.
    let image = (epoch == then).then(|| Image::open(device).ok()).flatten();
    let now = image.and_then(|image| Some(image.space()?.log_used));
    match (epoch == then, now) {
        (true, Some(now)) if now == log => return Ok(true),
        (true, None) => return unknown(),
        _ if stale => return Ok(false),
        _ => {}
    }
    let what = "was used since it was dumped";
    let name = from.display();
    let then = format!("make another dump: multisnap dump {name}; if it must be this one: --stale");
    Err(Failure::new(from, what, then))
}

type ReadStore = (Facts, Params, Option<[u64; DIGESTS]>);

fn read_store(store: &dump::Store) -> Result<ReadStore, String> {
    if !(1..=dump::FORM).contains(&store.form) {
        let known = dump::FORM;
        return Err(format!(
            "the dump has form {}, not 1 to {known}",
            store.form
        ));
    }
    let store_type = Type::from_name(&store.store_type);
    let store_type = store_type.ok_or(format!("there is no store type {:?}", store.store_type))?;
    let uuid = out::unhex(&store.uuid).ok_or(format!("{:?} is no uuid", store.uuid))?;
    if store.origin_sectors == 0 || !(1..=1 << 32).contains(&store.next_id) {
        return Err("a size or a number is out of range".into());
    }
    let lost_to = store.lost_to.as_ref();
    let lost_to = lost_to.map(|id| id.parse::<SnapshotId>()).transpose()?;
    let digests = store.digests.as_ref();
    let digests = digests.map(|list| <[u64; DIGESTS]>::try_from(&list[..]));
    let digests = digests
        .transpose()
        .map_err(|_| "there are too few digests, or too many")?;
    let facts = Facts {
        store_type,
        chunk_blocks: u64::from(store.chunk_sectors) / 8,
        data: (store.data_start, store.data_chunks),
        origin_sectors: store.origin_sectors,
        next_id: store.next_id,
        lost_to,
    };
    let params = Params {
        uuid,
        store_type,
        chunk_sectors: store.chunk_sectors,
        origin_sectors: store.origin_sectors,
    };
    Ok((facts, params, digests))
}

fn read_row(snapshot: &dump::Snapshot, facts: &Facts, last: Option<&Row>) -> Result<Row, String> {
    let id = snapshot.id.parse::<SnapshotId>()?;
    if last.is_some_and(|last| last.id >= id) {
        return Err("snapshots are not in the order of their numbers".into());
    }
    if u64::from(id.id()) >= facts.next_id || snapshot.sectors > facts.origin_sectors {
        return Err(format!("there can be no such snapshot {id}"));
    }
    Ok(Row {
        id,
        created: snapshot.time,
        sectors: snapshot.sectors,
        deleted: false,
        name: snapshot.name.clone(),
    })
}

/// The snapshots of a record, all of which must be there.
fn read_runs(ids: &str, table: &Table) -> Result<Runs, String> {
    let runs = parse(ids)?;
    let known = |id: &SnapshotId| table.live().binary_search(id).is_ok();
    let mut ends = runs.iter().flat_map(|(lo, hi)| [*lo, *hi]);
    if let Some(id) = ends.find(|id| !known(id)) {
        return Err(format!("there is no snapshot {id}"));
    }
    Ok(runs)
}

/// The lines of a dump.
struct Lines {
    path: PathBuf,
    from: BufReader<File>,
    /// Number of the line that was read last.
    nr: u64,
    /// The last line.
    end: Option<dump::End>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| Failure::io(path, "cannot be opened", &e))?;
        Ok(Self {
            path: path.to_path_buf(),
            from: BufReader::new(file),
            nr: 0,
            end: None,
        })
    }

    fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut text = String::new();
        self.nr += 1;
        let read = (&mut self.from).take(LINE_MAX).read_line(&mut text);
        read.map_err(|e| match e.kind() {
            ErrorKind::InvalidData => self.bad("it is no text"),
            _ => Failure::io(&self.path, "cannot be read", &e),
        })?;
        if text.is_empty() {
            return Ok(None);
        }
        let line = serde_json::from_str(&text);
        line.map(Some).map_err(|e| self.bad(&e.to_string()))
    }

    fn bad(&self, why: &str) -> Failure {
        let what = format!("is no dump that can be used: line {}: {why}", self.nr);
        Failure::new(&self.path, what, "make another one: multisnap dump STORE")
    }
}

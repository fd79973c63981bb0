// SPDX-License-Identifier: GPL-2.0

//! `multisnap repair`: what can be read of a damaged store, brought into a new one.
//!
//! Nothing is made up. What a snapshot held in a chunk whose records cannot be read is recorded as
//! lost, so that the new store gives an error there and never the origin's content of today.

use crate::{
    check_report::Damage,
    claims::Claims,
    copy::{Copier, Output},
    device::{Disk, For},
    failure::{Code, Failure},
    losses::Losses,
    out,
    progress::Progress,
    records::{Content, Contents, Facts, Writer},
    repair_report::Report,
    restore::copy_failed,
    size::{self, SECTOR},
    table::{show, Runs, Table},
};
use multisnap_store::image::{Ids, Image, Maker, Params, Part, Refusal, Scope, Value};
use std::path::PathBuf;

/// What `repair` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap repair /dev/vg/store /dev/vg/new")]
pub struct Args {
    /// The damaged store. It is only read.
    store: PathBuf,
    /// An empty block device or file, or a file that is made.
    out: PathBuf,
    /// Size of a file that is made; that of the store if it is not said.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Where nothing is known of a chunk, take it that the snapshots share it with the origin. If
    /// it was written since they were cut, they show what was written.
    #[arg(long)]
    trust_origin: bool,
    /// Print one object of JSON.
    #[arg(long)]
    json: bool,
}

/// Saves what can be saved.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let (from, device) = Disk::open(&args.store, For::Store)?.shared();
    from.is_not(&args.out)?;
    let opened = Image::open_damaged(&device);
    let (mut image, faults) = opened.map_err(|e| match e {
        Refusal::Damaged(..) | Refusal::CutShort { .. } => {
            let what = format!("{e}: nothing of it can be found without that");
            let (store, out) = (args.store.display(), args.out.display());
            let dump = format!("multisnap restore DUMP {out} --data {store}");
            let then = format!("if there is a dump of it: {dump}; or restore it from a backup");
            Failure::damage(&args.store, what, then)
        }
        e => Failure::refused(&args.store, &e),
    })?;
    let table = Table::read(&mut image);
    let header = image.header().clone();
    let mut report = Report {
        store: args.store.display().to_string(),
        out: args.out.display().to_string(),
        snapshots: table.live().len() as u64,
        ..Report::default()
    };
    let mut losses = Losses::default();
    losses.opening(&faults, &header, &table, &mut report);
    losses.snapshots(&table, &header, &mut report);
    let claims = losses.records(&mut image, &header, &table, &mut report);
    if table.live().is_empty() && !table.gone.is_empty() {
        let what = "is damaged: none of its snapshots can be read";
        return Err(Failure::damage(
            &args.store,
            what,
            "restore it from a backup",
        ));
    }

    // Of a store that is cut short it is not believed how large it was.
    let recorded = header.store_sectors.saturating_mul(SECTOR);
    let believed = recorded.min(from.len().saturating_mul(2).max(16 << 20));
    let size = args.size.unwrap_or(believed);
    let output = Output::open(&args.out, size, args.size.is_some())?;
    let facts = Facts {
        store_type: header.store_type,
        chunk_blocks: header.chunk_blocks(),
        data: (header.data_start, header.data_chunks),
        origin_sectors: header.origin_sectors,
        next_id: header.next_id,
        lost_to: header.lost_to,
    };
    let made = (|| {
        let params = Params {
            uuid: out::draw_uuid()?,
            store_type: header.store_type,
            chunk_sectors: header.chunk_sectors,
            origin_sectors: facts.first_size(&table),
        };
        let refused = |e| output.refused(&e);
        let mut maker = Maker::new(&output.device, &params).map_err(refused)?;
        facts.make(&mut maker, &table).map_err(refused)?;
        if losses.doubt && !args.trust_origin {
            maker.lose_all().map_err(refused)?;
        }
        let mut mover = Mover {
            writer: Writer {
                maker,
                table: &table,
                facts,
                copier: Copier::new(from.clone(), output.disk.clone()),
            },
            report: &mut report,
            losses: &losses,
            claims: &claims,
            trust: args.trust_origin || losses.doubt,
            here: (0, Contents::default()),
            ranges: 0,
            skipped: 0,
        };
        mover.all(&mut image, &output)?;
        let digests = header.digests;
        mover.writer.maker.finish(digests).map_err(refused)
    })();
    made.inspect_err(|_| output.abandon())?;
    if args.json {
        out::line(&report)?;
    } else {
        out::text(&report.show())?;
    }
    Ok(match report.losses {
        0 => Code::Good,
        _ => Code::Damaged,
    })
}

/// Brings records over.
struct Mover<'a, 'b> {
    writer: Writer<'a>,
    report: &'b mut Report,
    losses: &'b Losses,
    claims: &'b Claims,
    /// Nothing need be recorded as lost: it is so anyway, or it is not wanted.
    trust: bool,
    /// The chunk whose records come, and what they say.
    here: (u64, Contents),
    /// Lost ranges and superseded records that were seen to.
    ranges: usize,
    skipped: usize,
}

impl Mover<'_, '_> {
    fn all(&mut self, image: &mut Image, output: &Output) -> Result<(), Failure> {
        let total = image.space().map_or(0, |space| space.metadata_used);
        let mut progress = Progress::new("repair", total);
        let mut result = Ok(());
        image.survey(Scope::Records, &mut |part| {
            match part {
                Part::Node(_) => progress.step(1),
                Part::Record { chunk, ids, value } => {
                    result = self.record(chunk, ids, value, output);
                }
                _ => {}
            }
            result.is_ok()
        });
        result?;
        self.turn_to(None, output)
    }

    fn record(
        &mut self,
        chunk: u64,
        ids: Ids,
        value: Value,
        output: &Output,
    ) -> Result<(), Failure> {
        if chunk >= self.chunks() {
            // Nobody can read what is behind the end of the origin.
            return Ok(());
        }
        if chunk != self.here.0 {
            self.turn_to(Some(chunk), output)?;
        }
        let runs = self.writer.table.runs(ids);
        let other = match value {
            Value::Chunk(dest) if !runs.is_empty() => self.claims.other(dest),
            _ => None,
        };
        let Some(other) = other else {
            self.here.1.add(runs, value);
            return Ok(());
        };
        let what = format!("content that {other} lays claim to as well");
        let damage = Damage::new(what).of(show(&runs));
        self.report.lose(damage.chunks(chunk, chunk));
        self.here.1.add(runs, Value::Lost);
        Ok(())
    }

    /// Chunks of the origin.
    fn chunks(&self) -> u64 {
        let sectors = self.writer.facts.chunk_blocks.saturating_mul(8);
        self.writer.facts.origin_sectors.div_ceil(sectors.max(1))
    }

    /// The next record is of chunk `next`: deals with all chunks before it of which anything is
    /// known, or known to be lost.
    fn turn_to(&mut self, next: Option<u64>, output: &Output) -> Result<(), Failure> {
        let (chunk, contents) = std::mem::take(&mut self.here);
        self.here.0 = next.unwrap_or(u64::MAX);
        self.chunk(chunk, contents, output)?;
        let chunks = self.chunks();
        let end = next.unwrap_or(chunks).min(chunks);
        let mut at = chunk.saturating_add(1);
        // A chunk without any record comes between only if it is lost.
        while let Some(chunk) = self.next_lost(at).filter(|chunk| *chunk < end) {
            self.chunk(chunk, Contents::default(), output)?;
            at = chunk.saturating_add(1);
        }
        Ok(())
    }

    /// The first chunk from `at` on of which something is lost.
    fn next_lost(&mut self, at: u64) -> Option<u64> {
        let losses = self.losses;
        while let Some((chunk, _)) = losses.superseded.get(self.skipped) {
            if *chunk >= at {
                break;
            }
            self.skipped += 1;
        }
        let superseded = losses.superseded.get(self.skipped).map(|(chunk, _)| *chunk);
        if self.trust {
            return superseded;
        }
        while let Some((_, high)) = losses.keys.get(self.ranges) {
            if high.is_none_or(|high| high[0] > at || (high[0] == at && high[1] != 0)) {
                break;
            }
            self.ranges += 1;
        }
        let range = losses.keys.get(self.ranges);
        let range = range.map(|(low, _)| low[0].max(at));
        match (superseded, range) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Records what is known of a chunk.
    fn chunk(
        &mut self,
        chunk: u64,
        mut contents: Contents,
        output: &Output,
    ) -> Result<(), Failure> {
        let lost = match self.trust {
            true => Runs::new(),
            false => {
                let (table, of) = (self.writer.table, self.writer.facts.store_type);
                self.losses.of_chunk(chunk, contents.list(), table, of)
            }
        };
        contents.add(lost, Value::Lost);
        self.report.records += contents.list().len() as u64;
        let report = &mut *self.report;
        let done = self
            .writer
            .chunk(chunk, contents.list(), &mut |content, block| {
                let what = "content that cannot be read";
                let damage = Damage::new(what).at(block).of(show(&content.runs));
                report.lose(damage.chunks(chunk, chunk));
                true
            });
        done.map_err(|e| copy_failed(&e, self.writer.copier.from().path(), output))?;
        let superseded = &self.losses.superseded;
        let from = superseded.partition_point(|(of, _)| *of < chunk);
        let here = superseded
            .iter()
            .skip(from)
            .take_while(|(of, _)| *of == chunk);
        for (_, runs) in here {
            let value = Value::Lost;
            let runs = runs.clone();
            let content = Content { runs, value };
            let done = self.writer.chunk(chunk, &[content], &mut |_, _| true);
            done.map_err(|e| copy_failed(&e, self.writer.copier.from().path(), output))?;
        }
        Ok(())
    }
}

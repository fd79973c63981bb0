// SPDX-License-Identifier: GPL-2.0

//! `multisnap check`: everything in a store is read, counted, and compared.

use crate::{
    check_pass::Pass,
    check_report::{Damage, Report},
    count::{window_chunks, Wrong},
    device::{Disk, For},
    failure::{Code, Failure},
    out, size,
    table::{show, Table},
};
use multisnap_store::image::{Device, Fault, Header, Image, Place, Refusal, Scope, Tree};
use std::{path::PathBuf, sync::Arc};

/// What `check` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap check /dev/vg/store")]
pub struct Args {
    /// The store: a block device or a file.
    store: PathBuf,
    /// The origin has this size; a store of a larger one is not its store.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    origin_size: Option<u64>,
    /// Look at a store although it is in use. What changes meanwhile looks like damage.
    #[arg(long)]
    live: bool,
    /// Print one object of JSON.
    #[arg(long)]
    json: bool,
    /// Memory for counting chunks; the store is read several times if it is too little.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "256M")]
    memory: u64,
}

/// Checks a store.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let what_for = if args.live { For::Live } else { For::Store };
    let (_, device) = Disk::open(&args.store, what_for)?.shared();
    let mut report = Report {
        store: args.store.display().to_string(),
        ..Report::default()
    };
    match Image::open_damaged(&device) {
        Ok((image, faults)) => {
            let mut checker = Checker::new(image, &device, &mut report);
            checker.faults(&faults);
            checker.header(args.origin_size);
            checker.all(args.memory);
        }
        // Nothing of it can be read.
        Err(refusal @ (Refusal::Damaged(..) | Refusal::CutShort { .. })) => {
            report.fault(unusable(&refusal));
        }
        Err(refusal) => return Err(Failure::refused(&args.store, &refusal)),
    }
    if report.faults != 0 {
        report.result = "damaged";
    } else if report.result.is_empty() {
        report.result = "clean";
    }
    if args.json {
        out::line(&report)?;
    } else {
        out::text(&report.show())?;
    }
    Ok(report.code())
}

/// Damage that leaves nothing to be looked at.
fn unusable(refusal: &Refusal) -> Damage {
    match refusal {
        Refusal::Damaged(what, block) => Damage::new(what.clone()).at(*block).of("all"),
        other => Damage::new(format!("the store {other}")).of("all"),
    }
}

struct Checker<'a> {
    image: Image,
    header: Header,
    /// Blocks of the device.
    blocks: u64,
    table: Table,
    report: &'a mut Report,
    /// Records, or the list of what is free, cannot all be read: counts need not agree.
    partial: bool,
    /// Metadata blocks that are in a tree or free.
    blocks_seen: u64,
}

impl<'a> Checker<'a> {
    fn new(mut image: Image, device: &Arc<dyn Device>, report: &'a mut Report) -> Self {
        let header = image.header().clone();
        report.uuid = out::hex(&header.uuid);
        report.store_type = header.store_type.name();
        report.chunk_sectors = header.chunk_sectors;
        report.origin_sectors = header.origin_sectors;
        report.store_sectors = header.store_sectors;
        report.total_chunks = header.data_chunks;
        let table = Table::read(&mut image);
        let partial = !image.is_loaded();
        Self {
            image,
            header,
            blocks: device.blocks(),
            table,
            report,
            partial,
            blocks_seen: 0,
        }
    }

    /// What was wrong when it was opened.
    fn faults(&mut self, faults: &[Fault]) {
        for fault in faults {
            let damage = match fault {
                Fault::CutShort { store, device } => Damage::new(format!(
                    "the store is cut short: it had {store} sectors, {device} are there"
                )),
                Fault::Load { what, block } => {
                    Damage::new(format!("the module refuses it for its {what}")).at(*block)
                }
                Fault::Unreadable => Damage::new("a block that the module needs cannot be read"),
                Fault::NoLog => Damage::new(
                    "the log cannot be applied: what was done since the last checkpoint",
                )
                .of("all"),
                Fault::LogEnds => {
                    Damage::new("the log is broken off: what was done last").of("all")
                }
                Fault::Skipped { chunk, .. } => {
                    let ids = fault.ids(self.header.store_type);
                    let ids = ids.map_or("all".into(), |ids| show(&self.table.runs(ids)));
                    Damage::new("a record of the log cannot be applied")
                        .of(ids)
                        .chunks(*chunk, *chunk)
                }
                Fault::SkippedOther(kind, word) => Damage::new(format!(
                    "a record of the log cannot be applied: kind {kind}, {word}"
                )),
                Fault::Lookup { chunk, id } => Damage::new("a chunk cannot be looked up")
                    .of(id.to_string())
                    .chunks(*chunk, *chunk),
            };
            self.report.fault(damage);
            self.partial = true;
        }
    }

    fn header(&mut self, origin_size: Option<u64>) {
        let header = &self.header;
        self.report.lost_to = header.lost_to.map(|id| id.to_string());
        if let Some(id) = header.lost_to {
            let note = format!("snapshots up to {id} have lost what they have no record for");
            self.report.notes.push(note);
        }
        if header.needs_check {
            self.report.notes.push("it is marked as damaged".into());
        }
        for (block, place) in header.places {
            if place == Place::Torn {
                let note = format!("the checkpoint in block {block} is torn; the other one counts");
                self.report.notes.push(note);
            }
        }
        if let (block, false) = header.copy {
            let note = format!(
                "block {block} has no sound copy of the superblock; repair would need it if that were \
                 damaged"
            );
            self.report.notes.push(note);
        }
        let recorded = header.origin_sectors.saturating_mul(size::SECTOR);
        if let Some(given) = origin_size.filter(|given| *given < recorded) {
            self.report.fault(Damage::new(format!(
                "the store belongs to an origin of {}, not of {}",
                size::show(recorded),
                size::show(given)
            )));
        }
        if !header.clean {
            self.report.result = "unclean";
        }
    }

    fn all(&mut self, memory: u64) {
        self.snapshots();
        // What is not on the device need not be counted.
        let there = self.blocks.saturating_sub(self.header.data_start);
        let there = there.checked_div(self.header.chunk_blocks()).unwrap_or(0);
        let chunks = self.header.data_chunks.min(there.saturating_add(1));
        let step = window_chunks(memory);
        let mut first = 0u64;
        let (mut data, mut metadata) = (0u64, 0u64);
        loop {
            let end = first.saturating_add(step).min(chunks);
            let (more_data, more_metadata) = self.pass(first, end);
            data = data.saturating_add(more_data);
            metadata = metadata.saturating_add(more_metadata);
            if end >= chunks {
                break;
            }
            first = end;
        }
        self.report.data_chunks = data;
        self.report.metadata_chunks = metadata;
        self.compare();
    }

    fn snapshots(&mut self) {
        self.report.snapshots = self.table.live().len() as u64;
        self.report.dying = self.table.dying;
        for gone in &self.table.gone {
            let mut damage = Damage::new(format!("{} tree", gone.tree.name()));
            if let Some(block) = gone.block {
                damage = damage.at(block);
            }
            if gone.tree == Tree::Rows {
                damage.what = "names and times in the rows tree".into();
                damage = damage.of(gone.ids());
            } else {
                damage = damage.of("all");
            }
            self.report.fault(damage);
            self.partial = true;
        }
        if self.table.too_many {
            let what = "more snapshots are said to be there than rows";
            self.report.fault(Damage::new(what));
        }
        for id in &self.table.odd {
            let what = "row and list of snapshots disagree";
            self.report.fault(Damage::new(what).of(id.to_string()));
        }
        let header = &self.header;
        let is_listed = !self.table.is_damaged(Tree::Live);
        for id in self.table.live() {
            let Some(row) = self.table.row(*id) else {
                continue;
            };
            let what = if row.sectors == 0 || row.sectors > header.origin_sectors {
                "a snapshot is larger than the origin ever was"
            } else if u64::from(id.id()) >= header.next_id {
                "a snapshot has a number that was not given yet"
            } else if is_listed && self.table.is_given_again(*id) {
                "a snapshot has a number that the next one of its parent would get"
            } else {
                continue;
            };
            self.report.fault(Damage::new(what).of(id.to_string()));
        }
    }

    /// Looks at everything, and counts the chunks of the store from `first` to `end`. Faults that
    /// have nothing to do with those are told in the first pass only.
    fn pass(&mut self, first: u64, end: u64) -> (u64, u64) {
        let space = self.image.space();
        let total = space.map_or(0, |space| space.metadata_used);
        let mut pass = Pass::new(
            &self.header,
            &self.table,
            self.report,
            self.blocks,
            (first, end),
            total,
        );
        self.image.survey(Scope::All, &mut |part| {
            pass.part(part);
            true
        });
        let used = pass.window.used();
        let in_area = pass.in_area;
        self.blocks_seen = pass.in_all;
        let window = pass.window;
        self.partial |= pass.partial;
        if first == 0 && !self.partial && in_area != self.header.first_area.1 {
            let what = "blocks of the first metadata area belong to nothing";
            self.report
                .fault(Damage::new(what).at(self.header.first_area.0));
        }
        let Some(space) = space else {
            return used;
        };
        let mut leaked = 0u64;
        let report = &mut *self.report;
        window.judge(space.high_water, |wrong, first, last| {
            let what = match wrong {
                Wrong::DataAndMetadata => "belong to snapshots and to metadata",
                Wrong::UsedAndFree => "are in use, and said to be free",
                Wrong::BehindMark => "are in use behind the mark up to which any can be",
                Wrong::Leaked if self.partial => {
                    leaked = leaked.saturating_add(last - first + 1);
                    return;
                }
                Wrong::Leaked => "belong to nothing, and are not free",
            };
            report.fault(Damage::new(format!(
                "chunks {first} to {last} of the store {what}"
            )));
        });
        if leaked != 0 {
            let chunks = size::count(leaked, "chunk");
            let note = format!("{chunks} of the store belong to nothing that can be read");
            report.notes.push(note);
        }
        used
    }

    /// Compares the counts with what the store says.
    fn compare(&mut self) {
        let Some(space) = self.image.space() else {
            return;
        };
        self.report.log_blocks = space.log_used;
        self.report.metadata_blocks = space.metadata_blocks;
        if self.partial {
            return;
        }
        let report = &mut *self.report;
        let (data, metadata) = (report.data_chunks, report.metadata_chunks);
        let mut compare = |what: &str, said: u64, counted: u64| {
            if said != counted {
                let what = format!("{what}: the store says {said}, there are {counted}");
                report.fault(Damage::new(what));
            }
        };
        compare(
            "chunks in use",
            space.used_chunks,
            data.saturating_add(metadata),
        );
        compare("chunks with metadata", space.metadata_chunks, metadata);
        let live = self.table.live().len() as u64;
        compare("snapshots", space.live_ids, live);
        let given = metadata.saturating_mul(self.header.chunk_blocks());
        let blocks = self.header.first_area.1.saturating_add(given);
        compare("blocks of metadata", space.metadata_blocks, blocks);
        let what = "metadata blocks in a tree or free";
        compare(what, space.metadata_blocks, self.blocks_seen);
    }
}

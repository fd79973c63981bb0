// SPDX-License-Identifier: GPL-2.0

//! What of a damaged store cannot be saved.

use crate::{
    check_pass::chunks_of,
    check_report::Damage,
    claims::Claims,
    progress::Progress,
    records::Content,
    repair_report::Report,
    size,
    table::{show, Runs, Table},
};
use multisnap_store::image::{Fault, Header, Image, Part, Scope, SnapshotId, Tree, Type, Value};

/// Chunks that are recorded as lost one by one. If there are more, everything is lost that no
/// snapshot has a record for.
const LOST_MAX: u64 = 1 << 20;

/// What of the records is lost.
#[derive(Default)]
pub struct Losses {
    /// Ranges of keys of records, in order.
    pub keys: Vec<([u64; 2], Option<[u64; 2]>)>,
    /// Snapshots for which a record of the log says something else of a chunk than those that are
    /// there, in the order of the chunks.
    pub superseded: Vec<(u64, Runs)>,
    /// It is not known which chunks, so everything that snapshots have no record for may be
    /// something else than what the origin holds.
    pub doubt: bool,
}

impl Losses {
    /// What was lost when the store was opened.
    pub fn opening(
        &mut self,
        faults: &[Fault],
        header: &Header,
        table: &Table,
        report: &mut Report,
    ) {
        let changes = "what was done last and is in the log only; so all is lost that the origin \
            still held";
        for fault in faults {
            match fault {
                Fault::CutShort { store, device } => {
                    let missing = size::show_sectors(store.saturating_sub(*device));
                    report
                        .notes
                        .push(format!("{missing} at the end of the store are missing"));
                }
                Fault::Load { what, block } => {
                    let note =
                        format!("the module refuses the store for its {what}, block {block}");
                    report.notes.push(note);
                }
                Fault::Unreadable => {
                    let note = "a block that the module needs cannot be read";
                    report.notes.push(note.into());
                }
                Fault::NoLog | Fault::LogEnds => {
                    self.doubt = true;
                    report.lose(Damage::new(changes).of("all"));
                }
                Fault::Skipped { chunk, .. } => {
                    let ids = fault.ids(header.store_type);
                    let runs = ids.map(|ids| table.runs(ids)).unwrap_or_default();
                    let ids = show(&runs);
                    self.superseded.push((*chunk, runs));
                    let what = "a record of the log that cannot be applied";
                    report.lose(Damage::new(what).of(ids).chunks(*chunk, *chunk));
                }
                // What trims frees space only; the rest is about snapshots.
                Fault::SkippedOther(2, _) => {}
                Fault::SkippedOther(kind, word) => {
                    self.doubt = true;
                    let what = format!("a record of the log: kind {kind}, {word}; {changes}");
                    report.lose(Damage::new(what).of("all"));
                }
                Fault::Lookup { .. } => {}
            }
        }
        self.superseded.sort_by_key(|(chunk, _)| *chunk);
    }

    /// What of the table of snapshots is lost.
    pub fn snapshots(&mut self, table: &Table, header: &Header, report: &mut Report) {
        for gone in &table.gone {
            match gone.tree {
                Tree::Rows => {}
                Tree::Bits => {
                    self.doubt = true;
                    let what = "which snapshot has which records";
                    report.lose(Damage::new(what).of("all"));
                }
                Tree::Live => {
                    let note =
                        "the list of snapshots is damaged: it was made again from their rows";
                    report.notes.push(note.into());
                }
                Tree::Map | Tree::Dying | Tree::Free | Tree::Sizes => {}
            }
        }
        for id in &table.odd {
            let what = "row and list of snapshots disagree, so it is left out";
            report.lose(Damage::new(what).of(id.to_string()));
        }
        let unnamed = table.live().iter().filter(|id| table.row(**id).is_none());
        let unnamed: Vec<SnapshotId> = unnamed.copied().collect();
        if !unnamed.is_empty() {
            let runs: Runs = unnamed.iter().map(|id| (*id, *id)).collect();
            report.lose(Damage::new("name, time and exact size").of(show(&runs)));
        }
        // Their rows would do without the list, and the list without them.
        let is_listed = !table.is_damaged(Tree::Live);
        let rows = table.gone.iter().filter(|gone| gone.tree == Tree::Rows);
        for gone in rows.filter(|_| !is_listed) {
            let what = format!(
                "snapshots below {}, whose rows and list are damaged",
                header.next_id
            );
            report.lose(Damage::new(what).of(gone.ids()));
        }
    }

    /// Looks for records that are lost, and for who lays claim to which chunk of the store.
    pub fn records(
        &mut self,
        image: &mut Image,
        header: &Header,
        table: &Table,
        report: &mut Report,
    ) -> Claims {
        let mut claims = Claims::new(header);
        let mut chunks = 0u64;
        let total = image.space().map_or(0, |space| space.metadata_used);
        let mut progress = Progress::new("look", total);
        image.survey(Scope::All, &mut |part| {
            match part {
                Part::Node(block) => {
                    progress.step(1);
                    claims.metadata(block);
                }
                Part::FreeBlock(block) => claims.metadata(block),
                Part::Record {
                    chunk,
                    value: Value::Chunk(dest),
                    ..
                } => claims.record(chunk, dest),
                Part::BadNode {
                    tree: Tree::Map,
                    block,
                    low,
                    high,
                    ..
                } => {
                    let (first, last) = chunks_of(header, low, high);
                    chunks = chunks.saturating_add(last.saturating_sub(first));
                    self.keys.push((low, high));
                    let what = "records in a node that cannot be used";
                    let damage = Damage::new(what).at(block).chunks(first, last);
                    report.lose(damage.of(self.hit(header, table, low, high)));
                }
                Part::BadEntry {
                    tree: Tree::Map,
                    words,
                } => {
                    let low = [words[0], words[1]];
                    let high = words[1].checked_add(1).map(|word| [words[0], word]);
                    self.keys
                        .push((low, high.or(words[0].checked_add(1).map(|c| [c, 0]))));
                    let damage = Damage::new("a record that makes no sense").of("all");
                    report.lose(damage.chunks(words[0], words[0]));
                }
                _ => {}
            }
            true
        });
        if chunks > LOST_MAX {
            self.doubt = true;
            let what = "too many chunks for a record each: all that the origin still held";
            report.lose(Damage::new(what).of("all"));
        }
        claims
    }

    /// The snapshots that a range of keys is about.
    fn hit(&self, header: &Header, table: &Table, low: [u64; 2], high: Option<[u64; 2]>) -> String {
        match high {
            Some([chunk, end]) if chunk == low[0] && header.store_type == Type::Btree => {
                let run = table.between(SnapshotId(low[1]), SnapshotId(end.saturating_sub(1)));
                run.map_or("all".into(), |run| show(&[run]))
            }
            _ => "all".into(),
        }
    }

    /// The snapshots of which it is lost what they held of a chunk.
    pub fn of_chunk(&self, chunk: u64, contents: &[Content], table: &Table, of: Type) -> Runs {
        let live = table.live();
        let inside = |(low, high): &([u64; 2], Option<[u64; 2]>)| {
            low[0] < chunk && high.is_none_or(|high| high[0] > chunk)
        };
        if contents.is_empty() && self.keys.iter().any(inside) {
            let all = live.first().zip(live.last());
            return all.map(|(lo, hi)| (*lo, *hi)).into_iter().collect();
        }
        let mut gone = vec![false; live.len()];
        let mut any = false;
        let keys = &self.keys;
        let from = keys.partition_point(|(_, high)| {
            high.is_some_and(|high| high[0] < chunk || (high[0] == chunk && high[1] == 0))
        });
        for (low, high) in keys
            .iter()
            .skip(from)
            .take_while(|(low, _)| low[0] <= chunk)
        {
            let mut places = 0..live.len();
            // In a bitmask store keys say nothing of ids.
            if of == Type::Btree {
                if low[0] == chunk {
                    places.start = live.partition_point(|id| id.0 < low[1]);
                }
                if let Some([_, end]) = high.filter(|high| high[0] == chunk) {
                    // What began before may reach up to the next record that is there.
                    let runs = contents.iter().flat_map(|content| &content.runs);
                    let next = runs.filter(|run| run.0 .0 >= end);
                    let next = next.map(|run| table.places(*run).start).min();
                    places.end = next.unwrap_or(live.len()).max(places.start);
                }
            }
            for gone in gone.get_mut(places).into_iter().flatten() {
                *gone = true;
                any = true;
            }
        }
        if !any {
            return Runs::new();
        }
        for run in contents.iter().flat_map(|content| &content.runs) {
            for gone in gone.get_mut(table.places(*run)).into_iter().flatten() {
                *gone = false;
            }
        }
        let places = gone.iter().enumerate().filter(|(_, gone)| **gone);
        table.join(places.map(|(place, _)| place))
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a check has found, for people and for programs.

use crate::{
    failure::Code,
    size::{count, show_sectors},
};
use serde::Serialize;

/// Faults that are told one by one; more are counted.
const FAULTS_MAX: usize = 200;

/// Something that is damaged, and what it hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What is wrong.
    pub what: String,
    /// Block of 4 KiB of the device where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The snapshots that are hit, as in `1-3,5`, or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    /// The first and the last of the chunks of the origin that are hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<[u64; 2]>,
}

impl Damage {
    /// What is wrong, so far without what it hits.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            block: None,
            ids: None,
            chunks: None,
        }
    }

    /// It was found in this block.
    pub fn at(mut self, block: u64) -> Self {
        self.block = Some(block);
        self
    }

    /// It hits these snapshots.
    pub fn of(mut self, ids: impl Into<String>) -> Self {
        self.ids = Some(ids.into());
        self
    }

    /// It hits these chunks of the origin.
    pub fn chunks(mut self, first: u64, last: u64) -> Self {
        self.chunks = Some([first, last]);
        self
    }

    /// In one line.
    pub fn line(&self) -> String {
        let mut line = self.what.clone();
        if let Some(block) = self.block {
            line += &format!(", block {block}");
        }
        let chunks = self.chunks.map(|[first, last]| match first == last {
            true => format!("chunk {first}"),
            false => format!("chunks {first} to {last}"),
        });
        let ids = self.ids.as_ref().map(|ids| match ids.as_str() {
            "all" => "all snapshots".to_string(),
            ids if ids.contains(['-', ',']) => format!("snapshots {ids}"),
            ids => format!("snapshot {ids}"),
        });
        match (chunks, ids) {
            (Some(chunks), Some(ids)) => line + &format!(": {chunks} of {ids}"),
            (Some(one), None) | (None, Some(one)) => line + &format!(": {one}"),
            (None, None) => line,
        }
    }
}

/// What a check has found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Name of the device.
    pub store: String,
    /// `clean`, `unclean` or `damaged`.
    pub result: &'static str,
    /// Number drawn when the store was formatted.
    pub uuid: String,
    /// Type of the store.
    pub store_type: &'static str,
    /// Sectors in a chunk.
    pub chunk_sectors: u32,
    /// Sectors of the origin.
    pub origin_sectors: u64,
    /// Sectors of the store.
    pub store_sectors: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Deleted snapshots that are not swept yet.
    pub dying: u64,
    /// Records; those of them that say zero and lost, and those that are for deleted ids only.
    pub records: u64,
    /// See `records`.
    pub zero_records: u64,
    /// See `records`.
    pub lost_records: u64,
    /// See `records`.
    pub dead_records: u64,
    /// Snapshots up to this one have lost what they have no record for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_to: Option<String>,
    /// Chunks of the store with data and with metadata, counted from scratch, and chunks in all.
    pub data_chunks: u64,
    /// See `data_chunks`.
    pub metadata_chunks: u64,
    /// See `data_chunks`.
    pub total_chunks: u64,
    /// Blocks of metadata in use, counted from scratch, and blocks in all.
    pub metadata_used: u64,
    /// See `metadata_used`.
    pub metadata_blocks: u64,
    /// Log blocks that the next load replays.
    pub log_blocks: u64,
    /// What is damaged; no more than the first 200 of them.
    pub damage: Vec<Damage>,
    /// How many there are.
    pub faults: u64,
    /// What is odd and does no harm.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds something that is damaged.
    pub fn fault(&mut self, damage: Damage) {
        self.faults = self.faults.saturating_add(1);
        if self.damage.len() < FAULTS_MAX {
            self.damage.push(damage);
        }
    }

    /// How the run ends.
    pub fn code(&self) -> Code {
        match self.result {
            "clean" => Code::Good,
            "unclean" => Code::Unclean,
            _ => Code::Damaged,
        }
    }

    /// For people.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            text += &format!("  {what:<10} {value}\n");
        };
        if !self.store_type.is_empty() {
            let store = show_sectors(self.store_sectors);
            let chunk = show_sectors(self.chunk_sectors.into());
            line(
                "store",
                format!("{}, {store}, chunks of {chunk}", self.store_type),
            );
            line("origin", show_sectors(self.origin_sectors));
            let mut snapshots = self.snapshots.to_string();
            if self.dying != 0 {
                snapshots += &format!(", and {} deleted that are still swept", self.dying);
            }
            line("snapshots", snapshots);
            let (zero, lost) = (self.zero_records, self.lost_records);
            line(
                "records",
                format!("{} ({zero} zero, {lost} lost)", self.records),
            );
            let used = self.data_chunks.saturating_add(self.metadata_chunks);
            let total = self.total_chunks;
            let metadata = self.metadata_chunks;
            line(
                "space",
                format!(
                    "{used} of {} used, {metadata} for metadata",
                    count(total, "chunk")
                ),
            );
            let (used, all) = (self.metadata_used, self.metadata_blocks);
            line(
                "metadata",
                format!("{used} of {} used", count(all, "block")),
            );
            line(
                "log",
                format!("{} to replay", count(self.log_blocks, "block")),
            );
        }
        for note in &self.notes {
            line("note", note.clone());
        }
        for damage in &self.damage {
            line("damaged", damage.line());
        }
        let told = self.damage.len() as u64;
        if self.faults > told {
            line("damaged", format!("and {} more places", self.faults - told));
        }
        let name = &self.store;
        let end = match self.result {
            "clean" => format!("{name} is clean"),
            "unclean" => {
                format!(
                    "{name} is sound, but was not stopped in good order; the next start replays its log: \
                     multisnap start ORIGIN {name}"
                )
            }
            _ => format!(
                "{name} is damaged in {}; save what is left: multisnap repair {name} OUT",
                count(self.faults, "place")
            ),
        };
        text + &end + "\n"
    }
}

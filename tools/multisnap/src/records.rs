// SPDX-License-Identifier: GPL-2.0

//! The snapshots and records of a store, brought into a new one.

use crate::{
    copy::{Copier, CopyError},
    table::{Runs, Table},
};
use multisnap_store::image::{Ids, Maker, Refusal, SnapshotId, Type, Value};
use std::{
    collections::{BinaryHeap, HashMap},
    ops::Range,
};

/// What there is to know of a store besides its snapshots and records.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Which implementation it is for.
    pub store_type: Type,
    /// Blocks of a chunk.
    pub chunk_blocks: u64,
    /// Block where the data area begins, and its chunks.
    pub data: (u64, u64),
    /// Sectors of the origin.
    pub origin_sectors: u64,
    /// Number of the next snapshot of the origin.
    pub next_id: u64,
    /// What ids up to this one have no record for is lost.
    pub lost_to: Option<SnapshotId>,
}

impl Facts {
    /// First block of a chunk of the store.
    fn block(&self, dest: u64) -> Option<u64> {
        let at = dest.checked_mul(self.chunk_blocks)?;
        (dest < self.data.1)
            .then(|| at.checked_add(self.data.0))
            .flatten()
    }

    /// Sectors of the origin when the first snapshot was cut.
    pub fn first_size(&self, table: &Table) -> u64 {
        let first = table.live().first();
        first.map_or(self.origin_sectors, |id| self.size(table, *id))
    }

    /// Sectors of the origin when `id` was cut; of the next one of which that is known, if it is
    /// not of this.
    fn size(&self, table: &Table, id: SnapshotId) -> u64 {
        let live = table.live();
        let from = live.partition_point(|other| *other < id);
        let rows = live.iter().skip(from).filter_map(|id| table.row(*id));
        let known = rows.map(|row| row.sectors).find(|sectors| *sectors != 0);
        known
            .unwrap_or(self.origin_sectors)
            .min(self.origin_sectors)
    }

    /// Makes the snapshots.
    pub fn make(&self, maker: &mut Maker, table: &Table) -> Result<(), Refusal> {
        let newest = u32::try_from(self.next_id.saturating_sub(1)).unwrap_or(u32::MAX);
        let mut lost = self.lost_to.map(|id| id.id().min(newest));
        let mut rest = table.live();
        while let Some(first) = rest.first() {
            let id = first.id();
            let group = rest.partition_point(|other| other.id() <= id);
            let (here, behind) = rest.split_at(group);
            rest = behind;
            if let Some(to) = lost.take_if(|to| *to < id) {
                lose(maker, to)?;
            }
            maker.grow_origin(self.size(table, *first))?;
            let top = SnapshotId::top(id);
            // Those of a snapshot come before it in number, and after it in time.
            let subs = here.iter().filter(|one| **one != top);
            create(maker, table, top)?;
            for sub in subs {
                create(maker, table, *sub)?;
            }
            maker.skip_sub_to(id, table.next_sub(id))?;
            if here.last() != Some(&top) {
                maker.remove(top)?;
            }
        }
        if let Some(to) = lost {
            lose(maker, to)?;
        }
        maker.skip_to(self.next_id.min(1 << 32));
        maker.grow_origin(self.origin_sectors)
    }
}

fn create(maker: &mut Maker, table: &Table, id: SnapshotId) -> Result<(), Refusal> {
    let (created, name) = table
        .row(id)
        .map_or((0, ""), |row| (row.created, &row.name));
    maker.create(id, created, name)
}

/// What ids up to `to` will have no record for is lost.
fn lose(maker: &mut Maker, to: u32) -> Result<(), Refusal> {
    maker.skip_to(u64::from(to) + 1);
    maker.lose_all()
}

/// One content of a chunk, and the snapshots that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The snapshots.
    pub runs: Runs,
    /// What they hold.
    pub value: Value,
}

/// The contents of a chunk, as its records come.
#[derive(Default)]
pub struct Contents {
    list: Vec<Content>,
    /// Where in the list a value is: a chunk may have as many records as there are snapshots.
    places: HashMap<Value, usize>,
}

impl Contents {
    /// Adds what some snapshots hold. What is for deleted ones only is left out.
    pub fn add(&mut self, runs: Runs, value: Value) {
        if runs.is_empty() {
            return;
        }
        let new = self.list.len();
        let at = *self.places.entry(value).or_insert(new);
        match self.list.get_mut(at) {
            Some(content) => content.runs.extend(runs),
            None => self.list.push(Content { runs, value }),
        }
    }

    /// In the order in which they came.
    pub fn list(&self) -> &[Content] {
        &self.list
    }
}

/// Something that is to be recorded: for which places in the list of snapshots, and which content.
type Put = (Range<usize>, usize);

/// Brings records into a new store.
pub struct Writer<'a> {
    /// The new store.
    pub maker: Maker,
    /// Its snapshots.
    pub table: &'a Table,
    /// The store that records and content come from.
    pub facts: Facts,
    /// What brings the content.
    pub copier: Copier,
}

impl Writer<'_> {
    /// Records what snapshots hold of a chunk. Shows content that cannot be read to `unreadable`;
    /// it is lost if that answers true, and a failure if not.
    pub fn chunk(
        &mut self,
        chunk: u64,
        contents: &[Content],
        unreadable: &mut dyn FnMut(&Content, u64) -> bool,
    ) -> Result<(), CopyError> {
        if self.facts.store_type == Type::Bitmask {
            for content in contents {
                let table = self.table;
                let places = content.runs.iter().flat_map(|run| table.places(*run));
                let ids = places.filter_map(|place| table.live().get(place).copied());
                let mask = Ids::Mask(self.maker.mask(ids));
                self.put(chunk, mask, content, unreadable)?;
            }
            return Ok(());
        }
        for (places, which) in plan(self.table, contents) {
            let live = self.table.live();
            let ends = live
                .get(places)
                .and_then(|ids| Some((ids.first()?, ids.last()?)));
            let (Some((lo, hi)), Some(content)) = (ends, contents.get(which)) else {
                continue;
            };
            self.put(chunk, Ids::Range(*lo, *hi), content, unreadable)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        chunk: u64,
        ids: Ids,
        content: &Content,
        unreadable: &mut dyn FnMut(&Content, u64) -> bool,
    ) -> Result<(), CopyError> {
        if ids == Ids::Mask(0) {
            return Ok(());
        }
        let Value::Chunk(dest) = content.value else {
            return Ok(self.maker.put_value(chunk, ids, content.value)?);
        };
        let copied = match self.facts.block(dest) {
            Some(from) => {
                let (copier, blocks) = (&mut self.copier, self.facts.chunk_blocks);
                let fill = |to| copier.copy(from, to, blocks);
                self.maker.put_chunk(chunk, ids, fill)
            }
            None => Err(CopyError::Read(0, std::io::ErrorKind::InvalidData.into())),
        };
        match copied {
            Err(CopyError::Read(block, e)) => {
                if !unreadable(content, block) {
                    return Err(CopyError::Read(block, e));
                }
                Ok(self.maker.put_value(chunk, ids, Value::Lost)?)
            }
            other => other,
        }
    }
}

/// In which order contents are recorded.
///
/// A write to a snapshot may have cut the range of a record in two, with one chunk of the store
/// for both. It is made again as it came about: first the whole range, then what is within it.
fn plan(table: &Table, contents: &[Content]) -> Vec<Put> {
    let mut runs: Vec<Put> = Vec::new();
    for (i, content) in contents.iter().enumerate() {
        let places = content.runs.iter().map(|run| table.places(*run));
        runs.extend(places.filter(|run| !run.is_empty()).map(|run| (run, i)));
    }
    let mut whole: Vec<Put> = Vec::new();
    // Where the range of a content is that is shared; runs come in the order of their contents.
    let mut last = None;
    for (run, i) in &runs {
        let shared =
            matches!(contents.get(*i), Some(content) if matches!(content.value, Value::Chunk(_)));
        match whole.last_mut() {
            Some((all, _)) if shared && last == Some(*i) => {
                *all = all.start.min(run.start)..all.end.max(run.end);
            }
            _ => whole.push((run.clone(), *i)),
        }
        last = Some(*i);
    }
    whole.sort_by_key(|(run, _)| std::cmp::Reverse(run.len()));
    if comes_to(&whole, &runs) {
        whole
    } else {
        // Then each has a copy of its own.
        runs
    }
}

/// Whether recording `puts` in this order comes to the same as what `runs` say, which do not
/// overlap.
fn comes_to(puts: &[Put], runs: &[Put]) -> bool {
    spans(puts) == spans(runs)
}

/// What is recorded at last from which place on, where that changes.
fn spans(puts: &[Put]) -> Vec<(usize, Option<usize>)> {
    let mut starts: Vec<usize> = (0..puts.len()).collect();
    starts.sort_by_key(|at| puts.get(*at).map(|(run, _)| run.start));
    let mut starts = starts.into_iter().peekable();
    let ends = puts.iter().flat_map(|(run, _)| [run.start, run.end]);
    let mut bounds: Vec<usize> = ends.collect();
    bounds.sort_unstable();
    bounds.dedup();
    // The latest of those that have begun counts, as long as it has not ended.
    let mut open = BinaryHeap::new();
    let mut spans: Vec<(usize, Option<usize>)> = Vec::new();
    for bound in bounds {
        let begun = |at: &usize| puts.get(*at).is_some_and(|(run, _)| run.start <= bound);
        while let Some(at) = starts.next_if(begun) {
            open.push(at);
        }
        let ended = |at: &usize| puts.get(*at).is_none_or(|(run, _)| run.end <= bound);
        while open.peek().is_some_and(ended) {
            open.pop();
        }
        let now = open.peek().and_then(|at| puts.get(*at)).map(|(_, i)| *i);
        if spans.last().is_none_or(|(_, last)| *last != now) {
            spans.push((bound, now));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_counts() {
        let puts = [(0..10, 0), (2..8, 1), (4..5, 2)];
        let runs = [(0..2, 0), (2..4, 1), (4..5, 2), (5..8, 1), (8..10, 0)];
        assert!(comes_to(&puts, &runs));
        assert!(!comes_to(&[(2..8, 1), (0..10, 0)], &runs));
        assert!(!comes_to(&puts[..2], &runs));
        // With a gap that nobody has.
        assert!(!comes_to(&[(0..10, 0)], &[(0..4, 0), (6..10, 0)]));
        // One content in two pieces is the same.
        assert!(comes_to(&[(0..4, 3)], &[(0..2, 3), (2..4, 3)]));
        assert!(comes_to(&[], &[]));
    }

    /// A chunk that is always written has a record for each snapshot. What is not at most a little more
    /// than linear would take minutes.
    #[test]
    fn many_records_of_a_chunk_are_no_burden() {
        const MANY: u32 = 200_000;
        let begin = std::time::Instant::now();
        let row = |id| multisnap_store::image::Row {
            id: SnapshotId::top(id),
            created: 0,
            sectors: 8,
            deleted: false,
            name: String::new(),
        };
        let table = Table::new((0..MANY).map(row).collect(), &[]);
        let mut contents = Contents::default();
        for id in 0..MANY {
            let id = SnapshotId::top(id);
            contents.add(vec![(id, id)], Value::Chunk(id.0 >> 32));
        }
        // And one that was cut in two.
        let first = SnapshotId::top(0);
        contents.add(vec![(first, first)], Value::Chunk(7));
        assert_eq!(contents.list().len(), MANY as usize);
        let puts = plan(&table, contents.list());
        assert!(puts.len() >= MANY as usize);
        let took = begin.elapsed();
        assert!(took.as_secs() < 10, "{took:?}");
    }
}

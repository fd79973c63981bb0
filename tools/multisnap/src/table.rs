// SPDX-License-Identifier: GPL-2.0

//! The snapshots of an image, as far as they can be read.
//!
//! It is in memory: about 200 bytes for each snapshot, whatever the size of the store.

use multisnap_store::image::{Ids, Image, Part, Row, Scope, SnapshotId, Tree};
use std::collections::BTreeMap;

/// Ids without a row that are believed to be there, if rows are damaged.
const BELIEVED: u64 = 1 << 20;

/// Runs of snapshots: from one to another with all that are live between.
pub type Runs = Vec<(SnapshotId, SnapshotId)>;

/// Something of the snapshots that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// In which tree.
    pub tree: Tree,
    /// The node, if it is one.
    pub block: Option<u64>,
    /// The first words of the keys that are lost: from this on, and less than that.
    pub keys: (u64, Option<u64>),
}

impl Gone {
    /// If these are rows, the snapshots of the origin that they are about: those themselves, or
    /// snapshots of them. In words.
    pub fn ids(&self) -> String {
        let first = self.keys.0 >> 32;
        let last = self.keys.1.map(|end| end.saturating_sub(1) >> 32);
        match (first, last) {
            (0, None) => "all".into(),
            (first, Some(last)) if first == last => first.to_string(),
            (first, Some(last)) => format!("{first}-{last}"),
            (first, None) => format!("{first}-"),
        }
    }
}

/// The snapshots.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<SnapshotId, Row>,
    /// Ranges of numbers that are said to be live: those of snapshots of the origin, and those of
    /// snapshots of snapshots. Each in order.
    ranges: [Runs; 2],
    live: Vec<SnapshotId>,
    next_subs: BTreeMap<u32, u32>,
    bits: BTreeMap<u64, SnapshotId>,
    /// Deleted ids that are not swept yet.
    pub dying: u64,
    /// What cannot be read.
    pub gone: Vec<Gone>,
    /// Rows that belong to no live id, and live ids without a row.
    pub odd: Vec<SnapshotId>,
    /// Whether there are more live ids without a row than are kept.
    pub too_many: bool,
}

impl Table {
    /// The snapshots with these rows, and the numbers that their next snapshots get.
    pub fn new(rows: Vec<Row>, next_subs: &[(SnapshotId, u32)]) -> Self {
        let mut table = Self::default();
        table.rows = rows.into_iter().map(|row| (row.id, row)).collect();
        table.live = table.rows.keys().copied().collect();
        let tops = next_subs.iter().filter(|(id, _)| id.sub_id().is_none());
        table.next_subs = tops.map(|(id, next)| (id.id(), *next)).collect();
        table
    }

    /// Reads the snapshots.
    pub fn read(image: &mut Image) -> Self {
        let mut table = Self::default();
        image.survey(Scope::Snapshots, &mut |part| {
            table.take(part);
            true
        });
        table.settle();
        table
    }

    fn take(&mut self, part: Part) {
        match part {
            // Its deletion counts from when it is recorded.
            Part::Row(row) if row.deleted => self.dying += 1,
            Part::Row(row) => {
                self.rows.insert(row.id, row);
            }
            Part::Live(lo, hi) => self.ranges[kind(lo)].push((lo, hi)),
            Part::NextSub(id, next) => {
                self.next_subs.insert(id, next);
            }
            Part::Dying(_, true) => self.dying += 1,
            Part::Bit(bit, id) => {
                self.bits.insert(bit, id);
            }
            Part::BadNode {
                tree,
                block,
                low,
                high,
                ..
            } => self.gone.push(Gone {
                tree,
                block: Some(block),
                keys: (low[0], high.map(|key| key[0])),
            }),
            Part::BadEntry { tree, words } => self.gone.push(Gone {
                tree,
                block: None,
                keys: (words[0], words[0].checked_add(1)),
            }),
            _ => {}
        }
    }

    /// Makes up the list of live ids.
    fn settle(&mut self) {
        let (rows_damaged, live_damaged) =
            (self.is_damaged(Tree::Rows), self.is_damaged(Tree::Live));
        let said = |id: SnapshotId| {
            let ranges = &self.ranges[kind(id)];
            let range = ranges.get(ranges.partition_point(|(_, hi)| *hi < id));
            range.is_some_and(|(lo, _)| *lo <= id)
        };
        let mut odd = Vec::new();
        let mut live = Vec::new();
        for id in self.rows.keys().copied() {
            if live_damaged || said(id) {
                live.push(id);
            } else {
                odd.push(id);
            }
        }
        let mut left = BELIEVED;
        for (lo, hi) in self.ranges.iter().flatten() {
            for id in numbers(*lo, *hi) {
                if self.rows.contains_key(&id) {
                    continue;
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    self.too_many = true;
                    break;
                }
                if rows_damaged {
                    live.push(id);
                } else {
                    odd.push(id);
                }
            }
        }
        live.sort_unstable();
        live.dedup();
        for id in &odd {
            self.rows.remove(id);
        }
        self.live = live;
        self.odd = odd;
    }

    /// Whether something of a tree cannot be read.
    pub fn is_damaged(&self, tree: Tree) -> bool {
        self.gone.iter().any(|gone| gone.tree == tree)
    }

    /// The numbers of all snapshots, in order.
    pub fn live(&self) -> &[SnapshotId] {
        &self.live
    }

    /// What the row of a snapshot says; `None` if it cannot be read.
    pub fn row(&self, id: SnapshotId) -> Option<&Row> {
        self.rows.get(&id)
    }

    /// The number that the next snapshot of the snapshot `id` gets, if any were made.
    pub fn next_sub(&self, id: u32) -> u32 {
        self.next_subs.get(&id).copied().unwrap_or(0)
    }

    /// Whether the next snapshot of its parent would get the number of this one.
    pub fn is_given_again(&self, id: SnapshotId) -> bool {
        let parent = SnapshotId::top(id.id());
        let next = self.next_sub(id.id());
        id.sub_id().is_some_and(|sub| sub >= next) && self.live.binary_search(&parent).is_ok()
    }

    /// The bits that snapshots have, deleted ones included; `None` if they cannot all be read.
    pub fn bits(&self) -> Option<u64> {
        let bits = self.bits.keys().filter(|bit| **bit < 64);
        (!self.is_damaged(Tree::Bits)).then(|| bits.fold(0, |mask, bit| mask | (1 << bit)))
    }

    /// The snapshots that a record is for.
    pub fn runs(&self, ids: Ids) -> Runs {
        match ids {
            Ids::Range(lo, hi) => self.between(lo, hi).into_iter().collect(),
            Ids::Mask(mask) => {
                let held = self.bits.iter().filter(|(bit, _)| {
                    let shifted = u32::try_from(**bit)
                        .ok()
                        .and_then(|bit| mask.checked_shr(bit));
                    shifted.is_some_and(|mask| mask & 1 == 1)
                });
                let mut ids: Vec<SnapshotId> = held.map(|(_, id)| *id).collect();
                ids.sort_unstable();
                self.join(ids.iter().filter_map(|id| self.live.binary_search(id).ok()))
            }
        }
    }

    /// Whether a record is for this snapshot.
    pub fn is_in(&self, id: SnapshotId, ids: Ids) -> bool {
        match ids {
            Ids::Range(lo, hi) => (lo..=hi).contains(&id),
            Ids::Mask(mask) => self.bits.iter().any(|(bit, of)| {
                let shifted = u32::try_from(*bit)
                    .ok()
                    .and_then(|bit| mask.checked_shr(bit));
                *of == id && shifted.is_some_and(|mask| mask & 1 == 1)
            }),
        }
    }

    /// The first and the last snapshot with numbers from `lo` to `hi`.
    pub fn between(&self, lo: SnapshotId, hi: SnapshotId) -> Option<(SnapshotId, SnapshotId)> {
        let from = self.live.partition_point(|id| *id < lo);
        let to = self.live.partition_point(|id| *id <= hi);
        let inside = self.live.get(from..to)?;
        Some((*inside.first()?, *inside.last()?))
    }

    /// The snapshots with these places in the list, which are in order, as runs.
    pub fn join(&self, places: impl Iterator<Item = usize>) -> Runs {
        let mut runs: Runs = Vec::new();
        let mut last = None;
        for place in places {
            let Some(id) = self.live.get(place).copied() else {
                continue;
            };
            match runs.last_mut() {
                Some(run) if last.and_then(|last: usize| last.checked_add(1)) == Some(place) => {
                    run.1 = id;
                }
                _ => runs.push((id, id)),
            }
            last = Some(place);
        }
        runs
    }

    /// The places in the list of those in a run.
    pub fn places(&self, run: (SnapshotId, SnapshotId)) -> std::ops::Range<usize> {
        let from = self.live.partition_point(|id| *id < run.0);
        let to = self.live.partition_point(|id| *id <= run.1);
        from..to.max(from)
    }
}

/// Which of the two kinds of numbers it is.
fn kind(id: SnapshotId) -> usize {
    usize::from(id.sub_id().is_some())
}

/// The numbers of one kind from one to another.
fn numbers(lo: SnapshotId, hi: SnapshotId) -> impl Iterator<Item = SnapshotId> {
    let step = if lo.sub_id().is_some() { 1 } else { 1 << 32 };
    let mut next = Some(lo.0);
    std::iter::from_fn(move || {
        let now = next.filter(|n| *n <= hi.0)?;
        next = now.checked_add(step);
        Some(SnapshotId(now))
    })
}

/// Runs in words: `1-3,5`.
pub fn show(runs: &[(SnapshotId, SnapshotId)]) -> String {
    let one = |(lo, hi): &(SnapshotId, SnapshotId)| {
        if lo == hi {
            lo.to_string()
        } else {
            format!("{lo}-{hi}")
        }
    };
    runs.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads what [`show`] writes.
pub fn parse(text: &str) -> Result<Runs, String> {
    text.split(',')
        .map(|run| {
            let (lo, hi) = run.split_once('-').unwrap_or((run, run));
            let (lo, hi) = (lo.parse::<SnapshotId>()?, hi.parse::<SnapshotId>()?);
            if lo > hi {
                return Err(format!("{run:?} goes down: say the smaller number first"));
            }
            Ok((lo, hi))
        })
        .collect()
}

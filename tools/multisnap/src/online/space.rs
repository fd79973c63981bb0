// SPDX-License-Identifier: GPL-2.0

//! How much of the store each snapshot has: alone, and together with others.

use super::volume::{path_of, Volume};
use crate::{
    device::{Disk, For},
    failure::Failure,
    table::{Runs, Table},
};
use multisnap_store::image::{Image, Part, Scope, SnapshotId, Value};
use std::{collections::BTreeMap, path::Path, thread::sleep, time::Duration};

/// What a snapshot has of the store, in chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What nobody else has: so much becomes free if it is removed.
    pub own: u64,
    /// What others have as well.
    pub shared: u64,
}

/// How often it is tried to read a store that changes meanwhile.
const TRIES: u32 = 5;

/// What each snapshot of a loaded origin has. It is read from the store's metadata, and is about a
/// second old.
pub fn read(volume: &Volume) -> Result<BTreeMap<SnapshotId, Share>, Failure> {
    let path = path_of(volume.line.store);
    let path = Path::new(&path);
    let mut tries = 0;
    loop {
        tries += 1;
        match try_read(path) {
            Ok(Some(shares)) => return Ok(shares),
            Err(failure) if tries >= TRIES => return Err(failure),
            Ok(None) if tries >= TRIES => {
                let then = "try again when there is less to do, or see: multisnap check";
                let what = "cannot be read while it is changed so fast";
                return Err(Failure::new(path, what, then));
            }
            _ => sleep(Duration::from_millis(200)),
        }
    }
}

/// Nothing if what was read does not fit together.
fn try_read(path: &Path) -> Result<Option<BTreeMap<SnapshotId, Share>>, Failure> {
    let (_, device) = Disk::open(path, For::Live)?.shared();
    let mut image = Image::open(&device).map_err(|e| Failure::refused(path, &e))?;
    let table = Table::read(&mut image);
    let mut tally = Tally::new(&table);
    let mut whole = table.gone.is_empty();
    image.survey(Scope::Records, &mut |part| {
        match part {
            Part::Record {
                chunk,
                ids,
                value: Value::Chunk(dest),
            } => tally.add(chunk, table.runs(ids), dest),
            Part::BadNode { .. } | Part::BadEntry { .. } => whole = false,
            _ => {}
        }
        whole
    });
    Ok(whole.then(|| tally.shares()))
}

/// Adds up records, which come in the order of their chunks.
struct Tally<'a> {
    table: &'a Table,
    own: Vec<u64>,
    /// By how much more or less is shared, from one place in the list of snapshots on.
    steps: Vec<i64>,
    chunk: u64,
    /// Chunks of the store that hold something of this chunk, and for whom.
    here: Vec<(u64, Runs)>,
}

impl<'a> Tally<'a> {
    fn new(table: &'a Table) -> Self {
        let snapshots = table.live().len();
        Self {
            table,
            own: vec![0; snapshots],
            steps: vec![0; snapshots + 1],
            chunk: 0,
            here: Vec::new(),
        }
    }

    fn add(&mut self, chunk: u64, runs: Runs, dest: u64) {
        if chunk != self.chunk {
            self.end_chunk();
            self.chunk = chunk;
        }
        // A record may have been cut in two, with one content for both.
        match self.here.iter_mut().find(|(of, _)| *of == dest) {
            Some((_, all)) => all.extend(runs),
            None => self.here.push((dest, runs)),
        }
    }

    fn end_chunk(&mut self) {
        for (_, runs) in std::mem::take(&mut self.here) {
            let places: Vec<_> = runs.iter().map(|run| self.table.places(*run)).collect();
            let count: usize = places.iter().map(ExactSizeIterator::len).sum();
            for range in places.iter().filter(|range| !range.is_empty()) {
                if count == 1 {
                    if let Some(own) = self.own.get_mut(range.start) {
                        *own += 1;
                    }
                    continue;
                }
                for (at, by) in [(range.start, 1), (range.end, -1)] {
                    if let Some(step) = self.steps.get_mut(at) {
                        *step += by;
                    }
                }
            }
        }
    }

    fn shares(mut self) -> BTreeMap<SnapshotId, Share> {
        self.end_chunk();
        let mut now = 0i64;
        let both = self.own.iter().zip(&self.steps);
        let shares = both.map(|(own, step)| {
            now = now.saturating_add(*step);
            Share {
                own: *own,
                shared: u64::try_from(now).unwrap_or(0),
            }
        });
        self.table.live().iter().copied().zip(shares).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multisnap_store::image::Row;

    #[test]
    fn chunks_are_shared_or_not() {
        let row = |id| Row {
            id: SnapshotId::top(id),
            created: 0,
            sectors: 64,
            deleted: false,
            name: String::new(),
        };
        let table = Table::new([1, 2, 3, 4].map(row).to_vec(), &[]);
        let mut tally = Tally::new(&table);
        let run = |lo, hi| vec![(SnapshotId::top(lo), SnapshotId::top(hi))];
        tally.add(0, run(1, 3), 10);
        tally.add(1, run(4, 4), 11);
        // One content for two snapshots with another one between them.
        tally.add(2, run(1, 1), 12);
        tally.add(2, run(2, 2), 13);
        tally.add(2, run(3, 3), 12);
        // Its snapshot was removed.
        tally.add(3, Vec::new(), 14);
        let shares: Vec<(u64, u64)> = tally
            .shares()
            .values()
            .map(|share| (share.own, share.shared))
            .collect();
        assert_eq!(shares, [(0, 2), (1, 1), (0, 2), (1, 0)]);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How much of the store each snapshot has: alone, and together with others.

use super::volume::{path_of, Volume};
use crate::{
    device::{Disk, For},
    failure::Failure,
    table::{Runs, Table},
};
use multisnap_store::image::{Device, Image, Page, Part, Scope, SnapshotId, Value};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

/// What a snapshot has of the store, in chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What nobody else has: so much becomes free if it is removed.
    pub own: u64,
    /// What others have as well.
    pub shared: u64,
}

/// What each snapshot of an origin has.
pub type Shares = BTreeMap<SnapshotId, Share>;

/// How often it is tried to read a store that changes meanwhile, if there is no end to the time.
const TRIES: u32 = 5;

/// How long is waited for it to change less.
const PAUSE: Duration = Duration::from_millis(200);

/// What has come of one try.
enum Tried {
    Whole(Shares),
    /// What was read does not fit together.
    Torn,
    /// The time was over before all was read.
    Late,
}

/// What each snapshot of a loaded origin has; `None` if that is not read when `end` has come. It is
/// read from the store's metadata, and is about a second old.
pub fn read(volume: &Volume, end: Option<Instant>) -> Result<Option<Shares>, Failure> {
    let path = path_of(volume.line.store);
    let path = Path::new(&path);
    let mut tries = 0;
    loop {
        tries += 1;
        let last = match end {
            Some(end) => Instant::now() + PAUSE >= end,
            None => tries >= TRIES,
        };
        match try_read(path, end) {
            Ok(Tried::Whole(shares)) => return Ok(Some(shares)),
            Ok(Tried::Late) => return Ok(None),
            Err(failure) if last => return Err(failure),
            Ok(Tried::Torn) if last => {
                let then = "try again when there is less to do, or see: multisnap check";
                let what = "cannot be read while it is changed so fast";
                return Err(Failure::new(path, what, then));
            }
            _ => sleep(PAUSE),
        }
    }
}

fn try_read(path: &Path, end: Option<Instant>) -> Result<Tried, Failure> {
    let late = || end.is_some_and(|end| Instant::now() >= end);
    let disk = Disk::open(path, For::Live)?;
    let device: Arc<dyn Device> = Arc::new(Timed { disk, end });
    let mut image = match Image::open(&device) {
        Ok(image) => image,
        Err(_) if late() => return Ok(Tried::Late),
        Err(e) => return Err(Failure::refused(path, &e)),
    };
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
    Ok(match whole {
        true => Tried::Whole(tally.shares()),
        false if late() => Tried::Late,
        false => Tried::Torn,
    })
}

/// A device of which nothing is read any more when the time is over.
struct Timed {
    disk: Disk,
    end: Option<Instant>,
}

impl Device for Timed {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.disk.read(nr, pages)
    }

    fn write(&self, nr: u64, pages: &[Page]) -> io::Result<()> {
        self.disk.write(nr, pages)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

/// Adds up records, which come in the order of their chunks.
struct Tally<'a> {
    table: &'a Table,
    own: Vec<u64>,
    /// By how much more or less is shared, from one place in the list of snapshots on.
    steps: Vec<i64>,
    chunk: u64,
    /// Chunks of the store that hold something of this chunk, and for whom.
    here: HashMap<u64, Runs>,
}

impl<'a> Tally<'a> {
    fn new(table: &'a Table) -> Self {
        let snapshots = table.live().len();
        Self {
            table,
            own: vec![0; snapshots],
            steps: vec![0; snapshots + 1],
            chunk: 0,
            here: HashMap::new(),
        }
    }

    fn add(&mut self, chunk: u64, runs: Runs, dest: u64) {
        if chunk != self.chunk {
            self.end_chunk();
            self.chunk = chunk;
        }
        // A record may have been cut in two, with one content for both.
        self.here.entry(dest).or_default().extend(runs);
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

    fn shares(mut self) -> Shares {
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
    fn many_records_of_a_chunk_are_no_burden() {
        let table = Table::default();
        let mut tally = Tally::new(&table);
        let begin = Instant::now();
        (0..200_000).for_each(|dest| tally.add(0, Vec::new(), dest));
        let took = begin.elapsed();
        assert!(took.as_secs() < 5, "{took:?}");
        assert_eq!(tally.here.len(), 200_000);
    }

    #[test]
    fn chunks_that_are_done_are_forgotten() {
        let table = Table::default();
        let mut tally = Tally::new(&table);
        for chunk in 0..100_000 {
            tally.add(chunk, Vec::new(), chunk);
            assert_eq!(tally.here.len(), 1);
        }
        assert!(tally.here.capacity() < 100);
    }

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

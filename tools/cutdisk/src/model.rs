// SPDX-License-Identifier: GPL-2.0

//! What the origin and every snapshot may hold after a cut, by what the guest has noted.

use crate::{
    loss::Losses,
    note::{Note, Written},
    sector::{self, SECTOR},
    tape::{Disk, Event, Tape},
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Number of the origin among the volumes.
pub const ORIGIN: u16 = 1;

/// What a snapshot was cut with.
#[derive(Clone)]
struct Base {
    /// The values. Of a snapshot's snapshot: those of the writes to its parent that had ended.
    values: Vec<u64>,
    /// A write to the parent that was under way at the cut may be in it: its volume, and the count
    /// that such a write is below.
    late: Option<(u16, u64)>,
}

/// A part of a volume that was discarded or overwritten with zeroes, as a write.
type Zeroing = (u16, Written);

/// What all snapshots of a round were cut with.
pub struct Bases {
    sectors: usize,
    round: u64,
    bases: HashMap<u16, Base>,
}

impl Bases {
    /// Collects them from a tape. `given` has, by volume, the values that came with
    /// [`Note::Creating`].
    pub fn new(tape: &Tape, sectors: usize, round: u64, given: &HashMap<u16, Vec<u64>>) -> Self {
        let mut origin = vec![0; sectors];
        let mut bases = HashMap::<u16, Base>::new();
        let mut volumes = HashMap::new();
        for event in &tape.events {
            match event {
                Event::Write {
                    disk: Disk::Origin,
                    at,
                    data,
                    ..
                } => {
                    for (sector, data) in (at / SECTOR..).zip(data.chunks_exact(SECTOR)) {
                        origin[sector] = sector::read(data, round, sector as u64);
                    }
                }
                Event::Note(Note::Creating { id, volume, parent }) => {
                    volumes.insert(id.clone(), *volume);
                    if let Some(parent) = parent {
                        let mut values = given.get(volume).cloned().unwrap_or_default();
                        if let Some(below) = bases.get(parent) {
                            for (value, below) in values.iter_mut().zip(&below.values) {
                                *value = if *value == 0 { *below } else { *value };
                            }
                        }
                        let late = Some((*parent, u64::MAX));
                        bases.insert(*volume, Base { values, late });
                    }
                }
                Event::Note(Note::Cut { id }) => {
                    if let Some(volume) = volumes.get(id) {
                        // Nothing is written to the origin between its last flush and this note.
                        bases.entry(*volume).or_insert(Base {
                            values: origin.clone(),
                            late: None,
                        });
                    }
                }
                Event::Note(Note::Created { id, count }) => {
                    let base = volumes.get(id).and_then(|volume| bases.get_mut(volume));
                    if let Some((_, below)) = base.and_then(|base| base.late.as_mut()) {
                        *below = *count;
                    }
                }
                _ => (),
            }
        }
        Bases {
            sectors,
            round,
            bases,
        }
    }

    /// Number of the round.
    pub fn round(&self) -> u64 {
        self.round
    }
}

/// Whether a snapshot is there after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// It must be.
    Yes,
    /// It must not be.
    No,
    /// Its creation or deletion was under way.
    Perhaps,
}

/// What a volume may hold.
pub struct Volume {
    number: u16,
    base: Option<Base>,
    /// The value of the last write that is known to be durable, or zero.
    floor: Vec<u64>,
    /// What may have become zeroes.
    zeroings: Vec<Zeroing>,
    /// Chunks that may be lost.
    lost: HashSet<usize>,
    /// Sectors in a chunk.
    chunk: usize,
    /// Whether it is there.
    pub there: There,
}

impl Volume {
    fn new(number: u16, sectors: usize, base: Option<Base>) -> Self {
        Volume {
            number,
            base,
            floor: vec![0; sectors],
            zeroings: Vec::new(),
            lost: HashSet::new(),
            chunk: sectors,
            there: There::Perhaps,
        }
    }

    fn harden(&mut self, first: u64, sectors: u64, value: u64) {
        for floor in self
            .floor
            .iter_mut()
            .skip(first as usize)
            .take(sectors as usize)
        {
            if sector::count(value) > sector::count(*floor) {
                *floor = value;
            }
        }
    }

    /// Whether something discarded or zeroed the sector after the write of `least`, in this volume
    /// or, before `late`, in the one that it is a snapshot of.
    fn may_be_zero(&self, sector: usize, least: u64, late: Option<(u16, u64)>) -> bool {
        self.zeroings.iter().any(|(volume, write)| {
            let count = sector::count(write.value);
            let own = *volume == self.number;
            let parent = late.is_some_and(|(parent, end)| *volume == parent && count < end);
            let sectors = write.first as usize..(write.first + write.sectors) as usize;
            (own || parent) && count > sector::count(least) && sectors.contains(&sector)
        })
    }

    /// Whether the chunk of a sector may be lost: nothing of it was written durably.
    fn may_be_lost(&self, sector: usize) -> bool {
        let chunk = sector / self.chunk;
        let mut sectors = self.floor.chunks(self.chunk).skip(chunk);
        let written = |sectors: &[u64]| sectors.iter().any(|floor| *floor != 0);
        self.lost.contains(&chunk) && !sectors.next().is_some_and(written)
    }

    /// Says what is wrong with these values; at most `most` of it.
    pub fn compare(&self, values: &[u64], most: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        if values.len() != self.floor.len() {
            wrong.push(format!("{} values", values.len()));
        }
        for (sector, (&found, &floor)) in values.iter().zip(&self.floor).enumerate() {
            let base = self.base.as_ref().filter(|_| floor == 0);
            let least = match base {
                Some(base) => base.values.get(sector).copied().unwrap_or_default(),
                None => floor,
            };
            let newer = sector::count(found) > sector::count(least);
            let own = sector::volume(found) == self.number && newer;
            let from = base.and_then(|base| base.late);
            let late = from.is_some_and(|(parent, end)| {
                sector::volume(found) == parent && newer && sector::count(found) < end
            });
            let good = sector::holds(found, least)
                || own
                || late
                || (found == 0 && self.may_be_zero(sector, least, from))
                || (found == sector::UNREADABLE && self.may_be_lost(sector));
            if !good && wrong.len() < most {
                wrong.push(format!(
                    "sector {sector}: found {}, not {}{}",
                    sector::describe(found),
                    sector::describe(least),
                    if base.is_some() {
                        ", what it was cut with"
                    } else {
                        ", which was flushed"
                    },
                ));
            }
        }
        wrong
    }
}

/// What must and may be seen after a cut.
pub struct Model {
    /// The origin.
    pub origin: Volume,
    /// The snapshots by id.
    pub snapshots: BTreeMap<String, Volume>,
}

impl Model {
    /// What holds after a cut at `position`.
    pub fn new(tape: &Tape, bases: &Bases, losses: Option<&Losses>, position: usize) -> Self {
        let mut model = Model {
            origin: Volume::new(ORIGIN, bases.sectors, None),
            snapshots: BTreeMap::new(),
        };
        let mut zeroings = Vec::new();
        for (_, note) in tape.notes(position) {
            match note {
                Note::Zeroing { volume, write } => zeroings.push((*volume, *write)),
                Note::Durable { volume, writes } => {
                    let of = match *volume {
                        ORIGIN => Some(&mut model.origin),
                        number => model.snapshots.values_mut().find(|v| v.number == number),
                    };
                    if let Some(of) = of {
                        for w in writes {
                            of.harden(w.first, w.sectors, w.value);
                        }
                    }
                }
                Note::Creating { id, volume, .. } => {
                    // An id may be given again after a create that failed.
                    let base = bases.bases.get(volume).cloned();
                    let snapshot = Volume::new(*volume, bases.sectors, base);
                    model.snapshots.insert(id.clone(), snapshot);
                }
                Note::Created { id, .. } => model.set(id, There::Yes),
                Note::NotCreated { id } => model.set(id, There::No),
                Note::Deleting { id } => model.set(id, There::Perhaps),
                Note::Deleted { id } => model.set(id, There::No),
                _ => (),
            }
        }
        model.origin.zeroings.clone_from(&zeroings);
        for snapshot in model.snapshots.values_mut() {
            snapshot.zeroings.clone_from(&zeroings);
            if let Some(losses) = losses {
                snapshot.chunk = losses.chunk();
                snapshot.lost = losses.of(snapshot.number, position);
            }
        }
        model
    }

    fn set(&mut self, id: &str, there: There) {
        if let Some(snapshot) = self.snapshots.get_mut(id) {
            snapshot.there = there;
        }
    }

    /// Says what is wrong with the list of snapshots.
    pub fn compare_ids(&self, ids: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, snapshot) in &self.snapshots {
            match (snapshot.there, ids.contains(id)) {
                (There::Yes, false) => wrong.push(format!("snapshot {id} is gone")),
                (There::No, true) => wrong.push(format!("snapshot {id} has come back")),
                _ => (),
            }
        }
        let unknown = ids.iter().filter(|id| !self.snapshots.contains_key(*id));
        wrong.extend(unknown.map(|id| format!("snapshot {id} was never cut")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: u64 = 5;

    fn write(at: u64, value: u64) -> Event {
        let mut data = vec![0; SECTOR];
        sector::fill(&mut data, ROUND, value, at);
        Event::Write {
            disk: Disk::Origin,
            request: value,
            at: at as usize * SECTOR,
            data,
            fua: false,
        }
    }

    fn durable(volume: u16, first: u64, value: u64) -> Event {
        let writes = vec![Written {
            first,
            sectors: 1,
            value,
        }];
        Event::Note(Note::Durable { volume, writes })
    }

    fn creating(id: &str, volume: u16, parent: Option<u16>) -> Event {
        let id = id.into();
        Event::Note(Note::Creating { id, volume, parent })
    }

    /// A tape with a snapshot, number 2, and a snapshot of that, number 3; both are there.
    fn tape() -> (Tape, Bases) {
        let mut tape = Tape::default();
        let value = sector::value;
        tape.events = vec![
            write(0, value(ORIGIN, 1)),
            durable(ORIGIN, 0, value(ORIGIN, 1)),
            write(1, value(ORIGIN, 2)),
            creating("1", 2, None),
            Event::Note(Note::Cut { id: "1".into() }),
            Event::Note(Note::Created {
                id: "1".into(),
                count: 3,
            }),
            write(0, value(ORIGIN, 3)),
            durable(2, 1, value(2, 5)),
            creating("1.0", 3, Some(2)),
            Event::Note(Note::Cut { id: "1.0".into() }),
            Event::Note(Note::Created {
                id: "1.0".into(),
                count: 9,
            }),
            Event::Note(Note::Deleting { id: "1".into() }),
            Event::Note(Note::Deleted { id: "1".into() }),
        ];
        let given = HashMap::from([(3, vec![0, value(2, 5)])]);
        let bases = Bases::new(&tape, 2, ROUND, &given);
        (tape, bases)
    }

    #[test]
    fn what_was_flushed_or_is_newer_may_be_there() {
        let (tape, bases) = tape();
        let value = sector::value;
        let good = |volume: &Volume, values: [u64; 2]| volume.compare(&values, 9).is_empty();
        let model = Model::new(&tape, &bases, None, 8);
        assert!(good(&model.origin, [value(ORIGIN, 1), 0]));
        assert!(good(&model.origin, [value(ORIGIN, 3), value(ORIGIN, 2)]));
        assert!(!good(&model.origin, [0, 0]));
        assert!(!good(&model.origin, [value(2, 3), 0]));
        assert!(!good(&model.origin, [sector::UNREADABLE, 0]));
        // The snapshot has the origin's unflushed write of then, and not the later one.
        let snapshot = &model.snapshots["1"];
        assert!(good(snapshot, [value(ORIGIN, 1), value(2, 5)]));
        assert!(good(snapshot, [value(2, 7), value(2, 8)]));
        assert!(!good(snapshot, [value(ORIGIN, 3), value(2, 5)]));
        assert!(!good(snapshot, [value(ORIGIN, 1), value(ORIGIN, 2)]));
        let before = Model::new(&tape, &bases, None, 7);
        let snapshot = &before.snapshots["1"];
        assert!(good(snapshot, [value(ORIGIN, 1), value(ORIGIN, 2)]));
        assert!(!good(snapshot, [value(ORIGIN, 1), 0]));
    }

    #[test]
    fn a_snapshots_snapshot_has_its_parents_content() {
        let (tape, bases) = tape();
        let value = sector::value;
        let model = Model::new(&tape, &bases, None, 11);
        let good = |values: [u64; 2]| model.snapshots["1.0"].compare(&values, 9).is_empty();
        assert!(good([value(ORIGIN, 1), value(2, 5)]));
        assert!(good([value(2, 6), value(2, 8)]));
        assert!(good([value(3, 10), value(3, 11)]));
        assert!(!good([value(2, 9), value(2, 5)]));
        assert!(!good([value(ORIGIN, 3), value(2, 5)]));
        assert!(!good([value(ORIGIN, 1), value(2, 4)]));
    }

    #[test]
    fn snapshots_come_and_go_when_that_is_said() {
        let (tape, bases) = tape();
        let wrong = |position, ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|id| id.to_string()).collect();
            let model = Model::new(&tape, &bases, None, position);
            model.compare_ids(&ids).len()
        };
        assert_eq!(wrong(3, &["1"]), 1);
        assert_eq!(wrong(4, &["1"]), 0);
        assert_eq!(wrong(4, &[]), 0);
        assert_eq!(wrong(6, &[]), 1);
        assert_eq!(wrong(11, &["1", "1.0"]), 0);
        assert_eq!(wrong(12, &["1.0"]), 0);
        assert_eq!(wrong(13, &["1.0"]), 0);
        assert_eq!(wrong(13, &["1", "1.0"]), 1);
    }

    #[test]
    fn what_was_discarded_may_be_zeroes() {
        let (mut tape, bases) = tape();
        let value = sector::value;
        let zeroing = |volume, first, count| {
            let write = Written {
                first,
                sectors: 1,
                value: sector::zero(volume, count),
            };
            Event::Note(Note::Zeroing { volume, write })
        };
        // In the snapshot, in the snapshot of that, and in the latter's parent too late.
        tape.events.insert(11, zeroing(2, 0, 12));
        tape.events.insert(11, zeroing(3, 1, 11));
        tape.events.insert(11, durable(2, 1, sector::zero(2, 10)));
        let good = |position, id: &str, values: [u64; 2]| {
            let model = Model::new(&tape, &bases, None, position);
            model.snapshots[id].compare(&values, 9).is_empty()
        };
        assert!(!good(11, "1", [value(ORIGIN, 1), 0]));
        assert!(good(12, "1", [value(ORIGIN, 1), 0]));
        assert!(!good(12, "1", [value(ORIGIN, 1), value(2, 5)]));
        assert!(!good(12, "1.0", [value(ORIGIN, 1), 0]));
        assert!(good(13, "1.0", [value(ORIGIN, 1), 0]));
        assert!(!good(13, "1", [0, 0]));
        assert!(good(14, "1", [0, 0]));
        assert!(!good(14, "1.0", [0, 0]));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What snapshots may have lost where the origin goes on though the store is full: a chunk whose
//! first write since the snapshot was cut came while the store was full.

use crate::{
    note::Note,
    sector::{self, SECTOR},
    tape::{Disk, Event, Tape},
};
use std::collections::{HashMap, HashSet};

/// How far from a note that the store is full, in events, it may be full as well.
const NEAR: usize = 2000;
/// Most writes that are under way at any time.
const UNDER_WAY: u64 = 16;

/// The first write of a chunk of the origin since something.
#[derive(Clone, Copy)]
struct First {
    /// Where it arrives at the disk.
    at: usize,
    /// Its count; `None`: zeroes.
    count: Option<u64>,
}

/// The losses that are allowed in a round.
pub struct Losses {
    chunk: usize,
    /// By position: the largest count that was seen before.
    counts: Vec<u64>,
    /// Chunks that each snapshot may lose, with the write they are lost to.
    chunks: HashMap<u16, HashMap<usize, First>>,
}

impl Losses {
    /// Looks for them on a tape; a chunk has so many sectors.
    pub fn new(tape: &Tape, round: u64, chunk: u64) -> Self {
        let chunk = chunk as usize;
        let full: Vec<_> = tape
            .notes(tape.len())
            .filter(|(_, note)| matches!(note, Note::Full))
            .map(|(at, _)| at)
            .collect();
        let is_full = |at: usize| {
            let next = full.partition_point(|full| *full + NEAR < at);
            full.get(next).is_some_and(|full| *full <= at + NEAR)
        };
        let mut counts = vec![0];
        let mut count = 0;
        let mut volumes = HashMap::new();
        // What was written since each was cut; a snapshot's snapshot shares what its parent does.
        let mut firsts = HashMap::<u16, HashMap<usize, First>>::new();
        let mut parents = HashMap::new();
        for (at, event) in tape.events.iter().enumerate() {
            match event {
                Event::Write {
                    disk: Disk::Origin,
                    at: byte,
                    data,
                    ..
                } => {
                    for (sector, data) in (byte / SECTOR..).zip(data.chunks_exact(SECTOR)) {
                        let value = sector::read(data, round, sector as u64);
                        let first = First {
                            at,
                            count: (value != 0).then_some(sector::count(value)),
                        };
                        count = first.count.unwrap_or(0).max(count);
                        for chunks in firsts.values_mut() {
                            chunks.entry(sector / chunk).or_insert(first);
                        }
                    }
                }
                Event::Note(Note::Creating { id, volume, parent }) => {
                    volumes.insert(id.clone(), *volume);
                    if let Some(parent) = parent {
                        parents.insert(*volume, *parent);
                    }
                }
                Event::Note(Note::Cut { id }) => {
                    if let Some(volume) = volumes.get(id) {
                        let from = parents.get(volume).and_then(|parent| firsts.get(parent));
                        let from = from.cloned().unwrap_or_default();
                        firsts.insert(*volume, from);
                    }
                }
                _ => (),
            }
            counts.push(count);
        }
        for chunks in firsts.values_mut() {
            chunks.retain(|_, first| is_full(first.at));
        }
        Losses {
            chunk,
            counts,
            chunks: firsts,
        }
    }

    /// Sectors in a chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// The chunks that may be lost in a volume after a cut at `position`. The write that they are
    /// lost to may still be on its way then.
    pub fn of(&self, volume: u16, position: usize) -> HashSet<usize> {
        let count = self.counts.get(position).copied().unwrap_or_default();
        let begun = |first: &First| match first.count {
            Some(other) => first.at < position || other <= count + UNDER_WAY,
            None => first.at < position + NEAR,
        };
        let chunks = self.chunks.get(&volume).into_iter().flatten();
        let chunks = chunks.filter(|(_, first)| begun(first));
        chunks.map(|(chunk, _)| *chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ORIGIN;

    #[test]
    fn only_first_writes_while_full_are_losses() {
        let write = |chunk: usize, count| {
            let mut data = vec![0; SECTOR];
            sector::fill(&mut data, 1, sector::value(ORIGIN, count), chunk as u64 * 8);
            Event::Write {
                disk: Disk::Origin,
                request: count,
                at: chunk * 8 * SECTOR,
                data,
                fua: false,
            }
        };
        let mut tape = Tape::default();
        tape.events.push(Event::Note(Note::Creating {
            id: "1".into(),
            volume: 2,
            parent: None,
        }));
        tape.events.push(Event::Note(Note::Cut { id: "1".into() }));
        tape.events.push(write(0, 1));
        let silence = |_| Event::Note(Note::Silent);
        tape.events.extend((0..2 * NEAR).map(silence));
        tape.events.extend([write(0, 2), write(1, 3)]);
        tape.events.push(Event::Note(Note::Full));
        let cut = tape.len();
        tape.events.extend([write(2, 4), write(3, 1000)]);
        tape.events.extend((0..2 * NEAR).map(silence));
        tape.events.push(write(4, 5));
        let losses = Losses::new(&tape, 1, 8);
        assert_eq!(losses.of(2, cut), HashSet::from([1, 2]));
        assert_eq!(losses.of(2, tape.len()), HashSet::from([1, 2, 3]));
        assert_eq!(losses.of(3, cut), HashSet::new());
    }
}

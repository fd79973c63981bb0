// SPDX-License-Identifier: GPL-2.0

//! Everything that happened to both disks, in one order, and what a power cut leaves of it.

use crate::{
    note::Note,
    sector::{self, SECTOR},
};
use std::{collections::HashMap, fmt};

/// One of the two disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The origin's.
    Origin,
    /// The store's.
    Store,
}

/// Both.
pub const DISKS: [Disk; 2] = [Disk::Origin, Disk::Store];

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A write has arrived. With `fua` it is durable when it ends.
    Write {
        disk: Disk,
        request: u64,
        at: usize,
        data: Vec<u8>,
        fua: bool,
    },
    /// A flush has arrived. What has ended before it is durable when it ends.
    Flush { disk: Disk, request: u64 },
    /// A write or flush has ended.
    End { request: u64 },
    /// The guest has said something.
    Note(Note),
}

impl Event {
    /// The event in a line of text.
    pub fn describe(&self, round: u64) -> String {
        match self {
            Event::Write {
                disk,
                request,
                at,
                data,
                fua,
            } => {
                let first = at / SECTOR;
                let what = match Kind::of(data) {
                    Kind::Data => {
                        let place = sector::place(&data[..SECTOR], round);
                        let value = sector::read(&data[..SECTOR], round, place.unwrap_or_default());
                        format!("{}, sector {place:?}", sector::describe(value))
                    }
                    kind => format!("{kind:?}"),
                };
                let sectors = data.len() / SECTOR;
                let fua = if *fua { " FUA" } else { "" };
                format!("{request}: write {disk:?} {first}+{sectors}{fua}: {what}")
            }
            Event::Flush { disk, request } => format!("{request}: flush {disk:?}"),
            Event::End { request } => format!("{request}: end"),
            Event::Note(note) => format!("note {note:?}"),
        }
    }
}

/// What a cut keeps of a disk beside what is durable.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// All.
    All,
    /// Each write with this probability in percent; some are torn.
    Some(u32),
    /// Only the newest writes.
    Newest(usize),
    /// Only the oldest writes, in order.
    Oldest(usize),
    /// Only metadata.
    Metadata,
    /// Only what is no metadata.
    Data,
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keep::Nothing => write!(f, "nothing more"),
            Keep::All => write!(f, "all"),
            Keep::Some(percent) => write!(f, "{percent}%, torn"),
            Keep::Newest(n) => write!(f, "the newest {n}"),
            Keep::Oldest(n) => write!(f, "the oldest {n}"),
            Keep::Metadata => write!(f, "metadata only"),
            Keep::Data => write!(f, "data only"),
        }
    }
}

/// What a block of the store is, by the number that the format gives to its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Superblock,
    Checkpoint,
    Log,
    /// A node of a tree, or a list of free blocks.
    Node,
    /// A chunk's content.
    Data,
}

impl Kind {
    /// The kind of a write to the store.
    pub fn of(data: &[u8]) -> Self {
        let kind = data.get(4..8).and_then(|kind| kind.try_into().ok());
        match kind.map_or(0, u32::from_le_bytes) {
            0x4d53_5355 => Kind::Superblock,
            0x4d53_434b => Kind::Checkpoint,
            0x4d53_4c47 => Kind::Log,
            0x4d53_4e44 | 0x4d53_464c => Kind::Node,
            _ => Kind::Data,
        }
    }
}

/// The tape.
#[derive(Default)]
pub struct Tape {
    /// What each disk held at the beginning, durably.
    base: [Vec<u8>; 2],
    /// What happened since.
    pub events: Vec<Event>,
}

impl Tape {
    /// An empty tape, for disks that hold `base`.
    pub fn new(base: [Vec<u8>; 2]) -> Self {
        Tape {
            base,
            events: Vec::new(),
        }
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// What is on it, in numbers.
    pub fn summary(&self) -> String {
        let count = |f: &dyn Fn(&Event) -> bool| self.events.iter().filter(|e| f(e)).count();
        let on = |which: Disk| {
            let writes = count(&|e| matches!(e, Event::Write { disk, .. } if *disk == which));
            let flushes = count(&|e| matches!(e, Event::Flush { disk, .. } if *disk == which));
            format!("{writes} writes and {flushes} flushes")
        };
        let durable = |e: &Event| matches!(e, Event::Note(Note::Durable { .. }));
        let created = |e: &Event| matches!(e, Event::Note(Note::Created { .. }));
        let deleted = |e: &Event| matches!(e, Event::Note(Note::Deleted { .. }));
        format!(
            "origin {}, store {}, {} flushes noted, {} snapshots cut, {} deleted",
            on(Disk::Origin),
            on(Disk::Store),
            count(&durable),
            count(&created),
            count(&deleted),
        )
    }

    /// The notes before `position`, each with its place.
    pub fn notes(&self, position: usize) -> impl Iterator<Item = (usize, &Note)> {
        let events = self.events.iter().take(position).enumerate();
        events.filter_map(|(at, event)| match event {
            Event::Note(note) => Some((at, note)),
            _ => None,
        })
    }

    /// What a disk holds after a cut at `position`: what is durable, and `keep` of the rest.
    pub fn cut(&self, disk: Disk, position: usize, keep: Keep, rng: &mut fastrand::Rng) -> Vec<u8> {
        let durable = self.durable(disk, position);
        let mut image = self.base[disk as usize].clone();
        let left = durable.values().filter(|durable| !**durable).count();
        let mut seen = 0;
        for (place, event) in self.events.iter().take(position).enumerate() {
            let Event::Write { at, data, .. } = event else {
                continue;
            };
            let whole = match durable.get(&place) {
                None => continue,
                Some(true) => Some(true),
                Some(false) => {
                    seen += 1;
                    match keep {
                        Keep::Nothing => Some(false),
                        Keep::All => Some(true),
                        Keep::Some(_) if rng.u32(..100) < 15 => None,
                        Keep::Some(percent) => Some(rng.u32(..100) < percent),
                        Keep::Newest(n) => Some(seen + n > left),
                        Keep::Oldest(n) => Some(seen <= n),
                        Keep::Metadata => Some(Kind::of(data) != Kind::Data),
                        Keep::Data => Some(Kind::of(data) == Kind::Data),
                    }
                }
            };
            for (at, sector) in (*at..).step_by(SECTOR).zip(data.chunks(SECTOR)) {
                if whole.unwrap_or_else(|| rng.bool()) {
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }

    /// The places of the disk's writes before `position`, and whether each is durable.
    fn durable(&self, disk: Disk, position: usize) -> HashMap<usize, bool> {
        let mut ends = HashMap::new();
        for (place, event) in self.events.iter().take(position).enumerate() {
            if let Event::End { request } = event {
                ends.insert(*request, place);
            }
        }
        // A flush covers what had ended when it arrived: the last one that has ended covers most.
        let mut flushed = 0;
        for (place, event) in self.events.iter().take(position).enumerate() {
            match event {
                Event::Flush { disk: of, request } if *of == disk && ends.contains_key(request) => {
                    flushed = place;
                }
                _ => (),
            }
        }
        let mut durable = HashMap::new();
        for (place, event) in self.events.iter().take(position).enumerate() {
            match event {
                Event::Write {
                    disk: of,
                    request,
                    fua,
                    ..
                } if *of == disk => {
                    let end = ends.get(request);
                    durable.insert(place, end.is_some_and(|end| *fua || *end < flushed));
                }
                _ => (),
            }
        }
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(request: u64, disk: Disk, at: usize, byte: u8, fua: bool) -> Event {
        let data = vec![byte; 2 * SECTOR];
        Event::Write {
            disk,
            request,
            at,
            data,
            fua,
        }
    }

    #[test]
    fn each_disk_keeps_what_it_has_flushed() {
        let mut tape = Tape::new([vec![0; 8 * SECTOR], vec![0; 8 * SECTOR]]);
        tape.events = vec![
            write(1, Disk::Origin, 0, 1, false),
            write(2, Disk::Store, 0, 2, false),
            Event::End { request: 1 },
            write(3, Disk::Origin, 2 * SECTOR, 3, false),
            Event::Flush {
                disk: Disk::Origin,
                request: 4,
            },
            Event::End { request: 3 },
            Event::End { request: 4 },
            write(5, Disk::Origin, 4 * SECTOR, 5, true),
            Event::End { request: 5 },
            write(6, Disk::Origin, 6 * SECTOR, 6, true),
        ];
        let rng = &mut fastrand::Rng::with_seed(1);
        let firsts = |image: &[u8]| [0, 2, 4, 6].map(|sector| image[sector * SECTOR]);
        let mut cut = |disk, position, keep| firsts(&tape.cut(disk, position, keep, rng));
        // The flush has not ended.
        assert_eq!(cut(Disk::Origin, 6, Keep::Nothing), [0, 0, 0, 0]);
        // It covers the write that had ended before it, and not the one that had not.
        assert_eq!(cut(Disk::Origin, 7, Keep::Nothing), [1, 0, 0, 0]);
        // With FUA a write is durable when it has ended.
        assert_eq!(cut(Disk::Origin, 10, Keep::Nothing), [1, 0, 5, 0]);
        assert_eq!(cut(Disk::Origin, 10, Keep::All), [1, 3, 5, 6]);
        assert_eq!(cut(Disk::Origin, 10, Keep::Newest(1)), [1, 0, 5, 6]);
        assert_eq!(cut(Disk::Origin, 10, Keep::Oldest(1)), [1, 3, 5, 0]);
        // The other disk was not flushed.
        assert_eq!(cut(Disk::Store, 10, Keep::Nothing), [0, 0, 0, 0]);
    }

    #[test]
    fn some_writes_are_torn() {
        let mut tape = Tape::new([vec![0; 8 * SECTOR], Vec::new()]);
        tape.events = vec![write(1, Disk::Origin, 0, 1, false)];
        let rng = &mut fastrand::Rng::with_seed(1);
        let mut seen = [false; 4];
        for _ in 0..1000 {
            let image = tape.cut(Disk::Origin, 1, Keep::Some(50), rng);
            seen[usize::from(image[0] + 2 * image[SECTOR])] = true;
        }
        assert_eq!(seen, [true; 4]);
    }
}

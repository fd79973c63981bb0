// SPDX-License-Identifier: GPL-2.0

//! What is under way at each position of a tape, so that cuts can be made where it matters, and
//! a run that proves nothing is seen.

use crate::{
    model::ORIGIN,
    note::{Note, Round},
    sector::{self, SECTOR},
    tape::{Disk, Event, Kind, Tape},
};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

macro_rules! windows {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A stretch of time in which a cut is of interest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Window { $(#[doc = $text] $name),* }

        /// All of them, with their names.
        pub const WINDOWS: &[(Window, &str)] = &[$((Window::$name, $text)),*];
    };
}

windows! {
    Copying "a chunk's data on its way to the store",
    Copied "data there, nothing flushed since",
    Preflush "log write: preflush",
    LogFlying "log write: its blocks on their way",
    LogCached "log write: there, not flushed",
    OriginFlying "origin write on its way",
    OriginCached "origin writes there, not flushed",
    Released "released: a chunk's first origin write since a create, on its way",
    Synced "synced: a snapshot's flush told in silence, and no log write is durable since",
    Nodes "checkpoint: its nodes",
    Checkpoint "checkpoint: its block",
    CheckpointAndLog "checkpoint and log write together",
    CreateFlush "create: flush of the origin",
    CreateLog "create: its record",
    CreateDone "created: told, the origin not flushed since",
    SubCreate "create of a snapshot's snapshot",
    Delete "delete",
    DeleteDone "deleted: told, and no log write is durable since",
    Restart "unload and load",
    Full "store full",
    FullLossy "store full, and the origin goes on",
    Discard "discard, or write of zeroes, of the origin on its way",
    SnapDiscard "discard, or write of zeroes, of a snapshot on its way",
    DiscardDone "that of a snapshot ended, and no log write is durable since",
    Wrapped "after a log wrap",
    Reused "after a second use of a chunk",
    Replay "in recovery",
    ReplayAgain "in recovery from a cut in recovery",
}

/// Writes to a disk that are not durable.
#[derive(Default)]
struct Cache {
    /// Those that have not ended.
    flying: HashMap<u64, Kind>,
    /// Those that have.
    ended: Vec<(u64, Kind)>,
    /// Flushes that have not ended, with the number of the last write that each covers.
    flushes: HashMap<u64, Vec<u64>>,
}

impl Cache {
    fn end(&mut self, request: u64) {
        if let Some(kind) = self.flying.remove(&request) {
            self.ended.push((request, kind));
        }
        if let Some(covered) = self.flushes.remove(&request) {
            self.ended.retain(|(write, _)| !covered.contains(write));
        }
    }

    fn flying(&self, kind: Kind) -> bool {
        self.flying.values().any(|k| *k == kind)
    }

    fn cached(&self, kind: Kind) -> bool {
        self.ended.iter().any(|(_, k)| *k == kind)
    }
}

/// The windows that are open at each position of a tape.
pub struct Windows(Vec<u64>);

impl Windows {
    /// Finds them.
    pub fn new(tape: &Tape, round: &Round) -> Self {
        let mut state = State {
            chunk: round.chunk as usize * SECTOR,
            lossy: !round.preserve,
            ..State::default()
        };
        let mut all = vec![0];
        for event in &tape.events {
            state.see(event, round.number);
            all.push(state.open());
        }
        Windows(all)
    }

    /// The stretches of positions at which a window is open.
    pub fn stretches(&self, window: Window) -> Vec<Range<usize>> {
        let mut all = Vec::<Range<usize>>::new();
        for (position, open) in self.0.iter().enumerate() {
            if open & (1 << window as u32) == 0 {
                continue;
            }
            match all.last_mut() {
                Some(last) if last.end == position => last.end += 1,
                _ => all.push(position..position + 1),
            }
        }
        all
    }

    /// The windows that are open at a position, a bit for each.
    pub fn at(&self, position: usize) -> u64 {
        self.0.get(position).copied().unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    caches: [Cache; 2],
    /// Bytes of a chunk.
    chunk: usize,
    /// What cannot be preserved is lost.
    lossy: bool,
    /// Discards that are under way, by volume.
    discards: Vec<u16>,
    /// A snapshot's has ended.
    discarded: bool,
    /// Chunks of the origin that were written since the last snapshot of it was cut.
    touched: HashSet<usize>,
    /// The first writes to them that have not ended.
    released: HashSet<u64>,
    /// Nobody but the thread that gives commands writes or flushes.
    silent: bool,
    /// A snapshot was flushed meanwhile.
    synced: bool,
    /// A log write has begun since one was flushed or deleted, or a part of it discarded.
    logged: bool,
    /// Snapshots of the origin, and of snapshots, that are being created.
    creating: Option<bool>,
    deleting: bool,
    /// A create has ended, and the origin was not flushed since; or a delete, and no log write.
    created: bool,
    deleted: bool,
    restarting: bool,
    full: bool,
    wrapped: bool,
    reused: bool,
    log: HashSet<usize>,
    /// What sector of a volume a sector of the store holds.
    holds: HashMap<usize, u64>,
}

impl State {
    fn see(&mut self, event: &Event, round: u64) {
        match event {
            Event::Write {
                disk,
                request,
                at,
                data,
                ..
            } => {
                let kind = match disk {
                    Disk::Origin => Kind::Data,
                    Disk::Store => Kind::of(data),
                };
                self.caches[*disk as usize].flying.insert(*request, kind);
                match (disk, kind) {
                    (Disk::Origin, _) => {
                        let last = (at + data.len() - 1) / self.chunk;
                        for chunk in at / self.chunk..=last {
                            if self.touched.insert(chunk) {
                                self.released.insert(*request);
                            }
                        }
                    }
                    (Disk::Store, Kind::Log) => {
                        self.wrapped |= !self.log.insert(*at);
                        self.logged = true;
                    }
                    (Disk::Store, Kind::Data) => {
                        if let Some(of) = sector::place(&data[..SECTOR], round) {
                            let before = self.holds.insert(*at, of);
                            self.reused |= before.is_some_and(|before| before != of);
                        }
                    }
                    _ => (),
                }
            }
            Event::Flush { disk, request } => {
                let cache = &mut self.caches[*disk as usize];
                match disk {
                    Disk::Origin => self.created = false,
                    Disk::Store => (),
                }
                let covered = cache.ended.iter().map(|(write, _)| *write).collect();
                cache.flushes.insert(*request, covered);
            }
            Event::End { request } => {
                self.caches.iter_mut().for_each(|c| c.end(*request));
                self.released.remove(request);
                let store = &self.caches[Disk::Store as usize];
                if self.logged && !store.flying(Kind::Log) && !store.cached(Kind::Log) {
                    (self.deleted, self.synced, self.discarded) = (false, false, false);
                }
            }
            Event::Note(note) => match note {
                Note::Creating { parent, .. } => self.creating = Some(parent.is_some()),
                Note::Cut { .. } if self.creating == Some(false) => {
                    self.created = true;
                    self.touched.clear();
                }
                Note::Created { .. } | Note::NotCreated { .. } => self.creating = None,
                Note::Deleting { .. } => self.deleting = true,
                Note::Deleted { .. } => {
                    (self.deleting, self.deleted, self.full) = (false, true, false);
                    self.logged = false;
                }
                Note::Restarting => self.restarting = true,
                Note::Restarted => self.restarting = false,
                Note::Full => self.full = true,
                Note::Zeroing { volume, .. } => self.discards.push(*volume),
                Note::Zeroed { volume } => {
                    let at = self.discards.iter().position(|other| other == volume);
                    at.map(|at| self.discards.swap_remove(at));
                    if *volume != ORIGIN {
                        (self.discarded, self.logged) = (true, false);
                    }
                }
                Note::Silent => self.silent = true,
                Note::Loud => (self.silent, self.synced) = (false, false),
                Note::Durable { volume, .. } if self.silent && *volume != ORIGIN => {
                    (self.synced, self.logged) = (true, false);
                }
                _ => (),
            },
        }
    }

    fn open(&self) -> u64 {
        let [origin, store] = &self.caches;
        let log = store.flying(Kind::Log) || store.cached(Kind::Log);
        let nodes = store.flying(Kind::Node) || store.cached(Kind::Node);
        let checkpoint = store.flying(Kind::Checkpoint) || store.cached(Kind::Checkpoint);
        let data = store.cached(Kind::Data);
        let mut open = 0;
        let mut set = |window, yes: bool| open |= u64::from(yes) << window as u32;
        set(Window::Copying, store.flying(Kind::Data));
        set(Window::Copied, data && !log && store.flushes.is_empty());
        set(Window::Preflush, data && !log && !store.flushes.is_empty());
        set(Window::LogFlying, store.flying(Kind::Log));
        set(Window::LogCached, store.cached(Kind::Log));
        set(Window::OriginFlying, origin.flying(Kind::Data));
        set(Window::OriginCached, origin.cached(Kind::Data));
        set(Window::Released, !self.released.is_empty());
        set(Window::Synced, self.synced);
        set(Window::Nodes, nodes);
        set(Window::Checkpoint, checkpoint);
        set(Window::CheckpointAndLog, (nodes || checkpoint) && log);
        let creating = self.creating == Some(false);
        set(Window::CreateFlush, creating && !origin.flushes.is_empty());
        set(Window::CreateLog, creating && log);
        set(Window::CreateDone, self.created);
        set(Window::SubCreate, self.creating == Some(true));
        set(Window::Delete, self.deleting);
        set(Window::DeleteDone, self.deleted);
        set(Window::Restart, self.restarting);
        set(Window::Full, self.full);
        set(Window::FullLossy, self.full && self.lossy);
        set(Window::Discard, self.discards.contains(&ORIGIN));
        let of_snapshot = self.discards.iter().any(|volume| *volume != ORIGIN);
        set(Window::SnapDiscard, of_snapshot);
        set(Window::DiscardDone, self.discarded);
        set(Window::Wrapped, self.wrapped);
        set(Window::Reused, self.reused);
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(request: u64, kind: u32) -> Event {
        let mut data = vec![0; SECTOR];
        data[4..8].copy_from_slice(&kind.to_le_bytes());
        Event::Write {
            disk: Disk::Store,
            request,
            at: 0,
            data,
            fua: false,
        }
    }

    fn ends(windows: &Windows, window: Window) -> Vec<(usize, usize)> {
        let stretches = windows.stretches(window).into_iter();
        stretches
            .map(|stretch| (stretch.start, stretch.end))
            .collect()
    }

    fn round() -> Round {
        Round {
            number: 1,
            seed: 0,
            milliseconds: 0,
            chunk: 8,
            store: String::new(),
            preserve: true,
            subs: true,
            count: 1,
        }
    }

    #[test]
    fn the_steps_of_a_commit_are_told_apart() {
        let log = 0x4d53_4c47;
        let flush = |request| Event::Flush {
            disk: Disk::Store,
            request,
        };
        let end = |request| Event::End { request };
        let mut tape = Tape::default();
        tape.events = vec![
            write(1, 0),
            end(1),
            flush(2),
            end(2),
            write(3, log),
            end(3),
            flush(4),
            end(4),
            write(5, log),
        ];
        let windows = Windows::new(&tape, &round());
        let stretches = |window| ends(&windows, window);
        assert_eq!(stretches(Window::Copying), [(1, 2)]);
        assert_eq!(stretches(Window::Copied), [(2, 3)]);
        assert_eq!(stretches(Window::Preflush), [(3, 4)]);
        assert_eq!(stretches(Window::LogFlying), [(5, 6), (9, 10)]);
        assert_eq!(stretches(Window::LogCached), [(6, 8)]);
        assert_eq!(stretches(Window::Wrapped), [(9, 10)]);
        assert_eq!(windows.at(8), 0);
    }

    #[test]
    fn what_was_just_told_is_a_window() {
        let chunk = |request, chunk: usize| Event::Write {
            disk: Disk::Origin,
            request,
            at: chunk * 8 * SECTOR,
            data: vec![0; SECTOR],
            fua: false,
        };
        let creating = Note::Creating {
            id: "1".into(),
            volume: 2,
            parent: None,
        };
        let durable = |volume| Note::Durable {
            volume,
            writes: Vec::new(),
        };
        let note = Event::Note;
        let mut tape = Tape::default();
        tape.events = vec![
            note(creating),
            note(Note::Cut { id: "1".into() }),
            chunk(1, 0),
            Event::End { request: 1 },
            chunk(2, 0),
            chunk(3, 1),
            Event::End { request: 3 },
            note(durable(2)),
            note(Note::Silent),
            note(durable(ORIGIN)),
            note(durable(2)),
            note(Note::Loud),
        ];
        let windows = Windows::new(&tape, &round());
        assert_eq!(ends(&windows, Window::CreateDone), [(2, 13)]);
        assert_eq!(ends(&windows, Window::Released), [(3, 4), (6, 7)]);
        assert_eq!(ends(&windows, Window::Synced), [(11, 12)]);
    }
}

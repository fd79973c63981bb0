// SPDX-License-Identifier: GPL-2.0

//! What is under way at each position of a tape, so that cuts can be made where it matters, and
//! a run that proves nothing is seen.

use crate::{
    note::Note,
    sector::{self, SECTOR},
    tape::{Disk, Event, Kind, Tape},
};
use std::collections::{HashMap, HashSet};

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
    Nodes "checkpoint: its nodes",
    Checkpoint "checkpoint: its block",
    CheckpointAndLog "checkpoint and log write together",
    CreateFlush "create: flush of the origin",
    CreateLog "create: its record",
    CreateDone "after a create, before the origin is flushed again",
    SubCreate "create of a snapshot's snapshot",
    Delete "delete",
    DeleteDone "after a delete, before the store is flushed again",
    Restart "unload and load",
    Full "store full",
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
pub struct Windows(Vec<u32>);

impl Windows {
    /// Finds them.
    pub fn new(tape: &Tape, round: u64) -> Self {
        let mut state = State::default();
        let mut all = vec![0];
        for event in &tape.events {
            state.see(event, round);
            all.push(state.open());
        }
        Windows(all)
    }

    /// Positions at which a window is open.
    pub fn positions(&self, window: Window) -> Vec<usize> {
        let all = self.0.iter().enumerate();
        all.filter(|(_, open)| **open & (1 << window as u32) != 0)
            .map(|(position, _)| position)
            .collect()
    }

    /// The windows that are open at a position, a bit for each.
    pub fn at(&self, position: usize) -> u32 {
        self.0.get(position).copied().unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    caches: [Cache; 2],
    /// Snapshots of the origin, and of snapshots, that are being created.
    creating: Option<bool>,
    deleting: bool,
    /// A create, or a delete, has ended, and its disk was not flushed since.
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
                    (Disk::Store, Kind::Log) => self.wrapped |= !self.log.insert(*at),
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
                    Disk::Store => self.deleted = false,
                }
                let covered = cache.ended.iter().map(|(write, _)| *write).collect();
                cache.flushes.insert(*request, covered);
            }
            Event::End { request } => self.caches.iter_mut().for_each(|c| c.end(*request)),
            Event::Note(note) => match note {
                Note::Creating { parent, .. } => self.creating = Some(parent.is_some()),
                Note::Cut { .. } => self.created = self.creating == Some(false),
                Note::Created { .. } | Note::NotCreated { .. } => self.creating = None,
                Note::Deleting { .. } => self.deleting = true,
                Note::Deleted { .. } => {
                    (self.deleting, self.deleted, self.full) = (false, true, false);
                }
                Note::Restarting => self.restarting = true,
                Note::Restarted => self.restarting = false,
                Note::Full => self.full = true,
                _ => (),
            },
        }
    }

    fn open(&self) -> u32 {
        let [origin, store] = &self.caches;
        let log = store.flying(Kind::Log) || store.cached(Kind::Log);
        let nodes = store.flying(Kind::Node) || store.cached(Kind::Node);
        let checkpoint = store.flying(Kind::Checkpoint) || store.cached(Kind::Checkpoint);
        let data = store.cached(Kind::Data);
        let mut open = 0;
        let mut set = |window, yes: bool| open |= u32::from(yes) << window as u32;
        set(Window::Copying, store.flying(Kind::Data));
        set(Window::Copied, data && !log && store.flushes.is_empty());
        set(Window::Preflush, data && !log && !store.flushes.is_empty());
        set(Window::LogFlying, store.flying(Kind::Log));
        set(Window::LogCached, store.cached(Kind::Log));
        set(Window::OriginFlying, origin.flying(Kind::Data));
        set(Window::OriginCached, origin.cached(Kind::Data));
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
        let windows = Windows::new(&tape, 1);
        assert_eq!(windows.positions(Window::Copying), [1]);
        assert_eq!(windows.positions(Window::Copied), [2]);
        assert_eq!(windows.positions(Window::Preflush), [3]);
        assert_eq!(windows.positions(Window::LogFlying), [5, 9]);
        assert_eq!(windows.positions(Window::LogCached), [6, 7]);
        assert_eq!(windows.positions(Window::Wrapped), [9]);
        assert_eq!(windows.at(8), 0);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A machine whose outside does nothing by itself: each test says what ends, and how.

use super::super::powercut::{
    blocks::Shared,
    disk::Disk,
    model_store::{Faults, History, ModelStore, Sizes},
};
use crate::engine::order::{
    grace::{Generation, Grace, Ticket},
    Control, Copied, Fifo, Machine, Mode, Op, Place, Request, Timer, Users, World,
};
use crate::store::{
    CheckpointWrite, Chunk, Dest, Identity, LogWrite, SnapId, Source, Who, NAME_LEN,
};
use kernel::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{atomic::AtomicU32, Arc};
use std::vec::Vec;

/// A bio: its number, and how often it was tried.
#[derive(Debug)]
pub(super) struct Bio(usize, u8);

/// A queue of bios.
#[derive(Default)]
pub(super) struct Bios(VecDeque<Bio>);

impl Fifo for Bios {
    type Item = Bio;

    fn push(&mut self, bio: Bio) {
        self.0.push_back(bio);
    }

    fn push_front(&mut self, bio: Bio) {
        self.0.push_front(bio);
    }

    fn pop(&mut self) -> Option<Bio> {
        self.0.pop_front()
    }

    fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A copy that is under way.
pub(super) struct Copy {
    pub(super) chunk: Chunk,
    pub(super) from: Source,
    pub(super) dests: Vec<Dest>,
}

/// What is under way, and what has come of the rest.
#[derive(Default)]
pub(super) struct Desk {
    requests: Vec<Request>,
    /// How each bio ended.
    pub(super) ended: BTreeMap<usize, Result>,
    /// Bios on the origin.
    origin: Vec<Bio>,
    /// Snapshot reads on the origin.
    origin_reads: Vec<(Bio, Generation)>,
    /// Snapshot bios on the store.
    store: Vec<(Bio, Generation, Dest)>,
    pub(super) overwrites: BTreeMap<usize, (Bio, Generation, Dest)>,
    flushes: Vec<Bio>,
    pub(super) copies: BTreeMap<usize, Copy>,
    pub(super) log: Option<LogWrite>,
    pub(super) checkpoint: Option<CheckpointWrite>,
    /// Tries of the store that have not ended.
    pub(super) probes: usize,
    pub(super) last_word: Option<CheckpointWrite>,
    /// Times that all was lost.
    pub(super) losses: usize,
    pub(super) preserved: Vec<Chunk>,
    /// Where chunks of snapshots are.
    pub(super) known: BTreeMap<(u64, u64), Place>,
    pub(super) cuts: Vec<SnapId>,
    pub(super) gone: Vec<SnapId>,
    /// The time asked for, by timer.
    pub(super) later: BTreeMap<usize, u32>,
    pub(super) control: Vec<Result<Option<SnapId>>>,
    pub(super) modes: Vec<Mode>,
    grace: [Grace; 2],
    /// A grace period is over.
    look: bool,
    /// Something is there that the machine has not been told of.
    pub(super) wanted: bool,
    /// Bios have come.
    pub(super) used: bool,
}

impl World for Desk {
    type Bio = Bio;
    type Bios = Bios;

    fn request(&self, bio: &Bio) -> Request {
        self.requests[bio.0]
    }

    fn tried(&mut self, bio: &mut Bio) -> u8 {
        bio.1 += 1;
        bio.1
    }

    fn to_origin(&mut self, bio: Bio) {
        self.origin.push(bio);
    }

    fn read_origin(&mut self, bio: Bio) {
        let generation = self.enter(Users::OriginReads);
        self.origin_reads.push((bio, generation));
    }

    fn to_store(&mut self, bio: Bio, dest: Dest) {
        let generation = self.enter(Users::StoreChunks);
        self.store.push((bio, generation, dest));
    }

    fn overwrite(&mut self, slot: usize, bio: Bio, dest: Dest) {
        let generation = self.enter(Users::StoreChunks);
        let old = self.overwrites.insert(slot, (bio, generation, dest));
        assert!(old.is_none(), "slot in use");
    }

    fn flush_store(&mut self, bio: Bio) {
        self.flushes.push(bio);
    }

    fn end_zeroed(&mut self, bio: Bio) {
        self.end(bio, Ok(()));
    }

    fn end(&mut self, bio: Bio, result: Result) {
        let old = self.ended.insert(bio.0, result);
        assert!(old.is_none(), "bio {} ended twice", bio.0);
    }

    fn copy(&mut self, slot: usize, chunk: Chunk, from: Source, dests: &[Dest]) {
        assert_ne!(from, Source::Lost);
        let dests = dests.to_vec();
        let old = self.copies.insert(slot, Copy { chunk, from, dests });
        assert!(old.is_none(), "slot in use");
    }

    fn write_log(&mut self, write: LogWrite) {
        assert!(self.log.replace(write).is_none(), "two log writes");
    }

    fn write_checkpoint(&mut self, write: CheckpointWrite) {
        assert!(self.checkpoint.replace(write).is_none(), "two checkpoints");
    }

    fn probe_store(&mut self) {
        self.probes += 1;
    }

    fn write_last_word(&mut self, write: CheckpointWrite) {
        assert!(self.checkpoint.is_none() && self.last_word.replace(write).is_none());
    }

    fn all_lost(&mut self) {
        self.losses += 1;
    }

    fn learn(&mut self, chunk: Chunk, id: SnapId, place: Place) {
        self.known.insert((chunk.0, id.0), place);
    }

    fn forget(&mut self, chunk: Chunk) {
        self.known.retain(|&(of, _), _| of != chunk.0);
    }

    fn forget_all(&mut self) {
        self.known.clear();
    }

    fn preserved(&mut self, chunk: Chunk) {
        self.preserved.push(chunk);
    }

    fn cut(&mut self, id: SnapId) {
        self.cuts.push(id);
    }

    fn gone(&mut self, id: SnapId) {
        self.gone.push(id);
    }

    fn enter(&mut self, users: Users) -> Generation {
        self.grace[users as usize].enter()
    }

    fn leave(&mut self, users: Users, generation: Generation) {
        self.look |= self.grace[users as usize].leave(generation);
    }

    fn ask(&mut self, users: Users) -> Ticket {
        self.grace[users as usize].ask()
    }

    fn passed(&mut self, users: Users, ticket: Ticket) -> bool {
        self.grace[users as usize].passed(ticket)
    }

    fn later(&mut self, timer: Timer, ms: u32) {
        let old = self.later.entry(timer as usize).or_insert(ms);
        *old = ms.min(*old);
    }

    fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.used)
    }

    fn is_wanted(&self) -> bool {
        self.wanted
    }

    fn control_done(&mut self, result: Result<Option<SnapId>>) {
        self.control.push(result);
    }

    fn mode_changed(&mut self, mode: Mode, _why: Error) {
        self.modes.push(mode);
    }
}

/// Where a bio is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// With the machine.
    Machine,
    /// On the origin.
    Origin,
    /// On this chunk of the store.
    Store(Dest),
    /// A flush of the store.
    Flush,
    /// Ended.
    Done(Result),
}

/// A machine on its desk.
pub(super) struct Bench {
    pub(super) desk: Desk,
    pub(super) machine: Machine<Desk>,
    pub(super) faults: Faults,
    /// Steps that the sweep has left.
    pub(super) sweep_left: Arc<AtomicU32>,
}

/// A machine that runs on a store with room for `data_chunks` chunks.
pub(super) fn bench_of(preserve_on_error: bool, data_chunks: u64) -> Bench {
    let mut bench = bench_on(preserve_on_error, data_chunks, |_| ());
    // There is nothing to sweep, which it sees at its first step.
    bench.run();
    bench.timer();
    assert!(bench.desk.later.is_empty());
    bench
}

/// A machine that has not run yet, on a store to which `before` was done.
pub(super) fn bench_on(
    preserve_on_error: bool,
    data_chunks: u64,
    before: impl FnOnce(&mut ModelStore),
) -> Bench {
    let sizes = Sizes {
        chunk_sectors: 8,
        origin_sectors: 800,
        data_chunks,
        log_len: 64,
        batch: 40,
    };
    let history = History::default();
    let shared = Shared::new(Disk::new(sizes.store_sectors()), 1);
    ModelStore::format(&shared, &history);
    let mut store = ModelStore::open(&shared, sizes, &history).unwrap();
    before(&mut store);
    let (faults, sweep_left) = (store.faults.clone(), store.sweep_left.clone());
    let machine = Machine::new(Box::new(store), preserve_on_error, Mode::Rw).unwrap();
    Bench {
        desk: Desk::default(),
        machine,
        faults,
        sweep_left,
    }
}

/// A machine on a store with plenty of room, and this many snapshots.
pub(super) fn bench(snapshots: u32) -> Bench {
    let mut bench = bench_of(true, 100);
    bench.create(snapshots);
    bench
}

/// Snapshot `n`.
pub(super) fn snap(n: u32) -> Who {
    Who::Snapshot(SnapId::top(n))
}

impl Bench {
    /// Cuts this many snapshots.
    pub(super) fn create(&mut self, snapshots: u32) {
        for _ in 0..snapshots {
            self.begin_create();
            self.end_log(Ok(()));
            assert!(matches!(self.desk.control.pop(), Some(Ok(Some(_)))));
        }
    }

    /// Asks for a snapshot.
    pub(super) fn begin_create(&mut self) {
        self.control(Control::Create {
            parent: None,
            id: None,
            created: 1,
            name: [0; NAME_LEN],
        });
    }

    /// Lets the machine do what it can.
    pub(super) fn run(&mut self) {
        self.desk.look = false;
        self.machine.run(&mut self.desk);
    }

    /// Gives a bio to the machine, and returns its number.
    pub(super) fn submit(&mut self, who: Who, op: Op, chunk: u64, whole: bool, fua: bool) -> usize {
        let n = self.desk.requests.len();
        self.desk.requests.push(Request {
            who,
            op,
            chunk: Chunk(chunk),
            whole,
            fua,
        });
        let mut bios = Bios::default();
        bios.push(Bio(n, 0));
        match op {
            Op::Read => self.machine.read(&mut bios),
            _ => self.machine.write(&mut bios),
        }
        n
    }

    /// An origin write.
    pub(super) fn write(&mut self, chunk: u64) -> usize {
        let n = self.submit(Who::Origin, Op::Write, chunk, false, false);
        self.run();
        n
    }

    /// A snapshot write of a part of a chunk.
    pub(super) fn write_part(&mut self, who: Who, chunk: u64) -> usize {
        let n = self.submit(who, Op::Write, chunk, false, false);
        self.run();
        n
    }

    /// A snapshot write of a whole chunk.
    pub(super) fn write_whole(&mut self, who: Who, chunk: u64) -> usize {
        let n = self.submit(who, Op::Write, chunk, true, false);
        self.run();
        n
    }

    /// A snapshot read.
    pub(super) fn read(&mut self, who: Who, chunk: u64) -> usize {
        let n = self.submit(who, Op::Read, chunk, false, false);
        self.run();
        n
    }

    /// A snapshot flush.
    pub(super) fn flush(&mut self, who: Who) -> usize {
        let n = self.submit(who, Op::Flush, 0, false, false);
        self.run();
        n
    }

    /// A command.
    pub(super) fn control(&mut self, control: Control) {
        self.machine.control(control).unwrap();
        self.run();
    }

    /// A clean stop.
    pub(super) fn close(&mut self) {
        let clean = Some(Box::new(Identity { digests: [3; 64] }));
        self.control(Control::Close { clean });
    }

    /// Where bio `n` is.
    pub(super) fn at(&self, n: usize) -> At {
        let desk = &self.desk;
        if let Some(result) = desk.ended.get(&n) {
            return At::Done(*result);
        }
        if let Some((.., dest)) = desk.store.iter().find(|(bio, ..)| bio.0 == n) {
            return At::Store(*dest);
        }
        if let Some((.., dest)) = desk.overwrites.values().find(|(bio, ..)| bio.0 == n) {
            return At::Store(*dest);
        }
        let mut origin = desk.origin.iter();
        if origin.any(|bio| bio.0 == n) || desk.origin_reads.iter().any(|(bio, _)| bio.0 == n) {
            return At::Origin;
        }
        match desk.flushes.iter().any(|bio| bio.0 == n) {
            true => At::Flush,
            false => At::Machine,
        }
    }

    /// Whether bio `n` has ended well.
    pub(super) fn is_good(&self, n: usize) -> bool {
        self.at(n) == At::Done(Ok(()))
    }

    /// What is under way for bio `n` ends; the machine looks if it must.
    pub(super) fn end_bio(&mut self, n: usize) {
        let desk = &mut self.desk;
        if let Some(i) = desk.origin.iter().position(|bio| bio.0 == n) {
            let bio = desk.origin.swap_remove(i);
            desk.end(bio, Ok(()));
        } else if let Some(i) = desk.flushes.iter().position(|bio| bio.0 == n) {
            let bio = desk.flushes.swap_remove(i);
            desk.end(bio, Ok(()));
        } else if let Some(i) = desk.origin_reads.iter().position(|(bio, _)| bio.0 == n) {
            let (bio, generation) = desk.origin_reads.swap_remove(i);
            desk.end(bio, Ok(()));
            desk.leave(Users::OriginReads, generation);
        } else if let Some(i) = desk.store.iter().position(|(bio, ..)| bio.0 == n) {
            let (bio, generation, _) = desk.store.swap_remove(i);
            desk.end(bio, Ok(()));
            desk.leave(Users::StoreChunks, generation);
        } else {
            panic!("bio {n} is {:?}", self.at(n));
        }
        if self.desk.look {
            self.run();
        }
    }

    /// The oldest copy ends.
    pub(super) fn end_copy(&mut self, copied: Copied) {
        let slot = *self.desk.copies.keys().next().expect("no copy");
        self.desk.copies.remove(&slot);
        self.machine.copied(&mut self.desk, slot, copied);
        self.run();
    }

    /// The oldest overwrite ends.
    pub(super) fn end_overwrite(&mut self, result: Result) {
        let slot = *self.desk.overwrites.keys().next().expect("no overwrite");
        let (bio, generation, _) = self.desk.overwrites.remove(&slot).unwrap();
        self.desk.leave(Users::StoreChunks, generation);
        self.machine.overwritten(&mut self.desk, slot, bio, result);
        self.run();
    }

    /// The log write ends.
    pub(super) fn end_log(&mut self, result: Result) {
        let write = self.desk.log.take().expect("no log write");
        self.machine.log_written(&mut self.desk, write, result);
        self.run();
    }

    /// The checkpoint ends.
    pub(super) fn end_checkpoint(&mut self, result: Result) {
        let write = self.desk.checkpoint.take().expect("no checkpoint");
        self.machine
            .checkpoint_written(&mut self.desk, write, result);
        self.run();
    }

    /// The store was tried.
    pub(super) fn end_probe(&mut self, result: Result) {
        assert_eq!(self.desk.probes, 1, "no probe");
        self.desk.probes = 0;
        self.machine.probed(&mut self.desk, result);
        self.run();
    }

    /// The last word has been written.
    pub(super) fn end_last_word(&mut self, result: Result) {
        let write = self.desk.last_word.take().expect("no last word");
        self.machine
            .checkpoint_written(&mut self.desk, write, result);
        self.run();
    }

    /// The shortest time is over.
    pub(super) fn timer(&mut self) {
        let timers = self.desk.later.iter();
        let (&first, _) = timers.min_by_key(|(_, ms)| **ms).expect("no timer");
        self.desk.later.remove(&first);
        self.machine.timer(Timer::ALL[first]);
        self.run();
    }

    /// Numbers of bios that are on a device, or being flushed.
    pub(super) fn under_way(&self) -> Vec<usize> {
        let desk = &self.desk;
        let mut all: Vec<usize> = desk.origin.iter().map(|bio| bio.0).collect();
        all.extend(desk.flushes.iter().map(|bio| bio.0));
        all.extend(desk.origin_reads.iter().map(|(bio, _)| bio.0));
        all.extend(desk.store.iter().map(|(bio, ..)| bio.0));
        all
    }

    /// Ends all there is, well, until nothing is under way.
    pub(super) fn finish(&mut self) {
        // What was submitted last may not have been looked at.
        self.run();
        for _ in 0..10_000 {
            if let Some(n) = self.under_way().first() {
                self.end_bio(*n);
            } else if !self.desk.copies.is_empty() {
                self.end_copy(Copied::Good);
            } else if !self.desk.overwrites.is_empty() {
                self.end_overwrite(Ok(()));
            } else if self.desk.log.is_some() {
                self.end_log(Ok(()));
            } else if self.desk.checkpoint.is_some() {
                self.end_checkpoint(Ok(()));
            } else if self.desk.probes > 0 {
                self.end_probe(Ok(()));
            } else if self.desk.last_word.is_some() {
                self.end_last_word(Ok(()));
            } else if !self.desk.later.is_empty() {
                self.timer();
            } else {
                return;
            }
        }
        panic!(
            "never comes to rest: mode {:?}, open {:?}",
            self.machine.mode(),
            self.open()
        );
    }

    /// Bios that have not ended.
    pub(super) fn open(&self) -> Vec<usize> {
        let all = 0..self.desk.requests.len();
        all.filter(|n| !self.desk.ended.contains_key(n)).collect()
    }
}

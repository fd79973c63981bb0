// SPDX-License-Identifier: GPL-2.0

//! The simulator: two devices, and all that is under way on them, as the machine's [`World`].
//!
//! What the machine asks for becomes an [`Event`] that goes on step by step, in random order
//! with all others; what comes of it waits in the inbox until the worker looks.

use super::{
    bios::{Bio, BioInfo},
    blocks::Shared,
    disk::{Content, Disk, WriteId},
    oracle::{content_of, Mark, Oracle},
    rng::Rng,
};
use crate::engine::order::{
    grace::{Generation, Grace, Ticket},
    Control, Copied, Known, Mode, Op, Place, Timer, Users,
};
use crate::store::{
    blocks::Block, CheckpointWrite, Chunk, Dest, Geometry, LogWrite, SnapId, Source,
};
use kernel::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::vec::Vec;

/// Rules that can be switched off, to see that this is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// All rules hold.
    #[default]
    None,
    /// The origin is not flushed before a create.
    NoOriginFlush,
    /// The log write does not flush the copies before it.
    NoPreflush,
    /// The log write is not FUA.
    NoLogFua,
    /// Older reads of the origin are not waited for.
    ReadersPass,
    /// Users of freed chunks are not waited for.
    UsersPass,
    /// Nor is the record that frees them: they are used again when it is on its way.
    EarlyReuse,
    /// Replay takes tree nodes from where data may be, not from what is metadata's own.
    ReplayAnywhere,
    /// The log write is called durable when it is issued.
    EarlyLog,
    /// A copy is called done before it is.
    EarlyCopy,
    /// The checkpoint's block does not wait for the flush of the dirty blocks.
    NoCheckpointFlush,
    /// The checkpoint's block does not wait for the dirty blocks.
    EarlyCheckpoint,
    /// What was preserved before a create counts after it.
    StaleFastPath,
    /// A snapshot's flush does not flush the store.
    NoStoreFlush,
    /// A discard of the origin is passed down without a look.
    BlindDiscard,
    /// What was learned of a chunk is not forgotten with its record.
    StaleKnown,
    /// Nor is all of it, when a snapshot is cut of a snapshot or all is lost.
    KeptKnown,
    /// The origin is taken out, and nothing says so.
    SilentOut,
}

/// A copy on its way.
pub(crate) enum CopyStage {
    /// Nothing done yet.
    Planned,
    /// The source was read.
    Read(Vec<Content>),
    /// The destinations are being written.
    Writing(Vec<WriteId>),
}

/// Something that goes on by itself.
pub(crate) enum Event {
    /// A write of the origin.
    OriginWrite(Bio, WriteId),
    /// A flush of the origin by its user.
    OriginFlush(Bio, u64),
    /// The flush of the origin in a suspend.
    SuspendFlush(u64),
    /// A snapshot read: sector, users, and what was read.
    Read(Bio, Users, Generation, u64, Option<Vec<Content>>),
    /// A snapshot write in place.
    StoreWrite(Bio, Generation, WriteId),
    /// A write that brings a whole chunk.
    Overwrite(usize, Bio, Generation, WriteId),
    /// An empty flush of the store.
    StoreFlush(Bio, u64),
    /// A copy.
    Copy(usize, Chunk, Source, Vec<Dest>, CopyStage),
    /// The flush before a log write; the flag says that the machine was told already.
    LogFlush(LogWrite, u64, bool),
    /// The blocks of a log write.
    LogBlocks(LogWrite, WriteId, bool),
    /// A dirty metadata block.
    DirtyWrite(u64, WriteId),
    /// The flush before a checkpoint.
    CheckpointFlush(u64),
    /// A checkpoint's block.
    CheckpointBlock(WriteId),
}

impl Event {
    /// A number for its kind.
    pub(crate) fn class(&self) -> usize {
        match self {
            Event::OriginWrite(..) => 0,
            Event::OriginFlush(..) | Event::SuspendFlush(_) => 1,
            Event::Read(_, Users::OriginReads, ..) => 2,
            Event::Read(..) => 3,
            Event::StoreWrite(..) => 4,
            Event::Overwrite(..) => 5,
            Event::StoreFlush(..) => 6,
            Event::Copy(..) => 7,
            Event::LogFlush(..) => 8,
            Event::LogBlocks(..) => 9,
            Event::DirtyWrite(..) => 10,
            Event::CheckpointFlush(_) | Event::CheckpointBlock(_) => 11,
        }
    }
}

/// Kinds of events.
pub(crate) const CLASSES: usize = 12;

/// What the worker will be told.
pub(crate) enum Told {
    /// A snapshot read has arrived.
    Read(Bio),
    /// Another bio has arrived.
    Write(Bio),
    /// A copy has ended.
    Copied(usize, Copied),
    /// An overwrite has ended.
    Overwritten(usize, Bio, Result),
    /// The log write has ended.
    Log(LogWrite, Result),
    /// The checkpoint has been written.
    Checkpoint(Result),
    /// The store was tried.
    Probed(Result),
    /// A command has arrived.
    Control(Control),
}

/// A checkpoint on its way.
pub(crate) struct Checkpoint {
    pub(crate) write: CheckpointWrite,
    /// Blocks that must be on the disk before the flush.
    pub(crate) todo: Vec<u64>,
    /// The flush, or the block, is on its way.
    pub(crate) flushing: bool,
    /// It says what was lost.
    pub(crate) says: bool,
}

/// The outside of the machine.
pub(crate) struct Sim {
    pub(crate) rng: Rng,
    pub(crate) mutation: Mutation,
    pub(crate) origin: Disk,
    pub(crate) store: Shared,
    pub(crate) geometry: Geometry,
    pub(crate) bios: Vec<BioInfo>,
    pub(crate) reads_active: Vec<usize>,
    /// Bios of the origin, and of snapshots, that have not ended.
    pub(crate) origin_busy: usize,
    pub(crate) snap_busy: usize,
    pub(crate) events: Vec<Event>,
    /// Events of this kind are slow just now.
    pub(super) slow: usize,
    /// Mostly it is log writes.
    pub(crate) slow_log: bool,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) inbox: VecDeque<Told>,
    /// The worker must look though the inbox may be empty.
    pub(crate) look: bool,
    pub(crate) timers: [bool; Timer::KINDS],
    pub(super) grace: [Grace; 2],
    pub(super) last_ask: Ticket,
    /// Log writes that ended while older reads were out.
    pub(crate) log_asks: Vec<Ticket>,
    /// Where chunks of snapshots are.
    pub(super) known: Known,
    /// The create generation in which each chunk was preserved.
    pub(super) preserved: Vec<u64>,
    pub(super) generation: u64,
    pub(crate) control_result: Option<Result<Option<SnapId>>>,
    /// The name of the next snapshot, as a number.
    pub(crate) next_name: u64,
    pub(crate) cut_id: Option<u64>,
    pub(crate) mode: Mode,
    /// Copies that cannot be made are losses, not errors.
    pub(crate) lossy: bool,
    /// One copy or overwrite of so many fails; 0: none.
    pub(crate) errors: usize,
    /// One log or checkpoint write of so many fails; 0: none.
    pub(crate) meta_errors: usize,
    /// One has failed: the store is out of order until the next load.
    pub(crate) broken: bool,
    /// It has come back from that.
    pub(crate) healed: bool,
    /// The last write of metadata that ended was a checkpoint that says what was lost.
    pub(crate) checkpointed: bool,
    /// The loss of all is in the log write to come.
    pub(crate) unsaid: bool,
    /// A last word was sent.
    pub(crate) last_word: bool,
    pub(crate) oracle: Oracle,
    /// Recorded destinations so far; one of them was written again.
    pub(crate) dests: BTreeSet<u64>,
    pub(crate) reused: bool,
    /// Chunks that writes were let through to; the store tells what has become of what was there.
    pub(crate) released: Vec<u64>,
    /// Those of them of which something may be lost or not.
    pub(crate) unsure: BTreeSet<u64>,
    /// Discards of snapshots that have ended; the store tells whether they were carried out.
    pub(crate) discarded: Vec<(u64, u64, Mark)>,
    /// A snapshot's chunk has become zero by a record that may not be durable.
    pub(crate) zeroed: bool,
    /// Deleted snapshots still have records.
    pub(crate) sweeping: bool,
    pub(crate) last_log_nr: u64,
    pub(crate) wrapped: bool,
    pub(crate) next_token: u64,
    /// A log write that the store is to take for durable, though it has just begun.
    pub(super) early: Option<LogWrite>,
    pub(crate) failure: Option<String>,
    pub(crate) trace: VecDeque<(&'static str, u64, u64)>,
    trace_len: usize,
}

/// Events that are printed when something is wrong: `MULTISNAP_TRACE`, or this.
const TRACE: usize = 80;

fn trace_len() -> usize {
    let text = std::env::var("MULTISNAP_TRACE").ok();
    text.and_then(|t| t.parse().ok()).unwrap_or(TRACE)
}

impl Sim {
    /// A simulator of these devices.
    pub(crate) fn new(rng: Rng, origin: Disk, store: Shared, oracle: Oracle) -> Self {
        let sectors = origin.len() as usize;
        Sim {
            rng,
            mutation: Mutation::None,
            origin,
            store,
            geometry: Geometry {
                chunk_sectors: 8,
                origin_sectors: sectors as u64,
                data_start: 0,
                data_chunks: 0,
            },
            bios: Vec::new(),
            reads_active: Vec::new(),
            origin_busy: 0,
            snap_busy: 0,
            events: Vec::new(),
            slow: 0,
            slow_log: false,
            checkpoint: None,
            inbox: VecDeque::new(),
            look: true,
            timers: [false; Timer::KINDS],
            grace: Default::default(),
            last_ask: Ticket::default(),
            log_asks: Vec::new(),
            known: Known::new(2).expect("memory"),
            preserved: vec![0; sectors],
            generation: 1,
            control_result: None,
            next_name: 1,
            cut_id: None,
            mode: Mode::Rw,
            lossy: false,
            errors: 0,
            meta_errors: 0,
            broken: false,
            healed: false,
            checkpointed: false,
            unsaid: false,
            last_word: false,
            oracle,
            dests: BTreeSet::new(),
            reused: false,
            released: Vec::new(),
            unsure: BTreeSet::new(),
            discarded: Vec::new(),
            zeroed: false,
            sweeping: false,
            last_log_nr: 0,
            wrapped: false,
            next_token: 1,
            early: None,
            failure: None,
            trace: VecDeque::new(),
            trace_len: trace_len(),
        }
    }

    /// Forgets all that does not survive a power cut.
    pub(crate) fn restart(&mut self, origin: Disk, store: Shared, geometry: Geometry) {
        let oracle = self.oracle.clone();
        let rng = Rng::new(self.rng.next());
        let mut new = Sim::new(rng, origin, store, oracle);
        new.mutation = self.mutation;
        new.geometry = geometry;
        new.next_name = self.next_name;
        new.next_token = self.next_token;
        new.dests = std::mem::take(&mut self.dests);
        new.reused = self.reused;
        new.wrapped = self.wrapped;
        new.lossy = self.lossy;
        new.slow_log = self.slow_log;
        new.errors = self.errors;
        new.meta_errors = self.meta_errors;
        new.failure = self.failure.take();
        new.trace = std::mem::take(&mut self.trace);
        new.note("restart", 0, 0);
        *self = new;
    }

    /// Remembers an event for the trace.
    pub(crate) fn note(&mut self, what: &'static str, a: u64, b: u64) {
        if self.trace.len() == self.trace_len {
            self.trace.pop_front();
        }
        self.trace.push_back((what, a, b));
    }

    /// An event to go on with. Some kind of them is slow for a while, then another: `None` if
    /// only such are there, mostly.
    pub(crate) fn choose(&mut self) -> Option<usize> {
        if self.rng.one_in(150) {
            self.slow = match self.slow_log && !self.rng.one_in(4) {
                true => 8 + self.rng.below(2),
                false => self.rng.below(CLASSES * 2),
            };
        }
        // Half of the time it is reads, which so much depends on.
        let slow = match self.slow.checked_sub(CLASSES) {
            Some(n) => 2 + n % 2,
            None => self.slow,
        };
        let quick: Vec<usize> = (0..self.events.len())
            .filter(|n| self.events[*n].class() != slow)
            .collect();
        match quick.len() {
            _ if self.rng.one_in(40) => Some(self.rng.below(self.events.len())),
            0 => None,
            n => Some(quick[self.rng.below(n)]),
        }
    }

    /// Something is wrong.
    pub(crate) fn wrong(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// Sectors in a chunk.
    pub(crate) fn chunk(&self) -> u64 {
        u64::from(self.geometry.chunk_sectors)
    }

    /// Sectors of a chunk of the origin; the last one may be short.
    pub(crate) fn chunk_len(&self, chunk: u64) -> u64 {
        let start = chunk * self.chunk();
        self.chunk().min(self.origin.len() - start)
    }

    /// First sector of a chunk of the store.
    pub(crate) fn dest_sector(&self, dest: Dest) -> u64 {
        assert!(dest.0 < self.geometry.data_chunks, "no such destination");
        self.geometry.data_start + dest.0 * self.chunk()
    }

    /// Whether it is known where a snapshot's chunk is, so that it can be read or written at once.
    pub(crate) fn is_known(&self, chunk: u64, id: u64, op: Op) -> bool {
        match self.known.look(Chunk(chunk), SnapId(id)) {
            Some(Place::Own(_)) => true,
            Some(_) => op == Op::Read,
            None => false,
        }
    }

    /// Whether an origin write to `chunk` needs no look by the machine.
    pub(crate) fn is_preserved(&self, chunk: u64) -> bool {
        let at = self.preserved[chunk as usize];
        at == self.generation || (self.mutation == Mutation::StaleFastPath && at > 0)
    }

    /// Whether this many users are counted.
    pub(crate) fn running(&self, users: Users) -> u64 {
        self.grace[users as usize].running()
    }

    /// Whether an older read of the origin keeps a durable log write from letting go.
    pub(crate) fn readers_hold(&mut self) -> bool {
        let grace = &self.grace[Users::OriginReads as usize];
        self.log_asks.retain(|ticket| !grace.passed(*ticket));
        !self.log_asks.is_empty()
    }

    pub(super) fn data(&self, bio: &Bio) -> Vec<Content> {
        let tokens = &self.bios[bio.0].tokens;
        let content = |t: &u64| Content::Token(content_of(*t));
        tokens.iter().map(content).collect()
    }

    /// An origin write to `chunk` may find the store full.
    pub(crate) fn allow_loss(&mut self, chunk: u64) {
        if self.lossy && self.mode == Mode::Full {
            self.lose(chunk);
        }
    }

    /// What a snapshot shares of the origin's `chunk` may be lost.
    pub(crate) fn lose(&mut self, chunk: u64) {
        self.oracle.lose(chunk, false);
    }

    /// What snapshots share of the origin may be lost.
    pub(super) fn lose_all(&mut self) {
        let chunks = self.origin.len().div_ceil(self.chunk());
        for chunk in 0..chunks {
            self.oracle.lose(chunk, self.broken);
        }
    }

    /// How the copy of a chunk ends.
    pub(crate) fn copy_result(&mut self, chunk: u64, from: Source) -> Copied {
        if self.errors == 0 || !self.rng.one_in(self.errors) {
            return Copied::Good;
        }
        let copied = match self.rng.below(4) {
            0 => Copied::ReadError,
            1 => Copied::Gone,
            2 => Copied::WriteError(u32::MAX),
            _ => Copied::WriteError(self.rng.next() as u32),
        };
        self.note("copy failed", chunk, 0);
        let lost = match copied {
            Copied::Gone => false,
            Copied::ReadError => true,
            _ => self.lossy,
        };
        if from == Source::Origin && lost {
            self.lose(chunk);
        }
        copied
    }

    /// A destination is about to be filled.
    pub(super) fn fill(&mut self, dest: Dest) {
        if !self.dests.insert(dest.0) {
            self.reused = true;
        }
    }

    /// A read has brought `data`.
    pub(crate) fn end_read(&mut self, bio: Bio, data: &[Content]) {
        let info = &self.bios[bio.0];
        for (i, (content, allowed)) in data.iter().zip(&info.allowed).enumerate() {
            let good = content.token().is_some_and(|t| allowed.contains(&t));
            if !good {
                let what = format!(
                    "bio {:x}, snapshot {:x} chunk {} sector {}: read {:x?}, not one of {:x?}",
                    bio.0,
                    info.id.unwrap_or(0),
                    info.chunk,
                    info.first + i as u64,
                    content.token(),
                    allowed
                );
                return self.wrong(what);
            }
        }
        self.end_bio(bio, Ok(()));
    }

    /// A bio has ended.
    pub(crate) fn end_bio(&mut self, bio: Bio, result: Result) {
        let n = bio.0;
        self.note(
            if result.is_ok() { "end" } else { "end, failed" },
            n as u64,
            0,
        );
        let info = &mut self.bios[n];
        if std::mem::replace(&mut info.ended, true) {
            return self.wrong(format!("bio {n} ended twice"));
        }
        let (id, chunk, first) = (info.id, info.chunk, info.first);
        let (op, fua, whole, passed) = (info.op, info.fua, info.whole, info.passed);
        let tokens = std::mem::take(&mut info.tokens);
        let mark = std::mem::take(&mut info.mark);
        info.allowed.clear();
        match id {
            None => self.origin_busy -= 1,
            Some(_) => self.snap_busy -= 1,
        }
        if op == Op::Read {
            self.reads_active.retain(|read| *read != n);
        }
        let start = chunk * self.chunk() + first;
        let Some(cells) = self.oracle.cells(id) else {
            return;
        };
        // What was under way when the store broke may have been done.
        let in_doubt = self.broken && id.is_some() && result.is_err();
        let written: Vec<_> = (start..).zip(tokens).collect();
        if op == Op::Discard && id.is_none() {
            for (sector, token) in &written {
                cells.end(*sector, *token, passed && result.is_ok());
            }
        }
        if let (Op::Discard, Some(id), Ok(())) = (op, id, result) {
            self.discarded.push((id, chunk, written));
            return;
        }
        if matches!(op, Op::Write | Op::Zero) && !in_doubt {
            self.zeroed |= op == Op::Zero && whole && id.is_some();
            for (sector, token) in &written {
                cells.end(*sector, *token, result.is_ok());
            }
            if fua && result.is_ok() {
                cells.harden(&written);
            }
        }
        if op == Op::Flush && result.is_ok() {
            cells.harden(&mark);
        }
        let written = matches!(op, Op::Write | Op::Zero) && result.is_ok();
        let snap = id.filter(|_| written);
        if let Some(snap) = snap.and_then(|id| self.oracle.snaps.get_mut(&id)) {
            snap.own.insert(chunk);
        }
        match result {
            Err(e) if !self.broken => self.check_error(n, e),
            _ => {}
        }
    }

    /// Ends a write of metadata.
    pub(crate) fn end_meta(&mut self, id: WriteId) -> Result {
        let mut device = self.store.lock();
        if self.meta_errors > 0 && self.rng.one_in(self.meta_errors) {
            device.disk.fail(id, &mut self.rng);
            self.broken = true;
            return Err(EIO);
        }
        device.disk.complete(id);
        Ok(())
    }

    /// What went on in mode `fail` is known to be lost.
    pub(super) fn said(&mut self) {
        self.unsaid = false;
        for snap in self.oracle.snaps.values_mut() {
            snap.exposed.clear();
        }
    }

    /// Errors are right only where the store was full or content may be lost.
    fn check_error(&mut self, n: usize, e: Error) {
        let info = &self.bios[n];
        let write = matches!(info.op, Op::Write | Op::Zero);
        let full = write && e == ENOSPC && self.mode == Mode::Full;
        let failed = write && e == EIO && self.errors > 0;
        let lost = !matches!(info.op, Op::Flush | Op::Discard)
            && e == EIO
            && info
                .id
                .and_then(|id| self.oracle.snaps.get(&id))
                .is_some_and(|snap| {
                    snap.lost.contains(&info.chunk) && !snap.own.contains(&info.chunk)
                });
        if !full && !failed && !lost {
            let what = format!(
                "bio {n} ({:?} of {:x?} chunk {}) failed: {e:?}",
                info.op, info.id, info.chunk
            );
            self.wrong(what);
        }
    }

    /// Issues the log write itself, behind its flush.
    pub(crate) fn issue_log(&mut self, write: LogWrite, told: bool) {
        let fua = self.mutation != Mutation::NoLogFua;
        let blocks: &[Block] = &write.buf[..write.count];
        let id = self.store.lock().disk.submit_blocks(write.nr, blocks, fua);
        self.note("log blocks", write.seq, write.count as u64);
        self.events.push(Event::LogBlocks(write, id, told));
    }
}

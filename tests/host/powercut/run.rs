// SPDX-License-Identifier: GPL-2.0

//! One life of a store: from a load to a clean stop or a power cut.
//!
//! Issues bios and commands at random, lets events go on at random, and lets the worker look
//! when something is there for it, exactly then.

use super::{
    bios::{Bio, BioInfo, Bios},
    oracle::{content_of, Snap, ZERO},
    sim::{Event, Mutation, Sim, Told},
    Config,
};
use crate::engine::order::{Control, Fifo, Machine, Mode, Op, Place, Timer, Users, World};
use crate::store::{Chunk, ExceptionStore, Found, Identity, SnapId, Value, NAME_LEN};
use kernel::prelude::*;
use std::vec::Vec;

/// What the commands are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// None is under way.
    Idle,
    /// The origin is being suspended for a create.
    Draining,
    /// The origin is being flushed.
    Flushing,
    /// The origin is suspended for a growth, whose record the machine was asked for then.
    GrowDraining,
    /// See `GrowDraining`.
    Growing,
    /// The machine was asked to create.
    Creating,
    /// The machine was asked for this snapshot's new name.
    Naming(u64),
    /// The machine was asked for a checkpoint.
    Checkpointing,
    /// The machine was asked to delete this snapshot.
    Deleting(u64),
    /// The device is being removed: waiting for all bios, flushing, asked to close.
    Stopping,
    /// See `Stopping`.
    StopFlush,
    /// See `Stopping`.
    Closing,
    /// It is removed.
    Closed,
    /// The origin is to be taken out: waiting for its bios, asked for the loss of all.
    Leaving,
    /// See `Leaving`.
    Letting,
    /// Others write the origin, so many times more.
    Out(usize),
}

/// A running store.
pub(crate) struct Run {
    pub(crate) sim: Sim,
    pub(crate) machine: Machine<Sim>,
    pub(crate) command: Command,
    /// Operations that are still to be issued.
    pub(crate) budget: usize,
    /// The number that was asked for with a create.
    pub(super) named: Option<SnapId>,
    /// Snapshots of snapshots are cut.
    subs: bool,
}

/// A snapshot's name as bytes.
pub(crate) fn name_of(n: u64) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    let text = format!("snap{n}");
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

impl Run {
    /// Begins a life with a store that was just opened.
    pub(crate) fn new(sim: Sim, mut store: KBox<dyn ExceptionStore>, config: &Config) -> Self {
        if config.depth % 2 == 0 {
            // Little memory for metadata: changes wait for checkpoints.
            store.set_cache(4, 24).expect("memory");
        }
        let mut machine = Machine::new(store, config.preserve_on_error, Mode::Rw).expect("memory");
        machine.set_preserve_on_error(config.preserve_on_error);
        machine.set_discard_copy(config.discard_copy);
        let mut run = Run {
            sim,
            machine,
            command: Command::Idle,
            budget: config.operations,
            named: None,
            subs: config.subs,
        };
        if config.grows {
            // As at each load: the devices may be larger than what is recorded.
            run.record_sizes();
        }
        run
    }

    /// One step of something. `false` if nothing is left to do.
    pub(crate) fn step(&mut self, config: &Config) -> bool {
        let worker = self.sim.look || !self.sim.inbox.is_empty();
        let events = self.sim.events.len();
        match self.sim.rng.below(100) {
            0..25 if worker => self.work(),
            25..45 if self.budget > 0 && self.may_issue(config) => self.issue(config),
            45..50 => self.command(config),
            50..52 if events > 0 => self.sim.write_back(),
            52..53 => self.sim.store.lock().evict(),
            53..54 if self.sim.timers.contains(&true) => self.timer(),
            56..60 if self.sim.advance_checkpoint() => {}
            _ if events > 0 => match self.sim.choose() {
                Some(n) => self.sim.advance(n),
                None if worker => self.work(),
                None if self.budget > 0 && self.may_issue(config) => self.issue(config),
                None => self.sim.advance(0),
            },
            _ if worker => self.work(),
            _ if self.sim.advance_checkpoint() => {}
            _ if self.budget > 0 && self.may_issue(config) => self.issue(config),
            _ if self.sim.timers.contains(&true) => self.timer(),
            _ => {
                let before = self.command;
                self.command(config);
                return self.command != before || !self.sim.inbox.is_empty();
            }
        }
        true
    }

    fn may_issue(&self, config: &Config) -> bool {
        let busy = self.sim.origin_busy + self.sim.snap_busy;
        busy < config.depth && !self.is_stopping()
    }

    /// Whether the end of this life has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        use Command::*;
        matches!(self.command, Stopping | StopFlush | Closing | Closed)
    }

    fn timer(&mut self) {
        for timer in Timer::ALL {
            if std::mem::take(&mut self.sim.timers[timer as usize]) {
                self.machine.timer(timer);
            }
        }
        self.run();
    }

    fn run(&mut self) {
        self.machine.run(&mut self.sim);
        if let Some(write) = self.sim.early.take() {
            self.machine.store().sealed(write, Ok(()));
        }
        self.see_discarded();
        self.see_released();
    }

    /// Looks which discards of snapshots were carried out. Nothing else of their chunks can have
    /// happened since.
    fn see_discarded(&mut self) {
        for (id, chunk, tokens) in std::mem::take(&mut self.sim.discarded) {
            let found = self.machine.store().find(Chunk(chunk), SnapId(id));
            let zero = matches!(
                found,
                Ok(Found::Private(Value::Zero) | Found::Shared(Value::Zero))
            );
            self.sim.zeroed |= zero;
            let Some(cells) = self.sim.oracle.cells(Some(id)) else {
                continue;
            };
            for (sector, token) in tokens {
                cells.end(sector, token, zero);
            }
            if let Some(snap) = self.sim.oracle.snaps.get_mut(&id).filter(|_| zero) {
                snap.own.insert(chunk);
            }
        }
    }

    /// The worker looks.
    fn work(&mut self) {
        self.sim.look = false;
        // Sometimes it comes at once, sometimes much has come together.
        let all = self.sim.rng.one_in(2);
        let mut left = if all { self.sim.inbox.len() } else { 1 };
        while let Some(told) = self.sim.inbox.pop_front() {
            self.tell(told);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        self.run();
        self.sim.sweeping = self.machine.is_sweeping();
        if let Some(result) = self.sim.control_result.take() {
            self.control_done(result);
        }
    }

    fn tell(&mut self, told: Told) {
        let (machine, sim) = (&mut self.machine, &mut self.sim);
        match told {
            Told::Read(bio) => {
                let mut bios = Bios::default();
                bios.push(bio);
                machine.read(&mut bios);
            }
            Told::Write(bio) => {
                let mut bios = Bios::default();
                bios.push(bio);
                machine.write(&mut bios);
            }
            Told::Copied(slot, copied) => machine.copied(sim, slot, copied),
            Told::Overwritten(slot, bio, result) => machine.overwritten(sim, slot, bio, result),
            Told::Log(write, result) => {
                sim.checkpointed = false;
                if sim.unsaid && result.is_ok() {
                    sim.said();
                }
                sim.zeroed &= machine.store().has_unsealed();
                machine.log_written(sim, write, result);
            }
            Told::Checkpoint(result) => {
                if let Some(checkpoint) = sim.checkpoint.take() {
                    sim.checkpointed = result.is_ok() && checkpoint.says;
                    machine.checkpoint_written(sim, checkpoint.write, result);
                }
            }
            Told::Probed(result) => machine.probed(sim, result),
            Told::Control(control) => {
                if let Err(e) = machine.control(control) {
                    sim.wrong(format!("control refused: {e:?}"));
                }
            }
        }
    }

    // --- commands --------------------------------------------------------------------------------

    pub(super) fn tell_control(&mut self, control: Control) {
        self.sim.inbox.push_back(Told::Control(control));
    }

    /// Goes on with the command that is under way, or begins one.
    fn command(&mut self, config: &Config) {
        match self.command {
            Command::Idle => self.begin_command(config),
            Command::GrowDraining if self.sim.origin_busy == 0 => self.grow(config),
            Command::Draining if self.sim.origin_busy == 0 => {
                if self.sim.mutation == Mutation::NoOriginFlush {
                    return self.create();
                }
                self.flush_origin();
                self.command = Command::Flushing;
            }
            Command::Flushing if !self.flush_is_out() => self.create(),
            Command::Stopping if self.sim.origin_busy + self.sim.snap_busy == 0 => {
                self.flush_origin();
                self.command = Command::StopFlush;
            }
            Command::StopFlush if !self.flush_is_out() => {
                let clean = KBox::init(Identity { digests: [7; 64] }, GFP_KERNEL);
                let clean = clean.ok();
                self.tell_control(Control::Close { clean });
                self.command = Command::Closing;
            }
            _ => self.leaving(),
        }
    }

    fn flush_origin(&mut self) {
        let mark = self.sim.origin.begin_flush();
        self.sim.events.push(Event::SuspendFlush(mark));
    }

    /// Whether a log write is under way, or its end not seen yet.
    pub(crate) fn log_is_out(&self) -> bool {
        let flying = |e: &Event| matches!(e, Event::LogFlush(..) | Event::LogBlocks(..));
        self.sim.events.iter().any(flying)
            || self.sim.inbox.iter().any(|t| matches!(t, Told::Log(..)))
    }

    fn flush_is_out(&self) -> bool {
        let mut events = self.sim.events.iter();
        events.any(|e| matches!(e, Event::SuspendFlush(_)))
    }

    fn create(&mut self) {
        let name = name_of(self.sim.next_name);
        self.sim.cut_id = None;
        let tops = self.sim.oracle.snaps.iter();
        let tops = tops.filter(|(id, snap)| snap.certain && !SnapId(**id).is_sub());
        let tops: Vec<u64> = tops.map(|(id, _)| *id).collect();
        let sub = self.subs && !tops.is_empty() && self.sim.rng.one_in(2);
        let parent = sub.then(|| SnapId(tops[self.sim.rng.below(tops.len())]));
        // As for a list that asks for it, some time after those that were made.
        let ask = self.sim.rng.one_in(4);
        let next = self.machine.store().next_id(parent).ok().filter(|_| ask);
        let skip = self.sim.rng.below(3) as u32;
        self.named = next.map(|id| match id.is_sub() {
            true => id,
            false => SnapId::top(id.id() + skip),
        });
        self.tell_control(Control::Create {
            parent,
            id: self.named,
            created: 1,
            name,
        });
        self.command = Command::Creating;
    }

    fn begin_command(&mut self, config: &Config) {
        if self.budget == 0 {
            // What is under way ends by itself; whoever began this life decides on its end.
            return;
        }
        let ids = self.sim.oracle.snaps.len();
        match self.sim.rng.below(12) {
            0..4 if ids < config.max_ids => {
                self.command = Command::Draining;
            }
            4 if ids > 0 => {
                let n = self.sim.rng.below(ids);
                let Some((id, snap)) = self.sim.oracle.snaps.iter_mut().nth(n) else {
                    return;
                };
                let id = *id;
                snap.names.push(self.sim.next_name);
                let name = name_of(self.sim.next_name);
                self.sim.next_name += 1;
                self.tell_control(Control::Name {
                    id: SnapId(id),
                    name,
                });
                self.command = Command::Naming(id);
            }
            7 if config.grows && self.sim.rng.one_in(8) => self.command = Command::GrowDraining,
            6 if ids > 1 && config.deletes => self.delete(),
            5 if self.sim.rng.one_in(4) => {
                self.tell_control(Control::Checkpoint);
                self.command = Command::Checkpointing;
            }
            _ => {}
        }
    }

    fn control_done(&mut self, result: Result<Option<SnapId>>) {
        let command = std::mem::replace(&mut self.command, Command::Idle);
        match (command, result) {
            (Command::Creating, Ok(Some(id)))
                if self.sim.cut_id == Some(id.0) && self.named.is_none_or(|named| named == id) =>
            {
                self.sim.next_name += 1;
                if let Some(snap) = self.sim.oracle.snaps.get_mut(&id.0) {
                    snap.certain = true;
                }
            }
            // A full store may refuse; then nothing was cut.
            (Command::Creating, Err(ENOSPC)) if self.sim.cut_id.is_none() => {}
            (Command::Naming(id), result @ (Ok(None) | Err(ENOSPC))) => {
                if let Some(snap) = self.sim.oracle.snaps.get_mut(&id) {
                    match result {
                        Ok(_) => drop(snap.names.drain(..snap.names.len() - 1)),
                        Err(_) => drop(snap.names.pop()),
                    }
                }
            }
            // One whose making was said to have failed is taken away again.
            (Command::Naming(id) | Command::Deleting(id), Err(ENOENT))
                if self.sim.oracle.snaps.get(&id).is_none_or(|s| !s.certain) => {}
            (Command::Checkpointing, Ok(None)) => {}
            (Command::Growing, Ok(None)) => {
                let geometry = self.sim.geometry;
                self.sim.oracle.sizes = (geometry.origin_sectors, geometry.data_chunks);
                if self.machine.store().geometry() != geometry {
                    self.sim.wrong("grown, and not larger".into());
                }
            }
            (Command::Deleting(id), Ok(None)) => {
                if self.sim.oracle.snaps.contains_key(&id) {
                    self.sim.wrong("deleted, and still there".into());
                }
            }
            (Command::Closing, Ok(None)) => self.command = Command::Closed,
            (Command::Letting, Ok(None)) => self.out(),
            (Command::Closing, Err(EIO)) if self.sim.broken => self.command = Command::Closed,
            // Whatever it was may be on the disk.
            (_, Err(EIO)) if self.sim.broken => self.sim.next_name += 1,
            (command, result) => {
                self.sim.wrong(format!("{command:?} ended with {result:?}"));
            }
        }
    }

    /// Deletes some snapshot that nobody uses just now, as the engine sees to.
    fn delete(&mut self) {
        let snaps = self.sim.oracle.snaps.iter();
        let ids: Vec<u64> = snaps.filter(|s| s.1.certain).map(|s| *s.0).collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.sim.rng.below(ids.len())];
        let busy = |b: &BioInfo| b.id == Some(id) && !b.ended;
        if self.sim.bios.iter().any(busy) {
            return;
        }
        self.sim.note("delete", id >> 32, id & 0xffff_ffff);
        if let Some(snap) = self.sim.oracle.snaps.get_mut(&id) {
            snap.certain = false;
        }
        self.tell_control(Control::Delete { id: SnapId(id) });
        self.command = Command::Deleting(id);
    }

    /// Begins a clean stop.
    pub(crate) fn stop(&mut self) {
        assert_eq!(self.command, Command::Idle);
        self.command = Command::Stopping;
    }

    // --- bios ------------------------------------------------------------------------------------

    fn issue(&mut self, config: &Config) {
        self.budget -= 1;
        let suspended = matches!(
            self.command,
            Command::Draining
                | Command::GrowDraining
                | Command::Growing
                | Command::Flushing
                | Command::Creating
                | Command::Leaving
                | Command::Letting
                | Command::Out(_)
        );
        let certain = |snap: &&Snap| snap.certain;
        let ids = self.sim.oracle.snaps.values().filter(certain).count();
        let of_origin = ids == 0 || self.sim.rng.below(100) < config.origin_percent;
        if of_origin && suspended {
            return;
        }
        let id = (!of_origin).then(|| {
            let n = self.sim.rng.below(ids);
            let n = if config.every_second { n & !1 } else { n };
            let mut snaps = self.sim.oracle.snaps.iter().filter(|(_, s)| s.certain);
            snaps.nth(n).map_or(0, |(id, _)| *id)
        });
        let op = match self.sim.rng.below(20) {
            0..2 => Op::Flush,
            2..10 if id.is_some() => Op::Read,
            10..13 if config.discards => Op::Discard,
            13..15 if config.discards => Op::Zero,
            _ => Op::Write,
        };
        self.make(config, id, op);
    }

    /// Makes a bio of some length at some place, and maps it.
    fn make(&mut self, config: &Config, id: Option<u64>, op: Op) {
        let sim = &mut self.sim;
        let Some(len) = sim.oracle.cells(id).map(|cells| cells.len()) else {
            return;
        };
        let chunks = len.div_ceil(sim.chunk());
        let chunk = match config.hot {
            n if n > 0 && !sim.rng.one_in(4) => sim.rng.below(n.min(chunks as usize)) as u64,
            _ => sim.rng.below(chunks as usize) as u64,
        };
        // The last chunk of a snapshot of a smaller origin is short.
        let in_chunk = sim.chunk().min(len - chunk * sim.chunk());
        let (first, len) = match sim.rng.below(3) {
            _ if op == Op::Flush => (0, 0),
            0 => (0, in_chunk),
            _ => {
                let first = sim.rng.below(in_chunk as usize) as u64;
                let len = 1 + sim.rng.below((in_chunk - first) as usize) as u64;
                (first, len)
            }
        };
        let start = chunk * sim.chunk() + first;
        let mut info = BioInfo {
            id,
            op,
            chunk,
            first,
            tokens: Vec::new(),
            len,
            whole: len == in_chunk,
            fua: matches!(op, Op::Write | Op::Zero) && sim.rng.one_in(6),
            allowed: Vec::new(),
            mark: Vec::new(),
            protected: false,
            passed: false,
            ended: false,
        };
        let Some(cells) = sim.oracle.cells(id) else {
            return;
        };
        match op {
            Op::Flush => info.mark = cells.mark(),
            Op::Read => info.allowed = (start..start + len).map(|s| cells.visible(s)).collect(),
            // No content changes.
            Op::Discard if id.is_some() && !info.whole => {}
            Op::Write | Op::Discard | Op::Zero => {
                // What overlapping writes leave is nobody's promise.
                if (start..start + len).any(|s| cells.is_busy(s)) {
                    return;
                }
                for sector in start..start + len {
                    // A device may leave anything where it was told to discard.
                    let zero = match op {
                        Op::Write => false,
                        Op::Discard => id.is_some() || sim.rng.one_in(2),
                        _ => true,
                    };
                    let token = sim.next_token | if zero { ZERO } else { 0 };
                    sim.next_token += 1;
                    info.tokens.push(token);
                    cells.begin(sector, token);
                }
            }
        }
        if matches!(op, Op::Write | Op::Discard | Op::Zero) {
            for read in &sim.reads_active {
                let read = &mut sim.bios[*read];
                if read.id == id && read.chunk == chunk {
                    for (i, token) in (first..).zip(&info.tokens) {
                        if let Some(at) = i.checked_sub(read.first) {
                            if let Some(allowed) = read.allowed.get_mut(at as usize) {
                                allowed.push(content_of(*token));
                            }
                        }
                    }
                }
            }
        }
        self.map(info);
    }

    /// What map() does: decides what needs no worker, and queues the rest.
    fn map(&mut self, mut info: BioInfo) {
        let sim = &mut self.sim;
        let n = sim.bios.len();
        let bio = Bio(n);
        let (id, op, chunk) = (info.id, info.op, info.chunk);
        match id {
            None => sim.origin_busy += 1,
            Some(_) => sim.snap_busy += 1,
        }
        if op == Op::Read {
            sim.reads_active.push(n);
        }
        let what = match (id, op) {
            (None, Op::Flush) => "origin flush",
            (None, Op::Discard) => "origin discard",
            (None, Op::Zero) => "origin zero",
            (None, _) => "origin write",
            (_, Op::Read) => "snapshot read",
            (_, Op::Write) => "snapshot write",
            (_, Op::Discard) => "snapshot discard",
            (_, Op::Zero) => "snapshot zero",
            (_, Op::Flush) => "snapshot flush",
        };
        let blind = op == Op::Discard && sim.mutation == Mutation::BlindDiscard;
        let live = self.machine.store().live_ids();
        let fast = id.is_none() && (live == 0 || sim.is_preserved(chunk) || blind);
        info.protected = id.is_none() && op != Op::Flush && !fast;
        let place = (chunk << 8) | info.first;
        sim.bios.push(info);
        sim.note(what, n as u64, place);
        match (id, op) {
            (None, Op::Flush) => {
                let mark = sim.origin.begin_flush();
                sim.events.push(Event::OriginFlush(bio, mark));
            }
            (None, _) if fast => sim.to_origin(bio),
            (Some(id), Op::Read | Op::Write) if sim.is_known(chunk, id, op) => {
                match sim.known.look(Chunk(chunk), SnapId(id)) {
                    Some(Place::Store(dest) | Place::Own(dest)) => sim.to_store(bio, dest),
                    _ => sim.read_origin(bio),
                }
            }
            (_, Op::Read) => sim.inbox.push_back(Told::Read(bio)),
            _ => {
                if id.is_none() && op != Op::Discard {
                    sim.allow_loss(chunk);
                }
                sim.inbox.push_back(Told::Write(bio));
            }
        }
    }

    /// What must hold when nothing is under way any more.
    pub(crate) fn check_quiet(&mut self) {
        let open: Vec<usize> = (0..self.sim.bios.len())
            .filter(|n| !self.sim.bios[*n].ended)
            .collect();
        if !open.is_empty()
            || !matches!(
                self.command,
                Command::Idle | Command::Closed | Command::Out(0)
            )
        {
            let what = format!("hangs: bios {open:?}, command {:?}", self.command);
            return self.sim.wrong(what);
        }
        let (reads, chunks) = (Users::OriginReads, Users::StoreChunks);
        if self.sim.running(reads) + self.sim.running(chunks) > 0 {
            self.sim.wrong("users are counted that have ended".into());
        }
        let want = self.sim.oracle.origin.content();
        let seen = self.sim.origin.read(0, self.sim.origin.len());
        let differs = want
            .iter()
            .zip(seen)
            .position(|(w, s)| s.token() != Some(*w));
        if let Some(sector) = differs {
            self.sim.wrong(format!("origin sector {sector} is wrong"));
        }
    }
}

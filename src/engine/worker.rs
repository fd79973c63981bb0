// SPDX-License-Identifier: GPL-2.0

//! The worker of one origin: it alone drives the state machine and the store behind it.

use super::{
    args::OriginArgs,
    bios::{BioData, Bios, OurBio},
    checkpoint::CheckpointWriter,
    command::{Command, Spare},
    copier::{Copier, Copy, CopyFrom},
    inbox::{Events, Inbox},
    low_water::LowWater,
    name::{say, Name},
    order::{self, grace, Copied, Fifo, Known, Machine, Mode, Place, Request, Timer, Users, World},
    registry::Origin,
    shared::Shared,
    status::Published, //
};
use crate::dm::{
    bio::Status,
    bits::LazyBits,
    bufio::BufioWriter,
    device::BlockDev,
    io::{Flags, IoClient, PageBuf, Run},
    kcopyd::{CopyDone, MAX_DESTS},
    noio::NoIo,
    print,
    queue::{Kick, Run as Runs, WorkQueue},
    target::TargetRef,
    time::now_ms, //
};
use crate::store::{
    CheckpointWrite, Chunk, Dest, ExceptionStore, LogWrite, SnapId, Source, Space, Who,
};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed, Release},
        Arc,
        Mutex, //
    },
};

use super::meta::BLOCK_SECTORS;

/// Blocks of the largest log write.
const LOG_BLOCKS: u32 = crate::store::format::LOG_COMMIT_MAX as u32;

/// Buckets of the table of known places: 900 KiB.
const KNOWN_BUCKETS: usize = 8192;

/// Rounds of a pass. Who waits for the lock, for a timer or for the end of a command must not wait until
/// a stream of bios ends.
const ROUNDS: usize = 16;

/// What runs while an origin's table is live.
#[pin_data]
pub(crate) struct Engine {
    /// Under the control lock of [`Origin`]; the worker and commands take it, map() never.
    #[pin]
    core: Mutex<Core>,
    inbox: Arc<Inbox>,
    kick: Kick,
    checkpoint: Arc<CheckpointWriter>,
    /// Read by map() and status.
    pub(super) shared: Arc<Shared>,
}

struct Core {
    machine: KBox<Machine<Outside>>,
    outside: KBox<Outside>,
    /// Events on their way from the inbox to the machine.
    events: Events,
}

/// What the machine acts on.
struct Outside {
    owner: Arc<Origin>,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    copier: Copier,
    io: IoClient<Inbox>,
    checkpoint: Arc<CheckpointWriter>,
    /// The buffer of log writes; away while one is out.
    log_page: Option<PageBuf>,
    /// The log write that is out.
    log_write: Option<LogWrite>,
    waiter: Option<Command>,
    /// How the command ended that it waits for. It is told when status shows what came of it.
    ended: Option<Result<Option<SnapId>>>,
    /// When the worker was given the processor, in milliseconds.
    began: u64,
    /// When each timer runs out, in milliseconds.
    timers: [Option<u64>; Timer::KINDS],
    /// Somebody should be told.
    event: bool,
    low_water: LowWater,
    name: Name,
    handle: TargetRef,
}

/// An opened store.
pub(super) struct Loaded {
    pub(super) store: KBox<dyn ExceptionStore>,
    /// Writes its dirty blocks from another thread.
    pub(super) writer: BufioWriter,
    pub(super) mode: Mode,
}

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) owner: Arc<Origin>,
    pub(super) origin: BlockDev,
    pub(super) store_dev: BlockDev,
    pub(super) loaded: Loaded,
    pub(super) args: OriginArgs,
    pub(super) name: Name,
    pub(super) handle: TargetRef,
}

impl Engine {
    /// Starts the worker of an opened store.
    #[inline(never)]
    pub(super) fn start(parts: Parts) -> Result<Arc<Self>> {
        let Loaded {
            store,
            writer,
            mode,
        } = parts.loaded;
        let geometry = store.geometry();
        let live = store.live_ids();
        let uuid = store.uuid();
        let args = parts.args;
        let known = Known::new(KNOWN_BUCKETS)?;
        let preserved = LazyBits::new(args.cache.limit())?;
        let published = Published::new(args.store_type.name(), geometry.chunk_sectors);
        let (origin, store_dev) = (parts.origin.clone(), parts.store_dev.clone());
        let shared = Arc::pin_init(
            try_pin_init!(Shared {
                origin,
                store: store_dev,
                mapped: parts.name.dev(),
                uuid,
                read_only: mode == Mode::Ro,
                chunk_shift: geometry.chunk_sectors.trailing_zeros(),
                chunk_sectors: geometry.chunk_sectors,
                data_start: geometry.data_start,
                live: Atomic::new(live),
                generation: Atomic::new(1),
                preserved,
                known <- new_spinlock_irq!(known),
                used: Atomic::new(false),
                failed: Atomic::new(mode == Mode::Fail),
                origin_writes: Atomic::new(0),
                published <- published,
            }? Error),
            GFP_KERNEL,
        )?;
        let queue = WorkQueue::new(c"msnap")?;
        let kick = Kick::new(&queue)?;
        let inbox = Inbox::new(kick.clone())?;
        let checkpoint = CheckpointWriter::new(&parts.store_dev, writer, inbox.clone())?;
        let outside = Outside {
            owner: parts.owner,
            shared: shared.clone(),
            inbox: inbox.clone(),
            copier: Copier::new(shared.origin.clone(), shared.store.clone(), inbox.clone())?,
            io: IoClient::new(parts.store_dev, inbox.clone())?,
            checkpoint: checkpoint.clone(),
            log_page: Some(PageBuf::new(LOG_BLOCKS)?),
            log_write: None,
            waiter: None,
            ended: None,
            began: 0,
            timers: [None; Timer::KINDS],
            event: false,
            low_water: LowWater::new(&args),
            name: parts.name,
            handle: parts.handle,
        };
        let mut machine = Machine::new(store, args.preserve_on_error, mode)?;
        machine.set_discard_copy(args.discard_copy);
        shared.published.ids_changed(machine.store());
        shared.published.update(&mut machine, false);
        let events = Events::new()?;
        let core = Core {
            machine: KBox::new(machine, GFP_KERNEL)?,
            outside: KBox::new(outside, GFP_KERNEL)?,
            events,
        };
        let engine = Arc::pin_init(
            pin_init!(Engine {
                core <- new_mutex!(core),
                inbox,
                kick,
                checkpoint,
                shared,
            }),
            GFP_KERNEL,
        )?;
        // Nothing fails from here on: each of these makes a cycle that `stop()` breaks.
        engine.checkpoint.start();
        engine.kick.bind(engine.clone());
        // A sweep may be left to go on with.
        engine.look();
        Ok(engine)
    }

    /// Hands a bio to the worker. It comes back if the worker has gone.
    pub(super) fn submit(&self, bio: OurBio, read: bool) -> Result<(), OurBio> {
        self.inbox.bio(bio, read)
    }

    /// The overwrite of a whole chunk has ended.
    pub(super) fn overwritten(&self, bio: OurBio) {
        self.inbox.overwritten(bio);
    }

    /// Something that the worker may wait for has happened.
    pub(super) fn look(&self) {
        self.inbox.look();
    }

    /// Has a command carried out, and waits until it is durable. The caller holds the control
    /// lock of the origin, so that there is one at a time.
    pub(super) fn control(&self, command: order::Control) -> Result<Option<SnapId>> {
        self.begin(command)?.wait()
    }

    /// The same, in memory that was kept for it. Once for each of these.
    pub(super) fn control_with(
        &self,
        spare: &Spare,
        command: order::Control,
    ) -> Result<Option<SnapId>> {
        self.begin_with(spare, command)?.wait()
    }

    /// Has a command carried out. `EBUSY` while another one is.
    pub(super) fn begin(&self, command: order::Control) -> Result<Command> {
        self.begin_with(&Spare::new()?, command)
    }

    fn begin_with(&self, spare: &Spare, command: order::Control) -> Result<Command> {
        let waiter = spare.command();
        let mut core = self.core.lock();
        core.machine.control(command)?;
        core.outside.waiter = Some(waiter.clone());
        drop(core);
        self.look();
        Ok(waiter)
    }

    /// Looks into the store. May wait for metadata to be read, never for anybody's bios.
    pub(super) fn with_store<R>(&self, f: impl FnOnce(&mut dyn ExceptionStore) -> R) -> R {
        let _noio = NoIo::enter();
        let mut core = self.core.lock();
        f(core.machine.store())
    }

    /// Whom to tell and name from now on, and what a new table says of other things. An error is
    /// that of `cache-limit`, and all else has been done then.
    pub(super) fn rebind(&self, name: Name, handle: TargetRef, args: &OriginArgs) -> Result {
        let mut core = self.core.lock();
        let outside = &mut core.outside;
        outside.name = name;
        outside.handle = handle;
        outside.low_water = LowWater::new(args);
        core.machine.set_preserve_on_error(args.preserve_on_error);
        core.machine.set_discard_copy(args.discard_copy);
        let cache = &args.cache;
        let store = core.machine.store();
        let result = store.set_cache(cache.threshold(), cache.limit());
        drop(core);
        if result.is_ok() {
            self.shared.preserved.set_max_pages(cache.limit());
        }
        self.look();
        result
    }

    /// Takes no more bios: a snapshot's that comes from now on ends with an error.
    pub(super) fn close(&self) {
        self.inbox.close();
        self.shared.known.lock().close();
    }

    /// Stops the worker, which has carried out the last command.
    pub(super) fn stop(&self) {
        self.checkpoint.stop();
        self.kick.stop();
    }
}

impl Runs for Engine {
    fn run(&self) {
        let _noio = NoIo::enter();
        let mut core = self.core.lock();
        let Core {
            machine,
            outside,
            events,
        } = &mut *core;
        let now = now_ms();
        outside.began = now;
        for timer in Timer::ALL {
            let at = &mut outside.timers[timer as usize];
            if at.is_some_and(|at| at <= now) {
                *at = None;
                machine.timer(timer);
            }
        }
        let mut more = true;
        for _ in 0..ROUNDS {
            more = self.inbox.take(events);
            outside.feed(machine, events);
            machine.run(outside);
            outside.copier.start();
            if !more {
                break;
            }
        }
        outside.look_at_space(machine.store().space());
        let low = outside.low_water.is_low();
        self.shared.published.update(machine, low);
        outside.tell_end();
        if let Some(at) = outside.timers.iter().flatten().min() {
            let ms = at.saturating_sub(now_ms()).clamp(1, u64::from(u32::MAX));
            self.inbox.look_later(ms as u32);
        }
        if more {
            self.kick.kick();
        }
        let event = core::mem::take(&mut outside.event);
        let handle = outside.handle.clone();
        drop(core);
        if event {
            handle.event();
        }
    }
}

impl Outside {
    /// Gives what has arrived to the machine.
    fn feed(&mut self, machine: &mut Machine<Outside>, events: &mut Events) {
        events.copied.drain(|slot, copied| {
            let copied = match copied {
                Copied::ReadError if self.shared.origin.is_gone() => Copied::Gone,
                copied => copied,
            };
            let mut ended = self.copier.ended(slot as u8, copied);
            while let Some(slot) = ended {
                ended = self.copier.follower(slot);
                machine.copied(self, usize::from(slot), copied);
            }
        });
        while let Some(mut bio) = events.overwritten.pop() {
            let data = bio.data_mut();
            let result = if data.failed { Err(EIO) } else { Ok(()) };
            let slot = data.slot.take().map_or(usize::MAX, usize::from);
            machine.overwritten(self, slot, bio, result);
        }
        if let Some((page, result)) = events.log.take() {
            self.log_page = Some(page);
            if let Some(write) = self.log_write.take() {
                machine.log_written(self, write, result);
            }
        }
        if let Some(result) = events.probed.take() {
            machine.probed(self, result);
        }
        if let Some((write, result)) = events.checkpoint.take() {
            machine.checkpoint_written(self, write, result);
        }
        machine.read(&mut events.reads);
        machine.write(&mut events.writes);
    }

    fn look_at_space(&mut self, space: Space) {
        let (store, origin) = (self.shared.store.dev(), self.owner.dev);
        self.event |= self.low_water.look(&space, &self.name, store, origin);
    }

    /// Tells whoever waits for the end of a command that has ended.
    fn tell_end(&mut self) {
        let Some(result) = self.ended.take() else {
            return;
        };
        if let Some(waiter) = self.waiter.take() {
            waiter.end(result);
        }
    }

    /// First sector of a chunk of the store.
    fn dest_sector(&self, dest: Dest) -> u64 {
        self.shared.data_start + (dest.0 << self.shared.chunk_shift)
    }

    /// First sector of a chunk of the origin, and how many of it the origin has.
    fn chunk_extent(&self, chunk: Chunk) -> (u64, u64) {
        let start = chunk.0 << self.shared.chunk_shift;
        let left = self.shared.origin.sectors().saturating_sub(start);
        (start, left.min(u64::from(self.shared.chunk_sectors)))
    }

    /// Where in its chunk a bio begins.
    fn offset(&self, bio: &OurBio) -> u64 {
        bio.sector() & u64::from(self.shared.chunk_sectors - 1)
    }

    fn count(&self, bio: &mut OurBio, users: Users) {
        let generation = self.owner.enter(users);
        bio.data_mut().counted = Some((users, generation));
    }

    /// A bio's target does not hold the device that the bio was to go to: its count is given
    /// back, and its slot is told, as if the device had ended it with an error.
    fn not_sent(&mut self, mut bio: OurBio) {
        let data = bio.data_mut();
        let counted = data.counted.take();
        data.failed = true;
        if let Some((users, generation)) = counted {
            self.owner.leave(users, generation);
        }
        if bio.data().slot.is_some() {
            self.inbox.overwritten(bio);
        } else {
            self.end(bio, Err(EIO));
        }
    }
}

impl World for Outside {
    type Bio = OurBio;
    type Bios = Bios;

    fn request(&self, bio: &OurBio) -> Request {
        use crate::dm::bio::Op;
        let BioData { id, whole, .. } = *bio.data();
        Request {
            who: id.map_or(Who::Origin, Who::Snapshot),
            op: match bio.op() {
                Op::Read => order::Op::Read,
                Op::Flush => order::Op::Flush,
                Op::Discard => order::Op::Discard,
                Op::WriteZeroes => order::Op::Zero,
                _ => order::Op::Write,
            },
            chunk: Chunk(bio.sector() >> self.shared.chunk_shift),
            whole,
            fua: bio.is_fua(),
        }
    }

    fn tried(&mut self, bio: &mut OurBio) -> u8 {
        let data = bio.data_mut();
        data.tries = data.tries.saturating_add(1);
        data.tries
    }

    fn to_origin(&mut self, bio: OurBio) {
        let sector = bio.sector();
        if let Err(bio) = bio.submit(&self.shared.origin, sector) {
            self.end(bio, Err(EIO));
        }
    }

    fn read_origin(&mut self, mut bio: OurBio) {
        self.count(&mut bio, Users::OriginReads);
        let sector = bio.sector();
        if let Err(bio) = bio.submit(&self.shared.origin, sector) {
            self.not_sent(bio);
        }
    }

    fn to_store(&mut self, mut bio: OurBio, dest: Dest) {
        self.count(&mut bio, Users::StoreChunks);
        let sector = self.dest_sector(dest) + self.offset(&bio);
        if let Err(bio) = bio.submit(&self.shared.store, sector) {
            self.not_sent(bio);
        }
    }

    fn overwrite(&mut self, slot: usize, mut bio: OurBio, dest: Dest) {
        bio.data_mut().slot = Some(slot as u8);
        self.to_store(bio, dest);
    }

    fn flush_store(&mut self, bio: OurBio) {
        if let Err(bio) = bio.submit(&self.shared.store, 0) {
            self.end(bio, Err(EIO));
        }
    }

    fn end_zeroed(&mut self, bio: OurBio) {
        bio.end_zeroed();
    }

    fn end(&mut self, bio: OurBio, result: Result) {
        if bio.data().id.is_none() {
            self.shared.origin_writes.fetch_sub(1, Release);
        }
        bio.end(result.map_or_else(Status::from, |()| Status::OK));
    }

    fn copy(&mut self, slot: usize, chunk: Chunk, from: Source, dests: &[Dest]) {
        let (start, sectors) = self.chunk_extent(chunk);
        let slot = slot as u8;
        let from = match from {
            Source::Origin => CopyFrom::Origin(start),
            Source::Store(dest) => CopyFrom::Store(self.dest_sector(dest)),
            Source::Zero => CopyFrom::Zero,
            // Never asked for.
            Source::Lost => return self.inbox.copy_done(slot.into(), true, 0),
        };
        let mut to = [0; MAX_DESTS];
        for (to, dest) in to.iter_mut().zip(dests) {
            *to = self.dest_sector(*dest);
        }
        let count = dests.len();
        let copy = Copy {
            from,
            sectors,
            to,
            count,
        };
        self.copier.copy(slot, copy);
    }

    fn write_log(&mut self, write: LogWrite) {
        let Some(mut page) = self.log_page.take() else {
            // Cannot be: the machine has one log write out at a time.
            return say!(pr_err, "{}: log buffer lost", self.name);
        };
        for (to, from) in page.iter_mut().zip(write.buf.iter().take(write.count)) {
            to.copy_from_slice(from);
        }
        let run = Run {
            sector: write.nr * BLOCK_SECTORS,
            first: 0,
            blocks: write.count as u32,
        };
        let seq = write.seq;
        self.log_write = Some(write);
        self.io
            .write_async(page, &[run], Flags::PREFLUSH | Flags::FUA, seq);
    }

    fn write_checkpoint(&mut self, write: CheckpointWrite) {
        self.checkpoint.write(write);
    }

    fn probe_store(&mut self) {
        self.checkpoint.probe();
    }

    fn write_last_word(&mut self, write: CheckpointWrite) {
        self.checkpoint.write_last_word(write);
    }

    fn preserved(&mut self, chunk: Chunk) {
        let generation = self.shared.generation.load(Relaxed);
        self.shared.preserved.set(chunk.0, generation);
    }

    fn learn(&mut self, chunk: Chunk, id: SnapId, place: Place) {
        self.shared.known.lock().learn(chunk, id, place);
    }

    fn forget(&mut self, chunk: Chunk) {
        self.shared.known.lock().forget(chunk);
    }

    fn forget_all(&mut self) {
        self.shared.known.lock().forget_all();
    }

    fn cut(&mut self, _id: SnapId) {
        self.shared.generation.fetch_add(1, Release);
        self.shared.live.fetch_add(1, Release);
        self.shared.published.ids_stale();
    }

    fn gone(&mut self, _id: SnapId) {
        // What was preserved for more snapshots is for fewer.
        self.shared.live.fetch_sub(1, Release);
        self.shared.published.ids_stale();
    }

    fn enter(&mut self, users: Users) -> grace::Generation {
        self.owner.enter(users)
    }

    fn leave(&mut self, users: Users, generation: grace::Generation) {
        self.owner.leave(users, generation);
    }

    fn ask(&mut self, users: Users) -> grace::Ticket {
        self.owner.ask(users)
    }

    fn passed(&mut self, users: Users, ticket: grace::Ticket) -> bool {
        self.owner.passed(users, ticket)
    }

    fn later(&mut self, timer: Timer, ms: u32) {
        let at = now_ms() + u64::from(ms);
        let old = &mut self.timers[timer as usize];
        *old = Some(old.map_or(at, |old| old.min(at)));
    }

    fn was_used(&mut self) -> bool {
        self.shared.take_use()
    }

    fn is_wanted(&self) -> bool {
        // Who shares the processor with the worker waits for it, too, if preemption is lazy.
        let long = now_ms() > self.began;
        (long && self.shared.is_in_use()) || !self.inbox.is_empty()
    }

    fn control_done(&mut self, result: Result<Option<SnapId>>) {
        self.ended = Some(result);
    }

    fn all_lost(&mut self) {
        self.event = true;
        let (name, origin) = (&self.name, self.owner.dev);
        say!(
            pr_err,
            "{name}: snapshots of origin {origin} have lost what the origin still held for them"
        );
    }

    fn mode_changed(&mut self, mode: Mode, why: Error) {
        self.shared.failed.store(mode == Mode::Fail, Release);
        self.event = true;
        let (origin, store) = (self.owner.dev, self.shared.store.dev());
        let name = &self.name;
        match mode {
            // A store at its limit may go to and fro.
            Mode::Rw | Mode::Full if !print::allowed() => (),
            Mode::Rw if why == ENOSPC => say!(pr_info, "{name}: store {store} has room again"),
            Mode::Rw => say!(
                pr_notice,
                "{name}: store {store} takes writes again: snapshots of origin {origin} are back"
            ),
            Mode::Full => say!(
                pr_warn,
                "{name}: store {store} is full: grow it or delete snapshots of origin {origin}"
            ),
            Mode::Ro | Mode::Fail => say!(
                pr_err,
                "{name}: store {store} failed with error {}: snapshots of origin {origin} answer \
                 EIO until it can be written, or is loaded again",
                why.to_errno()
            ),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The `multisnap-snap` target: one snapshot.

use super::{
    args,
    bios::{BioData, OurBio},
    name::{cannot_open, refuse, say, Name},
    order::{Place, Users},
    registry::User,
    shared::Shared,
    worker::Engine, //
};
use crate::dm::{
    bio::{EndedBio, MapBio, Op, Status},
    device::{DevT, Mode, TableDevice},
    target::{
        Args,
        EachDevice,
        Features,
        Limits,
        NewTarget,
        StatusKind,
        Stop,
        Target,
        Text, //
    },
};
use crate::store::{Chunk, SnapId};
use core::fmt::Write as _;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Relaxed}, //
};

/// One table of a snapshot.
pub(crate) struct SnapTarget {
    user: User,
    id: SnapId,
    len: u64,
    mode: Mode,
    chunk_sectors: u32,
    /// The store that the snapshot is in.
    uuid: [u8; 16],
    origin: TableDevice,
    store: TableDevice,
}

/// Largest preferred size of I/O, in bytes, however large the chunks are.
const IO_OPT_MAX: u32 = 1 << 20;

/// Most chunks of one discard: each is a bio of its own then.
const DISCARD_CHUNKS: u32 = 1024;

/// Most sectors of any bio.
const MAX_BIO_SECTORS: u32 = u32::MAX >> 9;

/// What a snapshot's target must know of its store.
struct Found {
    store: DevT,
    chunk_sectors: u32,
    uuid: [u8; 16],
}

impl SnapTarget {
    /// Shows the running engine to `f`, if it is that of the snapshot's store: the origin may
    /// have come back with another one.
    fn with_engine<R>(&self, f: impl FnOnce(&Engine) -> R) -> Option<R> {
        self.user
            .with_engine(|engine| {
                let shared = &engine.shared;
                let same = shared.uuid == self.uuid && shared.store.dev() == self.store.dev();
                same.then(|| f(engine))
            })
            .flatten()
    }

    /// Looks the snapshot up and counts it as open.
    fn open(user: &User, name: &Name, id: SnapId, len: u64, mode: Mode) -> Result<Found> {
        let mut control = user.control.lock();
        let origin = user.dev;
        let Some(engine) = user.engine() else {
            return Err(refuse!(
                name,
                ENODEV,
                "origin {origin} is not under multisnapshot: load it first"
            ));
        };
        if engine.shared.read_only && mode == Mode::ReadWrite {
            return Err(refuse!(
                name,
                EROFS,
                "snapshot {id} is read-only, as origin {origin} was loaded so: create it with \
                 --readonly"
            ));
        }
        let info = engine.with_store(|store| store.snapshot(id)).map_err(|e| {
            refuse!(
                name,
                e,
                "snapshot {id} of origin {origin} cannot be looked up"
            )
        })?;
        // One whose deletion is under way would go while it is open.
        let Some(info) = info.filter(|info| !info.deleted) else {
            return Err(refuse!(
                name,
                ENOENT,
                "snapshot {id} of origin {origin} does not exist"
            ));
        };
        let sectors = info.sectors;
        if sectors != len {
            return Err(refuse!(
                name,
                EINVAL,
                "snapshot {id} of origin {origin} has {sectors} sectors, the table has {len}"
            ));
        }
        control.opened(&engine.shared.uuid, id)?;
        Ok(Found {
            store: engine.shared.store.dev(),
            chunk_sectors: engine.shared.chunk_sectors,
            uuid: engine.shared.uuid,
        })
    }

    /// Whether a bio covers all of its chunk that the snapshot has.
    fn covers_chunk(&self, sector: u64, sectors: u32) -> bool {
        let in_chunk = sector & u64::from(self.chunk_sectors - 1);
        in_chunk == 0 && (sectors == self.chunk_sectors || sector + u64::from(sectors) == self.len)
    }

    /// Sends a bio to the worker of `engine`, or says how it is to be ended.
    fn queue<'a>(
        &self,
        engine: &Engine,
        mut bio: MapBio<'a, BioData>,
    ) -> Result<(), (Refused<'a>, Status)> {
        if engine.shared.failed.load(Acquire) {
            return Err((Refused::Map(bio), Status::IOERR));
        }
        engine.shared.note_use();
        let op = bio.op();
        if matches!(op, Op::Read | Op::Write) {
            bio = match self.map_known(&engine.shared, bio)? {
                Some(bio) => bio,
                None => return Ok(()),
            };
        }
        if op != Op::Flush {
            let left = engine.shared.left_in_chunk(bio.sector());
            if bio.sectors() > left && bio.accept_partial(left).is_err() {
                return Err((Refused::Map(bio), Status::IOERR));
            }
        }
        let whole = self.covers_chunk(bio.sector(), bio.sectors());
        if op == Op::Discard && !whole {
            // A hint, for which nothing is copied.
            return Err((Refused::Map(bio), Status::OK));
        }
        if bio.is_nowait() {
            return Err((Refused::Map(bio), Status::AGAIN));
        }
        let data = bio.data_mut();
        data.id = Some(self.id);
        data.whole = whole;
        engine
            .submit(bio.defer(), op == Op::Read)
            .map_err(|bio| (Refused::Own(bio), Status::IOERR))
    }
}

/// Most chunks that one bio is looked up for, with interrupts off.
const RUN_MAX: u32 = 64;

impl SnapTarget {
    /// Sends a read or write at once if it is known where its chunk is, and all behind it that
    /// is in a row with it there. It comes back if the worker must look.
    fn map_known<'a>(
        &self,
        shared: &Shared,
        mut bio: MapBio<'a, BioData>,
    ) -> Result<Option<MapBio<'a, BioData>>, (Refused<'a>, Status)> {
        let (sector, sectors) = (bio.sector(), bio.sectors());
        let writes = bio.op() == Op::Write;
        let first = Chunk(sector >> self.chunk_sectors.trailing_zeros());
        let known = shared.known.lock();
        let found = known.look(first, self.id);
        let (users, dest) = match found {
            Some(Place::Own(dest)) => (Users::StoreChunks, Some(dest)),
            Some(Place::Store(dest)) if !writes => (Users::StoreChunks, Some(dest)),
            Some(Place::Origin) if !writes => (Users::OriginReads, None),
            _ => return Ok(Some(bio)),
        };
        let mut len = shared.left_in_chunk(sector);
        for n in 1..RUN_MAX {
            if len >= sectors {
                break;
            }
            let next = known.look(Chunk(first.0 + u64::from(n)), self.id);
            let in_a_row = match (next, dest) {
                (Some(Place::Origin), None) => true,
                (Some(Place::Own(next)), Some(dest)) => next.0 == dest.0 + u64::from(n),
                (Some(Place::Store(next)), Some(dest)) => {
                    !writes && next.0 == dest.0 + u64::from(n)
                }
                _ => false,
            };
            if !in_a_row {
                break;
            }
            len = len.saturating_add(self.chunk_sectors);
        }
        if sectors > len && bio.accept_partial(len).is_err() {
            return Err((Refused::Map(bio), Status::IOERR));
        }
        // Under the lock, so that whoever makes the worker forget it waits for us.
        let generation = self.user.enter(users);
        drop(known);
        bio.data_mut().counted = Some((users, generation));
        let sent = match dest {
            None => bio.try_remap(&shared.origin, sector),
            Some(dest) => {
                let start = shared.data_start + (dest.0 << shared.chunk_shift);
                let offset = sector & u64::from(self.chunk_sectors - 1);
                bio.try_remap(&shared.store, start + offset)
            }
        };
        // Its count is given back when no lock is held any more.
        sent.map(|()| None)
            .map_err(|bio| (Refused::Map(bio), Status::IOERR))
    }
}

/// A bio that ends without being queued.
enum Refused<'a> {
    Map(MapBio<'a, BioData>),
    Own(OurBio),
}

#[vtable]
impl Target for SnapTarget {
    type Data = BioData;

    const NAME: &'static CStr = c"multisnap-snap";
    const VERSION: [u32; 3] = [1, 0, 0];
    const FEATURES: Features = Features::SINGLETON.and(Features::NOWAIT);

    fn ctr(ti: &mut NewTarget<'_>, args: Args<'_>) -> Result<Self> {
        let name = Name::of(ti);
        ti.set_error(c"multisnap-snap: refused, see the line above");
        let wrong = |wrong: args::Wrong<'_>| refuse!(name, wrong.errno(), "{wrong}");
        let path = args.get(0).ok_or(args::Wrong::Missing("the origin device"));
        let path = path.map_err(wrong)?;
        let id = args.get(1).ok_or(args::Wrong::Missing("the snapshot id"));
        let id = id.and_then(args::id).map_err(wrong)?;
        if let Some(extra) = args.get(2) {
            return Err(wrong(args::Wrong::Extra(extra)));
        }
        let mode = ti.mode();
        let origin = ti
            .get_device(path, mode)
            .map_err(|e| cannot_open(&name, "origin", &args::Show(path), e))?;
        let user = User::new(origin.dev())?;
        let Found {
            store,
            chunk_sectors,
            uuid,
        } = Self::open(&user, &name, id, ti.len(), mode)?;
        let store = ti.get_device_at(store, mode).map_err(|e| {
            user.control.lock().closed(&uuid, id);
            cannot_open(&name, "store", &store, e)
        })?;
        ti.flush_bios(true);
        ti.flush_supported(true);
        ti.discard_bios(true);
        ti.discards_supported(true);
        ti.write_zeroes_bios(true);
        ti.limit_swap_bios(true);
        Ok(SnapTarget {
            user,
            id,
            len: ti.len(),
            mode,
            chunk_sectors,
            uuid,
            origin,
            store,
        })
    }

    fn dtr(self) {
        self.user.control.lock().closed(&self.uuid, self.id);
    }

    fn map(&self, bio: MapBio<'_, BioData>) {
        match bio.op() {
            Op::Read | Op::Flush => (),
            Op::Other => return bio.end(Status::NOTSUPP),
            _ if self.mode == Mode::ReadOnly => return bio.end(Status::IOERR),
            _ => (),
        }
        let mut bio = Some(bio);
        let queued = self.with_engine(|engine| match bio.take() {
            Some(bio) => self.queue(engine, bio),
            None => Ok(()),
        });
        // Bios are ended only now that no spinlock is held.
        match queued {
            Some(Ok(())) => (),
            Some(Err((Refused::Map(mut bio), status))) => {
                if let Some((users, generation)) = bio.data_mut().counted.take() {
                    self.user.leave(users, generation);
                }
                bio.end(status);
            }
            Some(Err((Refused::Own(bio), status))) => bio.end(status),
            // The origin's target is not loaded, or with another store.
            None => drop(bio),
        }
    }

    fn end_io(&self, mut bio: EndedBio<'_, BioData>, status: Status) {
        let data = bio.data_mut();
        if let Some((users, generation)) = data.counted.take() {
            self.user.leave(users, generation);
        }
        if bio.data().slot.is_none() {
            return;
        }
        // The record is made only now that the data is there, and the bio ends after that.
        bio.data_mut().failed = !status.is_ok();
        let mut bio = Some(bio);
        self.with_engine(|engine| {
            if let Some(bio) = bio.take() {
                engine.overwritten(bio.keep());
            }
        });
        if let Some(bio) = bio {
            // Without its engine no record is made: what was written is nobody's.
            bio.keep().end(Status::IOERR);
        }
    }

    fn status(&self, kind: StatusKind, _noflush: bool, out: &mut Text<'_>) {
        let origin = self.origin.dev();
        let _ = match kind {
            StatusKind::Info => {
                let word = self.with_engine(|engine| match engine.shared.failed.load(Relaxed) {
                    true => "fail",
                    false => "ok",
                });
                write!(out, "{}", word.unwrap_or("no-origin"))
            }
            StatusKind::Table => write!(out, "{origin} {}", self.id),
            StatusKind::Ima => {
                let [major, minor, patch] = Self::VERSION;
                write!(
                    out,
                    "target_name=multisnap-snap,target_version={major}.{minor}.{patch},\
                     origin={origin},id={};",
                    self.id
                )
            }
        };
    }

    fn iterate_devices(&self, each: &mut EachDevice<'_>) -> Result<(), Stop> {
        each.visit(&self.origin, 0, self.len)?;
        each.visit(&self.store, 0, self.len.min(u64::from(self.chunk_sectors)))
    }

    fn io_hints(&self, limits: &mut Limits<'_>) {
        let bytes = self.chunk_sectors.saturating_mul(512);
        limits.io_min(bytes);
        // It sets the read-ahead too.
        limits.io_opt(bytes.min(IO_OPT_MAX));
        let chunks = (MAX_BIO_SECTORS / self.chunk_sectors).min(DISCARD_CHUNKS);
        limits.discard(bytes, chunks.max(1) * self.chunk_sectors);
    }
}

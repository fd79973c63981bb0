// SPDX-License-Identifier: GPL-2.0

//! The `multisnapshot` target: the origin.

use super::{
    args::{OriginArgs, Show},
    bios::BioData,
    command::Spare,
    control::{Control as ControlState, Owner},
    identity,
    meta::{MetaBlocks, BLOCK_SECTORS},
    name::{cannot_open, refuse, say, Name},
    order::{Control, Mode as EngineMode},
    registry::{Brief, Claim, Listed, Taken, User},
    sync::SyncList,
    worker::{Engine, Loaded, Parts}, //
};
use crate::dm::{
    bio::{EndedBio, MapBio, Op, Status},
    device::{BlockDev, DevT, Mode, TableDevice},
    target::{
        Args,
        EachDevice,
        Features,
        NewTarget,
        StatusKind,
        Stop,
        Target,
        TargetRef,
        Text, //
    },
    time::random_uuid, //
};
use crate::store::{self, FormatParams, Identity, Limited, Open, OpenError};
use core::fmt::{self, Write as _};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
};

/// How it is known that an origin was written without us.
enum Written {
    /// So many of so many samples of it differ.
    Differs(usize, usize),
    /// The table says so.
    Said,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Differs(n, of) => write!(f, "{n} of {of} samples differ"),
            Written::Said => f.write_str("the table says origin-written"),
        }
    }
}

/// One table of an origin.
pub(crate) struct OriginTarget {
    pub(super) user: User,
    pub(super) handle: TargetRef,
    pub(super) name: Name,
    args: OriginArgs,
    /// The snapshots that there are to be from the first resume on.
    pub(super) sync: Option<SyncList>,
    pub(super) mode: Mode,
    listed: Listed,
    pub(super) origin: TableDevice,
    pub(super) store: TableDevice,
    /// Set when this table becomes live; the same engine that ran for the table before it.
    engine: SetOnce<Arc<Engine>>,
    /// For the last command, which must not want memory.
    spare: Spare,
}

impl OriginTarget {
    /// The engine, once the table is live.
    pub(super) fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.as_ref()
    }

    fn get_device(
        ti: &mut NewTarget<'_>,
        name: &Name,
        what: &str,
        args: Args<'_>,
        n: usize,
    ) -> Result<TableDevice> {
        let Some(path) = args.get(n) else {
            return Err(refuse!(name, EINVAL, "the {what} device is missing"));
        };
        let mode = ti.mode();
        ti.get_device(path, mode)
            .map_err(|e| cannot_open(name, what, &Show(path), e))
    }

    /// Opens a device of the table once more, to have it without the table.
    fn open_device(name: &Name, what: &str, device: &TableDevice, mode: Mode) -> Result<BlockDev> {
        let dev = device.dev();
        device
            .open(mode)
            .map_err(|e| cannot_open(name, what, &dev, e))
    }

    /// Checks the sizes that do not depend on the store's content.
    fn check_devices(
        name: &Name,
        args: &OriginArgs,
        len: u64,
        origin: &BlockDev,
        store: &BlockDev,
    ) -> Result {
        let (o, s) = (origin.dev(), store.dev());
        if o == s {
            return Err(refuse!(
                name,
                EINVAL,
                "origin and store are the same device {o}"
            ));
        }
        let (ob, sb) = (origin.logical_block_size(), store.logical_block_size());
        if sb > ob {
            return Err(refuse!(
                name,
                EINVAL,
                "the logical block of store {s} ({sb} bytes) is larger than that of origin {o} \
                 ({ob} bytes)"
            ));
        }
        if u64::from(sb) > BLOCK_SECTORS << 9 {
            return Err(refuse!(
                name,
                EINVAL,
                "the logical block of store {s} ({sb} bytes) is larger than a block of metadata \
                 (4096 bytes)"
            ));
        }
        let chunk = args.chunk_sectors;
        if u64::from(chunk) << 9 < u64::from(ob) {
            return Err(refuse!(
                name,
                EINVAL,
                "chunk size {chunk} sectors is less than a logical block of origin {o} \
                 ({ob} bytes)"
            ));
        }
        let sectors = origin.sectors();
        if len > sectors {
            return Err(refuse!(
                name,
                EINVAL,
                "the table has {len} sectors, origin {o} has {sectors}"
            ));
        }
        Ok(())
    }

    /// Refuses what would be the second live device of an origin or of a store.
    fn check_others(&self, control: &ControlState) -> Result {
        let mine = self.name.dev();
        let store = self.store.dev();
        if let Some(owner) = &control.owner {
            if owner.name.dev() != mine && owner.handle.is_live() {
                let origin = self.origin.dev();
                let theirs = &owner.name;
                return Err(refuse!(
                    self.name,
                    EBUSY,
                    "origin {origin} is in use by {theirs}"
                ));
            }
            let engine = self.user.engine();
            if self.mode == Mode::ReadWrite && engine.as_ref().is_some_and(|e| e.shared.read_only) {
                return Err(refuse!(
                    self.name,
                    EROFS,
                    "store {store} was loaded read-only: remove the device and create it read-write"
                ));
            }
            let len = self.handle.len();
            let recorded = engine.map(|e| e.with_store(|store| store.geometry().origin_sectors));
            if let Some(recorded) = recorded.filter(|&recorded| len < recorded) {
                return Err(refuse!(
                    self.name,
                    EINVAL,
                    "the table has {len} sectors, less than the {recorded} that store {store} is for"
                ));
            }
            let (old, new) = (&owner.args, &self.args);
            if old.chunk_sectors != new.chunk_sectors
                || old.store_type != new.store_type
                || owner.store != store
            {
                return Err(refuse!(
                    self.name,
                    EINVAL,
                    "a reload must name store {}, chunk size {} and store type {}",
                    owner.store,
                    old.chunk_sectors,
                    old.store_type.name()
                ));
            }
        }
        Ok(())
    }

    /// Claims the store, so that nobody else opens it meanwhile. The control lock is held.
    fn claim(&self) -> Result<Claim<'_>> {
        let (name, origin, store) = (&self.name, self.origin.dev(), self.store.dev());
        self.user
            .claim(store, self.name.dev())
            .map_err(|taken| match taken {
                Taken::Store(other) => {
                    refuse!(name, EBUSY, "store {store} is in use for origin {other}")
                }
                Taken::StoreIsOrigin(other) => {
                    refuse!(
                        name,
                        EBUSY,
                        "store {store} is an origin, whose store is {other}"
                    )
                }
                Taken::OriginIsStore(other) => {
                    refuse!(
                        name,
                        EBUSY,
                        "origin {origin} is the store of origin {other}"
                    )
                }
                Taken::Mapped(other) => {
                    refuse!(name, EINVAL, "a reload must name origin {other}")
                }
            })
    }

    /// Opens the store and compares it with the table. An empty one is formatted. Answers how
    /// many samples of the origin differ from what it was at the last clean stop.
    #[inline(never)]
    fn open_store(
        &self,
        store: &BlockDev,
        origin: &BlockDev,
    ) -> Result<(Open<Limited<MetaBlocks>>, usize)> {
        let (o, s) = (origin.dev(), store.dev());
        let refused = |e: OpenError| refuse!(self.name, e.errno(), "store {s} {e}");
        let read_only = self.mode == Mode::ReadOnly;
        let blocks = MetaBlocks::new(store, Arc::new((), GFP_KERNEL)?)?;
        let blocks = Limited::new(blocks, self.args.cache.limit())?;
        let len = self.handle.len();
        let params = FormatParams {
            uuid: random_uuid(),
            store_type: self.args.store_type,
            chunk_sectors: self.args.chunk_sectors,
            origin_sectors: len,
        };
        let open = Open::open_or_format(blocks, &params, read_only).map_err(refused)?;
        open.check(self.args.chunk_sectors, self.args.store_type, len)
            .map_err(refused)?;
        let Some(then) = open.identity() else {
            return Ok((open, 0));
        };
        let now = identity::read(origin, open.origin_sectors()).map_err(|e| {
            let errno = e.to_errno();
            refuse!(self.name, e, "origin {o} cannot be read: error {errno}")
        })?;
        let differing = then.differing(&now);
        let samples = Identity::taken(open.origin_sectors());
        if differing != 0 && differing == samples {
            return Err(refuse!(
                self.name,
                EINVAL,
                "store {s} belongs to another origin than {o}: none of {samples} samples agree"
            ));
        }
        Ok((open, differing))
    }

    /// Opens the store for good. If the origin was written without us, nobody knows what it still
    /// holds for its snapshots: that they have lost it is durable then.
    // Not inlined, like `Engine::start`: their frames are large and must not add up.
    #[inline(never)]
    fn load_store(
        &self,
        store_dev: &BlockDev,
        origin: &BlockDev,
    ) -> Result<(Loaded, Option<Written>)> {
        let (mut open, differing) = self.open_store(store_dev, origin)?;
        let written = match differing {
            0 => self.args.origin_written.then_some(Written::Said),
            n => Some(Written::Differs(n, Identity::taken(open.origin_sectors()))),
        };
        if written.is_some() {
            open.lose_all();
        }
        let writer = open.blocks().below().writer();
        let mode = if open.is_read_only() {
            EngineMode::Ro
        } else {
            EngineMode::Rw
        };
        let s = store_dev.dev();
        let refused = |e: OpenError| refuse!(self.name, e.errno(), "store {s} {e}");
        let mut store = store::load(open).map_err(refused)?;
        let written = written.filter(|_| store.live_ids() != 0);
        if let Some(how) = &written {
            self.say_lost(origin.dev(), how);
        }
        let cache = &self.args.cache;
        store.set_cache(cache.threshold(), cache.limit())?;
        // A growth that was in the log is known only now.
        let (recorded, table) = (store.geometry().origin_sectors, self.handle.len());
        if table < recorded {
            let store = recorded;
            return Err(refused(OpenError::OriginShrunk { store, table }));
        }
        let loaded = Loaded {
            store,
            writer,
            mode,
        };
        Ok((loaded, written))
    }

    /// Opens the store for good and starts the worker. Also answers whether the snapshots have lost
    /// something by that.
    fn start(&self) -> Result<(Arc<Engine>, bool)> {
        let origin = Self::open_device(&self.name, "origin", &self.origin, self.mode)?;
        let store_dev = Self::open_device(&self.name, "store", &self.store, self.mode)?;
        let (loaded, written) = self.load_store(&store_dev, &origin)?;
        let engine = Engine::start(Parts {
            owner: Arc::clone(&self.user),
            origin,
            store_dev,
            loaded,
            args: self.args,
            name: self.name,
            handle: self.handle.clone(),
        })?;
        Ok((engine, written.is_some()))
    }

    /// It is so by now, and durable unless the store is read-only.
    fn say_lost(&self, origin: DevT, how: &Written) {
        say!(
            pr_warn,
            "{}: origin {origin} was written while it was not under multisnapshot ({how}): its \
             snapshots have lost what it still held for them",
            self.name
        );
    }

    /// Binds the engine to this table; starts it if there is none.
    fn bind(&self) -> Result {
        let mut control = self.user.control.lock();
        if !control.is_owner(self.listed.instance) {
            self.check_others(&control)?;
            let claim = self.claim()?;
            let (engine, lost) = match self.user.engine() {
                Some(engine) => {
                    self.rebind(&engine);
                    (engine, false)
                }
                None => self.start()?,
            };
            self.user.set_engine(Some(engine.clone()));
            drop(claim);
            self.engine.populate(engine);
            control.owner = Some(Owner {
                instance: self.listed.instance,
                name: self.name,
                handle: self.handle.clone(),
                args: self.args,
                store: self.store.dev(),
            });
            if lost {
                self.handle.event();
            }
        }
        control.suspended = false;
        control.end_cut(&self.user);
        self.grow()?;
        if let (Some(sync), Some(engine)) = (&self.sync, self.engine()) {
            sync.apply(&control, &self.user, engine, &self.name, &self.handle);
        }
        Ok(())
    }

    /// Tells a running engine what this table says.
    fn rebind(&self, engine: &Engine) {
        let handle = self.handle.clone();
        if let Err(e) = engine.rebind(self.name, handle, &self.args) {
            say!(
                pr_warn,
                "{}: the old cache-limit stays: error {}",
                self.name,
                e.to_errno()
            );
        }
    }

    /// Makes a growth of the devices durable before the first bio that may rest on it.
    fn grow(&self) -> Result {
        let Some(engine) = self.engine() else {
            return Err(EIO);
        };
        if engine.shared.read_only {
            return Ok(());
        }
        let geometry = engine.with_store(|store| store.geometry());
        let store = engine.shared.store.sectors();
        let data = store.saturating_sub(geometry.data_start);
        let origin = self.handle.len();
        let origin_grew = origin > geometry.origin_sectors;
        if !origin_grew && data >> engine.shared.chunk_shift <= geometry.data_chunks {
            return Ok(());
        }
        let grown = engine.control(Control::Resize {
            origin,
            store: store - store % BLOCK_SECTORS,
        });
        let Err(e) = grown else { return Ok(()) };
        let errno = e.to_errno();
        let refused = refuse!(
            self.name,
            e,
            "the new sizes cannot be recorded: error {errno}"
        );
        // Without more room in the store the origin can go on.
        if origin_grew {
            Err(refused)
        } else {
            Ok(())
        }
    }

    /// The last table goes: everything is written, and the store marked clean.
    fn unbind(self) {
        let origin = Arc::clone(&self.user);
        let mut control = origin.control.lock();
        if control.is_owner(self.listed.instance) {
            self.close(&mut control);
        }
        // The engine's last reference goes under the lock, and with it what is left of dirty
        // metadata is written: whoever opens the store next must not do so meanwhile.
        let OriginTarget {
            user,
            engine,
            listed,
            ..
        } = self;
        drop(engine);
        drop(control);
        // Takes the lock itself.
        drop(listed);
        drop(user);
    }

    fn close(&self, control: &mut ControlState) {
        control.end_cut(&self.user);
        control.owner = None;
        control.suspended = false;
        control.drop_pending(&self.user);
        *self.user.brief.lock() = Brief::default();
        let Some(engine) = self.engine() else { return };
        // The engine stays known until it is quiet, since bios under way report to it.
        engine.close();
        let shared = &engine.shared;
        // The clean mark says: the origin is as it was when we last saw it. If another table has
        // taken our place, it may have been written since, unless that one is read-only.
        let mut clean = None;
        let unwritten = self.handle.is_being_removed() || self.handle.is_disk_read_only();
        if unwritten && !shared.read_only {
            let sectors = engine.with_store(|s| s.geometry().origin_sectors);
            let flushed = shared.origin.flush();
            clean = flushed
                .and_then(|()| identity::read(&shared.origin, sectors))
                .ok();
        }
        if let Err(e) = engine.control_with(&self.spare, Control::Close { clean }) {
            say!(
                pr_err,
                "{}: store {} was not closed cleanly: error {}",
                self.name,
                shared.store.dev(),
                e.to_errno()
            );
        }
        self.user.set_engine(None);
        engine.stop();
    }
}

#[vtable]
impl Target for OriginTarget {
    type Data = BioData;

    const NAME: &'static CStr = c"multisnapshot";
    const VERSION: [u32; 3] = [1, 0, 0];
    /// Immutable, since any other table would let writes through that nobody preserves; see
    /// `multisnap-out` for one that may take the place of this.
    const FEATURES: Features = Features::SINGLETON
        .and(Features::NOWAIT)
        .and(Features::IMMUTABLE);

    fn ctr(ti: &mut NewTarget<'_>, args: Args<'_>) -> Result<Self> {
        let name = Name::of(ti);
        ti.set_error(c"multisnapshot: refused, see the line above");
        let (table, ids) =
            OriginArgs::parse(args).map_err(|wrong| refuse!(name, wrong.errno(), "{wrong}"))?;
        let origin = Self::get_device(ti, &name, "origin", args, 0)?;
        let store = Self::get_device(ti, &name, "store", args, 1)?;
        let mode = ti.mode();
        let origin_dev = Self::open_device(&name, "origin", &origin, mode)?;
        let store_dev = Self::open_device(&name, "store", &store, mode)?;
        Self::check_devices(&name, &table, ti.len(), &origin_dev, &store_dev)?;
        ti.flush_bios(true);
        ti.discard_bios(true);
        ti.write_zeroes_bios(true);
        ti.limit_swap_bios(true);
        let user = User::new(origin.dev())?;
        let listed = Listed::new(&user, name.dev())?;
        let this = OriginTarget {
            user,
            handle: ti.handle(),
            name,
            args: table,
            sync: ids.map(SyncList::new),
            mode,
            listed,
            origin,
            store,
            engine: SetOnce::new(),
            spare: Spare::new()?,
        };
        let control = this.user.control.lock();
        this.check_others(&control)?;
        let claim = this.claim()?;
        let mut opened = None;
        if control.owner.is_none() {
            // Says what is wrong with the store while the old table is still there.
            opened = Some(this.open_store(&store_dev, &origin_dev)?.0);
        }
        this.check_sync(&control, opened)?;
        drop(claim);
        drop(control);
        Ok(this)
    }

    fn dtr(self) {
        self.unbind();
    }

    fn map(&self, mut bio: MapBio<'_, BioData>) {
        let Some(engine) = self.engine() else {
            return bio.end(Status::IOERR);
        };
        let shared = &engine.shared;
        let sector = bio.sector();
        shared.note_use();
        match bio.op() {
            // What a flush must make durable is on the origin: the store's part was durable
            // before the write it protects was let go.
            Op::Read | Op::Flush => bio.remap(&shared.origin, sector),
            Op::Other => bio.end(Status::NOTSUPP),
            _ if self.mode == Mode::ReadOnly => bio.end(Status::IOERR),
            Op::Write | Op::Discard | Op::WriteZeroes => {
                if shared.is_unprotected() {
                    shared.origin_write_begins();
                    return bio.remap(&shared.origin, sector);
                }
                let preserved = shared.is_preserved(sector >> shared.chunk_shift);
                let len = match preserved {
                    true => shared.preserved_run(sector, bio.sectors()),
                    false => shared.left_in_chunk(sector),
                };
                if bio.sectors() > len && bio.accept_partial(len).is_err() {
                    return bio.end(Status::IOERR);
                }
                if preserved {
                    shared.origin_write_begins();
                    return bio.remap(&shared.origin, sector);
                }
                if bio.is_nowait() {
                    return bio.end(Status::AGAIN);
                }
                shared.origin_write_begins();
                if let Err(bio) = engine.submit(bio.defer(), false) {
                    shared.origin_write_ends();
                    bio.end(Status::IOERR);
                }
            }
        }
    }

    fn end_io(&self, bio: EndedBio<'_, BioData>, _status: Status) {
        if matches!(bio.op(), Op::Write | Op::Discard | Op::WriteZeroes) {
            if let Some(engine) = self.engine() {
                engine.shared.origin_write_ends();
            }
        }
    }

    fn postsuspend(&self) {
        if let Some(engine) = self.engine() {
            let mut control = self.user.control.lock();
            if self.handle.is_being_removed() {
                // Nobody waited for what is under way, and nobody will see the result.
                control.drop_pending(&self.user);
            } else if control.is_owner(self.listed.instance) {
                control.suspended = true;
                control.cut_pending(&self.user, engine, &self.name, &self.handle);
            }
        }
    }

    fn preresume(&self) -> Result {
        self.bind()
    }

    fn status(&self, kind: StatusKind, _noflush: bool, out: &mut Text<'_>) {
        let (origin, store) = (self.origin.dev(), self.store.dev());
        let _ = match kind {
            StatusKind::Info => {
                if let Some(engine) = self.engine() {
                    let brief = *self.user.brief.lock();
                    engine.shared.published.info(out, &brief);
                }
                Ok(())
            }
            StatusKind::Table => {
                let ids = self.sync.as_ref().and_then(SyncList::pending);
                let mut args = self.args;
                // It was said once, at the first resume.
                args.origin_written &= self.engine().is_none();
                let line = write!(out, "{origin} {store} ");
                line.and_then(|()| args.write(out, ids))
            }
            StatusKind::Ima => {
                let [major, minor, patch] = Self::VERSION;
                write!(
                    out,
                    "target_name=multisnapshot,target_version={major}.{minor}.{patch},\
                     origin={origin},store={store},chunk_size={},store_type={};",
                    self.args.chunk_sectors,
                    self.args.store_type.name()
                )
            }
        };
    }

    fn message(&self, args: Args<'_>, out: &mut Text<'_>) -> Result {
        self.do_message(args, out)
    }

    fn iterate_devices(&self, each: &mut EachDevice<'_>) -> Result<(), Stop> {
        each.visit(&self.origin, 0, self.handle.len())
    }
}

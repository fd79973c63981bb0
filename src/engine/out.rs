// SPDX-License-Identifier: GPL-2.0

//! The `multisnap-out` target: takes an origin out from under `multisnapshot` while it is in use.
//!
//! dm refuses any other table over a live `multisnapshot` one, since that target is immutable.
//! This one may take its place. Before its first bio it makes durable that the snapshots have lost
//! what the origin still holds for them: nobody will preserve it any more. From then on it passes
//! everything to the origin, and any table may follow.

use super::{
    args::Show,
    bios::BioData,
    command::Spare,
    control::Control as ControlState,
    name::{cannot_open, refuse, say, Name},
    order::Control,
    registry::User, //
};
use crate::dm::{
    bio::{EndedBio, MapBio, Op, Status},
    device::{BlockDev, Mode, TableDevice},
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
};
use core::fmt::Write as _;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release}, //
};

/// One table that passes everything to an origin.
pub(crate) struct OutTarget {
    user: User,
    handle: TargetRef,
    name: Name,
    origin: TableDevice,
    device: BlockDev,
    /// It passes writes; else nothing is lost by it.
    writable: bool,
    /// For the command that says so: a resume has no memory to ask for.
    spare: Spare,
    /// The table has been live.
    is_out: Atomic<bool>,
}

impl OutTarget {
    /// Refuses what is not the mapped device of the origin, or cannot be written down.
    fn check(&self, control: &ControlState) -> Result {
        let (name, origin, len) = (&self.name, self.origin.dev(), self.handle.len());
        let Some(owner) = &control.owner else {
            // A `multisnapshot` table of this device that could not be started may be live. Its
            // users are helped by this; nothing was kept for anybody meanwhile. Of any other
            // device there is nothing to take out, and dm would let us replace what it must not.
            if !control.has_table(name.dev()) {
                return Err(refuse!(
                    name,
                    ENODEV,
                    "origin {origin} is not under multisnapshot: nothing is to be taken out"
                ));
            }
            return Ok(());
        };
        if owner.name.dev() != name.dev() {
            let theirs = &owner.name;
            return Err(refuse!(
                name,
                EBUSY,
                "origin {origin} is in use by {theirs}: take that device out"
            ));
        }
        let live = owner.handle.len();
        if live != len {
            return Err(refuse!(
                name,
                EINVAL,
                "the table has {len} sectors, that of multisnapshot has {live}"
            ));
        }
        if self.user.with_engine(|engine| engine.shared.read_only) == Some(true) {
            return Err(refuse!(
                name,
                EROFS,
                "the device was loaded read-only: remove it instead"
            ));
        }
        Ok(())
    }

    /// Writes down, if there are snapshots, that nobody preserves anything for them any more. If
    /// that cannot be written the origin goes on all the same, as it does whenever a store fails.
    fn let_go(&self, control: &mut ControlState) {
        control.end_cut(&self.user);
        control.drop_pending(&self.user);
        let Some(engine) = self.user.engine() else {
            return;
        };
        // What cannot be written goes on as it is; the last table that goes then leaves the store in
        // good order.
        if engine.shared.live_ids() == 0 || !self.writable {
            return;
        }
        let (name, origin) = (&self.name, self.origin.dev());
        match engine.control_with(&self.spare, Control::LoseAll) {
            Ok(_) => say!(
                pr_warn,
                "{name}: origin {origin} is not under multisnapshot any more: its snapshots have \
                 lost what it still held for them"
            ),
            Err(e) => say!(
                pr_err,
                "{name}: origin {origin} is not under multisnapshot any more, which store {} does \
                 not take (error {}): do not trust its snapshots",
                engine.shared.store.dev(),
                e.to_errno()
            ),
        }
    }
}

#[vtable]
impl Target for OutTarget {
    type Data = BioData;

    const NAME: &'static CStr = c"multisnap-out";
    const VERSION: [u32; 3] = [1, 0, 0];
    const FEATURES: Features = Features::SINGLETON
        .and(Features::NOWAIT)
        .and(Features::WILDCARD);

    fn ctr(ti: &mut NewTarget<'_>, args: Args<'_>) -> Result<Self> {
        let name = Name::of(ti);
        ti.set_error(c"multisnap-out: refused, see the line above");
        let path = match (args.get(0), args.get(1)) {
            (Some(path), None) => path,
            (None, _) => return Err(refuse!(name, EINVAL, "the origin device is missing")),
            (_, Some(extra)) => {
                let extra = Show(extra);
                return Err(refuse!(name, EINVAL, "unexpected argument '{extra}'"));
            }
        };
        let mode = ti.mode();
        let failed = |e| cannot_open(&name, "origin", &Show(path), e);
        let origin = ti.get_device(path, mode).map_err(failed)?;
        let device = origin.open(mode).map_err(failed)?;
        if ti.len() > device.sectors() {
            let (len, sectors) = (ti.len(), device.sectors());
            return Err(refuse!(
                name,
                EINVAL,
                "the table has {len} sectors, the origin has {sectors}"
            ));
        }
        ti.flush_bios(true);
        ti.discard_bios(true);
        ti.write_zeroes_bios(true);
        let this = OutTarget {
            user: User::new(origin.dev())?,
            handle: ti.handle(),
            name,
            origin,
            device,
            writable: mode == Mode::ReadWrite,
            spare: Spare::new()?,
            is_out: Atomic::new(false),
        };
        this.check(&this.user.control.lock())?;
        Ok(this)
    }

    fn map(&self, bio: MapBio<'_, BioData>) {
        let sector = bio.sector();
        match bio.op() {
            Op::Other => bio.end(Status::NOTSUPP),
            Op::Write | Op::Discard | Op::WriteZeroes if !self.writable => bio.end(Status::IOERR),
            _ => bio.remap(&self.device, sector),
        }
    }

    fn end_io(&self, _bio: EndedBio<'_, BioData>, _status: Status) {}

    fn preresume(&self) -> Result {
        if self.is_out.load(Acquire) {
            return Ok(());
        }
        let mut control = self.user.control.lock();
        self.check(&control)?;
        self.let_go(&mut control);
        self.is_out.store(true, Release);
        Ok(())
    }

    fn status(&self, kind: StatusKind, _noflush: bool, out: &mut Text<'_>) {
        let origin = self.origin.dev();
        let _ = match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => write!(out, "{origin}"),
            StatusKind::Ima => {
                let [major, minor, patch] = Self::VERSION;
                write!(
                    out,
                    "target_name=multisnap-out,target_version={major}.{minor}.{patch},\
                     origin={origin};"
                )
            }
        };
    }

    fn iterate_devices(&self, each: &mut EachDevice<'_>) -> Result<(), Stop> {
        each.visit(&self.origin, 0, self.handle.len())
    }
}

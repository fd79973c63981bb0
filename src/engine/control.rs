// SPDX-License-Identifier: GPL-2.0

//! Messages of the origin's target, and the cut of snapshots.

use super::{
    args::{self, Wrong},
    command::Command,
    name::{say, Name},
    order,
    origin::OriginTarget,
    registry::{Last, Origin},
    worker::Engine, //
};
use crate::dm::{
    device::DevT,
    target::{Args, TargetRef, Text},
    time::real_seconds, //
};
use crate::store::{ExceptionStore, NoId, SnapId, SnapInfo, NAME_LEN};
use core::fmt::{self, Write as _};
use kernel::{
    prelude::*,
    sync::{
        atomic::Acquire,
        Arc, //
    },
};

/// The number that tells a store from all others.
type Uuid = [u8; 16];

/// What commands and table changes work on; see [`Origin::control`].
#[derive(Default)]
pub(super) struct Control {
    /// The table that the engine runs for.
    pub(super) owner: Option<Owner>,
    /// A create that waits for the next suspend.
    pending: Option<Pending>,
    /// A snapshot of a snapshot that is being cut. The worker waits for writes of the parent, which
    /// nobody else may do here; the resume waits for the worker.
    cutting: Option<Cutting>,
    /// The live table is suspended: no origin bio is under way, nor can one come. dm's own mark
    /// outlasts the moment when bios come again.
    pub(super) suspended: bool,
    /// Live targets by snapshot, and the store that it is in: the origin may have another by now.
    open: KVec<(Uuid, SnapId, usize)>,
    /// Counts the tables ever made.
    instances: u64,
    /// The `multisnapshot` tables that there are, live or not, and their mapped devices.
    tables: KVec<(u64, DevT)>,
}

/// A table that is, or will be, live.
pub(super) struct Owner {
    pub(super) instance: u64,
    pub(super) name: Name,
    pub(super) handle: TargetRef,
    /// Its line and store, for comparison at a reload.
    pub(super) args: args::OriginArgs,
    pub(super) store: DevT,
}

/// A create that waits.
#[derive(Clone, Copy)]
struct Pending {
    id: SnapId,
    parent: Option<SnapId>,
    name: [u8; NAME_LEN],
}

/// A cut that the worker is at.
struct Cutting {
    id: SnapId,
    name: Name,
    handle: TargetRef,
    command: Command,
}

impl Control {
    /// Enters a new table of the device `mapped`, and gives it a number.
    pub(super) fn enlist(&mut self, mapped: DevT) -> Result<u64> {
        self.instances += 1;
        self.tables.push((self.instances, mapped), GFP_KERNEL)?;
        Ok(self.instances)
    }

    /// The table with this number is gone.
    pub(super) fn unlist(&mut self, instance: u64) {
        self.tables.retain(|(number, _)| *number != instance);
    }

    /// Whether the device `mapped` has a table.
    pub(super) fn has_table(&self, mapped: DevT) -> bool {
        self.tables.iter().any(|(_, dev)| *dev == mapped)
    }

    /// Whether the engine runs for this table.
    pub(super) fn is_owner(&self, instance: u64) -> bool {
        self.owner.as_ref().is_some_and(|o| o.instance == instance)
    }

    fn place(&self, store: &Uuid, id: SnapId) -> Option<usize> {
        self.open.iter().position(|e| e.0 == *store && e.1 == id)
    }

    /// A target was made of a snapshot in `store`.
    pub(super) fn opened(&mut self, store: &Uuid, id: SnapId) -> Result {
        if let Some(at) = self.place(store, id) {
            self.open[at].2 += 1;
            return Ok(());
        }
        Ok(self.open.push((*store, id, 1), GFP_KERNEL)?)
    }

    /// Whether a target of the snapshot exists.
    pub(super) fn is_open(&self, store: &Uuid, id: SnapId) -> bool {
        self.place(store, id).is_some()
    }

    /// It is gone.
    pub(super) fn closed(&mut self, store: &Uuid, id: SnapId) {
        if let Some(at) = self.place(store, id) {
            self.open[at].2 -= 1;
            if self.open[at].2 == 0 {
                let _ = self.open.remove(at);
            }
        }
    }

    /// The origin is suspended: cuts the snapshot that was asked for, if any.
    pub(super) fn cut_pending(
        &mut self,
        origin: &Origin,
        engine: &Engine,
        name: &Name,
        handle: &TargetRef,
    ) {
        if let Some(pending) = self.take_pending(origin) {
            // The outcome is in status; a failed create never fails a suspend.
            if let Err(e) = self.cut(origin, engine, name, handle, pending) {
                say_failed(name, origin, pending.id, e);
            }
        }
    }

    /// Cuts a snapshot of the origin, on which nothing is under way. One of a snapshot is only
    /// begun.
    fn cut(
        &mut self,
        origin: &Origin,
        engine: &Engine,
        name: &Name,
        handle: &TargetRef,
        pending: Pending,
    ) -> Result<SnapId> {
        let begun = begin_cut(engine, pending);
        let result = match begun {
            Ok(command) if pending.parent.is_some() => {
                origin.brief.lock().pending = Some(pending.id);
                self.cutting = Some(Cutting {
                    id: pending.id,
                    name: *name,
                    handle: handle.clone(),
                    command,
                });
                return Ok(pending.id);
            }
            Ok(command) => command.wait().and_then(|id| id.ok_or(EIO)),
            Err(e) => Err(e),
        };
        note_cut(origin, handle, result);
        result
    }

    /// Waits for the end of a cut that is under way, if there is one, and notes how it ended.
    pub(super) fn end_cut(&mut self, origin: &Origin) {
        if let Some(cutting) = self.cutting.take() {
            let result = cutting.command.wait();
            let result = result.and_then(|id| id.ok_or(EIO));
            note_cut(origin, &cutting.handle, result);
            if let Err(e) = result {
                say_failed(&cutting.name, origin, cutting.id, e);
            }
        }
    }

    /// Whether the worker is at a cut; notes how it ended if it has.
    fn is_cutting(&mut self, origin: &Origin) -> bool {
        let ended = self.cutting.as_ref().is_some_and(|c| c.command.has_ended());
        if ended {
            self.end_cut(origin);
        }
        self.cutting.is_some()
    }

    /// Forgets a create that waits; `false` if there is none.
    pub(super) fn drop_pending(&mut self, origin: &Origin) -> bool {
        self.take_pending(origin).is_some()
    }

    fn take_pending(&mut self, origin: &Origin) -> Option<Pending> {
        origin.brief.lock().pending = None;
        self.pending.take()
    }
}

/// Notes for status how a cut ended; a failure is an event too.
fn note_cut(origin: &Origin, handle: &TargetRef, result: Result<SnapId>) {
    let mut brief = origin.brief.lock();
    brief.pending = None;
    brief.last = match result {
        Ok(id) => Last::Created(id),
        Err(e) => Last::Failed(e),
    };
    drop(brief);
    if result.is_err() {
        handle.event();
    }
}

fn say_failed(name: &Name, origin: &Origin, id: SnapId, e: Error) {
    let (dev, errno) = (origin.dev, e.to_errno());
    say!(
        pr_err,
        "{name}: snapshot {id} of origin {dev} was not created: error {errno}"
    );
}

fn begin_cut(engine: &Engine, pending: Pending) -> Result<Command> {
    // A device that is being removed is not waited for: what is still under way would be on
    // both sides of the cut.
    if engine.shared.origin_writes.load(Acquire) != 0 {
        return Err(EBUSY);
    }
    // A chunk that is not remapped is the origin's: it must not change by a power cut.
    engine.shared.origin.flush()?;
    engine.begin(order::Control::Create {
        parent: pending.parent,
        id: None,
        created: real_seconds(),
        name: pending.name,
    })
}

/// A message that cannot be carried out, and why.
enum Refused<'a> {
    Wrong(Wrong<'a>),
    Errno(&'static str, Error),
    Id(&'static str, SnapId, Error),
}

impl<'a> From<Wrong<'a>> for Refused<'a> {
    fn from(wrong: Wrong<'a>) -> Self {
        Refused::Wrong(wrong)
    }
}

impl Refused<'_> {
    fn errno(&self) -> Error {
        match self {
            Refused::Wrong(wrong) => wrong.errno(),
            Refused::Errno(_, e) | Refused::Id(_, _, e) => *e,
        }
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Wrong(wrong) => write!(f, "{wrong}"),
            Refused::Errno(why, _) => f.write_str(why),
            Refused::Id(why, id, _) => write!(f, "snapshot {id} {why}"),
        }
    }
}

impl OriginTarget {
    /// Carries out a message.
    pub(super) fn do_message(&self, args: Args<'_>, out: &mut Text<'_>) -> Result {
        self.try_message(args, out).map_err(|refused| {
            let verb = args.get(0).map_or(c"", |verb| verb);
            say!(
                pr_err,
                "{}: message '{}' refused: {refused}",
                self.name,
                args::Show(verb)
            );
            refused.errno()
        })
    }

    fn try_message<'a>(&self, args: Args<'a>, out: &mut Text<'_>) -> Result<(), Refused<'a>> {
        let verb = args.get(0).ok_or(Wrong::Missing("the message"))?;
        let arg = |n: usize, what| args.get(n).ok_or(Wrong::Missing(what));
        let at_most = |n: usize| match args.get(n) {
            Some(extra) => Err(Wrong::Extra(extra)),
            None => Ok(()),
        };
        let engine = self.engine().ok_or(Refused::Errno(
            "the device was not resumed yet: dmsetup resume it",
            ENODEV,
        ))?;
        match verb.to_bytes() {
            b"create" => {
                at_most(2)?;
                let name = match args.get(1) {
                    Some(name) => args::name(name)?,
                    None => [0; NAME_LEN],
                };
                let id = self.create(engine, None, name)?;
                let _ = write!(out, "{id}");
            }
            b"cancel" => {
                at_most(1)?;
                let mut control = self.user.control.lock();
                if !control.drop_pending(&self.user) {
                    return Err(Refused::Errno("no create is pending", ENOENT));
                }
            }
            b"name" => {
                let id = args::id(arg(1, "the snapshot id")?)?;
                let name = args::name(arg(2, "the name")?)?;
                at_most(3)?;
                self.rename(engine, id, name)?;
            }
            b"list" => {
                let from = arg(1, "the first id")?;
                let from = match from.to_bytes() {
                    b"0" => SnapId(0),
                    _ => list_start(args::id(from)?),
                };
                let max = arg(2, "the number of snapshots")?;
                at_most(3)?;
                let max = args::number(max).ok_or(Wrong::Number("the number of snapshots", max))?;
                list(engine, from, max, out)
                    .map_err(|e| Refused::Errno("the store cannot be read", e))?;
            }
            b"create_subsnap" => {
                let parent = args::id(arg(1, "the snapshot id")?)?;
                at_most(3)?;
                let name = match args.get(2) {
                    Some(name) => args::name(name)?,
                    None => [0; NAME_LEN],
                };
                let id = self.create(engine, Some(parent), name)?;
                let _ = write!(out, "{id}");
            }
            b"delete" => {
                let id = args::id(arg(1, "the snapshot id")?)?;
                at_most(2)?;
                self.delete(engine, id)?;
            }
            _ => return Err(Wrong::Unknown("message", verb).into()),
        }
        Ok(())
    }

    /// Notes a create for the next suspend, or cuts at once if the device is suspended.
    fn create(
        &self,
        engine: &Arc<Engine>,
        parent: Option<SnapId>,
        name: [u8; NAME_LEN],
    ) -> Result<SnapId, Refused<'static>> {
        let mut control = self.user.control.lock();
        self.check_cutting(&mut control)?;
        if control.pending.is_some() {
            return Err(Refused::Errno(
                "a create is pending already: suspend and resume the device, or cancel it",
                EBUSY,
            ));
        }
        if engine.shared.read_only {
            return Err(Refused::Errno(
                "the device was loaded read-only: remove it and create it read-write",
                EROFS,
            ));
        }
        if engine.shared.failed.load(Acquire) {
            return Err(Refused::Errno(
                "the store has failed: see the lines before, and status",
                EIO,
            ));
        }
        let id =
            engine
                .with_store(|store| store.next_id(parent))
                .map_err(|NoId { why, error }| match parent {
                    Some(parent) => Refused::Id(why, parent, error),
                    None => Refused::Errno(why, error),
                })?;
        let pending = Pending { id, parent, name };
        if control.suspended && self.handle.is_suspended() {
            return control
                .cut(&self.user, engine, &self.name, &self.handle, pending)
                .map_err(|e| Refused::Id("was not created", id, e));
        }
        control.pending = Some(pending);
        self.user.brief.lock().pending = Some(id);
        Ok(id)
    }

    /// Refuses what would have to wait for a cut that is under way.
    fn check_cutting(&self, control: &mut Control) -> Result<(), Refused<'static>> {
        match control.is_cutting(&self.user) {
            true => Err(Refused::Errno(
                "a snapshot of a snapshot is being cut: resume the device first",
                EBUSY,
            )),
            false => Ok(()),
        }
    }

    fn delete(&self, engine: &Arc<Engine>, id: SnapId) -> Result<(), Refused<'static>> {
        // Held to the end, so that no target of the snapshot is made meanwhile.
        let mut control = self.user.control.lock();
        self.check_cutting(&mut control)?;
        if !engine.with_store(|store| store.is_live(id)) {
            return Err(Refused::Id("does not exist", id, ENOENT));
        }
        if control.is_open(&engine.shared.uuid, id) {
            return Err(Refused::Id("is in use: remove its device first", id, EBUSY));
        }
        engine
            .control(order::Control::Delete { id })
            .map(|_| ())
            .map_err(|e| Refused::Id("was not deleted", id, e))
    }

    fn rename(
        &self,
        engine: &Arc<Engine>,
        id: SnapId,
        name: [u8; NAME_LEN],
    ) -> Result<(), Refused<'static>> {
        let mut control = self.user.control.lock();
        self.check_cutting(&mut control)?;
        if !engine.with_store(|store| store.is_live(id)) {
            return Err(Refused::Id("does not exist", id, ENOENT));
        }
        engine
            .control(order::Control::Name { id, name })
            .map(|_| ())
            .map_err(|e| Refused::Id("was not renamed", id, e))
    }
}

/// A list that starts at `<id>` starts at its first sub-snapshot.
fn list_start(id: SnapId) -> SnapId {
    if id.is_sub() {
        id
    } else {
        SnapId::sub(id.id(), 0)
    }
}

/// Bytes that a row of the list takes at most.
const ROW_MAX: usize = 160;

/// Writes one line for each snapshot: id, time, sectors, name or `-`. If there are more, the last
/// line is `next <id>`.
fn list(engine: &Engine, mut from: SnapId, max: u64, out: &mut Text<'_>) -> Result {
    engine.with_store(|store: &mut dyn ExceptionStore| {
        let mut n = 0;
        while let Some(snap) = store.snapshot_from(from)? {
            if n == max || out.room() < 2 * ROW_MAX {
                let _ = write!(out, "next {}", snap.id);
                return Ok(());
            }
            let SnapInfo {
                id,
                created,
                sectors,
                name,
                deleted,
                ..
            } = &snap;
            if !deleted {
                let len = name.iter().position(|&c| c == 0).unwrap_or(name.len());
                let name = name.get(..len).and_then(|n| core::str::from_utf8(n).ok());
                let name = name.filter(|n| !n.is_empty()).unwrap_or("-");
                let _ = writeln!(out, "{id} {created} {sectors} {name}");
                n += 1;
            }
            let Some(next) = id.0.checked_add(1) else {
                break;
            };
            from = SnapId(next);
        }
        Ok(())
    })
}

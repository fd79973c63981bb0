// SPDX-License-Identifier: GPL-2.0

//! `sync-snapshots`: the snapshots become those of a list, once, at the first resume of a table.

use super::{
    control::Control,
    meta::MetaBlocks,
    name::{refuse, say, Name},
    order,
    origin::OriginTarget,
    registry::Origin,
    worker::Engine, //
};
use crate::dm::{
    device::Mode,
    target::TargetRef,
    time::real_seconds, //
};
use crate::store::{self, ExceptionStore, Limited, NoId, Open, OpenError, SnapId, NAME_LEN};
use core::fmt;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release}, //
};

/// The list of a table.
pub(super) struct SyncList {
    /// Sorted.
    ids: KVVec<SnapId>,
    done: Atomic<bool>,
}

/// Why a list is refused.
pub(super) enum Refused {
    /// An id was given before, or passed over: the first must be at least the second.
    Given(SnapId, SnapId),
    /// There is no snapshot, and will be none, whose sub-snapshot this could be.
    NoParent(SnapId),
    /// An id that must go is in use.
    Open(SnapId),
    /// The table is read-only, and something would have to change.
    ReadOnly(SnapId),
    /// The store has no number for one of the origin, or of this snapshot.
    NoId(Option<SnapId>, NoId),
}

impl Refused {
    /// The error number to answer with.
    pub(super) fn errno(&self) -> Error {
        match self {
            Refused::Given(..) => EINVAL,
            Refused::NoParent(_) => ENOENT,
            Refused::Open(_) => EBUSY,
            Refused::ReadOnly(_) => EROFS,
            Refused::NoId(_, no) => no.error,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Given(id, next) => write!(
                f,
                "snapshot {id} is listed and does not exist, and the next that can be made is {next}"
            ),
            Refused::NoParent(id) => write!(
                f,
                "snapshot {id} is listed, and there is no snapshot {}",
                SnapId::top(id.id())
            ),
            Refused::Open(id) => write!(
                f,
                "snapshot {id} is not listed, and in use: remove its device first"
            ),
            Refused::ReadOnly(id) => write!(
                f,
                "snapshot {id} would have to be made or deleted: create the device read-write"
            ),
            Refused::NoId(None, no) => f.write_str(no.why),
            Refused::NoId(Some(parent), no) => write!(f, "snapshot {parent} {}", no.why),
        }
    }
}

impl SyncList {
    /// The list with these ids, which are sorted.
    pub(super) fn new(ids: KVVec<SnapId>) -> Self {
        SyncList {
            ids,
            done: Atomic::new(false),
        }
    }

    /// The ids, until they were brought about.
    pub(super) fn pending(&self) -> Option<&[SnapId]> {
        (!self.done.load(Acquire)).then_some(&self.ids)
    }

    fn lists(&self, id: SnapId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// The ids that are listed and not live: those of the origin, then sub-snapshots.
    fn missing<'a>(
        &'a self,
        store: &'a dyn ExceptionStore,
        subs: bool,
    ) -> impl Iterator<Item = SnapId> + 'a {
        let ids = self.ids.iter().copied();
        ids.filter(move |id| id.is_sub() == subs && !store.is_live(*id))
    }

    /// The first id from `from` on that is live and not listed.
    fn extra(&self, store: &dyn ExceptionStore, mut from: SnapId) -> Option<SnapId> {
        loop {
            let (mut id, last) = store.live_range(from)?;
            loop {
                if !self.lists(id) {
                    return Some(id);
                }
                if id >= last {
                    break;
                }
                id = id.next_of_kind()?;
            }
            from = SnapId(last.0.checked_add(1)?);
        }
    }

    /// Whether the list can be brought about, as things are now. Changes nothing.
    pub(super) fn check(
        &self,
        store: &dyn ExceptionStore,
        read_only: bool,
        control: &Control,
    ) -> Result<(), Refused> {
        for id in self.missing(store, false) {
            check_next(store, None, id)?;
        }
        for id in self.missing(store, true) {
            let parent = SnapId::top(id.id());
            if store.is_live(parent) {
                check_next(store, Some(parent), id)?;
            } else if !self.lists(parent) {
                return Err(Refused::NoParent(id));
            }
        }
        let mut from = SnapId(0);
        while let Some(id) = self.extra(store, from) {
            if control.is_open(&store.uuid(), id) {
                return Err(Refused::Open(id));
            }
            from = SnapId(id.0.saturating_add(1));
        }
        if read_only {
            let made = [false, true].map(|subs| self.missing(store, subs).next());
            let change = made[0].or(made[1]).or(self.extra(store, SnapId(0)));
            if let Some(id) = change {
                return Err(Refused::ReadOnly(id));
            }
        }
        Ok(())
    }

    /// Brings the list about, if that was not tried before. No origin bio is under way, nor can
    /// one come. The outcome is in status: a failure never fails a resume.
    pub(super) fn apply(
        &self,
        control: &Control,
        origin: &Origin,
        engine: &Engine,
        name: &Name,
        handle: &TargetRef,
    ) {
        if self.done.load(Acquire) {
            return;
        }
        self.done.store(true, Release);
        let result = self.try_apply(control, engine);
        let outcome = result.map_err(|(id, e)| {
            say!(
                pr_err,
                "{name}: sync-snapshots of origin {} stopped at snapshot {id}: error {}",
                origin.dev,
                e.to_errno()
            );
            e
        });
        origin.brief.lock().sync = Some(outcome);
        if outcome.is_err() {
            handle.event();
        }
    }

    /// The id of an error is the one that could not be made or deleted.
    fn try_apply(&self, control: &Control, engine: &Engine) -> Result<(), (SnapId, Error)> {
        let mut flushed = false;
        for subs in [false, true] {
            for &id in self.ids.iter().filter(|id| id.is_sub() == subs) {
                if engine.with_store(|store| store.is_live(id)) {
                    continue;
                }
                if !flushed {
                    // A chunk that is not remapped is the origin's.
                    engine.shared.origin.flush().map_err(|e| (id, e))?;
                    flushed = true;
                }
                let create = order::Control::Create {
                    parent: subs.then_some(SnapId::top(id.id())),
                    id: Some(id),
                    created: real_seconds(),
                    name: [0; NAME_LEN],
                };
                engine.control(create).map_err(|e| (id, e))?;
            }
        }
        let mut from = SnapId(0);
        while let Some(id) = engine.with_store(|store| self.extra(store, from)) {
            if control.is_open(&engine.shared.uuid, id) {
                return Err((id, EBUSY));
            }
            let delete = order::Control::Delete { id };
            engine.control(delete).map_err(|e| (id, e))?;
            from = SnapId(id.0.saturating_add(1));
        }
        Ok(())
    }
}

impl OriginTarget {
    /// Checks the list of `sync-snapshots`, if there is one, against the store as it is, or as a
    /// load of what is `opened` would find it. Changes nothing.
    pub(super) fn check_sync(
        &self,
        control: &Control,
        opened: Option<Open<Limited<MetaBlocks>>>,
    ) -> Result {
        let Some(sync) = &self.sync else {
            return Ok(());
        };
        let read_only = self.mode == Mode::ReadOnly;
        let result = match (opened, self.user.engine()) {
            (Some(opened), _) => {
                let s = self.store.dev();
                let refused = |e: OpenError| refuse!(self.name, e.errno(), "store {s} {e}");
                // Read-only, the log is replayed in memory.
                let opened = Open::peek(opened.into_blocks(), true).map_err(refused)?;
                let store = store::load(opened).map_err(refused)?;
                sync.check(&*store, read_only, control)
            }
            (None, Some(engine)) => {
                engine.with_store(|store| sync.check(store, read_only, control))
            }
            (None, None) => Ok(()),
        };
        let origin = self.origin.dev();
        result.map_err(|why| {
            refuse!(
                self.name,
                why.errno(),
                "sync-snapshots of origin {origin} refused: {why}"
            )
        })
    }
}

/// Whether `id` is the next that `parent` gives, or a later one.
fn check_next(
    store: &dyn ExceptionStore,
    parent: Option<SnapId>,
    id: SnapId,
) -> Result<(), Refused> {
    match store.next_id(parent) {
        Ok(next) if id < next => Err(Refused::Given(id, next)),
        Ok(_) => Ok(()),
        Err(no) => Err(Refused::NoId(parent, no)),
    }
}

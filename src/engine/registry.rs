// SPDX-License-Identifier: GPL-2.0

//! The origins that live targets name, found by block device.
//!
//! An entry outlives the origin's own target as long as a snapshot's target names it, so that the
//! snapshots find the origin again when it comes back.

use super::{
    control::Control,
    order::{
        grace::{Generation, Grace, Ticket},
        Users, //
    },
    worker::Engine, //
};
use crate::dm::{
    device::DevT,
    global::{Filled, Global}, //
};
use crate::store::SnapId;
use core::fmt;
use kernel::{
    new_mutex,
    new_spinlock,
    new_spinlock_irq,
    prelude::*,
    sync::{Arc, Mutex, SpinLock, SpinLockIrq}, //
};

static REGISTRY: Global<Registry> = Global::new();

/// All origins.
///
/// Its lock is held for short sections only, never during I/O: an origin may stand on a device of
/// another one that is suspended.
#[pin_data]
pub(crate) struct Registry {
    #[pin]
    entries: Mutex<KVec<Entry>>,
}

struct Entry {
    origin: Arc<Origin>,
    users: usize,
    /// The store that is being opened for it, before there is an engine.
    claim: Option<DevT>,
}

impl Entry {
    /// The store that runs for it, or is about to.
    fn store(&self) -> Option<DevT> {
        let running = self.origin.with_engine(|engine| engine.shared.store.dev());
        running.or(self.claim)
    }
}

/// Why a store cannot be opened for an origin. Names the other origin.
pub(super) enum Taken {
    /// The store is that of another origin.
    Store(DevT),
    /// The store is an origin itself, with this store.
    StoreIsOrigin(DevT),
    /// The origin is the store of another one.
    OriginIsStore(DevT),
    /// The mapped device stands for another origin.
    Mapped(DevT),
}

/// The right to open a store for an origin: nobody else can until it is dropped.
pub(super) struct Claim<'a>(&'a User);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.with_entry(|entry| entry.claim = None);
    }
}

/// An origin device, whether or not its target is loaded.
#[pin_data]
pub(super) struct Origin {
    /// The plain device.
    pub(super) dev: DevT,
    /// What commands and table changes work on. Held while a command waits for the worker, which
    /// never takes it.
    #[pin]
    pub(super) control: Mutex<Control>,
    /// The running engine, for map(). A leaf.
    #[pin]
    engine: SpinLockIrq<Option<Arc<Engine>>>,
    /// What status shows of commands, without waiting for one. A leaf.
    #[pin]
    pub(super) brief: SpinLock<Brief>,
    /// Who is under way, by kind of [`Users`]. A leaf. It is here and not in the engine because a
    /// snapshot's bio may outlive the engine that sent it.
    #[pin]
    grace: SpinLockIrq<[Grace; 2]>,
}

/// How the last create ended.
#[derive(Clone, Copy, Default)]
pub(super) enum Last {
    /// There was none since the store was loaded.
    #[default]
    None,
    /// It made this snapshot.
    Created(SnapId),
    /// It failed.
    Failed(Error),
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Last::None => f.write_str("-"),
            Last::Created(id) => write!(f, "created:{id}"),
            Last::Failed(e) => write!(f, "failed:{}", -e.to_errno()),
        }
    }
}

/// What status shows of commands.
#[derive(Clone, Copy, Default)]
pub(super) struct Brief {
    /// The id that a create at the next suspend gives.
    pub(super) pending: Option<SnapId>,
    /// How the last create ended.
    pub(super) last: Last,
    /// How `sync-snapshots` ended, if a table had it.
    pub(super) sync: Option<Result>,
}

/// Makes the registry; the answer is dropped when the module goes.
pub(crate) fn init() -> Result<Filled<Registry>> {
    let registry = Arc::pin_init(
        pin_init!(Registry {
            entries <- new_mutex!(KVec::new()),
        }),
        GFP_KERNEL,
    )?;
    Ok(REGISTRY.fill(registry))
}

/// A target's use of an [`Origin`].
pub(super) struct User {
    origin: Arc<Origin>,
}

impl core::ops::Deref for User {
    type Target = Arc<Origin>;

    fn deref(&self) -> &Arc<Origin> {
        &self.origin
    }
}

impl User {
    /// The entry of `dev`, made if need be.
    pub(super) fn new(dev: DevT) -> Result<Self> {
        let registry = REGISTRY.get().ok_or(ENODEV)?;
        let mut entries = registry.entries.lock();
        if let Some(entry) = entries.iter_mut().find(|e| e.origin.dev == dev) {
            entry.users += 1;
            return Ok(User {
                origin: entry.origin.clone(),
            });
        }
        let origin = Arc::pin_init(
            pin_init!(Origin {
                dev,
                control <- new_mutex!(Control::default()),
                engine <- new_spinlock_irq!(None),
                brief <- new_spinlock!(Brief::default()),
                grace <- new_spinlock_irq!([Grace::default(), Grace::default()]),
            }),
            GFP_KERNEL,
        )?;
        entries.push(
            Entry {
                origin: origin.clone(),
                users: 1,
                claim: None,
            },
            GFP_KERNEL,
        )?;
        Ok(User { origin })
    }

    /// Claims `store` for this origin, whose mapped device is `mapped`. The caller holds the
    /// origin's control lock as long as it has the claim. No I/O is waited for.
    pub(super) fn claim(&self, store: DevT, mapped: DevT) -> Result<Claim<'_>, Taken> {
        let mut taken = None;
        self.with_entries(|entries| {
            let mine = self.origin.dev;
            let others = entries
                .iter()
                .filter(|e| !Arc::ptr_eq(&e.origin, &self.origin));
            for other in others {
                let (dev, theirs) = (other.origin.dev, other.store());
                let stands_for = other.origin.with_engine(|e| e.shared.mapped);
                taken = match theirs {
                    Some(theirs) if theirs == store => Some(Taken::Store(dev)),
                    Some(theirs) if theirs == mine => Some(Taken::OriginIsStore(dev)),
                    Some(theirs) if dev == store => Some(Taken::StoreIsOrigin(theirs)),
                    _ if stands_for == Some(mapped) => Some(Taken::Mapped(dev)),
                    _ => continue,
                };
                return;
            }
            let own = entries
                .iter_mut()
                .find(|e| Arc::ptr_eq(&e.origin, &self.origin));
            if let Some(own) = own {
                own.claim = Some(store);
            }
        });
        match taken {
            Some(taken) => Err(taken),
            None => Ok(Claim(self)),
        }
    }

    fn with_entries(&self, f: impl FnOnce(&mut KVec<Entry>)) {
        if let Some(registry) = REGISTRY.get() {
            f(&mut registry.entries.lock());
        }
    }

    fn with_entry(&self, f: impl FnOnce(&mut Entry)) {
        self.with_entries(|entries| {
            let mut entries = entries.iter_mut();
            if let Some(entry) = entries.find(|e| Arc::ptr_eq(&e.origin, &self.origin)) {
                f(entry);
            }
        });
    }
}

/// A table that is entered at its origin.
pub(super) struct Listed {
    origin: Arc<Origin>,
    /// Its number.
    pub(super) instance: u64,
}

impl Listed {
    /// Enters a table of the device `mapped`.
    pub(super) fn new(user: &User, mapped: DevT) -> Result<Self> {
        let instance = user.control.lock().enlist(mapped)?;
        Ok(Self {
            origin: user.origin.clone(),
            instance,
        })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.origin.control.lock().unlist(self.instance);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let Some(registry) = REGISTRY.get() else {
            return;
        };
        let mut entries = registry.entries.lock();
        let at = entries
            .iter()
            .position(|e| Arc::ptr_eq(&e.origin, &self.origin));
        let Some(at) = at else { return };
        entries[at].users -= 1;
        let gone = (entries[at].users == 0).then(|| entries.remove(at));
        // Its last reference may go with it: not under the lock.
        drop(entries);
        drop(gone);
    }
}

impl Origin {
    /// The running engine. Process context, since the reference may turn out to be the last.
    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.lock().clone()
    }

    /// Shows the running engine to `f`, which must not wait; any context.
    pub(super) fn with_engine<R>(&self, f: impl FnOnce(&Engine) -> R) -> Option<R> {
        self.engine.lock().as_deref().map(f)
    }

    /// Sets or takes away the running engine.
    pub(super) fn set_engine(&self, engine: Option<Arc<Engine>>) {
        let mut place = self.engine.lock();
        let old = core::mem::replace(&mut *place, engine);
        drop(place);
        drop(old);
    }

    fn with<R>(&self, users: Users, f: impl FnOnce(&mut Grace) -> R) -> R {
        f(&mut self.grace.lock()[users as usize])
    }

    /// Counts somebody among `users`.
    pub(super) fn enter(&self, users: Users) -> Generation {
        self.with(users, Grace::enter)
    }

    /// It has ended; the worker is woken if it waits for that.
    pub(super) fn leave(&self, users: Users, generation: Generation) {
        if self.with(users, |grace| grace.leave(generation)) {
            self.with_engine(Engine::look);
        }
    }

    /// Begins to wait for the users of now.
    pub(super) fn ask(&self, users: Users) -> Ticket {
        self.with(users, Grace::ask)
    }

    /// Whether they have ended.
    pub(super) fn passed(&self, users: Users, ticket: Ticket) -> bool {
        self.with(users, |grace| grace.passed(ticket))
    }
}

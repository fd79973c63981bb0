// SPDX-License-Identifier: GPL-2.0

//! Holds off writes of one snapshot while a snapshot of it is cut.
//!
//! Suspending the origin stops its own writes only. Here those of the parent wait; when no
//! earlier one is under way, neither on the store nor as a copy, the cut is made between them.

use super::{grace::Ticket, Fifo};
use crate::store::SnapId;

/// Where the gate stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No snapshot is held off.
    Open,
    /// Writes of this one wait; earlier ones are still under way.
    Closing(SnapId, Ticket),
    /// None is under way.
    Shut(SnapId),
}

/// The gate of one origin.
pub(super) struct Gate<Q> {
    state: State,
    waiting: Q,
}

impl<Q: Fifo> Gate<Q> {
    pub(super) fn new() -> Self {
        Gate {
            state: State::Open,
            waiting: Q::default(),
        }
    }

    /// Whether writes of `id` are held off.
    pub(super) fn is_for(&self, id: SnapId) -> bool {
        match self.state {
            State::Open => false,
            State::Closing(parent, _) | State::Shut(parent) => parent == id,
        }
    }

    /// Whether nobody is held off.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether no write of `id` is under way, nor will be.
    pub(super) fn is_shut(&self, id: SnapId) -> bool {
        self.state == State::Shut(id)
    }

    /// Holds off writes of `id`; those under way were counted when `since` was asked.
    pub(super) fn begin(&mut self, id: SnapId, since: Ticket) {
        self.state = State::Closing(id, since);
    }

    /// What is waited for.
    pub(super) fn since(&self) -> Ticket {
        match self.state {
            State::Closing(_, since) => since,
            _ => Ticket::default(),
        }
    }

    /// Nothing is under way any more.
    pub(super) fn shut(&mut self) {
        if let State::Closing(id, _) = self.state {
            self.state = State::Shut(id);
        }
    }

    /// Takes the bio, a write of `id`, if it must wait.
    pub(super) fn hold(&mut self, id: SnapId, bio: Q::Item) -> Option<Q::Item> {
        if self.is_for(id) {
            self.waiting.push(bio);
            None
        } else {
            Some(bio)
        }
    }

    /// Lets all go on.
    pub(super) fn open(&mut self, retry: &mut Q) {
        self.state = State::Open;
        retry.append(&mut self.waiting);
    }

    /// Whether no bio waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

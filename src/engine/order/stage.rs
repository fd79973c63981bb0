// SPDX-License-Identifier: GPL-2.0

//! Who waits for which records to become durable.
//!
//! Records are collected in the batch, then in the log write that is out, and then, durable, they
//! *settle*: bios that were sent on before they were made run out. An origin write whose answer
//! rests on a record in any of these stages waits there, and so does a write to a chunk of the
//! store that other snapshots shared before.

use super::{
    grace::Ticket,
    Fifo, //
};
use crate::store::SnapId;
use kernel::prelude::*;

/// Words of the filter: 4096 bits, so that a hundred records make few false answers.
const WORDS: usize = 64;

/// A set of numbers that may answer "in" for one that is not, never the other way round.
///
/// On the heap, since the stages are moved when they are made and a kernel stack is small.
struct Filter(KVec<u64>);

impl Filter {
    fn new() -> Result<Self> {
        Ok(Filter(KVec::from_elem(0, WORDS, GFP_KERNEL)?))
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(|word| *word = 0);
    }

    fn fill(&mut self) {
        self.0.iter_mut().for_each(|word| *word = u64::MAX);
    }

    fn place(number: u64) -> (usize, u64) {
        // Fibonacci hashing spreads runs of neighbouring numbers over all words.
        let h = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        ((h as usize / 64) % WORDS, 1 << (h % 64))
    }

    fn insert(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.0[word] |= bit;
    }

    fn contains(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0[word] & bit != 0
    }
}

/// Chunks about which something was recorded, and the bios that must not touch them before the
/// record is durable and everybody is gone who looked before it was made.
pub(super) struct Waiting<Q> {
    chunks: Filter,
    /// Bios to be checked again when the wait is over.
    pub(super) retry: Q,
    /// Origin bios that may go on then, if no snapshot was made since they were looked at:
    /// nothing is left to preserve of their chunks.
    go: Q,
    /// The count of snapshots made when the first of `go` was looked at.
    cuts: u64,
    /// When those who looked before have gone.
    pub(super) since: Ticket,
    busy: bool,
}

impl<Q: Fifo> Waiting<Q> {
    fn new() -> Result<Self> {
        Ok(Waiting {
            chunks: Filter::new()?,
            retry: Q::default(),
            go: Q::default(),
            cuts: 0,
            since: Ticket::default(),
            busy: false,
        })
    }

    /// Something was recorded about the chunk with this number.
    pub(super) fn note(&mut self, chunk: u64) {
        self.chunks.insert(chunk);
        self.busy = true;
    }

    /// Something was recorded about all chunks.
    pub(super) fn note_all(&mut self) {
        self.chunks.fill();
        self.busy = true;
    }

    /// Takes the bio, if it must wait here before it touches the chunk with this number.
    pub(super) fn hold(&mut self, chunk: u64, bio: Q::Item) -> Option<Q::Item> {
        if self.chunks.contains(chunk) {
            self.retry.push(bio);
            None
        } else {
            Some(bio)
        }
    }

    /// The same, of an origin bio whose chunk has nothing left to preserve.
    pub(super) fn hold_origin(&mut self, chunk: u64, bio: Q::Item, cuts: u64) -> Option<Q::Item> {
        if !self.chunks.contains(chunk) {
            return Some(bio);
        }
        self.let_wait(bio, cuts);
        None
    }

    /// Lets an origin bio wait whose chunk has nothing left to preserve.
    pub(super) fn let_wait(&mut self, bio: Q::Item, cuts: u64) {
        self.cuts = if self.go.is_empty() {
            cuts
        } else {
            self.cuts.min(cuts)
        };
        self.go.push(bio);
    }

    /// Whether nobody waits here.
    pub(super) fn is_free(&self) -> bool {
        self.retry.is_empty() && self.go.is_empty()
    }

    /// Lets all go: those of `go` to where no cut since `cuts` makes them be looked at again.
    fn drain(&mut self, retry: &mut Q, go: Option<(&mut Q, u64)>) {
        retry.append(&mut self.retry);
        match go {
            Some((go, cuts)) if cuts == self.cuts => go.append(&mut self.go),
            _ => retry.append(&mut self.go),
        }
        self.clear();
    }

    /// Whether a bio that touches the chunk with this number must wait here.
    pub(super) fn holds(&self, chunk: u64) -> bool {
        self.chunks.contains(chunk)
    }

    fn take(&mut self, from: &mut Self) {
        if self.busy {
            for (mine, other) in self.chunks.0.iter_mut().zip(from.chunks.0.iter()) {
                *mine |= other;
            }
        } else {
            // It is empty, and what it is exchanged for is cleared below.
            core::mem::swap(&mut self.chunks, &mut from.chunks);
        }
        self.retry.append(&mut from.retry);
        self.cuts = match (self.go.is_empty(), from.go.is_empty()) {
            (true, _) => from.cuts,
            (false, true) => self.cuts,
            (false, false) => self.cuts.min(from.cuts),
        };
        self.go.append(&mut from.go);
        self.since = self.since.max(from.since);
        self.busy |= from.busy;
        from.clear();
    }

    /// Forgets what was recorded; the queues are empty or stay.
    fn clear(&mut self) {
        self.chunks.clear();
        self.since = Ticket::default();
        self.busy = false;
    }
}

/// Durable records whose earlier users have not all gone: a first group, and all behind it.
pub(super) struct Settling<Q> {
    first: Waiting<Q>,
    next: Waiting<Q>,
}

impl<Q: Fifo> Settling<Q> {
    pub(super) fn new() -> Result<Self> {
        Ok(Settling {
            first: Waiting::new()?,
            next: Waiting::new()?,
        })
    }

    /// Takes over what has become durable.
    pub(super) fn take(&mut self, from: &mut Waiting<Q>) {
        if self.first.busy {
            self.next.take(from);
        } else {
            self.first.take(from);
        }
    }

    /// Takes the bio, if it must wait here before it touches the chunk with this number.
    pub(super) fn hold(&mut self, chunk: u64, bio: Q::Item) -> Option<Q::Item> {
        let bio = self.next.hold(chunk, bio)?;
        self.first.hold(chunk, bio)
    }

    /// The same, of an origin bio whose chunk has nothing left to preserve.
    pub(super) fn hold_origin(&mut self, chunk: u64, bio: Q::Item, cuts: u64) -> Option<Q::Item> {
        let bio = self.next.hold_origin(chunk, bio, cuts)?;
        self.first.hold_origin(chunk, bio, cuts)
    }

    /// Lets a bio wait for those who had looked when `since` was asked.
    pub(super) fn wait(&mut self, since: Ticket, bio: Q::Item) {
        self.next.since = self.next.since.max(since);
        self.next.busy = true;
        self.next.retry.push(bio);
    }

    /// Lets all who come wait for those who had looked when `since` was asked.
    pub(super) fn wait_all(&mut self, since: Ticket) {
        self.next.since = self.next.since.max(since);
        self.next.note_all();
    }

    /// Moves those who need not wait any more to `retry`, or to `go` if they may go on unless
    /// there were other than `cuts` snapshots made. Answers whether any wait is over.
    pub(super) fn settle(
        &mut self,
        retry: &mut Q,
        go: &mut Q,
        cuts: u64,
        mut passed: impl FnMut(Ticket) -> bool,
    ) -> bool {
        let mut any = false;
        while self.is_busy() {
            if self.first.busy {
                if !passed(self.first.since) {
                    break;
                }
                any = true;
                self.first.drain(retry, Some((&mut *go, cuts)));
            }
            self.first.take(&mut self.next);
        }
        any
    }

    /// Whether anything is in here.
    pub(super) fn is_busy(&self) -> bool {
        self.first.busy || self.next.busy
    }

    /// Lets all go.
    pub(super) fn drain(&mut self, retry: &mut Q) {
        for waiting in [&mut self.first, &mut self.next] {
            waiting.drain(retry, None);
        }
    }
}

/// Records on their way to the log, and the bios that wait for them.
pub(super) struct Stage<Q> {
    /// Chunks of the origin that have a record in this stage. Origin writes wait.
    pub(super) recorded: Waiting<Q>,
    /// Chunks of the store that are shared by fewer snapshots because of this stage. Writes in
    /// place wait: until the record is durable a cut brings the other snapshots back to them.
    pub(super) unshared: Waiting<Q>,
    /// Snapshot flushes that end when the stage's log write has ended.
    pub(super) flushes: Q,
    /// Snapshot flushes that arrived too late for the log write's own flush.
    pub(super) late_flushes: Q,
    /// Snapshot bios that are done but for the record: they end with the log write.
    pub(super) ends: Q,
    /// A control command waits for the log write.
    pub(super) control: bool,
    /// A snapshot to be forgotten when its deletion, which nobody asked for, is durable.
    pub(super) orphan: Option<SnapId>,
    /// Whether anything is in this stage.
    pub(super) busy: bool,
}

impl<Q: Fifo> Stage<Q> {
    pub(super) fn new() -> Result<Self> {
        Ok(Stage {
            recorded: Waiting::new()?,
            unshared: Waiting::new()?,
            flushes: Q::default(),
            late_flushes: Q::default(),
            ends: Q::default(),
            control: false,
            orphan: None,
            busy: false,
        })
    }

    /// Whether somebody waits for this stage's records to be written.
    pub(super) fn is_awaited(&self) -> bool {
        self.control
            || self.orphan.is_some()
            || !self.recorded.is_free()
            || !self.unshared.is_free()
            || !self.flushes.is_empty()
            || !self.ends.is_empty()
    }

    /// Moves those who wait for this stage to `retry`, and forgets the records.
    pub(super) fn drain(&mut self, retry: &mut Q) {
        self.recorded.drain(retry, None);
        self.unshared.drain(retry, None);
        self.control = false;
        self.orphan = None;
        self.busy = false;
    }
}

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
    /// When those who looked before have gone.
    pub(super) since: Ticket,
    busy: bool,
}

impl<Q: Fifo> Waiting<Q> {
    fn new() -> Result<Self> {
        Ok(Waiting {
            chunks: Filter::new()?,
            retry: Q::default(),
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

    /// Whether a bio that touches the chunk with this number must wait here.
    pub(super) fn holds(&self, chunk: u64) -> bool {
        self.chunks.contains(chunk)
    }

    fn take(&mut self, from: &mut Self) {
        for (mine, other) in self.chunks.0.iter_mut().zip(from.chunks.0.iter()) {
            *mine |= other;
        }
        self.retry.append(&mut from.retry);
        self.since = self.since.max(from.since);
        self.busy |= from.busy;
        from.clear();
    }

    /// Forgets what was recorded; the queue is empty or stays.
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

    /// Moves those who need not wait any more to `retry`. Answers whether any wait is over.
    pub(super) fn settle(&mut self, retry: &mut Q, mut passed: impl FnMut(Ticket) -> bool) -> bool {
        let mut any = false;
        while self.is_busy() {
            if self.first.busy {
                if !passed(self.first.since) {
                    break;
                }
                any = true;
                retry.append(&mut self.first.retry);
                self.first.clear();
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
            retry.append(&mut waiting.retry);
            waiting.clear();
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
            || !self.recorded.retry.is_empty()
            || !self.unshared.retry.is_empty()
            || !self.flushes.is_empty()
            || !self.ends.is_empty()
    }

    /// Moves those who wait for this stage to `retry`, and forgets the records.
    pub(super) fn drain(&mut self, retry: &mut Q) {
        retry.append(&mut self.recorded.retry);
        retry.append(&mut self.unshared.retry);
        self.recorded.clear();
        self.unshared.clear();
        self.control = false;
        self.orphan = None;
        self.busy = false;
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What one leaf of a tree of exceptions says of a row of chunks.

use crate::store::types::Value;

/// Puts the entries of a leaf together to what each chunk holds for one snapshot.
pub(in crate::store) struct Ahead<'a> {
    /// The first chunk that nothing was told of.
    next: u64,
    end: u64,
    /// The chunk whose entries come now, and what they say so far.
    now: Option<(u64, Option<Value>)>,
    /// An entry behind the last chunk was seen.
    over: bool,
    tell: &'a mut dyn FnMut(u64, Option<Value>),
}

impl<'a> Ahead<'a> {
    /// Of chunks from `begin` to before `end`, `tell` gets those that are certain, in order.
    pub(super) fn new(begin: u64, end: u64, tell: &'a mut dyn FnMut(u64, Option<Value>)) -> Self {
        Self {
            next: begin,
            end,
            now: None,
            over: false,
            tell,
        }
    }

    /// The first chunk.
    pub(in crate::store) fn begin(&self) -> u64 {
        self.next
    }

    /// The next entry is one of `chunk`, and says `value` if it is for the snapshot. Answers
    /// whether more are wanted.
    pub(in crate::store) fn entry(&mut self, chunk: u64, value: Option<Value>) -> bool {
        self.over = chunk >= self.end;
        if self.over {
            return false;
        }
        match &mut self.now {
            Some((now, old)) if *now == chunk => *old = old.or(value),
            _ => {
                self.settle(chunk);
                self.now = Some((chunk, value));
            }
        }
        true
    }

    /// The leaf has no more entries. Those of `bound`, and of all chunks behind it, are elsewhere.
    pub(in crate::store) fn end(&mut self, bound: Option<u64>) {
        let end = match bound {
            Some(bound) if !self.over => bound.min(self.end),
            _ => self.end,
        };
        self.settle(end);
    }

    /// All entries of chunks below `end` were seen.
    fn settle(&mut self, end: u64) {
        if let Some((now, value)) = self.now.take().filter(|(now, _)| *now < end) {
            self.tell_none(now);
            (self.tell)(now, value);
            self.next = now + 1;
        }
        self.tell_none(end);
    }

    /// Chunks below `end` that nothing was told of have no entry.
    fn tell_none(&mut self, end: u64) {
        while self.next < end {
            (self.tell)(self.next, None);
            self.next += 1;
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Bios: owned tickets, and a table of what each asks for and what it may see.

use super::oracle::Mark;
use crate::engine::order::{Fifo, Op};
use std::collections::VecDeque;

/// A bio. It cannot be copied, so it is ended once at most.
#[derive(Debug)]
pub(crate) struct Bio(pub(crate) usize);

/// A queue of them.
#[derive(Default)]
pub(crate) struct Bios(VecDeque<Bio>);

impl Fifo for Bios {
    type Item = Bio;

    fn push(&mut self, bio: Bio) {
        self.0.push_back(bio);
    }

    fn push_front(&mut self, bio: Bio) {
        self.0.push_front(bio);
    }

    fn pop(&mut self) -> Option<Bio> {
        self.0.pop_front()
    }

    fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What there is to know of a bio.
pub(crate) struct BioInfo {
    /// The snapshot, or `None` for the origin.
    pub(crate) id: Option<u64>,
    /// What is asked for.
    pub(crate) op: Op,
    /// The chunk, and the first sector within it.
    pub(crate) chunk: u64,
    /// See `chunk`.
    pub(crate) first: u64,
    /// What it writes, if it is carried out.
    pub(crate) tokens: Vec<u64>,
    /// Sectors.
    pub(crate) len: u64,
    /// Covers all of the chunk.
    pub(crate) whole: bool,
    /// Durable when it ends.
    pub(crate) fua: bool,
    /// What a read may see, by sector.
    pub(crate) allowed: Vec<Vec<u64>>,
    /// What a flush makes durable.
    pub(crate) mark: Mark,
    /// Went through the machine.
    pub(crate) protected: bool,
    /// It went to the device.
    pub(crate) passed: bool,
    /// It is over.
    pub(crate) ended: bool,
}

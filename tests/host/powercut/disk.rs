// SPDX-License-Identifier: GPL-2.0

//! A device with a volatile write cache, as a list of what may and what must survive a power cut.
//!
//! A write is *flying* until it completes, then *cached* until a flush that was issued later has
//! ended; a FUA write is durable when it completes. A cut keeps what is durable and any part of
//! the rest, sector by sector.

use super::rng::Rng;
use crate::store::blocks::Block;
use std::sync::Arc;

/// Bytes in a sector.
const SECTOR: usize = 512;
/// Sectors in a metadata block.
pub(crate) const BLOCK_SECTORS: u64 = 8;

/// What a sector holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// User data: a number that no other write has used. 0 is a sector of zeroes.
    Token(u64),
    /// A part of a metadata block.
    Meta(Arc<Block>, u8),
}

impl Content {
    /// The token, if this is user data.
    pub(crate) fn token(&self) -> Option<u64> {
        match self {
            Content::Token(token) => Some(*token),
            Content::Meta(..) => None,
        }
    }
}

/// Number of a flying write.
pub(crate) type WriteId = u64;

#[derive(Clone)]
struct Write {
    /// Number while it flies; its place in the order of completion after that.
    id: u64,
    start: u64,
    data: Vec<Content>,
    fua: bool,
}

/// How much of what is not durable a cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing of it.
    All,
    /// All of it.
    Nothing,
    /// Each write with this chance of 8.
    Writes(usize),
    /// Each sector with this chance of 8.
    Sectors(usize),
}

impl Loss {
    /// One of them, the extremes often.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 | 1 => Loss::All,
            2 => Loss::Nothing,
            3 | 4 => Loss::Writes(1 + rng.below(7)),
            _ => Loss::Sectors(1 + rng.below(7)),
        }
    }
}

/// A device.
#[derive(Clone)]
pub(crate) struct Disk {
    /// What survives for sure, and when it was completed.
    durable: Vec<(u64, Content)>,
    /// What reads see.
    visible: Vec<Content>,
    cached: Vec<Write>,
    flying: Vec<Write>,
    /// Completions and numbers so far.
    clock: u64,
}

impl Disk {
    /// A device of `sectors` zeroes.
    pub(crate) fn new(sectors: u64) -> Self {
        Self::holding(vec![Content::Token(0); sectors as usize])
    }

    fn holding(visible: Vec<Content>) -> Self {
        Disk {
            durable: visible.iter().map(|c| (0, c.clone())).collect(),
            visible,
            cached: Vec::new(),
            flying: Vec::new(),
            clock: 0,
        }
    }

    /// It has so many sectors now, the new ones zeroes.
    pub(crate) fn grow(&mut self, sectors: u64) {
        let sectors = sectors.max(self.len()) as usize;
        self.durable.resize(sectors, (0, Content::Token(0)));
        self.visible.resize(sectors, Content::Token(0));
    }

    /// Sectors on it.
    pub(crate) fn len(&self) -> u64 {
        self.visible.len() as u64
    }

    /// A write begins.
    pub(crate) fn submit(&mut self, start: u64, data: Vec<Content>, fua: bool) -> WriteId {
        assert!(start + data.len() as u64 <= self.len(), "write beyond end");
        self.clock += 1;
        self.flying.push(Write {
            id: self.clock,
            start,
            data,
            fua,
        });
        self.clock
    }

    /// A write has ended.
    pub(crate) fn complete(&mut self, id: WriteId) {
        let at = self.flying.iter().position(|w| w.id == id);
        let mut write = self.flying.swap_remove(at.expect("no such write"));
        self.clock += 1;
        write.id = self.clock;
        for (i, content) in write.data.iter().enumerate() {
            self.visible[write.start as usize + i] = content.clone();
        }
        if write.fua {
            Self::harden(&mut self.durable, &write);
        } else {
            self.cached.push(write);
        }
    }

    /// A write has failed: nothing, a part or all of it has been done.
    pub(crate) fn fail(&mut self, id: WriteId, rng: &mut Rng) {
        let write = self.flying.iter_mut().find(|w| w.id == id);
        let write = write.expect("no such write");
        write.fua = false;
        let len = write.data.len();
        write
            .data
            .truncate([0, len, rng.below(len + 1)][rng.below(3)]);
        self.complete(id);
    }

    fn harden(durable: &mut [(u64, Content)], write: &Write) {
        for (i, content) in write.data.iter().enumerate() {
            let to = &mut durable[write.start as usize + i];
            if to.0 <= write.id {
                *to = (write.id, content.clone());
            }
        }
    }

    /// A flush begins; returns what to end it with.
    #[must_use]
    pub(crate) fn begin_flush(&self) -> u64 {
        self.clock
    }

    /// The flush that began at `mark` has ended.
    pub(crate) fn end_flush(&mut self, mark: u64) {
        let durable = &mut self.durable;
        self.cached.retain(|write| {
            if write.id <= mark {
                Self::harden(durable, write);
            }
            write.id > mark
        });
    }

    /// What a read sees.
    pub(crate) fn read(&self, start: u64, sectors: u64) -> &[Content] {
        &self.visible[start as usize..(start + sectors) as usize]
    }

    /// Whether a cut could lose anything.
    pub(crate) fn is_settled(&self) -> bool {
        self.cached.is_empty() && self.flying.is_empty()
    }

    /// What a block read sees.
    pub(crate) fn read_block(&self, nr: u64) -> Block {
        let mut block = [0; 4096];
        let sectors = self.read(nr * BLOCK_SECTORS, BLOCK_SECTORS);
        for (to, from) in block.chunks_exact_mut(SECTOR).zip(sectors) {
            match from {
                Content::Token(token) => {
                    for word in to.chunks_exact_mut(8) {
                        word.copy_from_slice(&token.to_le_bytes());
                    }
                }
                Content::Meta(block, part) => {
                    let begin = usize::from(*part) * SECTOR;
                    to.copy_from_slice(&block[begin..begin + SECTOR]);
                }
            }
        }
        block
    }

    /// A write of a metadata block begins.
    pub(crate) fn submit_block(&mut self, nr: u64, block: &Block, fua: bool) -> WriteId {
        self.submit_blocks(nr, std::slice::from_ref(block), fua)
    }

    /// A write of several metadata blocks begins.
    pub(crate) fn submit_blocks(&mut self, nr: u64, blocks: &[Block], fua: bool) -> WriteId {
        let mut data = Vec::with_capacity(blocks.len() * BLOCK_SECTORS as usize);
        for block in blocks {
            let block = Arc::new(*block);
            data.extend((0..BLOCK_SECTORS as u8).map(|part| Content::Meta(block.clone(), part)));
        }
        self.submit(nr * BLOCK_SECTORS, data, fua)
    }

    /// The device as it may be after a power cut now.
    pub(crate) fn cut(&self, rng: &mut Rng, loss: Loss) -> Disk {
        let mut durable = self.durable.clone();
        let mut flying = self.flying.clone();
        rng.shuffle(&mut flying);
        for (i, write) in flying.iter_mut().enumerate() {
            write.id = self.clock + 1 + i as u64;
        }
        for write in self.cached.iter().chain(&flying) {
            match loss {
                Loss::All => {}
                Loss::Nothing => Self::harden(&mut durable, write),
                Loss::Writes(n) => {
                    if rng.below(8) < n {
                        Self::harden(&mut durable, write);
                    }
                }
                Loss::Sectors(n) => {
                    for (i, content) in write.data.iter().enumerate() {
                        let to = &mut durable[write.start as usize + i];
                        if rng.below(8) < n && to.0 <= write.id {
                            *to = (write.id, content.clone());
                        }
                    }
                }
            }
        }
        Self::holding(durable.into_iter().map(|(_, content)| content).collect())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the engine remembers of a bio, and the queues bios stand in.

use super::order::{
    grace::Generation,
    Fifo,
    Users, //
};
use crate::dm::bio::{Bio, BioList};
use crate::store::SnapId;

/// Data that travels with each bio of both targets.
#[derive(Clone, Copy, Default)]
pub(crate) struct BioData {
    /// The snapshot it belongs to; `None` for the origin.
    pub(crate) id: Option<SnapId>,
    /// Whether it covers all of its chunk that the device has.
    pub(crate) whole: bool,
    /// As whose end it is waited for, once it was sent down.
    pub(crate) counted: Option<(Users, Generation)>,
    /// The slot whose destination it overwrites.
    pub(crate) slot: Option<u8>,
    /// The overwrite failed.
    pub(crate) failed: bool,
    /// How often what it needs could not be read.
    pub(crate) tries: u8,
}

/// A bio of one of our targets.
pub(crate) type OurBio = Bio<BioData>;

/// A queue of them; never allocates.
pub(crate) struct Bios(pub(crate) BioList<BioData>);

impl Default for Bios {
    fn default() -> Self {
        Bios(BioList::new())
    }
}

impl Fifo for Bios {
    type Item = OurBio;

    fn push(&mut self, bio: OurBio) {
        self.0.push(bio);
    }

    fn push_front(&mut self, bio: OurBio) {
        self.0.push_front(bio);
    }

    fn pop(&mut self) -> Option<OurBio> {
        self.0.pop()
    }

    fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the origin and every snapshot must hold, by the words of the design alone.

use crate::store::SnapId;
use std::collections::{BTreeMap, BTreeSet};

/// Sectors and what was written to them last, as a flush found them.
pub(crate) type Mark = Vec<(u64, u64)>;

/// Marks a token that stands for zeroes. It is a number of its own nevertheless, so that two
/// writes of zeroes can be told from each other.
pub(crate) const ZERO: u64 = 1 << 63;

/// What a sector holds that was written with `token`.
pub(crate) fn content_of(token: u64) -> u64 {
    if token & ZERO != 0 {
        0
    } else {
        token
    }
}

/// The content of one device: what must survive a cut, and what may.
#[derive(Clone)]
pub(crate) struct Cells {
    /// The oldest content that a cut may bring back.
    floor: Vec<u64>,
    /// Later writes in their order, and whether they have ended.
    later: BTreeMap<u64, Vec<(u64, bool)>>,
}

impl Cells {
    /// A device that durably holds `floor`.
    pub(crate) fn new(floor: Vec<u64>) -> Self {
        Cells {
            floor,
            later: BTreeMap::new(),
        }
    }

    /// It has so many sectors now, the new ones zeroes.
    pub(crate) fn grow(&mut self, sectors: u64) {
        self.floor.resize(sectors.max(self.len()) as usize, 0);
    }

    /// Sectors.
    pub(crate) fn len(&self) -> u64 {
        self.floor.len() as u64
    }

    /// What a read that begins now may see.
    pub(crate) fn visible(&self, sector: u64) -> Vec<u64> {
        let mut seen = vec![self.floor[sector as usize]];
        for (token, ended) in self.later.get(&sector).into_iter().flatten() {
            if *ended {
                seen.clear();
            }
            seen.push(content_of(*token));
        }
        seen
    }

    /// What all writes that have ended lead to.
    pub(crate) fn content(&self) -> Vec<u64> {
        (0..self.len()).map(|s| self.visible(s)[0]).collect()
    }

    /// What a cut that is made now may hold: of the writes under way, any.
    fn cut(&self) -> Self {
        let mut cut = Cells::new(self.content());
        for (sector, later) in &self.later {
            for (token, _) in later.iter().filter(|(_, ended)| !ended) {
                cut.begin(*sector, *token);
            }
        }
        cut
    }

    /// Whether a write to the sector is under way.
    pub(crate) fn is_busy(&self, sector: u64) -> bool {
        let later = self.later.get(&sector);
        later.is_some_and(|l| l.iter().any(|(_, ended)| !ended))
    }

    /// Whether a cut may leave `content`.
    pub(crate) fn survives(&self, sector: u64, content: u64) -> bool {
        let later = self.later.get(&sector);
        self.floor[sector as usize] == content
            || later.is_some_and(|l| l.iter().any(|(t, _)| content_of(*t) == content))
    }

    /// Says what a cut may leave.
    pub(crate) fn describe(&self, sector: u64) -> String {
        let later = self.later.get(&sector).cloned().unwrap_or_default();
        format!("{:x} or {:x?}", self.floor[sector as usize], later)
    }

    /// A write begins.
    pub(crate) fn begin(&mut self, sector: u64, token: u64) {
        self.later.entry(sector).or_default().push((token, false));
    }

    /// A write has ended; with an error it never happened.
    pub(crate) fn end(&mut self, sector: u64, token: u64, good: bool) {
        let Some(later) = self.later.get_mut(&sector) else {
            return;
        };
        let Some(at) = later.iter().position(|(t, _)| *t == token) else {
            return;
        };
        if good {
            later[at].1 = true;
        } else {
            later.remove(at);
        }
    }

    /// What a flush that begins now must make durable.
    pub(crate) fn mark(&self) -> Mark {
        let ended = |later: &[(u64, bool)]| later.iter().rev().find(|w| w.1).map(|w| w.0);
        self.later
            .iter()
            .filter_map(|(sector, later)| Some((*sector, ended(later)?)))
            .collect()
    }

    /// The flush has ended.
    pub(crate) fn harden(&mut self, mark: &[(u64, u64)]) {
        for (sector, token) in mark {
            let Some(later) = self.later.get_mut(sector) else {
                continue;
            };
            if let Some(at) = later.iter().position(|(t, _)| t == token) {
                self.floor[*sector as usize] = content_of(*token);
                later.drain(..=at);
            }
        }
        self.later.retain(|_, later| !later.is_empty());
    }
}

/// A snapshot as it must be.
#[derive(Clone)]
pub(crate) struct Snap {
    /// Its content.
    pub(crate) cells: Cells,
    /// Its creation was acknowledged.
    pub(crate) certain: bool,
    /// Names that it may have after a cut, the last one acknowledged first.
    pub(crate) names: Vec<u64>,
    /// Chunks that may be lost, where the policy allows that.
    pub(crate) lost: BTreeSet<u64>,
    /// Chunks of the origin that were written since, with what was there preserved or lost: it
    /// cannot be lost any more.
    pub(crate) settled: BTreeSet<u64>,
    /// Chunks that were written in it, if that is not lost with the store's last words.
    pub(crate) own: BTreeSet<u64>,
    /// Chunks of the origin that were written in mode `fail` since: what is shared of them is
    /// anything until the loss is durable.
    pub(crate) exposed: BTreeSet<u64>,
}

/// All of it.
#[derive(Clone)]
pub(crate) struct Oracle {
    /// The origin.
    pub(crate) origin: Cells,
    /// The snapshots.
    pub(crate) snaps: BTreeMap<u64, Snap>,
    /// Sectors of the origin, and chunks for data, that the store has acknowledged.
    pub(crate) sizes: (u64, u64),
}

impl Oracle {
    /// An origin of zeroes, without snapshots.
    pub(crate) fn new(sectors: u64) -> Self {
        Oracle {
            origin: Cells::new(vec![0; sectors as usize]),
            snaps: BTreeMap::new(),
            sizes: (sectors, 0),
        }
    }

    /// The content of the origin, or of the snapshot that it is a snapshot of, is what `id` holds
    /// from now on.
    pub(crate) fn cut(&mut self, id: SnapId, name: u64) {
        let parent = match id.is_sub() {
            true => self.snaps.get(&SnapId::top(id.id()).0).cloned(),
            false => None,
        };
        let of = parent.as_ref().map_or(&self.origin, |p| &p.cells);
        let snap = Snap {
            cells: of.cut(),
            certain: false,
            names: vec![name],
            lost: BTreeSet::new(),
            settled: BTreeSet::new(),
            own: BTreeSet::new(),
            exposed: BTreeSet::new(),
        };
        let snap = match parent {
            None => snap,
            Some(parent) => Snap {
                cells: snap.cells,
                certain: false,
                names: snap.names,
                ..parent
            },
        };
        assert!(self.snaps.insert(id.0, snap).is_none(), "id given again");
    }

    /// What snapshots share of the origin's `chunk` may be lost. In doubt it is not known which of
    /// the writes to them count.
    pub(crate) fn lose(&mut self, chunk: u64, doubt: bool) {
        for snap in self.snaps.values_mut() {
            if !snap.settled.contains(&chunk) && (doubt || !snap.own.contains(&chunk)) {
                snap.lost.insert(chunk);
            }
        }
    }

    /// The origin or a snapshot.
    pub(crate) fn cells(&mut self, id: Option<u64>) -> Option<&mut Cells> {
        match id {
            None => Some(&mut self.origin),
            Some(id) => self.snaps.get_mut(&id).map(|s| &mut s.cells),
        }
    }
}

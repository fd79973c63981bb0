// SPDX-License-Identifier: GPL-2.0

//! The exceptions of a `bitmask` store, after Fujita and Daniel: masks of 64 bits, one bit for
//! each snapshot, so that an origin write never needs more than one copy.
//!
//! A descriptor is a mask, and the number of the newest snapshot at the time when it was given
//! out. So a copy or a loss is for the snapshots of then, even if one of them was deleted
//! meanwhile and a new one has got its bit.

mod map;

use super::{
    base::Base,
    blocks::Blocks,
    both::{Ahead, Exceptions, Seen},
    data_space::DataSpace,
    edit::Edit,
    format::{self, RecordKind, BITS},
    log::Record,
    meta::Meta,
    snaps::Snaps,
    types::{Chunk, Descriptor, SnapId, Value},
};
use kernel::prelude::*;
use map::{Map, Rec, LIST_MAX};

/// The exceptions.
pub(super) struct Masks {
    map: Map,
    edit: Edit,
    /// Scratch: the records of a chunk.
    list: KVec<Rec>,
    /// Copies under way whose masks have each bit.
    planned: [u32; BITS],
}

/// The descriptor of the snapshots that have the bits of `mask` now.
fn descriptor(snaps: &Snaps, mask: u64) -> Descriptor {
    Descriptor {
        a: mask,
        b: snaps.newest().map_or(0, |id| id.0),
    }
}

/// The live snapshots that a descriptor is for.
fn live_of(snaps: &Snaps, ids: Descriptor) -> u64 {
    ids.a & snaps.bits().live_to(ids.b)
}

impl Masks {
    /// Plans that the snapshots of `mask` hold `word`.
    fn plan<B: Blocks>(&mut self, base: &mut Base<B>, chunk: u64, mask: u64, word: u64) -> Result {
        let Base { meta, snaps, .. } = base;
        let live = snaps.bits().live();
        self.read(meta, chunk)?;
        let Self { edit, list, .. } = self;
        edit.reset();
        let mut new = Rec { word, mask };
        for rec in list.iter() {
            if rec.word == word {
                // There is one such record for all.
                new.mask |= rec.mask & live;
            } else if rec.mask & mask != 0 {
                replace(edit, chunk, rec, rec.mask & !mask & live)?;
            }
        }
        edit.put(new.entry(chunk))?;
        let here = list.iter().any(|rec| rec.word == word);
        edit.set_used(new.dest().filter(|_| !here));
        Ok(())
    }

    /// Plans that only live snapshots stay in the masks of `chunk`, in `limit` records at most.
    fn plan_live<B: Blocks>(&mut self, base: &mut Base<B>, chunk: u64, limit: usize) -> Result {
        let Base { meta, snaps, .. } = base;
        let live = snaps.bits().live();
        self.read(meta, chunk)?;
        let Self { edit, list, .. } = self;
        edit.reset();
        let dead = list.iter().filter(|rec| rec.mask & !live != 0);
        for (i, rec) in dead.enumerate() {
            if i == limit {
                edit.set_more();
                break;
            }
            replace(edit, chunk, rec, rec.mask & live)?;
        }
        Ok(())
    }

    /// Reads the records of `chunk` into `list`.
    fn read<B: Blocks>(&mut self, m: &mut Meta<B>, chunk: u64) -> Result {
        let list = &mut self.list;
        list.clear();
        let mut fit = true;
        self.map.each(m, chunk, u64::MAX, |rec| {
            fit = list.push_within_capacity(*rec).is_ok();
            fit
        })?;
        fit.then_some(()).ok_or(EILSEQ)
    }
}

/// Plans that `rec` has another mask; with an empty one it goes.
fn replace(edit: &mut Edit, chunk: u64, rec: &Rec, mask: u64) -> Result {
    let word = rec.word;
    if mask != 0 {
        return edit.put(Rec { word, mask }.entry(chunk));
    }
    edit.remove([chunk, word])?;
    rec.dest().map_or(Ok(()), |dest| edit.free(dest))
}

impl Exceptions for Masks {
    fn load<B: Blocks>(m: &mut Meta<B>, root: (u64, u16), epoch: u64) -> Result<Self> {
        Ok(Self {
            map: Map::load(m, root, epoch)?,
            edit: Edit::new(LIST_MAX + 1, LIST_MAX)?,
            list: KVec::with_capacity(LIST_MAX, GFP_KERNEL)?,
            planned: [0; BITS],
        })
    }

    fn root(&self) -> (u64, u16) {
        (self.map.tree.root(), self.map.tree.depth())
    }

    /// There is one set: the live snapshots whose bit is in no record.
    fn next_shared<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        from: u64,
    ) -> Result<Option<(Descriptor, Option<u64>)>> {
        let Base { meta, snaps, .. } = base;
        let mut left = snaps.bits().live_from(from);
        self.map.each(meta, chunk.0, left, |rec| {
            left &= !rec.mask;
            true
        })?;
        Ok((left != 0).then(|| (descriptor(snaps, left), None)))
    }

    fn lookup<B: Blocks>(
        &self,
        base: &mut Base<B>,
        chunk: Chunk,
        id: SnapId,
    ) -> Result<Option<(Value, bool)>> {
        let Base {
            meta, snaps, data, ..
        } = base;
        let bit = snaps.bits().of(id);
        let mut found = None;
        self.map.each(meta, chunk.0, bit, |rec| {
            found = (rec.mask & bit != 0).then_some(*rec);
            true
        })?;
        let Some(Rec { word, mask }) = found else {
            return Ok(None);
        };
        let value = format::value_of(word, data.chunks())?;
        Ok(Some((value, mask & snaps.bits().live() == bit)))
    }

    fn look_ahead<B: Blocks>(
        &self,
        base: &mut Base<B>,
        ahead: &mut Ahead<'_>,
        id: SnapId,
    ) -> Result {
        let Base {
            meta, data, snaps, ..
        } = base;
        let (chunks, own) = (data.chunks(), snaps.bits().of(id));
        let mut bad = None;
        let from = [ahead.begin(), 0];
        let bound = self
            .map
            .tree
            .leaf_from(meta, &from, |[chunk, word, mask]| {
                let value = match mask & own {
                    0 => Ok(None),
                    _ => format::value_of(word, chunks).map(Some),
                };
                bad = value.is_err().then_some(chunk);
                bad.is_none() && ahead.entry(chunk, value.unwrap_or(None))
            })?;
        ahead.end(bad.or(bound.map(|[chunk, _]| chunk)));
        Ok(())
    }

    fn written<B: Blocks>(&self, base: &Base<B>, id: SnapId) -> Descriptor {
        descriptor(&base.snaps, base.snaps.bits().of(id))
    }

    fn overlap<B: Blocks>(&self, base: &Base<B>, ids: Descriptor, id: SnapId) -> bool {
        live_of(&base.snaps, ids) & base.snaps.bits().of(id) != 0
    }

    /// Those with a bit of a snapshot that is not live.
    fn look_for_trim<B: Blocks>(&self, base: &mut Base<B>, from: [u64; 2]) -> Result<Seen> {
        let Base { meta, snaps, .. } = base;
        let dead = !snaps.bits().live();
        let mut found = None;
        let next = self.map.tree.leaf_from(meta, &from, |[chunk, _, mask]| {
            found = (mask & dead != 0).then_some(chunk);
            found.is_none()
        })?;
        Ok(found.map_or(next.map_or(Seen::End, Seen::Next), Seen::Chunk))
    }

    fn plan_set<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: Chunk,
        ids: Descriptor,
        value: Value,
    ) -> Result<Option<Record>> {
        let mask = live_of(&base.snaps, ids);
        if mask == 0 {
            return Ok(None);
        }
        let word = format::value_word(value);
        self.plan(base, chunk.0, mask, word)?;
        let record = Record::new(RecordKind::Set, [chunk.0, mask, 0, word]);
        Ok(Some(record))
    }

    fn plan_trim<B: Blocks>(
        &mut self,
        base: &mut Base<B>,
        chunk: u64,
        limit: usize,
    ) -> Result<Option<Record>> {
        self.plan_live(base, chunk, limit)?;
        let record = Record::new(RecordKind::Trim, [chunk, limit as u64, 0, 0]);
        Ok((!self.edit.is_empty()).then_some(record))
    }

    fn plan_replay<B: Blocks>(&mut self, base: &mut Base<B>, record: &Record) -> Result {
        let [chunk, mask, zero, word] = [0, 1, 2, 3].map(|i| record.words[i]);
        if record.kind == RecordKind::Trim {
            let limit = usize::try_from(mask).map_err(|_| EILSEQ)?;
            return self.plan_live(base, chunk, limit);
        }
        format::value_of(word, base.data.chunks())?;
        if mask == 0 || mask & !base.snaps.bits().live() != 0 || zero != 0 {
            return Err(EILSEQ);
        }
        self.plan(base, chunk, mask, word)
    }

    fn edit(&self) -> &Edit {
        &self.edit
    }

    fn blocks(&self, data: &DataSpace) -> usize {
        self.edit.blocks(&self.map.tree, data)
    }

    fn read_ahead<B: Blocks>(&self, m: &mut Meta<B>, data: &DataSpace) -> Result {
        self.edit.read_ahead(&self.map.tree, m, data)
    }

    fn apply<B: Blocks>(
        &mut self,
        m: &mut Meta<B>,
        data: &mut DataSpace,
        batch: Option<u64>,
    ) -> Result {
        self.edit.apply(&mut self.map.tree, m, data, batch)
    }

    fn begun(&mut self, ids: Descriptor) {
        for (bit, n) in self.planned.iter_mut().enumerate() {
            *n += ((ids.a >> bit) & 1) as u32;
        }
    }

    fn ended(&mut self, ids: Descriptor) {
        for (bit, n) in self.planned.iter_mut().enumerate() {
            *n = n.saturating_sub(((ids.a >> bit) & 1) as u32);
        }
    }

    /// As long as a copy is under way that was planned for a snapshot which is deleted now, that
    /// one keeps its bit.
    fn holds_sweep<B: Blocks>(&self, base: &Base<B>) -> bool {
        let live = base.snaps.bits().live();
        let under_way = |(bit, n): (usize, &u32)| *n != 0 && (live >> bit) & 1 == 0;
        self.planned.iter().enumerate().any(under_way)
    }
}

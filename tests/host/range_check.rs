// SPDX-License-Identifier: GPL-2.0

//! What a btree store holds, seen from outside and counted from scratch.

use super::disk::Disk;
use super::range_model::{Content, Model, Shared};
use crate::store::{
    load, Chunk, Dest, ExceptionStore, FormatParams, Found, Item, Open, OpenError, SnapId,
    StoreType, Value, Who,
};
use kernel::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec as StdVec;

pub(super) fn params(of: StoreType, chunk_sectors: u32, origin_chunks: u64) -> FormatParams {
    FormatParams {
        uuid: [9; 16],
        store_type: of,
        chunk_sectors,
        origin_sectors: origin_chunks * u64::from(chunk_sectors),
    }
}

pub(super) fn open(disk: &Disk) -> Result<KBox<dyn ExceptionStore>, OpenError> {
    let blocks = Shared::new(disk.clone());
    load(Open::peek(blocks, false)?)
}

pub(super) fn read_data(disk: &Disk, sector: u64) -> u64 {
    let mut data = [0; 512];
    disk.read(sector, &mut data).unwrap();
    u64::from_le_bytes(data[..8].try_into().unwrap())
}

/// What looks ahead tell of a snapshot, by chunk.
pub(super) fn looked_ahead(
    store: &mut dyn ExceptionStore,
    id: SnapId,
    chunks: u64,
) -> Result<BTreeMap<u64, Option<Dest>>> {
    let mut told = BTreeMap::new();
    let mut chunk = 0;
    while chunk < chunks {
        let mut next = chunk + 1;
        store.look_ahead(Chunk(chunk), id, chunks - chunk, &mut |at, dest| {
            assert!((chunk..chunks).contains(&at.0));
            next = next.max(at.0 + 1);
            assert!(told.insert(at.0, dest).is_none(), "told twice");
        })?;
        chunk = next;
    }
    Ok(told)
}

/// What a store says all its snapshots hold.
pub(super) fn contents(store: &mut dyn ExceptionStore, disk: &Disk, chunks: usize) -> Model {
    try_contents(store, disk, chunks).unwrap()
}

pub(super) fn try_contents(
    store: &mut dyn ExceptionStore,
    disk: &Disk,
    chunks: usize,
) -> Result<Model> {
    let mut model = Model::default();
    let geometry = store.geometry();
    let mut from = SnapId(0);
    let mut live = 0;
    while let Some(info) = store.snapshot_from(from)? {
        live += 1;
        let mut list = StdVec::new();
        let told = looked_ahead(store, info.id, chunks as u64)?;
        for chunk in 0..chunks as u64 {
            let found = store.find(Chunk(chunk), info.id)?;
            let want = match found {
                Found::NotRemapped => Some(None),
                Found::Shared(Value::Chunk(d)) | Found::Private(Value::Chunk(d)) => Some(Some(d)),
                _ => None,
            };
            let told = told.get(&chunk).copied();
            assert!(told.is_none() || told == want, "{told:?}, not {want:?}");
            let content = match found {
                Found::NotRemapped => Content::Shared,
                Found::Shared(value) | Found::Private(value) => match value {
                    Value::Chunk(dest) => {
                        let sectors = u64::from(geometry.chunk_sectors);
                        Content::Token(read_data(disk, geometry.data_start + dest.0 * sectors))
                    }
                    Value::Zero => Content::Zero,
                    Value::Lost => Content::Lost,
                },
            };
            list.push(content);
        }
        model.ids.insert(info.id.0, list);
        let len = info.name.iter().position(|b| *b == 0).unwrap();
        if len != 0 {
            model.names.insert(info.id.0, info.name[..len].to_vec());
        }
        match info.id.0.checked_add(1) {
            Some(next) => from = SnapId(next),
            None => break,
        }
    }
    assert_eq!(live, store.live_ids());
    // The ranges say the same.
    let mut ranges = BTreeSet::new();
    let mut from = SnapId(0);
    while let Some((lo, hi)) = store.live_range(from) {
        assert!(lo >= from && hi >= lo);
        if lo.is_sub() {
            ranges.extend(lo.0..=hi.0);
        } else {
            ranges.extend((lo.id()..=hi.id()).map(|id| SnapId::top(id).0));
        }
        match hi.0.checked_add(1) {
            Some(next) => from = SnapId(next),
            None => break,
        }
    }
    assert!(
        ranges.iter().eq(model.ids.keys()),
        "{ranges:?} {:?}",
        model.ids.keys()
    );
    Ok(model)
}

/// Whether `found` is what `model` says.
pub(super) fn compare(
    found: &Model,
    model: &Model,
) -> std::result::Result<(), std::string::String> {
    let live = |m: &Model| -> StdVec<u64> {
        m.ids
            .keys()
            .copied()
            .filter(|id| !model.dying.contains(id))
            .collect()
    };
    if live(found) != live(model) {
        return Err(format!("ids {:?}, not {:?}", live(found), live(model)));
    }
    for id in live(found) {
        if found.names.get(&id) != model.names.get(&id) {
            let (have, want) = (found.names.get(&id), model.names.get(&id));
            return Err(format!("name of {}: {have:?}, not {want:?}", SnapId(id)));
        }
        for (chunk, want) in model.ids[&id].iter().enumerate() {
            let have = found.ids[&id][chunk];
            if have != *want {
                return Err(format!(
                    "{} chunk {chunk}: {have:?}, not {want:?}",
                    SnapId(id)
                ));
            }
        }
    }
    Ok(())
}

/// Counts everything from scratch.
pub(super) fn audit(store: &mut dyn ExceptionStore) {
    let space = store.space();
    let next = store.high_water();
    let mut blocks = BTreeSet::new();
    let (mut nodes, mut free_chunks) = (0, BTreeSet::new());
    let mut dests: BTreeMap<u64, u64> = BTreeMap::new();
    store
        .walk(&mut |item| {
            match item {
                Item::Node(nr) => {
                    nodes += 1;
                    assert!(blocks.insert(nr), "block {nr} twice");
                }
                Item::Free(nr) => assert!(blocks.insert(nr), "block {nr} twice"),
                Item::FreeChunks(group, mask) => {
                    for bit in (0..64).filter(|bit| mask & (1 << bit) != 0) {
                        assert!(free_chunks.insert(group * 64 + bit));
                        assert!(group * 64 + bit < next);
                    }
                }
                Item::Record { chunk, value, .. } => {
                    if let Value::Chunk(dest) = value {
                        let of = *dests.entry(dest.0).or_insert(chunk);
                        assert_eq!(of, chunk, "chunk {} has two owners", dest.0);
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(dests.keys().all(|d| *d < next && !free_chunks.contains(d)));
    assert_eq!(
        dests.len() as u64 + space.metadata_chunks,
        space.used_chunks
    );
    assert_eq!(next - free_chunks.len() as u64, space.used_chunks);
    let total = space.metadata_blocks_used + space.metadata_blocks_free;
    assert_eq!(blocks.len() as u64, total, "lost metadata blocks");
    assert!(nodes <= space.metadata_blocks_used);
}

/// After a sweep of everything: only what live ids of an origin of `chunks` chunks can be seen to
/// hold is there. The records say so, and so do the answers to lookups.
pub(super) fn audit_swept(store: &mut dyn ExceptionStore, chunks: u64) {
    let mut ids = BTreeSet::new();
    let mut from = SnapId(0);
    while let Some(info) = store.snapshot_from(from).unwrap() {
        ids.insert(info.id.0);
        from = SnapId(info.id.0 + 1);
    }
    let mut records = StdVec::new();
    store
        .walk(&mut |item| {
            if let Item::Record { chunk, ids: of, .. } = item {
                records.push((chunk, of));
            }
            Ok(())
        })
        .unwrap();
    for (chunk, of) in records {
        let (lo, hi) = of.parts();
        if hi == u64::MAX {
            // A mask: each bit is a live id's.
            let has = |id: &&u64| store.check_conflict(of, Who::Snapshot(SnapId(**id)));
            let n = ids.iter().filter(has).count();
            assert_eq!(n, lo.count_ones() as usize, "chunk {chunk}: {lo:x}");
            continue;
        }
        let first = ids.range(lo..=hi).next();
        assert!(
            first.is_some(),
            "chunk {chunk}: {lo:x}-{hi:x} is for nobody"
        );
    }
    let mut held = BTreeSet::new();
    for chunk in 0..chunks {
        for id in &ids {
            let found = store.find(Chunk(chunk), SnapId(*id)).unwrap();
            if let Found::Shared(Value::Chunk(dest)) | Found::Private(Value::Chunk(dest)) = found {
                held.insert(dest.0);
            }
        }
    }
    let space = store.space();
    assert_eq!(space.used_chunks, space.metadata_chunks + held.len() as u64);
}

// SPDX-License-Identifier: GPL-2.0

//! Power cuts: what is left of both devices, recovery, and the comparison with the oracle.

use super::{
    blocks::Shared,
    disk::{Disk, Loss, BLOCK_SECTORS},
    oracle::{Cells, Oracle, Snap},
    rng::Rng,
    run::name_of,
    sim::Mutation,
    windows::{Window, Windows},
    Maker,
};
use crate::store::{
    format::{self, CheckpointInfo, Kind, SuperInfo},
    Chunk, ExceptionStore, Found, SnapId, Value,
};
use kernel::prelude::*;
use std::vec::Vec;

/// What is left after a cut and was found right.
pub(crate) struct Survivor {
    pub(crate) origin: Disk,
    pub(crate) shared: Shared,
    pub(crate) store: KBox<dyn ExceptionStore>,
    /// What the oracle knows now.
    pub(crate) oracle: Oracle,
}

/// Cuts the power of both devices, loads the store, and compares. Recovery itself is cut too, and
/// may be one that breaks a rule.
pub(crate) fn cut(
    maker: &Maker,
    mutation: Mutation,
    oracle: &Oracle,
    origin: &Disk,
    store: &Disk,
    rng: &mut Rng,
    windows: &mut Windows,
) -> Result<Survivor, String> {
    let loss = (Loss::random(rng), Loss::random(rng));
    let origin = origin.cut(rng, loss.0);
    let mut disk = store.cut(rng, loss.1);
    let mut replay = 0;
    let mut anywhere = mutation == Mutation::ReplayAnywhere;
    // How far a recovery gets before the power fails again.
    let mut patience = if rng.one_in(2) { 0 } else { 1 + rng.below(3) };
    loop {
        let shared = Shared::new(disk.clone(), rng.next());
        if anywhere {
            anywhere = free_everything(&mut shared.lock().disk).is_some();
        }
        if patience > 0 {
            patience -= 1;
            let fuse = 1 + rng.below(if patience > 0 { 12 } else { 40 });
            shared.lock().set_fuse(fuse);
        }
        let result = (maker.open)(&shared, origin.len());
        if shared.lock().is_dead() {
            drop(result);
            replay += 1;
            windows.hit(Window::Replay, replay == 1);
            windows.hit(Window::Replay2, replay == 2);
            let loss = Loss::random(rng);
            disk = shared.lock().disk.cut(rng, loss);
            continue;
        }
        shared.lock().clear_fuse();
        if anywhere && result.is_err() {
            // That the rule is missing must be seen by what it does to data.
            anywhere = false;
            continue;
        }
        let explain = |e| format!("after a cut with losses {loss:?}, recovery cut {replay}x: {e}");
        let mut store = result.map_err(explain)?;
        let oracle = compare(oracle, &origin, &shared, &mut *store).map_err(explain)?;
        return Ok(Survivor {
            origin,
            shared,
            store,
            oracle,
        });
    }
}

/// Calls all that was not used yet of the space for data free for tree nodes, and nothing else, in
/// the checkpoints of a real store.
fn free_everything(disk: &mut Disk) -> Option<()> {
    let sum = |seed: u32, data: &[u8]| !crc32c::crc32c_append(!seed, data);
    let head = disk.read_block(format::SUPER_NR);
    let layout = *format::info::<SuperInfo>(&head).ok()?;
    let blocks = layout.chunk_sectors.get() / BLOCK_SECTORS;
    for nr in format::CHECKPOINT_NRS {
        let mut block = disk.read_block(nr);
        if format::header(&block).kind.get() != Kind::Checkpoint as u32
            || !format::check_sum(&block, sum)
        {
            continue;
        }
        let info = format::info_mut::<CheckpointInfo>(&mut block).ok()?;
        let first = layout.data_start.get() + info.data_next.get() * blocks;
        let left = (disk.len() / BLOCK_SECTORS).checked_sub(first)?;
        (info.free_head, info.free_count) = (0.into(), 0.into());
        info.fresh.fill([0.into(), 0.into()]);
        info.fresh[0] = [first.into(), left.min(info.meta_total.get()).into()];
        format::seal(&mut block, sum);
        let id = disk.submit_block(nr, &block, true);
        disk.complete(id);
    }
    Some(())
}

/// Compares all that is left with what the oracle allows, and tells what it is.
pub(crate) fn compare(
    oracle: &Oracle,
    origin: &Disk,
    shared: &Shared,
    store: &mut dyn ExceptionStore,
) -> Result<Oracle, String> {
    let mut found = Oracle::new(origin.len());
    let mut content = Vec::new();
    for sector in 0..origin.len() {
        let seen = origin.read(sector, 1)[0].token().unwrap_or(u64::MAX);
        if !oracle.origin.survives(sector, seen) {
            let allowed = oracle.origin.describe(sector);
            return Err(format!("origin sector {sector}: {seen:x}, not {allowed}"));
        }
        content.push(seen);
    }
    found.origin = Cells::new(content);
    let geometry = store.geometry();
    let sizes = (geometry.origin_sectors, geometry.data_chunks);
    if sizes.0 < oracle.sizes.0 || sizes.0 > origin.len() || sizes.1 < oracle.sizes.1 {
        let what = format!("the sizes are {sizes:?}, they were {:?}", oracle.sizes);
        return Err(what);
    }
    found.sizes = sizes;
    let mut from = SnapId(0);
    let mut ids = Vec::new();
    while let Some(row) = store
        .snapshot_from(from)
        .map_err(|e| format!("list: {e:?}"))?
    {
        ids.push(row.id.0);
        from = SnapId(row.id.0 + 1);
    }
    for (id, snap) in &oracle.snaps {
        let there = ids.contains(id);
        if store.is_live(SnapId(*id)) != there {
            return Err(format!(
                "snapshot {id:x}: listed {there}, live the opposite"
            ));
        }
        if !there {
            if snap.certain {
                return Err(format!("snapshot {id:x} is gone"));
            }
            continue;
        }
        let row = store
            .snapshot(SnapId(*id))
            .map_err(|e| format!("row: {e:?}"))?;
        let row = row.ok_or("snapshot has no row")?;
        let name = snap.names.iter().find(|n| name_of(**n) == row.name);
        let name = *name.ok_or_else(|| format!("snapshot {id:x} has another name"))?;
        if row.sectors != snap.cells.len() {
            return Err(format!("snapshot {id:x} has {} sectors", row.sectors));
        }
        let mut snap = snap.clone();
        let content = read_all(*id, &mut snap, origin, shared, store)?;
        snap.cells = Cells::new(content);
        snap.certain = true;
        snap.exposed.clear();
        snap.names = vec![name];
        found.snaps.insert(*id, snap);
    }
    if found.snaps.len() != ids.len() || store.live_ids() != ids.len() as u64 {
        return Err(format!("live ids are {ids:x?}, {}", store.live_ids()));
    }
    Ok(found)
}

fn read_all(
    id: u64,
    snap: &mut Snap,
    origin: &Disk,
    shared: &Shared,
    store: &mut dyn ExceptionStore,
) -> Result<Vec<u64>, String> {
    let geometry = store.geometry();
    let chunk_len = u64::from(geometry.chunk_sectors);
    let mut content = Vec::new();
    let may_lose = std::mem::take(&mut snap.lost);
    snap.settled.clear();
    snap.own.clear();
    for chunk in 0..snap.cells.len().div_ceil(chunk_len) {
        let start = chunk * chunk_len;
        let len = chunk_len.min(snap.cells.len() - start);
        let found = store
            .find(Chunk(chunk), SnapId(id))
            .map_err(|e| format!("find {id:x} chunk {chunk}: {e:?}"))?;
        let value = match found {
            Found::NotRemapped => None,
            Found::Shared(value) | Found::Private(value) => Some(value),
        };
        // From now on these are certain.
        if value.is_some() {
            snap.settled.insert(chunk);
        }
        if value == Some(Value::Lost) {
            snap.lost.insert(chunk);
        }
        for i in 0..len {
            let sector = start + i;
            let seen = match value {
                None if snap.exposed.contains(&chunk) => {
                    // The machine stopped before it could write the loss down.
                    content.push(origin.read(sector, 1)[0].token().unwrap_or(0));
                    continue;
                }
                None => origin.read(sector, 1)[0].token(),
                Some(Value::Chunk(dest)) => {
                    let at = geometry.data_start + dest.0 * chunk_len + i;
                    shared.lock().disk.read(at, 1)[0].token()
                }
                Some(Value::Zero) => Some(0),
                Some(Value::Lost) if may_lose.contains(&chunk) => {
                    // Nobody may see it, so anything is right.
                    content.push(snap.cells.content()[sector as usize]);
                    continue;
                }
                Some(Value::Lost) => None,
            };
            let good = seen.is_some_and(|token| snap.cells.survives(sector, token));
            if !good {
                let allowed = snap.cells.describe(sector);
                return Err(format!(
                    "snapshot {id:x} chunk {chunk} sector {i}, {found:?}: \
                     {seen:x?}, not {allowed}"
                ));
            }
            content.push(seen.unwrap_or(0));
        }
    }
    Ok(content)
}

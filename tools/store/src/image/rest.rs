// SPDX-License-Identifier: GPL-2.0

//! What is left of a store that has no superblock any more.

use super::{device::Cache, Device, Refusal};
use crate::store::{
    self,
    blocks::{Block, Blocks, BLOCK_SIZE},
    format::{self, CheckpointInfo, Kind},
};
use std::{boxed::Box, sync::Arc};

/// Most blocks that the log of a new store has.
const LOG_MAX: u64 = 1024;

/// Whether a device that is no store holds what is left of one that had snapshots.
pub fn is_rest(device: &Arc<dyn Device>) -> Result<bool, Refusal> {
    if device.blocks() < format::HEADER_BLOCKS {
        return Ok(false);
    }
    let mut cache = Cache::new(device.clone(), None);
    let mut block = [0; BLOCK_SIZE];
    let read = cache.read_raw(format::SUPER_NR, &mut block);
    read.map_err(|_| Refusal::Io)?;
    let is_store = format::header(&block).kind.get() == Kind::Super as u32;
    Ok(!is_store && has_snapshots(&mut cache))
}

/// Epoch of the newest whole checkpoint of the store `uuid`, whatever else of it can be read. An error
/// if there are only those of another store.
pub fn epoch_of(device: &Arc<dyn Device>, uuid: &[u8; 16]) -> Result<Option<u64>, Refusal> {
    let mut cache = Cache::new(device.clone(), None);
    let (mut newest, mut others) = (None, false);
    for block in checkpoints(&mut cache) {
        let head = format::header(&block);
        if head.uuid == *uuid {
            newest = newest.max(Some(head.epoch.get()));
        } else {
            others = true;
        }
    }
    match newest {
        None if others => Err(Refusal::Foreign),
        newest => Ok(newest),
    }
}

/// The checkpoints that are whole, in whichever store.
pub(super) fn checkpoints(cache: &mut Cache) -> impl Iterator<Item = Box<Block>> + '_ {
    let places = format::CHECKPOINT_NRS.iter();
    places.filter_map(|nr| whole(cache, *nr, Kind::Checkpoint))
}

/// Whether there are checkpoints or a log of a store that had snapshots. In one that was never
/// finished, or never used, nothing is lost.
pub(super) fn has_snapshots(cache: &mut Cache) -> bool {
    let mut uuids = std::vec::Vec::new();
    for block in checkpoints(cache) {
        let next = format::info::<CheckpointInfo>(&block).map_or(2, |info| info.next_id.get());
        if next > 1 {
            return true;
        }
        uuids.push(format::header(&block).uuid);
    }
    if uuids.is_empty() {
        return false;
    }
    // They may have been made since.
    let log = format::HEADER_BLOCKS..cache.len().min(format::HEADER_BLOCKS + LOG_MAX);
    let mut found = log.filter_map(|nr| whole(cache, nr, Kind::Log));
    found.any(|block| uuids.contains(&format::header(&block).uuid))
}

/// The block `nr`, if it is one of this kind and whole.
fn whole(cache: &mut Cache, nr: u64, kind: Kind) -> Option<Box<Block>> {
    let mut block = Box::new([0; BLOCK_SIZE]);
    cache.read_raw(nr, &mut block).ok()?;
    let head = format::header(&block);
    let ours = head.kind.get() == kind as u32 && head.nr.get() == nr;
    (ours && format::check_sum(&block, |seed, data| cache.crc32c(seed, data))).then_some(block)
}

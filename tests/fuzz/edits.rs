// SPDX-License-Identifier: GPL-2.0

//! Damage to an image, as bytes say it; the checksums are made right again.

use super::device::{crc32c, Image};
use crate::store::blocks::{Block, BLOCK_SIZE};
use crate::store::format::{self, CheckpointInfo, Kind, LogInfo};
use std::sync::Arc;
use std::vec::Vec as StdVec;

/// Bytes of one edit: block, offset, kind, value.
pub(crate) const EDIT: usize = 13;

/// Set in the kind of an edit after which the checksum stays wrong.
const TORN: u8 = 0x80;

/// Makes the edits in `data`, each of [`EDIT`] bytes.
pub(crate) fn apply(image: &mut Image, data: &[u8]) {
    let used: StdVec<usize> = (0..image.len()).filter(|i| image[*i].is_some()).collect();
    let sums: StdVec<u32> = used.iter().map(|i| sum(image, *i)).collect();
    let mut touched = StdVec::new();
    for edit in data.chunks_exact(EDIT) {
        let pick = |at: usize| usize::from(u16::from_le_bytes([edit[at], edit[at + 1]]));
        let nr = used[pick(0) % used.len()];
        let value = u64::from_le_bytes(edit[5..].try_into().unwrap_or_default());
        let other = used[value as usize % used.len()];
        change(image, nr, pick(2), edit[4] & !TORN, value, other);
        if edit[4] & TORN == 0 {
            touched.push(nr);
        }
    }
    for nr in touched {
        if let Some(block) = &mut image[nr] {
            format::seal(Arc::make_mut(block), crc32c);
        }
    }
    follow(image, &used, &sums);
}

fn change(image: &mut Image, nr: usize, at: usize, kind: u8, value: u64, other: usize) {
    let from = image[other].clone();
    let Some(block) = &mut image[nr] else { return };
    let block = Arc::make_mut(block);
    // The kinds with numbers of more than a byte are aligned.
    let (byte, word) = (at % BLOCK_SIZE, at % (BLOCK_SIZE / 8) * 8);
    match kind % 12 {
        0 => block[byte] = value as u8,
        1 => block[byte] ^= 1 << (value % 8),
        2 => put(
            block,
            at % (BLOCK_SIZE / 2) * 2,
            &(value as u16).to_le_bytes(),
        ),
        3 => put(
            block,
            at % (BLOCK_SIZE / 4) * 4,
            &(value as u32).to_le_bytes(),
        ),
        4 => put(block, word, &value.to_le_bytes()),
        5 | 6 => {
            let old = u64::from_le_bytes(block[word..word + 8].try_into().unwrap_or_default());
            put(
                block,
                word,
                &old.wrapping_add(value as i8 as u64).to_le_bytes(),
            );
        }
        7 => {
            let to = (value % (BLOCK_SIZE as u64 / 8)) as usize * 8;
            for i in 0..8 {
                block.swap(word + i, to + i);
            }
        }
        8 => {
            if let Some(from) = from {
                block[word..].copy_from_slice(&from[word..]);
            }
        }
        9 => {
            if let Some(from) = from {
                let end = (word + 64).min(BLOCK_SIZE);
                block[word..end].copy_from_slice(&from[word..end]);
            }
        }
        10 => block[word..].fill(0),
        // A number that means something: one of a block, or of what is behind the last.
        _ => put(block, word, &(other as u64 + value / 256 % 2).to_le_bytes()),
    }
}

fn put(block: &mut Block, at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

fn sum(image: &Image, nr: usize) -> u32 {
    image[nr]
        .as_ref()
        .map_or(0, |b| format::header(b).sum.get())
}

/// Whatever said the sum of a block that has another one now, says that.
fn follow(image: &mut Image, used: &[usize], sums: &[u32]) {
    // A log block's own sum changes with what it says of the one before; the ring is not long.
    let logs: StdVec<usize> = (0..used.len())
        .filter(|i| kind(image, used[*i]) == Some(Kind::Log as u32))
        .collect();
    let mut order: StdVec<(u64, usize)> = logs
        .iter()
        .map(|i| (sequence(image, used[*i]), *i))
        .collect();
    order.sort();
    let mut now: StdVec<(u32, u32)> = used
        .iter()
        .zip(sums)
        .map(|(nr, old)| (*old, sum(image, *nr)))
        .filter(|(old, new)| old != new)
        .collect();
    for (_, i) in order {
        let Some(block) = &mut image[used[i]] else {
            continue;
        };
        let Ok(info) = format::info::<LogInfo>(block) else {
            continue;
        };
        let previous = info.previous.get();
        if let Some((_, new)) = now.iter().find(|(old, _)| *old == previous) {
            let block = Arc::make_mut(block);
            if let Ok(info) = format::info_mut::<LogInfo>(block) {
                info.previous = (*new).into();
            }
            format::seal(block, crc32c);
            now.retain(|(old, _)| *old != sums[i]);
            now.push((sums[i], format::header(block).sum.get()));
        }
    }
    for nr in format::CHECKPOINT_NRS {
        let Some(Some(block)) = image.get_mut(nr as usize) else {
            continue;
        };
        let Ok(info) = format::info::<CheckpointInfo>(block) else {
            continue;
        };
        let said = info.replay_sum.get();
        if let Some((_, new)) = now.iter().find(|(old, _)| u64::from(*old) == said) {
            let block = Arc::make_mut(block);
            if let Ok(info) = format::info_mut::<CheckpointInfo>(block) {
                info.replay_sum = u64::from(*new).into();
            }
            format::seal(block, crc32c);
        }
    }
}

fn kind(image: &Image, nr: usize) -> Option<u32> {
    image[nr].as_ref().map(|b| format::header(b).kind.get())
}

fn sequence(image: &Image, nr: usize) -> u64 {
    let info = image[nr].as_ref().map(|b| format::info::<LogInfo>(b));
    match info {
        Some(Ok(info)) => info.seq.get(),
        _ => 0,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The on-disk format: every byte that the stores write is laid out here, and only here.
//!
//! All numbers are little-endian. Every block of 4 KiB begins with a [`Header`] whose checksum
//! covers the rest of the block, and which carries the store's uuid and the block's own number,
//! so that a block that was misplaced, or left over from an earlier format, is told from ours.

mod log;
mod root;
mod value;

pub(crate) use log::*;
pub(crate) use root::*;
pub(crate) use value::*;

use super::blocks::{Block, BLOCK_SIZE};
use kernel::prelude::*;
use zerocopy::{
    little_endian::{U16, U32, U64},
    FromBytes, Immutable, IntoBytes, KnownLayout,
};
use zerocopy_derive::*;

/// What a block is; the first thing checked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Block 0: what was fixed at format.
    Super = 0x4d53_5355,
    /// One of the two alternating checkpoints.
    Checkpoint = 0x4d53_434b,
    /// A block of the log ring.
    Log = 0x4d53_4c47,
    /// A node of a B+tree.
    Node = 0x4d53_4e44,
    /// A list of free metadata blocks.
    FreeList = 0x4d53_464c,
}

/// Seed of every checksum.
const CRC_SEED: u32 = !0;

/// The first 48 bytes of every block.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    /// crc32c of bytes 4 to 4095.
    pub(crate) sum: U32,
    /// A [`Kind`].
    pub(crate) kind: U32,
    /// Drawn anew at each format.
    pub(crate) uuid: [u8; 16],
    /// The block's own number.
    pub(crate) nr: U64,
    /// The checkpoint epoch in which it was written.
    pub(crate) epoch: U64,
    /// Of a tree node or free list: differs after each change of the block until the checkpoint
    /// that it is for has ended. Zero in all else. A load does not look at it.
    pub(crate) stamp: U64,
}

/// Bytes of [`Header`].
pub(crate) const HEADER_LEN: usize = core::mem::size_of::<Header>();
const _: () = assert!(HEADER_LEN == 48);

/// Where in a block its stamp is.
const STAMP: usize = core::mem::offset_of!(Header, stamp);

/// A kind of block, the store and the number it must have, and the latest epoch it may have.
#[derive(Clone, Copy)]
pub(crate) struct Expect {
    /// What the block must be.
    pub(crate) kind: Kind,
    /// The store it must belong to.
    pub(crate) uuid: [u8; 16],
    /// Where it must stand.
    pub(crate) nr: u64,
    /// A later epoch is an error.
    pub(crate) max_epoch: u64,
}

/// The header of `block`.
pub(crate) fn header(block: &Block) -> &Header {
    // A block is longer than a header, so the fallback is never taken.
    Header::ref_from_prefix(block).map_or(&EMPTY, |(h, _)| h)
}

const EMPTY: Header = Header {
    sum: U32::ZERO,
    kind: U32::ZERO,
    uuid: [0; 16],
    nr: U64::ZERO,
    epoch: U64::ZERO,
    stamp: U64::ZERO,
};

/// Fills in the header of `block`, all but the checksum.
pub(crate) fn set_header(block: &mut Block, kind: Kind, uuid: &[u8; 16], nr: u64, epoch: u64) {
    let header = Header {
        sum: U32::ZERO,
        kind: (kind as u32).into(),
        uuid: *uuid,
        nr: nr.into(),
        epoch: epoch.into(),
        stamp: U64::ZERO,
    };
    // A block is longer than a header, so this cannot fail.
    let _ = header.write_to_prefix(block);
}

/// Tells this state of a block from all others.
pub(crate) fn set_stamp(block: &mut Block, stamp: u64) {
    block[STAMP..HEADER_LEN].copy_from_slice(&stamp.to_le_bytes());
}

/// What [`set_stamp`] has set last.
pub(crate) fn stamp(block: &Block) -> u64 {
    header(block).stamp.get()
}

/// Puts the checksum into `block`; the last thing done before it is written.
pub(crate) fn seal(block: &mut Block, crc32c: impl FnOnce(u32, &[u8]) -> u32) {
    let sum = crc32c(CRC_SEED, &block[4..]);
    block[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum of `block` is right.
pub(crate) fn check_sum(block: &Block, crc32c: impl FnOnce(u32, &[u8]) -> u32) -> bool {
    header(block).sum.get() == crc32c(CRC_SEED, &block[4..])
}

/// Checks a block that comes from the disk and is a tree node or a list, as far as it can be told
/// from itself: the checksum, and that the keys of a node are in order. `EILSEQ` if it is wrong.
pub(crate) fn check_block(block: &Block, crc32c: impl FnOnce(u32, &[u8]) -> u32) -> Result {
    if !check_sum(block, crc32c) {
        return Err(EILSEQ);
    }
    if header(block).kind.get() == Kind::Node as u32 {
        check_order(block)?;
    }
    Ok(())
}

/// Checks that each key in a node is above the one before.
fn check_order(block: &Block) -> Result {
    let (info, words) = NodeInfo::ref_from_prefix(&block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    let words = <[U64]>::ref_from_bytes(words).map_err(|_| EILSEQ)?;
    let key = usize::from(info.key_words.get());
    let size = if info.level.get() == 0 {
        usize::from(info.words.get())
    } else {
        key + 1
    };
    let used = size.checked_mul(info.count.get() as usize).ok_or(EILSEQ)?;
    let entries = words.get(..used).ok_or(EILSEQ)?;
    if key == 0 || key > size {
        return Err(EILSEQ);
    }
    let keys = || entries.chunks_exact(size).map(|entry| &entry[..key]);
    for (before, after) in keys().zip(keys().skip(1)) {
        let above = before
            .iter()
            .map(|word| word.get())
            .lt(after.iter().map(|word| word.get()));
        if !above {
            return Err(EILSEQ);
        }
    }
    Ok(())
}

/// Checks everything in the header but the checksum. `EILSEQ` if it is not what is expected.
pub(crate) fn check_header(block: &Block, expect: &Expect) -> Result {
    let h = header(block);
    let stamped = matches!(expect.kind, Kind::Node | Kind::FreeList);
    let good = h.kind.get() == expect.kind as u32
        && h.uuid == expect.uuid
        && h.nr.get() == expect.nr
        && h.epoch.get() <= expect.max_epoch
        && (stamped || h.stamp.get() == 0);
    if good {
        Ok(())
    } else {
        Err(EILSEQ)
    }
}

// --- tree nodes ------------------------------------------------------------------------------

/// What follows the header in a tree node; then come the entries, packed.
///
/// A leaf's entry is `words` numbers of 64 bits of which the first `key_words` are the key. An
/// inner node's entry is a separator of `key_words` numbers and the child's block number: no key
/// below the child is less than its separator, and all are less than the next one.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct NodeInfo {
    /// Which tree; see the roots of a checkpoint.
    pub(crate) tree: U16,
    /// 0 for a leaf.
    pub(crate) level: U16,
    /// Words of a leaf entry.
    pub(crate) words: U16,
    /// Words of a key.
    pub(crate) key_words: U16,
    /// Entries in this node.
    pub(crate) count: U32,
    /// Zero.
    pub(crate) reserved: U32,
}

/// Where the entries of a node begin.
pub(crate) const NODE_ENTRIES: usize = HEADER_LEN + core::mem::size_of::<NodeInfo>();
const _: () = assert!(NODE_ENTRIES == 64);

/// Bytes of a node that hold entries.
pub(crate) const NODE_SPACE: usize = BLOCK_SIZE - NODE_ENTRIES;

/// Deepest tree that is ever made or accepted.
pub(crate) const MAX_DEPTH: u16 = 12;

/// What all nodes of one tree have in common.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Which tree.
    pub(crate) tree: u16,
    /// Words of a leaf entry.
    pub(crate) words: u16,
    /// Words of a key.
    pub(crate) key_words: u16,
}

impl Shape {
    /// Words of an entry at `level`.
    pub(crate) fn entry_words(&self, level: u16) -> usize {
        if level == 0 {
            usize::from(self.words)
        } else {
            usize::from(self.key_words) + 1
        }
    }

    /// Entries that fit into a node at `level`.
    pub(crate) fn capacity(&self, level: u16) -> usize {
        NODE_SPACE / 8 / self.entry_words(level).max(1)
    }

    /// The count of entries, if `info` is that of such a node at `level`.
    fn count(&self, info: &NodeInfo, level: u16) -> Result<usize> {
        let count = info.count.get() as usize;
        let good = info.tree.get() == self.tree
            && info.level.get() == level
            && info.words.get() == self.words
            && info.key_words.get() == self.key_words
            && info.reserved.get() == 0
            && count != 0
            && count <= self.capacity(level);
        good.then_some(count).ok_or(EILSEQ)
    }
}

/// A node whose header and counts were found right.
pub(crate) struct Node<'a> {
    /// The checkpoint epoch in which it was written.
    pub(crate) epoch: u64,
    /// Entries; never 0.
    pub(crate) count: usize,
    size: usize,
    words: &'a [U64],
}

impl<'a> Node<'a> {
    /// The words of entry `i`; none if there is no such entry.
    pub(crate) fn entry(&self, i: usize) -> &'a [U64] {
        let from = i * self.size;
        self.words.get(from..from + self.size).unwrap_or(&[])
    }

    /// The words of the entries `from` to `to`; none if there are no such entries.
    pub(crate) fn entries(&self, from: usize, to: usize) -> &'a [U64] {
        self.words
            .get(from * self.size..to * self.size)
            .unwrap_or(&[])
    }
}

/// A node that may be changed.
pub(crate) struct NodeMut<'a> {
    info: &'a mut NodeInfo,
    capacity: usize,
    size: usize,
    words: &'a mut [U64],
}

impl NodeMut<'_> {
    /// Entries.
    pub(crate) fn count(&self) -> usize {
        self.info.count.get() as usize
    }

    /// The words of entry `i`.
    pub(crate) fn entry_mut(&mut self, i: usize) -> Result<&mut [U64]> {
        let from = i * self.size;
        if i >= self.count() {
            return Err(EINVAL);
        }
        self.words.get_mut(from..from + self.size).ok_or(EINVAL)
    }

    /// Makes room at `at` for as many entries as `words` are and copies them there.
    pub(crate) fn insert(&mut self, at: usize, words: &[U64]) -> Result {
        let (count, more) = (self.count(), words.len() / self.size);
        if at > count || count + more > self.capacity || more * self.size != words.len() {
            return Err(EINVAL);
        }
        let (from, end) = (at * self.size, count * self.size);
        self.words.copy_within(from..end, from + words.len());
        self.words[from..from + words.len()].copy_from_slice(words);
        self.info.count = ((count + more) as u32).into();
        Ok(())
    }

    /// Removes the entries `from` to `to`.
    pub(crate) fn remove(&mut self, from: usize, to: usize) -> Result {
        let count = self.count();
        if from > to || to > count {
            return Err(EINVAL);
        }
        self.words
            .copy_within(to * self.size..count * self.size, from * self.size);
        self.info.count = ((count - (to - from)) as u32).into();
        Ok(())
    }
}

/// The node in `block`, all of whose header has been checked. `EILSEQ` if it is not of this shape.
pub(crate) fn node<'a>(block: &'a Block, shape: &Shape, level: u16) -> Result<Node<'a>> {
    let (info, words) = NodeInfo::ref_from_prefix(&block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    Ok(Node {
        epoch: header(block).epoch.get(),
        count: shape.count(info, level)?,
        size: shape.entry_words(level),
        words: <[U64]>::ref_from_bytes(words).map_err(|_| EILSEQ)?,
    })
}

/// As [`node`], to be changed.
pub(crate) fn node_mut<'a>(block: &'a mut Block, shape: &Shape, level: u16) -> Result<NodeMut<'a>> {
    let (info, words) = NodeInfo::mut_from_prefix(&mut block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    shape.count(info, level)?;
    Ok(NodeMut {
        info,
        capacity: shape.capacity(level),
        size: shape.entry_words(level),
        words: <[U64]>::mut_from_bytes(words).map_err(|_| EILSEQ)?,
    })
}

/// Makes `block`, all zeroes behind its header, a node without entries.
pub(crate) fn new_node<'a>(block: &'a mut Block, shape: &Shape, level: u16) -> Result<NodeMut<'a>> {
    let (info, words) = NodeInfo::mut_from_prefix(&mut block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    *info = NodeInfo {
        tree: shape.tree.into(),
        level: level.into(),
        words: shape.words.into(),
        key_words: shape.key_words.into(),
        count: U32::ZERO,
        reserved: U32::ZERO,
    };
    Ok(NodeMut {
        info,
        capacity: shape.capacity(level),
        size: shape.entry_words(level),
        words: <[U64]>::mut_from_bytes(words).map_err(|_| EILSEQ)?,
    })
}

// --- free lists of metadata blocks -----------------------------------------------------------

/// What follows the header in a free-list block; then come the block numbers.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
pub(crate) struct FreeListInfo {
    /// The next list block, or 0.
    pub(crate) next: U64,
    /// Block numbers in this one.
    pub(crate) count: U64,
}

/// Block numbers that fit into one free-list block.
pub(crate) const FREE_LIST_MAX: usize =
    (BLOCK_SIZE - HEADER_LEN - core::mem::size_of::<FreeListInfo>()) / 8;

/// The next list block (or 0) and the numbers in a free-list block whose header has been checked.
pub(crate) fn free_list(block: &Block) -> Result<(u64, &[U64])> {
    let (info, numbers) =
        FreeListInfo::ref_from_prefix(&block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    let numbers = <[U64]>::ref_from_bytes(numbers).map_err(|_| EILSEQ)?;
    let count = usize::try_from(info.count.get()).map_err(|_| EILSEQ)?;
    Ok((info.next.get(), numbers.get(..count).ok_or(EILSEQ)?))
}

/// Makes `block` a free-list block of `count` numbers before the list block `next`, and returns
/// the room for all numbers.
pub(crate) fn new_free_list(block: &mut Block, next: u64, count: u64) -> Result<&mut [U64]> {
    let (info, numbers) =
        FreeListInfo::mut_from_prefix(&mut block[HEADER_LEN..]).map_err(|_| EILSEQ)?;
    *info = FreeListInfo {
        next: next.into(),
        count: count.into(),
    };
    <[U64]>::mut_from_bytes(numbers).map_err(|_| EILSEQ)
}

/// The part of `block` behind the header.
pub(crate) fn info<T: FromBytes + KnownLayout + Immutable>(block: &Block) -> Result<&T> {
    T::ref_from_prefix(&block[HEADER_LEN..])
        .map(|(info, _)| info)
        .map_err(|_| EILSEQ)
}

/// The part of `block` behind the header, to be changed.
pub(crate) fn info_mut<T>(block: &mut Block) -> Result<&mut T>
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable,
{
    T::mut_from_prefix(&mut block[HEADER_LEN..])
        .map(|(info, _)| info)
        .map_err(|_| EILSEQ)
}

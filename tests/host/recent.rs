// SPDX-License-Identifier: GPL-2.0

//! The limit of metadata blocks in memory: the list of them against a naive one, and a tree that
//! is much larger than the limit.

use super::disk::Disk;
use super::ram::{RamBlocks, BLOCK_SECTORS};
use crate::store::blocks::{Block, Blocks};
use crate::store::meta::{FreeRoot, Meta};
use crate::store::recent::{Limited, Recent};
use crate::store::tree::Tree;
use kernel::prelude::*;
use std::collections::BTreeMap;

/// A sequence of numbers that looks random.
struct Lot(u64);

impl Lot {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// What [`Recent`] should do, with all that it may cost.
#[derive(Default)]
struct Naive {
    /// The most recent last.
    clean: std::vec::Vec<u64>,
    dirty: std::vec::Vec<u64>,
    writing: std::vec::Vec<u64>,
    overflow: bool,
}

impl Naive {
    fn used(&mut self, nr: u64, dirty: bool, limit: usize) -> Option<u64> {
        let was_dirty = self.dirty.contains(&nr) || self.writing.contains(&nr);
        if !dirty && was_dirty {
            return None;
        }
        let before = self.len();
        for list in [&mut self.clean, &mut self.dirty, &mut self.writing] {
            list.retain(|n| *n != nr);
        }
        let mut evicted = None;
        if self.len() == before && before == limit {
            if self.clean.is_empty() {
                self.overflow = true;
                return None;
            }
            evicted = Some(self.clean.remove(0));
        }
        if dirty {
            self.dirty.push(nr);
        } else {
            self.clean.push(nr);
        }
        evicted
    }

    fn len(&self) -> usize {
        self.clean.len() + self.dirty.len() + self.writing.len()
    }
}

#[test]
fn the_least_recent_clean_block_goes() {
    for (seed, limit) in [(1, 1), (2, 2), (3, 7), (4, 64), (5, 100)] {
        let mut lot = Lot(seed);
        let mut recent = Recent::new(limit).unwrap();
        let mut naive = Naive::default();
        let mut overflows = 0;
        let mut stamps = BTreeMap::new();
        for stamp in 0..20_000 {
            let nr = lot.below(3 * u64::from(limit));
            match lot.below(40) {
                0 => {
                    recent.begin();
                    let dirty = core::mem::take(&mut naive.dirty);
                    naive.writing.extend(dirty);
                }
                1 | 2 => {
                    let overflow = core::mem::take(&mut naive.overflow);
                    assert_eq!(recent.end(), overflow);
                    naive.clean.append(&mut naive.writing);
                    if overflow {
                        overflows += 1;
                        naive.clean.clear();
                    }
                }
                3 => {
                    recent.gone(nr);
                    naive.clean.retain(|n| *n != nr);
                }
                n => {
                    let dirty = n < 12;
                    let changed = naive.dirty.contains(&nr) || naive.writing.contains(&nr);
                    let expected = changed.then(|| stamps[&nr]);
                    let evicted = naive.used(nr, dirty, limit as usize);
                    if dirty {
                        assert_eq!(recent.changed(nr, stamp), evicted);
                        stamps.insert(nr, stamp);
                    } else {
                        assert_eq!(recent.used(nr), (expected, evicted));
                    }
                }
            }
            assert_eq!(recent.len(), naive.len());
            assert!(recent.len() <= limit as usize);
        }
        assert!(limit > 10 || overflows > 0);
    }
}

/// As dm-bufio, which drops clean blocks only, and only when told.
struct Cache(RamBlocks);

impl Blocks for Cache {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        self.0.crc32c(seed, data)
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read<R>(&mut self, nr: u64, f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        self.0.read(nr, f)
    }
    fn edit<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.0.edit(nr, f)
    }
    fn create<R>(&mut self, nr: u64, f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        self.0.create(nr, f)
    }
    fn forget(&mut self, nr: u64) {
        self.0.drop_one(nr);
    }
    fn prefetch(&mut self, nr: u64) {
        self.0.prefetch(nr);
    }
    fn read_raw(&mut self, nr: u64, block: &mut Block) -> Result {
        self.0.read_raw(nr, block)
    }
    fn write_raw(&mut self, nr: u64, block: &Block) -> Result {
        self.0.write_raw(nr, block)
    }
    fn write_dirty(&mut self) -> Result {
        self.0.write_dirty()
    }
    fn forget_all(&mut self) {
        self.0.drop_clean();
    }
}

const LOWER: u64 = 16;

fn meta(limit: u32, blocks: u64) -> Meta<Limited<Cache>> {
    let ram = RamBlocks::new(Disk::new((LOWER + blocks) * BLOCK_SECTORS));
    let mut free = FreeRoot::default();
    free.fresh[0] = (LOWER, blocks);
    let blocks = Limited::new(Cache(ram), limit).unwrap();
    Meta::restore(blocks, [7; 16], LOWER, 0, &free).unwrap()
}

fn cached(m: &mut Meta<Limited<Cache>>) -> usize {
    m.blocks().below().0.cached()
}

fn checkpoint(m: &mut Meta<Limited<Cache>>) {
    m.freeze().unwrap();
    m.blocks().write_dirty().unwrap();
    m.thaw(Ok(()));
    m.blocks().below().0.disk().forget_log();
}

/// Fills a tree with `n` entries in no order; answers how many checkpoints that took.
fn fill(m: &mut Meta<Limited<Cache>>, tree: &mut Tree<16, 1>, n: u64, limit: usize) -> u64 {
    let mut checkpoints = 0;
    for i in 0..n {
        let mut entry = [0; 16];
        entry[0] = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        entry[1] = i;
        while let Err(e) = m.reserve(tree.max_blocks_per_op(), 0) {
            assert_eq!(e, EAGAIN);
            checkpoint(m);
            checkpoints += 1;
        }
        tree.insert(m, &entry).unwrap();
        if m.wants_checkpoint() {
            checkpoint(m);
            checkpoints += 1;
        }
        assert!(cached(m) <= limit, "{} blocks", cached(m));
    }
    checkpoints
}

#[test]
fn memory_stays_below_the_limit_however_large_the_tree() {
    const N: u64 = 10_000;
    let key = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for threshold in [32, 64, u32::MAX] {
        let mut m = meta(128, 4000);
        m.set_cache(threshold, 128).unwrap();
        let mut tree = Tree::<16, 1>::new(5);
        let checkpoints = fill(&mut m, &mut tree, N, 128);
        assert!(checkpoints > 5, "{checkpoints}");
        // The tree has more than 400 nodes.
        for i in 0..N {
            assert_eq!(tree.get(&mut m, &[key(i)]).unwrap().unwrap()[1], i);
            assert!(cached(&mut m) <= 128);
        }
        assert_eq!(cached(&mut m), 128);
        // A larger limit is used, a smaller one holds at once for what is clean.
        m.set_cache(threshold, 200).unwrap();
        for i in 0..N / 10 {
            assert!(tree.get(&mut m, &[key(i)]).unwrap().is_some());
        }
        assert_eq!(cached(&mut m), 200);
        checkpoint(&mut m);
        m.set_cache(threshold, 50).unwrap();
        assert!(cached(&mut m) <= 50);
        assert!(tree.get(&mut m, &[key(1)]).unwrap().is_some());
    }
}

/// Replay knows no limit: what is too much goes with the checkpoint that follows.
#[test]
fn what_was_too_much_goes_with_the_next_checkpoint() {
    let mut m = meta(128, 4000);
    let mut tree = Tree::<16, 1>::new(5);
    for i in 0..5000u64 {
        let mut entry = [0; 16];
        entry[0] = i;
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(&mut m, &entry).unwrap();
    }
    assert!(cached(&mut m) > 128);
    checkpoint(&mut m);
    assert!(cached(&mut m) <= 128);
    for i in 0..5000 {
        assert!(tree.get(&mut m, &[i]).unwrap().is_some());
        assert!(cached(&mut m) <= 128);
    }
}

/// dm-bufio drops a dirty block that it could not write, and then shows what the disk has.
#[test]
fn a_state_that_could_not_be_written_is_missed() {
    let disk = RamBlocks::new(Disk::new(32 * BLOCK_SECTORS));
    let mut blocks = Limited::new(Cache(disk), 8).unwrap();
    let write = |blocks: &mut Limited<Cache>, n: u8| {
        let change = |block: &mut Block| {
            block[1000] = n;
            Ok(())
        };
        match n {
            1 => blocks.create(20, change),
            _ => blocks.edit(20, change),
        }
    };
    let read = |blocks: &mut Limited<Cache>| blocks.read(20, |block| Ok(block[1000]));
    write(&mut blocks, 1).unwrap();
    blocks.checkpoint_begins();
    blocks.write_dirty().unwrap();
    blocks.checkpoint_ended();
    blocks.below_mut().0.drop_one(20);
    assert_eq!(read(&mut blocks), Ok(1));
    write(&mut blocks, 2).unwrap();
    // Written in the background, and dropped after that.
    blocks.write_dirty().unwrap();
    blocks.below_mut().0.drop_one(20);
    assert_eq!(read(&mut blocks), Ok(2));
    write(&mut blocks, 3).unwrap();
    blocks.below_mut().0.lose(20);
    assert_eq!(read(&mut blocks), Err(EIO));
    assert_eq!(write(&mut blocks, 4), Err(EIO));
    blocks.checkpoint_begins();
    assert_eq!(read(&mut blocks), Err(EIO));
    // It is known what a block made anew must be.
    assert_eq!(write(&mut blocks, 1), Ok(()));
    assert_eq!(read(&mut blocks), Ok(1));
}

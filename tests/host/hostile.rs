// SPDX-License-Identifier: GPL-2.0

//! Metadata that is whole and wrong: it is refused before it does harm.

use super::disk::Disk;
use super::fuzz;
use super::ram::{crc32c, RamBlocks, BLOCK_SECTORS};
use super::tree::{entry_for, LOWER};
use crate::store::blocks::{Block, Blocks, BLOCK_SIZE};
use crate::store::format::{self, Kind, NodeInfo};
use crate::store::meta::{FreeRoot, Meta};
use crate::store::tree::{Seen, Tree};
use kernel::prelude::*;
use std::vec::Vec as StdVec;

const UUID: [u8; 16] = [7; 16];
const TREE: u16 = 3;
const BLOCKS: u64 = 200;

/// A device with a tree of two levels that a checkpoint of epoch 2 names.
struct Made {
    disk: Disk,
    tree: Tree<16, 1>,
    free: FreeRoot,
    nodes: StdVec<u64>,
    /// Nodes of before, no longer used.
    stale: StdVec<u64>,
}

fn made() -> Made {
    let disk = Disk::new((LOWER + BLOCKS) * BLOCK_SECTORS);
    let mut free = FreeRoot::default();
    free.fresh[0] = (LOWER, BLOCKS);
    let mut m = Meta::restore(RamBlocks::new(disk), UUID, LOWER, 0, &free).unwrap();
    let mut tree = Tree::new(TREE);
    let mut nodes = [StdVec::new(), StdVec::new()];
    for (epoch, nodes) in nodes.iter_mut().enumerate() {
        for i in 0..500 {
            let key = [i * 2 + epoch as u64];
            m.reserve(tree.max_blocks_per_op(), 0).unwrap();
            tree.insert(&mut m, &entry_for(key, 1)).unwrap();
        }
        free = m.freeze().unwrap();
        m.blocks().write_dirty().unwrap();
        m.thaw(Ok(()));
        tree.walk(&mut m, |seen| {
            if let Seen::Node { nr, .. } = seen {
                nodes.push(nr);
            }
            Ok(())
        })
        .unwrap();
    }
    let [old, nodes] = nodes;
    let stale = old.into_iter().filter(|nr| !nodes.contains(nr)).collect();
    Made {
        disk: m.blocks().disk().clone(),
        tree,
        free,
        nodes,
        stale,
    }
}

impl Made {
    fn block(&self, nr: u64) -> Block {
        let mut block = [0; BLOCK_SIZE];
        self.disk.read(nr * BLOCK_SECTORS, &mut block).unwrap();
        block
    }

    fn write(&self, nr: u64, mut block: Block) {
        format::seal(&mut block, crc32c);
        self.disk.write(nr * BLOCK_SECTORS, &block, true).unwrap();
    }

    /// Loads it with other free blocks.
    fn load(&self, free: &FreeRoot) -> (Meta<RamBlocks>, Tree<16, 1>) {
        let blocks = RamBlocks::new(self.disk.clone());
        let mut m = Meta::restore(blocks, UUID, LOWER, 2, free).unwrap();
        let tree = Tree::load(&mut m, TREE, self.tree.root(), self.tree.depth(), 2).unwrap();
        (m, tree)
    }

    /// Loads it with these numbers in the list of free blocks, and changes all of the tree.
    fn use_list(&self, numbers: &[u64]) -> Result {
        let nr = LOWER + BLOCKS - 1;
        let mut block = [0; BLOCK_SIZE];
        format::set_header(&mut block, Kind::FreeList, &UUID, nr, 2);
        let room = format::new_free_list(&mut block, 0, numbers.len() as u64).unwrap();
        for (to, from) in room.iter_mut().zip(numbers) {
            *to = (*from).into();
        }
        self.write(nr, block);
        self.use_all(&FreeRoot {
            list_head: nr,
            list_count: numbers.len() as u64,
            ..FreeRoot::default()
        })
    }

    fn use_all(&self, free: &FreeRoot) -> Result {
        let (mut m, mut tree) = self.load(free);
        for i in 0..1000 {
            m.reserve(tree.max_blocks_per_op(), 0)?;
            tree.insert(&mut m, &entry_for([i], 2))?;
        }
        Ok(())
    }
}

#[test]
fn a_list_may_name_free_blocks_only() {
    let made = made();
    let unused: StdVec<u64> = (LOWER + BLOCKS - 80..LOWER + BLOCKS - 1).collect();
    assert!(made.nodes.len() > 20 && made.stale.len() > 10);
    assert_eq!(made.use_list(&unused), Ok(()));
    let with = |more: &[u64]| made.use_list(&[&unused[..], more].concat());
    assert_eq!(with(&made.stale), Ok(()));
    for &nr in &made.nodes {
        assert_eq!(with(&[nr]), Err(EILSEQ), "node {nr}");
    }
    assert_eq!(with(&[unused[3]]), Err(EILSEQ));
    assert_eq!(with(&[made.stale[0], made.stale[0]]), Err(EILSEQ));
}

#[test]
fn a_range_may_span_free_blocks_only() {
    let made = made();
    assert_eq!(made.use_all(&made.free), Ok(()));
    for &nr in &made.nodes {
        let mut free = FreeRoot::default();
        free.fresh[0] = (LOWER + BLOCKS - 80, 79);
        free.fresh[1] = (nr, 1);
        free.fresh.swap(0, (nr % 2) as usize);
        let used = made.use_all(&free);
        // Only if it comes to that one.
        assert_eq!(used, if nr % 2 == 0 { Ok(()) } else { Err(EILSEQ) });
    }
}

#[test]
fn an_extent_may_hold_no_node() {
    let made = made();
    for len in [1, 600] {
        let (mut m, _) = made.load(&FreeRoot::default());
        // Large ones are ranges.
        if len > BLOCKS {
            let disk = Disk::new((LOWER + 2 * len) * BLOCK_SECTORS);
            for nr in LOWER..LOWER + BLOCKS {
                disk.write(nr * BLOCK_SECTORS, &made.block(nr), true)
                    .unwrap();
            }
            let blocks = RamBlocks::new(disk);
            m = Meta::restore(blocks, UUID, LOWER, 2, &FreeRoot::default()).unwrap();
            Tree::<16, 1>::load(&mut m, TREE, made.tree.root(), made.tree.depth(), 2).unwrap();
        }
        m.add_extent(made.nodes[0], len).unwrap();
        assert_eq!(m.alloc(), Err(EILSEQ));
    }
}

#[test]
fn keys_must_be_in_order() {
    let made = made();
    let mut refused = 0;
    for &nr in &made.nodes {
        let sound = made.block(nr);
        let info = format::info::<NodeInfo>(&sound).unwrap();
        if info.count.get() < 4 {
            continue;
        }
        let size = if info.level.get() == 0 { 128 } else { 16 };
        // Two keys in the middle, so that the ends stay; or two that are the same.
        for same in [false, true] {
            let mut block = sound;
            let (a, b) = (64 + size, 64 + 2 * size);
            for i in 0..8 {
                if same {
                    block[b + i] = block[a + i];
                } else {
                    block.swap(a + i, b + i);
                }
            }
            made.write(nr, block);
            let blocks = RamBlocks::new(made.disk.clone());
            let mut m = Meta::restore(blocks, UUID, LOWER, 2, &made.free).unwrap();
            let seen = (0..1000).filter(|key| match made.tree.get(&mut m, &[*key]) {
                Ok(entry) => entry.is_none(),
                Err(e) => {
                    assert_eq!(e, EILSEQ);
                    true
                }
            });
            assert!(seen.count() > 0, "node {nr}");
            refused += 1;
        }
        made.write(nr, sound);
    }
    assert!(refused > 40);
}

/// What the fuzzer has kept.
#[test]
fn the_corpus_does_no_harm() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");
    let mut n = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        fuzz::run(&std::fs::read(file.unwrap().path()).unwrap());
        n += 1;
    }
    std::println!("{n} inputs");
}

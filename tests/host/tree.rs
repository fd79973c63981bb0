// SPDX-License-Identifier: GPL-2.0

//! The tree against a map that cannot be wrong.

use super::disk::Disk;
use super::ram::{crc32c, RamBlocks, BLOCK_SECTORS};
use crate::store::blocks::{Block, Blocks, BLOCK_SIZE};
use crate::store::format;
use crate::store::meta::{FreeRoot, Meta};
use crate::store::tree::{Seen, Tree};
use kernel::prelude::*;
use proptest::prelude::{any, prop, prop_oneof, proptest, ProptestConfig, Strategy};
use std::collections::BTreeMap;
use std::time::Instant;

/// First block that metadata may use in all of these tests.
pub(super) const LOWER: u64 = 8;

/// Numbers that look drawn by lot.
pub(super) struct Lot(pub(super) u64);

impl Lot {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A new store of `blocks` free metadata blocks.
fn meta(blocks: u64) -> Meta<RamBlocks> {
    let disk = Disk::new((LOWER + blocks) * BLOCK_SECTORS);
    let mut free = FreeRoot::default();
    free.fresh[0] = (LOWER, blocks);
    Meta::restore(RamBlocks::new(disk), [7; 16], LOWER, 0, &free).unwrap()
}

/// A whole checkpoint.
fn checkpoint(m: &mut Meta<RamBlocks>) -> FreeRoot {
    let root = m.freeze().unwrap();
    m.blocks().write_dirty().unwrap();
    m.thaw(Ok(()));
    root
}

pub(super) fn entry_for<const N: usize, const K: usize>(key: [u64; K], n: u64) -> [u64; N] {
    let mut entry = [0; N];
    entry[..K].copy_from_slice(&key);
    for (i, word) in entry[K..].iter_mut().enumerate() {
        *word = n.wrapping_mul(i as u64 + 3) ^ key[0];
    }
    entry
}

/// The entries in order, all invariants checked; and nodes, and the share of leaf space in use.
pub(super) fn content<const N: usize, const K: usize>(
    m: &mut Meta<RamBlocks>,
    tree: &Tree<N, K>,
) -> (BTreeMap<[u64; K], [u64; N]>, std::vec::Vec<u64>, f64) {
    let mut entries = BTreeMap::new();
    let (mut nodes, mut leaves) = (std::vec![], 0);
    tree.walk(m, |seen| {
        match seen {
            Seen::Node { nr, level, .. } => {
                nodes.push(nr);
                leaves += usize::from(level == 0);
            }
            Seen::Entry(entry) => {
                entries.insert(entry[..K].try_into().unwrap(), entry);
            }
        }
        Ok(())
    })
    .unwrap();
    let fill = (entries.len() * N * 8) as f64 / (leaves.max(1) * format::NODE_SPACE) as f64;
    (entries, nodes, fill)
}

/// Every block of the area is a node, or free, or a list, and only one of them.
fn audit<const N: usize, const K: usize>(m: &mut Meta<RamBlocks>, tree: &Tree<N, K>) {
    let mut all = content(m, tree).1;
    m.walk_free(|nr, _| {
        all.push(nr);
        Ok(())
    })
    .unwrap();
    all.sort();
    let blocks = m.blocks().len();
    assert!(
        all.iter().copied().eq(LOWER..blocks),
        "blocks lost or in two places"
    );
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    Remove(u64, u64),
    RemoveFrom(u64, usize),
    Lookup(u64, u64),
    Checkpoint,
}

fn ops(keys: u64) -> impl Strategy<Value = std::vec::Vec<Op>> {
    let key = move || (0..keys, 0..3u64);
    prop::collection::vec(
        prop_oneof![
            8 => key().prop_map(|(a, b)| Op::Insert(a, b)),
            4 => key().prop_map(|(a, b)| Op::Remove(a, b)),
            1 => (0..keys, 0..200usize).prop_map(|(a, n)| Op::RemoveFrom(a, n)),
            4 => key().prop_map(|(a, b)| Op::Lookup(a, b)),
            1 => any::<bool>().prop_map(|_| Op::Checkpoint),
        ],
        1..600,
    )
}

fn key_of<const K: usize>(a: u64, b: u64) -> [u64; K] {
    let mut key = [a; K];
    if K == 2 {
        key[K - 1] = b;
    }
    key
}

fn run<const N: usize, const K: usize>(ops: &[Op], factor: u64) {
    let mut m = meta(2000);
    let mut tree = Tree::<N, K>::new(3);
    let mut model = BTreeMap::new();
    let remove = |m: &mut Meta<RamBlocks>, tree: &mut Tree<N, K>, key: &[u64; K]| {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.remove(m, key).unwrap()
    };
    for (i, op) in ops.iter().enumerate() {
        let i = i as u64;
        match *op {
            // Many at once, so that trees become deep.
            Op::Insert(a, b) => {
                for j in 0..factor {
                    let key = key_of(a.wrapping_add(j * (1 + b)), b);
                    let entry = entry_for::<N, K>(key, i);
                    m.reserve(tree.max_blocks_per_op(), 0).unwrap();
                    let new = tree.insert(&mut m, &entry).unwrap();
                    assert_eq!(new, model.insert(key, entry).is_none());
                }
            }
            Op::Remove(a, b) => {
                let key = key_of(a, b);
                assert_eq!(
                    remove(&mut m, &mut tree, &key),
                    model.remove(&key).is_some()
                );
            }
            Op::RemoveFrom(a, n) => {
                let keys: std::vec::Vec<[u64; K]> = model
                    .range(key_of(a, 0)..)
                    .take(n)
                    .map(|(k, _)| *k)
                    .collect();
                for key in keys {
                    assert!(remove(&mut m, &mut tree, &key));
                    model.remove(&key);
                }
            }
            Op::Lookup(a, b) => {
                let key = key_of(a, b);
                let before = model.range(..=key).next_back().map(|(_, e)| *e);
                let after = model.range(key..).next().map(|(_, e)| *e);
                assert_eq!(tree.at_or_before(&mut m, &key).unwrap(), before);
                assert_eq!(tree.at_or_after(&mut m, &key).unwrap(), after);
                assert_eq!(tree.get(&mut m, &key).unwrap(), model.get(&key).copied());
                let first = model.first_key_value().map(|(_, e)| *e);
                let last = model.last_key_value().map(|(_, e)| *e);
                assert_eq!(tree.first(&mut m).unwrap(), first);
                assert_eq!(tree.last(&mut m).unwrap(), last);
            }
            Op::Checkpoint => {
                checkpoint(&mut m);
            }
        }
        if m.wants_checkpoint() {
            checkpoint(&mut m);
        }
    }
    assert_eq!(content(&mut m, &tree).0, model);
    audit(&mut m, &tree);
    // Down to nothing.
    while let Some((key, _)) = model.pop_first() {
        assert!(remove(&mut m, &mut tree, &key));
        if m.wants_checkpoint() {
            checkpoint(&mut m);
        }
    }
    assert_eq!((tree.root(), tree.depth()), (0, 0));
    audit(&mut m, &tree);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn like_a_map_4_2(ops in ops(2000)) {
        run::<4, 2>(&ops, 40);
    }

    #[test]
    fn like_a_map_3_2(ops in ops(300)) {
        run::<3, 2>(&ops, 3);
    }

    #[test]
    fn like_a_map_2_1(ops in ops(20000)) {
        run::<2, 1>(&ops, 60);
    }

    #[test]
    fn like_a_map_16_1(ops in ops(3000)) {
        run::<16, 1>(&ops, 20);
    }
}

#[test]
fn ends_of_the_numbers() {
    let mut m = meta(200);
    let mut tree = Tree::<2, 1>::new(1);
    for key in [u64::MAX, 0, 1, u64::MAX - 1] {
        assert!(tree.insert(&mut m, &[key, !key]).unwrap());
    }
    assert_eq!(
        tree.at_or_before(&mut m, &[u64::MAX]).unwrap(),
        Some([u64::MAX, 0])
    );
    assert_eq!(
        tree.at_or_after(&mut m, &[2]).unwrap(),
        Some([u64::MAX - 1, 1])
    );
    assert_eq!(
        tree.at_or_before(&mut m, &[0]).unwrap(),
        Some([0, u64::MAX])
    );
}

/// Fill of the leaves after `n` insertions of keys that `key` makes.
fn fill_of(n: u64, mut key: impl FnMut(u64) -> [u64; 2]) -> (f64, u16) {
    let mut m = meta(20_000);
    let mut tree = Tree::<4, 2>::new(1);
    for i in 0..n {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(&mut m, &entry_for(key(i), i)).unwrap();
    }
    (content(&mut m, &tree).2, tree.depth())
}

#[test]
fn nodes_are_well_filled() {
    let mut lot = Lot(1);
    let (up, depth) = fill_of(300_000, |i| [i, 1]);
    let (random, _) = fill_of(300_000, |_| [lot.next(), 1]);
    let (runs, _) = fill_of(300_000, |i| [((i % 10) << 32) | i, 1]);
    let (down, _) = fill_of(300_000, |i| [(1 << 40) - i, 1]);
    println!("fill: up {up:.3} random {random:.3} ten runs {runs:.3} down {down:.3} depth {depth}");
    assert!(up > 0.95 && random > 0.65 && runs > 0.9 && down > 0.45);
}

#[test]
fn removal_keeps_nodes_filled() {
    let mut m = meta(20_000);
    let mut tree = Tree::<4, 2>::new(1);
    let mut lot = Lot(2);
    let mut keys = std::vec![];
    for i in 0..200_000u64 {
        let key = [lot.next(), i];
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(&mut m, &entry_for(key, i)).unwrap();
        keys.push(key);
    }
    for key in &keys[..180_000] {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        assert!(tree.remove(&mut m, key).unwrap());
    }
    let fill = content(&mut m, &tree).2;
    println!("fill after removal of 90 %: {fill:.3}");
    assert!(fill > 0.45);
    audit(&mut m, &tree);
}

/// A small tree on a disk of its own, and how to load it.
fn small_tree() -> (Disk, Tree<4, 2>, FreeRoot, BTreeMap<[u64; 2], [u64; 4]>) {
    let mut m = meta(60);
    let mut tree = Tree::<4, 2>::new(1);
    let mut model = BTreeMap::new();
    for i in 0..400u64 {
        let entry = entry_for([i * 5 % 400 * 10, i % 3], i);
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(&mut m, &entry).unwrap();
        model.insert([entry[0], entry[1]], entry);
    }
    checkpoint(&mut m);
    tree.remove(&mut m, &[0, 0]).unwrap();
    model.remove(&[0, 0]);
    let root = checkpoint(&mut m);
    (m.blocks().disk().copy(), tree, root, model)
}

/// Does everything to a tree that may be damaged; errors are fine.
fn exercise(disk: Disk, tree: &Tree<4, 2>, root: &FreeRoot) {
    let blocks = RamBlocks::new(disk);
    let Ok(mut m) = Meta::restore(blocks, [7; 16], LOWER, 2, root) else {
        return;
    };
    let Ok(mut tree) = Tree::<4, 2>::load(&mut m, 1, tree.root(), tree.depth(), 2) else {
        return;
    };
    let _ = m.walk_free(|_, _| Ok(()));
    let _ = tree.walk(&mut m, |_| Ok(()));
    let _ = (tree.first(&mut m), tree.last(&mut m));
    let mut lot = Lot(9);
    for i in 0..60 {
        let key = [lot.below(4000), lot.below(3)];
        let _ = tree.at_or_before(&mut m, &key);
        let _ = tree.at_or_after(&mut m, &key);
        if m.reserve(tree.max_blocks_per_op(), 0).is_ok() {
            let _ = tree.insert(&mut m, &entry_for(key, i));
        }
        if m.reserve(tree.max_blocks_per_op(), 0).is_ok() {
            let _ = tree.remove(&mut m, &[i * 10, i % 3]);
        }
        if i % 20 == 19 {
            if m.freeze().is_ok() {
                let _ = m.blocks().write_dirty();
            }
            m.thaw(Ok(()));
        }
    }
}

#[test]
fn damaged_blocks_do_no_harm() {
    let (disk, tree, root, _) = small_tree();
    let mut lot = Lot(4);
    for nr in LOWER..disk.sectors() / BLOCK_SECTORS {
        let mut block: Block = [0; BLOCK_SIZE];
        disk.read(nr * BLOCK_SECTORS, &mut block).unwrap();
        if block == [0; BLOCK_SIZE] {
            continue;
        }
        // All of the head and of the first entries, and a part of the rest.
        for i in 0..BLOCK_SIZE {
            if i >= 160 && lot.below(40) != 0 {
                continue;
            }
            for change in [1u8, 0x80, 0xff, 1 << lot.below(8)] {
                let mut bad = block;
                bad[i] ^= change;
                if i >= 4 {
                    format::seal(&mut bad, crc32c);
                }
                let disk = disk.copy();
                disk.write(nr * BLOCK_SECTORS, &bad, true).unwrap();
                exercise(disk, &tree, &root);
            }
        }
    }
}

#[test]
fn wrong_roots_are_refused() {
    let (disk, tree, root, model) = small_tree();
    let mut m = Meta::restore(RamBlocks::new(disk.copy()), [7; 16], LOWER, 2, &root).unwrap();
    let good = Tree::<4, 2>::load(&mut m, 1, tree.root(), tree.depth(), 2).unwrap();
    assert_eq!(content(&mut m, &good).0, model);
    let mut load =
        |number, root, depth, epoch| Tree::<4, 2>::load(&mut m, number, root, depth, epoch).err();
    let (nr, depth) = (tree.root(), tree.depth());
    assert_eq!(load(2, nr, depth, 2), Some(EILSEQ));
    assert_eq!(load(1, nr, depth + 1, 2), Some(EILSEQ));
    assert_eq!(load(1, nr, 13, 2), Some(EILSEQ));
    assert_eq!(load(1, 0, depth, 2), Some(EILSEQ));
    assert_eq!(load(1, nr, 0, 2), Some(EILSEQ));
    assert_eq!(load(1, u64::MAX, depth, 2), Some(EILSEQ));
    assert_eq!(
        load(1, nr, depth, 1),
        Some(EILSEQ),
        "a root later than its checkpoint"
    );

    let restore =
        |root: FreeRoot| Meta::restore(RamBlocks::new(disk.copy()), [7; 16], LOWER, 2, &root).err();
    let with = |f: &dyn Fn(&mut FreeRoot)| {
        let mut changed = root;
        f(&mut changed);
        restore(changed)
    };
    assert_eq!(with(&|_| ()), None);
    assert_eq!(with(&|r| r.fresh[3] = (u64::MAX, 2)), Some(EILSEQ));
    assert_eq!(with(&|r| r.fresh[3] = (0, 2)), Some(EILSEQ));
    assert_eq!(with(&|r| r.fresh[3] = (60, 9)), Some(EILSEQ));
    assert_eq!(with(&|r| r.fresh[3] = r.fresh[0]), Some(EILSEQ));
    assert_eq!(with(&|r| r.list_head = 1), Some(EILSEQ));
    assert_eq!(with(&|r| r.list_head = u64::MAX), Some(EILSEQ));
    assert_eq!(with(&|r| r.list_count = 0), Some(EILSEQ));
    assert_eq!(with(&|r| r.list_count = u64::MAX), Some(EILSEQ));
}

#[test]
#[ignore = "prints what the operations cost, and tests nothing"]
fn cost() {
    let mut m = meta(60_000);
    let mut tree = Tree::<4, 2>::new(1);
    let n = 1_000_000u64;
    let mut lot = Lot(5);
    let mut step = |what: &str, f: &mut dyn FnMut(&mut Meta<RamBlocks>, &mut Tree<4, 2>, u64)| {
        let ops = m.blocks().ops;
        let start = Instant::now();
        for i in 0..n {
            f(&mut m, &mut tree, i);
        }
        let ns = start.elapsed().as_nanos() as f64 / n as f64;
        let ops = (m.blocks().ops - ops) as f64 / n as f64;
        println!(
            "{what}: {ns:.0} ns, {ops:.2} block operations, depth {}",
            tree.depth()
        );
    };
    step("insert in order", &mut |m, tree, i| {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(m, &entry_for([i, 1], i)).unwrap();
    });
    step("lookup", &mut |m, tree, _| {
        let key = [lot.below(n), 1];
        assert!(tree.at_or_before(m, &key).unwrap().is_some());
    });
    let mut lot = Lot(6);
    step("insert anywhere", &mut |m, tree, i| {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(m, &entry_for([lot.below(n), 2 + lot.below(1 << 40)], i))
            .unwrap();
    });
    step("remove in order", &mut |m, tree, i| {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        assert!(tree.remove(m, &[i, 1]).unwrap());
        if m.wants_checkpoint() {
            checkpoint(m);
        }
    });
}

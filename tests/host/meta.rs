// SPDX-License-Identifier: GPL-2.0

//! Free blocks and checkpoints, with crashes, faults and a full device.

use super::disk::Disk;
use super::ram::{RamBlocks, BLOCK_SECTORS};
use super::tree::{content, entry_for, Lot, LOWER};
use crate::store::blocks::Blocks;
use crate::store::meta::{Free, FreeRoot, Meta};
use crate::store::tree::Tree;
use kernel::prelude::*;
use std::collections::{BTreeMap, HashSet};

const UUID: [u8; 16] = [7; 16];

type Map = BTreeMap<[u64; 1], [u64; 16]>;

/// What a log would hold.
#[derive(Clone, Copy)]
enum Record {
    Insert([u64; 16]),
    Remove([u64; 1]),
    Extent(u64, u64),
}

/// What a checkpoint names, and what must be found in it.
#[derive(Clone)]
struct Saved {
    free: FreeRoot,
    tree: Tree<16, 1>,
    epoch: u64,
    model: Map,
    area: std::vec::Vec<(u64, u64)>,
    /// Length of the log before it.
    position: usize,
    /// Its nodes and lists.
    blocks: HashSet<u64>,
}

struct Limits {
    pending: usize,
    keep: usize,
}

struct Rig {
    m: Meta<RamBlocks>,
    tree: Tree<16, 1>,
    model: Map,
    /// The blocks that are metadata's.
    area: std::vec::Vec<(u64, u64)>,
    log: std::vec::Vec<Record>,
    saved: Saved,
    /// Whether a checkpoint failed since the last good one.
    failed: bool,
    /// Written, maybe, but not known to be durable.
    doubt: Option<Saved>,
    limits: Limits,
    lot: Lot,
    counts: BTreeMap<&'static str, u64>,
}

impl Rig {
    fn new(seed: u64, blocks: u64, device: u64, limits: Limits) -> Self {
        let disk = Disk::new(device * BLOCK_SECTORS);
        let mut free = FreeRoot::default();
        free.fresh[0] = (LOWER, blocks);
        let mut m = Meta::restore(RamBlocks::new(disk), UUID, LOWER, 0, &free).unwrap();
        m.set_limits(limits.pending, limits.keep);
        let tree = Tree::new(5);
        let area = std::vec![(LOWER, LOWER + blocks)];
        let saved = Saved {
            free,
            tree,
            epoch: 0,
            model: Map::new(),
            area: area.clone(),
            position: 0,
            blocks: HashSet::new(),
        };
        Self {
            m,
            tree,
            model: Map::new(),
            area,
            log: std::vec![],
            saved,
            failed: false,
            doubt: None,
            limits,
            lot: Lot(seed),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Every block of the area is one thing; the entries are the model's.
    fn audit(&mut self) {
        let fail_after = self.m.blocks().fail_after.take();
        let (entries, mut all, _) = content(&mut self.m, &self.tree);
        assert!(entries == self.model);
        let (mut now, mut later) = (0, 0);
        self.m
            .walk_free(|nr, free| {
                all.push(nr);
                now += u64::from(free == Free::Now);
                later += u64::from(free == Free::Later);
                Ok(())
            })
            .unwrap();
        assert_eq!(now, self.m.available_now());
        assert_eq!(now + later, self.m.free_blocks());
        all.sort();
        let mut area: std::vec::Vec<u64> =
            self.area.iter().flat_map(|&(from, to)| from..to).collect();
        area.sort();
        assert!(all == area, "blocks lost or in two places");
        self.m.blocks().fail_after = fail_after;
    }

    fn apply(&mut self, record: Record, keep: u64) -> Result {
        match record {
            Record::Insert(entry) => {
                self.m.reserve(self.tree.max_blocks_per_op(), keep)?;
                self.tree.insert(&mut self.m, &entry)?;
                self.model.insert([entry[0]], entry);
            }
            Record::Remove(key) => {
                self.m.reserve(self.tree.max_blocks_per_op(), 0)?;
                let found = self.tree.remove(&mut self.m, &key)?;
                assert_eq!(found, self.model.remove(&key).is_some());
            }
            Record::Extent(start, len) => {
                self.m.add_extent(start, len)?;
                self.area.push((start, start + len));
            }
        }
        Ok(())
    }

    /// One change, logged if it was made.
    fn change(&mut self, record: Record, keep: u64) -> Result {
        let result = self.apply(record, keep);
        if result.is_ok() {
            self.log.push(record);
        }
        result
    }

    /// Begins a checkpoint.
    fn begin(&mut self) -> Result<Saved> {
        let free = self.m.freeze()?;
        let fail_after = self.m.blocks().fail_after.take();
        let mut blocks: HashSet<u64> = content(&mut self.m, &self.tree).1.into_iter().collect();
        self.m
            .walk_free(|nr, free| {
                if free == Free::List {
                    blocks.insert(nr);
                }
                Ok(())
            })
            .unwrap();
        self.m.blocks().protected.extend(&blocks);
        self.m.blocks().fail_after = fail_after;
        self.count("checkpoints");
        Ok(Saved {
            free,
            tree: self.tree,
            epoch: self.m.epoch() - 1,
            model: self.model.clone(),
            area: self.area.clone(),
            position: self.log.len(),
            blocks,
        })
    }

    /// Writes a checkpoint; `good` tells what becomes known of it.
    fn end(&mut self, new: Saved, good: bool) {
        if self.m.blocks().write_dirty().is_err() {
            // Surely not on disk.
            self.m.thaw(Err(EIO));
            self.failed = true;
            self.count("write errors");
            return;
        }
        if !good {
            self.m.thaw(Err(EIO));
            self.doubt = Some(new);
            self.count("checkpoints in doubt");
            return;
        }
        self.m.thaw(Ok(()));
        self.m.blocks().protected = new.blocks.clone();
        self.saved = new;
        self.doubt = None;
        self.failed = false;
    }

    /// Loses power and comes back from `saved`: its content, then that of the run.
    fn crash(&mut self, saved: Saved) {
        self.count("crashes");
        let disk = self.m.blocks().disk().clone();
        let lot = &mut self.lot;
        let disk = disk.cut(disk.log_len(), |_, _| lot.below(2) == 0);
        let mut blocks = RamBlocks::new(disk);
        blocks.protected = saved.blocks.clone();
        let eager = self.m.blocks().eager;
        let mut m = Meta::restore(blocks, UUID, LOWER, saved.epoch, &saved.free).unwrap();
        m.set_limits(self.limits.pending, self.limits.keep);
        m.blocks().eager = eager;
        let (root, depth) = (saved.tree.root(), saved.tree.depth());
        self.tree = Tree::load(&mut m, 5, root, depth, saved.epoch).unwrap();
        assert_eq!(self.tree, saved.tree);
        self.m = m;
        let model = core::mem::replace(&mut self.model, saved.model.clone());
        let area = core::mem::replace(&mut self.area, saved.area.clone());
        self.audit();
        // Replay may fail for no reason that the run did not have.
        for i in saved.position..self.log.len() {
            let record = self.log[i];
            self.apply(record, 0).unwrap();
        }
        assert!(self.model == model && self.area == area);
        self.audit();
        self.saved = saved;
        self.doubt = None;
        // Recovery ends with a checkpoint.
        let new = self.begin().unwrap();
        self.end(new, true);
    }

    /// Changes at random until something must be done about blocks.
    fn some_changes(&mut self, n: u64, growing: bool) -> Result {
        let keys = 40 * self.m.blocks().len();
        let mut key = [0];
        for _ in 0..self.lot.below(n) + 1 {
            key[0] += 1;
            if self.lot.below(50) == 0 || key[0] == 1 {
                key[0] = self.lot.below(keys);
            }
            let insert = self.lot.below(10) < if growing { 8 } else { 2 };
            let record = if insert {
                Record::Insert(entry_for(key, self.lot.next()))
            } else {
                match self.model.range(key..).next() {
                    Some((key, _)) => Record::Remove(*key),
                    None => continue,
                }
            };
            self.change(record, 4)?;
        }
        Ok(())
    }

    fn run(&mut self, rounds: u64, faults: bool, mut extents: std::vec::Vec<(u64, u64)>) {
        let mut growing = true;
        let mut out: Option<Saved> = None;
        for round in 0..rounds {
            if faults && self.lot.below(3) == 0 {
                let n = self.lot.below(60);
                self.m.blocks().fail_after = Some(n);
            }
            let n = 1 << self.lot.below(9);
            let result = self.some_changes(n, growing);
            let mut wanted = self.m.wants_checkpoint() || self.lot.below(8) == 0;
            match result {
                Ok(()) => {}
                Err(ENOSPC) => {
                    self.count("full");
                    wanted |= self.lot.below(4) == 0;
                    match extents.pop() {
                        Some((start, len)) if self.lot.below(2) == 0 => {
                            if self.change(Record::Extent(start, len), 0).is_err() {
                                extents.push((start, len));
                                wanted = true;
                                self.count("extents refused");
                            } else {
                                self.count("extents");
                            }
                        }
                        extent => {
                            extents.extend(extent);
                            growing = false;
                        }
                    }
                }
                Err(EAGAIN) => {
                    self.count("checkpoints awaited");
                    wanted = true;
                }
                Err(EIO) => {
                    self.count("faults");
                    if self.m.is_poisoned() {
                        self.count("poisoned");
                        self.crash(self.saved.clone());
                        out = None;
                        continue;
                    }
                    self.audit();
                }
                Err(e) => panic!("{e:?}"),
            }
            if self.model.is_empty() || self.lot.below(20) == 0 {
                growing = true;
            }
            if wanted {
                match out.take() {
                    Some(new) => {
                        let good = self.lot.below(5) != 0;
                        self.end(new, good);
                    }
                    None => match self.begin() {
                        Ok(new) => out = Some(new),
                        Err(EIO) => self.audit(),
                        Err(ENOSPC) => {
                            // The lists of a checkpoint in doubt stay taken.
                            assert!(self.doubt.is_some() || self.failed);
                            self.count("no room for lists");
                            self.m.blocks().fail_after = None;
                            self.crash(self.saved.clone());
                        }
                        Err(e) => panic!("{e:?}"),
                    },
                }
            }
            if self.lot.below(25) == 0 {
                self.m.blocks().fail_after = None;
                let new = out.take();
                // The checkpoint that was out may have become durable.
                let saved = match new {
                    Some(new) if self.lot.below(2) == 0 => {
                        self.m.blocks().write_dirty().unwrap();
                        new
                    }
                    _ => match self.doubt.take() {
                        Some(new) if self.lot.below(2) == 0 => new,
                        _ => self.saved.clone(),
                    },
                };
                self.crash(saved);
            }
            if round % 32 == 0 {
                self.audit();
            }
        }
    }
}

fn total(all: &mut BTreeMap<&'static str, u64>, rig: &Rig) {
    for (what, n) in &rig.counts {
        *all.entry(what).or_default() += n;
    }
}

#[test]
fn crashes_faults_and_full_devices() {
    let mut all = BTreeMap::new();
    for seed in 0..48 {
        let mut lot = Lot(seed);
        let blocks = [60, 150, 700, 4000][lot.below(4) as usize];
        let extents: std::vec::Vec<_> = (0..40)
            .map(|i| (LOWER + blocks + 10 * i, 1 + i % 10))
            .collect();
        let limits = Limits {
            pending: [120, 1000, 1 << 20][lot.below(3) as usize],
            keep: [64, 300, 1 << 20][lot.below(3) as usize],
        };
        let mut rig = Rig::new(seed, blocks, LOWER + blocks + 400, limits);
        rig.m.blocks().eager = [None, Some(7), Some(50)][lot.below(3) as usize];
        rig.run(100_000 / blocks.clamp(100, 500), seed % 2 == 1, extents);
        total(&mut all, &rig);
    }
    println!("{all:?}");
    for what in [
        "checkpoints",
        "checkpoints in doubt",
        "checkpoints awaited",
        "crashes",
        "faults",
        "poisoned",
        "full",
        "extents",
    ] {
        assert!(all.get(what).is_some_and(|&n| n > 20), "too few {what}");
    }
}

/// Many more free blocks than are kept in core: the lists stay on disk and come back.
#[test]
fn long_lists() {
    let limits = Limits {
        pending: 1 << 20,
        keep: 64,
    };
    let mut rig = Rig::new(1, 25_000, 25_008, limits);
    for i in 0..400_000 {
        rig.change(Record::Insert(entry_for([i * 7919 % 400_000], i)), 0)
            .unwrap();
    }
    let new = rig.begin().unwrap();
    rig.end(new, true);
    for i in 0..390_000 {
        rig.change(Record::Remove([i]), 0).unwrap();
        if rig.m.wants_checkpoint() || i % 100_000 == 0 {
            let new = rig.begin().unwrap();
            rig.end(new, true);
        }
    }
    for _ in 0..2 {
        let new = rig.begin().unwrap();
        rig.end(new, true);
    }
    rig.audit();
    let writes = rig.m.blocks().disk().counts().writes;
    let new = rig.begin().unwrap();
    rig.end(new, true);
    let writes = rig.m.blocks().disk().counts().writes - writes;
    println!(
        "an idle checkpoint writes {writes} blocks, {} are free",
        rig.m.free_blocks()
    );
    assert!(writes < 6, "lists that did not change were written again");
    rig.crash(rig.saved.clone());
    for i in 0..390_000 {
        while let Err(e) = rig.change(Record::Insert(entry_for([i], i)), 0) {
            assert_eq!(e, EAGAIN);
            let new = rig.begin().unwrap();
            rig.end(new, true);
        }
    }
    rig.audit();
    rig.crash(rig.saved.clone());
}

#[test]
fn no_memory_is_needed_once_loaded() {
    let load = || {
        let blocks = RamBlocks::new(Disk::new(2008 * BLOCK_SECTORS));
        let mut free = FreeRoot::default();
        free.fresh[0] = (LOWER, 2000);
        Meta::restore(blocks, UUID, LOWER, 0, &free)
    };
    let before = kernel::testing::allocations();
    let mut m = load().unwrap();
    let needed = kernel::testing::allocations() - before;
    for n in 0..needed {
        kernel::testing::fail_allocation_after(Some(n));
        assert_eq!(load().err(), Some(ENOMEM));
    }
    kernel::testing::fail_allocation_after(None);
    let before = kernel::testing::allocations();
    let mut tree = Tree::<4, 2>::new(1);
    for i in 0..20_000u64 {
        m.reserve(tree.max_blocks_per_op(), 0).unwrap();
        tree.insert(&mut m, &entry_for([i * 7919 % 20_000, 1], i))
            .unwrap();
        if i % 1000 == 0 {
            m.freeze().unwrap();
            m.thaw(if i % 3000 == 0 { Err(EIO) } else { Ok(()) });
        }
    }
    assert_eq!(kernel::testing::allocations(), before);
}

#[test]
fn the_last_single_blocks_are_not_lost() {
    for blocks in 1..8 {
        let mut rig = Rig::new(
            blocks,
            blocks,
            LOWER + blocks,
            Limits {
                pending: 99,
                keep: 64,
            },
        );
        for _ in 0..4 {
            let nr = rig.m.alloc();
            if let Ok(nr) = nr {
                rig.m.free(nr);
            }
            rig.audit();
            match rig.begin() {
                Ok(new) => rig.end(new, true),
                Err(e) => assert_eq!(e, ENOSPC),
            }
            rig.audit();
            rig.crash(rig.saved.clone());
        }
    }
}

#[test]
fn ranges_that_replay_could_not_hold_wait_for_a_checkpoint() {
    // Small ones would become numbers.
    const LEN: u64 = 600;
    let mut free = FreeRoot::default();
    for i in 0..7 {
        free.fresh[i as usize] = (LOWER + LEN * i, 1 + i);
    }
    let blocks = RamBlocks::new(Disk::new(20 * LEN * BLOCK_SECTORS));
    let mut m = Meta::restore(blocks, UUID, LOWER, 0, &free).unwrap();
    m.add_extent(8 * LEN, LEN).unwrap();
    assert_eq!(m.add_extent(9 * LEN, LEN), Err(ENOSPC));
    assert_eq!(m.add_extent(20 * LEN - 1, 2), Err(EINVAL));
    assert_eq!(m.alloc(), Ok(LOWER));
    assert_eq!(m.add_extent(9 * LEN, LEN), Err(EAGAIN));
    m.freeze().unwrap();
    assert_eq!(m.add_extent(9 * LEN, LEN), Err(EAGAIN));
    m.thaw(Err(EIO));
    assert_eq!(m.add_extent(9 * LEN, LEN), Err(EAGAIN));
    m.freeze().unwrap();
    m.thaw(Ok(()));
    m.add_extent(9 * LEN, LEN).unwrap();
}

/// Pieces of one block each, as many as replay can hold.
#[test]
fn small_extents_are_not_lost() {
    let limits = Limits {
        pending: 1 << 16,
        keep: 64,
    };
    let mut rig = Rig::new(5, 16, 40_000, limits);
    let mut next = LOWER + 16;
    for round in 0..3 {
        let begin = next;
        loop {
            match rig.change(Record::Extent(next, 1), 0) {
                Ok(()) => next += 2,
                Err(e) => break assert_eq!(e, EAGAIN),
            }
        }
        assert!(next - begin > 4096);
        rig.some_changes(2000, true).unwrap();
        if round == 1 {
            rig.crash(rig.saved.clone());
        }
        let new = rig.begin().unwrap();
        rig.end(new, true);
        rig.audit();
    }
}

/// A list block behind the new ones is read in, or small extents are added, while a checkpoint is
/// out.
#[test]
fn lists_read_during_a_checkpoint() {
    for extents in 0..4 {
        lists_change_during_a_checkpoint(extents * 9);
    }
}

fn lists_change_during_a_checkpoint(extents: u64) {
    let mut end = LOWER + 3000;
    let mut free = FreeRoot::default();
    free.fresh[0] = (LOWER, 3000);
    let blocks = RamBlocks::new(Disk::new((LOWER + 8000) * BLOCK_SECTORS));
    let mut m = Meta::restore(blocks, UUID, LOWER, 0, &free).unwrap();
    m.set_limits(1 << 20, 64);
    let mut used = std::vec![];
    let take = |m: &mut Meta<RamBlocks>, used: &mut std::vec::Vec<u64>, n: usize| {
        used.extend((0..n).map(|_| m.alloc().unwrap()));
    };
    let give = |m: &mut Meta<RamBlocks>, used: &mut std::vec::Vec<u64>, n: usize| {
        used.drain(..n).for_each(|nr| m.free(nr));
    };
    take(&mut m, &mut used, 1000);
    for round in 0..40 {
        give(&mut m, &mut used, 700);
        m.freeze().unwrap();
        m.blocks().write_dirty().unwrap();
        take(&mut m, &mut used, 700 - 20 * (round % 4));
        for _ in 0..extents {
            m.add_extent(end, 4).unwrap();
            end += 4;
        }
        m.thaw(Ok(()));
        take(&mut m, &mut used, 20 * (round % 4));
        let mut all = used.to_vec();
        m.walk_free(|nr, _| {
            all.push(nr);
            Ok(())
        })
        .unwrap();
        all.sort();
        assert!(all.into_iter().eq(LOWER..end));
    }
}

#[test]
fn a_checkpoint_always_finds_blocks_for_its_lists() {
    let mut free = FreeRoot::default();
    free.fresh[0] = (LOWER, 3000);
    let blocks = RamBlocks::new(Disk::new((LOWER + 3000) * BLOCK_SECTORS));
    let mut m = Meta::restore(blocks, UUID, LOWER, 0, &free).unwrap();
    let mut used = std::vec![];
    while m.reserve(1, 0).is_ok() {
        used.push(m.alloc().unwrap());
    }
    for _ in 0..20 {
        while m.reserve(0, 0).is_ok() {
            let Some(nr) = used.pop() else {
                break;
            };
            m.free(nr);
        }
        m.freeze().unwrap();
        m.thaw(Ok(()));
    }
    assert!(used.is_empty());
}

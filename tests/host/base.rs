// SPDX-License-Identifier: GPL-2.0

//! Opening, formatting and loading: foreign devices, wrong tables, damage, faults, no memory.

use super::disk::{Disk, SECTOR};
use super::ram::BLOCK_SECTORS;
use super::range_check::*;
use super::range_model::*;
use crate::store::blocks::{Block, Blocks, BLOCK_SIZE};
use crate::store::{
    load, Chunk, ExceptionStore, Found, Identity, Open, OpenError, SnapId, StoreType, Value,
};
use kernel::prelude::*;
use kernel::testing::{allocations, fail_allocation_after};
use std::vec::Vec as StdVec;

for_both!(
    a_store_whose_first_block_was_zeroed_is_formatted_again,
    a_cut_format_is_no_store_and_can_be_repeated,
    small_stores,
    identity_and_growth_last,
    flipped_bits_of_a_clean_image,
    an_image_that_was_cut_short_is_refused,
    flipped_bits_of_an_unclean_image,
    hostile_numbers_are_errors,
    a_group_beyond_the_area_is_refused,
    any_allocation_may_fail,
    any_command_of_a_load_may_fail,
    a_load_may_be_cut_anywhere,
    a_read_only_load_writes_nothing,
    faults_in_a_run,
);

fn read_only(disk: &Disk) -> Result<Open<Shared>, OpenError> {
    Open::peek(Shared::new(disk.clone()), true)
}

fn read(disk: &Disk, nr: u64) -> StdVec<u8> {
    let mut data = std::vec![0; BLOCK_SIZE];
    disk.read(nr * BLOCK_SECTORS, &mut data).unwrap();
    data
}

fn write(disk: &Disk, nr: u64, data: &[u8]) {
    disk.write(nr * BLOCK_SECTORS, data, true).unwrap();
}

fn open_or_format(of: StoreType, disk: &Disk, chunk: u32) -> Result<Open<Shared>, OpenError> {
    Open::open_or_format(Shared::new(disk.clone()), &params(of, chunk, 10), false)
}

#[test]
fn only_an_empty_device_is_formatted() {
    // Something at any place of the header keeps it from being formatted, and stays.
    for nr in 0..32 {
        for byte in [0, 511, 512, 4095] {
            let disk = Disk::new(512 * BLOCK_SECTORS);
            let mut data = std::vec![0; BLOCK_SIZE];
            data[byte] = 1;
            write(&disk, nr, &data);
            let writes = disk.counts().writes;
            match open_or_format(StoreType::Btree, &disk, 8) {
                Err(OpenError::Foreign) => assert_eq!(disk.counts().writes, writes),
                Err(e) => panic!("{nr} {byte}: {e:?}"),
                // As a cut may have left a checkpoint of ours.
                Ok(_) => assert!((nr == 8 || nr == 16) && byte == 512, "{nr} {byte}"),
            }
        }
    }
    let disk = Disk::new(512 * BLOCK_SECTORS);
    let shared = Shared::new(disk.clone());
    let error = Open::open_or_format(shared, &params(StoreType::Btree, 8, 10), true).err();
    assert_eq!(error, Some(OpenError::NeedsFormat));
    assert_eq!(disk.counts().writes, 0);
}

fn a_store_whose_first_block_was_zeroed_is_formatted_again(of: StoreType) {
    let mut rig = Rig::new(of, 512, 8, 4);
    rig.create(None, b"");
    rig.write_origin(0);
    rig.commit();
    let disk = rig.blocks.disk();
    write(&disk, 0, &[0; BLOCK_SIZE]);
    let mut p = params(of, 16, 4);
    p.uuid = [3; 16];
    let open = Open::open_or_format(Shared::new(disk.clone()), &p, false).unwrap();
    let mut store = load(open).unwrap();
    assert_eq!(store.live_ids(), 0);
    audit(&mut *store);
}

fn a_cut_format_is_no_store_and_can_be_repeated(of: StoreType) {
    let disk = Disk::new(512 * BLOCK_SECTORS);
    open_or_format(of, &disk, 8).unwrap();
    for at in 0..=disk.log_len() {
        for mode in 0..3u64 {
            let left = disk.cut(at, |i, s| match mode {
                0 => false,
                1 => true,
                _ => (i as u64 * 7 + s * 3) % 5 < 2,
            });
            // Formatted, or empty enough to be formatted now.
            let open = open_or_format(of, &left, 8).unwrap();
            audit(&mut *load(open).unwrap());
        }
    }
}

#[test]
fn tables_are_checked() {
    let disk = Disk::new(512 * BLOCK_SECTORS);
    let open = open_or_format(StoreType::Btree, &disk, 16).unwrap();
    assert_eq!(open.check(16, StoreType::Btree, 160), Ok(()));
    assert_eq!(open.check(16, StoreType::Btree, 161), Ok(()));
    let error = OpenError::ChunkSize {
        store: 16,
        table: 8,
    };
    assert_eq!(open.check(8, StoreType::Btree, 160), Err(error));
    let error = OpenError::Type {
        store: StoreType::Btree,
        table: StoreType::Bitmask,
    };
    assert_eq!(open.check(16, StoreType::Bitmask, 160), Err(error));
    let error = OpenError::OriginShrunk {
        store: 160,
        table: 159,
    };
    assert_eq!(open.check(16, StoreType::Btree, 159), Err(error));
    let small = disk.cut(disk.log_len(), |_, _| true);
    let shorter = Disk::new(511 * BLOCK_SECTORS);
    for nr in 0..511 {
        write(&shorter, nr, &read(&small, nr));
    }
    let error = OpenError::StoreShrunk {
        store: 512 * BLOCK_SECTORS,
        device: 511 * BLOCK_SECTORS,
    };
    assert_eq!(
        open_or_format(StoreType::Btree, &shorter, 16).err(),
        Some(error)
    );
    for bad in [0, 4, 24, 4 << 20] {
        let blank = Disk::new(512 * BLOCK_SECTORS);
        let error = OpenError::BadChunkSize(bad);
        assert_eq!(
            open_or_format(StoreType::Btree, &blank, bad).err(),
            Some(error)
        );
    }
}

fn small_stores(of: StoreType) {
    for chunk in [8, 64, 2048] {
        let mut smallest = None;
        for blocks in (0..2000).step_by(4) {
            let disk = Disk::new(blocks * BLOCK_SECTORS);
            match open_or_format(of, &disk, chunk) {
                Ok(open) => {
                    load(open).unwrap();
                    smallest.get_or_insert(blocks);
                }
                Err(OpenError::TooSmall { needed, have }) => {
                    assert_eq!(have, blocks * BLOCK_SECTORS);
                    assert!(needed > have && smallest.is_none());
                }
                Err(e) => panic!("{e:?}"),
            }
        }
        std::println!("chunks of {chunk} sectors: at least {smallest:?} blocks");
        assert!(smallest.is_some());
    }
}

fn identity_and_growth_last(of: StoreType) {
    let mut rig = Rig::new(of, 512, 8, 4);
    assert!(Open::peek(rig.blocks.clone(), false)
        .unwrap()
        .identity()
        .is_none());
    rig.create(None, b"");
    rig.blocks.disk().grow(600 * BLOCK_SECTORS);
    assert_eq!(rig.store.resize(1, 1), Err(EINVAL));
    rig.store.resize(5 * 8, 600 * BLOCK_SECTORS).unwrap();
    rig.commit();
    let identity = Identity {
        digests: std::array::from_fn(|i| i as u64 * 3),
    };
    rig.begin_checkpoint(Some(&identity));
    rig.end_checkpoint(true);
    let disk = rig.blocks.disk().copy();
    let open = Open::peek(Shared::new(disk.clone()), false).unwrap();
    assert_eq!(open.identity(), Some(identity));
    assert_eq!(open.identity().unwrap().differing(&identity), 0);
    assert_eq!((open.origin_sectors(), open.store_sectors()), (40, 4800));
    let mut store = load(open).unwrap();
    assert_eq!(store.geometry().origin_sectors, 40);
    // What is beyond the end of the origin of then need not be preserved.
    store.reset_query(Chunk(4)).unwrap();
    assert_eq!(store.query_next_remap(), Ok(None));
    store.reset_query(Chunk(3)).unwrap();
    assert!(matches!(store.query_next_remap(), Ok(Some(_))));
    store.create(None, 0, b"").unwrap();
    store.reset_query(Chunk(4)).unwrap();
    assert!(matches!(store.query_next_remap(), Ok(Some(_))));
    assert_eq!(store.snapshot(SnapId::top(1)).unwrap().unwrap().sectors, 32);
    assert_eq!(store.snapshot(SnapId::top(2)).unwrap().unwrap().sectors, 40);
    // The mark is gone as soon as the store is in use.
    assert!(Open::peek(Shared::new(disk), false)
        .unwrap()
        .identity()
        .is_none());
    for sectors in [1, 8, 64, 4096, 1 << 40, u64::MAX] {
        let all: StdVec<u64> = (0..64).map(|i| Identity::position(i, sectors)).collect();
        assert!(all.iter().all(|p| *p < sectors && p % 8 == 0));
    }
}

/// A store with some of everything, and what its snapshots hold after each of the last commits.
fn image(of: StoreType, clean: bool) -> (Disk, StdVec<Model>) {
    let mut rig = Rig::new(of, 200, 8, 8);
    let mut states = StdVec::new();
    for i in 0..4 {
        rig.create(None, if i == 0 { b"first" } else { b"" });
        rig.write_origin(i);
        rig.write_origin(7 - i);
        rig.write_snapshot(SnapId::top(1), i, i == 2);
        rig.commit();
    }
    // A bitmask store has no sub-snapshots.
    let sub = rig.create(Some(SnapId::top(2)), b"sub");
    assert_eq!(sub.is_some(), of == StoreType::Btree);
    let sub = sub.unwrap_or(SnapId::top(4));
    rig.write_snapshot(sub, 0, false);
    rig.delete(SnapId::top(3));
    rig.commit();
    while rig.sweep() {}
    rig.commit();
    rig.begin_checkpoint(None);
    rig.end_checkpoint(true);
    for i in 0..3 {
        states.push(rig.model.clone());
        rig.write_origin(i + 3);
        rig.write_snapshot(sub, 5 + i, false);
        rig.commit();
    }
    states.push(rig.model.clone());
    if clean {
        let identity = Identity { digests: [1; 64] };
        rig.begin_checkpoint(Some(&identity));
        rig.end_checkpoint(true);
    }
    (rig.blocks.disk().copy(), states)
}

/// Loads, read-only and read-write, an image with something wrong in it.
fn load_damaged(disk: &Disk, allowed: &[Model], what: &str) -> bool {
    let mut fine = false;
    for mode in 0..2 {
        let disk = disk.copy();
        let shared = Shared::new(disk.clone());
        let Ok(open) = Open::peek(shared, mode == 0) else {
            continue;
        };
        let Ok(mut store) = load(open) else {
            continue;
        };
        let Ok(found) = try_contents(&mut *store, &disk, 8) else {
            continue;
        };
        let good = allowed.iter().any(|model| compare(&found, model).is_ok());
        assert!(good, "{what}: a wrong state was loaded");
        fine = true;
    }
    fine
}

fn flips(of: StoreType, clean: bool) {
    let (disk, states) = image(of, clean);
    let allowed = if clean {
        &states[states.len() - 1..]
    } else {
        &states[states.len() - 2..]
    };
    assert!(load_damaged(&disk, &states[states.len() - 1..], "whole"));
    let data_start = Open::peek(Shared::new(disk.copy()), true)
        .and_then(load)
        .unwrap()
        .geometry()
        .data_start;
    let (mut flips, mut refused) = (0, 0);
    for nr in 0..data_start / BLOCK_SECTORS {
        let block = read(&disk, nr);
        if block.iter().all(|b| *b == 0) {
            continue;
        }
        // Every bit where something is, and some of the rest.
        for byte in (0..BLOCK_SIZE).filter(|i| block[*i] != 0 || i % 61 == 0 || *i < 160) {
            for bit in 0..8 {
                if block[byte] == 0 && bit != nr as usize % 8 {
                    continue;
                }
                let mut damaged = block.clone();
                damaged[byte] ^= 1 << bit;
                let copy = disk.copy();
                write(&copy, nr, &damaged);
                let what = std::format!("block {nr} byte {byte} bit {bit}");
                refused += u32::from(!load_damaged(&copy, allowed, &what));
                flips += 1;
            }
        }
        // Whole blocks that are lost.
        let copy = disk.copy();
        write(&copy, nr, &[0; BLOCK_SIZE]);
        load_damaged(&copy, allowed, &std::format!("block {nr} zeroed"));
    }
    std::println!("{flips} flips, {refused} refused");
    assert!(flips > 1000 && refused > 0);
}

fn flipped_bits_of_a_clean_image(of: StoreType) {
    flips(of, true);
}

fn flipped_bits_of_an_unclean_image(of: StoreType) {
    flips(of, false);
}

/// At each block, and once in the middle of one.
fn an_image_that_was_cut_short_is_refused(of: StoreType) {
    for clean in [true, false] {
        let (disk, states) = image(of, clean);
        let blocks = disk.sectors() / BLOCK_SECTORS;
        let whole: StdVec<_> = (0..blocks).map(|nr| read(&disk, nr)).collect();
        for (len, rest) in (1..blocks).map(|len| (len, 0)).chain([(blocks - 1, 1)]) {
            let shorter = Disk::new(len * BLOCK_SECTORS + rest);
            for (nr, block) in (0..len).zip(&whole) {
                write(&shorter, nr, block);
            }
            let what = std::format!("{len} of {blocks} blocks");
            let last = &states[states.len() - 1..];
            assert!(!load_damaged(&shorter, last, &what), "{what}");
        }
    }
}

fn hostile_numbers_are_errors(of: StoreType) {
    let (disk, _) = image(of, false);
    let filled = |nr: &u64| read(&disk, *nr).iter().any(|b| *b != 0);
    let blocks: StdVec<u64> = (0..112).filter(filled).collect();
    let mut lot = 1u64;
    let mut next = move || {
        lot = lot
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        lot >> 20
    };
    let (mut loaded, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let copy = disk.copy();
        for _ in 0..1 + next() % 2 {
            let nr = blocks[next() as usize % blocks.len()];
            let mut block = read(&copy, nr);
            // A word with a number of some kind, and a good checksum.
            let at = (6 + next() as usize % 60) * 8;
            let at = if next() % 4 == 0 {
                next() as usize % 500 * 8 + 48
            } else {
                at
            };
            let n = match next() % 6 {
                0 => 0,
                1 => u64::MAX,
                2 => next() % 256,
                3 => 1 << (next() % 64),
                4 => next(),
                _ => {
                    u64::from_le_bytes(block[at..at + 8].try_into().unwrap()) ^ (1 << (next() % 40))
                }
            };
            block[at..at + 8].copy_from_slice(&n.to_le_bytes());
            let sum = super::ram::crc32c(!0, &block[4..]);
            block[..4].copy_from_slice(&sum.to_le_bytes());
            write(&copy, nr, &block);
        }
        // Errors and nonsense are both fine; panics, overflows and endless loops are not.
        let open = Open::peek(Shared::new(copy.clone()), false);
        let Ok(mut store) = open.and_then(load) else {
            refused += 1;
            continue;
        };
        loaded += 1;
        exercise(&mut *store);
    }
    std::println!("{loaded} loaded, {refused} refused");
    assert!(loaded > 1000 && refused > 1000);
}

/// The group of chunks that is kept out of the tree of free ones, and is none.
fn a_group_beyond_the_area_is_refused(of: StoreType) {
    let (disk, _) = image(of, false);
    let numbers = [(360, 3), (368, 1), (424, 1 << 58), (432, 1)];
    for nr in [8, 16] {
        let mut block = read(&disk, nr);
        for (at, n) in numbers {
            block[at..at + 8].copy_from_slice(&u64::to_le_bytes(n));
        }
        let sum = super::ram::crc32c(!0, &block[4..]);
        block[..4].copy_from_slice(&sum.to_le_bytes());
        write(&disk, nr, &block);
    }
    let open = Open::peek(Shared::new(disk), false);
    assert!(matches!(
        open.and_then(load).err(),
        Some(OpenError::Damaged(..))
    ));
}

/// Does a little of everything, come what may.
fn exercise(store: &mut dyn ExceptionStore) {
    let mut from = SnapId(0);
    for _ in 0..8 {
        let Ok(Some(info)) = store.snapshot_from(from) else {
            break;
        };
        for chunk in 0..8 {
            let _ = store.find(Chunk(chunk), info.id);
        }
        if let Ok(crate::store::Writeable::Copy { remap, .. }) =
            store.make_chunk_writeable(Chunk(6), info.id)
        {
            if store.record(&remap).is_err() {
                store.give_back(remap);
            }
        }
        from = SnapId(info.id.0.saturating_add(1));
    }
    for chunk in 0..8 {
        if store.reset_query(Chunk(chunk)).is_err() {
            continue;
        }
        for _ in 0..8 {
            let Ok(Some(ids)) = store.query_next_remap() else {
                break;
            };
            match store.add_next_remap() {
                Ok(remap) => {
                    let _ = store.record(&remap);
                }
                Err(_) => {
                    let _ = store.record_lost(Chunk(chunk), ids);
                }
            }
        }
    }
    let _ = store.create(None, 1, b"x");
    let _ = store.create(Some(SnapId::top(2)), 1, b"");
    let _ = store.delete(SnapId::top(1));
    let _ = store.forget(SnapId::top(1));
    for _ in 0..20 {
        let _ = store.sweep_step();
    }
    store.space();
    if let Ok(Some(write)) = store.seal() {
        store.sealed(write, Err(EIO));
    }
    if let Ok(write) = store.checkpoint(None) {
        store.checkpointed(write, Ok(()));
    }
}

fn any_allocation_may_fail(of: StoreType) {
    let (disk, states) = image(of, false);
    let want = &states[states.len() - 1];
    let before = allocations();
    let check = |disk: &Disk| {
        let mut store = open(disk).unwrap();
        compare(&contents(&mut *store, disk, 8), want).unwrap();
        audit(&mut *store);
    };
    check(&disk.copy());
    let total = allocations() - before;
    let mut failed = 0;
    for n in 0..total {
        let copy = disk.copy();
        fail_allocation_after(Some(n));
        let result = open(&copy);
        fail_allocation_after(None);
        if let Err(e) = result {
            assert_eq!(e, OpenError::NoMem, "allocation {n}");
            failed += 1;
        }
        check(&copy);
    }
    std::println!("{failed} of {total} allocations");
    assert!(failed > 5);

    // And in a run: who is told so can try again.
    for n in 0.. {
        let copy = disk.copy();
        let mut store = open(&copy).unwrap();
        let before = allocations();
        fail_allocation_after(Some(n));
        let mut create = |parent| match store.create(parent, 1, b"name") {
            Err(e) if e == ENOMEM => store.create(parent, 1, b"name").unwrap(),
            other => other.unwrap(),
        };
        create(None);
        create((of == StoreType::Btree).then_some(SnapId::top(2)));
        store.delete(SnapId::top(2)).unwrap();
        if let Err(e) = store.forget(SnapId::top(2)) {
            assert_eq!(e, ENOMEM);
            store.forget(SnapId::top(2)).unwrap();
        }
        let remap = match store
            .make_chunk_writeable(Chunk(1), SnapId::top(1))
            .unwrap()
        {
            crate::store::Writeable::Copy { remap, .. } => Some(remap),
            _ => None,
        };
        if let Some(remap) = remap {
            store.record(&remap).unwrap();
        }
        let write = store.seal().unwrap().unwrap();
        store.sealed(write, Ok(()));
        let write = store.checkpoint(None).unwrap();
        store.checkpointed(write, Ok(()));
        fail_allocation_after(None);
        assert!(!store.is_poisoned());
        audit(&mut *store);
        if allocations() - before <= n {
            std::println!("{n} allocations in a run");
            break;
        }
    }
}

fn any_command_of_a_load_may_fail(of: StoreType) {
    let (disk, states) = image(of, false);
    let want = &states[states.len() - 1];
    for n in 0.. {
        let copy = disk.copy();
        copy.fail_after(n);
        let result = open(&copy);
        copy.heal();
        let done = result.is_ok();
        if let Err(e) = result {
            assert_eq!(e, OpenError::Io(EIO));
        }
        let mut store = open(&copy).unwrap();
        compare(&contents(&mut *store, &copy, 8), want).unwrap();
        if done {
            std::println!("{n} commands in a load");
            break;
        }
    }
}

fn a_load_may_be_cut_anywhere(of: StoreType) {
    let (disk, states) = image(of, false);
    let want = &states[states.len() - 1];
    let copy = disk.copy();
    open(&copy).unwrap();
    for at in 0..=copy.log_len() {
        for mode in 0..4u64 {
            let left = copy.cut(at, |i, s| match mode {
                0 => false,
                1 => true,
                _ => (i as u64 * 7 + s * 3 + mode) % 5 < 2,
            });
            let mut store = open(&left).unwrap();
            compare(&contents(&mut *store, &left, 8), want).unwrap();
            audit(&mut *store);
        }
    }
}

fn a_read_only_load_writes_nothing(of: StoreType) {
    let (disk, states) = image(of, false);
    let want = &states[states.len() - 1];
    let writes = disk.counts().writes;
    let mut store = load(read_only(&disk).unwrap()).unwrap();
    compare(&try_contents(&mut *store, &disk, 8).unwrap(), want).unwrap();
    assert_eq!(store.create(None, 0, b""), Err(EROFS));
    assert_eq!(store.delete(SnapId::top(1)), Err(EROFS));
    assert_eq!(store.record_zero(Chunk(0), SnapId::top(1)), Err(EROFS));
    assert!(store
        .make_chunk_writeable(Chunk(0), SnapId::top(1))
        .is_err());
    assert_eq!(store.checkpoint(None).err(), Some(EROFS));
    assert_eq!(store.sweep_step(), Err(EROFS));
    assert_eq!(disk.counts().writes, writes);
}

/// A read that fails in the run is an error, and the store is right after that or poisoned.
fn faults_in_a_run(of: StoreType) {
    let (disk, _) = image(of, false);
    let mut poisoned = 0;
    for n in 0..400 {
        let mut store = {
            let copy = disk.copy();
            open(&copy).unwrap()
        };
        let copy = disk.copy();
        let shared = Shared::new(copy.clone());
        drop(store);
        store = load(Open::peek(shared.clone(), false).unwrap()).unwrap();
        shared.0.lock().unwrap().eager = Some(3);
        shared.0.lock().unwrap().fail_after = Some(n);
        exercise(&mut *store);
        shared.0.lock().unwrap().fail_after = None;
        poisoned += u32::from(store.is_poisoned());
        if !store.is_poisoned() {
            audit(&mut *store);
        }
    }
    std::println!("{poisoned} of 400 poisoned");
}

/// Blocks of a device that cannot be read at all.
struct Broken;

impl Blocks for Broken {
    fn crc32c(&self, _seed: u32, _data: &[u8]) -> u32 {
        0
    }
    fn len(&self) -> u64 {
        1000
    }
    fn read<R>(&mut self, _nr: u64, _f: impl FnOnce(&Block) -> Result<R>) -> Result<R> {
        Err(EIO)
    }
    fn edit<R>(&mut self, _nr: u64, _f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        Err(EIO)
    }
    fn create<R>(&mut self, _nr: u64, _f: impl FnOnce(&mut Block) -> Result<R>) -> Result<R> {
        Err(EIO)
    }
    fn forget(&mut self, _nr: u64) {}
    fn forget_all(&mut self) {}
    fn prefetch(&mut self, _nr: u64) {}
    fn read_raw(&mut self, _nr: u64, _block: &mut Block) -> Result {
        Err(EIO)
    }
    fn write_raw(&mut self, _nr: u64, _block: &Block) -> Result {
        Err(EIO)
    }
    fn write_dirty(&mut self) -> Result {
        Err(EIO)
    }
}

#[test]
fn a_broken_device_is_an_error() {
    let result = Open::open_or_format(Broken, &params(StoreType::Btree, 8, 10), false);
    assert_eq!(result.err(), Some(OpenError::Io(EIO)));
    assert_eq!(SECTOR, 512);
}

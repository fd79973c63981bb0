// SPDX-License-Identifier: GPL-2.0

//! Damage with right checksums, as a fault of the module or of memory would make it.

use super::{
    basic::sample,
    damage::{check, has, lost_chunks, repair, ENTRIES},
    fixture::{World, TYPES},
};
use multisnap_store::image::{SnapshotId, Type};

/// Offsets of what is changed, from `Documentation/format.rst`.
const USED_CHUNKS: usize = 368;
const META_TOTAL: usize = 352;
const HOT_MASK: usize = 432;

/// Where a word of a record is in its leaf.
fn place(of: Type, entry: usize, word: usize) -> usize {
    let len = match of {
        Type::Btree => 32,
        Type::Bitmask => 24,
    };
    ENTRIES + entry * len + word * 8
}

/// The word at `at`.
fn get(block: &[u8; 4096], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().unwrap())
}

fn set(block: &mut [u8; 4096], at: usize, word: u64) {
    block[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Entries in a node.
fn count(block: &[u8; 4096]) -> usize {
    u32::from_le_bytes(block[56..60].try_into().unwrap()) as usize
}

#[test]
fn wrong_counts_are_noticed() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let newest = world.newest();
        let sound = std::fs::read(world.store()).unwrap();
        for (at, by, what) in [
            (USED_CHUNKS, -1, "chunks in use"),
            (META_TOTAL, 1, "blocks of metadata"),
            (META_TOTAL, 1, "metadata blocks in a tree or free"),
            (HOT_MASK, 1, "in use, and said to be free"),
        ] {
            world.forge(newest, |block| {
                let word = get(block, at).wrapping_add_signed(by);
                set(block, at, word);
            });
            let json = check(&world);
            assert!(has(&json, what), "{what}: {json}");
            std::fs::write(world.store(), &sound).unwrap();
        }
        world.check("store").ends(0);
    }
}

/// A chunk of the store that two records name, and a record behind
/// the end of the origin.
#[test]
fn wrong_records_are_noticed() {
    let mut world = sample(Type::Btree);
    world.stop();
    let leaf = world.nodes(0, 0)[0];
    let sound = std::fs::read(world.store()).unwrap();
    let at = |entry, word| place(Type::Btree, entry, word);
    world.forge(leaf, |block| {
        let other = get(block, at(0, 3));
        set(block, at(2, 3), other);
    });
    let json = check(&world);
    assert!(has(&json, "belongs to another chunk as well"), "{json}");
    assert!(has(&json, "belong to nothing"), "{json}");
    std::fs::write(world.store(), &sound).unwrap();

    world.forge(leaf, |block| set(block, at(count(block) - 1, 0), 40));
    let json = check(&world);
    assert!(has(&json, "behind the end of the origin"), "{json}");
    std::fs::write(world.store(), &sound).unwrap();

    // The last record of chunk 0 is up to an id below where it begins.
    world.forge(leaf, |block| set(block, at(0, 2), 0));
    let json = check(&world);
    assert!(has(&json, "a record makes no sense"), "{json}");
    let json = repair(&world, &[]);
    assert!(lost_chunks(&world, &json) >= 1);
}

/// Has the first and the last chunk in the first leaf of a store that was stopped name the same
/// content; tells which they are.
pub fn claim_twice(world: &World) -> [u64; 2] {
    let of = world.of;
    let value = match of {
        Type::Btree => 3,
        Type::Bitmask => 1,
    };
    let mut chunks = [0; 2];
    world.forge(world.nodes(0, 0)[0], |block| {
        let chunk = |entry| get(block, place(of, entry, 0));
        let last = (1..count(block)).rfind(|entry| chunk(*entry) != chunk(entry - 1));
        let last = last.unwrap();
        chunks = [0, last].map(chunk);
        let same = get(block, place(of, 0, value));
        set(block, place(of, last, value), same);
    });
    chunks
}

/// Which of two chunks the content belongs to cannot be told, so it is given to neither.
#[test]
fn content_that_two_chunks_name_is_lost_for_both() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let chunks = claim_twice(&world);
        assert!(has(&check(&world), "belongs to another chunk as well"));
        let json = repair(&world, &["--trust-origin"]);
        assert_eq!(json["losses"], 2, "{json}");
        for (damage, chunk) in json["lost"].as_array().unwrap().iter().zip(chunks) {
            let what = "content that another chunk lays claim to as well";
            assert_eq!(damage["what"], what);
            assert_eq!(damage["chunks"][0], chunk, "{json}");
        }
        let lost = lost_chunks(&world, &json);
        assert!(lost >= 2, "{lost}");
    }
}

/// A snapshot that one place says is there, and another that it is not.
#[test]
fn a_snapshot_in_doubt_is_named() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        world.forge(world.nodes(2, 0)[0], |block| {
            // The first range of live ids begins with the one behind.
            let low = get(block, ENTRIES + 8);
            set(block, ENTRIES + 8, low + 1);
        });
        let json = check(&world);
        assert!(has(&json, "row and list of snapshots disagree"), "{json}");
        let json = repair(&world, &[]);
        assert!(has(&json, "so it is left out"), "{json}");
        let left = world.snapshots.len() as u64 - 1;
        assert_eq!(json["snapshots"], left, "{json}");
    }
}

/// Whoever gets the number, or the bit, next would show what another one held.
#[test]
fn records_for_snapshots_to_come_are_noticed() {
    let id = SnapshotId::top(9).0;
    for (of, more, what) in [
        (Type::Btree, id, "not made yet as well"),
        (Type::Bitmask, 1 << 40, "bits that no snapshot has"),
    ] {
        let mut world = sample(of);
        world.stop();
        world.forge(world.nodes(0, 0)[0], |block| {
            let at = place(of, count(block) - 1, 2);
            let word = get(block, at) | more;
            set(block, at, word);
        });
        assert!(has(&check(&world), what));
    }
}

/// A snapshot of a snapshot, and the number that the next one gets.
#[test]
fn a_number_that_would_be_given_again_is_noticed() {
    let mut world = sample(Type::Btree);
    world.stop();
    world.forge(world.nodes(2, 0)[0], |block| {
        let entries = block[ENTRIES..].chunks_exact_mut(24);
        let next = entries.rev().find(|entry| entry[0] == 2).unwrap();
        next[16..24].fill(0);
    });
    assert!(has(&check(&world), "the next one of its parent would get"));
}

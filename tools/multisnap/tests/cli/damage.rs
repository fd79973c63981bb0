// SPDX-License-Identifier: GPL-2.0

//! Damaged stores: what check says is hit, and what repair saves.

use super::{
    basic::sample,
    fixture::{device, multisnap, World, TYPES},
};
use multisnap_store::image::{Device, Fault, Image, Page, SnapshotId, Type};
use serde_json::Value;
use std::{io, sync::Arc};

/// Where the entries of a node begin, from `Documentation/format.rst`.
pub const ENTRIES: usize = 64;

/// A store whose map has more than one leaf.
fn large(of: Type) -> World {
    let mut world = World::new(of, 3000, 1, 600);
    world.create(None, "one");
    (0..600).step_by(2).for_each(|chunk| world.write(chunk));
    world.create(None, "two");
    (0..600).step_by(3).for_each(|chunk| world.write(chunk));
    world
}

pub fn check(world: &World) -> Value {
    let store = world.store().display().to_string();
    multisnap(&["check", "--json", &store]).ends(1).json()
}

pub fn repair(world: &World, more: &[&str]) -> Value {
    let (store, out) = (world.store(), world.folder.path("new"));
    let _ = std::fs::remove_file(&out);
    let (store, out) = (store.display().to_string(), out.display().to_string());
    let mut args = vec!["repair", "--json", &store, &out];
    args.extend(more);
    let run = multisnap(&args);
    assert!(run.code <= 1, "{}", run.err);
    let json = run.json();
    assert_eq!(run.code == 0, json["losses"] == 0, "{json}");
    json
}

/// Whether a chunk of a snapshot is among what a repair has told to be lost.
fn is_told(json: &Value, id: SnapshotId, chunk: usize) -> bool {
    json["lost"].as_array().unwrap().iter().any(|damage| {
        let chunks = damage["chunks"].as_array().is_none_or(|range| {
            let end = |n: usize| range[n].as_u64().unwrap() as usize;
            (end(0)..=end(1)).contains(&chunk)
        });
        let of_id = |run: &str| {
            let (lo, hi) = run.split_once('-').unwrap_or((run, run));
            let [lo, hi] = [lo, hi].map(|id| id.parse::<SnapshotId>().unwrap());
            (lo..=hi).contains(&id)
        };
        let ids = damage["ids"].as_str();
        chunks && ids.is_some_and(|ids| ids == "all" || ids.split(',').any(of_id))
    })
}

/// The new store is in order, and holds what it must or is told to have lost. How many chunks are.
#[track_caller]
pub fn lost_chunks(world: &World, json: &Value) -> usize {
    let code = world.check("new").code;
    assert!(code == 0 || code == 3, "{}", world.check("new").text());
    let mut lost = 0;
    for (id, contents) in &world.snapshots {
        let store = world.folder.path("new").display().to_string();
        let map = multisnap(&["map", "--json", &store, &id.to_string()])
            .ends(0)
            .text();
        let mut is_lost = vec![false; contents.len()];
        for line in map.lines() {
            let span: Value = serde_json::from_str(line).unwrap();
            let first = span["first"].as_u64().unwrap() as usize;
            let count = span["count"].as_u64().unwrap() as usize;
            is_lost[first..first + count].fill(span["where"] == "lost");
        }
        let (have, want) = (world.cat("new", *id, true).ends(0).out, world.bytes(*id));
        let len = world.chunk_blocks as usize * 4096;
        for (chunk, token) in contents.iter().enumerate() {
            if is_lost[chunk] {
                if token.is_some() {
                    lost += 1;
                    assert!(
                        is_told(json, *id, chunk),
                        "{id}: lost chunk {chunk}: {json}"
                    );
                }
                continue;
            }
            assert!(token.is_some(), "{id}: lost chunk {chunk} was found");
            let range = chunk * len..(chunk + 1) * len;
            assert!(
                have[range.clone()] == want[range],
                "{id}: wrong chunk {chunk}"
            );
        }
    }
    lost
}

pub fn has(json: &Value, what: &str) -> bool {
    let list = json["damage"].as_array().or(json["lost"].as_array());
    let mut list = list.unwrap().iter();
    list.any(|one| one["what"].as_str().unwrap().contains(what))
}

#[test]
fn a_damaged_leaf_of_the_map_names_its_chunks() {
    for of in TYPES {
        let mut world = large(of);
        world.stop();
        let leaves = world.nodes(0, 0);
        assert!(leaves.len() > 2, "{leaves:?}");
        let middle = leaves[leaves.len() / 2];
        world.flip(middle, 2000);
        let json = check(&world);
        assert_eq!(json["faults"], 1, "{json}");
        let damage = &json["damage"][0];
        assert_eq!(damage["block"], middle);
        assert_eq!(damage["what"], "node of the map tree");
        let range = |n: usize| damage["chunks"][n].as_u64().unwrap();
        assert!(
            range(0) > 0 && range(0) < range(1) && range(1) < 600,
            "{json}"
        );

        let json = repair(&world, &[]);
        assert!(has(&json, "records in a node"), "{json}");
        assert_eq!(json["snapshots"], 2);
        let lost = lost_chunks(&world, &json) as u64;
        assert!(
            lost > 0 && lost <= 2 * (range(1) - range(0) + 1),
            "{lost} {json}"
        );

        // Whoever trusts the origin has content there, right or not.
        repair(&world, &["--trust-origin"]);
        let run = world.cat("new", SnapshotId::top(1), false).ends(0);
        assert!(run.out != world.bytes(SnapshotId::top(1)));
        assert!(run.err.is_empty(), "{}", run.err);
    }
}

#[test]
fn a_damaged_root_of_the_map_loses_all_records() {
    for of in TYPES {
        let mut world = large(of);
        world.stop();
        let root = world.nodes(0, 1);
        assert_eq!(root.len(), 1);
        world.flip(root[0], 70);
        let json = check(&world);
        assert!(has(&json, "the module refuses it for its map"), "{json}");
        assert!(has(&json, "node of the map tree"), "{json}");
        let json = repair(&world, &[]);
        assert_eq!(lost_chunks(&world, &json), 1200);
    }
}

#[test]
fn the_log_is_applied_past_a_damaged_leaf() {
    for of in TYPES {
        let mut world = large(of);
        world.rig().checkpoint().unwrap();
        let leaves = world.nodes(0, 0);
        let third = world.create(None, "in the log");
        world.write(5);
        world.write(300);
        world.write(598);
        world.crash();
        world.flip(leaves[0], 2000);
        let json = check(&world);
        assert!(
            has(&json, "a record of the log cannot be applied"),
            "{json}"
        );
        let json = repair(&world, &[]);
        assert_eq!(json["snapshots"], 3, "{json}");
        assert!(world.names.contains_key(&third));
        let lost = lost_chunks(&world, &json);
        assert!(lost < 1000, "{lost}");
    }
}

/// A record of the log may be lost although no record of its chunk is: what the snapshots held
/// there is not what the origin holds now.
#[test]
fn a_record_of_the_log_beside_a_damaged_leaf_is_lost() {
    for of in TYPES {
        let mut world = large(of);
        world.rig().checkpoint().unwrap();
        let first_chunk = |nr: &u64| {
            let mut chunk = 0;
            world.edit(*nr, |block| {
                let word = block[ENTRIES..ENTRIES + 8].try_into().unwrap();
                chunk = u64::from_le_bytes(word);
            });
            (*nr, chunk)
        };
        // The chunk before the leaf has no record yet.
        let leaves = world.nodes(0, 0);
        let mut leaves = leaves.iter().skip(1).map(first_chunk);
        let free = |chunk: u64| chunk % 2 != 0 && chunk % 3 != 0;
        let (leaf, chunk) = leaves.find(|(_, chunk)| free(chunk - 1)).unwrap();
        world.write(chunk - 1);
        world.crash();
        world.flip(leaf, 2000);
        let json = repair(&world, &[]);
        assert!(
            has(&json, "record of the log that cannot be applied"),
            "{json}"
        );
        lost_chunks(&world, &json);
    }
}

#[test]
fn damaged_rows_lose_names_only() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        for nr in world.nodes(1, 0) {
            world.flip(nr, 100);
        }
        let json = check(&world);
        assert!(has(&json, "names and times"), "{json}");
        let json = repair(&world, &[]);
        assert!(has(&json, "name, time and exact size"), "{json}");
        assert_eq!(json["losses"], 1, "{json}");
        assert_eq!(lost_chunks(&world, &json), 0);
    }
}

#[test]
fn a_damaged_list_of_snapshots_is_made_again() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        for nr in world.nodes(2, 0) {
            world.flip(nr, 66);
        }
        let json = check(&world);
        assert!(has(&json, "live tree"), "{json}");
        let json = repair(&world, &[]);
        let notes = json["notes"].to_string();
        assert!(notes.contains("made again from their rows"), "{json}");
        assert_eq!(lost_chunks(&world, &json), 0);
    }
}

/// Neither tells what the other one said, so snapshots are lost; those of other rows are not.
#[test]
fn damaged_rows_without_a_list_lose_their_snapshots() {
    let mut world = World::new(Type::Btree, 3000, 1, 40);
    for chunk in 0..100 {
        world.create(None, "one of many");
        world.write(chunk % 40);
    }
    world.stop();
    let rows = world.nodes(1, 0);
    assert!(rows.len() > 3, "{rows:?}");
    world.flip(rows[1], 100);
    world.flip(world.nodes(2, 0)[0], 66);
    let json = repair(&world, &[]);
    let what = "snapshots below 101, whose rows and list are damaged";
    assert!(has(&json, what), "{json}");
    let lost = json["lost"].as_array().unwrap();
    let ids = lost.iter().find(|one| one["what"] == what).unwrap()["ids"].as_str();
    let (first, last) = ids.unwrap().split_once('-').unwrap();
    let [first, last]: [u64; 2] = [first, last].map(|id| id.parse().unwrap());
    assert!(1 < first && first < last && last < 100, "{json}");
    // Snapshots of the last one may be among them, itself it is not.
    assert_eq!(json["snapshots"], 100 - (last - first), "{json}");
    let is_lost = |id: u64| (first..last).contains(&id);
    world.snapshots.retain(|id, _| !is_lost(id.id().into()));
    lost_chunks(&world, &json);
}

#[test]
fn lost_bits_lose_everything() {
    let mut world = sample(Type::Bitmask);
    world.stop();
    world.flip(world.nodes(6, 0)[0], 66);
    let json = check(&world);
    assert!(has(&json, "bits tree"), "{json}");
    // That tells nothing of the bits of records.
    assert!(!has(&json, "no snapshot has"), "{json}");
    let json = repair(&world, &[]);
    assert!(has(&json, "which snapshot has which records"), "{json}");
    assert_eq!(lost_chunks(&world, &json), 117);
}

/// Of a store that a sweep has left with holes, damages what says where they are.
pub fn damage_free_space(world: &mut World) {
    let chunks = world.chunks();
    let ids: Vec<_> = (0..4).map(|_| world.create(None, "")).collect();
    for (i, id) in ids.iter().enumerate() {
        (0..chunks * 5 / 6).for_each(|n| world.write_snapshot(*id, (n + i as u64) % chunks));
    }
    world.delete(ids[0]);
    world.delete(ids[2]);
    world.rig().checkpoint().unwrap();
    world.rig().sweep().unwrap();
    world.stop();
    world.check("store").ends(0);
    let nodes = world.nodes(4, 0);
    assert!(!nodes.is_empty());
    world.flip(nodes[0], 80);
}

#[test]
fn damage_to_free_space_hits_no_snapshot() {
    for of in TYPES {
        let mut world = World::new(of, 3000, 1, 600);
        damage_free_space(&mut world);
        let json = check(&world);
        assert!(has(&json, "node of the free tree"), "{json}");
        let json = repair(&world, &[]);
        assert_eq!(lost_chunks(&world, &json), 0, "{json}");
    }
}

#[test]
fn a_damaged_list_of_free_blocks_hits_no_snapshot() {
    for of in TYPES {
        let mut world = large(of);
        for round in 0..8 {
            (0..600)
                .step_by(7)
                .for_each(|chunk| world.write((chunk + round) % 600));
            world.rig().checkpoint().unwrap();
        }
        world.stop();
        let newest = world.newest();
        let mut head = 0;
        world.edit(newest, |block| {
            head = u64::from_le_bytes(block[208..216].try_into().unwrap());
        });
        assert_ne!(head, 0);
        world.flip(head, 64);
        let json = check(&world);
        assert!(has(&json, "list of free metadata blocks"), "{json}");
        assert_eq!(json["faults"], 1, "{json}");
        let json = repair(&world, &[]);
        assert_eq!(json["losses"], 0, "{json}");
        assert_eq!(lost_chunks(&world, &json), 0);
    }
}

#[test]
fn one_damaged_checkpoint_leaves_the_other() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let newest = world.newest();
        world.flip(newest, 60);
        // The one before, and the log behind it, come to the same.
        let run = world.check("store").ends(3);
        assert!(
            run.text().contains(&format!("block {newest} is torn")),
            "{}",
            run.text()
        );
        world.cats("store");
        world.flip(24 - newest, 60);
        let json = check(&world);
        assert!(has(&json, "both checkpoints"), "{json}");
        assert_eq!(json["damage"][0]["ids"], "all");
        let (store, out) = (world.store(), world.folder.path("new"));
        let run = multisnap(&["repair".into(), store, out.clone()]).ends(1);
        assert!(run.err.contains("both checkpoints"), "{}", run.err);
        assert!(!out.exists());
    }
}

/// It does no harm before the superblock is damaged as well, so it is a note.
#[test]
fn a_damaged_copy_of_the_superblock_is_noted() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        assert!(!world.check("store").text().contains("no sound copy"));
        world.flip(28, 100);
        let run = world.check("store").ends(0);
        let note = "block 28 has no sound copy of the superblock";
        assert!(run.text().contains(note), "{}", run.text());
    }
}

#[test]
fn a_damaged_superblock_is_told_from_something_else() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        world.flip(0, 90);
        let json = check(&world);
        assert!(has(&json, "superblock"), "{json}");
        assert_eq!(json["damage"][0]["block"], 0);
        // Its kind is gone as well.
        world.flip(0, 5);
        let json = check(&world);
        assert!(has(&json, "superblock"), "{json}");
        for nr in [8, 16] {
            world.edit(nr, |block| block.fill(1));
        }
        let run = world.check("store").ends(2);
        assert!(run.err.contains("holds no snapshot store"), "{}", run.err);
    }
}

/// What was written over the beginning of a store takes nothing of it that there is no copy of.
#[test]
fn a_superblock_is_made_again_from_its_copy() {
    for of in TYPES {
        for end in [1, 8] {
            let mut world = sample(of);
            world.stop();
            for nr in 0..end {
                world.edit(nr, |block| block.fill(b'x'));
            }
            let json = check(&world);
            assert_eq!(json["damage"].as_array().unwrap().len(), 1, "{json}");
            assert!(has(&json, "superblock"), "{json}");
            assert_eq!(json["damage"][0]["block"], 0);
            assert!(json["damage"][0]["ids"].is_null(), "{json}");
            let out = world.folder.path("new").display().to_string();
            let store = world.store().display().to_string();
            multisnap(&["repair", &store, &out]).ends(0);
            world.check("new").ends(0);
            world.cats("new");
            std::fs::remove_file(&out).unwrap();
            // Nothing else of it is looked at without need.
            world.flip(28, 100);
            let run = multisnap(&["repair", &store, &out]).ends(1);
            assert!(run.err.contains("superblock"), "{}", run.err);
        }
    }
}

/// A store is never taken for an empty device because its first block is.
#[test]
fn a_superblock_of_zeroes_was_one() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        world.edit(28, |block| block.fill(0));
        let dump = world.folder.path("dump").display().to_string();
        let store = world.store().display().to_string();
        multisnap(&["dump", &store, "-o", &dump]).ends(0);
        let copy = world.folder.path("copy").display().to_string();
        std::fs::copy(&store, &copy).unwrap();
        world.edit(0, |block| block.fill(0));
        for torn in [None, Some(8), Some(16)] {
            if let Some(nr) = torn {
                world.flip(nr, 60);
            }
            let json = check(&world);
            assert_eq!(json["damage"][0]["what"], "superblock");
            assert_eq!(json["damage"][0]["ids"], "all");
            let out = world.folder.path("out").display().to_string();
            let run = multisnap(&["repair", &store, &out]).ends(1);
            let way = format!("multisnap restore DUMP {out} --data {store}");
            assert!(run.err.contains(&way), "{}", run.err);
            // Nor is another store made of it.
            let data = std::fs::read(world.store()).unwrap();
            for args in [
                &["repair", &copy, &store][..],
                &["restore", &dump, &store, "--data", &copy],
            ] {
                let run = multisnap(args).ends(2);
                assert!(run.err.contains("holds what is left"), "{}", run.err);
            }
            assert!(std::fs::read(world.store()).unwrap() == data);
            if let Some(nr) = torn {
                world.flip(nr, 60);
            }
        }
    }
}

/// Its snapshots may be in the log only.
#[test]
fn a_log_without_a_superblock_was_a_store() {
    for of in TYPES {
        let mut world = World::new(of, 600, 1, 4);
        world.edit(0, |block| block.fill(0));
        let run = world.check("store").ends(2);
        assert!(run.err.contains("is empty"), "{}", run.err);
        world.create(None, "");
        world.crash();
        assert!(has(&check(&world), "superblock"));
    }
}

#[test]
fn a_log_that_is_broken_off_is_damage() {
    for of in TYPES {
        let mut world = sample(of);
        world.rig().checkpoint().unwrap();
        for chunk in 0..6 {
            world.create(None, "in the log");
            world.write(chunk);
        }
        world.crash();
        world.check("store").ends(3);
        // The first block of the log that is to be replayed.
        let newest = world.newest();
        let mut seq = 0;
        world.edit(newest, |block| {
            seq = u64::from_le_bytes(block[48..56].try_into().unwrap());
        });
        world.flip(32 + seq % 16, 100);
        let json = check(&world);
        assert!(has(&json, "refuses it for its log"), "{json}");
        assert!(has(&json, "the log is broken off"), "{json}");
        let json = repair(&world, &[]);
        assert!(has(&json, "in the log only"), "{json}");
        // Those snapshots are not known any more.
        world.snapshots.retain(|id, _| id.id() <= 3);
        lost_chunks(&world, &json);
    }
}

fn truncate(world: &World, blocks: u64) {
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).open(world.store()).unwrap();
    file.set_len(blocks * 4096).unwrap();
}

/// Makes a store smaller; tells how many blocks are left. Content is in the part that goes, but no
/// metadata in use.
pub fn cut_short(world: &World) -> u64 {
    let end = (0..7).flat_map(|tree| world.nodes(tree, 0)).max().unwrap() + 1;
    truncate(world, end);
    end
}

#[test]
fn a_store_that_was_cut_short_names_what_is_gone() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let end = cut_short(&world);
        let json = check(&world);
        let there = end * 8;
        let told = format!("cut short: it had 4800 sectors, {there} are there");
        assert!(has(&json, &told), "{json}");
        assert!(has(&json, "is not on the device"), "{json}");
        let json = repair(&world, &[]);
        assert!(has(&json, "content that cannot be read"), "{json}");
        let lost = lost_chunks(&world, &json);
        assert!((1..60).contains(&lost), "{lost}");
        // Then all metadata, but for the superblock and the checkpoints.
        truncate(&world, 48);
        let json = check(&world);
        assert!(has(&json, "map tree that cannot be read"), "{json}");
        let (store, out) = (world.store(), world.folder.path("none"));
        let run = multisnap(&["repair".into(), store, out]).ends(1);
        assert!(
            run.err.contains("none of its snapshots can be read"),
            "{}",
            run.err
        );
        truncate(&world, 20);
        let run = world.check("store").ends(2);
        assert!(
            run.err.contains("too small") || run.err.contains("no snapshot store"),
            "{}",
            run.err
        );
    }
}

/// A dump of a damaged store is not taken for a whole one.
#[test]
fn a_damaged_store_is_not_dumped() {
    let mut world = large(Type::Btree);
    world.stop();
    let leaves = world.nodes(0, 0);
    world.flip(leaves[1], 2000);
    let store = world.store().display().to_string();
    let run = multisnap(&["dump", &store]).ends(1);
    assert!(run.err.contains("the dump is not whole"), "{}", run.err);
    let dump = world.folder.path("dump");
    let file = dump.display().to_string();
    multisnap(&["dump", &store, "--output", &file]).ends(1);
    assert!(!dump.exists());
    std::fs::write(&dump, &run.out).unwrap();
    let out = world.folder.path("new");
    let run = multisnap(&[
        "restore".into(),
        dump,
        out.clone(),
        "--data".into(),
        world.store(),
    ]);
    assert!(run.ends(2).err.contains("not whole"));
    assert!(!out.exists());
}

/// A device of which some blocks cannot be read.
struct Holes(Arc<dyn Device>, Vec<u64>);

impl Device for Holes {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }

    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        let end = nr + pages.len() as u64;
        match self.1.iter().any(|hole| (nr..end).contains(hole)) {
            true => Err(io::ErrorKind::Other.into()),
            false => self.0.read(nr, pages),
        }
    }

    fn write(&self, _nr: u64, _pages: &[Page]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A bad sector costs what there is no second one of, and no more.
#[test]
fn blocks_that_cannot_be_read_cost_what_was_in_them() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let newest = world.newest();
        let plain = device(&world.store());
        let mut whole = Image::open(&plain).unwrap();
        let chunks = whole.header().origin_sectors / u64::from(whole.header().chunk_sectors);
        let content = |image: &mut Image| -> Vec<_> {
            let ids = (1..6).map(SnapshotId::top);
            ids.flat_map(|id| (0..chunks).map(move |chunk| (chunk, id)))
                .map(|(chunk, id)| image.find(chunk, id).ok())
                .collect()
        };
        let wanted = content(&mut whole);
        assert!(wanted.iter().flatten().flatten().count() > 3);
        // The superblock, the older checkpoint, both, and a block of the log's ring.
        for holes in [vec![0], vec![24 - newest], vec![0, 24 - newest], vec![40]] {
            let device: Arc<dyn Device> = Arc::new(Holes(plain.clone(), holes.clone()));
            assert!(Image::open(&device).is_err(), "{holes:?}");
            let (mut image, faults) = Image::open_damaged(&device).unwrap();
            assert_eq!(faults.len(), holes.len(), "{holes:?}: {faults:?}");
            assert!(content(&mut image) == wanted, "{holes:?}");
            assert!(!faults.contains(&Fault::LogEnds) && !faults.contains(&Fault::NoLog));
        }
        for holes in [vec![0, 28], vec![8, 16]] {
            let device: Arc<dyn Device> = Arc::new(Holes(plain.clone(), holes));
            assert!(Image::open_damaged(&device).is_err());
        }
    }
}

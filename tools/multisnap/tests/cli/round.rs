// SPDX-License-Identifier: GPL-2.0

//! Dumps, and stores that are made again.

use super::{
    basic::sample,
    fixture::{device, multisnap, Folder, World, TYPES},
};
use multisnap_store::image::{Ids, Maker, Params, Refusal, SnapshotId, Type};
use serde_json::Value;

fn lines(world: &World, name: &str) -> Vec<Value> {
    let store = world.folder.path(name).display().to_string();
    let text = multisnap(&["dump", &store]).ends(0).text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_dump_has_the_documented_form() {
    let mut world = sample(Type::Btree);
    world.stop();
    let lines = lines(&world, "store");
    let store = &lines[0]["store"];
    assert_eq!(store["form"], 2);
    assert!(store["at"][0].as_u64().unwrap() > 1);
    assert_eq!(store["at"][1], 0);
    assert_eq!(store["type"], "btree");
    assert_eq!(store["chunk_sectors"], 16);
    assert_eq!(store["next_id"], 4);
    assert_eq!(store["digests"].as_array().unwrap().len(), 64);
    assert_eq!(lines[1]["snapshot"]["id"], "1");
    assert_eq!(lines[1]["snapshot"]["name"], "first");
    assert_eq!(lines[2]["snapshot"]["id"], "2.0");
    assert_eq!(lines[3]["snapshot"]["next_sub"], 1);
    let record = lines.iter().find(|line| line["record"]["value"] == "lost");
    assert_eq!(record.unwrap()["record"]["ids"], "1-3");
    assert_eq!(record.unwrap()["record"]["chunk"], 30);
    let zero = lines.iter().find(|line| line["record"]["value"] == "zero");
    assert!(zero.is_some());
    let end = &lines[lines.len() - 1]["end"];
    assert_eq!(end["snapshots"], 4);
    assert_eq!(end["records"].as_u64().unwrap() as usize, lines.len() - 6);
}

#[test]
fn ids_go_on_where_they_were() {
    for of in TYPES {
        let mut world = sample(of);
        // The newest goes, and is never given again.
        let newest = world.create(None, "newest");
        world.delete(newest);
        if of == Type::Btree {
            let two = SnapshotId::top(2);
            let sub = world.create(Some(two), "");
            world.delete(sub);
        }
        world.stop();
        let told = world.restore("store2");
        let (old, new) = (lines(&world, "store"), lines(&world, "store2"));
        assert_eq!(old[0]["store"]["next_id"], 5);
        assert_eq!(new[0]["store"]["next_id"], 5);
        let snapshots = |lines: &[Value]| -> Vec<Value> {
            let all = lines.iter().map(|line| line["snapshot"].clone());
            all.filter(|line| !line.is_null()).collect()
        };
        assert_eq!(snapshots(&old), snapshots(&new));
        assert_ne!(old[0]["store"]["uuid"], new[0]["store"]["uuid"]);
        assert_eq!(told["uuid"], new[0]["store"]["uuid"]);
        assert_eq!(told["snapshots"], snapshots(&new).len());
    }
}

/// Snapshots of a snapshot that is gone, and of one whose number they keep.
#[test]
fn snapshots_without_their_parent_are_restored() {
    let mut world = sample(Type::Btree);
    let parent = SnapshotId::top(2);
    world.create(Some(parent), "another");
    world.write_snapshot(parent, 33);
    world.delete(parent);
    world.stop();
    world.check("store").ends(0);
    world.cats("store");
    world.restore("store2");
    world.check("store2").ends(0);
    world.cats("store2");
}

#[test]
fn a_restored_store_goes_on() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        world.restore("again");
        std::fs::rename(world.folder.path("again"), world.store()).unwrap();
        world.load();
        (0..40).for_each(|chunk| world.write(chunk));
        let id = world.create(None, "after");
        world.write_snapshot(id, 1);
        if of == Type::Btree {
            world.create(Some(SnapshotId::top(2)), "after");
            world.write_snapshot(SnapshotId::top(2), 20);
        }
        world.rig().sweep().unwrap();
        world.stop();
        world.check("store").ends(0);
        world.cats("store");
    }
}

/// What a write to a snapshot has cut in two shares a chunk of the store, and goes on to.
#[test]
fn cut_ranges_share_their_chunk_again() {
    let mut world = World::new(Type::Btree, 600, 1, 8);
    let ids: Vec<SnapshotId> = (0..7).map(|_| world.create(None, "")).collect();
    world.write(0);
    world.write_snapshot(ids[3], 0);
    world.write_snapshot(ids[1], 0);
    world.stop();
    let used = |name: &str| {
        let store = world.folder.path(name).display().to_string();
        multisnap(&["check", "--json", &store]).ends(0).json()["data_chunks"].clone()
    };
    world.restore("store2");
    assert_eq!(used("store"), used("store2"));
    assert_eq!(used("store"), 3);
    world.cats("store2");
}

#[test]
fn sizes_of_a_growing_origin_are_kept() {
    for of in TYPES {
        let mut world = World::new(of, 900, 1, 10);
        world.create(None, "small");
        world.grow(14);
        world.create(None, "middle");
        world.write(12);
        world.grow(20);
        world.create(None, "large");
        (0..20).for_each(|chunk| world.write(chunk));
        world.stop();
        world.check("store").ends(0);
        world.cats("store");
        world.restore("store2");
        world.check("store2").ends(0);
        world.cats("store2");
        let sizes: Vec<_> = lines(&world, "store2")
            .iter()
            .filter_map(|line| line["snapshot"]["sectors"].as_u64())
            .collect();
        assert_eq!(sizes, [80, 112, 160]);
    }
}

#[test]
fn a_full_set_of_bits_is_restored() {
    let mut world = World::new(Type::Bitmask, 1200, 1, 4);
    for i in 0..64 {
        world.create(None, "");
        world.write(i % 4);
    }
    world.stop();
    world.restore("store2");
    world.check("store2").ends(0);
    world.cats("store2");
}

#[test]
fn what_is_there_is_not_written_over() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    let dump = world.folder.path("dump").display().to_string();
    multisnap(&["dump", &store, "-o", &dump]).ends(0);
    let other = world.folder.path("other").display().to_string();
    let mut data = vec![0; 1 << 20];
    data[4096 * 3] = 1;
    std::fs::write(&other, &data).unwrap();
    let run = multisnap(&["restore", &dump, &other, "--data", &store]).ends(2);
    assert!(run.err.contains("is not empty"), "{}", run.err);
    assert!(std::fs::read(&other).unwrap() == data);
    // An empty one will do, if it is large enough.
    std::fs::write(&other, vec![0; 600 * 4096]).unwrap();
    multisnap(&["restore", &dump, &other, "--data", &store]).ends(0);
    world.check("other").ends(0);
}

/// A store that has lost its superblock, or all of its header, looks as if it were empty, and holds the
/// only copy of its content.
#[test]
fn nothing_is_made_in_place() {
    for zeroed in [0, 4 << 10, 128 << 10] {
        let mut world = sample(Type::Btree);
        world.stop();
        let store = world.store().display().to_string();
        let dump = world.folder.path("dump").display().to_string();
        multisnap(&["dump", &store, "-o", &dump]).ends(0);
        let mut data = std::fs::read(world.store()).unwrap();
        data[..zeroed].fill(0);
        std::fs::write(world.store(), &data).unwrap();
        // By whatever name.
        let (soft, hard) = (world.folder.path("soft"), world.folder.path("hard"));
        std::os::unix::fs::symlink(world.store(), &soft).unwrap();
        std::fs::hard_link(world.store(), &hard).unwrap();
        let names = [&world.store(), &soft, &hard].map(|path| path.display().to_string());
        for name in &names {
            let what = format!("{name} is {store}, which is only read; say another device");
            let run = multisnap(&["restore", &dump, name, "--data", &store]).ends(2);
            assert!(run.err.contains(&what), "{}", run.err);
            let run = multisnap(&["repair", &store, name]).ends(2);
            assert!(run.err.contains(&what), "{}", run.err);
        }
        assert!(std::fs::read(world.store()).unwrap() == data);
        // Elsewhere nothing of the header is needed.
        let new = world.folder.path("new").display().to_string();
        multisnap(&["restore", &dump, &new, "--data", &store]).ends(0);
        world.cats("new");
    }
}

/// What was made of it so far looks like a store without a superblock, and lacks content.
#[test]
fn a_restore_that_was_killed_has_made_no_store() {
    let folder = Folder::new();
    let path = folder.path("out");
    std::fs::write(&path, vec![0; 4096 * 4096]).unwrap();
    let device = device(&path);
    let params = Params {
        uuid: [5; 16],
        store_type: Type::Btree,
        chunk_sectors: 8,
        origin_sectors: 8 * 2000,
    };
    let mut maker = Maker::new(&device, &params).unwrap();
    maker.create(SnapshotId::top(1), 1, "").unwrap();
    let ids = Ids::Range(SnapshotId::top(1), SnapshotId::top(1));
    for chunk in 0..1500 {
        let made = maker.put_chunk(chunk, ids, |_| Ok::<(), Refusal>(()));
        made.unwrap();
    }
    std::mem::forget(maker);
    let (store, new) = (path.display().to_string(), folder.path("new"));
    let run = multisnap(&["check", &store]).ends(1);
    let text = run.text();
    assert!(text.contains("superblock"), "{text}");
    multisnap(&["repair", &store, &new.display().to_string()]).ends(1);
    assert!(!new.exists());
}

#[test]
fn a_store_that_is_too_small_is_no_store() {
    let mut world = World::new(Type::Btree, 900, 4, 100);
    world.create(None, "");
    (0..100).for_each(|chunk| world.write(chunk));
    world.stop();
    let store = world.store().display().to_string();
    let small = world.folder.path("small").display().to_string();
    let run = multisnap(&["repair", &store, &small, "--size", "1M"]).ends(2);
    assert!(
        run.err.contains("has no space for all of it"),
        "{}",
        run.err
    );
    assert!(!world.folder.path("small").exists());
    let run = multisnap(&["repair", &store, &small, "--size", "100K"]).ends(2);
    assert!(run.err.contains("too small"), "{}", run.err);
    // On a device that was there nothing is left that could be taken for a store.
    std::fs::write(world.folder.path("small"), vec![0; 1 << 20]).unwrap();
    multisnap(&["repair", &store, &small]).ends(2);
    let run = world.check("small").ends(2);
    assert!(
        run.err.contains("is empty") || run.err.contains("no snapshot store"),
        "{}",
        run.err
    );
    // Nor that keeps another store from it.
    let mut other = sample(Type::Btree);
    other.stop();
    multisnap(&["repair", &other.store().display().to_string(), &small]).ends(0);
}

#[test]
fn content_comes_from_the_right_store_only() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    let dump = world.folder.path("dump").display().to_string();
    multisnap(&["dump", &store, "-o", &dump]).ends(0);
    world.restore("other");
    let other = world.folder.path("other").display().to_string();
    let new = world.folder.path("new").display().to_string();
    let run = multisnap(&["restore", &dump, &new, "--data", &other]).ends(2);
    assert!(
        run.err.contains("is not the store that was dumped"),
        "{}",
        run.err
    );
    assert!(!world.folder.path("new").exists());
}

/// One chunk with a record for each of many snapshots.
#[test]
fn a_chunk_with_many_records_is_restored() {
    const MANY: u64 = 5000;
    let mut world = World::new(Type::Btree, 2 * MANY, 1, 1);
    for _ in 0..MANY {
        world.create(None, "");
        world.write(0);
    }
    world.stop();
    let begin = std::time::Instant::now();
    world.check("store").ends(0);
    assert_eq!(world.restore("new")["records"], MANY);
    let store = world.store().display().to_string();
    let saved = world.folder.path("saved").display().to_string();
    let json = multisnap(&["repair", "--json", &store, &saved])
        .ends(0)
        .json();
    assert_eq!(json["records"], MANY);
    let took = begin.elapsed();
    assert!(took.as_secs() < 60, "{took:?}");
    // All are too many to look at each.
    world.snapshots.retain(|id, _| id.id() % 1000 < 2);
    world.cats("new");
    world.cats("saved");
}

/// What a dump says of chunks is of no use once they hold something else.
#[test]
fn a_store_that_was_used_since_is_refused() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let store = world.store().display().to_string();
        let dump = world.folder.path("dump").display().to_string();
        let new = world.folder.path("new").display().to_string();
        let args = ["restore", &dump, &new, "--data", &store];
        multisnap(&["dump", &store, "-o", &dump]).ends(0);
        world.load();
        world.write(3);
        world.crash();
        for stopped in [false, true] {
            if stopped {
                world.load();
                world.stop();
            }
            let run = multisnap(&args).ends(2);
            assert!(
                run.err.contains("was used since it was dumped"),
                "{}",
                run.err
            );
            assert!(!world.folder.path("new").exists());
        }
        let run = multisnap(&[&args[..], &["--stale"]].concat()).ends(0);
        assert!(run.err.is_empty(), "{}", run.err);
        std::fs::remove_file(&new).unwrap();

        // What is only in the log counts as well.
        world.load();
        world.write(4);
        world.rig().commit().unwrap();
        std::fs::remove_file(&dump).unwrap();
        multisnap(&["dump", &store, "-o", &dump]).ends(0);
        world.write(5);
        world.crash();
        let run = multisnap(&args).ends(2);
        assert!(
            run.err.contains("was used since it was dumped"),
            "{}",
            run.err
        );

        // If nobody can tell, that is said.
        std::fs::remove_file(&dump).unwrap();
        multisnap(&["dump", &store, "-o", &dump]).ends(0);
        let told = "nobody can tell whether it is as it was";
        let text = std::fs::read_to_string(&dump).unwrap();
        let (head, rest) = text.split_once(",\"at\":[").unwrap();
        let rest = rest.split_once(']').unwrap().1;
        let old = format!("{head}{rest}").replacen("\"form\":2", "\"form\":1", 1);
        let old_dump = world.folder.path("old").display().to_string();
        std::fs::write(&old_dump, old).unwrap();
        let run = multisnap(&["restore", &old_dump, &new, "--data", &store]).ends(0);
        assert!(run.err.contains(told), "{}", run.err);
        std::fs::remove_file(&new).unwrap();
        world.flip(8, 60);
        world.flip(16, 60);
        let run = multisnap(&args).ends(0);
        assert!(run.err.contains(told), "{}", run.err);
        world.cats("new");
    }
}

#[test]
fn a_dump_that_was_changed_is_refused() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    let text = multisnap(&["dump", &store]).ends(0).text();
    let dump = world.folder.path("dump");
    let new = world.folder.path("new");
    let restore = |text: &str| {
        std::fs::write(&dump, text).unwrap();
        let run = multisnap(&[
            "restore",
            &dump.display().to_string(),
            &new.display().to_string(),
            "--data",
            &store,
        ]);
        assert!(!new.exists() || run.code == 0);
        run
    };
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(5, 20);
        lines.join("\n")
    };
    let missing = {
        let mut lines = lines.clone();
        lines.remove(8);
        lines.join("\n")
    };
    for bad in [
        "",
        "no json",
        &cut,
        &swapped,
        &missing,
        &text.replacen("\"form\":2", "\"form\":3", 1),
        &text.replacen("\"btree\"", "\"mtree\"", 1),
        &text.replacen("\"next_id\":4", "\"next_id\":0", 1),
        &text.replacen("\"chunk_sectors\":16", "\"chunk_sectors\":17", 1),
        &text.replacen("\"uuid\":\"07", "\"uuid\":\"x7", 1),
        &text.replacen("\"id\":\"1\"", "\"id\":\"0\"", 1),
        &text.replacen("\"id\":\"1\"", "\"id\":\"9\"", 1),
        &text.replacen("\"ids\":\"1", "\"ids\":\"9-1", 1),
        &text.replacen("\"value\":8}", "\"value\":987654321}", 1),
        &text.replacen("\"value\":8}", "\"value\":\"nothing\"}", 1),
    ] {
        assert_ne!(bad, text);
        let run = restore(bad);
        assert!(run.code == 1 || run.code == 2, "{} {bad}", run.err);
        assert!(
            run.err.starts_with("multisnap: ") && run.err.lines().count() == 1,
            "{}",
            run.err
        );
    }
    restore(&text).ends(0);
}

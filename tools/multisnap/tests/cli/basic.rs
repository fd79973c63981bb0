// SPDX-License-Identifier: GPL-2.0

//! Stores that are in order: what check, cat and map say of them.

use super::fixture::{multisnap, World, TYPES};
use multisnap_store::image::Type;

/// A store with snapshots that hold something of everything.
pub fn sample(of: Type) -> World {
    let mut world = World::new(of, 600, 2, 40);
    let first = world.create(None, "first");
    (0..10).for_each(|chunk| world.write(chunk));
    let second = world.create(None, "second");
    (5..15).for_each(|chunk| world.write(chunk));
    world.write_snapshot(first, 20);
    world.write_snapshot(second, 20);
    world.write_snapshot(second, 6);
    world.zero(first, 21);
    let third = world.create(None, "");
    if of == Type::Btree {
        let sub = world.create(Some(second), "sub");
        world.write_snapshot(second, 7);
        world.write_snapshot(sub, 8);
    }
    world.write_and_lose(30);
    world.write(31);
    world.zero(third, 3);
    world
}

#[test]
fn a_store_that_was_stopped_is_clean() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let run = world.check("store").ends(0);
        assert!(run.text().ends_with("is clean\n"), "{}", run.text());
        assert!(run.text().contains(of.name()), "{}", run.text());
        assert!(run.err.is_empty(), "{}", run.err);
        world.cats("store");
    }
}

#[test]
fn a_log_is_replayed_in_memory() {
    for of in TYPES {
        let mut world = sample(of);
        world.crash();
        let before = std::fs::read(world.store()).unwrap();
        let run = world.check("store").ends(3);
        assert!(
            run.text().contains("sound, but was not stopped"),
            "{}",
            run.text()
        );
        assert!(
            !run.text().contains(" 0 blocks to replay"),
            "{}",
            run.text()
        );
        world.cats("store");
        assert!(
            std::fs::read(world.store()).unwrap() == before,
            "something was written"
        );
        // The module goes on from there.
        world.load();
        world.write(2);
        world.stop();
        world.check("store").ends(0);
        world.cats("store");
    }
}

#[test]
fn check_counts_what_there_is() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    let json = multisnap(&["check", "--json", &store]).ends(0).json();
    assert_eq!(json["result"], "clean");
    assert_eq!(json["snapshots"], 4);
    assert_eq!(json["store_type"], "btree");
    assert_eq!(json["chunk_sectors"], 16);
    assert_eq!(json["origin_sectors"], 640);
    assert_eq!(json["lost_records"], 1);
    assert_eq!(json["zero_records"], 2);
    assert_eq!(json["faults"], 0);
    assert_eq!(json["uuid"], "07".repeat(16));
    // The same in pieces: 64 chunks of the store at a time.
    let pieces = multisnap(&["check", "--json", "--memory", "1", &store])
        .ends(0)
        .json();
    assert_eq!(json, pieces);
}

#[test]
fn cat_gives_no_lost_content() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let first = *world.snapshots.keys().next().unwrap();
        let run = world.cat("store", first, false).ends(1);
        assert!(
            run.err.contains("has lost chunk 30 of snapshot 1"),
            "{}",
            run.err
        );
        assert!(run.err.contains("--lost-as-zero"), "{}", run.err);
    }
}

#[test]
fn cat_writes_files_with_holes() {
    let mut world = sample(Type::Btree);
    world.stop();
    let (store, origin) = (world.store().display().to_string(), world.origin());
    let out = world.folder.path("out");
    for id in world.snapshots.keys() {
        let args = ["cat", &store, &id.to_string(), "--lost-as-zero", "--origin"];
        let mut args: Vec<std::ffi::OsString> = args.iter().map(|arg| arg.into()).collect();
        args.extend([origin.clone().into(), "--output".into(), out.clone().into()]);
        multisnap(&args).ends(0);
        assert!(std::fs::read(&out).unwrap() == world.bytes(*id));
        // What is there is not written over.
        let run = multisnap(&args).ends(2);
        assert!(run.err.contains("out cannot be written"), "{}", run.err);
        assert!(run.err.contains("; say another name"), "{}", run.err);
        std::fs::remove_file(&out).unwrap();
    }
}

/// What a run that fails leaves must not be taken for a snapshot, nor be in the way of the next.
#[test]
fn cat_that_fails_leaves_no_file() {
    let mut world = sample(Type::Btree);
    world.stop();
    let out = world.folder.path("out");
    let paths = [world.store(), world.origin(), out.clone()];
    let [store, origin, file] = paths.map(|path| path.display().to_string());
    let args = ["cat", &store, "1", "--origin", &origin, "--output", &file];
    let run = multisnap(&args).ends(1);
    assert!(run.err.contains("say --lost-as-zero"), "{}", run.err);
    let part = world.folder.path("out.part");
    assert!(!out.exists() && !part.exists());
    let whole = [&args[..], &["--lost-as-zero"]].concat();
    // One that was killed has left this.
    std::fs::write(&part, "half").unwrap();
    let run = multisnap(&whole).ends(2);
    assert!(
        run.err.contains("out.part cannot be written"),
        "{}",
        run.err
    );
    assert!(!out.exists());
    std::fs::remove_file(&part).unwrap();
    multisnap(&whole).ends(0);
    assert!(out.exists() && !part.exists());
    let run = multisnap(&whole).ends(2);
    assert!(run.err.contains("out cannot be written"), "{}", run.err);
}

#[test]
fn cat_notices_another_origin() {
    let mut world = sample(Type::Btree);
    world.stop();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.origin())
        .unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&[9; 10], 0).unwrap();
    let first = *world.snapshots.keys().next().unwrap();
    let run = world.cat("store", first, true).ends(0);
    assert!(
        run.err.contains("was written since the store was stopped"),
        "{}",
        run.err
    );
    file.write_all_at(&vec![9; 40 * 8192], 0).unwrap();
    let run = world.cat("store", first, true).ends(2);
    assert!(run.err.contains("is another origin"), "{}", run.err);
    file.set_len(39 * 8192).unwrap();
    let run = world.cat("store", first, true).ends(2);
    assert!(run.err.contains("has 312 KiB"), "{}", run.err);
}

#[test]
fn map_says_where_chunks_are() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let store = world.store().display().to_string();
        for (id, contents) in &world.snapshots {
            let id = id.to_string();
            let run = multisnap(&["map", "--json", &store, &id]).ends(0);
            let mut next = 0;
            for line in run.text().lines() {
                let span: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(span["first"], next);
                let count = span["count"].as_u64().unwrap();
                for chunk in next..next + count {
                    let want = match contents[chunk as usize] {
                        None => "lost",
                        Some(0) => "zero",
                        Some(token) if world.shares(chunk, token) => "origin",
                        Some(_) => "store",
                    };
                    assert_eq!(span["where"], want, "{id}: {chunk}");
                    assert_eq!(span["store"].is_u64(), want == "store");
                }
                next += count;
            }
            assert_eq!(next, world.chunks());
            let text = multisnap(&["map", &store, &id]).ends(0).text();
            assert_eq!(text.lines().count(), run.text().lines().count() + 1);
        }
    }
}

#[test]
fn deleted_snapshots_are_not_missed() {
    for of in TYPES {
        let mut world = sample(of);
        let first = *world.snapshots.keys().next().unwrap();
        world.delete(first);
        world.rig().checkpoint().unwrap();
        world.crash();
        world.check("store").ends(3);
        world.cats("store");
        world.load();
        world.rig().sweep().unwrap();
        world.stop();
        world.check("store").ends(0);
        world.cats("store");
        let run = world.cat("store", first, true).ends(2);
        assert!(run.err.contains("has no snapshot 1"), "{}", run.err);
    }
}

#[test]
fn everything_lost_at_once_is_told() {
    for of in TYPES {
        let mut world = sample(of);
        world.lose_all();
        world.create(None, "after");
        world.stop();
        let run = world.check("store").ends(0);
        assert!(
            run.text().contains("snapshots up to 3 have lost"),
            "{}",
            run.text()
        );
        world.cats("store");
    }
}

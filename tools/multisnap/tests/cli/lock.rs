// SPDX-License-Identifier: GPL-2.0

//! Several runs at once on the same files.

use super::{
    basic::sample,
    fixture::{multisnap, World, TYPES},
};
use multisnap_store::image::Type;
use rustix::fs::{flock, FlockOperation};
use std::{fs::File, sync::Barrier, thread};

fn path(world: &World, name: &str) -> String {
    world.folder.path(name).display().to_string()
}

#[test]
fn what_is_written_is_not_read() {
    let mut world = sample(Type::Btree);
    world.stop();
    let (store, out) = (path(&world, "store"), path(&world, "out"));
    let origin = path(&world, "origin");
    let file = File::open(world.store()).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    for args in [
        &["check", &store][..],
        &["dump", &store],
        &["map", &store, "1"],
        &["repair", &store, &out],
        &["cat", &store, "1", "--origin", &origin],
    ] {
        let run = multisnap(args).ends(2);
        let line = format!(
            "multisnap: {store} is in use by another multisnap; wait until that has ended; see which \
             one it is: fuser -v {store}\n"
        );
        assert_eq!(run.err, line);
    }
    assert!(!world.folder.path("out").exists());
    multisnap(&["check", &store, "--live"]).ends(0);
    // Any number may read.
    flock(&file, FlockOperation::LockShared).unwrap();
    multisnap(&["check", &store]).ends(0);
}

#[test]
fn what_is_read_is_not_written() {
    let mut world = sample(Type::Btree);
    world.stop();
    let (store, out) = (path(&world, "store"), path(&world, "out"));
    let file = File::create(world.folder.path("out")).unwrap();
    file.set_len(600 * 4096).unwrap();
    flock(&file, FlockOperation::LockShared).unwrap();
    let run = multisnap(&["repair", &store, &out]).ends(2);
    assert!(run.err.contains("out is in use by another multisnap"));
    let data = std::fs::read(world.folder.path("out")).unwrap();
    assert!(data.iter().all(|byte| *byte == 0));
}

/// Of two that make one file, one does.
#[test]
fn one_file_is_made_once() {
    for of in TYPES {
        let mut world = sample(of);
        world.stop();
        let (store, dump) = (path(&world, "store"), path(&world, "dump"));
        multisnap(&["dump", &store, "--output", &dump]).ends(0);
        for round in 0..8 {
            let name = format!("out{round}");
            let out = path(&world, &name);
            // Half of the time it is there, and empty.
            if round % 2 == 1 {
                let file = File::create(&out).unwrap();
                file.set_len(600 * 4096).unwrap();
            }
            let restore = ["restore", &dump, &out, "--data", &store];
            let repair = ["repair", &store, &out];
            let both = Barrier::new(2);
            let run = |args: &[&str]| {
                both.wait();
                multisnap(args)
            };
            let (a, b) = thread::scope(|scope| {
                let other = scope.spawn(|| run(&restore));
                (run(&repair), other.join().unwrap())
            });
            // What is lost is told by a status of repair.
            let done = [a.code < 2, b.code < 2];
            let told = format!("{} {}: {} {}", a.code, b.code, a.err, b.err);
            assert!(done[0] != done[1], "{told}");
            let refused = if done[0] { &b.err } else { &a.err };
            let mut refusals = vec!["is in use by another multisnap; ", "is not empty; "];
            if round % 2 == 0 {
                // The other one has just made it, and not locked it yet.
                refusals.push("is too small to hold a snapshot store; ");
            }
            assert!(refusals.iter().any(|why| refused.contains(why)), "{told}");
            world.check(&name).ends(0);
            world.cats(&name);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Stores that were made once, sound and damaged, and are kept in `tests/fixtures` with what was told
//! of them then: so that a later version reads what an earlier one has written, and says the same.
//!
//! [`make_the_images`] makes those that are missing, and is run by hand; when the format or what is told
//! changes, the files are removed before:
//!
//! ```text
//! cargo test --manifest-path tools/Cargo.toml -p multisnap --test cli -- --ignored make_the_images
//! ```

use super::{
    basic::sample,
    damage::{cut_short, damage_free_space},
    fixture::{multisnap, Folder, World, TYPES},
    forged::claim_twice,
};
use serde_json::{json, Value};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What is packed of a folder.
const FILES: [&str; 2] = ["store", "origin"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// What makes an image of the store that [`sample`] has made, or of another in its place.
type Make = fn(&mut World);

/// The images: name, and what happens to the store.
const IMAGES: [(&str, Make); 12] = [
    ("clean", |world| world.stop()),
    ("unclean", |world| {
        world.rig().checkpoint().unwrap();
        world.write(33);
        world.create(None, "in-the-log");
        world.crash();
    }),
    ("map-leaf", |world| {
        world.stop();
        world.flip(world.nodes(0, 0)[0], 2000);
    }),
    ("rows", |world| {
        world.stop();
        world.flip(world.nodes(1, 0)[0], 100);
    }),
    ("live-ids", |world| {
        world.stop();
        world.flip(world.nodes(2, 0)[0], 66);
    }),
    ("torn-checkpoint", |world| {
        world.stop();
        world.flip(world.newest(), 60);
    }),
    ("both-checkpoints", |world| {
        world.stop();
        world.flip(8, 60);
        world.flip(16, 60);
    }),
    ("superblock", |world| {
        world.stop();
        world.flip(0, 90);
    }),
    ("broken-log", |world| {
        world.rig().checkpoint().unwrap();
        for chunk in 0..6 {
            world.create(None, "in-the-log");
            world.write(chunk);
        }
        world.crash();
        let mut seq = 0;
        world.edit(world.newest(), |block| {
            seq = u64::from_le_bytes(block[48..56].try_into().unwrap());
        });
        world.flip(32 + seq % 16, 100);
    }),
    ("cut-short", |world| {
        world.stop();
        cut_short(world);
    }),
    ("free-space", |world| {
        *world = World::new(world.of, 800, 1, 90);
        damage_free_space(world);
    }),
    ("cross-linked", |world| {
        world.stop();
        claim_twice(world);
    }),
];

/// A file as text: its size, and a line for each run of words that are not zero and of which each is
/// larger than the one before by the same step: the first word's place, the words' number, the first
/// one and the step.
fn pack(data: &[u8]) -> String {
    let words: Vec<u64> = data
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect();
    assert_eq!(words.len() * 8, data.len());
    let mut text = format!("{}\n", words.len());
    let mut at = 0;
    while at < words.len() {
        if words[at] == 0 {
            at += 1;
            continue;
        }
        let rest = &words[at..];
        let step = rest.get(1).map_or(0, |next| next.wrapping_sub(rest[0]));
        let steady = |pair: &&[u64]| pair[1].wrapping_sub(pair[0]) == step && pair[1] != 0;
        let len = 1 + rest.windows(2).take_while(steady).count();
        writeln!(text, "{at} {len} {:x} {step:x}", rest[0]).unwrap();
        at += len;
    }
    text
}

fn unpack(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let mut words = vec![0u64; lines.next().unwrap().parse().unwrap()];
    for line in lines {
        let of: Vec<&str> = line.split(' ').collect();
        let (at, len): (usize, usize) = (of[0].parse().unwrap(), of[1].parse().unwrap());
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let (first, step) = (hex(of[2]), hex(of[3]));
        for n in 0..len {
            words[at + n] = first.wrapping_add(step.wrapping_mul(n as u64));
        }
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Without the names of files, and what is drawn anew each time.
fn told(code: i32, out: &str) -> Value {
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let inner = match value["store"].is_object() {
            true => &mut value["store"],
            false => &mut value,
        };
        for key in ["store", "out", "uuid"] {
            inner.as_object_mut().unwrap().remove(key);
        }
        value
    };
    json!({ "code": code, "lines": out.lines().map(line).collect::<Vec<_>>() })
}

/// What the command says of an image: check, and repair; what is in the new store; and the sums of the
/// snapshots' content there, which has the same origin.
fn tell(folder: &Folder) -> Value {
    let path = |name: &str| folder.path(name).display().to_string();
    let (store, new, origin) = (path("store"), path("new"), path("origin"));
    let run = |args: &[&str]| {
        let run = multisnap(args);
        told(run.code, &run.text())
    };
    let check = run(&["check", "--json", &store]);
    let repair = run(&["repair", "--json", &store, &new]);
    let mut sums = Vec::new();
    let mut dump = Value::Null;
    if repair["code"] != 2 {
        dump = run(&["dump", &new]);
        for line in dump["lines"].as_array().unwrap() {
            let Some(id) = line["snapshot"]["id"].as_str() else {
                continue;
            };
            let cat = ["cat", &new, id, "--origin", &origin, "--lost-as-zero"];
            let content = multisnap(&cat).ends(0).out;
            sums.push(json!([id, content.len(), crc32c::crc32c(&content)]));
        }
    }
    json!({ "check": check, "repair": repair, "dump": dump, "sums": sums })
}

#[test]
#[ignore = "it makes what another test compares with"]
fn make_the_images() {
    for of in TYPES {
        for (name, make) in IMAGES {
            let name = format!("{}-{name}", of.name());
            let json = fixtures().join(format!("{name}.json"));
            if json.exists() {
                continue;
            }
            let mut world = sample(of);
            make(&mut world);
            for file in FILES {
                let text = pack(&fs::read(world.folder.path(file)).unwrap());
                fs::write(fixtures().join(format!("{name}.{file}")), text).unwrap();
            }
            let text = serde_json::to_string_pretty(&tell(&world.folder)).unwrap();
            fs::write(json, text + "\n").unwrap();
        }
    }
}

#[test]
fn of_kept_images_the_same_is_told() {
    let mut names: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= TYPES.len() * IMAGES.len(), "{names:?}");
    for name in names {
        let folder = Folder::new();
        for file in FILES {
            let text = fs::read_to_string(fixtures().join(format!("{name}.{file}"))).unwrap();
            fs::write(folder.path(file), unpack(&text)).unwrap();
        }
        let text = fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap();
        let then: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(tell(&folder), then, "{name}");
    }
}

#[test]
fn what_is_packed_comes_back() {
    let mut data = vec![0; 4096];
    data[8..16].copy_from_slice(&7u64.to_le_bytes());
    data[16..24].copy_from_slice(&9u64.to_le_bytes());
    data[24..32].copy_from_slice(&11u64.to_le_bytes());
    data[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    data[48..56].copy_from_slice(&1u64.to_le_bytes());
    data[4088..].copy_from_slice(&u64::MAX.to_le_bytes());
    let text = pack(&data);
    assert!(text.starts_with("512\n1 3 7 2\n5 2 "), "{text}");
    assert_eq!(unpack(&text), data);
}

// SPDX-License-Identifier: GPL-2.0

//! Stores with many records are checked and dumped in memory that does not grow with these.

use super::{
    fixture::{multisnap, multisnap_in, multisnap_seen, World},
    progress::percentages,
};
use multisnap_store::image::Type;
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
};

/// Records of the store, each of another chunk. Their metadata, 19 MiB, is more than what is kept of
/// it in memory.
const RECORDS: u64 = 600_000;

/// Address space that a run may have. It takes 26 MiB of this store, 7 of one that is empty, and
/// would take 13 more if it kept three words of each record.
const LIMIT: u64 = 32 << 20;

/// A stopped store with a snapshot that has records of the first chunks, without content. Paths of
/// the store, of its dump and of the store without them.
pub fn store_with(records: u64) -> (World, [String; 3]) {
    let mut world = World::new(Type::Btree, 600, 1, 8);
    world.create(None, "only");
    world.stop();
    let path = |name: &str| world.folder.path(name).display().to_string();
    let (store, dump, large) = (path("store"), path("dump"), path("large"));
    write_dump(&multisnap(&["dump", &store]).ends(0).text(), &dump, records);
    multisnap(&["restore", &dump, &large, "--data", &store, "--size", "1G"]).ends(0);
    (world, [large, dump, store])
}

/// Writes the dump of a store with a snapshot and no records, and these.
fn write_dump(text: &str, name: &str, records: u64) {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<Value> = lines.collect();
    let store = lines[0]["store"].as_object_mut().unwrap();
    store["origin_sectors"] = (records * 8).into();
    lines[1]["snapshot"]["sectors"] = (records * 8).into();
    let mut to = BufWriter::new(File::create(name).unwrap());
    for line in &lines[..2] {
        writeln!(to, "{line}").unwrap();
    }
    for chunk in 0..records {
        let value = ["zero", "lost"][chunk as usize % 2];
        let record = format!("{{\"chunk\":{chunk},\"ids\":\"1\",\"value\":\"{value}\"}}");
        writeln!(to, "{{\"record\":{record}}}").unwrap();
    }
    writeln!(to, "{{\"end\":{{\"snapshots\":1,\"records\":{records}}}}}").unwrap();
    to.into_inner().unwrap();
}

#[test]
fn records_are_not_kept_in_memory() {
    let (world, [large, dump, _]) = store_with(RECORDS);
    let again = world.folder.path("again").display().to_string();
    for memory in ["1M", "256M"] {
        let args = ["check", &large, "--json", "--memory", memory];
        let told = multisnap_in(LIMIT, &args).ends(0).json();
        let records = [&told["zero_records"], &told["lost_records"]];
        assert_eq!(records, [RECORDS / 2; 2]);
    }
    // It takes long enough to be seen moving.
    let (code, text) = multisnap_seen(&["check", &large]);
    let percent = percentages(&text, "check");
    assert!(code == 0 && percent.is_sorted(), "{text}");
    let moves = percent.iter().any(|n| (1..100).contains(n));
    assert!(moves, "{percent:?}");
    multisnap_in(LIMIT, &["dump", &large, "--output", &again]).ends(0);
    let lines = |name: &str| BufReader::new(File::open(name).unwrap()).lines().skip(2);
    assert_eq!(lines(&again).count() as u64, RECORDS + 1);
    assert!(lines(&dump)
        .map(Result::unwrap)
        .eq(lines(&again).map(Result::unwrap)));
}

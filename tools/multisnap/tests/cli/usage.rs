// SPDX-License-Identifier: GPL-2.0

//! What is said to people: errors are one line that names the device and says what to do.

use super::{
    basic::sample,
    fixture::{multisnap, Folder, World},
};
use multisnap_store::image::{SnapshotId, Type};

#[test]
fn help_and_version_are_there() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "check"],
        &["cat", "--help"],
    ] {
        let run = multisnap(args).ends(0);
        assert!(run.text().contains("multisnap"), "{}", run.text());
    }
    let help = multisnap(&["--help"]).ends(0).text();
    for command in [
        "create",
        "start",
        "stop",
        "snapshot",
        "list",
        "status",
        "activate",
        "deactivate",
        "rename",
        "remove",
        "prune",
        "grow",
        "check",
        "dump",
        "restore",
        "repair",
        "cat",
        "map",
        "Exit status",
    ] {
        assert!(help.contains(command), "{command}");
    }
    // It is for this program alone.
    assert!(!help.contains("thaw"));
}

#[test]
fn pages_are_written() {
    let folder = Folder::new();
    let path = folder.path("");
    multisnap(&["man", &path.display().to_string()]).ends(0);
    let page = std::fs::read_to_string(folder.path("multisnap-snapshot.8")).unwrap();
    for part in [".TH MULTISNAP\\-SNAPSHOT 8", "\\-\\-timeout", "freeze"] {
        assert!(page.contains(part), "{part}");
    }
    let all = std::fs::read_to_string(folder.path("multisnap.8")).unwrap();
    assert!(all.contains("EXIT STATUS") && all.contains("multisnap\\-prune"));
    assert!(!folder.path("multisnap-thaw.8").exists());
    multisnap(&["man", "/nowhere"]).ends(2);
    for shell in ["bash", "zsh", "fish"] {
        let text = multisnap(&["completion", shell]).ends(0).text();
        assert!(
            text.contains("keep-daily") && !text.contains("thaw"),
            "{shell}"
        );
    }
}

#[test]
fn wrong_usage_has_its_own_status() {
    for args in [
        &[][..],
        &["no-such-command"],
        &["check"],
        &["check", "--no-such-option", "x"],
        &["check", "x", "--origin-size", "1X"],
        &["cat", "x", "1"],
        &["map", "x", "1.2.3"],
        &["map", "x", "0"],
        &["create", "x", "y", "--store", "apple"],
        &["snapshot", "x", "--name", "3"],
        &["snapshot", "x", "--cancel", "--name", "y"],
        &["snapshot", "x", "--timeout", "0"],
        &["rename", "x", "1", "a b"],
        &["remove", "x"],
        &["remove", "x", "--older-than", "1y"],
        &["prune", "x"],
        &["prune", "x", "--keep-daily", "-1"],
        &["status", "--json", "--openmetrics"],
        &["cat", "x", "1", "--origin", "y", "--json"],
        &["dump", "x", "--json"],
        &["completion", "bash", "--json"],
    ] {
        multisnap(args).ends(2);
    }
}

#[test]
fn what_is_no_store_is_named() {
    let folder = Folder::new();
    let path = |name: &str| folder.path(name).display().to_string();
    std::fs::write(folder.path("blank"), vec![0; 1 << 20]).unwrap();
    std::fs::write(folder.path("other"), vec![1; 1 << 20]).unwrap();
    std::fs::write(folder.path("short"), vec![0; 1000]).unwrap();
    for (name, what) in [
        ("nothing", "cannot be opened: no such file"),
        ("blank", "is empty: no store was made on it yet"),
        ("other", "holds no snapshot store"),
        ("short", ""),
    ] {
        for args in [
            vec!["check", &path(name)],
            vec!["dump", &path(name)],
            vec!["map", &path(name), "1"],
            vec!["repair", &path(name), &path("out")],
            vec!["cat", &path(name), "1", "--origin", &path("other")],
        ] {
            let run = multisnap(&args).ends(2);
            assert!(
                run.err.starts_with(&format!("multisnap: {} ", path(name))),
                "{}",
                run.err
            );
            assert!(run.err.contains(what), "{}", run.err);
            assert!(run.err.contains("; "), "{}", run.err);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        }
    }
    assert!(!folder.path("out").exists());
    let run = multisnap(&["check", &folder.path("").display().to_string()]).ends(2);
    assert!(
        run.err.contains("neither a block device nor a file"),
        "{}",
        run.err
    );
}

#[test]
fn the_size_of_the_origin_is_compared() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    multisnap(&["check", &store, "--origin-size", "320K"]).ends(0);
    multisnap(&["check", &store, "--origin-size", "1G"]).ends(0);
    let run = multisnap(&["check", &store, "--origin-size", "316K"]).ends(1);
    assert!(
        run.text().contains("an origin of 320 KiB, not of 316 KiB"),
        "{}",
        run.text()
    );
}

#[test]
fn an_unknown_snapshot_is_told() {
    let mut world = sample(Type::Btree);
    world.stop();
    let store = world.store().display().to_string();
    let run = multisnap(&["map", &store, "77"]).ends(2);
    assert!(
        run.err.contains("has no snapshot 77; it has 4 from 1 to 3"),
        "{}",
        run.err
    );
}

/// Each command has an example, and those that need no module are tried.
#[test]
fn examples_work() {
    let mut world = World::new(Type::Btree, 600, 1, 8);
    for chunk in 0..3 {
        world.create(None, "");
        world.write(chunk);
    }
    world.stop();
    let folder = world.folder.path("");
    let folder = folder.display().to_string();
    let folder = folder.trim_end_matches('/');
    let help = multisnap(&["--help"]).ends(0).text();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let mut tried = Vec::new();
    // A dump is restored after it was made.
    for command in &commands {
        let help = multisnap(&["help", command]).ends(0).text();
        let example = help.lines().find_map(|line| line.strip_prefix("Example: "));
        let example = example.unwrap_or_else(|| panic!("{command} has none"));
        assert!(
            example.contains(&format!("multisnap {command}")),
            "{example}"
        );
        if ![
            "check",
            "dump",
            "restore",
            "repair",
            "cat",
            "map",
            "completion",
        ]
        .contains(command)
        {
            continue;
        }
        let words = example.split(' ').skip(1).map(|word| match word {
            "/dev/vg/home" => format!("{folder}/origin"),
            "store.dump" | "home-3.img" => format!("{folder}/{word}"),
            word => word.replace("/dev/vg/", &format!("{folder}/")),
        });
        multisnap(&words.collect::<Vec<_>>()).ends(0);
        tried.push(*command);
    }
    assert_eq!(tried.len(), 7, "{tried:?}");
    for name in ["new", "larger"] {
        world.check(name).ends(0);
        world.cats(name);
    }
    let image = std::fs::read(world.folder.path("home-3.img")).unwrap();
    assert!(image == world.bytes(SnapshotId::top(3)));
}

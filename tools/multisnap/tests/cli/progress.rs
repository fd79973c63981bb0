// SPDX-License-Identifier: GPL-2.0

//! Who has a terminal sees how far it has come, and nobody else.

use super::{
    fixture::{multisnap, multisnap_seen},
    memory::store_with,
};

/// The percentages in what was seen of a bar with this name.
pub fn percentages(text: &str, name: &str) -> Vec<u64> {
    let begin = format!("{name} [");
    let bars = text.split(begin.as_str()).skip(1);
    let told = bars.filter_map(|bar| bar.split_once(']')?.1.trim_start().split_once('%'));
    told.map(|(percent, _)| percent.parse().unwrap()).collect()
}

#[test]
fn a_bar_is_seen_in_a_terminal_only() {
    let (world, [large, dump, small]) = store_with(2_000);
    let path = |name: &str| world.folder.path(name).display().to_string();
    let (origin, out) = (path("origin"), path("out"));
    std::fs::File::options()
        .write(true)
        .open(&origin)
        .unwrap()
        .set_len(2_000 * 4096)
        .unwrap();
    let whole = ["--lost-as-zero", "--origin", &origin, "--output", &out];
    let cat = [&["cat", &large, "1"][..], &whole].concat();
    let restore = ["restore", &dump, &out, "--data", &small, "--size", "1G"];
    for args in [
        &["check", &large][..],
        &["map", &large, "1"],
        &["repair", &large, &out],
        &restore,
        &cat,
    ] {
        let (code, text) = multisnap_seen(args);
        assert_eq!(code, 0, "{text}");
        // It may be over before there is more to be seen.
        let first = percentages(&text, args[0]).first().copied();
        assert_eq!(first, Some(0), "{text}");
        let _ = std::fs::remove_file(&out);
        let run = multisnap(args).ends(0);
        assert!(!run.err.contains('['), "{}", run.err);
        let _ = std::fs::remove_file(&out);
    }
}

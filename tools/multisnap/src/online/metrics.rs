// SPDX-License-Identifier: GPL-2.0

//! The status of origins as OpenMetrics text.

use super::status::State;
use std::fmt::Write;

/// What kind of figure it is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, from the load of the origin on.
    Counter,
}

/// Name, kind, meaning and value of a figure.
type Family = (&'static str, Kind, &'static str, fn(&State) -> u64);

/// Modes, each of which is a figure of its own.
const MODES: [&str; 4] = ["rw", "full", "ro", "fail"];

const FAMILIES: &[Family] = &[
    ("origin_bytes", Kind::Gauge, "Size of the origin.", |s| {
        s.sectors.saturating_mul(512)
    }),
    (
        "store_used_bytes",
        Kind::Gauge,
        "Space of the store in use.",
        |s| s.info.bytes(s.info.used_chunks),
    ),
    (
        "store_size_bytes",
        Kind::Gauge,
        "Space of the store.",
        |s| s.info.bytes(s.info.total_chunks),
    ),
    (
        "store_low",
        Kind::Gauge,
        "Whether less than low-water is free.",
        |s| s.info.low.into(),
    ),
    (
        "store_cut_short",
        Kind::Gauge,
        "Whether the device of the store is smaller than the store.",
        |s| s.store_cut_short.into(),
    ),
    (
        "metadata_used_bytes",
        Kind::Gauge,
        "Metadata in use.",
        |s| s.info.used_metadata_blocks.saturating_mul(4096),
    ),
    (
        "metadata_size_bytes",
        Kind::Gauge,
        "Space of metadata.",
        |s| s.info.total_metadata_blocks.saturating_mul(4096),
    ),
    (
        "log_used_bytes",
        Kind::Gauge,
        "Part of the log that no checkpoint covers.",
        |s| s.info.used_log_blocks.saturating_mul(4096),
    ),
    ("log_size_bytes", Kind::Gauge, "Size of the log.", |s| {
        s.info.total_log_blocks.saturating_mul(4096)
    }),
    ("snapshots", Kind::Gauge, "Snapshots.", |s| s.info.snapshots),
    (
        "active_snapshots",
        Kind::Gauge,
        "Snapshots with a device.",
        |s| s.active as u64,
    ),
    (
        "sweeping",
        Kind::Gauge,
        "Whether space of removed snapshots is being freed.",
        |s| s.info.sweep.is_some().into(),
    ),
    (
        "needs_check",
        Kind::Gauge,
        "Whether damage was seen.",
        |s| s.info.needs_check.into(),
    ),
    (
        "read_errors",
        Kind::Counter,
        "Copies that could not be read.",
        |s| s.info.read_errors,
    ),
    (
        "write_errors",
        Kind::Counter,
        "Copies that could not be written.",
        |s| s.info.write_errors,
    ),
    (
        "metadata_errors",
        Kind::Counter,
        "Operations on metadata that failed.",
        |s| s.info.metadata_errors,
    ),
    ("copies", Kind::Counter, "Copy jobs.", |s| s.info.copies),
    (
        "copied_chunks",
        Kind::Counter,
        "Chunks of the store that were filled.",
        |s| s.info.copied_chunks,
    ),
    ("commits", Kind::Counter, "Log writes.", |s| s.info.commits),
    ("checkpoints", Kind::Counter, "Checkpoints.", |s| {
        s.info.checkpoints
    }),
    ("lost", Kind::Counter, "Records of lost content.", |s| {
        s.info.lost
    }),
];

/// The text.
pub fn text(states: &[State]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut text, states);
    text
}

fn write_all(text: &mut String, states: &[State]) -> std::fmt::Result {
    for (name, kind, help, value) in FAMILIES {
        let (of, suffix) = match kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Counter => ("counter", "_total"),
        };
        writeln!(text, "# TYPE multisnap_{name} {of}")?;
        if name.ends_with("_bytes") {
            writeln!(text, "# UNIT multisnap_{name} bytes")?;
        }
        writeln!(text, "# HELP multisnap_{name} {help}")?;
        for state in states {
            let volume = label(&state.volume);
            writeln!(
                text,
                "multisnap_{name}{suffix}{{volume=\"{volume}\"}} {}",
                value(state)
            )?;
        }
    }
    writeln!(
        text,
        "# TYPE multisnap_mode stateset\n# HELP multisnap_mode Mode of the store."
    )?;
    for state in states {
        let volume = label(&state.volume);
        for mode in MODES {
            let is = u8::from(state.info.mode == mode);
            writeln!(
                text,
                "multisnap_mode{{volume=\"{volume}\",multisnap_mode=\"{mode}\"}} {is}"
            )?;
        }
    }
    writeln!(text, "# EOF")
}

/// A value of a label.
fn label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::status::tests::state;

    #[test]
    fn the_text_has_its_form() {
        let text = text(&[state()]);
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("\nmultisnap_copies_total{volume=\"home\"} 40\n"));
        assert!(text.contains("multisnap_store_used_bytes{volume=\"home\"} 196608\n"));
        assert!(text.contains("multisnap_mode{volume=\"home\",multisnap_mode=\"full\"} 1\n"));
        // Each family is told once, before its figures.
        let mut told: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!told.contains(&name));
                told.push(name);
            } else if !line.starts_with('#') {
                let name = line.split('{').next().unwrap();
                let last = told.last().unwrap();
                assert!(name == *last || name == format!("{last}_total"), "{line}");
            }
        }
        assert_eq!(label("a\"b\\"), "a\\\"b\\\\");
    }
    #[test]
    fn the_guide_names_each_figure() {
        let guide = include_str!("../../../../Documentation/multisnap.rst");
        for (name, kind, ..) in FAMILIES {
            let suffix = match kind {
                Kind::Gauge => "",
                Kind::Counter => "_total",
            };
            let named = format!("\n``multisnap_{name}{suffix}`` ");
            assert!(guide.contains(&named), "{named}");
        }
        let named = guide.matches("\n``multisnap_").count();
        assert_eq!(named, FAMILIES.len() + 1);
    }
}

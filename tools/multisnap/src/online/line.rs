// SPDX-License-Identifier: GPL-2.0

//! Table lines of both targets.

use crate::dm::wire::{Dev, Target};
use multisnap_store::image::SnapshotId;

/// The origin's target.
pub const ORIGIN: &str = "multisnapshot";

/// The snapshots' target.
pub const SNAPSHOT: &str = "multisnap-snap";

/// The target that takes a device out.
pub const OUT: &str = "multisnap-out";

/// What a table line of an origin says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginLine {
    /// The plain device.
    pub origin: Dev,
    /// The store.
    pub store: Dev,
    /// Sectors in a chunk.
    pub chunk: u32,
    /// Generic arguments, in words.
    pub generic: Vec<String>,
    /// `btree` or `bitmask`.
    pub store_type: String,
    /// Arguments of the store, in words.
    pub store_args: Vec<String>,
    /// Ids of `sync-snapshots`, in words.
    ids: Vec<String>,
}

impl OriginLine {
    /// A line without optional arguments.
    pub fn new(origin: Dev, store: Dev, chunk: u32, store_type: &str) -> Self {
        Self {
            origin,
            store,
            chunk,
            generic: Vec::new(),
            store_type: store_type.to_owned(),
            store_args: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Reads a line; `None` if it is none.
    pub fn parse(args: &str) -> Option<Self> {
        let mut words = args.split_ascii_whitespace();
        let counted = |words: &mut std::str::SplitAsciiWhitespace<'_>| {
            let n: usize = words.next()?.parse().ok()?;
            let list: Vec<String> = words.take(n).map(str::to_owned).collect();
            (list.len() == n).then_some(list)
        };
        let line = Self {
            origin: words.next()?.parse().ok()?,
            store: words.next()?.parse().ok()?,
            chunk: words.next()?.parse().ok()?,
            generic: counted(&mut words)?,
            store_type: words.next()?.to_owned(),
            store_args: counted(&mut words)?,
            ids: match words.clone().next() {
                Some(_) => counted(&mut words)?,
                None => Vec::new(),
            },
        };
        words.next().is_none().then_some(line)
    }

    /// As a target of this many sectors.
    pub fn target(&self, sectors: u64) -> Target {
        let list = |words: &[String]| {
            words
                .iter()
                .fold(words.len().to_string(), |line, word| line + " " + word)
        };
        let mut args = format!(
            "{} {} {} {} {} {}",
            self.origin,
            self.store,
            self.chunk,
            list(&self.generic),
            self.store_type,
            list(&self.store_args)
        );
        if !self.ids.is_empty() {
            args = args + " " + &list(&self.ids);
        }
        Target {
            len: sectors,
            kind: ORIGIN.to_owned(),
            args,
        }
    }
}

/// Reads a line of a snapshot: its origin's plain device, and its number.
pub fn parse_snapshot(args: &str) -> Option<(Dev, SnapshotId)> {
    let mut words = args.split_ascii_whitespace();
    let line = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(line)
}

/// A target of a snapshot of this many sectors.
pub fn snapshot_target(origin: Dev, id: SnapshotId, sectors: u64) -> Target {
    Target {
        len: sectors,
        kind: SNAPSHOT.to_owned(),
        args: format!("{origin} {id}"),
    }
}

/// A target of this many sectors that passes everything to an origin.
pub fn out_target(origin: Dev, sectors: u64) -> Target {
    Target {
        len: sectors,
        kind: OUT.to_owned(),
        args: origin.to_string(),
    }
}

/// The uuid of the mapped device of an origin with this store.
pub fn uuid(store: &[u8; 16]) -> String {
    format!("MSNAP-{}", crate::out::hex(store))
}

/// The uuid of the mapped device of its snapshot `id`.
pub fn snapshot_uuid(store: &[u8; 16], id: SnapshotId) -> String {
    format!("MSNAP-{}-{id}", crate::out::hex(store))
}

/// The store that a mapped device's uuid names.
pub fn store_of(uuid: &str) -> Option<[u8; 16]> {
    crate::out::unhex(uuid.strip_prefix("MSNAP-")?.get(..32)?)
}

/// Whether a mapped device can have this name: letters that need no quotes, neither in a shell nor
/// in udev's links.
pub fn is_device_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    (1..128).contains(&name.len())
        && name.chars().all(good)
        && name != "control"
        && name != "."
        && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_origins_come_back() {
        for args in [
            "8:1 8:2 32 0 btree 0",
            "8:1 8:2 32 2 low-water 10 bitmask 0",
            "8:1 253:2 8 1 preserve-on-error btree 2 cache-limit 256",
            "8:1 8:2 32 1 sync-snapshots btree 0 3 1 2 7",
        ] {
            let line = OriginLine::parse(args).unwrap();
            assert_eq!(line.target(2048).args, args);
        }
        for bad in [
            "",
            "8:1",
            "8:1 8:2 x 0 btree 0",
            "8:1 8:2 32 3 low-water 10 btree 0",
            "8:1 8:2 32 0 btree 0 1",
            "8:1 8:2 32 0 btree 0 1 1 1",
            "/dev/sda /dev/sdb 32 0 btree 0",
        ] {
            assert_eq!(OriginLine::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_of_snapshots_come_back() {
        let dev = Dev { major: 8, minor: 1 };
        let target = snapshot_target(dev, SnapshotId::sub(3, 0), 64);
        assert_eq!(target.args, "8:1 3.0");
        assert_eq!(
            parse_snapshot(&target.args),
            Some((dev, SnapshotId::sub(3, 0)))
        );
        assert_eq!(parse_snapshot("8:1 3 4"), None);
        assert_eq!(parse_snapshot("8:1 0"), None);
    }

    #[test]
    fn uuids_name_the_store() {
        let store = [0xab; 16];
        assert_eq!(store_of(&uuid(&store)), Some(store));
        let of = snapshot_uuid(&store, SnapshotId::top(12));
        assert!(of.ends_with("ab-12"));
        assert_eq!(store_of(&of), Some(store));
        assert_eq!(store_of("LVM-abc"), None);
        assert_eq!(store_of("MSNAP-é"), None);
    }

    #[test]
    fn names_of_devices() {
        for good in ["home", "vg-home.1", "a+b:c=d@e_f#g"] {
            assert!(is_device_name(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "control", "..", "é", &"x".repeat(128)] {
            assert!(!is_device_name(bad), "{bad}");
        }
    }
}

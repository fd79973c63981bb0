// SPDX-License-Identifier: GPL-2.0

//! What guest and host tell each other, through a third disk.
//!
//! The guest writes a note to the start of that disk, as JSON behind its length; the host puts it
//! on the tape between the writes of the other two, so that the order of both is known. A read of
//! the start gives the task that the last note asked for. Values of sectors are too many for
//! JSON, and are written as numbers at [`VALUES_AT`], in front of the note that is about them.

use serde::{Deserialize, Serialize};

/// Size of the disk.
pub const DISK_BYTES: usize = 4 << 20;
/// Most bytes of a note or task.
pub const NOTE_BYTES: usize = 64 << 10;
/// Where values are written.
pub const VALUES_AT: usize = 1 << 20;

/// A write that has ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Written {
    /// First sector.
    pub first: u64,
    /// Sectors.
    pub sectors: u64,
    /// What each of them holds.
    pub value: u64,
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Note {
    /// Asks for the next task.
    Next,
    /// The workload begins: the disks are empty.
    Begin,
    /// These writes to the volume had ended before a flush of it began, which has ended well.
    Durable { volume: u16, writes: Vec<Written> },
    /// This part of a volume is about to be discarded, or overwritten with zeroes.
    Zeroing { volume: u16, write: Written },
    /// That has ended.
    Zeroed { volume: u16 },
    /// A snapshot is about to be cut, of the origin or of `parent`. For the latter, the values
    /// are those of the last writes to the parent that have ended, zero where there was none.
    Creating {
        id: String,
        volume: u16,
        parent: Option<u16>,
    },
    /// The origin is suspended, and the snapshot cut: nothing is written to the origin now.
    Cut { id: String },
    /// The snapshot is there. All counts up to now are below `count`.
    Created { id: String, count: u64 },
    /// There is no snapshot with that id.
    NotCreated { id: String },
    /// A snapshot is about to be deleted.
    Deleting { id: String },
    /// It is.
    Deleted { id: String },
    /// The store is full: a write to a snapshot has just failed for that.
    Full,
    /// All devices are about to be removed, and loaded again.
    Restarting,
    /// They are there again.
    Restarted,
    /// From now on only the thread that gives commands writes and flushes.
    Silent,
    /// And now all do again.
    Loud,
    /// The workload is over.
    End,
    /// A cut has been loaded: the origin's status line.
    Loaded { status: String },
    /// The values are those of the origin, or of the snapshot with that id.
    Values { id: Option<String> },
    /// The guest has written to the origin, or to a snapshot.
    Wrote { id: Option<String>, write: Written },
    /// The guest has cut a snapshot of the origin as it is now.
    Added { id: String },
    /// All devices have been removed.
    Removed,
    /// Something went wrong that must not.
    Trouble { what: String },
}

/// What the host wants done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Run the workload on empty disks.
    Work(Round),
    /// Load what a cut has left, and remove it again.
    Recover(Round),
    /// Load what a cut has left, read all, write a little, and load again.
    Check(Round),
    /// Power off.
    Stop,
}

/// What a round is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Number of the round; also in each sector.
    pub number: u64,
    /// Seed of what the guest does at random.
    pub seed: u64,
    /// How long the workload runs.
    pub milliseconds: u64,
    /// Sectors in a chunk.
    pub chunk: u64,
    /// Type of the store.
    pub store: String,
    /// Whether what cannot be preserved is an error; else it is lost.
    pub preserve: bool,
    /// Whether snapshots of snapshots are cut.
    pub subs: bool,
    /// First count for what the guest writes.
    pub count: u64,
}

/// A note or task as bytes for the disk.
pub fn encode(what: &impl Serialize) -> Vec<u8> {
    // Neither has a map or a fallible form: this cannot fail.
    let text = serde_json::to_vec(what).unwrap_or_default();
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// What [`encode`] has made bytes of.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> anyhow::Result<T> {
    let (len, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| anyhow::anyhow!("a note without a length"))?;
    let len = u32::from_le_bytes(*len) as usize;
    let text = rest
        .get(..len)
        .ok_or_else(|| anyhow::anyhow!("a note of {len} bytes"))?;
    Ok(serde_json::from_slice(text)?)
}

/// The single ids of the ranges of a status line.
pub fn ids(ranges: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for range in ranges.split(',').filter(|range| *range != "-") {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (prefix, low) = match low.split_once('.') {
            Some((id, sub)) => (format!("{id}."), sub),
            None => (String::new(), low),
        };
        let high = high.rsplit('.').next().unwrap_or(high);
        if let (Ok(low), Ok(high)) = (low.parse::<u64>(), high.parse::<u64>()) {
            ids.extend((low..=high).map(|n| format!("{prefix}{n}")));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ids_are_read() {
        assert_eq!(ids("-"), Vec::<String>::new());
        assert_eq!(ids("1-3,7"), ["1", "2", "3", "7"]);
        assert_eq!(ids("2.0-2.1,4.9"), ["2.0", "2.1", "4.9"]);
    }

    #[test]
    fn a_note_comes_back() {
        let mut bytes = encode(&Note::Cut { id: "1.2".into() });
        bytes.resize(512, 0);
        assert!(matches!(decode(&bytes), Ok(Note::Cut { id }) if id == "1.2"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Counts how many cuts fell where, so that a run that proves nothing is seen.

use std::fmt;

macro_rules! windows {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A stretch of time in which a cut is of interest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Window { $(#[doc = $text] $name),* }

        const NAMES: &[&str] = &[$($text),*];
    };
}

windows! {
    Planned "copy planned",
    Reading "copy has read its source",
    Copying "copy writes its destinations",
    Copied "copy ended, not recorded",
    Recorded "recorded, not in the log write",
    LogFlush "log write: preflush",
    LogFlying "log write: blocks flying",
    LogEnded "log write ended, not seen",
    Readers "log durable, older reads still out",
    Released "protected origin write flying",
    Overwrite "overwrite of a whole chunk flying",
    InPlace "snapshot write in place flying",
    DirtyWrites "checkpoint: dirty blocks",
    CheckpointFlush "checkpoint: flush",
    CheckpointBlock "checkpoint: its block flying",
    CheckpointAndLog "checkpoint and log write together",
    Wrapped "after a log wrap",
    Reused "after a second use of a destination",
    Replay "in recovery",
    Replay2 "in recovery after a cut in recovery",
    Draining "create: waiting for origin bios",
    CreateFlush "create: flush of the origin",
    CreateLog "create: its record on the way",
    Full "store full",
    Deleting "delete on the way",
    Sweeping "sweep of deleted snapshots",
    Closing "close on the way",
    Broken "after a failed log or checkpoint write",
    Healed "after a heal from that",
    LastWord "last word on its way",
    Gated "create of a snapshot's snapshot: waiting for its writes",
    SubLog "create of a snapshot's snapshot: its record on the way",
    Named "create with a given id: its record on the way",
    Growing "growth of the devices: its record on the way",
    DiscardWaits "origin discard: waiting, or being preserved",
    Discarding "protected origin discard flying",
    DiscardCopy "origin discard: copy flying",
    Zeroed "zero record of a snapshot on its way",
    Leaving "taken out: the loss of all on its way",
    Out "taken out: written by others",
    EightDests "copy with eight destinations",
}

/// Cuts by window.
#[derive(Clone)]
pub(crate) struct Windows([u64; NAMES.len()]);

impl Default for Windows {
    fn default() -> Self {
        Windows([0; NAMES.len()])
    }
}

impl Windows {
    /// A cut fell there.
    pub(crate) fn hit(&mut self, window: Window, yes: bool) {
        self.0[window as usize] += u64::from(yes);
    }

    /// Adds the counts of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += b;
        }
    }

    /// Names of those no cut fell into.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let hits = NAMES.iter().zip(self.0);
        hits.filter(|(_, n)| *n == 0)
            .map(|(name, _)| *name)
            .collect()
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, n) in NAMES.iter().zip(self.0) {
            writeln!(f, "{n:9}  {name}")?;
        }
        Ok(())
    }
}

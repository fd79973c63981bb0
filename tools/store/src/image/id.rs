// SPDX-License-Identifier: GPL-2.0

//! Numbers of snapshots.

use crate::store::SnapId;
use std::{fmt, str::FromStr, string::String};

/// Number of a snapshot: `<id>`, or `<id>.<sub>` for a snapshot of a snapshot.
///
/// As a 64-bit number it is the id in the upper half and the sub-id in the lower, which is
/// 0xffffffff for a snapshot of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

impl SnapshotId {
    /// The snapshot `<id>` of the origin.
    pub fn top(id: u32) -> Self {
        Self(SnapId::top(id).0)
    }

    /// The snapshot `<id>.<sub>`.
    pub fn sub(id: u32, sub: u32) -> Self {
        Self(SnapId::sub(id, sub).0)
    }

    /// The part before the dot.
    pub fn id(self) -> u32 {
        SnapId(self.0).id()
    }

    /// The part after the dot; `None` for a snapshot of the origin.
    pub fn sub_id(self) -> Option<u32> {
        let id = SnapId(self.0);
        id.is_sub().then(|| id.sub_id())
    }

    /// The snapshot that it is one of, if it is one of a snapshot.
    pub fn parent(self) -> Option<Self> {
        self.sub_id().map(|_| Self::top(self.id()))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SnapId(self.0).fmt(f)
    }
}

impl FromStr for SnapshotId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = SnapId::parse(text.as_bytes()).filter(|id| id.id() != 0);
        id.map(|id| Self(id.0))
            .ok_or_else(|| format!("{text:?} is no snapshot: say 3, or 3.0 for its first snapshot"))
    }
}

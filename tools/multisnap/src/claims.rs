// SPDX-License-Identifier: GPL-2.0

//! Chunks of the store that more than one part of it lays claim to. Whose content they have cannot
//! be told, so it is nobody's.
//!
//! It is in memory: a bit for each chunk of the store that is in use, and another one where there is
//! metadata.

use crate::count::Sparse;
use multisnap_store::image::Header;

/// Who lays claim to the chunks of the store.
pub struct Claims {
    chunk_blocks: u64,
    data: (u64, u64),
    named: Sparse,
    disputed: Sparse,
    metadata: Sparse,
    /// The chunk of the origin whose records come, and the chunks of the store that they name.
    here: (u64, Vec<u64>),
}

impl Claims {
    /// Nobody, so far.
    pub fn new(header: &Header) -> Self {
        Self {
            chunk_blocks: header.chunk_blocks(),
            data: (header.data_start, header.data_chunks),
            named: Sparse::default(),
            disputed: Sparse::default(),
            metadata: Sparse::default(),
            here: (0, Vec::new()),
        }
    }

    /// A record of `chunk` of the origin names chunk `dest` of the store. Those of a chunk come in
    /// a row, and may name the same.
    pub fn record(&mut self, chunk: u64, dest: u64) {
        if self.here.0 != chunk {
            self.here = (chunk, Vec::new());
        }
        if !self.named.insert(dest) && !self.here.1.contains(&dest) {
            self.disputed.insert(dest);
        }
        self.here.1.push(dest);
    }

    /// This block is one of metadata.
    pub fn metadata(&mut self, block: u64) {
        let at = block.checked_sub(self.data.0);
        let chunk = at.and_then(|at| at.checked_div(self.chunk_blocks));
        if let Some(chunk) = chunk.filter(|chunk| *chunk < self.data.1) {
            self.metadata.insert(chunk);
        }
    }

    /// Who else lays claim to a chunk of the store that a record names.
    pub fn other(&self, dest: u64) -> Option<&'static str> {
        if self.metadata.contains(dest) {
            Some("metadata")
        } else if self.disputed.contains(dest) {
            Some("another chunk")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_else_lays_claim_is_named() {
        let mut claims = Claims {
            chunk_blocks: 4,
            data: (100, 50),
            named: Sparse::default(),
            disputed: Sparse::default(),
            metadata: Sparse::default(),
            here: (0, Vec::new()),
        };
        for (chunk, dest) in [(0, 7), (0, 8), (0, 7), (1, 9), (2, 8), (3, 10)] {
            claims.record(chunk, dest);
        }
        // Before the data area, in chunk 10, and behind the last one.
        for block in [99, 143, 300] {
            claims.metadata(block);
        }
        let others = [7, 8, 9, 10, 49, 50].map(|dest| claims.other(dest));
        let (other, metadata) = (Some("another chunk"), Some("metadata"));
        assert_eq!(others, [None, other, None, metadata, None, None]);
    }
}

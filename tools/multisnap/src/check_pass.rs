// SPDX-License-Identifier: GPL-2.0

//! One look at everything in a store.

use crate::{
    check_report::{Damage, Report},
    count::{Sparse, Window},
    progress::Progress,
    table::{show, Table},
};
use multisnap_store::image::{Header, Ids, Part, Tree, Value};

/// One look at everything.
pub struct Pass<'a> {
    header: &'a Header,
    table: &'a Table,
    report: &'a mut Report,
    /// The bits that snapshots have, if that is known.
    bits: Option<u64>,
    blocks: u64,
    /// The chunks of the store that are counted.
    pub window: Window,
    /// Metadata blocks that were seen.
    seen: Sparse,
    progress: Progress,
    is_first: bool,
    /// Records, or the list of what is free, cannot all be read.
    pub partial: bool,
    /// Metadata blocks that were seen, and those of them in the first metadata area.
    pub in_all: u64,
    /// See `in_all`.
    pub in_area: u64,
    /// The chunk of the origin whose records come, and the chunks of the store that they name.
    current: (Option<u64>, Vec<u64>),
}

impl<'a> Pass<'a> {
    /// A look at a store on a device of `blocks` blocks, with about `total` nodes. The chunks of
    /// the store from the first of `window` on that are less than the second are counted.
    pub fn new(
        header: &'a Header,
        table: &'a Table,
        report: &'a mut Report,
        blocks: u64,
        window: (u64, u64),
        total: u64,
    ) -> Self {
        Self {
            header,
            table,
            report,
            bits: table.bits(),
            blocks,
            window: Window::new(window.0, window.1),
            seen: Sparse::default(),
            progress: Progress::new("check", total),
            is_first: window.0 == 0,
            partial: false,
            in_all: 0,
            in_area: 0,
            current: (None, Vec::new()),
        }
    }

    fn fault(&mut self, damage: Damage) {
        if self.is_first {
            self.report.fault(damage);
        }
    }

    /// Looks at a part.
    pub fn part(&mut self, part: Part) {
        match part {
            Part::Node(block) => {
                self.progress.step(1);
                self.report.metadata_used += u64::from(self.is_first);
                self.block(block);
            }
            Part::FreeBlock(block) => self.block(block),
            Part::FreeChunks(group, mask) => self.window.free(group, mask),
            Part::Record { chunk, ids, value } => {
                if self.current.0 != Some(chunk) {
                    self.current = (Some(chunk), Vec::new());
                }
                self.record(chunk, ids, value);
            }
            Part::BadNode {
                tree,
                block,
                low,
                high,
                readable,
            } => self.bad_node(tree, block, (low, high), readable),
            Part::BadEntry { tree, words } => {
                self.partial = true;
                match tree {
                    Tree::Map => self.fault(
                        Damage::new("a record makes no sense")
                            .of("all")
                            .chunks(words[0], words[0]),
                    ),
                    Tree::Free => self.fault(Damage::new("the list of free chunks")),
                    // The table of snapshots has told it.
                    _ => {}
                }
            }
            Part::BadFreeList => {
                self.partial = true;
                self.fault(Damage::new(
                    "the list of free metadata blocks: no snapshot is hit",
                ));
            }
            _ => {}
        }
    }

    /// A metadata block.
    fn block(&mut self, block: u64) {
        if !self.seen.insert(block) {
            self.fault(Damage::new("a metadata block is used twice").at(block));
        }
        self.in_all += 1;
        let (area, len) = self.header.first_area;
        if block.checked_sub(area).is_some_and(|at| at < len) {
            self.in_area += 1;
            return;
        }
        let chunk = block
            .checked_sub(self.header.data_start)
            .and_then(|at| at.checked_div(self.header.chunk_blocks()));
        match chunk.filter(|chunk| *chunk < self.header.data_chunks) {
            Some(chunk) => self.window.give(chunk),
            None => self.fault(Damage::new("a metadata block is where none can be").at(block)),
        }
    }

    /// What is wrong if a record is for ids that are still to be given: a new snapshot would show
    /// what another one held.
    fn strangers(&self, ids: Ids) -> Option<&'static str> {
        match ids {
            Ids::Range(_, hi) => (u64::from(hi.id()) >= self.header.next_id)
                .then_some("a record is for snapshots that are not made yet as well"),
            Ids::Mask(mask) => self
                .bits
                .is_some_and(|held| mask & !held != 0)
                .then_some("a record has bits that no snapshot has"),
        }
    }

    fn record(&mut self, chunk: u64, ids: Ids, value: Value) {
        let stranger = self.strangers(ids);
        let ids = show(&self.table.runs(ids));
        if self.is_first {
            self.report.records += 1;
            self.report.zero_records += u64::from(value == Value::Zero);
            self.report.lost_records += u64::from(value == Value::Lost);
            self.report.dead_records += u64::from(ids.is_empty());
        }
        let of = |damage: Damage| match ids.as_str() {
            "" => damage.chunks(chunk, chunk),
            ids => damage.of(ids).chunks(chunk, chunk),
        };
        if let Some(what) = stranger {
            self.fault(of(Damage::new(what)));
        }
        let first = chunk.checked_mul(self.header.chunk_sectors.into());
        if first.is_none_or(|first| first >= self.header.origin_sectors) {
            self.fault(of(Damage::new("a record is behind the end of the origin")));
        }
        let Value::Chunk(dest) = value else {
            return;
        };
        let end = self.header.data_block(dest);
        let end = end.and_then(|block| block.checked_add(self.header.chunk_blocks()));
        if end.is_none_or(|end| end > self.blocks) {
            self.fault(of(Damage::new(format!(
                "chunk {dest} of the store is not on the device"
            ))));
        }
        let again = !self.window.name(dest) && !self.current.1.contains(&dest);
        if again {
            // It is in this window, so it is told in this pass only.
            let what = format!("chunk {dest} of the store belongs to another chunk as well");
            self.report.fault(of(Damage::new(what)));
        }
        self.current.1.push(dest);
    }

    fn bad_node(
        &mut self,
        tree: Tree,
        block: u64,
        (low, high): ([u64; 2], Option<[u64; 2]>),
        readable: bool,
    ) {
        self.partial = true;
        let what = match readable {
            true => format!("node of the {} tree", tree.name()),
            false => format!("node of the {} tree that cannot be read", tree.name()),
        };
        let damage = Damage::new(what).at(block);
        match tree {
            Tree::Map => {
                let (first, last) = chunks_of(self.header, low, high);
                self.fault(damage.of("all").chunks(first, last));
            }
            Tree::Free => {
                let what = format!("{}: no snapshot is hit", damage.what);
                self.fault(Damage::new(what).at(block));
            }
            // The table of snapshots has told it.
            _ => {}
        }
    }
}

/// The first and the last chunk of the origin that keys from `low` on, less than `high`, are for.
pub fn chunks_of(header: &Header, low: [u64; 2], high: Option<[u64; 2]>) -> (u64, u64) {
    let chunks = header
        .origin_sectors
        .div_ceil(u64::from(header.chunk_sectors).max(1));
    let end = match high {
        Some([chunk, 0]) => chunk.saturating_sub(1),
        Some([chunk, _]) => chunk,
        None => u64::MAX,
    };
    let last = end.min(chunks.saturating_sub(1));
    (low[0], last.max(low[0]))
}

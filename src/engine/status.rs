// SPDX-License-Identifier: GPL-2.0

//! What status shows, kept ready so that asking never waits for the worker or for I/O.

use super::{
    order::{Counts, Machine, Mode, World},
    registry::Brief, //
};
use crate::dm::target::Text;
use crate::store::{Chunk, ExceptionStore, SnapId, Space};
use core::fmt::Write as _;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        SpinLock, //
    },
};

/// Longest list of ids in a status line, in bytes.
const IDS_MAX: usize = 4096;

/// Numbers that the worker leaves behind after each round.
#[derive(Clone, Copy)]
struct Numbers {
    mode: Mode,
    needs_check: bool,
    space: Space,
    counts: Counts,
    live: u64,
    /// Fewer chunks are free than the table wants.
    low: bool,
    /// Where the sweep of deleted snapshots is, if one is under way.
    sweep: Option<Chunk>,
}

/// The worker's last word on everything that status shows.
#[pin_data]
pub(super) struct Published {
    store_type: &'static str,
    chunk_sectors: u32,
    /// A leaf, held for a copy only.
    #[pin]
    numbers: SpinLock<Option<Numbers>>,
    /// The id ranges as text. A leaf, held for a copy only.
    #[pin]
    ids: SpinLock<IdText>,
    /// The text is out of date.
    ids_stale: Atomic<bool>,
}

struct IdText {
    text: KVVec<u8>,
}

impl Published {
    pub(super) fn new(store_type: &'static str, chunk_sectors: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            store_type,
            chunk_sectors,
            numbers <- new_spinlock!(None),
            ids <- new_spinlock!(IdText {
                // Reserved now, so that the worker never needs memory for it.
                text: KVVec::with_capacity(IDS_MAX + 64, GFP_KERNEL)?,
            }),
            ids_stale: Atomic::new(true),
        }? Error)
    }

    /// The live ids have changed.
    pub(super) fn ids_stale(&self) {
        self.ids_stale.store(true, Release);
    }

    /// To be called by the worker after each round; `low` if fewer chunks are free than wanted.
    pub(super) fn update<W: World>(&self, machine: &mut Machine<W>, low: bool) {
        let (mode, counts) = (machine.mode(), machine.counts());
        let sweeping = machine.is_sweeping();
        let store = machine.store();
        let numbers = Numbers {
            mode,
            needs_check: store.needs_check(),
            space: store.space(),
            counts,
            live: store.live_ids(),
            low,
            sweep: sweeping.then(|| store.sweep_position()),
        };
        *self.numbers.lock() = Some(numbers);
        if self.ids_stale.load(Acquire) {
            self.ids_stale.store(false, Release);
            self.ids_changed(store);
        }
    }

    /// Writes the ranges of live ids anew: `1-9999,10001.3`, cut with `...`.
    pub(super) fn ids_changed(&self, store: &mut dyn ExceptionStore) {
        let mut ids = self.ids.lock();
        ids.text.truncate(0);
        let mut from = SnapId(0);
        while let Some((low, high)) = store.live_range(from) {
            if ids.text.len() + 64 > IDS_MAX {
                ids.push_str("...");
                break;
            }
            let comma = if ids.text.is_empty() { "" } else { "," };
            let _ = if low == high {
                write!(ids, "{comma}{low}")
            } else {
                write!(ids, "{comma}{low}-{high}")
            };
            let Some(next) = high.0.checked_add(1) else {
                break;
            };
            from = SnapId(next);
        }
    }

    /// Writes the INFO line.
    pub(super) fn info(&self, out: &mut Text<'_>, brief: &Brief) {
        let Some(n) = *self.numbers.lock() else {
            return;
        };
        let mode = match n.mode {
            Mode::Rw => "rw",
            Mode::Full => "full",
            Mode::Ro => "ro",
            Mode::Fail => "fail",
        };
        let check = if n.needs_check { "needs_check" } else { "-" };
        let _ = write!(out, "{mode} {check} ");
        let last = brief.last;
        let _ = match brief.pending {
            Some(id) => write!(out, "{id} "),
            None => write!(out, "- "),
        };
        let Space {
            used_chunks,
            total_chunks,
            metadata_chunks,
            metadata_blocks_used,
            metadata_blocks_free,
            log_blocks,
            log_used,
        } = n.space;
        let c = &n.counts;
        let _ = write!(
            out,
            "{last} {} {} {used_chunks}/{total_chunks} {metadata_chunks} \
             {metadata_blocks_used}/{} {log_used}/{log_blocks} {} {} {} {} {} {} {} {} ",
            self.store_type,
            self.chunk_sectors,
            metadata_blocks_used + metadata_blocks_free,
            c.read_errors,
            c.write_errors,
            c.meta_errors,
            c.copies,
            c.copied_chunks,
            c.commits,
            c.checkpoints,
            c.lost,
        );
        let _ = out.write_str(if n.low { "low " } else { "- " });
        let _ = match brief.sync {
            Some(Ok(())) => write!(out, "done "),
            Some(Err(e)) => write!(out, "failed:{} ", -e.to_errno()),
            None => write!(out, "- "),
        };
        let _ = match n.sweep {
            Some(at) => write!(out, "{} ", at.0),
            None => write!(out, "- "),
        };
        let _ = write!(out, "{} ", n.live);
        let ids = self.ids.lock();
        let text = core::str::from_utf8(&ids.text).unwrap_or("");
        let _ = out.write_str(if text.is_empty() { "-" } else { text });
    }
}

impl IdText {
    fn push_str(&mut self, text: &str) {
        // The room was reserved: this neither allocates nor fails.
        let _ = self.text.extend_from_slice(text.as_bytes(), GFP_NOWAIT);
    }
}

impl core::fmt::Write for IdText {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

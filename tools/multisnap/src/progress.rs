// SPDX-License-Identifier: GPL-2.0

//! How far something has come, for whoever watches a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on stderr; nothing if that is no terminal.
pub struct Progress {
    bar: ProgressBar,
    /// What was done and not told yet.
    pending: u64,
}

/// What is told at once.
const STEP: u64 = 256;

impl Progress {
    /// Begins something that takes about `total` steps.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        // It is a constant, and right.
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Self { bar, pending: 0 }
    }

    /// So many steps were made.
    pub fn step(&mut self, n: u64) {
        self.pending = self.pending.saturating_add(n);
        if self.pending >= STEP {
            self.bar.inc(self.pending);
            self.pending = 0;
        }
    }

    /// It is at step `n` now.
    pub fn at(&mut self, n: u64) {
        self.bar.set_position(n);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

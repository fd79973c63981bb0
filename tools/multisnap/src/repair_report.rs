// SPDX-License-Identifier: GPL-2.0

//! What a repair has done, for people and for programs.

use crate::{check_report::Damage, size};
use serde::Serialize;

/// Losses that are told one by one; more are counted.
const TOLD_MAX: usize = 1000;

/// What a repair has done.
#[derive(Default, Serialize)]
pub struct Report {
    /// Name of the store.
    pub store: String,
    /// Name of the new store.
    pub out: String,
    /// Snapshots that are there again.
    pub snapshots: u64,
    /// Records that were brought over.
    pub records: u64,
    /// What is lost; no more than the first 1000 of them.
    pub lost: Vec<Damage>,
    /// How many there are.
    pub losses: u64,
    /// What is told besides.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds something that is lost.
    pub fn lose(&mut self, damage: Damage) {
        self.losses = self.losses.saturating_add(1);
        if self.lost.len() < TOLD_MAX {
            self.lost.push(damage);
        }
    }

    /// For people.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            text += &format!("  note       {note}\n");
        }
        for damage in &self.lost {
            text += &format!("  lost       {}\n", damage.line());
        }
        let told = self.lost.len() as u64;
        if self.losses > told {
            text += &format!("  lost       and in {} more places\n", self.losses - told);
        }
        let saved = format!(
            "{} with {} and {}",
            self.out,
            size::count(self.snapshots, "snapshot"),
            size::count(self.records, "record")
        );
        match self.losses {
            0 => text + &format!("all was saved: {saved}\n"),
            _ => text + &format!("what is left was saved: {saved}\n"),
        }
    }
}

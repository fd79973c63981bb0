// SPDX-License-Identifier: GPL-2.0

//! Gives a device another table while it is in use.
//!
//! The table is loaded and made live by one call, in which the kernel suspends the device, waits
//! for what is under way and resumes it. No user space runs meanwhile, so that the command may
//! lie on that very device. No file system is frozen, since nothing is cut.

use super::memory::Locked;
use crate::{
    dm::{self, sys::Interrupts, wire::Target, Control},
    failure::words,
};
use std::{io, time::Duration};

/// While it lives, the memory of the process is locked and signals do not end it.
pub struct Swap<'a> {
    control: &'a Control,
    name: &'a str,
    timeout: Duration,
    interrupts: Interrupts,
    _locked: Locked,
}

impl<'a> Swap<'a> {
    /// Begins to work on the device `name`. What is under way there is waited for so long.
    pub fn begin(control: &'a Control, name: &'a str, timeout: Duration) -> Self {
        Self {
            _locked: Locked::begin(name),
            control,
            name,
            timeout,
            interrupts: Interrupts::begin(),
        }
    }

    /// Gives the device this table. If that fails before it is live, the old one is.
    pub fn to(&self, table: &[Target]) -> io::Result<()> {
        self.load(table)?;
        self.live()
    }

    /// Has a table ready.
    pub fn load(&self, table: &[Target]) -> io::Result<()> {
        self.control.load_all(self.name, table, false)
    }

    /// Drops the table that is ready.
    pub fn drop_loaded(&self) {
        let _ = self.control.clear(self.name);
    }

    /// Makes the table live that is ready. If that fails before it is, the old one is.
    pub fn live(&self) -> io::Result<()> {
        self.interrupts.timer(self.timeout);
        let result = self.control.resume(self.name, dm::SKIP_LOCKFS, 0);
        self.interrupts.timer(Duration::ZERO);
        if result.is_err() {
            self.drop_loaded();
        }
        result
    }

    /// Whether it is suspended, which it stays if a table could not be started.
    pub fn is_suspended(&self) -> bool {
        let info = self.control.info(self.name);
        info.is_ok_and(|info| info.flags & dm::SUSPENDED != 0)
    }

    /// Has it go on, with the table that is live. If it does not, what it is like.
    pub fn settle(&self) -> Option<Stuck> {
        if !self.is_suspended() {
            return None;
        }
        let e = self.control.resume(self.name, 0, 0).err()?;
        let kind = self.kind().unwrap_or_else(|| "no".to_owned());
        Some(Stuck {
            what: format!(
                "it is suspended with a table of {kind}, so that whoever uses it waits, and cannot \
                 be resumed: {}",
                words(&e)
            ),
            then: format!(
                "mend what the kernel log names (dmesg | tail), then: dmsetup resume {}",
                self.name
            ),
        })
    }

    /// The target that is live.
    pub fn kind(&self) -> Option<String> {
        let table = self.control.table(self.name).ok()?;
        table.map(|target| target.kind)
    }

    /// Whether somebody wants the process to end.
    pub fn stopped(&self) -> bool {
        self.interrupts.stopped()
    }
}

/// A device that does not go on.
pub struct Stuck {
    /// What it is like.
    pub what: String,
    /// The way out.
    pub then: String,
}

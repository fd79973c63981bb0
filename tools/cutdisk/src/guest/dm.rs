// SPDX-License-Identifier: GPL-2.0

//! Device-mapper, by its command.

use anyhow::{bail, Context, Result};
use std::{process::Command, thread, time::Duration};

/// A mapped device, which is removed when it is dropped.
pub struct Mapped {
    name: String,
}

impl Mapped {
    /// Creates it.
    pub fn new(name: &str, table: &str) -> Result<Self> {
        dmsetup(&["create", name, "--table", table])?;
        Ok(Mapped { name: name.into() })
    }

    /// Where its node is.
    pub fn path(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// Sends a message; answers its result.
    pub fn message(&self, words: &[&str]) -> Result<String> {
        let mut args = vec!["message", &*self.name, "0"];
        args.extend(words);
        dmsetup(&args)
    }

    /// Suspends it.
    pub fn suspend(&self) -> Result<()> {
        dmsetup(&["suspend", &self.name]).map(drop)
    }

    /// Resumes it.
    pub fn resume(&self) -> Result<()> {
        dmsetup(&["resume", &self.name]).map(drop)
    }

    /// Its status line.
    pub fn status(&self) -> Result<String> {
        dmsetup(&["status", &self.name])
    }

    /// Removes it; that must work.
    pub fn remove(self) -> Result<()> {
        let name = self.name.clone();
        std::mem::forget(self);
        // Somebody may still be about to close it.
        for _ in 0..50 {
            match dmsetup(&["remove", &name]) {
                Err(e) if format!("{e}").contains("busy") => {
                    thread::sleep(Duration::from_millis(20));
                }
                result => return result.map(drop),
            }
        }
        bail!("{name} stays in use")
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = dmsetup(&["remove", "--force", &self.name]);
    }
}

/// Removes whatever is left.
pub fn remove_all() {
    let _ = dmsetup(&["remove_all"]);
}

fn dmsetup(args: &[&str]) -> Result<String> {
    let output = Command::new("dmsetup")
        .args(args)
        .output()
        .context("cannot run dmsetup")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    bail!("dmsetup {}: {}", args.join(" "), error.trim())
}

/// Whether the last snapshot, which was to get this id, was created, by the origin's status.
pub fn created(status: &str, id: &str) -> Result<bool> {
    let last = status.split_whitespace().nth(6).unwrap_or_default();
    match last.split_once(':') {
        Some(("created", other)) if other == id => Ok(true),
        Some(("failed", _)) => Ok(false),
        _ => bail!("snapshot {id} was not created: {status}"),
    }
}

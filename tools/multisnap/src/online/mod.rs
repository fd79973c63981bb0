// SPDX-License-Identifier: GPL-2.0

//! Commands that work on loaded origins, through the module.

pub mod activate;
mod columns;
mod config;
pub mod create;
mod cut;
pub mod deactivate;
pub mod disable;
pub mod enable;
mod glob;
pub mod grow;
mod hidden;
mod info;
mod keep;
mod line;
pub mod list;
mod lock;
mod memory;
mod metrics;
pub mod prune;
pub mod remove;
pub mod rename;
mod rows;
pub mod snapshot;
mod space;
pub mod start;
pub mod status;
pub mod stop;
mod swap;
mod sweep;
pub mod system;
pub mod take_out;
pub mod thaw;
pub mod under;
mod volume;
mod when;

use crate::{
    dm::{klog::Log, Control},
    failure::{words, Failure},
};
use info::Info;
use lock::Lock;
use std::{io, path::Path};
use volume::{Devices, Volume};

/// An origin that something is to be done to.
pub struct At {
    control: Control,
    volume: Volume,
    devices: Devices,
    /// Nobody else does anything to it meanwhile.
    lock: Option<Lock>,
    log: Log,
}

impl At {
    /// Finds the origin that `word` means.
    fn find(word: &str) -> Result<Self, Failure> {
        let control = Control::open()?;
        let origin = Devices::find(&control)?.volume(word)?.line.origin;
        let lock = Lock::take(origin)?;
        // What was there before the lock was ours may have changed.
        let devices = Devices::find(&control)?;
        let volume = devices.volume(word)?.clone();
        Ok(Self {
            control,
            volume,
            devices,
            lock: Some(lock),
            log: Log::listen(),
        })
    }

    /// Lets others do something to the origin.
    fn unlock(&mut self) {
        self.lock = None;
    }

    /// What its status line says.
    fn info(&self) -> Result<Info, Failure> {
        info(&self.control, &self.volume)
    }

    /// Why something could not be done: what the module has said of it, or else the error.
    fn failed(&mut self, doing: &str, e: &io::Error, then: impl Into<String>) -> Failure {
        let name = self.volume.name.clone();
        self.failed_for(&name, doing, e, then)
    }

    /// The same for another mapped device.
    fn failed_for(
        &mut self,
        name: &str,
        doing: &str,
        e: &io::Error,
        then: impl Into<String>,
    ) -> Failure {
        because(&mut self.log, name, doing, e, then)
    }
}

/// What the status line of an origin says.
fn info(control: &Control, volume: &Volume) -> Result<Info, Failure> {
    let status = control.status(&volume.name).map_err(|e| {
        let then = "see which are started: multisnap list";
        volume.failure(format!("does not tell its status: {}", words(&e)), then)
    })?;
    let info = status.and_then(|status| Info::parse(&status.args));
    info.ok_or_else(|| {
        let what = "tells nothing: it was not resumed yet, or the module is of another version";
        volume.failure(what, format!("resume it: dmsetup resume {}", volume.name))
    })
}

/// Why something could not be done to the mapped device `name`: what the module has said of it, or
/// else the error.
fn because(
    log: &mut Log,
    name: &str,
    doing: &str,
    e: &io::Error,
    then: impl Into<String>,
) -> Failure {
    let why = log.said(name).unwrap_or_else(|| words(e));
    Failure::new(Path::new(name), format!("{doing}: {why}"), then)
}

/// Fails if the kernel has no such target.
fn need_target(control: &Control, kind: &str) -> Result<(), Failure> {
    if control.has_target(kind) {
        return Ok(());
    }
    let what = "is not known to this kernel";
    let then = "load the module: modprobe dm-multisnapshot";
    Err(Failure::new(Path::new(kind), what, then))
}

/// What to do when the kernel knows more.
const SEE_LOG: &str = "see the kernel log: dmesg | tail";

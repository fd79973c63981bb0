// SPDX-License-Identifier: GPL-2.0

//! Keeps the memory of the process where it is.

use crate::{failure::words, out};
use rustix::mm::{mlockall, munlockall, MlockAllFlags};

/// While it lives, no page of the process has to be read: while a device is suspended there may be no
/// disk to read it from.
pub struct Locked(());

impl Locked {
    /// Locks it. If that cannot be, a line says what that means for the device `name`.
    pub fn begin(name: &str) -> Self {
        if let Err(e) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
            out::warn(&format!(
                "memory cannot be locked ({}): if the system runs from {name}, this may never end; \
                 run it as root with CAP_IPC_LOCK, or say first: ulimit -l unlimited",
                words(&e.into())
            ));
        }
        Self(())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = munlockall();
    }
}

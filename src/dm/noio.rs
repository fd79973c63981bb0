// SPDX-License-Identifier: GPL-2.0

//! Allocations that must not start I/O.

use super::ffi;
use kernel::{
    ffi::c_uint,
    types::NotThreadSafe, //
};

/// While it exists, no allocation of this thread starts I/O or waits for it, whatever its flags.
///
/// Guards are to be dropped in reverse order, as locals are.
#[must_use = "the scope ends when the guard is dropped"]
pub(crate) struct NoIo {
    flags: c_uint,
    _here: NotThreadSafe,
}

impl NoIo {
    /// Begins the scope.
    pub(crate) fn enter() -> Self {
        Self {
            // SAFETY: It changes a flag of the current thread.
            flags: unsafe { ffi::ms_noio_save() },
            _here: NotThreadSafe,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: We are on the thread that saved them: the guard cannot be sent.
        unsafe { ffi::ms_noio_restore(self.flags) };
    }
}

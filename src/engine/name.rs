// SPDX-License-Identifier: GPL-2.0

//! What our messages call a mapped device.

use crate::dm::{
    device::DevT,
    target::NewTarget, //
};
use core::fmt;
use kernel::prelude::*;

/// Name and number of a mapped device, such as `vg-home (253:3)`.
#[derive(Clone, Copy)]
pub(super) struct Name {
    text: [u8; 128],
    dev: DevT,
}

impl Name {
    /// The name of the device that a table is loaded for.
    pub(super) fn of(ti: &NewTarget<'_>) -> Self {
        let mut text = [0; 128];
        // Without a name the number has to do.
        let _ = ti.mapped_name(&mut text);
        Name {
            text,
            dev: ti.mapped_dev(),
        }
    }

    /// The number of the device.
    pub(super) fn dev(&self) -> DevT {
        self.dev
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.text.iter().position(|&c| c == 0).unwrap_or(0);
        for &c in self.text.iter().take(len) {
            let c = if c.is_ascii_graphic() { c as char } else { '?' };
            write!(f, "{c}")?;
        }
        write!(f, " ({})", self.dev)
    }
}

/// Logs one line of ours at the named level of `pr_*`.
macro_rules! say {
    ($level:ident, $($text:tt)*) => {
        // The kernel's macros want `kernel::fmt::Display`; the text's parts have that of `core`.
        kernel::$level!("{}\n", format_args!($($text)*))
    };
}

/// Says in one line of ours why a device is refused, and gives back the error.
macro_rules! refuse {
    ($name:expr, $errno:expr, $($text:tt)*) => {{
        say!(pr_err, "{}: {}", $name, format_args!($($text)*));
        $errno
    }};
}

pub(super) use {refuse, say};

/// Says why a device of a table cannot be used, and gives back the error.
pub(super) fn cannot_open(name: &Name, what: &str, dev: &dyn fmt::Display, e: Error) -> Error {
    if e == EROFS {
        return refuse!(
            name,
            e,
            "the {what} device {dev} is read-only: make it writable, or load with --readonly"
        );
    }
    let errno = e.to_errno();
    refuse!(
        name,
        e,
        "cannot open the {what} device {dev}: error {errno}"
    )
}

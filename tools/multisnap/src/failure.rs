// SPDX-License-Identifier: GPL-2.0

//! Why something cannot be done, and how a run ends.

use multisnap_store::image::Refusal;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is well.
    Good,
    /// The store is damaged, or something of it is lost.
    Damaged,
    /// It could not be done.
    Failed,
    /// The store is sound, but was not stopped in good order.
    Unclean,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::Good => 0,
            Code::Damaged => 1,
            Code::Failed => 2,
            Code::Unclean => 3,
        })
    }
}

/// Why something cannot be done: one line that names the device and says what to do.
#[derive(Debug)]
pub enum Failure {
    /// What is wrong with a device, and what to do.
    Device {
        /// Its name.
        device: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        then: String,
        /// How the run ends.
        code: Code,
    },
    /// Whoever reads the output has gone away.
    Pipe,
}

impl Failure {
    /// Something is wrong with `device`; `then` says what to do.
    pub fn new(device: &Path, what: impl Into<String>, then: impl Into<String>) -> Self {
        Self::Device {
            device: device.to_path_buf(),
            what: what.into(),
            then: then.into(),
            code: Code::Failed,
        }
    }

    /// As [`new`](Self::new), where something is damaged or lost.
    pub fn damage(device: &Path, what: impl Into<String>, then: impl Into<String>) -> Self {
        Self::Device {
            device: device.to_path_buf(),
            what: what.into(),
            then: then.into(),
            code: Code::Damaged,
        }
    }

    /// `device` could not be read or written.
    pub fn io(device: &Path, doing: &str, e: &io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::Pipe;
        }
        let then = match e.kind() {
            io::ErrorKind::PermissionDenied => "try as root",
            io::ErrorKind::NotFound => "see lsblk for the names of devices",
            io::ErrorKind::AlreadyExists => "say another name, or remove it first",
            io::ErrorKind::StorageFull => "make room there, or say another place",
            _ => "see the kernel log: dmesg",
        };
        Self::new(device, format!("{doing}: {}", words(e)), then)
    }

    /// `device` was refused as a store.
    pub fn refused(device: &Path, refusal: &Refusal) -> Self {
        let name = device.display();
        match refusal {
            Refusal::Blank | Refusal::Foreign | Refusal::Rest | Refusal::TooSmall => Self::new(
                device,
                refusal.to_string(),
                "see which stores are started: multisnap list",
            ),
            Refusal::Damaged(..) | Refusal::CutShort { .. } => Self::damage(
                device,
                refusal.to_string(),
                format!("see what is wrong: multisnap check {name}"),
            ),
            Refusal::Io => Self::new(device, refusal.to_string(), "see the kernel log: dmesg"),
            Refusal::Other(_) => Self::new(
                device,
                refusal.to_string(),
                "see the options: multisnap help",
            ),
        }
    }

    /// How the run ends.
    pub fn code(&self) -> Code {
        match self {
            Self::Device { code, .. } => *code,
            Self::Pipe => Code::Good,
        }
    }
}

/// What the system says of an error, without its number.
pub fn words(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device {
                device, what, then, ..
            } => write!(f, "{} {what}; {then}", device.display()),
            Self::Pipe => f.write_str("nobody reads the output"),
        }
    }
}

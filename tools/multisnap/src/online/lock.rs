// SPDX-License-Identifier: GPL-2.0

//! One command at a time changes what belongs to an origin.

use crate::{dm::wire::Dev, failure::Failure};
use rustix::fs::{flock, FlockOperation};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// Where the locks are; gone after a restart, as are the devices.
const DIR: &str = "/run/multisnap";

/// How long another command is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Held until it is dropped. Early at boot there may be no place for one; then there is nobody
/// else either.
pub struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Waits for the lock of an origin, which is told by its plain device.
    pub fn take(origin: Dev) -> Result<Self, Failure> {
        let path = PathBuf::from(format!("{DIR}/{origin}.lock"));
        Self::take_at(&path, PATIENCE)
    }

    /// Waits for the lock of an origin's file. Who has that of an origin as well has taken it before.
    pub fn take_file(name: &str) -> Result<Self, Failure> {
        let path = PathBuf::from(format!("{DIR}/{name}.conf.lock"));
        Self::take_at(&path, PATIENCE)
    }

    fn take_at(path: &Path, patience: Duration) -> Result<Self, Failure> {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let mut open = OpenOptions::new();
        let file = made.and_then(|()| open.create(true).append(true).open(path));
        let Ok(file) = file else {
            return Ok(Self { _file: None });
        };
        let end = Instant::now() + patience;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= end {
                let what = "is held by another multisnap";
                let then = format!(
                    "see which one it is, and try again: fuser -v {}",
                    path.display()
                );
                return Err(Failure::new(path, what, then));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(Self { _file: Some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_it() {
        let dir = std::env::temp_dir().join(format!("multisnap-lock-{}", std::process::id()));
        let path = dir.join("8:1.lock");
        let first = Lock::take_at(&path, Duration::ZERO).unwrap();
        assert!(Lock::take_at(&path, Duration::from_millis(60)).is_err());
        drop(first);
        assert!(Lock::take_at(&path, Duration::ZERO).is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }
}

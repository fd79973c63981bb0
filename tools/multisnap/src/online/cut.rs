// SPDX-License-Identifier: GPL-2.0

//! The cut of a snapshot: the device is suspended, which freezes its file system, and resumed.
//!
//! For the origin both are one call: the table that it has is loaded again, and made live. So no
//! user space runs while it is suspended, and the kernel itself undoes all of it when a signal or
//! the timer comes.
//!
//! A snapshot of which one is made must be suspended by a call of its own, if its file system is
//! to be frozen, and resumed by another one. Another process sees to it that it is, see
//! [`super::thaw`].

use super::{memory::Locked, thaw::Guard, volume::Active, At, SEE_LOG};
use crate::{
    dm::{self, node, sys::Interrupts},
    failure::Failure,
};
use multisnap_store::image::SnapshotId;
use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

/// How a cut is made.
pub struct How {
    /// How long the device may be suspended, and the suspension wait for.
    pub timeout: Duration,
    /// Freeze the file system.
    pub freeze: bool,
}

impl How {
    fn flags(&self) -> u32 {
        if self.freeze {
            0
        } else {
            dm::SKIP_LOCKFS
        }
    }
}

/// Asks for a snapshot with `message` and cuts it; `parents` are the devices of what it is a
/// snapshot of. If that fails there is none, and nothing is suspended that was not before.
pub fn cut(
    at: &mut At,
    message: &str,
    parents: &[Active],
    how: &How,
) -> Result<SnapshotId, Failure> {
    let name = at.volume.name.clone();
    let flags = at.control.info(&name).map(|info| info.flags);
    let flags =
        flags.map_err(|e| at.failed("is gone", &e, "see which there are: multisnap list"))?;
    if flags & dm::INACTIVE != 0 {
        let what = "has another table loaded, which this would make live";
        let then = format!("drop it: multisnap snapshot {name} --cancel");
        return Err(at.volume.failure(what, then));
    }
    // Between suspension and resume the machine may have no disk to read a page from.
    let _locked = Locked::begin(&at.volume.name);
    if flags & dm::SUSPENDED != 0 {
        // Then the message itself is the cut.
        ask(at, message)
    } else {
        load_and_cut(at, message, parents, how)
    }
}

fn ask(at: &mut At, message: &str) -> Result<SnapshotId, Failure> {
    let name = at.volume.name.clone();
    let answer = at.control.message(&name, message).map_err(|e| {
        let then = match e.raw_os_error() {
            Some(libc::EBUSY) => format!("drop what waits: multisnap snapshot {name} --cancel"),
            Some(libc::ENOSPC) => format!("see what can go: multisnap list {name}"),
            Some(libc::EIO) => format!("see its state: multisnap status {name}"),
            _ => SEE_LOG.to_owned(),
        };
        at.failed("cannot make a snapshot", &e, then)
    })?;
    answer.trim().parse().map_err(|why| {
        at.volume
            .failure(format!("has answered with no id: {why}"), SEE_LOG)
    })
}

fn load_and_cut(
    at: &mut At,
    message: &str,
    parents: &[Active],
    how: &How,
) -> Result<SnapshotId, Failure> {
    let name = at.volume.name.clone();
    let interrupts = Interrupts::begin();
    let table = at.volume.table();
    let loaded = at.control.load(&name, &table, at.volume.is_read_only());
    loaded.map_err(|e| at.failed("cannot load its own table again", &e, SEE_LOG))?;
    let id = match ask(at, message) {
        Ok(id) => id,
        Err(failure) => {
            let _ = at.control.clear(&name);
            return Err(failure);
        }
    };
    let result = suspend_and_resume(at, parents, how, &interrupts);
    outcome(at, id, result, how, &interrupts)
}

/// Suspends the parents and the origin, and resumes them in the other order. Tells which parent somebody
/// else has resumed meanwhile.
fn suspend_and_resume<'a>(
    at: &At,
    parents: &'a [Active],
    how: &How,
    interrupts: &Interrupts,
) -> io::Result<Option<&'a str>> {
    // Whoever has suspended one already resumes it himself.
    let running = parents.iter().filter(|it| it.flags & dm::SUSPENDED == 0);
    let names: Vec<&str> = running.map(|parent| parent.name.as_str()).collect();
    let guard = Guard::begin(&names, how.timeout.saturating_add(Duration::from_secs(1)))?;
    interrupts.timer(how.timeout);
    let begin = Instant::now();
    let mut suspended: Vec<&str> = Vec::new();
    let mut result = Ok(());
    for name in names {
        result = at.control.suspend(name, how.flags());
        if result.is_err() {
            break;
        }
        suspended.push(name);
        // Nothing interrupts a file system that is being frozen.
        if begin.elapsed() >= how.timeout || interrupts.stopped() {
            result = Err(io::Error::from_raw_os_error(libc::EINTR));
            break;
        }
    }
    if result.is_ok() {
        result = at.control.resume(&at.volume.name, how.flags(), 0);
    }
    interrupts.timer(Duration::ZERO);
    let mut resumed = None;
    for name in suspended {
        if !is_suspended(at, name) {
            resumed = Some(name);
        }
        resume(at, name, node::NO_LINKS);
    }
    // It fails if the new table could not be started; the device is suspended then.
    if is_suspended(at, &at.volume.name) {
        resume(at, &at.volume.name, 0);
    }
    guard.end();
    result.map(|()| resumed)
}

fn is_suspended(at: &At, name: &str) -> bool {
    let info = at.control.info(name);
    info.is_ok_and(|info| info.flags & dm::SUSPENDED != 0)
}

/// Resumes a device, whatever comes; `rules` is for udev.
fn resume(at: &At, name: &str, rules: u32) {
    for _ in 0..50 {
        match at.control.resume(name, 0, rules) {
            Ok(()) => return,
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return,
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
    crate::out::warn(&format!(
        "{name} cannot be resumed; try it yourself: dmsetup resume {name}"
    ));
}

/// What has become of the snapshot.
fn outcome(
    at: &mut At,
    id: SnapshotId,
    result: io::Result<Option<&str>>,
    how: &How,
    interrupts: &Interrupts,
) -> Result<SnapshotId, Failure> {
    let name = at.volume.name.clone();
    let info = at.info();
    let waits = !info.as_ref().is_ok_and(|info| info.pending.is_none());
    let last = info
        .ok()
        .and_then(|info| info.last_create)
        .unwrap_or_default();
    if !waits && last == format!("created:{id}") {
        let Ok(Some(parent)) = result else {
            return Ok(id);
        };
        let what = format!("has snapshot {id}, but {parent} was resumed before that was made");
        let then = format!("make another one, and remove this: multisnap remove {name} {id}");
        return Err(at.volume.failure(what, then));
    }
    let failure = match result {
        Ok(_) => {
            let why = last.strip_prefix("failed:");
            let why = why.and_then(|errno| errno.parse().ok());
            let e = io::Error::from_raw_os_error(why.unwrap_or(libc::EIO));
            let then = format!("see its state: multisnap status {name}");
            at.failed(&format!("has no snapshot {id}"), &e, then)
        }
        Err(e) if e.raw_os_error() == Some(libc::EINTR) => given_up(at, how, interrupts),
        Err(e) => at.failed("cannot be suspended and resumed", &e, SEE_LOG),
    };
    // After the module was asked what it has said, since it says so if nothing waits.
    if waits {
        let _ = at.control.message(&name, "cancel");
    }
    let _ = at.control.clear(&name);
    Err(failure)
}

/// What is said of a cut that was interrupted.
fn given_up(at: &At, how: &How, interrupts: &Interrupts) -> Failure {
    if interrupts.stopped() {
        let what = "has no snapshot: a signal came; nothing is changed";
        return at.volume.failure(what, "say it again");
    }
    let what = format!(
        "has no snapshot: I/O that is under way did not end in {} s; nothing is changed",
        how.timeout.as_secs()
    );
    let name = &at.volume.name;
    let then = format!(
        "see what is slow: iostat -x 1; wait longer: multisnap snapshot {name} --timeout 600"
    );
    at.volume.failure(what, then)
}

/// Drops a create that waits for a suspend which nobody has made, and a table that waits with it.
pub fn cancel(at: &mut At) -> Result<(), Failure> {
    let name = at.volume.name.clone();
    let flags = at.control.info(&name).map_or(0, |info| info.flags);
    let table = flags & dm::INACTIVE != 0;
    let cleared = if table {
        at.control.clear(&name)
    } else {
        Ok(())
    };
    let cancelled = at.control.message(&name, "cancel").map(drop);
    match cleared.and(cancelled) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) && table => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            let then = format!("make one: multisnap snapshot {name}");
            Err(at.volume.failure("has no snapshot that waits", then))
        }
        Err(e) => Err(at.failed("cannot drop what waits", &e, SEE_LOG)),
        Ok(()) => Ok(()),
    }
}

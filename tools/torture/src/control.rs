// SPDX-License-Identifier: GPL-2.0

//! What is done to the devices while I/O goes on.

use crate::{dm, io::Shared, model::Shown, rng::Rng, volume::Volume, Faults, MOST};
use std::{
    io,
    sync::atomic::Ordering::Relaxed,
    thread::sleep,
    time::Duration, //
};

/// One change, of volumes by number.
#[derive(Debug)]
pub enum Step {
    /// Cuts a snapshot of the origin or, if told, of a snapshot.
    Cut {
        /// Which one.
        parent: Option<usize>,
        /// The device is suspended first.
        suspended: bool,
        /// How it is suspended.
        flags: u32,
    },
    /// Suspends and resumes.
    Suspend(usize, u32),
    /// Loads the same table, or drops it again.
    Reload(usize, bool),
    /// Gives another name.
    Name(usize),
    /// Deletes a snapshot that is not mapped.
    Delete(usize),
    /// Asks for status and list.
    Look,
}

/// What has become of the volumes.
#[derive(Default)]
pub struct Changes {
    /// Snapshots that were cut: id and content.
    pub made: Vec<(String, Shown)>,
    /// Those whose deletion was asked for, and whether that went well.
    pub deleted: Vec<(usize, bool)>,
    /// Ids of creates that failed: they may exist or not.
    pub doubtful: Vec<String>,
    /// Creates that failed without an id: each may have made one all the same.
    pub nameless: usize,
}

/// Chooses the changes of a round. Without `subs` there are no snapshots of snapshots.
pub fn plan(rng: &mut Rng, volumes: &[Volume], count: u64, subs: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut deleted = Vec::new();
    let mut live = volumes.len() - 1;
    let flags = |rng: &mut Rng| *rng.pick(&[0, 0, dm::SKIP_LOCKFS, dm::NOFLUSH]);
    for _ in 0..count {
        let any = rng.below(volumes.len() as u64) as usize;
        let snaps: Vec<usize> = (1..volumes.len())
            .filter(|n| !deleted.contains(n))
            .collect();
        let closed: Vec<usize> = snaps
            .iter()
            .copied()
            .filter(|&n| volumes[n].device.is_none())
            .collect();
        let parents: Vec<usize> = snaps
            .iter()
            .copied()
            .filter(|&n| subs && !volumes[n].is_sub())
            .collect();
        let step = match rng.below(20) {
            0..8 if live < MOST => {
                live += 1;
                let parent = (rng.chance(40) && !parents.is_empty()).then(|| *rng.pick(&parents));
                let suspended = rng.chance(50);
                let flags = flags(rng);
                Step::Cut {
                    parent,
                    suspended,
                    flags,
                }
            }
            0..13 if !closed.is_empty() && (live > MOST / 2 || rng.chance(50)) => {
                let n = *rng.pick(&closed);
                deleted.push(n);
                live -= 1;
                Step::Delete(n)
            }
            13..15 if !snaps.is_empty() => Step::Name(*rng.pick(&snaps)),
            15 | 16 if volumes[any].device.is_some() => Step::Reload(any, rng.chance(70)),
            17 | 18 if volumes[any].device.is_some() => Step::Suspend(any, flags(rng)),
            _ => Step::Look,
        };
        steps.push(step);
    }
    steps
}

/// Takes the steps, spread over a round in which `shared.done` grows by `ops`.
pub fn run(shared: &Shared, volumes: &[Volume], steps: &[Step], ops: u64) -> Changes {
    let mut changes = Changes::default();
    let begin = shared.done.load(Relaxed);
    let each = ops / (steps.len() as u64 + 1);
    for (n, step) in steps.iter().enumerate() {
        // The last operations may be lost to an error.
        while shared.done.load(Relaxed) < begin + each * n as u64 && !shared.failed.load(Relaxed) {
            sleep(Duration::from_millis(1));
        }
        if shared.failed.load(Relaxed) {
            break;
        }
        if let Err(e) = take(shared, volumes, step, &mut changes) {
            if !matches!(shared.faults, Faults::Broken) {
                shared.wrong(format!("{step:?}: {e}"));
            }
        }
    }
    changes
}

fn take(shared: &Shared, volumes: &[Volume], step: &Step, changes: &mut Changes) -> io::Result<()> {
    let origin = &volumes[0];
    let pause = |name: &str, flags| suspend(shared, name, flags).and_then(|()| dm::resume(name));
    match *step {
        Step::Cut {
            parent,
            suspended,
            flags,
        } => {
            let words = match parent {
                Some(n) => format!("create_subsnap {}", volumes[n].id),
                None => "create torture".to_owned(),
            };
            cut(
                shared,
                origin,
                &volumes[parent.unwrap_or(0)],
                &words,
                suspended,
                flags,
                changes,
            )
        }
        Step::Suspend(n, flags) => pause(&volumes[n].name, flags),
        Step::Reload(n, live) => {
            let volume = &volumes[n];
            volume.reload()?;
            if live {
                pause(&volume.name, 0)
            } else {
                dm::clear(&volume.name)
            }
        }
        Step::Name(n) => {
            dm::message(&origin.name, &format!("name {} other", volumes[n].id)).map(|_| ())
        }
        Step::Delete(n) => {
            let result = dm::message(&origin.name, &format!("delete {}", volumes[n].id));
            changes.deleted.push((n, result.is_ok()));
            result.map(|_| ())
        }
        Step::Look => {
            dm::status(&origin.name)?;
            dm::message(&origin.name, "list 0 5").map(|_| ())
        }
    }
}

/// Suspends a device. What the page cache could not write fails that, once for each such write.
fn suspend(shared: &Shared, name: &str, flags: u32) -> io::Result<()> {
    let mut result = dm::suspend(name, flags);
    for _ in 0..10 {
        if result.is_ok() || shared.faults == Faults::None {
            break;
        }
        sleep(Duration::from_millis(10));
        result = dm::suspend(name, flags);
    }
    result
}

fn cut(
    shared: &Shared,
    origin: &Volume,
    parent: &Volume,
    words: &str,
    suspended: bool,
    flags: u32,
    changes: &mut Changes,
) -> io::Result<()> {
    let name = &origin.name;
    // A snapshot of a snapshot is cut by the worker, and the resume waits for that.
    let is_sub = !parent.id.is_empty();
    // The origin is never left suspended: all threads would wait for it.
    let (id, shown) = if suspended {
        suspend(shared, name, flags)?;
        parent.model.begin_cut();
        let id = dm::message(name, words);
        let resumed = is_sub.then(|| dm::resume(name));
        let shown = parent.model.end_cut();
        changes.nameless += usize::from(id.is_err());
        resumed.unwrap_or_else(|| dm::resume(name))?;
        (id?, shown)
    } else {
        let id = dm::message(name, words)?;
        parent.model.begin_cut();
        let done = suspend(shared, name, flags);
        let resumed = (is_sub && done.is_ok()).then(|| dm::resume(name));
        let shown = parent.model.end_cut();
        let result = done.and_then(|()| resumed.unwrap_or_else(|| dm::resume(name)));
        if let Err(e) = result {
            changes.doubtful.push(id);
            return Err(e);
        }
        (id, shown)
    };
    let last = dm::status(name)?.get(3).cloned().unwrap_or_default();
    if last != format!("created:{id}") {
        changes.doubtful.push(id);
        return Err(io::Error::other(format!("status says {last}")));
    }
    match shown {
        Some(shown) => changes.made.push((id, shown)),
        None => shared.wrong(format!("{words}: two cuts at once")),
    }
    Ok(())
}

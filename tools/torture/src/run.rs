// SPDX-License-Identifier: GPL-2.0

//! The rounds of a run, and what is checked between them.

use crate::{
    content::Buffer,
    control::{self, Changes},
    dm,
    io::{self, Shared, LONGEST},
    model::Shown,
    rng::Rng,
    volume::{How, Volume},
    Faults, Options,
};
use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
        Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

/// Position of what is wanted in the status line.
const MODE: usize = 0;
const SPACE: usize = 6;
const METADATA_CHUNKS: usize = 7;
const LOST: usize = 17;
const SWEEP: usize = 20;

/// How long a sweep may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long it may take until a device that is back is noticed.
const HEALED: Duration = Duration::from_secs(15);

/// Rounds after which it ends even if nobody says that it may.
const ROUNDS_MAX: u64 = 100;

struct Run<'a> {
    options: &'a Options,
    shared: Shared,
    rng: Rng,
    /// The origin comes first.
    volumes: Vec<Volume>,
    /// Ids that may exist or not: a create or a delete has failed.
    doubtful: BTreeSet<String>,
    /// Snapshots that may be there, of which only the number is known.
    nameless: usize,
    cuts: usize,
    deletes: usize,
    restarts: usize,
    /// Restarts without which the mode would not have become rw again.
    forced: usize,
}

/// Does all of it, and says what was done or what was wrong.
pub fn run(options: &Options) -> Result<String, String> {
    let begin = Instant::now();
    let arguments = format!(
        "{} {} {} {} {} 0",
        options.origin, options.store, options.chunk, options.generic, options.store_type
    );
    let shown = Shown::zeroes(options.sectors);
    let origin = Volume::new("", "multisnapshot", arguments, options, shown);
    let mut run = Run {
        options,
        shared: Shared {
            failed: AtomicBool::new(false),
            wrong: Mutex::new(Vec::new()),
            version: AtomicU32::new(1),
            done: AtomicU64::new(0),
            history: Mutex::default(),
            bad_writes: AtomicU64::new(0),
            bad_reads: AtomicU64::new(0),
            faults: options.faults,
        },
        rng: Rng::new(options.seed, u64::MAX),
        volumes: vec![origin],
        doubtful: BTreeSet::new(),
        nameless: 0,
        cuts: 0,
        deletes: 0,
        restarts: 0,
        forced: 0,
    };
    let mut mapped = run.volumes[0].map();
    for _ in 0..100 {
        if mapped.is_ok() || options.faults != Faults::Broken {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        mapped = run.volumes[0].map();
    }
    mapped.map_err(|e| format!("no origin: {e}"))?;
    let result = run.rounds().and_then(|()| run.end());
    let mut wrong = run
        .shared
        .wrong
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    wrong.extend(result.err());
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    Ok(format!(
        "{} operations, {} cuts, {} deletes, {} restarts, {} of them forced, {} writes and {} reads failed, {} s",
        run.shared.done.load(Relaxed),
        run.cuts,
        run.deletes,
        run.restarts,
        run.forced,
        run.shared.bad_writes.load(Relaxed),
        run.shared.bad_reads.load(Relaxed),
        begin.elapsed().as_secs()
    ))
}

impl Run<'_> {
    fn rounds(&mut self) -> Result<(), String> {
        let options = self.options;
        let enough = |round| {
            let early = !options.until.is_empty() && !Path::new(&options.until).exists();
            round >= options.rounds && (!early || round >= ROUNDS_MAX)
        };
        for round in (0..).take_while(|round| !enough(*round)) {
            self.open_and_close()?;
            self.round(round);
            if self.shared.failed.load(Relaxed) {
                return Err(format!("in round {round}"));
            }
            self.compare_ids()?;
            if self.options.restarts && self.rng.chance(30) {
                self.restart()?;
            }
        }
        Ok(())
    }

    /// Maps some snapshots, and unmaps others.
    fn open_and_close(&mut self) -> Result<(), String> {
        for n in 1..self.volumes.len() {
            let mapped = self.rng.chance(65);
            let volume = &mut self.volumes[n];
            let result = if mapped { volume.map() } else { volume.unmap() };
            if let Err(e) = result {
                if self.options.faults != Faults::Broken {
                    return Err(format!("{} is not mapped: {e}", volume.name));
                }
            }
        }
        Ok(())
    }

    fn round(&mut self, round: u64) {
        let Options {
            threads,
            ops,
            chunk,
            seed,
            ..
        } = *self.options;
        let count = 2 + self.rng.below(4);
        // A bitmask store has none.
        let subs = self.options.store_type == "btree";
        let steps = control::plan(&mut self.rng, &self.volumes, count, subs);
        let (shared, volumes) = (&self.shared, &self.volumes);
        let changes = thread::scope(|scope| {
            for n in 0..threads {
                let mut rng = Rng::new(seed, (round << 8) | n);
                scope.spawn(move || io::run(shared, volumes, chunk, ops, &mut rng));
            }
            control::run(shared, volumes, &steps, threads * ops)
        });
        self.change(changes);
    }

    fn change(&mut self, changes: Changes) {
        self.doubtful.extend(changes.doubtful);
        self.nameless += changes.nameless;
        let mut deleted = changes.deleted;
        deleted.sort_unstable();
        for (n, good) in deleted.into_iter().rev() {
            if good {
                self.volumes.remove(n);
                self.deletes += 1;
            } else {
                let id = self.volumes[n].id.clone();
                self.doubtful.insert(id);
            }
        }
        for (id, shown) in changes.made {
            self.cuts += 1;
            // Given again, after a create that failed.
            self.doubtful.remove(&id);
            let arguments = format!("{} {id}", self.options.origin);
            let snap = Volume::new(&id, "multisnap-snap", arguments, self.options, shown);
            self.volumes.push(snap);
        }
    }

    fn message(&self, words: &str) -> Result<String, String> {
        let name = &self.volumes[0].name;
        dm::message(name, words).map_err(|e| format!("message {words}: {e}"))
    }

    fn status(&self) -> Result<Vec<String>, String> {
        dm::status(&self.volumes[0].name).map_err(|e| format!("no status: {e}"))
    }

    fn number(&self, field: usize) -> Result<u64, String> {
        let status = self.status()?;
        let word = status.get(field).and_then(|word| word.split('/').next());
        word.and_then(|word| word.parse().ok())
            .ok_or_else(|| format!("status has no number at {field}: {status:?}"))
    }

    /// The module knows just the snapshots that the model does.
    fn compare_ids(&mut self) -> Result<(), String> {
        let listed = match self.message("list 0 1000") {
            Err(_) if self.options.faults == Faults::Broken => return Ok(()),
            listed => listed?,
        };
        let listed: BTreeSet<String> = listed
            .lines()
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect();
        let ours: BTreeSet<String> = self.volumes[1..].iter().map(|v| v.id.clone()).collect();
        for id in listed.difference(&ours) {
            if self.nameless > 0 && !self.doubtful.contains(id) {
                self.nameless -= 1;
                self.doubtful.insert(id.clone());
            }
        }
        let odd: Vec<&String> = listed
            .symmetric_difference(&ours)
            .filter(|id| !self.doubtful.contains(*id))
            .collect();
        if odd.is_empty() {
            // What a failed delete has deleted all the same is gone.
            self.volumes
                .retain(|v| v.id.is_empty() || listed.contains(&v.id));
            Ok(())
        } else {
            Err(format!("ids {odd:?}: listed {listed:?}, wanted {ours:?}"))
        }
    }

    fn unmap_all(&mut self) -> Result<(), String> {
        // In any order: snapshots answer EIO without their origin.
        let mut order: Vec<usize> = (0..self.volumes.len()).collect();
        while !order.is_empty() {
            let n = order.swap_remove(self.rng.below(order.len() as u64) as usize);
            let volume = &mut self.volumes[n];
            volume
                .unmap()
                .map_err(|e| format!("{} is not removed: {e}", volume.name))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.unmap_all()?;
        self.restarts += 1;
        self.volumes[0]
            .map()
            .map_err(|e| format!("the origin is not loaded again: {e}"))?;
        self.compare_ids()
    }

    /// Waits for the devices to be in order.
    fn wait_for(&self, field: usize, word: &str, patience: Duration) -> Result<(), String> {
        let begin = Instant::now();
        while self.status()?.get(field).is_none_or(|have| have != word) {
            if begin.elapsed() > patience {
                return Err(format!("status never says {word}: {:?}", self.status()?));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The devices are in order from now on. The module may have to be loaded again for that,
    /// but not before it could say what was lost.
    fn come_back(&mut self) -> Result<(), String> {
        let stop = Path::new(&self.options.stop);
        if !self.options.stop.is_empty() {
            File::create(stop).map_err(|e| format!("{}: {e}", stop.display()))?;
            while stop.exists() {
                thread::sleep(Duration::from_millis(50));
            }
        }
        if self.wait_for(MODE, "rw", HEALED).is_err() {
            self.forced += 1;
            self.restart()?;
        }
        self.wait_for(MODE, "rw", Duration::ZERO)
    }

    /// Reads all of all volumes. Answers which chunks cannot be read.
    fn check_all(&mut self) -> Result<BTreeSet<(usize, u64)>, String> {
        let mut lost = BTreeSet::new();
        let mut buffer = Buffer::new(LONGEST as usize);
        let chunk = self.options.chunk;
        for n in 0..self.volumes.len() {
            let volume = &mut self.volumes[n];
            volume
                .map()
                .map_err(|e| format!("{} is not mapped: {e}", volume.name))?;
            let step = (LONGEST / chunk).max(1) * chunk;
            for first in (0..volume.sectors).step_by(step as usize) {
                let range = first..(first + step).min(volume.sectors);
                if self
                    .shared
                    .read(volume, range.clone(), How::Direct, &mut buffer)
                {
                    continue;
                }
                for first in range.step_by(chunk as usize) {
                    let range = first..(first + chunk).min(volume.sectors);
                    if !self.shared.read(volume, range, How::Direct, &mut buffer) {
                        lost.insert((n, first / chunk));
                    }
                }
            }
            if n != 0 {
                volume
                    .unmap()
                    .map_err(|e| format!("{} is not removed: {e}", volume.name))?;
            }
        }
        if self.shared.failed.load(Relaxed) {
            return Err("at the end".to_owned());
        }
        Ok(lost)
    }

    /// Everything is right, also after one more restart; and all space comes back.
    fn end(&mut self) -> Result<(), String> {
        if self.options.faults == Faults::Broken {
            self.come_back()?;
        }
        self.compare_ids()?;
        let told = self.number(LOST)?;
        let lost = self.check_all()?;
        if lost.iter().any(|&(n, _)| n == 0) {
            return Err(format!("the origin cannot be read: {lost:?}"));
        }
        if !lost.is_empty() && told == 0 && self.restarts == 0 {
            return Err(format!("{lost:?} were lost, and status does not say so"));
        }
        self.restart()?;
        let again = self.check_all()?;
        if lost != again {
            return Err(format!("lost {lost:?}, and after a restart {again:?}"));
        }
        while self.volumes.len() > 1 {
            let n = 1 + self.rng.below(self.volumes.len() as u64 - 1) as usize;
            let volume = self.volumes.swap_remove(n);
            self.message(&format!("delete {}", volume.id))?;
            self.doubtful.remove(&volume.id);
        }
        // What a failed create has made all the same goes too.
        for id in &self.doubtful {
            let _ = self.message(&format!("delete {id}"));
        }
        self.compare_ids()?;
        self.wait_for(SWEEP, "-", PATIENCE)?;
        let (used, metadata) = (self.number(SPACE)?, self.number(METADATA_CHUNKS)?);
        if used != metadata {
            return Err(format!(
                "{used} chunks are in use, {metadata} of them metadata"
            ));
        }
        self.unmap_all()
    }
}

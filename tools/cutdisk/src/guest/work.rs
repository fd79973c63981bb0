// SPDX-License-Identifier: GPL-2.0

//! The workload: threads that write and flush at random, and one that cuts, deletes and restarts,
//! with the others at work or silent.

use super::{
    dm,
    link::Link,
    load, load_snapshot,
    raw::{Buffer, Raw},
    volume::{Op, Outcome, Volume, Writes},
    ORIGIN, ORIGIN_DISK,
};
use crate::{
    note::{Note, Round, Written},
    sector::{self, SECTOR},
};
use anyhow::{anyhow, bail, Context, Result};
use std::{
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
    thread,
    time::{Duration, Instant},
};

/// Threads that write to the origin.
const ORIGIN_THREADS: u64 = 4;
/// Threads that write to snapshots.
const SNAPSHOT_THREADS: u64 = 3;
/// Most snapshots.
const MOST: usize = 5;
/// How often a thread tells that the store is full.
const FULL_EACH: Duration = Duration::from_millis(10);
/// Commands that must have been given before the workload ends.
const LEAST_COMMANDS: u32 = 25;
/// How often a thread must have told that the store is full before the workload ends, if the origin
/// goes on then.
const LEAST_FULL: u32 = 5;

/// What all threads see.
struct World<'a> {
    link: &'a Link,
    round: &'a Round,
    sectors: u64,
    /// The origin first.  Held for writing while devices come and go.
    volumes: RwLock<Vec<Arc<Volume>>>,
    /// Count of the next write.
    count: AtomicU64,
    /// How often it was told that the store is full.
    full: AtomicU32,
    /// Nothing is flushed for a while, so that much is in the disks' caches.
    calm: AtomicBool,
    /// Held for reading by whoever writes or flushes, and for writing to have silence.
    turn: RwLock<()>,
    /// It is over.
    stop: AtomicBool,
    trouble: Mutex<Option<anyhow::Error>>,
}

/// Runs it.
pub fn run(link: &Link, round: &Round) -> Result<()> {
    link.note(&Note::Begin)?;
    let sectors = fill(link, round)?;
    let origin = Volume::new(None, ORIGIN, Writes::new(sectors), load(round)?)?;
    let world = World {
        link,
        round,
        sectors,
        volumes: RwLock::new(vec![Arc::new(origin)]),
        count: AtomicU64::new(round.count + 1),
        full: AtomicU32::new(0),
        calm: AtomicBool::new(false),
        turn: RwLock::new(()),
        stop: AtomicBool::new(false),
        trouble: Mutex::new(None),
    };
    thread::scope(|scope| {
        for n in 0..ORIGIN_THREADS + SNAPSHOT_THREADS {
            let world = &world;
            scope.spawn(move || world.try_to(|| world.write(n)));
        }
        world.try_to(|| world.command());
        world.stop.store(true, Ordering::Relaxed);
    });
    link.note(&Note::End)?;
    let mut volumes = world.volumes.into_inner().unwrap_or_default();
    while let Some(volume) = volumes.pop() {
        only(volume)?.remove()?;
    }
    match world.trouble.into_inner() {
        Ok(Some(trouble)) => Err(trouble),
        _ => Ok(()),
    }
}

/// Gives each sector of the origin's disk a value, durably; answers their number.
fn fill(link: &Link, round: &Round) -> Result<u64> {
    let disk = Raw::open(ORIGIN_DISK, false)?;
    let value = sector::value(ORIGIN, round.count);
    let mut buffer = Buffer::new(1 << 20);
    for first in (0..disk.sectors()).step_by(buffer.bytes().len() / SECTOR) {
        sector::fill(buffer.bytes(), round.number, value, first);
        disk.write(first, buffer.bytes())?;
    }
    disk.flush()?;
    link.note(&Note::Durable {
        volume: ORIGIN,
        writes: vec![Written {
            first: 0,
            sectors: disk.sectors(),
            value,
        }],
    })?;
    Ok(disk.sectors())
}

/// The volume, when no thread has it any more.
fn only(mut volume: Arc<Volume>) -> Result<Volume> {
    for _ in 0..6000 {
        match Arc::try_unwrap(volume) {
            Ok(volume) => return Ok(volume),
            Err(shared) => volume = shared,
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("a write does not end")
}

impl World<'_> {
    fn volumes(&self) -> RwLockReadGuard<'_, Vec<Arc<Volume>>> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn volumes_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Volume>>> {
        self.volumes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the workload goes on.
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Ends the workload if something goes wrong.
    fn try_to(&self, work: impl FnOnce() -> Result<()>) {
        if let Err(e) = work() {
            self.stop.store(true, Ordering::Relaxed);
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.get_or_insert(e);
        }
    }

    fn rng(&self, thread: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.round.seed.wrapping_add(thread))
    }

    /// Writes and flushes: the first threads the origin, the others snapshots.
    fn write(&self, thread: u64) -> Result<()> {
        let mut rng = self.rng(thread);
        let mut told_full = Instant::now() - FULL_EACH;
        while self.goes_on() {
            let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
            let volume = {
                let volumes = self.volumes();
                let n = match thread < ORIGIN_THREADS || volumes.len() == 1 {
                    true => 0,
                    false => rng.usize(1..volumes.len()),
                };
                volumes.get(n).cloned()
            };
            let Some(volume) = volume else { continue };
            let calm = self.calm.load(Ordering::Relaxed);
            if !calm && rng.u32(..12) == 0 {
                volume.flush(self.link)?;
                continue;
            }
            let op = match rng.u32(..64) {
                0 => Op::Zero,
                1 => Op::Discard,
                2..6 if !calm => Op::DurableWrite,
                _ => Op::Write,
            };
            let extent = match op {
                Op::Write | Op::DurableWrite => self.extent(&mut rng),
                Op::Zero | Op::Discard => self.chunks(&mut rng),
            };
            let outcome = volume.change(self.link, &self.count, self.round, extent, op)?;
            // Now and then, as long as it is so.
            if outcome == Outcome::Full && told_full.elapsed() > FULL_EACH {
                self.link.note(&Note::Full)?;
                self.full.fetch_add(1, Ordering::Relaxed);
                told_full = Instant::now();
            }
        }
        Ok(())
    }

    /// Mostly within a chunk, or exactly one, and mostly in the same places.
    fn extent(&self, rng: &mut fastrand::Rng) -> (u64, u64) {
        let chunk = self.round.chunk;
        let area = match rng.u32(..3) {
            0 => self.sectors,
            _ => self.sectors / 16,
        };
        match rng.u32(..3) {
            0 => (rng.u64(..area / chunk) * chunk, chunk),
            1 => (rng.u64(..area), 1),
            _ => {
                let sectors = rng.u64(1..=2 * chunk);
                (rng.u64(..=area - sectors), sectors)
            }
        }
    }

    /// Some chunks.
    fn chunks(&self, rng: &mut fastrand::Rng) -> (u64, u64) {
        let chunk = self.round.chunk;
        let most = self.sectors / chunk / [1, 16][rng.usize(..2)];
        let first = rng.u64(..most - 2);
        (first * chunk, rng.u64(1..3) * chunk)
    }

    /// Cuts, deletes and restarts.
    fn command(&self) -> Result<()> {
        let mut rng = self.rng(u64::MAX / 2);
        let time = Duration::from_millis(self.round.milliseconds);
        let begun = Instant::now();
        let mut number = ORIGIN;
        let mut commands = 0;
        let filling = || !self.round.preserve && self.full.load(Ordering::Relaxed) < LEAST_FULL;
        // On a slow machine it takes longer until enough has happened.
        while (begun.elapsed() < time || commands < LEAST_COMMANDS || filling())
            && begun.elapsed() < 6 * time
            && self.goes_on()
        {
            commands += 1;
            self.calm.store(rng.bool(), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(rng.u64(..120)));
            let silence = rng.bool().then(|| self.silence()).transpose()?;
            let snapshots = self.volumes().len() - 1;
            match rng.u32(..100) {
                0..35 if snapshots < MOST => {
                    number += 1;
                    self.create(number, None).context("a create")?;
                }
                35..50 if self.round.subs && snapshots < MOST => {
                    let parent = self.pick(&mut rng, false);
                    if let Some(parent) = parent {
                        number += 1;
                        self.create(number, Some(&parent))
                            .context("a create of a snapshot's snapshot")?;
                    }
                }
                50..55 => self.restart().context("a restart")?,
                55..75 if silence.is_some() => self.sync(&mut rng).context("a sync")?,
                // What is deleted when the time is over would only be in the way.
                75.. if snapshots > 2 && !(begun.elapsed() > time && filling()) => {
                    if let Some(volume) = self.pick(&mut rng, true) {
                        self.delete(volume).context("a delete")?;
                    }
                }
                _ => (),
            }
            if silence.is_some() {
                self.link.note(&Note::Loud)?;
            }
        }
        Ok(())
    }

    /// Waits until nobody else writes or flushes. What is told then is all that happens: no other
    /// write makes something durable that should have been before.
    fn silence(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        let guard = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        self.link.note(&Note::Silent)?;
        Ok(guard)
    }

    /// Writes a few chunks of a snapshot, most of which it shares so far, and flushes it.
    fn sync(&self, rng: &mut fastrand::Rng) -> Result<()> {
        let Some(volume) = self.pick(rng, true) else {
            return Ok(());
        };
        let chunk = self.round.chunk;
        for _ in 0..2 {
            for _ in 0..rng.u32(1..4) {
                let extent = (rng.u64(..self.sectors / chunk) * chunk, chunk);
                volume.change(self.link, &self.count, self.round, extent, Op::Write)?;
            }
            volume.flush(self.link)?;
        }
        Ok(())
    }

    /// Some snapshot: any, or one that can have snapshots.
    fn pick(&self, rng: &mut fastrand::Rng, any: bool) -> Option<Arc<Volume>> {
        let volumes = self.volumes();
        let mut fit: Vec<_> = volumes.iter().skip(1).collect();
        fit.retain(|volume| any || volume.id.as_ref().is_some_and(|id| !id.contains('.')));
        fit.get(rng.usize(..fit.len().max(1)))
            .map(|volume| (*volume).clone())
    }

    fn create(&self, number: u16, parent: Option<&Arc<Volume>>) -> Result<()> {
        let origin = self.volumes().first().cloned();
        let origin = origin.ok_or_else(|| anyhow!("no origin"))?;
        let origin = origin.mapped();
        let parent_id = parent.and_then(|parent| parent.id.clone());
        let id = match &parent_id {
            None => origin.message(&["create"])?,
            Some(parent) => origin.message(&["create_subsnap", parent])?,
        };
        let creating = Note::Creating {
            id: id.clone(),
            volume: number,
            parent: parent.map(|parent| parent.number),
        };
        let ended = parent.map_or(Vec::new(), |parent| parent.ended());
        self.link.note_values(&ended, &creating)?;
        origin.suspend()?;
        self.link.note(&Note::Cut { id: id.clone() })?;
        origin.resume()?;
        if !dm::created(&origin.status()?, &id)? {
            return self.link.note(&Note::NotCreated { id });
        }
        let count = self.count.load(Ordering::Relaxed);
        self.link.note(&Note::Created {
            id: id.clone(),
            count,
        })?;
        let mapped = load_snapshot(&id)?;
        let volume = Volume::new(Some(id), number, Writes::new(self.sectors), mapped)?;
        self.volumes_mut().push(Arc::new(volume));
        Ok(())
    }

    fn delete(&self, volume: Arc<Volume>) -> Result<()> {
        self.volumes_mut()
            .retain(|other| other.number != volume.number);
        let id = volume.id.clone().unwrap_or_default();
        only(volume)?.remove()?;
        let origin = self.volumes().first().cloned();
        let origin = origin.ok_or_else(|| anyhow!("no origin"))?;
        self.link.note(&Note::Deleting { id: id.clone() })?;
        origin.mapped().message(&["delete", &id])?;
        self.link.note(&Note::Deleted { id })
    }

    /// Removes all devices and loads them again.
    fn restart(&self) -> Result<()> {
        let mut volumes = self.volumes_mut();
        self.link.note(&Note::Restarting)?;
        let mut known = Vec::new();
        while let Some(volume) = volumes.pop() {
            let volume = only(volume)?;
            known.push((volume.id.clone(), volume.number, volume.writes.clone()));
            volume.remove()?;
        }
        while let Some((id, number, writes)) = known.pop() {
            let mapped = match &id {
                None => load(self.round)?,
                Some(id) => load_snapshot(id)?,
            };
            volumes.push(Arc::new(Volume::new(id, number, writes, mapped)?));
        }
        self.link.note(&Note::Restarted)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Decides what the guest does next, and judges what it has found.

use crate::{
    cut::Cut,
    loss::Losses,
    model::{Bases, Model},
    note::{self, Note, Round, Task},
    sector::{self, SECTOR},
    server::Disks,
    tape::{Disk, Event, Tape},
    window::{Window, Windows, WINDOWS},
    Options,
};
use anyhow::{bail, Result};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    io::Write as _,
    time::Instant,
};

/// Most lines about what is wrong with one volume.
const MOST: usize = 5;

/// What the guest reads after a cut.
struct Check {
    cut: Cut,
    /// What the cut has left.
    images: [Vec<u8>; 2],
    model: Model,
    /// What was read of each volume, with what was written there since.
    seen: HashMap<Option<String>, Vec<u64>>,
    /// The volumes read in this pass.
    read: HashSet<Option<String>>,
    /// Times that the store was loaded.
    passes: u32,
    ids: Vec<String>,
    /// Chunks of the origin that were written since, and whether the store was full then.
    touched: HashSet<u64>,
    full: bool,
    recovering: bool,
    wrong: Vec<String>,
    begun: Instant,
}

/// A workload that has been recorded.
struct Recording {
    tape: Tape,
    bases: Bases,
    /// Where what cannot be preserved is lost.
    losses: Option<Losses>,
    windows: Windows,
    cuts: VecDeque<Cut>,
}

/// Decides and judges.
pub struct Director {
    /// What the guest is to do.
    pub task: Task,
    options: Options,
    rng: fastrand::Rng,
    seed: u64,
    round: u64,
    values: Vec<u64>,
    /// Values that came with the creation of a snapshot's snapshot, by volume.
    given: HashMap<u16, Vec<u64>>,
    recording: Option<Recording>,
    check: Option<Check>,
    troubles: Vec<String>,
    /// Cuts in each window.
    hits: Vec<usize>,
    made: usize,
    failed: usize,
    verdict: Option<bool>,
}

impl Director {
    /// At the beginning.
    pub fn new(options: Options, seed: u64) -> Self {
        Director {
            task: Task::Stop,
            values: vec![0; (options.origin << 20) / SECTOR],
            options,
            rng: fastrand::Rng::with_seed(seed),
            seed,
            round: 0,
            given: HashMap::new(),
            recording: None,
            check: None,
            troubles: Vec::new(),
            hits: vec![0; WINDOWS.len()],
            made: 0,
            failed: 0,
            verdict: None,
        }
    }

    /// Whether the guest has asked for anything yet.
    pub fn is_started(&self) -> bool {
        self.round > 0
    }

    /// Whether all cuts were right, when all is done.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Something went wrong that must not.
    pub fn trouble(&mut self, what: String) {
        match &mut self.check {
            Some(check) => check.wrong.push(what),
            None => self.troubles.push(what),
        }
    }

    /// The guest is not there any more.
    pub fn gone(&mut self, why: &str) {
        self.trouble(why.into());
        if let Some(check) = self.check.take() {
            self.judge(check);
        } else {
            self.end_work();
        }
        self.finish();
    }

    /// Values that a note will be about.
    pub fn values(&mut self, first: usize, data: &[u8]) {
        let words = data.chunks_exact(8);
        let words = words.map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        // They may come in several parts, in any order.
        for (to, value) in self.values.iter_mut().skip(first).zip(words) {
            *to = value;
        }
    }

    /// The guest has said something.
    pub fn note(&mut self, disks: &mut Disks, note: Note) -> Result<()> {
        match &note {
            Note::Next => self.next(disks),
            Note::Begin => disks.slow = true,
            Note::End => self.record(disks),
            Note::Trouble { what } => self.trouble(what.clone()),
            Note::Creating {
                volume,
                parent: Some(_),
                ..
            } => {
                self.given.insert(*volume, self.values.clone());
            }
            Note::Loaded { status } => self.loaded(status)?,
            Note::Values { id } => self.compare(id),
            Note::Full => {
                if let Some(check) = &mut self.check {
                    check.full = true;
                }
            }
            Note::Wrote { id, write } => {
                let chunk = self.task_round(0).chunk;
                if let (Some(check), None) = (&mut self.check, id) {
                    let last = write.first + write.sectors - 1;
                    check.touched.extend(write.first / chunk..=last / chunk);
                }
                let seen = self.check.as_mut().and_then(|check| check.seen.get_mut(id));
                let sectors = seen.into_iter().flatten().skip(write.first as usize);
                for value in sectors.take(write.sectors as usize) {
                    *value = write.value;
                }
            }
            Note::Added { id } => self.added(id),
            Note::Removed => self.removed(),
            _ => (),
        }
        disks.tape.events.push(Event::Note(note));
        Ok(())
    }

    fn task_round(&self, count: u64) -> Round {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (self.round << 32));
        Round {
            number: self.round,
            seed: rng.u64(..) ^ count,
            milliseconds: self.options.milliseconds,
            chunk: [8, 16][rng.usize(..2)],
            store: self.options.store_type.clone(),
            preserve: (self.seed ^ self.round) % 2 == 0,
            // A bitmask store has none.
            subs: self.options.store_type == "btree",
            count,
        }
    }

    /// Chooses the next task.
    fn next(&mut self, disks: &mut Disks) {
        if let Some(check) = self.check.take() {
            if check.recovering && check.wrong.is_empty() {
                return self.cut_recovery(disks, check);
            }
            self.judge(check);
        }
        let stop = self.options.stop && self.failed > 0;
        if let Some(cut) = self.next_cut().filter(|_| !stop) {
            return self.begin_cut(disks, cut);
        }
        if self.is_started() {
            self.end_work();
        }
        if stop || self.round == self.options.rounds || self.failed > 20 {
            return self.finish();
        }
        self.round += 1;
        self.given.clear();
        disks.insert(
            disks
                .content
                .each_ref()
                .map(|content| vec![0; content.len()]),
        );
        self.task = Task::Work(self.task_round(1));
    }

    fn next_cut(&mut self) -> Option<Cut> {
        self.recording.as_mut()?.cuts.pop_front()
    }

    /// The workload is over: looks for places to cut.
    fn record(&mut self, disks: &mut Disks) {
        disks.slow = false;
        let tape = std::mem::take(&mut disks.tape);
        let content = disks.content.clone();
        disks.insert(content);
        let sectors = disks.content[Disk::Origin as usize].len() / SECTOR;
        let bases = Bases::new(&tape, sectors, self.round, &self.given);
        let round = self.task_round(0);
        let windows = Windows::new(&tape, &round);
        let losses = (!round.preserve).then(|| Losses::new(&tape, self.round, round.chunk));
        let cuts = Cut::choose(
            self.options.cuts,
            self.made,
            &tape,
            &windows,
            self.options.window.as_deref(),
            &mut self.rng,
        );
        let policy = if round.preserve { "" } else { "origin first, " };
        println!("# round {}: {policy}{}", self.round, tape.summary());
        self.recording = Some(Recording {
            tape,
            bases,
            losses,
            windows,
            cuts,
        });
    }

    /// Puts into the disks what the cut leaves.
    fn begin_cut(&mut self, disks: &mut Disks, cut: Cut) {
        let Some(recording) = &self.recording else {
            return;
        };
        self.made += 1;
        let open = recording.windows.at(cut.position);
        for (n, hits) in self.hits.iter_mut().enumerate() {
            *hits += usize::from(open & (1 << n) != 0);
        }
        let images = cut.images(&recording.tape);
        disks.insert(images.clone());
        let (tape, losses) = (&recording.tape, recording.losses.as_ref());
        let model = Model::new(tape, &recording.bases, losses, cut.position);
        self.begin_check(Check {
            recovering: cut.again > 0,
            cut,
            images,
            model,
            seen: HashMap::new(),
            read: HashSet::new(),
            passes: 0,
            ids: Vec::new(),
            touched: HashSet::new(),
            full: false,
            wrong: Vec::new(),
            begun: Instant::now(),
        });
    }

    fn begin_check(&mut self, check: Check) {
        let round = self.task_round(1 << 40);
        self.task = match check.recovering {
            true => Task::Recover(round),
            false => Task::Check(round),
        };
        self.check = Some(check);
    }

    /// The recovery has been recorded: cuts it somewhere.
    fn cut_recovery(&mut self, disks: &mut Disks, mut check: Check) {
        let inner = check.cut.of_recovery(&disks.tape);
        check.images = inner.images(&disks.tape);
        disks.insert(check.images.clone());
        let window = match check.passes {
            1 => Window::Replay,
            _ => Window::ReplayAgain,
        };
        self.hits[window as usize] += 1;
        (check.cut.again, check.cut.seed) = (inner.again, inner.seed);
        check.recovering = check.cut.again > 0;
        if !check.recovering {
            check.passes = 0;
        }
        self.begin_check(check);
    }

    fn loaded(&mut self, status: &str) -> Result<()> {
        let Some(check) = &mut self.check else {
            bail!("a store was loaded, and no cut made");
        };
        check.passes += 1;
        check.read.clear();
        let words: Vec<_> = status.split_whitespace().collect();
        if !matches!(words.get(3..5), Some(["rw" | "full", "-"])) {
            check.wrong.push(format!("the status is: {status}"));
        }
        check.ids = words.last().map_or(Vec::new(), |ranges| note::ids(ranges));
        let wrong = check.model.compare_ids(&check.ids);
        if check.seen.is_empty() {
            check.wrong.extend(wrong);
        } else {
            for id in check.seen.keys().flatten() {
                if !check.ids.contains(id) {
                    check
                        .wrong
                        .push(format!("snapshot {id} is gone at the second load"));
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, id: &Option<String>) {
        let round = self.task_round(0);
        let Some(check) = &mut self.check else {
            return;
        };
        let values = &self.values;
        let name = id
            .as_ref()
            .map_or("origin".into(), |id| format!("snapshot {id}"));
        check.read.insert(id.clone());
        let wrong = match check.seen.get(id) {
            Some(seen) => {
                // What the origin's writes have cost since.
                let lossy = !round.preserve && check.full && id.is_some();
                let lost =
                    |sector: usize| lossy && check.touched.contains(&(sector as u64 / round.chunk));
                changes(seen, values, lost)
            }
            None => {
                let volume = match id {
                    None => Some(&check.model.origin),
                    Some(id) => check.model.snapshots.get(id),
                };
                check.seen.insert(id.clone(), values.clone());
                volume.map_or(Vec::new(), |volume| volume.compare(values, MOST))
            }
        };
        let wrong = wrong.into_iter().take(MOST);
        check
            .wrong
            .extend(wrong.map(|what| format!("{name}: {what}")));
    }

    /// The guest has made a snapshot after the cut.
    fn added(&mut self, id: &str) {
        let Some(check) = &mut self.check else {
            return;
        };
        if check.model.snapshots.contains_key(id) && check.ids.iter().any(|other| other == id) {
            check.wrong.push(format!("the id {id} was given again"));
        }
        let origin = check.seen.get(&None).cloned().unwrap_or_default();
        check.seen.insert(Some(id.into()), origin);
    }

    /// The guest has removed its devices: it must have read all volumes.
    fn removed(&mut self) {
        let Some(check) = self.check.as_mut().filter(|check| !check.recovering) else {
            return;
        };
        let ids = check.ids.iter().cloned().map(Some);
        let missing: Vec<_> = ids
            .chain([None])
            .filter(|id| !check.read.contains(id))
            .collect();
        for id in missing {
            check.wrong.push(format!("{id:?} was not read"));
        }
    }

    /// The cut has been looked at.
    fn judge(&mut self, mut check: Check) {
        if !check.recovering && check.passes < 2 && check.wrong.is_empty() {
            check.wrong.push("it was not loaded twice".into());
        }
        let Check { cut, model, .. } = &check;
        let (number, position) = (cut.number, cut.position);
        let of = self.recording.as_ref().map_or(0, |r| r.tape.len());
        let [origin, store] = cut.keep;
        let line = format!(
            "{number} - cut at {position} of {of}, origin {origin}, store {store}: {} snapshots of \
             {} ({:.1}s)",
            check.ids.len(),
            model.snapshots.len(),
            check.begun.elapsed().as_secs_f32(),
        );
        if check.wrong.is_empty() {
            println!("ok {line}");
            return;
        }
        self.failed += 1;
        println!("not ok {line}");
        println!("# seed {}, round {}", self.seed, self.round);
        for wrong in check.wrong.iter().take(20) {
            println!("# {wrong}");
        }
        match self.save(&check) {
            Ok(folder) => println!("# its disks and tape are in {folder}"),
            Err(e) => println!("# its disks cannot be kept: {e:#}"),
        }
    }

    /// Keeps what is needed to look at a cut that failed.
    fn save(&self, check: &Check) -> Result<String> {
        let cut = &check.cut;
        let folder = self.options.keep.join(format!("cut-{}", cut.number));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("origin"), &check.images[0])?;
        fs::write(folder.join("store"), &check.images[1])?;
        if let Some(recording) = &self.recording {
            let mut file = std::io::BufWriter::new(fs::File::create(folder.join("tape"))?);
            for (at, event) in recording.tape.events.iter().enumerate() {
                if at == cut.position {
                    writeln!(file, "-- cut")?;
                }
                writeln!(file, "{at} {}", event.describe(recording.bases.round()))?;
            }
        }
        Ok(folder.display().to_string())
    }

    /// The round is over.
    fn end_work(&mut self) {
        self.recording = None;
        for trouble in self.troubles.drain(..) {
            self.failed += 1;
            self.made += 1;
            println!(
                "not ok {} - workload of round {}: {trouble}",
                self.made, self.round
            );
        }
    }

    /// All rounds are over.
    fn finish(&mut self) {
        println!("# cuts in each window:");
        for ((_, name), hits) in WINDOWS.iter().zip(&self.hits) {
            println!("# {hits:6}  {name}");
        }
        if self.options.all_windows {
            // What a store cannot do has no window.
            let subs = self.options.store_type == "btree";
            let missed = WINDOWS
                .iter()
                .zip(&self.hits)
                .filter(|((window, _), _)| subs || *window != Window::SubCreate)
                .filter(|(_, hits)| **hits == 0)
                .count();
            let word = if missed == 0 { "ok" } else { "not ok" };
            println!("{word} {} - each window was cut", self.made + 1);
            self.failed += missed;
        }
        self.task = Task::Stop;
        self.verdict = Some(self.failed == 0 && self.made > 0);
    }
}

/// Says what differs from what was there at the first load and was written since.
fn changes(before: &[u64], after: &[u64], lost: impl Fn(usize) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (sector, (before, after)) in before.iter().zip(after).enumerate() {
        let good = before == after || (*after == sector::UNREADABLE && lost(sector));
        if !good && wrong.len() < MOST {
            wrong.push(format!(
                "sector {sector}: {} at the second load, before it {}",
                sector::describe(*after),
                sector::describe(*before)
            ));
        }
    }
    wrong
}

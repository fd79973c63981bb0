// SPDX-License-Identifier: GPL-2.0

//! Whatever goes wrong, in whatever order: every bio ends exactly once, and so does every command.

use super::super::powercut::rng::Rng;
use super::bench::{bench_of, snap, Bench};
use crate::engine::order::{Control, Copied, Op};
use crate::store::{SnapId, Who, NAME_LEN};
use kernel::prelude::*;

const FAULTS: &[(&str, &[i32])] = &[
    ("find", &[5, 12]),
    ("reset_query", &[5, 12]),
    ("query_next_remap", &[5, 12]),
    ("add_next_remap", &[5, 11, 12, 28]),
    ("make_chunk_writeable", &[5, 11, 12, 28]),
    ("has_room", &[11]),
    ("record", &[5, 11, 12, 28]),
    ("record_lost", &[5, 11, 12]),
    ("record_zero", &[5, 11, 12, 28]),
    ("record_all_lost", &[5, 11, 12]),
    ("seal", &[5, 11]),
    ("checkpoint", &[5, 11, 12]),
    ("create", &[5, 11, 12, 28]),
    ("rename", &[5, 11, 12]),
    ("delete", &[5, 11, 12]),
    ("forget", &[5, 11, 12]),
    ("sweep_step", &[5, 11, 12, 28]),
];

fn error(errno: i32) -> Error {
    [EIO, EAGAIN, ENOMEM, ENOSPC]
        .into_iter()
        .find(|e| e.to_errno() == -errno)
        .unwrap_or(EINVAL)
}

struct Chaos {
    b: Bench,
    rng: Rng,
    commands: usize,
    snaps: u32,
    /// One operation of so many fails.
    failing: usize,
}

impl Chaos {
    fn result(&mut self) -> Result {
        match self.rng.one_in(self.failing) {
            true => Err(EIO),
            false => Ok(()),
        }
    }

    fn submit(&mut self) {
        let who = match self.rng.below(3) {
            0 => Who::Origin,
            _ => snap(1 + self.rng.below(self.snaps as usize) as u32),
        };
        let op = match self.rng.below(7) {
            0 if who != Who::Origin => Op::Flush,
            1 | 2 if who != Who::Origin => Op::Read,
            3 => Op::Discard,
            4 => Op::Zero,
            _ => Op::Write,
        };
        let chunk = self.rng.below(6) as u64;
        let (whole, fua) = (self.rng.one_in(2), self.rng.one_in(3));
        self.b.submit(who, op, chunk, whole, fua);
        if self.rng.one_in(2) {
            self.b.run();
        }
    }

    fn command(&mut self) {
        let control = match self.rng.below(4) {
            0 => Control::Checkpoint,
            2 => Control::Delete {
                id: SnapId::top(1 + self.rng.below(self.snaps as usize) as u32),
            },
            1 => Control::Name {
                id: SnapId::top(1),
                name: [0; NAME_LEN],
            },
            _ => Control::Create {
                parent: None,
                id: None,
                created: 0,
                name: [0; NAME_LEN],
            },
        };
        if self.b.machine.control(control).is_ok() {
            self.commands += 1;
            self.b.run();
        }
    }

    fn fault(&mut self) {
        if self.failing > 1000 {
            return;
        }
        let (name, errors) = FAULTS[self.rng.below(FAULTS.len())];
        let errno = errors[self.rng.below(errors.len())];
        self.b.faults.add(name, error(errno));
    }

    fn step(&mut self) {
        let result = self.result();
        let under_way = self.b.under_way();
        match self.rng.below(12) {
            0 | 1 => self.submit(),
            2 if self.rng.one_in(4) => self.command(),
            3 if self.rng.one_in(self.failing) => self.fault(),
            4 if !self.b.desk.copies.is_empty() => {
                let copied = match (result, self.rng.below(4)) {
                    (Ok(()), _) => Copied::Good,
                    (Err(_), 0) => Copied::ReadError,
                    (Err(_), 1) => Copied::Gone,
                    (Err(_), 2) => Copied::WriteError(u32::MAX),
                    (Err(_), _) => Copied::WriteError(self.rng.next() as u32),
                };
                self.b.end_copy(copied);
            }
            5 if !self.b.desk.overwrites.is_empty() => self.b.end_overwrite(result),
            6 if self.b.desk.log.is_some() => self.b.end_log(result),
            7 if self.b.desk.checkpoint.is_some() => self.b.end_checkpoint(result),
            8 if !self.b.desk.later.is_empty() => self.b.timer(),
            9 if self.b.desk.probes > 0 => self.b.end_probe(result),
            9 if self.b.desk.last_word.is_some() => self.b.end_last_word(result),
            _ if !under_way.is_empty() => {
                let n = under_way[self.rng.below(under_way.len())];
                self.b.end_bio(n);
            }
            _ => {}
        }
    }
}

#[test]
fn every_bio_ends_exactly_once() {
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let failing = [100_000, 200, 30, 8][rng.below(4)];
        let data = [3, 8, 60][rng.below(3)];
        let mut b = bench_of(rng.one_in(2), data);
        let snaps = 1 + rng.below(5) as u32;
        b.create(snaps);
        b.machine.set_discard_copy(rng.one_in(2));
        let mut chaos = Chaos {
            b,
            rng,
            commands: 0,
            snaps,
            failing,
        };
        let steps = chaos.rng.below(400);
        for _ in 0..steps {
            chaos.step();
        }
        let mut b = chaos.b;
        b.finish();
        assert_eq!(b.open(), [], "seed {seed}: bios hang");
        assert_eq!(
            b.desk.control.len(),
            chaos.commands,
            "seed {seed}: commands"
        );
        b.close();
        b.finish();
        assert_eq!(
            b.desk.control.len(),
            chaos.commands + 1,
            "seed {seed}: close"
        );
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the machine asks of the simulator: each wish becomes an event.

use super::{
    bios::{Bio, BioInfo, Bios},
    disk::Content,
    sim::{Checkpoint, CopyStage, Event, Mutation, Sim, Told},
};
use crate::engine::order::{
    grace::{Generation, Ticket},
    Copied, Mode, Op, Place, Request, Timer, Users, World,
};
use crate::store::{CheckpointWrite, Chunk, Dest, LogWrite, SnapId, Source, Who};
use kernel::prelude::*;
use std::vec::Vec;

impl World for Sim {
    type Bio = Bio;
    type Bios = Bios;

    fn request(&self, bio: &Bio) -> Request {
        let info = &self.bios[bio.0];
        Request {
            who: match info.id {
                None => Who::Origin,
                Some(id) => Who::Snapshot(SnapId(id)),
            },
            op: info.op,
            chunk: Chunk(info.chunk),
            whole: info.whole,
            fua: info.fua,
        }
    }

    fn tried(&mut self, _bio: &mut Bio) -> u8 {
        panic!("all can be read here");
    }

    fn to_origin(&mut self, bio: Bio) {
        let data = self.data(&bio);
        let info = &mut self.bios[bio.0];
        info.passed = true;
        if self.mode == Mode::Fail && info.protected {
            if info.op == Op::Discard {
                return self.wrong("a discard went on without its copy".into());
            }
            let chunk = info.chunk;
            for snap in self.oracle.snaps.values_mut() {
                if !snap.settled.contains(&chunk) {
                    snap.exposed.insert(chunk);
                }
            }
        } else if info.protected {
            self.released.push(info.chunk);
        }
        let info = &self.bios[bio.0];
        let start = info.chunk * self.chunk() + info.first;
        let id = self.origin.submit(start, data, info.fua);
        self.note("to origin", bio.0 as u64, start);
        self.events.push(Event::OriginWrite(bio, id));
    }

    fn read_origin(&mut self, bio: Bio) {
        let info = &self.bios[bio.0];
        let start = info.chunk * self.chunk() + info.first;
        let users = Users::OriginReads;
        let generation = self.enter(users);
        self.note("read origin", bio.0 as u64, start);
        self.events
            .push(Event::Read(bio, users, generation, start, None));
    }

    fn to_store(&mut self, bio: Bio, dest: Dest) {
        let info = &self.bios[bio.0];
        let start = self.dest_sector(dest) + info.first;
        let (op, fua) = (info.op, info.fua);
        let users = Users::StoreChunks;
        let generation = self.enter(users);
        self.note("to store", bio.0 as u64, dest.0);
        self.events.push(match op {
            Op::Read => Event::Read(bio, users, generation, start, None),
            _ => {
                let data = self.data(&bio);
                let id = self.store.lock().disk.submit(start, data, fua);
                Event::StoreWrite(bio, generation, id)
            }
        });
    }

    fn overwrite(&mut self, slot: usize, bio: Bio, dest: Dest) {
        let start = self.dest_sector(dest);
        let data = self.data(&bio);
        assert_eq!(self.bios[bio.0].op, Op::Write, "no data to overwrite with");
        self.fill(dest);
        let generation = self.enter(Users::StoreChunks);
        let id = self.store.lock().disk.submit(start, data, false);
        self.note("overwrite", bio.0 as u64, dest.0);
        self.events
            .push(Event::Overwrite(slot, bio, generation, id));
    }

    fn flush_store(&mut self, bio: Bio) {
        let mark = self.store.lock().disk.begin_flush();
        self.note("flush store", bio.0 as u64, mark);
        self.events.push(Event::StoreFlush(bio, mark));
    }

    fn end_zeroed(&mut self, bio: Bio) {
        let zeroes = vec![Content::Token(0); self.bios[bio.0].len as usize];
        self.end_read(bio, &zeroes);
    }

    fn end(&mut self, bio: Bio, result: Result) {
        self.end_bio(bio, result);
    }

    fn copy(&mut self, slot: usize, chunk: Chunk, from: Source, dests: &[Dest]) {
        for dest in dests {
            self.fill(*dest);
        }
        self.note("copy", chunk.0, dests[0].0);
        let dests = dests.to_vec();
        if self.mutation == Mutation::EarlyCopy {
            self.inbox.push_back(Told::Copied(slot, Copied::Good));
        }
        self.events
            .push(Event::Copy(slot, chunk, from, dests, CopyStage::Planned));
    }

    fn write_log(&mut self, write: LogWrite) {
        self.log_asks.push(self.last_ask);
        self.wrapped |= write.nr < self.last_log_nr;
        self.last_log_nr = write.nr;
        self.note("log", write.seq, write.count as u64);
        let mark = match self.mutation {
            // A flush of what completed before the beginning does nothing.
            Mutation::NoPreflush => 0,
            _ => self.store.lock().disk.begin_flush(),
        };
        if self.mutation == Mutation::EarlyLog {
            let copy = copy_of(&write);
            self.events.push(Event::LogFlush(copy, mark, true));
            self.inbox.push_back(Told::Log(write, Ok(())));
        } else {
            if self.mutation == Mutation::EarlyReuse {
                self.early = Some(copy_of(&write));
            }
            self.events.push(Event::LogFlush(write, mark, false));
        }
    }

    fn write_checkpoint(&mut self, write: CheckpointWrite) {
        let todo = self.store.lock().unwritten();
        self.note("checkpoint", write.nr, todo.len() as u64);
        let says = self.oracle.snaps.values().any(|s| !s.exposed.is_empty());
        if says {
            // From here on a cut may find that all is lost.
            self.lose_all();
        }
        self.checkpoint = Some(Checkpoint {
            write,
            todo,
            flushing: false,
            says,
        });
    }

    fn probe_store(&mut self) {
        let result = match self.meta_errors > 0 && self.rng.one_in(4) {
            true => Err(EIO),
            false => Ok(()),
        };
        self.note("probe", u64::from(result.is_err()), 0);
        self.inbox.push_back(Told::Probed(result));
    }

    fn write_last_word(&mut self, write: CheckpointWrite) {
        self.note("last word", write.nr, 0);
        self.last_word = true;
        self.checkpoint = Some(Checkpoint {
            write,
            todo: Vec::new(),
            flushing: true,
            says: true,
        });
        self.write_checkpoint_block();
        // From here on a cut may find it.
        self.lose_all();
    }

    fn learn(&mut self, chunk: Chunk, id: SnapId, place: Place) {
        self.known.learn(chunk, id, place);
    }

    fn forget(&mut self, chunk: Chunk) {
        if self.mutation != Mutation::StaleKnown {
            self.known.forget(chunk);
        }
    }

    fn forget_all(&mut self) {
        if self.mutation != Mutation::KeptKnown {
            self.known.forget_all();
        }
    }

    fn preserved(&mut self, chunk: Chunk) {
        self.note("preserved", chunk.0, 0);
        self.preserved[chunk.0 as usize] = self.generation;
    }

    fn cut(&mut self, id: SnapId) {
        self.note("cut", id.0 >> 32, 0);
        self.generation += 1;
        self.cut_id = Some(id.0);
        self.oracle.cut(id, self.next_name);
    }

    fn gone(&mut self, id: SnapId) {
        self.note("gone", id.0 >> 32, 0);
        self.oracle.snaps.remove(&id.0);
    }

    fn enter(&mut self, users: Users) -> Generation {
        self.grace[users as usize].enter()
    }

    fn leave(&mut self, users: Users, generation: Generation) {
        if self.grace[users as usize].leave(generation) {
            self.look = true;
        }
    }

    fn ask(&mut self, users: Users) -> Ticket {
        let ticket = self.grace[users as usize].ask();
        if users == Users::OriginReads {
            self.last_ask = ticket;
        }
        ticket
    }

    fn passed(&mut self, users: Users, ticket: Ticket) -> bool {
        match (self.mutation, users) {
            (Mutation::ReadersPass, Users::OriginReads) => true,
            (Mutation::UsersPass, Users::StoreChunks) => true,
            _ => self.grace[users as usize].passed(ticket),
        }
    }

    fn later(&mut self, timer: Timer, _ms: u32) {
        self.timers[timer as usize] = true;
    }

    fn was_used(&mut self) -> bool {
        true
    }

    fn is_wanted(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn control_done(&mut self, result: Result<Option<SnapId>>) {
        self.note("control done", u64::from(result.is_ok()), 0);
        if self.control_result.replace(result).is_some() {
            self.wrong("control ended twice".into());
        }
    }

    fn all_lost(&mut self) {
        self.note("all lost", 0, 0);
        if !self.lossy || !(self.mode == Mode::Full || self.broken) {
            self.wrong("lost for no reason".into());
        }
        self.lose_all();
        self.unsaid = self.broken && !self.checkpointed;
        if self.broken && !self.unsaid {
            // That is durable.
            self.said();
        }
    }

    fn mode_changed(&mut self, mode: Mode, why: Error) {
        self.note("mode", mode as u64, why.to_errno() as u64);
        if self.mode == Mode::Fail && mode == Mode::Rw {
            self.broken = false;
            self.healed = true;
        }
        self.mode = mode;
        if mode == Mode::Full {
            let waits = |info: &&BioInfo| info.protected && !info.ended && info.op != Op::Discard;
            let chunks: Vec<u64> = self.bios.iter().filter(waits).map(|i| i.chunk).collect();
            for chunk in chunks {
                self.allow_loss(chunk);
            }
        }
        if mode == Mode::Fail && !self.broken {
            self.wrong(format!("mode fail: {why:?}"));
        }
    }
}

fn copy_of(write: &LogWrite) -> LogWrite {
    let mut buf = KVec::new();
    for block in &write.buf[..write.count] {
        buf.push(*block, GFP_KERNEL).expect("memory");
    }
    LogWrite { buf, ..*write }
}

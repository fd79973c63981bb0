// SPDX-License-Identifier: GPL-2.0

//! How what is under way goes on: one step of one event at a time.

use super::sim::{CopyStage, Event, Mutation, Sim, Told};
use super::{
    bios::{Bio, BioInfo},
    disk::Content,
    windows::{Window, Windows},
};
use crate::engine::order::{Op, Users, World};
use crate::store::{Chunk, Dest, Source};
use kernel::prelude::*;
use std::vec::Vec;

impl Sim {
    /// Goes on with event `n`.
    pub(crate) fn advance(&mut self, n: usize) {
        match self.events.swap_remove(n) {
            Event::OriginWrite(bio, id) => {
                self.origin.complete(id);
                self.end_bio(bio, Ok(()));
            }
            Event::OriginFlush(bio, mark) => {
                self.origin.end_flush(mark);
                self.end_bio(bio, Ok(()));
            }
            Event::SuspendFlush(mark) => {
                self.origin.end_flush(mark);
                self.note("origin flushed", mark, 0);
                // All that was written before is durable now.
                let mark = self.oracle.origin.mark();
                self.oracle.origin.harden(&mark);
            }
            Event::Read(bio, users, generation, start, None) => {
                let len = self.bios[bio.0].len;
                let data = self.read(users, start, len);
                self.events
                    .push(Event::Read(bio, users, generation, start, Some(data)));
            }
            Event::Read(bio, users, generation, _, Some(data)) => {
                self.end_read(bio, &data);
                self.leave(users, generation);
            }
            Event::StoreWrite(bio, generation, id) => {
                self.store.lock().disk.complete(id);
                self.end_bio(bio, Ok(()));
                self.leave(Users::StoreChunks, generation);
            }
            Event::Overwrite(slot, bio, generation, id) => {
                self.store.lock().disk.complete(id);
                self.leave(Users::StoreChunks, generation);
                let result = match self.errors > 0 && self.rng.one_in(self.errors) {
                    true => Err(EIO),
                    false => Ok(()),
                };
                self.inbox.push_back(Told::Overwritten(slot, bio, result));
            }
            Event::StoreFlush(bio, mark) => {
                if self.mutation != Mutation::NoStoreFlush {
                    self.store.lock().disk.end_flush(mark);
                }
                self.end_bio(bio, Ok(()));
            }
            Event::Copy(slot, chunk, from, dests, stage) => {
                self.advance_copy(slot, chunk, from, dests, stage);
            }
            Event::LogFlush(write, mark, told) => {
                self.store.lock().disk.end_flush(mark);
                self.issue_log(write, told);
            }
            Event::LogBlocks(write, id, told) => {
                let result = self.end_meta(id);
                self.note("log ended", write.seq, u64::from(result.is_err()));
                if !told {
                    self.inbox.push_back(Told::Log(write, result));
                }
            }
            Event::DirtyWrite(nr, id) => self.store.lock().end_write(nr, id),
            Event::CheckpointFlush(mark) => {
                self.store.lock().disk.end_flush(mark);
                self.write_checkpoint_block();
            }
            Event::CheckpointBlock(id) => {
                let result = self.end_meta(id);
                self.note("checkpoint ended", 0, u64::from(result.is_err()));
                self.inbox.push_back(Told::Checkpoint(result));
            }
        }
    }

    fn read(&mut self, users: Users, start: u64, len: u64) -> Vec<Content> {
        match users {
            Users::OriginReads => self.origin.read(start, len).to_vec(),
            Users::StoreChunks => self.store.lock().disk.read(start, len).to_vec(),
        }
    }

    fn advance_copy(
        &mut self,
        slot: usize,
        chunk: Chunk,
        from: Source,
        dests: Vec<Dest>,
        stage: CopyStage,
    ) {
        let len = self.chunk_len(chunk.0);
        let stage = match stage {
            CopyStage::Planned => CopyStage::Read(match from {
                Source::Origin => self.read(Users::OriginReads, chunk.0 * self.chunk(), len),
                Source::Store(dest) => {
                    let start = self.dest_sector(dest);
                    self.read(Users::StoreChunks, start, len)
                }
                Source::Zero => vec![Content::Token(0); len as usize],
                Source::Lost => {
                    self.wrong("copy of what is lost".into());
                    return;
                }
            }),
            CopyStage::Read(data) => {
                let sectors: Vec<u64> = dests.iter().map(|d| self.dest_sector(*d)).collect();
                let disk = &mut self.store.lock().disk;
                let submit = |sector| disk.submit(sector, data.clone(), false);
                CopyStage::Writing(sectors.into_iter().map(submit).collect())
            }
            CopyStage::Writing(mut writes) => {
                let n = self.rng.below(writes.len());
                self.store.lock().disk.complete(writes.swap_remove(n));
                if writes.is_empty() {
                    self.note("copied", chunk.0, dests.len() as u64);
                    if self.mutation != Mutation::EarlyCopy {
                        let copied = self.copy_result(chunk.0, from);
                        self.inbox.push_back(Told::Copied(slot, copied));
                    }
                    return;
                }
                CopyStage::Writing(writes)
            }
        };
        self.events
            .push(Event::Copy(slot, chunk, from, dests, stage));
    }

    /// Goes on with the checkpoint, if it is not an event by itself just now. `true` if something
    /// was done.
    pub(crate) fn advance_checkpoint(&mut self) -> bool {
        let Some(checkpoint) = &mut self.checkpoint else {
            return false;
        };
        if checkpoint.flushing {
            return false;
        }
        let mut device = self.store.lock();
        checkpoint.todo.retain(|nr| device.is_unwritten(*nr));
        if !checkpoint.todo.is_empty() && self.mutation != Mutation::EarlyCheckpoint {
            let n = self.rng.below(checkpoint.todo.len());
            let nr = checkpoint.todo[n];
            let Some(id) = device.start_write(nr) else {
                return false;
            };
            drop(device);
            self.events.push(Event::DirtyWrite(nr, id));
            return true;
        }
        let mark = device.disk.begin_flush();
        drop(device);
        checkpoint.flushing = true;
        if self.mutation == Mutation::NoCheckpointFlush {
            self.write_checkpoint_block();
        } else {
            self.events.push(Event::CheckpointFlush(mark));
        }
        true
    }

    pub(super) fn write_checkpoint_block(&mut self) {
        let Some(checkpoint) = &self.checkpoint else {
            return;
        };
        let (nr, block) = (checkpoint.write.nr, &*checkpoint.write.block);
        let id = self.store.lock().disk.submit_block(nr, block, true);
        self.events.push(Event::CheckpointBlock(id));
    }

    /// Writes some dirty block for no reason, as a cache may.
    pub(crate) fn write_back(&mut self) {
        let mut device = self.store.lock();
        let dirty = device.unwritten();
        if dirty.is_empty() {
            return;
        }
        let nr = dirty[self.rng.below(dirty.len())];
        if let Some(id) = device.start_write(nr) {
            drop(device);
            self.events.push(Event::DirtyWrite(nr, id));
        }
    }

    /// Notes the windows that a cut now falls into, as far as they are seen from here.
    pub(crate) fn windows(&mut self, windows: &mut Windows) {
        let mut log = false;
        let mut checkpoint = false;
        let released = |bio: &Bio| self.bios[bio.0].protected;
        let discard = |bio: &Bio| self.bios[bio.0].op == Op::Discard;
        let discards = self.bios.iter().filter(|b| b.op == Op::Discard);
        let waiting = |b: &&BioInfo| b.protected && !b.ended && !b.passed;
        let waiting: Vec<u64> = discards.filter(waiting).map(|b| b.chunk).collect();
        windows.hit(Window::DiscardWaits, !waiting.is_empty());
        for event in &self.events {
            let window = match event {
                Event::OriginWrite(bio, _) if released(bio) => match discard(bio) {
                    true => Window::Discarding,
                    false => Window::Released,
                },
                Event::SuspendFlush(_) => Window::CreateFlush,
                Event::StoreWrite(..) => Window::InPlace,
                Event::Overwrite(..) => Window::Overwrite,
                Event::Copy(_, chunk, _, dests, stage) => {
                    windows.hit(Window::EightDests, dests.len() == 8);
                    windows.hit(Window::DiscardCopy, waiting.contains(&chunk.0));
                    match stage {
                        CopyStage::Planned => Window::Planned,
                        CopyStage::Read(_) => Window::Reading,
                        CopyStage::Writing(_) => Window::Copying,
                    }
                }
                Event::LogFlush(..) => {
                    log = true;
                    Window::LogFlush
                }
                Event::LogBlocks(..) => {
                    log = true;
                    Window::LogFlying
                }
                Event::CheckpointFlush(_) => {
                    checkpoint = true;
                    Window::CheckpointFlush
                }
                Event::CheckpointBlock(_) => {
                    checkpoint = true;
                    Window::CheckpointBlock
                }
                _ => continue,
            };
            windows.hit(window, true);
        }
        for told in &self.inbox {
            match told {
                Told::Copied(..) | Told::Overwritten(..) => windows.hit(Window::Copied, true),
                Told::Log(..) => windows.hit(Window::LogEnded, true),
                _ => {}
            }
        }
        let dirty = self.checkpoint.as_ref().is_some_and(|c| !c.flushing);
        windows.hit(Window::DirtyWrites, dirty);
        windows.hit(Window::CheckpointAndLog, log && (checkpoint || dirty));
        windows.hit(Window::Broken, self.broken);
        windows.hit(Window::Healed, self.healed);
        windows.hit(Window::LastWord, self.last_word);
        windows.hit(Window::Sweeping, self.sweeping);
        windows.hit(Window::Wrapped, self.wrapped);
        windows.hit(Window::Reused, self.reused);
        let full = self.mode == crate::engine::order::Mode::Full;
        windows.hit(Window::Full, full);
    }
}

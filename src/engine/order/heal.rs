// SPDX-License-Identifier: GPL-2.0

//! Mode `fail`, and the ways out of it.
//!
//! When only writing the log has failed, what is in core is still right: a checkpoint ends the
//! doubt, and the mode is `rw` again with nothing lost. The device is tried with a write that
//! changes nothing before each attempt, so that no metadata is sent to one that takes none. What
//! cannot be healed so needs a new load; then a last word is written that says what was lost.
//!
//! An origin write waits for the end of an attempt once. After that they go on without their
//! copies (unless that is to be refused), and the loss is written down as soon as a write
//! succeeds. As long as no origin write comes, nothing is lost.

use super::{Fifo, Machine, Mode, Op, Timer, Users, World};
use kernel::prelude::*;

/// Milliseconds between attempts.
const HEAL_MS: u32 = 5000;

/// What is under way to heal a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Nothing; the timer may run.
    Idle,
    /// It is time for one.
    Due,
    /// The device is being tried.
    Probe,
    /// The checkpoint that heals.
    Checkpoint,
    /// The last word, and whether it says that all is lost.
    LastWord(bool),
}

/// What is known of a store that has failed. Meaningless in other modes, but for `exposed`.
pub(super) struct Heal<Q> {
    attempt: Attempt,
    /// Only writing has failed: the state in core is good.
    curable: bool,
    /// Origin writes need not wait: what an attempt can bring, one has brought or failed to.
    open: bool,
    /// An origin write went on whose chunk may be needed, and nothing durable says so.
    exposed: bool,
    /// The last word is durable, and nothing has changed since.
    said: bool,
    /// It said that all is lost, which holds for all writes to come.
    loss_said: bool,
    /// The store is being closed, and was tried once more for that.
    closing: bool,
    /// Origin writes that wait for the end of an attempt.
    waiting: Q,
}

impl<Q: Fifo> Heal<Q> {
    pub(super) fn new() -> Self {
        Heal {
            attempt: Attempt::Idle,
            curable: false,
            open: false,
            exposed: false,
            said: false,
            loss_said: false,
            closing: false,
            waiting: Q::default(),
        }
    }

    /// Whether no bio waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<W: World> Machine<W> {
    /// The store cannot be relied on any more: for now no record becomes durable. `curable` if
    /// only a write of the log failed.
    pub(super) fn fail(&mut self, world: &mut W, why: Error, curable: bool) {
        let curable = curable && !self.store.is_poisoned();
        if why == EILSEQ {
            self.store.set_needs_check();
        }
        if self.mode == Mode::Fail {
            self.heal.curable &= curable;
            return;
        }
        self.mode = Mode::Fail;
        self.look_again = true;
        world.forget_all();
        self.fail_reads = world.ask(Users::OriginReads);
        self.heal = Heal {
            attempt: Attempt::Due,
            curable,
            exposed: self.heal.exposed,
            ..Heal::new()
        };
        world.mode_changed(Mode::Fail, why);
        let stage = &mut self.collecting;
        while let Some(bio) = stage.flushes.pop() {
            world.end(bio, Err(EIO));
        }
        while let Some(bio) = stage.ends.pop() {
            world.end(bio, Err(EIO));
        }
        if core::mem::take(&mut stage.control) {
            self.durable_control(world, Err(why));
        }
        self.collecting.drain(&mut self.retry);
        self.settling.drain(&mut self.retry);
        self.unsharing.drain(&mut self.retry);
        self.unread.drain(&mut self.retry);
    }

    /// An origin write in mode `fail`: it goes on without its copy, or is refused.
    pub(super) fn look_unprotected(&mut self, world: &mut W, bio: W::Bio) {
        if world.request(&bio).op == Op::Discard {
            // Nothing may be lost for the sake of a hint.
            return self.refuse(world, bio, EIO);
        }
        // A checkpoint on its way does not say yet that this chunk may be lost.
        let unsaid = self.heal.attempt == Attempt::Checkpoint && !self.heal.exposed;
        if !self.heal.open || unsaid {
            self.heal.waiting.push(bio);
            if self.heal.attempt == Attempt::Idle {
                self.heal.attempt = Attempt::Due;
                self.look_again = true;
            }
        } else if self.preserve_on_error {
            world.end(bio, Err(EIO));
        } else if world.passed(Users::OriginReads, self.fail_reads) {
            self.heal.exposed |= !self.heal.loss_said;
            self.slots.overtake(world.request(&bio).chunk);
            world.to_origin(bio);
        } else {
            // A snapshot read that began before must not see what this write brings.
            self.settling.wait(self.fail_reads, bio);
        }
    }

    /// Others may write the origin from now on, and nothing durable says so.
    pub(super) fn expose(&mut self) {
        if self.mode != Mode::Ro {
            self.heal.exposed |= !self.heal.loss_said;
        }
    }

    /// The timer has run: it may be time for another attempt.
    pub(super) fn heal_timer(&mut self) {
        if self.mode == Mode::Fail && self.heal.attempt == Attempt::Idle {
            self.heal.attempt = Attempt::Due;
        }
    }

    /// Takes the next step of an attempt, in mode `fail`.
    pub(super) fn heal(&mut self, world: &mut W) {
        if self.checkpoint_out || self.writing.busy {
            return;
        }
        if self.heal.attempt == Attempt::Due {
            if self.has_hope() {
                self.heal.attempt = Attempt::Probe;
                world.probe_store();
            } else if self.preserve_on_error || self.heal.said {
                self.end_attempt(world, true);
            } else {
                // The first origin write is what a last word is for.
                self.heal.attempt = Attempt::Idle;
            }
        }
        if self.is_closing(world) && self.heal.attempt == Attempt::Idle {
            if !core::mem::replace(&mut self.heal.closing, true) {
                self.heal.attempt = Attempt::Due;
                self.look_again = true;
                return;
            }
            // What is on disk is older than what the origin holds, and stays marked unclean.
            self.control = None;
            world.control_done(Err(EIO));
        }
    }

    /// Whether an attempt could bring anything.
    fn has_hope(&self) -> bool {
        let heal = &self.heal;
        let news = match self.preserve_on_error {
            true => self.store.needs_check(),
            false => !heal.waiting.is_empty(),
        };
        heal.curable || heal.exposed || news && !heal.said
    }

    /// Changes the policy for copies that cannot be made.
    pub(crate) fn set_preserve_on_error(&mut self, preserve: bool) {
        if core::mem::replace(&mut self.preserve_on_error, preserve) != preserve {
            // The last word was on the other policy.
            self.heal.said = false;
            self.heal.open = false;
        }
    }

    /// The device was tried.
    pub(crate) fn probed(&mut self, world: &mut W, result: Result) {
        if self.heal.attempt != Attempt::Probe {
            return;
        }
        if result.is_err() {
            return self.end_attempt(world, false);
        }
        if self.heal.curable {
            let loss = match self.heal.exposed {
                true => self.store.record_all_lost(),
                false => Ok(()),
            };
            match loss.and_then(|()| self.store.checkpoint(None)) {
                Ok(write) => {
                    self.checkpoint_out = true;
                    self.checkpoint_forced = false;
                    self.heal.attempt = Attempt::Checkpoint;
                    return world.write_checkpoint(write);
                }
                // A checkpoint that was out then has ended the doubt: the batch can be written.
                Err(e) if e == EBUSY => return self.healed(world),
                Err(e) if e == ENOMEM => return self.end_attempt(world, false),
                Err(_) => {
                    // Whether there is anything for a last word to say is another question.
                    self.heal.curable = false;
                    self.heal.attempt = Attempt::Due;
                    self.look_again = true;
                    return;
                }
            }
        }
        let loss = self.says_loss();
        match self.store.give_up(loss) {
            Ok(write) => {
                self.checkpoint_out = true;
                self.heal.attempt = Attempt::LastWord(loss);
                world.write_last_word(write);
            }
            Err(_) => self.end_attempt(world, false),
        }
    }

    /// The checkpoint of an attempt, or a last word, has been written. Answers whether it was
    /// one.
    pub(super) fn heal_written(&mut self, world: &mut W, result: Result) -> bool {
        match self.heal.attempt {
            _ if self.mode != Mode::Fail => return false,
            Attempt::Checkpoint if result.is_ok() => {
                self.healed(world);
                self.heal.exposed = false;
            }
            Attempt::Checkpoint => {
                // It cannot be tried again: the last word is next.
                self.heal.curable = false;
                self.heal.attempt = Attempt::Due;
            }
            Attempt::LastWord(loss) => {
                let good = result.is_ok();
                if good && loss {
                    self.heal.exposed = false;
                    self.heal.loss_said = true;
                    self.counts.lost += 1;
                    world.all_lost();
                }
                // The policy may have changed since it was sent: then there is another one to say.
                self.heal.said = good && (loss || !self.says_loss());
                self.end_attempt(world, good);
                self.heal.open &= self.heal.said || !good;
            }
            _ => return false,
        }
        true
    }

    /// All that is in core is durable, or can be logged.
    fn healed(&mut self, world: &mut W) {
        self.mode = Mode::Rw;
        self.heal.attempt = Attempt::Idle;
        self.stalls = 0;
        self.look_again = true;
        // The records that nobody waited for to the end have their older users still.
        self.settling.wait_all(self.fail_reads);
        self.unsharing.wait_all(world.ask(Users::StoreChunks));
        self.retry.append(&mut self.heal.waiting);
        let in_batch = self.store.has_unsealed();
        if in_batch {
            // What is in the batch still is not durable, and nobody knows any more what it is.
            self.collecting.recorded.note_all();
            self.collecting.unshared.note_all();
            self.collecting.busy = true;
        }
        // So may be the record of a deletion: it is in force when that is out. (Nothing else is in
        // doubt then.)
        match self.lapsed.take() {
            Some((id, durable)) if durable || !in_batch => self.forgetting = Some((id, false)),
            Some((id, _)) => self.orphan = Some(id),
            None => (),
        }
        if self.heal.exposed {
            self.counts.lost += 1;
            world.all_lost();
        }
        world.mode_changed(Mode::Rw, EIO);
    }

    /// Whether a last word is to say that snapshots have lost something.
    fn says_loss(&self) -> bool {
        self.heal.exposed || !self.preserve_on_error
    }

    /// A log write that was sealed in a mode other than `fail` has succeeded: the record of a loss
    /// was in it, if there is one.
    pub(super) fn loss_is_durable(&mut self) {
        if self.mode != Mode::Fail {
            self.heal.exposed = false;
        }
    }

    /// Nothing has come of an attempt but, with `last`, all that can come of one.
    fn end_attempt(&mut self, world: &mut W, last: bool) {
        self.heal.attempt = Attempt::Idle;
        self.heal.open = true;
        self.look_again = true;
        self.retry.append(&mut self.heal.waiting);
        if !last {
            world.later(Timer::Heal, HEAL_MS);
        }
    }
}

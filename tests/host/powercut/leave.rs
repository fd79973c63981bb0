// SPDX-License-Identifier: GPL-2.0

//! An origin that is taken out from under its snapshots while they are in use, and is then written
//! by others.

use super::{
    disk::Content,
    run::{Command, Run},
    sim::{Mutation, Told},
};
use crate::engine::order::Control;

/// Chunks that others write before a life ends.
const FOREIGN: usize = 12;

impl Run {
    /// Begins to take the origin out.
    pub(crate) fn leave(&mut self) {
        assert_eq!(self.command, Command::Idle);
        self.command = Command::Leaving;
    }

    /// Goes on with that.
    pub(super) fn leaving(&mut self) {
        match self.command {
            Command::Leaving if self.sim.origin_busy == 0 => {
                if self.sim.mutation == Mutation::SilentOut {
                    return self.out();
                }
                self.sim.lose_all();
                self.sim.note("lose all", 0, 0);
                let told = Told::Control(Control::LoseAll);
                self.sim.inbox.push_back(told);
                self.command = Command::Letting;
            }
            Command::Out(left) if left > 0 => {
                self.foreign_write();
                self.command = Command::Out(left - 1);
            }
            _ => {}
        }
    }

    /// From now on others write it.
    pub(super) fn out(&mut self) {
        self.command = Command::Out(FOREIGN);
    }

    /// Somebody writes a chunk of the origin, of which the machine knows nothing.
    fn foreign_write(&mut self) {
        let sim = &mut self.sim;
        let chunks = sim.origin.len().div_ceil(sim.chunk());
        let chunk = sim.rng.below(chunks as usize) as u64;
        let start = chunk * sim.chunk();
        let len = sim.chunk_len(chunk);
        sim.note("foreign write", chunk, 0);
        let mut data = Vec::new();
        for sector in start..start + len {
            let token = sim.next_token;
            sim.next_token += 1;
            sim.oracle.origin.begin(sector, token);
            sim.oracle.origin.end(sector, token, true);
            data.push(Content::Token(token));
        }
        let id = sim.origin.submit(start, data, false);
        sim.origin.complete(id);
    }
}

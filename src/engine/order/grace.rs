// SPDX-License-Identifier: GPL-2.0

//! Waiting until everything that began earlier has ended, without looking at each of it.
//!
//! A counter of two generations: what begins is counted in the present one, and a waiter is
//! answered when the generation that was present when it asked has run empty. New arrivals never
//! delay it, so a steady stream of reads cannot starve a write.

/// The generation in which something was counted; to be handed back when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u8);

/// A question asked: "has everything that began before now ended?"
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Ticket(u64);

/// The counter. Whoever shares it puts a lock around it; no call waits.
#[derive(Debug, Default)]
pub(crate) struct Grace {
    /// Number of turns begun; its lowest bit is the present generation.
    turn: u64,
    /// What is under way, by generation.
    running: [u64; 2],
    /// The last turn that was asked for.
    wanted: u64,
}

impl Grace {
    /// Something begins.
    pub(crate) fn enter(&mut self) -> Generation {
        let now = (self.turn & 1) as usize;
        self.running[now] += 1;
        Generation(now as u8)
    }

    /// It has ended. Answers whether a ticket passed because of it.
    #[must_use]
    pub(crate) fn leave(&mut self, generation: Generation) -> bool {
        let before = self.done();
        let n = &mut self.running[usize::from(generation.0 & 1)];
        *n = n.saturating_sub(1);
        self.advance();
        // A turn is only ever over because somebody asked for it.
        self.done() > before
    }

    /// Asks the question.
    pub(crate) fn ask(&mut self) -> Ticket {
        // What is counted now lies in turn `turn` or the one before it; both are over when the
        // turn after the present one has begun and the other generation is empty again.
        self.wanted = self.turn + 1;
        self.advance();
        Ticket(self.wanted)
    }

    /// Whether everything that began before the question has ended.
    pub(crate) fn passed(&self, ticket: Ticket) -> bool {
        self.done() >= ticket.0
    }

    /// What is under way in all. The tests ask for it.
    #[allow(dead_code)]
    pub(crate) fn running(&self) -> u64 {
        self.running[0] + self.running[1]
    }

    /// Turns that are begun and whose predecessors have all run empty.
    fn done(&self) -> u64 {
        let before = ((self.turn + 1) & 1) as usize;
        if self.running[before] == 0 {
            self.turn
        } else {
            self.turn.saturating_sub(1)
        }
    }

    /// Begins the next turn if it is wanted and the generation that it reuses is empty.
    fn advance(&mut self) {
        while self.turn < self.wanted && self.done() == self.turn {
            self.turn += 1;
        }
    }
}

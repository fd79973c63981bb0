// SPDX-License-Identifier: GPL-2.0

//! Where the power is cut, and what each disk keeps.

use crate::{
    tape::{Keep, Tape, DISKS},
    window::{Window, Windows, WINDOWS},
};
use std::collections::VecDeque;

/// A power cut.
#[derive(Clone)]
pub struct Cut {
    /// Its number in the whole run.
    pub number: usize,
    /// Where on the tape.
    pub position: usize,
    /// What is kept of origin and store.
    pub keep: [Keep; 2],
    /// Recoveries that are cut in turn before all is compared.
    pub again: u32,
    /// Seed of what is kept at random.
    pub seed: u64,
}

impl Cut {
    /// Chooses positions for `count` cuts, after `made` others: in turn one in each window, and
    /// some anywhere; or only in those windows whose names begin with `only`.
    pub fn choose(
        count: usize,
        made: usize,
        tape: &Tape,
        windows: &Windows,
        only: Option<&str>,
        rng: &mut fastrand::Rng,
    ) -> VecDeque<Self> {
        let mut open: Vec<_> = WINDOWS
            .iter()
            .filter(|(_, name)| only.is_none_or(|only| name.starts_with(only)))
            .map(|(window, _)| (*window, windows.stretches(*window)))
            .filter(|(_, stretches)| !stretches.is_empty())
            .collect();
        rng.shuffle(&mut open);
        let anywhere = if only.is_none() || open.is_empty() {
            3
        } else {
            0
        };
        let mut cuts = VecDeque::new();
        for n in 0..count {
            let (position, worst) = match open.get(n % (open.len() + anywhere)) {
                Some((window, stretches)) => {
                    let worst = worst(*window).filter(|_| rng.u32(..3) > 0);
                    // Each stretch alike, however long it is.
                    let stretch = stretches[rng.usize(..stretches.len())].clone();
                    (rng.usize(stretch), worst)
                }
                None => (rng.usize(..=tape.len()), None),
            };
            let again = match n % 5 {
                4 => 1 + rng.u32(..2),
                _ => 0,
            };
            cuts.push_back(Cut {
                number: made + n + 1,
                position,
                keep: worst.unwrap_or_else(|| keep(rng)),
                again,
                seed: rng.u64(..),
            });
        }
        cuts
    }

    /// A cut of the same number somewhere on the tape of a recovery.
    pub fn of_recovery(&self, tape: &Tape) -> Self {
        let rng = &mut fastrand::Rng::with_seed(self.seed);
        Cut {
            number: self.number,
            position: rng.usize(..=tape.len()),
            keep: keep(rng),
            again: self.again.saturating_sub(1),
            seed: rng.u64(..),
        }
    }

    /// What it leaves of both disks.
    pub fn images(&self, tape: &Tape) -> [Vec<u8>; 2] {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        DISKS.map(|disk| tape.cut(disk, self.position, self.keep[disk as usize], &mut rng))
    }
}

/// What is worst to keep in a window, if its rule is broken: the later of the two things that it
/// keeps apart.
fn worst(window: Window) -> Option<[Keep; 2]> {
    match window {
        Window::LogFlying | Window::LogCached => Some([Keep::All, Keep::Metadata]),
        Window::OriginFlying | Window::OriginCached | Window::Released => {
            Some([Keep::All, Keep::Nothing])
        }
        Window::Nodes | Window::Checkpoint => Some([Keep::All, Keep::Newest(1)]),
        Window::CreateLog | Window::CreateDone => Some([Keep::Nothing, Keep::All]),
        Window::Synced | Window::DeleteDone => Some([Keep::All, Keep::Nothing]),
        _ => None,
    }
}

/// What a cut keeps of each disk; often all of one and nothing of the other.
fn keep(rng: &mut fastrand::Rng) -> [Keep; 2] {
    match rng.u32(..6) {
        0 => return [Keep::Nothing, Keep::All],
        1 => return [Keep::All, Keep::Nothing],
        2 => return [Keep::All, Keep::Metadata],
        _ => (),
    }
    let mut any = |kinds| match rng.u32(..kinds) {
        0 => Keep::Nothing,
        1 => Keep::All,
        2 | 3 => Keep::Some([10, 50, 90][rng.usize(..3)]),
        4 => Keep::Newest(1 + rng.usize(..4)),
        5 => Keep::Oldest(1 + rng.usize(..4)),
        6 => Keep::Metadata,
        _ => Keep::Data,
    };
    [any(6), any(8)]
}

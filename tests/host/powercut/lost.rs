// SPDX-License-Identifier: GPL-2.0

//! What becomes of a snapshot's content when the origin is overwritten.

use super::run::Run;
use crate::engine::order::Mode;
use crate::store::{Chunk, ExceptionStore, Found, SnapId, Value};

impl Run {
    /// Looks how the store keeps what the writes that were just let through to the origin will
    /// overwrite: from now on that is certain.
    pub(super) fn see_released(&mut self) {
        let sim = &mut self.sim;
        for chunk in std::mem::take(&mut sim.released) {
            let start = chunk * sim.chunk();
            for (id, snap) in &mut sim.oracle.snaps {
                if start >= snap.cells.len() || snap.settled.contains(&chunk) {
                    continue;
                }
                let may_be_lost = snap.lost.contains(&chunk);
                let what = match self.machine.store().find(Chunk(chunk), SnapId(*id)) {
                    Ok(found) if found != Found::NotRemapped => {
                        snap.settled.insert(chunk);
                        match is_lost(found) {
                            true if !may_be_lost => "lost for no reason",
                            _ => continue,
                        }
                    }
                    Ok(_) if snap.certain && sim.mode != Mode::Fail => "not preserved",
                    _ => continue,
                };
                let what = format!("snapshot {id:x} chunk {chunk}: {what}");
                sim.failure.get_or_insert(what);
            }
            sim.unsure.insert(chunk);
        }
        // Until all that is recorded is durable, a cut may bring back what was lost first and
        // written then.
        if sim.broken || self.machine.store().has_unsealed() || self.log_is_out() {
            return;
        }
        let sim = &mut self.sim;
        for chunk in std::mem::take(&mut sim.unsure) {
            for (id, snap) in &mut sim.oracle.snaps {
                if snap.settled.contains(&chunk) && snap.lost.contains(&chunk) {
                    let found = self.machine.store().find(Chunk(chunk), SnapId(*id));
                    if found.is_ok_and(|found| !is_lost(found)) {
                        snap.lost.remove(&chunk);
                    }
                }
            }
        }
    }
}

fn is_lost(found: Found) -> bool {
    matches!(
        found,
        Found::Shared(Value::Lost) | Found::Private(Value::Lost)
    )
}

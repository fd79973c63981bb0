// SPDX-License-Identifier: GPL-2.0

//! The guest's end of the disk for notes.

use super::raw::{Buffer, Raw};
use crate::{
    note::{self, Note, Task, NOTE_BYTES, VALUES_AT},
    sector::SECTOR,
};
use anyhow::{ensure, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most writes in one note, so that it fits.
const MOST_WRITES: usize = 500;

/// A connection to the host.
pub struct Link {
    disk: Raw,
    /// One note at a time, so that the block layer merges none.
    buffer: Mutex<Buffer>,
}

impl Link {
    /// Opens it.
    pub fn open(path: &str) -> Result<Self> {
        Ok(Link {
            disk: Raw::open(path, false)?,
            buffer: Mutex::new(Buffer::new(NOTE_BYTES)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a note on the tape; it is there when this returns.
    pub fn note(&self, note: &Note) -> Result<()> {
        if let Note::Durable { volume, writes } = note {
            if writes.len() > MOST_WRITES {
                for writes in writes.chunks(MOST_WRITES) {
                    let (volume, writes) = (*volume, writes.to_vec());
                    self.note(&Note::Durable { volume, writes })?;
                }
                return Ok(());
            }
        }
        self.send(&mut self.lock(), note)
    }

    /// Puts a note on the tape that values belong to.
    pub fn note_values(&self, values: &[u64], note: &Note) -> Result<()> {
        let mut buffer = self.lock();
        let part = NOTE_BYTES / 8;
        for (n, values) in values.chunks(part).enumerate() {
            let bytes = &mut buffer.bytes()[..(values.len() * 8).next_multiple_of(SECTOR)];
            for (to, value) in bytes.chunks_exact_mut(8).zip(values) {
                to.copy_from_slice(&value.to_le_bytes());
            }
            let first = (VALUES_AT + n * NOTE_BYTES) / SECTOR;
            self.disk.write(first as u64, bytes)?;
        }
        self.send(&mut buffer, note)
    }

    /// Asks for the next task.
    pub fn next(&self) -> Result<Task> {
        let mut buffer = self.lock();
        self.send(&mut buffer, &Note::Next)?;
        self.disk.read(0, buffer.bytes())?;
        note::decode(buffer.bytes())
    }

    fn send(&self, buffer: &mut Buffer, note: &Note) -> Result<()> {
        let message = note::encode(note);
        ensure!(message.len() <= NOTE_BYTES, "a note is too long: {note:?}");
        let bytes = &mut buffer.bytes()[..message.len().next_multiple_of(SECTOR)];
        bytes[..message.len()].copy_from_slice(&message);
        Ok(self.disk.write(0, bytes)?)
    }
}

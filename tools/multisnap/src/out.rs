// SPDX-License-Identifier: GPL-2.0

//! What goes to standard output.

use crate::failure::Failure;
use serde::Serialize;
use std::{
    io::{self, Write},
    path::Path,
};

/// A failure of standard output.
pub fn failed(e: &io::Error) -> Failure {
    Failure::io(Path::new("standard output"), "cannot be written", e)
}

/// Prints text.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| failed(&e))
}

/// Prints an object as a line of JSON.
pub fn line(object: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(object).map_err(|e| failed(&e.into()))?;
    text(&(line + "\n"))
}

/// What was printed of one of several things that are done: that nobody reads it any more is no reason
/// to leave the others.
pub fn told(printed: Result<(), Failure>) -> Result<(), Failure> {
    match printed {
        Err(Failure::Pipe) => Ok(()),
        other => other,
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The 16 bytes of what [`hex`] wrote.
pub fn unhex(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A number that no other store has.
pub fn draw_uuid() -> Result<[u8; 16], Failure> {
    let path = Path::new("/dev/urandom");
    let mut uuid = [0; 16];
    std::fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut uuid))
        .map_err(|e| Failure::io(path, "cannot be read", &e))?;
    Ok(uuid)
}

/// Says something that does not end the run, on standard error.
pub fn warn(text: &str) {
    eprintln!("multisnap: {text}");
}

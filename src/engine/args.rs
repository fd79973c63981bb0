// SPDX-License-Identifier: GPL-2.0

//! Table lines: what they may say, and the one line that tells what is wrong with one.

use crate::dm::target::Args;
use crate::store::{format::StoreType, SnapId};
use core::fmt;
use kernel::prelude::*;

/// What a `multisnapshot` table line says, devices aside.
#[derive(Clone, Copy)]
pub(super) struct OriginArgs {
    /// Sectors in a chunk.
    pub(super) chunk_sectors: u32,
    /// Refuse origin writes whose copy cannot be made.
    pub(super) preserve_on_error: bool,
    /// The implementation of the store.
    pub(super) store_type: StoreType,
}

/// What is wrong with a table line or message.
pub(super) enum Wrong<'a> {
    /// An argument is missing.
    Missing(&'static str),
    /// There is an argument too many.
    Extra(&'a CStr),
    /// Not a number, or one that makes no sense.
    Number(&'static str, &'a CStr),
    /// Not a chunk size.
    ChunkSize(&'a CStr),
    /// No such argument.
    Unknown(&'static str, &'a CStr),
    /// No such store type.
    StoreType(&'a CStr),
    /// Known, but not supported yet.
    NotYet(&'a CStr),
    /// Not an id.
    Id(&'a CStr),
    /// Not a name.
    Name(&'a CStr),
}

impl Wrong<'_> {
    /// The error number to answer with.
    pub(super) fn errno(&self) -> Error {
        match self {
            Wrong::NotYet(_) => EOPNOTSUPP,
            _ => EINVAL,
        }
    }
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Wrong::Missing(what) => write!(f, "{what} is missing"),
            Wrong::Extra(arg) => write!(f, "unexpected argument '{}'", Show(arg)),
            Wrong::Number(what, arg) => write!(f, "{what} '{}' is not a valid number", Show(arg)),
            Wrong::ChunkSize(arg) => write!(
                f,
                "chunk size '{}' is not a power of two from 8 to 2097152 sectors",
                Show(arg)
            ),
            Wrong::Unknown(what, arg) => write!(f, "unknown {what} '{}'", Show(arg)),
            Wrong::StoreType(arg) => write!(
                f,
                "unknown store type '{}', known are: btree (or mikulas)",
                Show(arg)
            ),
            Wrong::NotYet(arg) => write!(f, "'{}' is not supported yet", Show(arg)),
            Wrong::Id(arg) => write!(
                f,
                "'{}' is not a snapshot id (<id> or <id>.<sub>)",
                Show(arg)
            ),
            Wrong::Name(arg) => write!(
                f,
                "name '{}' has letters other than A-Z a-z 0-9 + _ . - or more than 63",
                Show(arg)
            ),
        }
    }
}

/// Shows a user's word, whatever bytes it has.
pub(super) struct Show<'a>(pub(super) &'a CStr);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &c in self.0.to_bytes().iter().take(128) {
            let c = if c.is_ascii_graphic() { c as char } else { '?' };
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

/// A decimal number without sign.
pub(super) fn number(text: &CStr) -> Option<u64> {
    let text = text.to_bytes();
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, &c| {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A snapshot id.
pub(super) fn id(text: &CStr) -> Result<SnapId, Wrong<'_>> {
    SnapId::parse(text.to_bytes()).ok_or(Wrong::Id(text))
}

/// A snapshot's name, padded with zero bytes.
pub(super) fn name(text: &CStr) -> Result<[u8; crate::store::NAME_LEN], Wrong<'_>> {
    let mut name = [0; crate::store::NAME_LEN];
    let bytes = text.to_bytes();
    let good = |c: &u8| c.is_ascii_alphanumeric() || b"+_.-".contains(c);
    if bytes.is_empty() || bytes.len() >= name.len() || !bytes.iter().all(good) {
        return Err(Wrong::Name(text));
    }
    for (to, from) in name.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(name)
}

/// Words of a table line, taken one by one.
struct Words<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Words<'a> {
    fn word(&mut self, what: &'static str) -> Result<&'a CStr, Wrong<'a>> {
        let word = self.args.get(self.next).ok_or(Wrong::Missing(what))?;
        self.next += 1;
        Ok(word)
    }

    /// A count of words that follow, and which must all be there.
    fn count(&mut self, what: &'static str) -> Result<usize, Wrong<'a>> {
        let word = self.word(what)?;
        let left = self.args.len() - self.next;
        number(word)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n <= left)
            .ok_or(Wrong::Number(what, word))
    }
}

impl OriginArgs {
    /// Reads what follows the two devices.
    pub(super) fn parse(args: Args<'_>) -> Result<Self, Wrong<'_>> {
        let mut words = Words { args, next: 2 };
        let word = words.word("the chunk size")?;
        let chunk_sectors = number(word)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| n.is_power_of_two() && (8..=2_097_152).contains(n))
            .ok_or(Wrong::ChunkSize(word))?;
        let mut preserve_on_error = false;
        let end = words.count("the number of generic arguments")? + words.next;
        while words.next < end {
            let word = words.word("a generic argument")?;
            match word.to_bytes() {
                b"preserve-on-error" => preserve_on_error = true,
                b"sync-snapshots" | b"low-water" | b"discard-copy" => {
                    return Err(Wrong::NotYet(word));
                }
                _ => return Err(Wrong::Unknown("generic argument", word)),
            }
        }
        let word = words.word("the store type")?;
        let store_type = match word.to_bytes() {
            b"btree" | b"mikulas" => StoreType::Btree,
            b"bitmask" | b"daniel" => return Err(Wrong::NotYet(word)),
            _ => return Err(Wrong::StoreType(word)),
        };
        let end = words.count("the number of store arguments")? + words.next;
        if words.next < end {
            let word = words.word("a store argument")?;
            return Err(match word.to_bytes() {
                b"cache-threshold" | b"cache-limit" => Wrong::NotYet(word),
                _ => Wrong::Unknown("store argument", word),
            });
        }
        if let Ok(word) = words.word("") {
            // A list of ids has a meaning only together with sync-snapshots.
            return Err(Wrong::Extra(word));
        }
        Ok(OriginArgs {
            chunk_sectors,
            preserve_on_error,
            store_type,
        })
    }
}

impl fmt::Display for OriginArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generic = if self.preserve_on_error {
            "1 preserve-on-error"
        } else {
            "0"
        };
        write!(
            f,
            "{} {generic} {} 0",
            self.chunk_sectors,
            self.store_type.name()
        )
    }
}

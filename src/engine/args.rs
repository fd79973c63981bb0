// SPDX-License-Identifier: GPL-2.0

//! Table lines: what they may say, and the one line that tells what is wrong with one.

use crate::dm::target::Args;
use crate::store::{SnapId, StoreType};
use core::fmt;
use kernel::prelude::*;

/// What a `multisnapshot` table line says, devices aside.
#[derive(Clone, Copy)]
pub(super) struct OriginArgs {
    /// Sectors in a chunk.
    pub(super) chunk_sectors: u32,
    /// Refuse origin writes whose copy cannot be made.
    pub(super) preserve_on_error: bool,
    /// Tell when fewer chunks than this are free.
    pub(super) low_water: Option<u64>,
    /// Preserve what a discard of the origin takes away.
    pub(super) discard_copy: bool,
    /// The origin may have been written since the store was last in use.
    pub(super) origin_written: bool,
    /// The implementation of the store.
    pub(super) store_type: StoreType,
    /// How much metadata is kept in memory.
    pub(super) cache: CacheArgs,
}

/// What a table line says of the metadata in memory, in blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct CacheArgs {
    threshold: Option<u32>,
    limit: Option<u32>,
}

/// Smallest and largest `cache-limit`, and what it is if nothing is said.
const CACHE_LIMIT: (u32, u32, u32) = (256, 4 << 20, 16 << 10);

/// The same of `cache-threshold`.
const CACHE_THRESHOLD: (u32, u32, u32) = (32, 2 << 20, 4096);

impl CacheArgs {
    /// Metadata blocks that are kept in memory at most.
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(CACHE_LIMIT.2)
    }

    /// Dirty ones at which a checkpoint starts.
    pub(super) fn threshold(&self) -> u32 {
        let most = self.limit() / 2;
        self.threshold.unwrap_or(CACHE_THRESHOLD.2.min(most))
    }

    fn check(&self) -> Result<(), Wrong<'static>> {
        match self.threshold {
            Some(n) if n > self.limit() / 2 => Err(Wrong::Threshold(n, self.limit())),
            _ => Ok(()),
        }
    }
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
    /// Not a number within these two.
    Range(&'static str, &'a CStr, u32, u32),
    /// This `cache-threshold` does not go with this `cache-limit`.
    Threshold(u32, u32),
    /// No such store type.
    StoreType(&'a CStr),
    /// Not an id.
    Id(&'a CStr),
    /// An id that is listed twice.
    Twice(SnapId),
    /// There is no memory for the list.
    NoMemory,
    /// Not a name.
    Name(&'a CStr),
}

impl Wrong<'_> {
    /// The error number to answer with.
    pub(super) fn errno(&self) -> Error {
        match self {
            Wrong::NoMemory => ENOMEM,
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
            Wrong::Range(what, arg, min, max) => {
                write!(
                    f,
                    "{what} '{}' is not a number from {min} to {max}",
                    Show(arg)
                )
            }
            Wrong::Threshold(threshold, limit) => write!(
                f,
                "cache-threshold {threshold} is more than half of cache-limit {limit}"
            ),
            Wrong::Twice(id) => write!(f, "snapshot {id} is listed twice"),
            Wrong::NoMemory => f.write_str("out of memory"),
            Wrong::Unknown(what, arg) => write!(f, "unknown {what} '{}'", Show(arg)),
            Wrong::StoreType(arg) => {
                write!(f, "unknown store type '{}', known are:", Show(arg))?;
                for (i, of) in StoreType::ALL.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma} {} (or {})", of.name(), of.old_name())?;
                }
                Ok(())
            }
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

    /// A number of blocks.
    fn blocks(&mut self, what: &'static str, range: (u32, u32, u32)) -> Result<u32, Wrong<'a>> {
        let (min, max, _) = range;
        let word = self.word(what)?;
        number(word)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (min..=max).contains(n))
            .ok_or(Wrong::Range(what, word, min, max))
    }

    /// The list of ids at the end of the line, sorted.
    fn ids(&mut self) -> Result<KVVec<SnapId>, Wrong<'a>> {
        let n = self.count("the number of snapshot ids")?;
        let mut ids = KVVec::with_capacity(n, GFP_KERNEL).map_err(|_| Wrong::NoMemory)?;
        for _ in 0..n {
            let id = id(self.word("a snapshot id")?)?;
            let Err(at) = ids.binary_search(&id) else {
                return Err(Wrong::Twice(id));
            };
            ids.push_within_capacity(id).map_err(|_| Wrong::NoMemory)?;
            if let Some(tail) = ids.get_mut(at..) {
                tail.rotate_right(1);
            }
        }
        Ok(ids)
    }
}

impl OriginArgs {
    /// Reads what follows the two devices: the arguments, and the ids that `sync-snapshots` is
    /// to bring about.
    pub(super) fn parse(args: Args<'_>) -> Result<(Self, Option<KVVec<SnapId>>), Wrong<'_>> {
        let mut words = Words { args, next: 2 };
        let word = words.word("the chunk size")?;
        let chunk_sectors = number(word)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| n.is_power_of_two() && (8..=2_097_152).contains(n))
            .ok_or(Wrong::ChunkSize(word))?;
        let mut preserve_on_error = false;
        let mut low_water = None;
        let mut sync = false;
        let mut discard_copy = false;
        let mut origin_written = false;
        let end = words.count("the number of generic arguments")? + words.next;
        while words.next < end {
            let word = words.word("a generic argument")?;
            match word.to_bytes() {
                b"preserve-on-error" => preserve_on_error = true,
                b"sync-snapshots" => sync = true,
                b"discard-copy" => discard_copy = true,
                b"origin-written" => origin_written = true,
                b"low-water" if words.next == end => {
                    return Err(Wrong::Missing("the number of chunks of low-water"));
                }
                b"low-water" => {
                    let word = words.word("low-water")?;
                    low_water = Some(number(word).ok_or(Wrong::Number("low-water", word))?);
                }
                _ => return Err(Wrong::Unknown("generic argument", word)),
            }
        }
        let word = words.word("the store type")?;
        let store_type = StoreType::from_name(word.to_bytes()).ok_or(Wrong::StoreType(word))?;
        let mut cache = CacheArgs::default();
        let end = words.count("the number of store arguments")? + words.next;
        while words.next < end {
            let word = words.word("a store argument")?;
            let (name, range, value) = match word.to_bytes() {
                b"cache-threshold" => ("cache-threshold", CACHE_THRESHOLD, &mut cache.threshold),
                b"cache-limit" => ("cache-limit", CACHE_LIMIT, &mut cache.limit),
                _ => return Err(Wrong::Unknown("store argument", word)),
            };
            if words.next == end {
                return Err(Wrong::Missing("the number of blocks of a store argument"));
            }
            *value = Some(words.blocks(name, range)?);
        }
        cache.check()?;
        // A list of ids has a meaning only together with sync-snapshots.
        let ids = if sync { Some(words.ids()?) } else { None };
        if let Ok(word) = words.word("") {
            return Err(Wrong::Extra(word));
        }
        let args = OriginArgs {
            chunk_sectors,
            preserve_on_error,
            low_water,
            discard_copy,
            origin_written,
            store_type,
            cache,
        };
        Ok((args, ids))
    }

    /// Writes the line that says the same, with the ids that are still to be brought about.
    pub(super) fn write(&self, f: &mut impl fmt::Write, ids: Option<&[SnapId]>) -> fmt::Result {
        let generic = usize::from(ids.is_some())
            + usize::from(self.preserve_on_error)
            + usize::from(self.discard_copy)
            + usize::from(self.origin_written)
            + 2 * usize::from(self.low_water.is_some());
        write!(f, "{} {generic}", self.chunk_sectors)?;
        if ids.is_some() {
            write!(f, " sync-snapshots")?;
        }
        if self.preserve_on_error {
            write!(f, " preserve-on-error")?;
        }
        if self.discard_copy {
            write!(f, " discard-copy")?;
        }
        if self.origin_written {
            write!(f, " origin-written")?;
        }
        if let Some(chunks) = self.low_water {
            write!(f, " low-water {chunks}")?;
        }
        let CacheArgs { threshold, limit } = self.cache;
        let store = 2 * (usize::from(threshold.is_some()) + usize::from(limit.is_some()));
        write!(f, " {} {store}", self.store_type.name())?;
        if let Some(blocks) = threshold {
            write!(f, " cache-threshold {blocks}")?;
        }
        if let Some(blocks) = limit {
            write!(f, " cache-limit {blocks}")?;
        }
        if let Some(ids) = ids {
            write!(f, " {}", ids.len())?;
            for id in ids {
                write!(f, " {id}")?;
            }
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a record says a chunk holds, as one word.

use crate::store::types::{Dest, Value};
use kernel::prelude::*;

/// The value of a record that says zero.
const ZERO: u64 = 1 << 63;
/// The value of a record that says lost.
const LOST: u64 = 1 << 62;

/// The word for a value.
pub(crate) fn value_word(value: Value) -> u64 {
    match value {
        Value::Chunk(dest) => dest.0,
        Value::Zero => ZERO,
        Value::Lost => LOST,
    }
}

/// The value that a word stands for, in a data area of `chunks` chunks. `EILSEQ` if there is none.
pub(crate) fn value_of(word: u64, chunks: u64) -> Result<Value> {
    match word {
        ZERO => Ok(Value::Zero),
        LOST => Ok(Value::Lost),
        dest if dest < chunks => Ok(Value::Chunk(Dest(dest))),
        _ => Err(EILSEQ),
    }
}

/// The chunk of the store that a word names.
pub(crate) fn word_dest(word: u64) -> Option<u64> {
    (word & (ZERO | LOST) == 0).then_some(word)
}

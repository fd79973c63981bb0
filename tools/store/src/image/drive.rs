// SPDX-License-Identifier: GPL-2.0

//! What an engine asks of a store, one thing after the other and without data.

use crate::store::{blocks::Blocks, Chunk, ExceptionStore, Identity};
use kernel::prelude::*;

/// Writes to the log what has happened, and lets what was freed before be used again.
pub(crate) fn commit(store: &mut dyn ExceptionStore, blocks: &mut impl Blocks) -> Result {
    if let Some(write) = store.seal()? {
        let mut result = Ok(());
        for (nr, block) in (write.nr..).zip(&write.buf).take(write.count) {
            result = result.and(blocks.write_raw(nr, block));
        }
        store.sealed(write, result);
        result?;
    }
    let mark = store.free_mark();
    store.free_passed(mark.unwrap_or(0));
    Ok(())
}

/// Writes a checkpoint; everything was committed.
pub(crate) fn freeze(
    store: &mut dyn ExceptionStore,
    blocks: &mut impl Blocks,
    clean: Option<&Identity>,
) -> Result {
    let write = store.checkpoint(clean)?;
    let nodes = blocks.write_dirty();
    let result = nodes.and_then(|()| blocks.write_raw(write.nr, &write.block));
    store.checkpointed(write, result);
    result
}

/// Records a copy for some of the ids that need one before a chunk of the origin is written; whether
/// there were any.
pub(crate) fn preserve(store: &mut dyn ExceptionStore, chunk: u64) -> Result<bool> {
    store.reset_query(Chunk(chunk))?;
    if store.query_next_remap()?.is_none() {
        return Ok(false);
    }
    let remap = store.add_next_remap()?;
    let result = store.record(&remap);
    if result.is_err() {
        store.give_back(remap);
    }
    result.map(|()| true)
}

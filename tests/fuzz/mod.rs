// SPDX-License-Identifier: GPL-2.0

//! Whole images with damage and right checksums, and a store that must take or refuse them.
//!
//! An input is: which image, how many edits, the edits, and calls of the store. Whatever it is,
//! nothing may panic, run on without an end, or write where metadata must not be.

mod base;
mod device;
mod edits;
mod session;

use crate::store::StoreType;
use device::Ram;
use session::Session;
use std::sync::Arc;

/// Most edits of one input.
const EDITS_MAX: usize = 32;

/// Most calls of one input.
const CALLS_MAX: usize = 200;

/// Takes `data` apart: the damaged image, and the calls.
fn parse(data: &[u8]) -> Option<(Arc<device::Image>, &[u8])> {
    let (&[which, count], rest) = data.split_first_chunk::<2>()?;
    let image = base::image(which.into());
    let edits = usize::from(count) % (EDITS_MAX + 1) * edits::EDIT;
    let (edits, calls) = rest.split_at(edits.min(rest.len()));
    if edits.is_empty() {
        return Some((image, calls));
    }
    let mut image = image.as_ref().clone();
    edits::apply(&mut image, edits);
    Some((Arc::new(image), calls))
}

/// Does what `data` says.
pub(crate) fn run(data: &[u8]) {
    let Some((image, calls)) = parse(data) else {
        return;
    };
    let calls = &calls[..calls.len().min(CALLS_MAX * session::CALL)];
    let device = Ram::new(image.clone());
    let session = Session::load(&device, false);
    if session.is_err() {
        // Refused, and nothing but that: nor if it is to be read only.
        let _ = Session::load(&Ram::new(image), true);
        return;
    }
    let _ = session.ok().and_then(|session| session.run(calls));
}

/// The device that `data` describes: the kind of its store, the sectors of its chunks, and all
/// that it holds.
pub(crate) fn image(data: &[u8]) -> Option<(StoreType, u32, std::vec::Vec<u8>)> {
    let (image, _) = parse(data)?;
    let zero = [0; crate::store::blocks::BLOCK_SIZE];
    let blocks = image.iter().map(|block| block.as_deref().unwrap_or(&zero));
    let which = (*data.first()?).into();
    let all = blocks.flatten().copied().collect();
    Some((base::store_type(which), base::chunk_sectors(which), all))
}

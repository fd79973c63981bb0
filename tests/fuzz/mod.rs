// SPDX-License-Identifier: GPL-2.0

//! Whole images with damage and right checksums, and a store that must take or refuse them.
//!
//! An input is: which image, how many edits, the edits, and calls of the store. Whatever it is,
//! nothing may panic, run on without an end, or write where metadata must not be.

mod base;
mod device;
mod edits;
mod session;

use crate::store::format::SAMPLES;
use crate::store::{blocks::BLOCK_SIZE, load, FormatParams, Open, StoreType};
use device::Ram;
use session::Session;
use std::string::{String, ToString};
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
    let zero = [0; BLOCK_SIZE];
    let blocks = image.iter().map(|block| block.as_deref().unwrap_or(&zero));
    let which = (*data.first()?).into();
    let all = blocks.flatten().copied().collect();
    Some((base::store_type(which), base::chunk_sectors(which), all))
}

/// Whether a load takes what `data` describes, at the beginning of a device of so many blocks, for
/// an origin of so many sectors that is empty. If not, why; by the same steps as the module's.
pub(crate) fn taken(data: &[u8], blocks: usize, origin_sectors: u64) -> Option<Result<(), String>> {
    let (image, _) = parse(data)?;
    let which = (*data.first()?).into();
    let mut image = image.as_ref().clone();
    image.resize(blocks, None);
    let device = Ram::new(Arc::new(image));
    device.begin();
    Some(load_as_module(device, which, origin_sectors))
}

fn load_as_module(device: Ram, which: usize, origin_sectors: u64) -> Result<(), String> {
    let params = FormatParams {
        uuid: [1; 16],
        store_type: base::store_type(which),
        chunk_sectors: base::chunk_sectors(which),
        origin_sectors,
    };
    let why = |e: crate::store::OpenError| e.to_string();
    let open = Open::open_or_format(device, &params, false).map_err(why)?;
    open.check(params.chunk_sectors, params.store_type, origin_sectors)
        .map_err(why)?;
    if let Some(then) = open.identity() {
        let now = session::empty_origin(open.origin_sectors());
        if then.differing(&now) == SAMPLES {
            return Err("belongs to another origin".to_owned());
        }
    }
    let store = load(open).map_err(why)?;
    if store.geometry().origin_sectors > origin_sectors {
        return Err("belongs to an origin of".to_owned());
    }
    Ok(())
}

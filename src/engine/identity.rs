// SPDX-License-Identifier: GPL-2.0

//! Whether the origin is the one the store was made for: by its content, since names and numbers
//! change.

use crate::dm::{
    device::BlockDev,
    io::{IoClient, PageBuf, Run}, //
};
use crate::store::{format::SAMPLES, Identity};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Reads the samples of an origin of this many sectors.
pub(super) fn read(origin: &BlockDev, origin_sectors: u64) -> Result<KBox<Identity>> {
    let io = IoClient::new(origin.clone(), Arc::new((), GFP_KERNEL)?)?;
    let mut page = PageBuf::new(1)?;
    let mut identity = KBox::new(
        Identity {
            digests: [0; SAMPLES],
        },
        GFP_KERNEL,
    )?;
    for (i, digest) in identity.digests.iter_mut().enumerate() {
        let sector = Identity::position(i, origin_sectors);
        // A part of a block at the end of an odd-sized device is not sampled.
        if sector + 8 > origin_sectors {
            continue;
        }
        let run = Run {
            sector,
            first: 0,
            blocks: 1,
        };
        io.read_sync(&mut page, run)?;
        *digest = page.first().map_or(0, |block| Identity::digest(block));
    }
    Ok(identity)
}

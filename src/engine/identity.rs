// SPDX-License-Identifier: GPL-2.0

//! Whether the origin is the one the store was made for: by its content, since names and numbers
//! change.

use crate::dm::{
    bufio::{Block, Bufio, Seal},
    device::BlockDev, //
};
use crate::store::{format::SAMPLES, Identity};
use kernel::prelude::*;

/// The origin is only read this way.
struct Nothing;

impl Seal for Nothing {
    fn seal(_nr: u64, _block: &mut Block) {}
}

/// Reads the samples of an origin of this many sectors.
pub(super) fn read(origin: &BlockDev, origin_sectors: u64) -> Result<KBox<Identity>> {
    // A cache for the time of the call: all samples are on their way before the first is looked
    // at.
    let mut samples = Bufio::<Nothing>::new(origin, 1)?;
    // A part of a block at the end of an odd-sized device is not sampled.
    let blocks = origin_sectors / 8;
    let nr = |i| Some(Identity::position(i, origin_sectors) / 8).filter(|nr| *nr < blocks);
    for nr in (0..SAMPLES).filter_map(nr) {
        samples.prefetch(nr, 1);
    }
    let mut identity = KBox::new(
        Identity {
            digests: [0; SAMPLES],
        },
        GFP_KERNEL,
    )?;
    for (i, digest) in identity.digests.iter_mut().enumerate() {
        if let Some(nr) = nr(i) {
            *digest = samples.read(nr, |_| Ok(()), |block| Ok(Identity::digest(block)))?;
        }
    }
    Ok(identity)
}

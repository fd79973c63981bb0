// SPDX-License-Identifier: GPL-2.0

//! Whether an origin is as it was when its store was stopped, as the module looks at it.

use crate::{device::Disk, failure::Failure};
use multisnap_store::image::{bytes, digest, sample_sector, Header, Page, DIGESTS};

/// How many samples of an origin differ from those of its store: all if it is another one. None, if
/// the store was not stopped in good order and has none.
pub fn differing(origin: &Disk, header: &Header) -> Result<usize, Failure> {
    let Some(digests) = header.digests else {
        return Ok(0);
    };
    let now = samples(origin, header.origin_sectors)?;
    Ok(digests.iter().zip(&now).filter(|(a, b)| a != b).count())
}

/// Digests of some places of the origin.
fn samples(origin: &Disk, sectors: u64) -> Result<[u64; DIGESTS], Failure> {
    let mut digests = [0; DIGESTS];
    let blocks = sectors / 8;
    for (i, to) in digests.iter_mut().enumerate() {
        let block = sample_sector(i, sectors) / 8;
        if block >= blocks {
            continue;
        }
        let mut page = [Page::ZERO];
        let read = origin.read_to_end(block, &mut page);
        read.map_err(|e| Failure::io(origin.path(), "cannot be read", &e))?;
        *to = digest(bytes(&page));
    }
    Ok(digests)
}

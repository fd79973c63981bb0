// SPDX-License-Identifier: GPL-2.0

//! Whether an origin is as it was when its store was stopped, as the module looks at it.

use crate::{device::Disk, failure::Failure};
use multisnap_store::image::{bytes, digest, sample_sector, samples_taken, Header, Page, DIGESTS};

/// How an origin compares with what it was when its store was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// As it was; or the store was not stopped in good order, and nobody knows.
    Same,
    /// So many of so many samples differ.
    Differs(usize, usize),
    /// All do: it is another one.
    Other,
}

/// Compares samples of an origin with those of its store.
pub fn compare(origin: &Disk, header: &Header) -> Result<Compared, Failure> {
    let Some(digests) = header.digests else {
        return Ok(Compared::Same);
    };
    let now = samples(origin, header.origin_sectors)?;
    let taken = samples_taken(header.origin_sectors);
    Ok(
        match digests.iter().zip(&now).filter(|(a, b)| a != b).count() {
            0 => Compared::Same,
            n if n == taken => Compared::Other,
            n => Compared::Differs(n, taken),
        },
    )
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

// SPDX-License-Identifier: GPL-2.0

//! Images of stores, as tools see them: opened read-only and looked at, whole or damaged, or made
//! anew. Everything is done by the very code that the kernel runs.
//!
//! Units: a *block* is 4 KiB of the device, a *chunk* the unit of copying of this store, a
//! *sector* 512 bytes.

mod device;
#[cfg(any(test, feature = "rig"))]
pub(crate) mod drive;
mod fault;
mod id;
mod make;
mod part;
mod rest;
#[cfg(feature = "rig")]
pub mod rig;

pub use device::{bytes, bytes_mut, Device, Page, PAGE_BYTES};
pub use fault::{Fault, Refusal};
pub use id::SnapshotId;
pub use make::{Maker, Params};
pub use part::{Ids, Key, Part, Row, Scope, Tree, Value};
pub use rest::{epoch_of, is_rest};

use crate::store::{
    self,
    blocks::{Blocks, BLOCK_SIZE},
    format::{self, SuperInfo},
    ExceptionStore, Found, Open, OpenError, Salvage,
};
use device::Cache;
use kernel::prelude::*;
use std::{sync::Arc, vec, vec::Vec};

/// Numbers that are sampled of an origin, see `Documentation/format.rst`.
pub const DIGESTS: usize = format::SAMPLES;

/// A device that is cut short to less than one part of so many is not looked at: how large the
/// store says that it was is not to be believed.
const SHORT: u64 = 1024;

/// Which implementation keeps the exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Ranges of ids.
    Btree,
    /// Masks of 64 snapshots.
    Bitmask,
}

impl Type {
    /// The word for it in a table.
    pub fn name(self) -> &'static str {
        store::StoreType::from(self).name()
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Btree, Self::Bitmask]
            .into_iter()
            .find(|of| of.name() == name)
    }

    /// Whether it holds snapshots of snapshots.
    pub fn has_subs(self) -> bool {
        !store::StoreType::from(self).gives_bits()
    }
}

impl From<Type> for store::StoreType {
    fn from(of: Type) -> Self {
        match of {
            Type::Btree => Self::Btree,
            Type::Bitmask => Self::Bitmask,
        }
    }
}

/// What one of the two places of checkpoints holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing was ever written there.
    Empty,
    /// A checkpoint of this epoch.
    Checkpoint(u64),
    /// Neither: a torn write, or damage.
    Torn,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Drawn when it was formatted.
    pub uuid: [u8; 16],
    /// Which implementation it is for.
    pub store_type: Type,
    /// Sectors in a chunk.
    pub chunk_sectors: u32,
    /// Sectors of the origin.
    pub origin_sectors: u64,
    /// Sectors of the store.
    pub store_sectors: u64,
    /// First block of the first metadata area, and its blocks.
    pub first_area: (u64, u64),
    /// Block where the data area begins.
    pub data_start: u64,
    /// Chunks in the data area.
    pub data_chunks: u64,
    /// Whether it was stopped in good order.
    pub clean: bool,
    /// What the origin looked like then.
    pub digests: Option<[u64; DIGESTS]>,
    /// Whether it is marked as damaged.
    pub needs_check: bool,
    /// What ids up to this one have no record for is lost.
    pub lost_to: Option<SnapshotId>,
    /// Number of the next snapshot of the origin.
    pub next_id: u64,
    /// Blocks and number of the two places of checkpoints.
    pub places: [(u64, Place); 2],
    /// Block of the copy of the superblock, and whether it says the same.
    pub copy: (u64, bool),
}

impl Header {
    /// Blocks of a chunk.
    pub fn chunk_blocks(&self) -> u64 {
        u64::from(self.chunk_sectors) / (BLOCK_SIZE as u64 / 512)
    }

    /// Epoch of the newest checkpoint.
    pub fn epoch(&self) -> u64 {
        let epochs = self.places.iter().map(|(_, place)| match place {
            Place::Checkpoint(epoch) => *epoch,
            _ => 0,
        });
        epochs.max().unwrap_or(0)
    }

    /// First block of chunk `dest` of the store. `None` if there is no such chunk.
    pub fn data_block(&self, dest: u64) -> Option<u64> {
        let start = dest.checked_mul(self.chunk_blocks())?;
        (dest < self.data_chunks)
            .then(|| start.checked_add(self.data_start))
            .flatten()
    }
}

/// Space in a store, as it counts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Chunks of the data area that hold data or metadata.
    pub used_chunks: u64,
    /// Chunks of the data area that were given to metadata.
    pub metadata_chunks: u64,
    /// Blocks of metadata in all.
    pub metadata_blocks: u64,
    /// Blocks of metadata that are in use.
    pub metadata_used: u64,
    /// Log blocks that no checkpoint covers.
    pub log_used: u64,
    /// No chunk from here on was ever used.
    pub high_water: u64,
    /// Snapshots.
    pub live_ids: u64,
}

enum State {
    /// Loaded as the kernel does it.
    Whole(KBox<dyn ExceptionStore>),
    /// The trees of a checkpoint.
    Raw(KBox<Salvage<Cache>>),
}

/// A store that is looked at. Nothing is written; a log is replayed in memory.
pub struct Image {
    header: Header,
    state: State,
}

impl Image {
    /// Opens a store that is in order, as far as the kernel would see when it loads it.
    pub fn open(device: &Arc<dyn Device>) -> Result<Self, Refusal> {
        if device.blocks() < format::HEADER_BLOCKS {
            return Err(Refusal::TooSmall);
        }
        let mut cache = Cache::new(device.clone(), None);
        let open = peek(&mut cache)?;
        let (header, open) = read_header(&mut cache, open)?;
        let store = store::load(open)?;
        Self::whole(header, store)
    }

    /// Opens a store as far as that can be done, and says what is wrong with it.
    pub fn open_damaged(device: &Arc<dyn Device>) -> Result<(Self, Vec<Fault>), Refusal> {
        match Self::open(device) {
            Ok(image) => Ok((image, Vec::new())),
            Err(refusal) if refusal.is_damage() => Self::salvage(device, &refusal),
            Err(refusal) => Err(refusal),
        }
    }

    fn salvage(device: &Arc<dyn Device>, why: &Refusal) -> Result<(Self, Vec<Fault>), Refusal> {
        let mut faults = Vec::new();
        let mut why = why.clone();
        let mut look = Look {
            device,
            len: None,
            forgiving: why == Refusal::Io,
            copy: false,
        };
        if look.forgiving {
            let plain = Cache::new(device.clone(), None);
            let torn = format::CHECKPOINT_NRS.map(|nr| (!plain.is_readable(nr)).then_some(nr));
            for block in torn.into_iter().flatten() {
                let what = "checkpoint";
                faults.push(Fault::Load { what, block });
            }
            why = peek(&mut look.cache()?).err().unwrap_or(why);
        }
        if matches!(why, Refusal::Damaged(_, format::SUPER_NR)) {
            look.copy = true;
            let (what, block) = ("superblock", format::SUPER_NR);
            let mut cache = look.cache().map_err(|_| why.clone())?;
            faults.push(Fault::Load { what, block });
            why = peek(&mut cache).err().unwrap_or(why);
        }
        // The first part of it that is missing need not be the last.
        while let Refusal::CutShort { store, device: now } = why {
            let blocks = store / (BLOCK_SIZE as u64 / 512);
            let have = now.min(device.blocks().saturating_mul(BLOCK_SIZE as u64 / 512));
            let too_short = blocks / SHORT > device.blocks();
            if too_short || look.len.is_some_and(|len| blocks <= len) {
                return Err(why);
            }
            look.len = Some(blocks);
            faults.retain(|fault| !matches!(fault, Fault::CutShort { .. }));
            faults.push(Fault::CutShort {
                store,
                device: have,
            });
            match peek(&mut look.cache()?) {
                Ok(_) => break,
                Err(other) => why = other,
            }
        }
        let again = || peek(&mut look.cache()?);
        let (header, open) = read_header(&mut look.cache()?, again()?)?;
        match store::load(open) {
            Ok(store) => return Ok((Self::whole(header, store)?, faults)),
            Err(OpenError::Damaged(what, block)) => faults.push(Fault::Load { what, block }),
            Err(OpenError::Io(_)) => faults.push(Fault::Unreadable),
            Err(other) => return Err(other.into()),
        }
        let mut skipped = Vec::new();
        match store::load_damaged(again()?, &mut |record| skipped.push(record)) {
            Ok(store) if !store.is_poisoned() => {
                faults.extend(skipped.into_iter().map(Fault::from));
                return Ok((Self::whole(header, store)?, faults));
            }
            _ => {}
        }
        let raw = Salvage::new(again()?).map_err(OpenError::from)?;
        if raw.has_log {
            faults.push(Fault::NoLog);
        }
        let state = State::Raw(KBox::new(raw));
        Ok((Self { header, state }, faults))
    }

    fn whole(mut header: Header, mut store: KBox<dyn ExceptionStore>) -> Result<Self, Refusal> {
        let geometry = store.geometry();
        // The log may say that they have grown.
        header.origin_sectors = geometry.origin_sectors;
        header.data_chunks = geometry.data_chunks;
        if let Some(tools) = store.tools() {
            header.lost_to = lost_to(tools.lost_to());
            header.next_id = tools.next_top();
        }
        let state = State::Whole(store);
        Ok(Self { header, state })
    }

    /// The number of a store, from its superblock alone, which is never written again: so it can
    /// be in use.
    pub fn uuid(device: &Arc<dyn Device>) -> Result<[u8; 16], Refusal> {
        let mut cache = Cache::new(device.clone(), None);
        let mut block = [0; BLOCK_SIZE];
        let read = cache.read_raw(format::SUPER_NR, &mut block);
        read.map_err(OpenError::from)?;
        let head = format::header(&block);
        if head.kind.get() != format::Kind::Super as u32 {
            return Err(Refusal::Foreign);
        }
        if !format::check_sum(&block, |seed, data| cache.crc32c(seed, data)) {
            return Err(Refusal::Damaged("superblock".into(), format::SUPER_NR));
        }
        Ok(head.uuid)
    }

    /// What the store says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether it could be loaded, so that chunks can be looked up.
    pub fn is_loaded(&self) -> bool {
        matches!(self.state, State::Whole(_))
    }

    /// Space as the store counts it; `None` if it could not be loaded.
    pub fn space(&self) -> Option<Space> {
        let State::Whole(store) = &self.state else {
            return None;
        };
        let space = store.space();
        Some(Space {
            used_chunks: space.used_chunks,
            metadata_chunks: space.metadata_chunks,
            metadata_blocks: space
                .metadata_blocks_used
                .saturating_add(space.metadata_blocks_free),
            metadata_used: space.metadata_blocks_used,
            log_used: space.log_used,
            high_water: store.high_water(),
            live_ids: store.live_ids(),
        })
    }

    /// Shows what the store holds to `f`, past what is damaged, until `f` answers false. `f` must
    /// not use the image.
    pub fn survey(&mut self, scope: Scope, f: &mut dyn FnMut(Part) -> bool) {
        let of = self.header.store_type;
        let mut show = |part: store::Part| match f(Part::new(part, of)) {
            true => Ok(()),
            false => Err(EAGAIN),
        };
        // There are no errors but that one: what cannot be read is a part.
        let _ = match &mut self.state {
            State::Raw(raw) => raw.survey(scope.into(), &mut show),
            State::Whole(store) => match store.tools() {
                Some(tools) => tools.survey(scope.into(), &mut show),
                None => Ok(()),
            },
        };
    }

    /// Number of the next snapshot of the snapshot `id`, if it is known.
    pub fn next_sub(&mut self, id: u32) -> Option<u32> {
        match &mut self.state {
            State::Raw(_) => None,
            State::Whole(store) => store.tools().map(|tools| tools.next_sub(id)),
        }
    }

    /// What `chunk` of the snapshot `id` holds; `None` if that is the origin's content. An error
    /// if it cannot be told: the snapshot is not there, or the metadata is damaged.
    pub fn find(&mut self, chunk: u64, id: SnapshotId) -> Result<Option<Value>, Fault> {
        let State::Whole(store) = &mut self.state else {
            return Err(Fault::NoLog);
        };
        match store.find(store::Chunk(chunk), store::SnapId(id.0)) {
            Ok(Found::NotRemapped) => Ok(None),
            Ok(Found::Shared(value) | Found::Private(value)) => Ok(Some(value.into())),
            Err(_) => Err(Fault::Lookup { chunk, id }),
        }
    }
}

/// How a damaged store is looked at.
struct Look<'a> {
    device: &'a Arc<dyn Device>,
    /// Blocks that the device is said to have.
    len: Option<u64>,
    /// What cannot be read of the header is as if it were zero.
    forgiving: bool,
    /// The superblock is what its copy says that it was.
    copy: bool,
}

impl Look<'_> {
    /// The device, so. An error if there is no copy.
    fn cache(&self) -> Result<Cache, Refusal> {
        let cache = Cache::new(self.device.clone(), self.len);
        if self.forgiving {
            cache.forgive();
        }
        if self.copy && !cache.use_copy() {
            return Err(Refusal::Io);
        }
        Ok(cache)
    }
}

/// Reads superblock and checkpoint.
fn peek(cache: &mut Cache) -> Result<Open<Cache>, Refusal> {
    Open::peek(cache.clone(), true).map_err(|e| refusal(cache, e))
}

/// What an error of opening means: where the superblock is gone, its checkpoints may still tell that
/// this was a store.
fn refusal(cache: &mut Cache, e: OpenError) -> Refusal {
    if e != OpenError::Foreign {
        return e.into();
    }
    let damaged = Refusal::Damaged("superblock".into(), format::SUPER_NR);
    // A superblock of zeroes is no proof that there was none.
    if rest::has_snapshots(cache) {
        return damaged;
    }
    match store::is_blank(cache) {
        Ok(true) => Refusal::Blank,
        _ if rest::checkpoints(cache).next().is_some() => damaged,
        _ => Refusal::Foreign,
    }
}

/// Sector where sample `i` of an origin of this many sectors begins; it is of 4 KiB, or less at
/// the end of the origin. See `Documentation/format.rst`.
pub fn sample_sector(i: usize, origin_sectors: u64) -> u64 {
    store::Identity::position(i, origin_sectors)
}

/// How many samples of an origin of this size there are; a part of 4 KiB at its end is none.
pub fn samples_taken(origin_sectors: u64) -> usize {
    store::Identity::taken(origin_sectors)
}

/// Digest of the content of a sample.
pub fn digest(data: &[u8]) -> u64 {
    store::Identity::digest(data)
}

fn lost_to(n: u64) -> Option<SnapshotId> {
    (n != 0).then_some(SnapshotId(n))
}

/// What the superblock and the checkpoints say, without the log.
fn read_header(cache: &mut Cache, open: Open<Cache>) -> Result<(Header, Open<Cache>), OpenError> {
    let mut block = [0; BLOCK_SIZE];
    let mut places = format::CHECKPOINT_NRS.map(|nr| (nr, Place::Torn));
    for (nr, place) in &mut places {
        if cache.read_raw(*nr, &mut block).is_err() {
            continue;
        }
        let good = format::check_sum(&block, |seed, data| cache.crc32c(seed, data));
        let head = format::header(&block);
        if block.iter().all(|byte| *byte == 0) {
            *place = Place::Empty;
        } else if good && head.uuid == *open.uuid() && head.nr.get() == *nr {
            *place = Place::Checkpoint(head.epoch.get());
        }
    }
    cache.read_raw(format::SUPER_NR, &mut block)?;
    let same = cache.copy().is_some_and(|copy| *copy == block);
    let info = *format::info::<SuperInfo>(&block)?;
    let chunk_blocks = u64::from(open.chunk_sectors()) / (BLOCK_SIZE as u64 / 512);
    let data_start = info.data_start.get();
    let blocks = (open.store_sectors() / (BLOCK_SIZE as u64 / 512)).saturating_sub(data_start);
    let identity = open.identity();
    let (lost, next) = open.lost_and_next();
    let header = Header {
        uuid: *open.uuid(),
        store_type: match open.store_type() {
            store::StoreType::Btree => Type::Btree,
            store::StoreType::Bitmask => Type::Bitmask,
        },
        chunk_sectors: open.chunk_sectors(),
        origin_sectors: open.origin_sectors(),
        store_sectors: open.store_sectors(),
        first_area: (info.meta_start.get(), info.meta_len.get()),
        data_start,
        data_chunks: blocks.checked_div(chunk_blocks).unwrap_or(0),
        clean: identity.is_some(),
        digests: identity.map(|identity| identity.digests),
        needs_check: open.needs_check(),
        lost_to: lost_to(lost),
        next_id: next,
        places,
        copy: (format::SUPER_COPY_NR, same),
    };
    Ok((header, open))
}

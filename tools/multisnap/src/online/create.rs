// SPDX-License-Identifier: GPL-2.0

//! `multisnap create`: makes a store of an empty device, and starts its origin.

use super::{enable, line, lock::Lock, need_target, start};
use crate::{
    device::{Disk, For},
    dm::{wire::Dev, Control},
    failure::{Code, Failure},
    out, signature,
    size::{self, SECTOR},
};
use clap::ValueEnum;
use multisnap_store::image::{Maker, Params, Refusal, Type};
use serde::Serialize;
use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

/// What `create` is told.
#[derive(clap::Args)]
#[command(
    after_help = "Example: multisnap create /dev/vg/home /dev/vg/store --name home --preserve-on-error"
)]
pub struct Args {
    /// The plain device. Its content stays as it is.
    origin: PathBuf,
    /// An empty device.
    store: PathBuf,
    #[command(flatten)]
    of: Of,
    /// Only make the store. The origin may be in use.
    #[arg(long)]
    no_start: bool,
    /// Start the origin each time the machine starts.
    #[arg(long)]
    enable: bool,
    #[command(flatten)]
    how: start::How,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// What kind of store is made.
#[derive(clap::Args)]
pub struct Of {
    /// The type of store: btree for any number of snapshots, bitmask for 64 that are written to.
    #[arg(long = "store", value_name = "TYPE", default_value = "btree")]
    of: Kind,
    /// Bytes that are copied at once: a power of two from 4K to 1G.
    #[arg(long, value_name = "SIZE", default_value = "16K", value_parser = size::parse)]
    chunk_size: u64,
}

/// A type of store.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Btree,
    Bitmask,
}

impl From<Kind> for Type {
    fn from(of: Kind) -> Self {
        match of {
            Kind::Btree => Type::Btree,
            Kind::Bitmask => Type::Bitmask,
        }
    }
}

/// What is told of a store that was made and not started.
#[derive(Serialize)]
struct Made<'a> {
    store: Cow<'a, str>,
    uuid: String,
    origin_sectors: u64,
    chunk_sectors: u32,
    store_type: &'a str,
}

/// Makes a store, and starts its origin.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    if !args.no_start {
        need_target(&control, line::ORIGIN)?;
    }
    let (origin, store) = start::pair(&args.origin, &args.store)?;
    let chunk_sectors = args.of.chunk_sectors(origin, store)?;
    signature::not_store(&args.origin)?;
    let _lock = Lock::take(origin)?;
    let name = args
        .how
        .check(&control, &args.origin, origin, store, args.no_start)?;
    let pair = ((&*args.origin, origin), (&*args.store, store));
    let file = enable::plan(args.enable, &name, pair.0, pair.1, &args.how)?;
    let origin_sectors = Disk::open(&args.origin, For::Live)?.len() / SECTOR;
    let params = args.of.params(chunk_sectors, origin_sectors)?;
    make(&args.store, store, &params)?;
    let up = || {
        let (origin, store) = (&args.origin, &args.store);
        start::up(&control, origin, store, &name, &args.how)
    };
    let started = (!args.no_start).then(up).transpose()?;
    if let Some(file) = file {
        enable::file(&name, &file, (origin, store), started.is_some())?;
    }
    if let Some(up) = started {
        return up.tell(args.json);
    }
    let made = Made {
        store: args.store.to_string_lossy(),
        uuid: out::hex(&params.uuid),
        origin_sectors,
        chunk_sectors,
        store_type: params.store_type.name(),
    };
    if args.json {
        out::line(&made)?;
    } else {
        let (origin, store) = (args.origin.display(), args.store.display());
        out::text(&format!(
            "{store} is a store: multisnap start {origin} {store}\n"
        ))?;
    }
    Ok(Code::Good)
}

impl Of {
    /// Checks the size of a chunk.
    pub fn chunk_sectors(&self, origin: Dev, store: Dev) -> Result<u32, Failure> {
        let blocks = (block_size(origin), block_size(store));
        chunk_sectors(self.chunk_size, blocks.0, blocks.1).map_err(|why| {
            let then = "say a power of two from 4K to 1G, such as: --chunk-size 16K";
            Failure::new(Path::new("--chunk-size"), why, then)
        })
    }

    /// What a new store for an origin of this size is made with.
    pub fn params(&self, chunk_sectors: u32, origin_sectors: u64) -> Result<Params, Failure> {
        Ok(Params {
            uuid: out::draw_uuid()?,
            store_type: self.of.into(),
            chunk_sectors,
            origin_sectors,
        })
    }
}

/// Makes a store of a device that holds nothing.
pub fn make(path: &Path, dev: Dev, params: &Params) -> Result<(), Failure> {
    start::free(path, dev)?;
    let (_, device) = Disk::open(path, For::Output)?.shared();
    // Now nobody else can make anything of it.
    signature::none(path)?;
    let made = Maker::new(&device, params).and_then(|maker| maker.finish(None));
    made.map_err(|refusal| match refusal {
        Refusal::TooSmall => {
            let what = "is too small for a store";
            Failure::new(
                path,
                what,
                "take a larger device, or smaller chunks: --chunk-size 4K",
            )
        }
        Refusal::Foreign | Refusal::Blank | Refusal::Rest => signature::failure(path, &refusal),
        _ => Failure::refused(path, &refusal),
    })
}

/// Bytes of a block of a device; 512 if that cannot be known.
fn block_size(dev: Dev) -> u64 {
    // A partition has the queue of its disk.
    ["queue", "../queue"]
        .iter()
        .find_map(|queue| {
            let path = format!("/sys/dev/block/{dev}/{queue}/logical_block_size");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        })
        .unwrap_or(SECTOR)
}

/// Checks the size of a chunk; in sectors.
fn chunk_sectors(bytes: u64, origin_block: u64, store_block: u64) -> Result<u32, String> {
    let (least, most) = (4 << 10, 1 << 30);
    if !bytes.is_power_of_two() || !(least..=most).contains(&bytes) {
        return Err(format!("{} is no size of a chunk", size::show(bytes)));
    }
    if bytes < origin_block {
        return Err(format!(
            "is less than a block of the origin: {}",
            size::show(origin_block)
        ));
    }
    if store_block > origin_block {
        let (store, origin) = (size::show(store_block), size::show(origin_block));
        return Err(format!("will not help: blocks of the store ({store}) must not be larger than those of the origin ({origin})"));
    }
    u32::try_from(bytes / SECTOR).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::chunk_sectors;

    #[test]
    fn chunk_sizes_are_checked() {
        assert_eq!(chunk_sectors(4096, 512, 512), Ok(8));
        assert_eq!(chunk_sectors(1 << 30, 4096, 512), Ok(2_097_152));
        for bad in [0, 512, 2048, 12288, 1 << 31, u64::MAX] {
            assert!(chunk_sectors(bad, 512, 512).is_err(), "{bad}");
        }
        assert!(chunk_sectors(4096, 8192, 512).is_err());
        assert!(chunk_sectors(16384, 512, 4096).is_err());
    }
}

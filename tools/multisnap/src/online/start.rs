// SPDX-License-Identifier: GPL-2.0

//! `multisnap start`: loads an origin and its store.

use super::{
    because, enable,
    line::{self, OriginLine},
    lock::Lock,
    need_target,
    volume::Devices,
};
use crate::{
    device::{Disk, For},
    dm::{klog::Log, node, wire::Dev, Control},
    failure::{Code, Failure},
    out,
    size::{self, SECTOR},
};
use multisnap_store::image::{Header, Image, Refusal};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `start` is told.
#[derive(clap::Args)]
#[command(
    after_help = "Example: multisnap start /dev/vg/home /dev/vg/store --name home --preserve-on-error"
)]
pub struct Args {
    /// The plain device.
    origin: PathBuf,
    /// Its store.
    store: PathBuf,
    #[command(flatten)]
    how: How,
    /// Start it each time the machine starts, too.
    #[arg(long)]
    enable: bool,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// How an origin is loaded. Nothing of it is in the store: it must be said each time.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct How {
    /// Name below /dev/mapper; "ms-" and the origin's name if nothing is said.
    #[arg(long)]
    pub name: Option<String>,
    /// Write nothing to the store. Neither origin nor snapshots can be written.
    #[arg(long)]
    pub read_only: bool,
    /// It is put under where it is, see `under`; files alone say so.
    #[arg(skip)]
    pub under: bool,
    #[command(flatten)]
    pub options: Options,
}

/// What is said in the table.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Fail writes of the origin whose old content cannot be kept, rather than lose it.
    #[arg(long)]
    pub preserve_on_error: bool,
    /// Raise an event when less than this is free in the store: a size, or percent, as in 10%.
    #[arg(long, value_name = "SIZE")]
    pub low_water: Option<String>,
    /// Keep the old content of what the origin discards.
    #[arg(long)]
    pub discard_copy: bool,
    /// Keep so much metadata in memory.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub cache_limit: Option<u64>,
    /// Write changed metadata when it comes to so much.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub cache_threshold: Option<u64>,
}

/// What is told of an origin that was started.
#[derive(Serialize)]
pub struct Started<'a> {
    pub volume: &'a str,
    pub device: PathBuf,
    pub uuid: &'a str,
    pub sectors: u64,
    pub store_type: &'a str,
    pub chunk_sectors: u32,
}

/// Loads an origin and its store.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    need_target(&control, line::ORIGIN)?;
    let (origin, store) = pair(&args.origin, &args.store)?;
    let _lock = Lock::take(origin)?;
    let name = args
        .how
        .check(&control, &args.origin, origin, store, false)?;
    let pair = ((&*args.origin, origin), (&*args.store, store));
    let file = enable::plan(args.enable, &name, pair.0, pair.1, &args.how)?;
    let up = up(&control, &args.origin, &args.store, &name, &args.how)?;
    if let Some(file) = file {
        enable::file(&name, &file, (origin, store), true)?;
    }
    up.tell(args.json)
}

/// The numbers of origin and store.
pub fn pair(origin: &Path, store: &Path) -> Result<(Dev, Dev), Failure> {
    let dev = |path: &Path| {
        node::dev_at(path).ok_or_else(|| {
            let then = "see lsblk for the names of devices; losetup makes one of a file";
            Failure::new(path, "is no block device", then)
        })
    };
    let both = (dev(origin)?, dev(store)?);
    if both.0 == both.1 {
        let then = "say the origin first, and then another device for the store";
        return Err(Failure::new(store, "is the origin itself", then));
    }
    Ok(both)
}

impl How {
    /// Checks what can be checked before anything is done; the name that the device gets. The
    /// origin may be in use if it is not to be started now.
    pub fn check(
        &self,
        control: &Control,
        path: &Path,
        origin: Dev,
        store: Dev,
        later: bool,
    ) -> Result<String, Failure> {
        not_started(control, path, origin, store)?;
        if !later {
            free(path, origin)?;
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => default_name(path),
        };
        if !line::is_device_name(&name) {
            let what = "can be no name of a device";
            let then = "say another one with --name, of letters, digits and # + - . : = @ _";
            return Err(Failure::new(Path::new(&name), what, then));
        }
        if control.info(&name).is_ok() {
            let then = "say another name: --name NAME";
            return Err(Failure::new(
                Path::new(&name),
                "is the name of a device already",
                then,
            ));
        }
        Ok(name)
    }
}

/// Fails if one of the two is in use by a volume.
pub fn not_started(control: &Control, path: &Path, origin: Dev, store: Dev) -> Result<(), Failure> {
    let devices = Devices::find(control)?;
    let loaded = devices.volumes.iter().find(|volume| {
        let used = [volume.line.origin, volume.line.store];
        used.contains(&origin) || used.contains(&store)
    });
    match loaded {
        None => Ok(()),
        Some(volume) => {
            let what = format!("is started as {}, or its store is", volume.name);
            let then = format!("see it: multisnap status {}", volume.name);
            Err(Failure::new(path, what, then))
        }
    }
}

impl Options {
    /// The line for a table.
    pub fn line(&self, origin: Dev, store: Dev, header: &Header) -> Result<OriginLine, Failure> {
        self.words(origin, store, header).map_err(|why| {
            let then = "see the options: multisnap help start";
            Failure::new(Path::new("--low-water"), why, then)
        })
    }

    fn words(&self, origin: Dev, store: Dev, header: &Header) -> Result<OriginLine, String> {
        let of = header.store_type.name();
        let mut line = OriginLine::new(origin, store, header.chunk_sectors, of);
        let mut words = |word: &str| line.generic.push(word.to_owned());
        if self.preserve_on_error {
            words("preserve-on-error");
        }
        if self.discard_copy {
            words("discard-copy");
        }
        if let Some(text) = &self.low_water {
            words("low-water");
            words(&chunks(text, header.chunk_sectors, header.data_chunks)?.to_string());
        }
        for (word, bytes) in [
            ("cache-limit", self.cache_limit),
            ("cache-threshold", self.cache_threshold),
        ] {
            if let Some(bytes) = bytes {
                line.store_args.push(word.to_owned());
                line.store_args.push((bytes / 4096).to_string());
            }
        }
        Ok(line)
    }
}

/// A size or a share of all chunks, in chunks.
pub fn chunks(text: &str, chunk_sectors: u32, total: u64) -> Result<u64, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u8 = percent
            .parse()
            .ok()
            .filter(|n| *n <= 100)
            .ok_or_else(|| format!("{text:?} is no share: say 10%"))?;
        let share = u128::from(total) * u128::from(percent) / 100;
        return Ok(u64::try_from(share).unwrap_or(total));
    }
    let bytes = size::parse(text)?;
    let chunk = u64::from(chunk_sectors).max(1).saturating_mul(SECTOR);
    Ok(bytes.div_ceil(chunk))
}

/// Name of the mapped device of an origin that nobody has named.
fn default_name(origin: &Path) -> String {
    let name = origin.file_name().unwrap_or_default().to_string_lossy();
    let mut name: String = name
        .chars()
        .map(|c| {
            if line::is_device_name(&c.to_string()) || c == '.' {
                c
            } else {
                '_'
            }
        })
        .collect();
    name.truncate(100);
    format!("ms-{name}")
}

/// Fails if somebody else has a device for himself, and says who.
pub fn free(path: &Path, dev: Dev) -> Result<(), Failure> {
    Disk::open(path, For::Store)
        .map(drop)
        .map_err(|failure| match node::users(dev) {
            Some((what, then)) => Failure::new(path, what, then),
            None => failure,
        })
}

/// An origin that was started.
pub struct Up {
    name: String,
    line: OriginLine,
    uuid: String,
    sectors: u64,
}

impl Up {
    /// Tells of it. That comes last, since nobody may be there to read it.
    pub fn tell(&self, json: bool) -> Result<Code, Failure> {
        let device = node::path(&self.name);
        if json {
            out::line(&Started {
                volume: &self.name,
                device,
                uuid: &self.uuid,
                sectors: self.sectors,
                store_type: &self.line.store_type,
                chunk_sectors: self.line.chunk,
            })?;
        } else {
            out::text(&format!(
                "{} is started: use {} from now on\n",
                self.name,
                device.display()
            ))?;
        }
        Ok(Code::Good)
    }
}

/// Loads an origin, after all was checked.
pub fn up(
    control: &Control,
    origin: &Path,
    store: &Path,
    name: &str,
    how: &How,
) -> Result<Up, Failure> {
    let (from, to) = pair(origin, store)?;
    free(store, to)?;
    let header = header(origin, store)?;
    let sectors = Disk::open(origin, For::Live)?.len() / SECTOR;
    fits(origin, sectors, store, &header)?;
    let line = how.options.line(from, to, &header)?;
    let uuid = line::uuid(&header.uuid);
    let mut log = Log::listen();
    control
        .create(name, &uuid, &[line.target(sectors)], how.read_only, 0)
        .map_err(|e| because(&mut log, name, "cannot be started", &e, super::SEE_LOG))?;
    Ok(Up {
        name: name.to_owned(),
        line,
        uuid,
        sectors,
    })
}

/// What is in a store.
pub fn header(origin: &Path, store: &Path) -> Result<Header, Failure> {
    Ok(image(origin, store)?.header().clone())
}

/// A store, as it would be loaded.
pub fn image(origin: &Path, store: &Path) -> Result<Image, Failure> {
    let (_, device) = Disk::open(store, For::Live)?.shared();
    Image::open(&device).map_err(|refusal| no_store(origin, store, &refusal))
}

/// Fails if an origin is shorter than it was.
pub fn fits(origin: &Path, sectors: u64, store: &Path, header: &Header) -> Result<(), Failure> {
    if sectors >= header.origin_sectors {
        return Ok(());
    }
    let what = format!(
        "has {sectors} sectors, but the origin of {} has {}",
        store.display(),
        header.origin_sectors
    );
    let then = "say the right origin, or make it as large again";
    Err(Failure::new(origin, what, then))
}

/// What is said of a store that cannot be loaded.
fn no_store(origin: &Path, store: &Path, refusal: &Refusal) -> Failure {
    let then = || format!("multisnap create {} {}", origin.display(), store.display());
    match refusal {
        Refusal::Blank => {
            Failure::new(store, "is empty", format!("make a store of it: {}", then()))
        }
        Refusal::Foreign | Refusal::TooSmall => crate::signature::failure(store, refusal),
        _ => Failure::refused(store, refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_give_names() {
        for (path, name) in [
            ("/dev/sdb1", "ms-sdb1"),
            ("/dev/vg/home", "ms-home"),
            ("/dev/mapper/vg-home", "ms-vg-home"),
            ("/dev/disk/by-label/my disk", "ms-my_disk"),
        ] {
            assert_eq!(default_name(Path::new(path)), name);
            assert!(line::is_device_name(name));
        }
    }

    #[test]
    fn shares_are_chunks() {
        assert_eq!(chunks("10%", 32, 1000), Ok(100));
        assert_eq!(chunks("1M", 32, 1000), Ok(64));
        assert_eq!(chunks("1", 32, 1000), Ok(1));
        assert_eq!(chunks("100%", 8, u64::MAX), Ok(u64::MAX));
        for bad in ["101%", "%", "-1%", "x", "1X"] {
            assert!(chunks(bad, 32, 1000).is_err(), "{bad}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap under`: puts a mapped device, such as a logical volume, under multisnapshot where it
//! is, and while it is in use.
//!
//! A second device gets the table that the device has, and becomes the origin; the device gets the
//! table of the origin's target. Names, numbers and whoever has the device open stay.

use super::{
    because, create, hidden,
    line::{self, OriginLine},
    lock::Lock,
    need_target, start,
    swap::Swap,
    SEE_LOG,
};
use crate::{
    device::{Disk, For},
    dm::{self, klog::Log, node, wire::Dev, wire::Target, Control},
    failure::{words, Code, Failure},
    out, signature,
    size::count,
    table::Table,
};
use multisnap_store::image::{Header, Image, Params};
use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

/// What `under` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap under /dev/vg/home /dev/vg/home-store --create")]
pub struct Args {
    /// The mapped device, such as a logical volume. It may be in use.
    device: PathBuf,
    /// Its store.
    store: PathBuf,
    /// Make the store first, of an empty device. One that is new and fits is taken as it is.
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    of: create::Of,
    #[command(flatten)]
    options: start::Options,
    /// Do it although the device was in use without multisnapshot. The snapshots that there are lose
    /// what they share with it, and keep what is in the store.
    #[arg(long)]
    lose_snapshots: bool,
    /// How long what is under way on the device may be waited for.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Targets that keep nothing of their own, so that there may be two of them.
const SIMPLE: [&str; 2] = ["linear", "striped"];

/// Puts a device under.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    need_target(&control, line::ORIGIN)?;
    // What leads back if something fails.
    need_target(&control, line::OUT)?;
    let (dev, store) = start::pair(&args.device, &args.store)?;
    let _lock = Lock::take(dev)?;
    let device = Device::look(&control, &args.device, dev)?;
    start::not_started(&control, &args.device, dev, store)?;
    signature::not_store(&args.device)?;
    if args.create {
        let chunk = args.of.chunk_sectors(dev, store)?;
        let params = args.of.params(chunk, device.sectors)?;
        if !is_new(&args.store, &params) {
            create::make(&args.store, store, &params)?;
        }
    }
    start::free(&args.store, store)?;
    let mut image = start::image(&args.device, &args.store)?;
    let header = image.header().clone();
    let Some(space) = image.space() else {
        let then = format!("multisnap check {}", args.store.display());
        return Err(Failure::new(&args.store, "cannot be read as a whole", then));
    };
    let snapshots = sharing(&mut image, space.live_ids);
    drop(image);
    start::fits(&args.device, device.sectors, &args.store, &header)?;
    let mut log = Log::listen();
    let line = device.put(&control, args, store, (&header, snapshots), &mut log)?;
    let path = node::path(&device.name);
    if args.json {
        out::line(&start::Started {
            volume: &device.name,
            device: path,
            uuid: &line::uuid(&header.uuid),
            sectors: device.sectors,
            store_type: &line.store_type,
            chunk_sectors: line.chunk,
        })?;
    } else {
        out::text(&format!(
            "{} is under multisnapshot: make snapshots of it with multisnap snapshot {}\n",
            path.display(),
            device.name
        ))?;
    }
    Ok(Code::Good)
}

/// Whether a device holds a store that is like the one that is to be made, and that no snapshot was
/// ever in: one that this command has made before it failed.
fn is_new(store: &Path, params: &Params) -> bool {
    let Ok(disk) = Disk::open(store, For::Live) else {
        return false;
    };
    let (_, device) = disk.shared();
    Image::open(&device).is_ok_and(|image| {
        let header = image.header();
        header.next_id == 1
            && header.store_type == params.store_type
            && header.chunk_sectors == params.chunk_sectors
            && header.origin_sectors == params.origin_sectors
    })
}

/// How many of the live snapshots can share something with the device: not those that have lost all
/// of that before.
fn sharing(image: &mut Image, live: u64) -> u64 {
    let Some(lost_to) = image.header().lost_to else {
        return live;
    };
    let table = Table::read(image);
    if !table.gone.is_empty() {
        return live;
    }
    table.live().iter().filter(|id| **id > lost_to).count() as u64
}

/// A mapped device as it is.
struct Device {
    name: String,
    dev: Dev,
    uuid: String,
    table: Vec<Target>,
    sectors: u64,
}

impl Device {
    /// Looks at the device, and whether it can be put under.
    fn look(control: &Control, path: &Path, dev: Dev) -> Result<Self, Failure> {
        let failure = |what: &str, then: String| Err(Failure::new(path, what, then));
        let Some(name) = hidden::mapped_name(dev) else {
            let then = "start it under another name: multisnap start ORIGIN STORE";
            return failure("is no mapped device", then.into());
        };
        let failed = |e| Failure::io(path, "cannot be looked at", &e);
        let info = control.info(&name).map_err(failed)?;
        let table = control.targets(&name).map_err(failed)?;
        if table.iter().any(|target| target.kind == line::ORIGIN) {
            let then = format!("see it: multisnap status {name}");
            return failure("is under multisnapshot already", then);
        }
        if info.flags & (dm::SUSPENDED | dm::INACTIVE) != 0 {
            let then = format!("end that first: dmsetup resume {name}; or: dmsetup clear {name}");
            return failure("is suspended, or has another table loaded", then);
        }
        if info.flags & dm::READ_ONLY != 0 {
            let then = "make it writable first; for a logical volume: lvchange -prw";
            return failure("is read-only", then.into());
        }
        if let Some(other) = table.iter().find(|t| !SIMPLE.contains(&t.kind.as_str())) {
            let what = format!(
                "has a table of {}, of which there can be no second",
                other.kind
            );
            let then = "stop using it, and start it under another name: multisnap start";
            return failure(&what, then.into());
        }
        if table.is_empty() {
            return failure("has no table", "load one, or say another device".into());
        }
        if !line::is_device_name(&hidden::name_for(&name)) {
            return failure(
                "has a name that is too long",
                "give it a shorter one".into(),
            );
        }
        let sectors = table.iter().map(|target| target.len).sum();
        Ok(Self {
            name,
            dev,
            uuid: info.uuid,
            table,
            sectors,
        })
    }

    /// Makes the origin, and gives the device its new table.
    fn put(
        &self,
        control: &Control,
        args: &Args,
        store: Dev,
        (header, snapshots): (&Header, u64),
        log: &mut Log,
    ) -> Result<OriginLine, Failure> {
        let origin = hidden::name_for(&self.name);
        hidden::remove_left(control, &origin)?;
        let uuid = hidden::uuid_for(&self.uuid, &header.uuid);
        let made = control.create(&origin, &uuid, &self.table, false, node::NO_LINKS);
        let number = made.map_err(|e| because(log, &origin, "cannot be made", &e, SEE_LOG))?;
        let result = args
            .options
            .line(number, store, header)
            .and_then(|mut line| {
                if let Some(why) = why_written(control, &self.name, self.dev) {
                    line.generic.push("origin-written".to_owned());
                    self.may_lose(args, snapshots, why)?;
                }
                self.swap(control, &line, args, log)?;
                Ok(line)
            });
        if result.is_err() {
            let _ = hidden::remove(control, &origin);
        }
        result
    }

    /// Fails if there are snapshots that would lose something, unless that was said.
    fn may_lose(&self, args: &Args, snapshots: u64, why: &str) -> Result<(), Failure> {
        if snapshots == 0 {
            return Ok(());
        }
        let has = count(snapshots, "snapshot");
        if args.lose_snapshots {
            out::warn(&format!(
                "{} {why} without multisnapshot: {has} made before lose what they still share with it",
                self.name
            ));
            return Ok(());
        }
        let what = format!(
            "{why} without multisnapshot, so {has} in {} would lose what is shared with it",
            args.store.display()
        );
        let then = format!(
            "copy what you need of them before, with multisnap cat; then: multisnap under {} {} \
             --lose-snapshots",
            args.device.display(),
            args.store.display()
        );
        Err(Failure::new(&args.device, what, then))
    }

    fn swap(
        &self,
        control: &Control,
        line: &OriginLine,
        args: &Args,
        log: &mut Log,
    ) -> Result<(), Failure> {
        let swap = Swap::begin(control, &self.name, Duration::from_secs(args.timeout));
        let result = swap.to(&[line.target(self.sectors)]);
        let kind = swap.kind();
        if !swap.is_suspended() {
            match (&result, kind.as_deref()) {
                (Ok(()), Some(line::ORIGIN)) => return Ok(()),
                (Ok(()), _) => {
                    let what = "got another table from somebody else; nothing is changed";
                    return Err(Failure::new(&args.device, what, "say it again"));
                }
                (Err(_), _) => {}
            }
        } else if kind.as_deref() == Some(line::ORIGIN) {
            // It is live and could not be started. Nobody has written anything.
            let out = line::out_target(line.origin, self.sectors);
            let back = swap.to(&[out]).and_then(|()| swap.to(&self.table));
            if let Err(e) = back {
                let what = "could not be put under, nor get its old table back";
                let (state, then) = match swap.settle() {
                    Some(stuck) => (stuck.what, stuck.then),
                    None => (words(&e), SEE_LOG.to_owned()),
                };
                return Err(Failure::new(&args.device, format!("{what}: {state}"), then));
            }
        }
        if let Some(stuck) = swap.settle() {
            let what = format!("is not under multisnapshot: {}", stuck.what);
            return Err(Failure::new(&args.device, what, stuck.then));
        }
        let stopped = swap.stopped();
        drop(swap);
        let e = result
            .err()
            .unwrap_or_else(|| std::io::ErrorKind::Other.into());
        if e.raw_os_error() == Some(libc::EINTR) {
            let what = match stopped {
                true => "is not under multisnapshot: a signal came; nothing is changed".to_owned(),
                false => format!(
                    "is not under multisnapshot: I/O that is under way did not end in {} s; \
                     nothing is changed",
                    args.timeout
                ),
            };
            let then = "say it again, or wait longer: --timeout 600";
            return Err(Failure::new(&args.device, what, then));
        }
        let doing = "cannot be put under multisnapshot";
        Err(because(log, &self.name, doing, &e, SEE_LOG))
    }
}

/// What tells that a device may have been written since it was made; `None` if nothing does.
fn why_written(control: &Control, name: &str, dev: Dev) -> Option<&'static str> {
    let is_open = || !control.info(name).is_ok_and(|info| info.open == 0);
    // Who only looks at it, as udev does, is gone in a moment.
    let mut patience = 15;
    while is_open() {
        if patience == 0 {
            return Some("is in use");
        }
        patience -= 1;
        sleep(Duration::from_millis(200));
    }
    let about = PathBuf::from(format!("/sys/dev/block/{dev}"));
    let counts = fs::read_to_string(about.join("queue/iostats"));
    let stat = fs::read_to_string(about.join("stat")).unwrap_or_default();
    if !counts.is_ok_and(|on| on.trim() == "1") {
        return Some("does not count its writes (queue/iostats), and may have been written");
    }
    (!counts_no_writes(&stat)).then_some("was written")
}

/// Whether the counters of a device tell of no write and no discard.
fn counts_no_writes(stat: &str) -> bool {
    let count: Vec<&str> = stat.split_ascii_whitespace().collect();
    count.get(4) == Some(&"0") && count.get(11) == Some(&"0")
}

#[cfg(test)]
mod tests {
    use super::counts_no_writes;

    #[test]
    fn counters_tell_of_writes() {
        let stat = "  100  0  800  12  0  0  0  0  0  12  12  0  0  0  0  0  0\n";
        assert!(counts_no_writes(stat));
        for place in [4, 11] {
            let mut words: Vec<&str> = stat.split_ascii_whitespace().collect();
            words[place] = "1";
            assert!(!counts_no_writes(&words.join(" ")));
        }
        assert!(!counts_no_writes(""));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `multisnap under`: puts a mapped device, such as a logical volume, under multisnapshot where it
//! is, and while it is in use.
//!
//! A second device gets the table that the device has, and becomes the origin; the device gets the
//! table of the origin's target. Names, numbers and whoever has the device open stay.

use super::{
    because, create, enable, hidden,
    line::{self, OriginLine},
    lock::Lock,
    need_target, start, stop,
    swap::Swap,
    SEE_LOG,
};
use crate::{
    device::{Disk, For},
    dm::{self, klog::Log, node, wire::Dev, wire::Target, Control},
    failure::{words, Code, Failure},
    identity::{self, Compared},
    out, signature,
    size::count,
    table::Table,
};
use multisnap_store::image::{Header, Image, Params};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
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
    /// Put it under each time the machine starts, too.
    #[arg(long)]
    enable: bool,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Targets that keep nothing of their own, so that there may be two of them.
const SIMPLE: [&str; 2] = ["linear", "striped"];

/// The word of a table for a device that was in use without multisnapshot.
const ORIGIN_WRITTEN: &str = "origin-written";

/// What is to be put under, and how.
pub struct Plan<'a> {
    pub device: &'a Path,
    pub store: &'a Path,
    pub options: &'a start::Options,
    /// The snapshots that there are may lose what they share with the device.
    pub lose_snapshots: bool,
    /// Seconds to wait for what is under way on the device.
    pub timeout: u64,
    /// How long who has it open, and is not known, is waited for: one who only looks at it, as udev
    /// does, is gone in a moment.
    pub patience: Duration,
}

/// Puts a device under.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    let plan = Plan {
        device: &args.device,
        store: &args.store,
        options: &args.options,
        lose_snapshots: args.lose_snapshots,
        timeout: args.timeout,
        patience: Duration::from_secs(3),
    };
    let (dev, _) = start::pair(plan.device, plan.store)?;
    let lock = Lock::take(dev)?;
    let (device, line, uuid) = plan.put(&control, args.create.then_some(&args.of))?;
    drop(lock);
    if args.enable {
        enable::volume(&device.name)?;
    }
    let path = node::path(&device.name);
    if args.json {
        out::line(&start::Started {
            volume: &device.name,
            device: path,
            uuid: &uuid,
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

impl Plan<'_> {
    /// Does it, and makes the store before if it is said what it is to be; the device, its line and
    /// the uuid of its store. Who calls has the device's lock.
    pub fn put(
        &self,
        control: &Control,
        create: Option<&create::Of>,
    ) -> Result<(Device, OriginLine, String), Failure> {
        need_target(control, line::ORIGIN)?;
        // What leads back if something fails.
        need_target(control, line::OUT)?;
        let (dev, store) = start::pair(self.device, self.store)?;
        let device = Device::look(control, self.device, dev)?;
        start::not_started(control, self.device, dev, store)?;
        signature::not_store(self.device)?;
        if let Some(of) = create {
            let chunk = of.chunk_sectors(dev, store)?;
            let params = of.params(chunk, device.sectors)?;
            if !is_new(self.store, &params) {
                create::make(self.store, store, &params)?;
            }
        }
        start::free(self.store, store)?;
        let mut image = start::image(self.device, self.store)?;
        let header = image.header().clone();
        let Some(space) = image.space() else {
            let then = format!("multisnap check {}", self.store.display());
            return Err(Failure::new(self.store, "cannot be read as a whole", then));
        };
        let snapshots = sharing(&mut image, space.live_ids);
        drop(image);
        start::fits(self.device, device.sectors, self.store, &header)?;
        let mut log = Log::listen();
        let line = device.put(control, self, store, (&header, snapshots), &mut log)?;
        Ok((device, line, line::uuid(&header.uuid)))
    }
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
pub struct Device {
    name: String,
    dev: Dev,
    uuid: String,
    table: Vec<Target>,
    sectors: u64,
}

impl Device {
    /// Its name below `/dev/mapper`.
    pub fn name(&self) -> &str {
        &self.name
    }

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
        if info.flags & dm::INACTIVE != 0 {
            // It may be ours, of a run that was killed, and must not become live: it is for the
            // device as it was then.
            let then = format!("drop that first: dmsetup clear {name}");
            return failure("has another table loaded", then);
        }
        if info.flags & dm::SUSPENDED != 0 {
            let then = format!("end that first: dmsetup resume {name}");
            return failure("is suspended", then);
        }
        if info.flags & dm::READ_ONLY != 0 {
            let then = "make it writable first; for a logical volume: lvchange -prw";
            return failure("is read-only", then.into());
        }
        if table.iter().any(|target| target.kind == line::OUT) {
            let what = "was taken out, and did not get its own table back";
            let then = "load that; for a logical volume: lvchange --refresh";
            return failure(what, then.into());
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
                "has a name that is too long, or has other letters than a file can have",
                "give it another one".into(),
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
        plan: &Plan<'_>,
        store: Dev,
        (header, snapshots): (&Header, u64),
        log: &mut Log,
    ) -> Result<OriginLine, Failure> {
        let origin = hidden::name_for(&self.name);
        hidden::remove_left(control, &origin)?;
        let uuid = hidden::uuid_for(&self.uuid, &header.uuid);
        let made = control.create(&origin, &uuid, &self.table, false, node::NO_LINKS);
        let number = made.map_err(|e| because(log, &origin, "cannot be made", &e, SEE_LOG))?;
        let result = plan
            .options
            .line(number, store, header)
            .and_then(|mut line| {
                if let Some(why) = self.why_written(control, plan, snapshots, header)? {
                    line.generic.push(ORIGIN_WRITTEN.to_owned());
                    self.may_lose(plan, snapshots, why)?;
                }
                self.swap(control, &line, plan, snapshots, log)?;
                Ok(line)
            });
        if result.is_err() {
            let _ = hidden::remove(control, &origin);
        }
        result
    }

    /// What tells that it may have been written since its store was stopped. One that was made anew
    /// since then, as after a restart of the machine, counts no writes, but its samples may differ.
    fn why_written(
        &self,
        control: &Control,
        plan: &Plan<'_>,
        snapshots: u64,
        header: &Header,
    ) -> Result<Option<&'static str>, Failure> {
        let why = why_touched(control, &self.name, self.dev, 0, plan.patience);
        if why.is_some() || snapshots == 0 {
            return Ok(why);
        }
        let disk = Disk::open(plan.device, For::Live)?;
        // Where all differ, the module says that it is another one.
        let compared = identity::compare(&disk, header)?;
        Ok(matches!(compared, Compared::Differs(..)).then_some("was written"))
    }

    /// Fails if there are snapshots that would lose something, unless that was said.
    fn may_lose(&self, plan: &Plan<'_>, snapshots: u64, why: &str) -> Result<(), Failure> {
        if snapshots == 0 {
            return Ok(());
        }
        let has = count(snapshots, "snapshot");
        if plan.lose_snapshots {
            out::warn(&format!(
                "{} {why} without multisnapshot: {has} made before lose what they still share with it",
                self.name
            ));
            return Ok(());
        }
        let what = format!(
            "{why} without multisnapshot, so {has} in {} would lose what is shared with it",
            plan.store.display()
        );
        let then = format!(
            "copy what you need of them before, with multisnap cat; then: multisnap under {} {} \
             --lose-snapshots",
            plan.device.display(),
            plan.store.display()
        );
        Err(Failure::new(plan.device, what, then))
    }

    fn swap(
        &self,
        control: &Control,
        line: &OriginLine,
        plan: &Plan<'_>,
        snapshots: u64,
        log: &mut Log,
    ) -> Result<(), Failure> {
        let swap = Swap::begin(control, &self.name, Duration::from_secs(plan.timeout));
        let loaded = swap.load(&[line.target(self.sectors)]);
        // Somebody may have begun to use it since that was looked at; from here on nobody can mount it.
        let mut held = None;
        let says_so = line.generic.iter().any(|word| word == ORIGIN_WRITTEN);
        if loaded.is_ok() && snapshots > 0 && !says_so {
            let mut hold = OpenOptions::new();
            held = hold
                .read(true)
                .custom_flags(libc::O_EXCL)
                .open(plan.device)
                .ok();
            let now = match held {
                Some(_) => why_touched(control, &self.name, self.dev, 1, plan.patience),
                None => Some("is in use"),
            };
            if let Some(why) = now {
                swap.drop_loaded();
                let what = format!("{why} since a moment ago; nothing is changed");
                return Err(Failure::new(plan.device, what, "say it again"));
            }
        }
        let result = loaded.and_then(|()| swap.live());
        drop(held);
        let kind = swap.kind();
        if !swap.is_suspended() {
            match (&result, kind.as_deref()) {
                (Ok(()), Some(line::ORIGIN)) => return Ok(()),
                (Ok(()), _) => {
                    let what = "got another table from somebody else; nothing is changed";
                    return Err(Failure::new(plan.device, what, "say it again"));
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
                return Err(Failure::new(plan.device, format!("{what}: {state}"), then));
            }
        }
        if let Some(stuck) = swap.settle() {
            let what = format!("is not under multisnapshot: {}", stuck.what);
            return Err(Failure::new(plan.device, what, stuck.then));
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
                    plan.timeout
                ),
            };
            let then = "say it again, or wait longer: --timeout 600";
            return Err(Failure::new(plan.device, what, then));
        }
        let doing = "cannot be put under multisnapshot";
        Err(because(log, &self.name, doing, &e, SEE_LOG))
    }
}

/// What tells that a device, which the caller has opened `own` times, may have been written since it was
/// made; `None` if nothing does.
fn why_touched(
    control: &Control,
    name: &str,
    dev: Dev,
    own: u32,
    patience: Duration,
) -> Option<&'static str> {
    if stop::stays_open(control, name, own, Instant::now() + patience) {
        return Some("is in use");
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

// SPDX-License-Identifier: GPL-2.0

//! `multisnap enable`: has an origin started, and snapshots activated, when the machine starts.

use super::{
    config::{self, Wanted},
    hidden, line,
    lock::Lock,
    rows::{self, Row},
    start::{How, Options},
    volume::{path_of, Volume},
    At,
};
use crate::{
    dm::{node, wire::Dev},
    failure::{Code, Failure},
    out,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `enable` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap enable home before-upgrade --read-only")]
pub struct Args {
    /// The origin, which must be started.
    volume: String,
    /// Ids, names or patterns of names of snapshots that get a device, too.
    snapshot: Vec<String>,
    /// Their devices cannot be written.
    #[arg(long, requires = "snapshot")]
    read_only: bool,
    /// Name below /dev/mapper, for one snapshot.
    #[arg(long, requires = "snapshot")]
    device: Option<String>,
    /// Print an object instead of a sentence.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Enabled<'a> {
    volume: &'a str,
    file: PathBuf,
}

/// Writes the origin's file.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let at = At::find(&args.volume)?;
    let volume = &at.volume;
    if args.device.is_some() && args.snapshot.len() != 1 {
        let then = "say one snapshot, or leave --device away";
        return Err(volume.failure("cannot give one name to several devices", then));
    }
    let device = args.device.as_deref();
    if let Some(bad) = device.filter(|name| !line::is_device_name(name)) {
        let then = "say another one with --device, of letters, digits and # + - . : = @ _";
        return Err(Failure::new(
            Path::new(bad),
            "can be no name of a device",
            then,
        ));
    }
    let _lock = Lock::take_file(&volume.name)?;
    let mut text = so_far(volume)?;
    let rows = rows::read(&at.control, volume)?;
    for word in &args.snapshot {
        rows::several(&rows, word).map_err(|why| why.failure(word, volume))?;
        if let Some(other) = same(&rows, &text, word) {
            let name = &volume.name;
            let what = format!("starts with snapshot {word} already, in the words {other}");
            let then = format!("say these, or: multisnap disable {name} {other}");
            return Err(volume.failure(what, then));
        }
        let wanted = Wanted {
            word: word.clone(),
            read_only: args.read_only,
            device: args.device.clone(),
        };
        text = config::with_snapshot(&text, &wanted);
    }
    written(volume, &text)?;
    let file = config::path(&volume.name);
    if args.json {
        let volume = &volume.name;
        out::line(&Enabled { volume, file })?;
    } else {
        let file = file.display();
        out::text(&format!(
            "{} starts with the machine: {file}\n",
            volume.name
        ))?;
    }
    Ok(Code::Good)
}

/// Has an origin that is started now started with the machine, without snapshots if that is new.
pub fn volume(name: &str) -> Result<(), Failure> {
    let at = At::find(name)?;
    let _lock = Lock::take_file(name)?;
    written(&at.volume, &so_far(&at.volume)?)
}

/// The file of an origin that is started, or what it is to be if there is none. One that would start
/// another pair of devices is nobody's to add to.
fn so_far(volume: &Volume) -> Result<String, Failure> {
    let name = &volume.name;
    if !config::exists(name) {
        return Ok(as_started(volume));
    }
    let config = config::read(name)?;
    for (what, path, dev) in [
        ("origin", &config.origin, plain(volume)),
        ("store", &config.store, volume.line.store),
    ] {
        if node::dev_at(path) != Some(dev) {
            let what = format!(
                "names {} as the {what}, not {}",
                path.display(),
                path_of(dev)
            );
            let then = format!("mend it; or make it anew: multisnap disable {name}, then enable");
            return Err(Failure::new(&config::path(name), what, then));
        }
    }
    config::text(name)
}

/// Writes the file of an origin that is started; udev is told.
fn written(volume: &Volume, text: &str) -> Result<(), Failure> {
    config::write(&volume.name, text)?;
    advise(&volume.name, plain(volume));
    look_again(plain(volume), volume.line.store);
    Ok(())
}

/// What the file of an origin calls by that word: the plain device, or that which was put under.
fn plain(volume: &Volume) -> Dev {
    match hidden::name_at(volume.line.origin) {
        Some(_) => volume.dev,
        None => volume.line.origin,
    }
}

/// What the file of an origin is to say that somebody has just named the devices of; nothing if it
/// is to have none. It fails before anything is done: if there is one already, or if this one could
/// not be read.
pub fn plan(
    wanted: bool,
    name: &str,
    (origin, from): (&Path, Dev),
    (store, to): (&Path, Dev),
    how: &How,
) -> Result<Option<String>, Failure> {
    if !wanted {
        return Ok(None);
    }
    if config::exists(name) {
        let then = format!("change it; or remove it before: multisnap disable {name}");
        return Err(Failure::new(&config::path(name), "is there already", then));
    }
    let (origin, store) = (steady(Some(origin), from), steady(Some(store), to));
    let text = config::compose(name, &origin, &store, how, early(from));
    config::check(name, &text)?;
    Ok(Some(text))
}

/// Writes the file of an origin and its store. If it is started, udev is told.
pub fn file(
    name: &str,
    text: &str,
    (origin, store): (Dev, Dev),
    started: bool,
) -> Result<(), Failure> {
    let _lock = Lock::take_file(name)?;
    config::write(name, text)?;
    advise(name, origin);
    if started {
        look_again(origin, store);
    }
    Ok(())
}

/// Another word of the file for the one snapshot that a word means.
fn same(rows: &[Row], text: &str, word: &str) -> Option<String> {
    let row = rows::one(rows, word).ok()?;
    let is = |other: &Wanted| other.word != word && rows::one(rows, &other.word) == Ok(row);
    config::snapshots(text)
        .into_iter()
        .find(is)
        .map(|it| it.word)
}

/// What udev knows of the two changes: it is told whose they are, and starts the unit.
fn look_again(origin: Dev, store: Dev) {
    node::look_again(origin);
    node::look_again(store);
}

/// What the file says of an initramfs: whether the origin must be started before the root file
/// system is mounted, and whether it is on it directly.
fn early(origin: Dev) -> Option<&'static str> {
    let of_root = |dev: &Dev| node::mounts(*dev).iter().any(|mount| mount.place == "/");
    let mapped = node::holders(origin);
    if [origin].iter().chain(&mapped).any(of_root) {
        return Some(config::ROOT);
    }
    node::carries_system(origin).then_some("yes")
}

/// Says what else there is to do for an origin that the system itself runs from.
fn advise(name: &str, origin: Dev) {
    if node::carries_system(origin) {
        out::warn(&format!(
            "{name} is for the system itself: make its initramfs again (update-initramfs -u)"
        ));
    }
}

/// The file of an origin that is started now, as it is.
fn as_started(volume: &Volume) -> String {
    let words = &volume.line;
    let value = |list: &[String], word: &str| {
        let at = list.iter().position(|one| one == word)?;
        list.get(at.checked_add(1)?)?.parse::<u64>().ok()
    };
    let has = |word: &str| words.generic.iter().any(|one| one == word);
    let bytes =
        |list: &[String], word: &str, of: u64| value(list, word).map(|n| n.saturating_mul(of));
    let chunk = u64::from(words.chunk).saturating_mul(crate::size::SECTOR);
    let low_water = bytes(&words.generic, "low-water", chunk).filter(|n| *n > 0);
    let how = How {
        name: None,
        read_only: volume.is_read_only(),
        under: plain(volume) == volume.dev,
        options: Options {
            preserve_on_error: has("preserve-on-error"),
            low_water: low_water.map(|n| n.to_string()),
            discard_copy: has("discard-copy"),
            cache_limit: bytes(&words.store_args, "cache-limit", 4096),
            cache_threshold: bytes(&words.store_args, "cache-threshold", 4096),
        },
    };
    let origin = plain(volume);
    let (path, store) = (steady(None, origin), steady(None, words.store));
    config::compose(&volume.name, &path, &store, &how, early(origin))
}

/// A path to a device that means the same one after a restart: what somebody has said, if it is
/// one, or one that is found.
fn steady(said: Option<&Path>, dev: Dev) -> PathBuf {
    let stays = |path: &&Path| {
        let link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        link && config::is_steady(path)
    };
    if let Some(path) = said.filter(stays) {
        return path.to_path_buf();
    }
    node::steady(dev, config::is_steady).unwrap_or_else(|| {
        let path = path_of(dev);
        out::warn(&format!(
            "{path} has no name that stays when devices are found in another order"
        ));
        PathBuf::from(path)
    })
}

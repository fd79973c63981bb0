// SPDX-License-Identifier: GPL-2.0

//! What is started when the machine starts: a file for each origin.
//!
//! It says where origin and store are, and how they are loaded, which is nowhere else; and which
//! snapshots get a device. Names, times and numbers of snapshots are in the store alone: a file
//! refers to them, as somebody would who types a command.

use super::{
    line,
    start::{self, How},
};
use crate::{failure::Failure, size};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where the files are.
pub const DIR: &str = "/etc/multisnap";

/// How the name of a file ends; what is before is the name of the mapped device.
const ENDING: &str = ".conf";

/// What "initramfs" says of an origin that has the root file system itself.
pub const ROOT: &str = "root";

/// A snapshot that is to get a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// An id, a name or a pattern of names.
    pub word: String,
    /// The device cannot be written.
    pub read_only: bool,
    /// Name of the device, if it is to have another one than usual.
    pub device: Option<String>,
}

/// What a file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the mapped device.
    pub name: String,
    /// The plain device.
    pub origin: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// How they are loaded.
    pub how: How,
    /// Snapshots that get a device.
    pub snapshots: Vec<Wanted>,
}

/// Where the file of an origin is.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(format!("{name}{ENDING}"))
}

/// The names for which there is a file.
pub fn names() -> Vec<String> {
    let Ok(files) = fs::read_dir(DIR) else {
        return Vec::new();
    };
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let name = name.strip_suffix(ENDING)?;
            line::is_device_name(name).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// Reads the file of an origin.
pub fn read(name: &str) -> Result<Config, Failure> {
    let path = path(name);
    parse(name, &text(name)?).map_err(|why| {
        let then = format!("mend it: see boot.rst; or: multisnap disable {name}");
        Failure::new(&path, why, then)
    })
}

/// What a file says of whose devices are whose, even if something else in it is wrong: they are no
/// less an origin and a store by that, and what is shared with an origin is lost once it is written
/// as a plain device. `None` if it cannot be read at all.
pub fn outline(name: &str) -> Option<Config> {
    let text = text(name).ok()?;
    Some(parse(name, &text).unwrap_or_else(|_| outline_of(name, &text)))
}

fn outline_of(name: &str, text: &str) -> Config {
    let mut config = Config {
        name: name.to_owned(),
        origin: PathBuf::new(),
        store: PathBuf::new(),
        how: How::default(),
        snapshots: snapshots(text),
    };
    for (key, value) in text.lines().filter_map(pair) {
        match key {
            "origin" => config.origin = value.into(),
            "store" => config.store = value.into(),
            "under" => config.how.under = value != "no",
            _ => {}
        }
    }
    config
}

/// The file as it is.
pub fn text(name: &str) -> Result<String, Failure> {
    let path = path(name);
    fs::read_to_string(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            let what = "is not started when the machine starts";
            Failure::new(Path::new(name), what, format!("multisnap enable {name}"))
        }
        _ => Failure::io(&path, "cannot be read", &e),
    })
}

/// Whether there is a file.
pub fn exists(name: &str) -> bool {
    line::is_device_name(name) && path(name).exists()
}

/// Fails if this could not be read again.
pub fn check(name: &str, text: &str) -> Result<(), Failure> {
    if !line::is_device_name(name) {
        let what = "has a name that no file can have";
        let then = "rename it: only letters, digits and # + - . : = @ _ will do";
        return Err(Failure::new(Path::new(name), what, then));
    }
    parse(name, text).map(drop).map_err(|why| {
        let then = "say devices by paths below /dev that have no blanks, and sizes as in 10% or 1G";
        Failure::new(&path(name), format!("cannot be written: it {why}"), then)
    })
}

/// The snapshots that a file wants.
pub fn snapshots(text: &str) -> Vec<Wanted> {
    text.lines()
        .filter_map(pair)
        .filter(|(key, _)| *key == "snapshot")
        .filter_map(|(_, value)| wanted(value).ok())
        .collect()
}

/// Writes the file of an origin, whole or not at all, and nothing that could not be read.
pub fn write(name: &str, text: &str) -> Result<(), Failure> {
    check(name, text)?;
    let path = path(name);
    let new = path.with_extension("new");
    let written = fs::create_dir_all(DIR).and_then(|()| {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(DIR)?.sync_all()
    });
    written.map_err(|e| Failure::io(&path, "cannot be written", &e))
}

/// Removes the file of an origin.
pub fn remove(name: &str) -> Result<(), Failure> {
    let path = path(name);
    fs::remove_file(&path)
        .and_then(|()| File::open(DIR)?.sync_all())
        .map_err(|e| Failure::io(&path, "cannot be removed", &e))
}

/// A file for an origin that has none.
pub fn compose(
    name: &str,
    origin: &Path,
    store: &Path,
    how: &How,
    initramfs: Option<&str>,
) -> String {
    let mut text = format!(
        "# How {name} is started when the machine starts; see boot.rst.\norigin = {}\nstore = {}\n",
        origin.display(),
        store.display()
    );
    let mut add = |key: &str, value: &str| text += &format!("{key} = {value}\n");
    for (key, is) in [
        ("under", how.under),
        ("read-only", how.read_only),
        ("preserve-on-error", how.options.preserve_on_error),
        ("discard-copy", how.options.discard_copy),
    ] {
        if is {
            add(key, "yes");
        }
    }
    for (key, value) in [
        ("low-water", how.options.low_water.as_deref()),
        ("initramfs", initramfs),
    ] {
        if let Some(value) = value {
            add(key, value);
        }
    }
    for (key, bytes) in [
        ("cache-limit", how.options.cache_limit),
        ("cache-threshold", how.options.cache_threshold),
    ] {
        if let Some(bytes) = bytes {
            add(key, &bytes.to_string());
        }
    }
    text
}

/// The file with one more snapshot, or with other words for it.
pub fn with_snapshot(text: &str, wanted: &Wanted) -> String {
    let (mut text, _) = without_snapshot(text, &wanted.word);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &format!("snapshot = {}", wanted.word);
    if wanted.read_only {
        text += " read-only";
    }
    if let Some(device) = &wanted.device {
        text += &format!(" device={device}");
    }
    text + "\n"
}

/// The file without a snapshot, and whether it had it.
pub fn without_snapshot(text: &str, word: &str) -> (String, bool) {
    let is = |line: &&str| {
        let wanted = pair(line).filter(|(key, _)| *key == "snapshot");
        wanted.is_some_and(|(_, value)| value.split_ascii_whitespace().next() == Some(word))
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is(line)).collect();
    let had = kept.len() < text.lines().count();
    (
        kept.into_iter().flat_map(|line| [line, "\n"]).collect(),
        had,
    )
}

/// Whether an initramfs has the file, too, if that was made since the line was written.
pub fn is_early(text: &str) -> bool {
    let of = |line| pair(line).filter(|(key, _)| *key == "initramfs");
    text.lines()
        .filter_map(of)
        .any(|(_, value)| value == ROOT || yes(value) == Ok(true))
}

/// Key and value of a line that has some.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

/// Reads a file; the error says what is wrong with it.
fn parse(name: &str, text: &str) -> Result<Config, String> {
    let (mut origin, mut store) = (None, None);
    let mut how = How::default();
    let mut snapshots = Vec::new();
    for (nr, line) in text.lines().enumerate() {
        let bad = |why: String| format!("is wrong in line {}: {why}", nr + 1);
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (key, value) = pair(line).ok_or_else(|| bad("say KEY = VALUE".into()))?;
        match key {
            "origin" => origin = Some(device(value, true).map_err(bad)?),
            "store" => store = Some(device(value, false).map_err(bad)?),
            "under" => how.under = yes(value).map_err(bad)?,
            "read-only" => how.read_only = yes(value).map_err(bad)?,
            "preserve-on-error" => how.options.preserve_on_error = yes(value).map_err(bad)?,
            "discard-copy" => how.options.discard_copy = yes(value).map_err(bad)?,
            "low-water" => {
                // How many chunks that is, is known when the store is.
                start::chunks(value, 1, 0).map_err(bad)?;
                how.options.low_water = Some(value.to_owned());
            }
            "cache-limit" => how.options.cache_limit = Some(size::parse(value).map_err(bad)?),
            "cache-threshold" => {
                how.options.cache_threshold = Some(size::parse(value).map_err(bad)?)
            }
            // For the hooks of an initramfs, which read it themselves.
            "initramfs" if ROOT == value => {}
            "initramfs" => drop(yes(value).map_err(bad)?),
            "snapshot" => snapshots.push(wanted(value).map_err(bad)?),
            _ => return Err(bad(format!("there is no key {key:?}"))),
        }
    }
    let missing = |what: &str| format!("names no {what}: add a line: {what} = /dev/...");
    if how.under && how.read_only {
        return Err("says both under and read-only: remove one of these lines".into());
    }
    how.name = Some(name.to_owned());
    Ok(Config {
        name: name.to_owned(),
        origin: origin.ok_or_else(|| missing("origin"))?,
        store: store.ok_or_else(|| missing("store"))?,
        how,
        snapshots,
    })
}

fn yes(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{value:?} is neither yes nor no")),
    }
}

/// A path to a device.
fn device(value: &str, is_origin: bool) -> Result<PathBuf, String> {
    if !value.starts_with("/dev/") || value.contains(char::is_whitespace) {
        return Err(format!("{value:?} is no path below /dev"));
    }
    if is_origin && is_of_content(value) {
        return Err(format!(
            "{value} is the mapped device's as well: say a path below /dev/disk/by-id, by-partuuid or \
             /dev/mapper"
        ));
    }
    Ok(PathBuf::from(value))
}

/// Whether a link goes by the content of a device, which an origin shares with what is mapped of
/// it.
pub fn is_of_content(link: &str) -> bool {
    ["/by-uuid/", "/by-label/", "/by-id/lvm-pv-uuid-"]
        .iter()
        .any(|part| link.contains(part))
}

/// Whether a file can name an origin by this path, and so any device.
pub fn is_steady(path: &Path) -> bool {
    path.to_str().is_some_and(|text| device(text, true).is_ok())
}

fn wanted(value: &str) -> Result<Wanted, String> {
    let mut words = value.split_ascii_whitespace();
    let word = words.next().ok_or("say an id or a name of a snapshot")?;
    let mut wanted = Wanted {
        word: word.to_owned(),
        read_only: false,
        device: None,
    };
    for word in words {
        match word.strip_prefix("device=") {
            Some(device) if line::is_device_name(device) => wanted.device = Some(device.to_owned()),
            Some(device) => return Err(format!("{device:?} can be no name of a device")),
            None if word == "read-only" => wanted.read_only = true,
            None => return Err(format!("{word:?} is neither read-only nor device=NAME")),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        let mut how = How::default();
        how.options.preserve_on_error = true;
        how.options.low_water = Some("10%".into());
        how.options.cache_limit = Some(1 << 20);
        how.under = true;
        let text = compose(
            "home",
            Path::new("/dev/vg/home"),
            Path::new("/dev/sdb"),
            &how,
            Some(ROOT),
        );
        let one = Wanted {
            word: "12".into(),
            read_only: true,
            device: Some("old".into()),
        };
        let text = with_snapshot(&text, &one);
        let two = Wanted {
            word: "daily-*".into(),
            read_only: false,
            device: None,
        };
        let text = with_snapshot(&text, &two);
        assert!(check("home", &text).is_ok() && check("a\\x2cb", &text).is_err());
        let config = parse("home", &text).unwrap();
        assert_eq!(config.origin, Path::new("/dev/vg/home"));
        assert_eq!(config.store, Path::new("/dev/sdb"));
        assert!(config.how.options.preserve_on_error && !config.how.options.discard_copy);
        assert_eq!(config.how.name.as_deref(), Some("home"));
        assert!(config.how.under && !config.how.read_only);
        assert_eq!(config.how.options.low_water.as_deref(), Some("10%"));
        assert_eq!(config.how.options.cache_limit, Some(1 << 20));
        assert_eq!(config.snapshots, [one.clone(), two.clone()]);
        let (text, had) = without_snapshot(&text, "12");
        assert!(had && parse("home", &text).unwrap().snapshots == [two]);
        assert!(!without_snapshot(&text, "12").1);
        assert!(text.starts_with("# How home"));
    }

    #[test]
    fn a_wrong_file_still_says_whose_devices_are_whose() {
        let text =
            "origin = /dev/a\nlow_water = 10%\nstore=/dev/b\nodd\nunder = ja\nsnapshot = 7\n";
        assert!(parse("x", text).is_err());
        let config = outline_of("x", text);
        assert_eq!(config.origin, Path::new("/dev/a"));
        assert_eq!(config.store, Path::new("/dev/b"));
        assert!(config.how.under && config.snapshots.len() == 1);
        assert!(!outline_of("x", "under = no\ncolour = red").how.under);
    }

    #[test]
    fn a_snapshot_is_in_a_file_once() {
        let mut wanted = Wanted {
            word: "3".into(),
            read_only: false,
            device: None,
        };
        let text = with_snapshot("origin = /dev/a\nstore = /dev/b # odd", &wanted);
        wanted.read_only = true;
        let text = with_snapshot(&text, &wanted);
        assert_eq!(text.matches("snapshot").count(), 1);
        assert!(text.ends_with("snapshot = 3 read-only\n"));
    }

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let text = |path: &str| {
            compose(
                "x",
                Path::new(path),
                Path::new("/dev/b"),
                &How::default(),
                None,
            )
        };
        assert!(check("x", &text("/dev/disk/by-id/a")).is_ok());
        assert!(is_steady(Path::new("/dev/disk/by-id/a")));
        for bad in ["/dev/disk/by-id/a b", "/dev/disk/by-uuid/1-2", "/tmp/a"] {
            let why = check("x", &text(bad)).unwrap_err().to_string();
            assert!(
                why.contains("/etc/multisnap/x.conf cannot be written: it is wrong in line 2"),
                "{why}"
            );
            assert!(!is_steady(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let both = "origin = /dev/a\nstore = /dev/b\n";
        assert!(parse("x", both).is_ok());
        for (text, why) in [
            ("", "origin"),
            ("origin = /dev/a\n", "store"),
            ("origin = a\n", "line 1"),
            ("origin = /dev/disk/by-uuid/1-2\n", "by-id"),
            ("store = /dev/a b\n", "line 1"),
            ("# ok\nodd\n", "line 2"),
            ("read-only = maybe\n", "maybe"),
            ("snapshot =\n", "snapshot"),
            ("snapshot = 1 readonly\n", "readonly"),
            ("snapshot = 1 device=a/b\n", "a/b"),
            ("cache-limit = much\n", "much"),
            ("low-water = some\n", "some"),
            ("origin = /dev/disk/by-id/lvm-pv-uuid-x\n", "by-id"),
            ("initramfs = always\n", "always"),
            ("colour = red\n", "colour"),
            ("under = it\n", "it"),
            (
                "origin = /dev/a\nstore = /dev/b\nunder = yes\nread-only = yes\n",
                "both",
            ),
        ] {
            let said = parse("x", text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }
}

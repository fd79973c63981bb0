// SPDX-License-Identifier: GPL-2.0

//! Which origins are loaded, and which of their snapshots are active.
//!
//! They are found by their tables, so it plays no part who has loaded them.

use super::line::{self, OriginLine};
use crate::{
    device::{Disk, For},
    dm::{self, node, wire::Dev, wire::Target, Control},
    failure::Failure,
};
use multisnap_store::image::{Image, SnapshotId};
use std::{fs, io, path::Path};

/// A loaded origin.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Name of the mapped device.
    pub name: String,
    /// Its number.
    pub dev: Dev,
    /// Its uuid, if it has one.
    pub uuid: String,
    /// `DM_*_FLAG`.
    pub flags: u32,
    /// Sectors.
    pub sectors: u64,
    /// What its table says.
    pub line: OriginLine,
}

/// A snapshot with a device.
#[derive(Clone, Debug)]
pub struct Active {
    /// Name of the mapped device.
    pub name: String,
    /// Its number.
    pub dev: Dev,
    /// `DM_*_FLAG`.
    pub flags: u32,
    /// How often it is open.
    pub open: u32,
    /// The plain device of its origin.
    pub origin: Dev,
    /// Which snapshot.
    pub id: SnapshotId,
}

/// What there is.
#[derive(Default)]
pub struct Devices {
    /// Origins, by name.
    pub volumes: Vec<Volume>,
    /// Snapshots, by name.
    pub active: Vec<Active>,
}

impl Devices {
    /// Looks.
    pub fn find(control: &Control) -> Result<Self, Failure> {
        let mut found = Self::default();
        let failed = |e: &io::Error| Failure::io(Path::new("device-mapper"), "cannot be asked", e);
        for (name, dev) in control.devices().map_err(|e| failed(&e))? {
            // It may be gone by now.
            let Ok(Some(table)) = control.table(&name) else {
                continue;
            };
            if table.kind != line::ORIGIN && table.kind != line::SNAPSHOT {
                continue;
            }
            let Ok(info) = control.info(&name) else {
                continue;
            };
            if table.kind == line::ORIGIN {
                found
                    .volumes
                    .extend(OriginLine::parse(&table.args).map(|line| Volume {
                        name,
                        dev,
                        uuid: info.uuid,
                        flags: info.flags,
                        sectors: table.len,
                        line,
                    }));
            } else {
                found.active.extend(
                    line::parse_snapshot(&table.args).map(|(origin, id)| Active {
                        name,
                        dev,
                        flags: info.flags,
                        open: info.open,
                        origin,
                        id,
                    }),
                );
            }
        }
        found.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        found.active.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The origin that somebody means: by its name, its device, or that of its origin or store.
    pub fn volume(&self, word: &str) -> Result<&Volume, Failure> {
        if let Some(volume) = self.volumes.iter().find(|volume| volume.name == word) {
            return Ok(volume);
        }
        let dev = word.parse().ok().or_else(|| node::dev_at(Path::new(word)));
        let is =
            |of: fn(&Volume) -> Dev| self.volumes.iter().find(|volume| Some(of(volume)) == dev);
        let volume = is(|volume| volume.dev)
            .or_else(|| is(|volume| volume.line.origin))
            .or_else(|| is(|volume| volume.line.store));
        volume.ok_or_else(|| self.none(word, dev))
    }

    fn none(&self, word: &str, dev: Option<Dev>) -> Failure {
        let device = Path::new(word);
        let snapshot = |active: &&Active| active.name == word || Some(active.dev) == dev;
        if let Some(active) = self.active.iter().find(snapshot) {
            let origin = self
                .volumes
                .iter()
                .find(|volume| volume.line.origin == active.origin);
            let then = origin.map_or("start its origin first".to_owned(), |volume| {
                format!("say {} and the id {}", volume.name, active.id)
            });
            return Failure::new(device, "is a snapshot", then);
        }
        let mut names: Vec<&str> = self.volumes.iter().map(|volume| &volume.name[..]).collect();
        if names.is_empty() {
            let what = "is not started, and nothing else is";
            return Failure::new(device, what, "start it: multisnap start ORIGIN STORE");
        }
        names.truncate(8);
        let then = format!(
            "say one of {}, or: multisnap start ORIGIN STORE",
            names.join(", ")
        );
        Failure::new(device, "is no volume that is started", then)
    }

    /// The active snapshots of an origin.
    pub fn of<'a>(&'a self, volume: &'a Volume) -> impl Iterator<Item = &'a Active> {
        let origin = volume.line.origin;
        self.active
            .iter()
            .filter(move |active| active.origin == origin)
    }
}

impl Volume {
    /// Its table, which loads again.
    pub fn table(&self) -> Target {
        self.line.target(self.sectors)
    }

    /// Whether it can only be read.
    pub fn is_read_only(&self) -> bool {
        self.flags & dm::READ_ONLY != 0
    }

    /// Fails if it can only be read.
    pub fn writable(&self) -> Result<(), Failure> {
        if !self.is_read_only() {
            return Ok(());
        }
        let name = &self.name;
        let then = format!("stop it, and start it without --read-only: multisnap stop {name}");
        Err(self.failure("was started read-only", then))
    }

    /// The number of its store, which is in the uuid of its device, or else in the store.
    pub fn store_uuid(&self) -> Result<[u8; 16], Failure> {
        match line::store_of(&self.uuid) {
            Some(uuid) => Ok(uuid),
            None => {
                let path = path_of(self.line.store);
                let (_, device) = Disk::open(Path::new(&path), For::Live)?.shared();
                Image::uuid(&device).map_err(|e| Failure::refused(Path::new(&path), &e))
            }
        }
    }

    /// Something is wrong with it; `then` says what to do.
    pub fn failure(&self, what: impl Into<String>, then: impl Into<String>) -> Failure {
        Failure::new(Path::new(&self.name), what, then)
    }
}

/// A path to a device, whatever it is called.
pub fn path_of(dev: Dev) -> String {
    let path = node::show(dev);
    if node::dev_at(Path::new(&path)) == Some(dev) {
        return path;
    }
    let link = fs::read_link(format!("/sys/dev/block/{dev}")).unwrap_or_default();
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    format!("/dev/{name}")
}

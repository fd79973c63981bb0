// SPDX-License-Identifier: GPL-2.0

//! Device-mapper: what dmsetup does, without dmsetup.

pub mod klog;
pub mod node;
pub mod sys;
pub mod wire;

use crate::failure::{words, Failure};
use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    thread::sleep,
    time::Duration,
};
use wire::{Call, Dev, Reply, Target};

/// What the kernel's header calls them: numbers of calls.
const LIST_DEVICES: u8 = 2;
const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const DEV_STATUS: u8 = 7;
const TABLE_LOAD: u8 = 9;
const TABLE_CLEAR: u8 = 10;
const TABLE_STATUS: u8 = 12;
const TARGET_MSG: u8 = 14;
const TARGET_VERSION: u8 = 17;

/// The device is, or is to be, read-only.
pub const READ_ONLY: u32 = 1 << 0;
/// The device is, or is to be, suspended.
pub const SUSPENDED: u32 = 1 << 1;
const STATUS_TABLE: u32 = 1 << 4;
/// A table was loaded and is not live.
pub const INACTIVE: u32 = 1 << 6;
const BUFFER_FULL: u32 = 1 << 8;
/// A suspend freezes no file system.
pub const SKIP_LOCKFS: u32 = 1 << 10;
const NOFLUSH: u32 = 1 << 11;
const DATA_OUT: u32 = 1 << 16;

/// Bytes behind the header at first, and at most.
const ROOM: usize = 64 << 10;
const ROOM_MAX: usize = 256 << 20;

/// The way to device-mapper.
pub struct Control(File);

impl Control {
    /// Opens it; root only.
    pub fn open() -> Result<Self, Failure> {
        if !rustix::process::geteuid().is_root() {
            let what = "needs root: it makes and changes devices";
            let then = "say it again behind sudo";
            return Err(Failure::new(Path::new("this"), what, then));
        }
        let path = Path::new("/dev/mapper/control");
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let file = open().or_else(|e| match e.kind() {
            // The kernel loads device-mapper when the node is opened, but the node may have to
            // be made before.
            io::ErrorKind::NotFound => node::make_control(path).and_then(|()| open()),
            _ => Err(e),
        });
        file.map(Self).map_err(|e| {
            let what = format!("cannot be opened: {}", words(&e));
            Failure::new(path, what, "load device-mapper: modprobe dm-mod")
        })
    }

    fn call(&self, call: &Call<'_>) -> io::Result<Reply> {
        let mut room = ROOM;
        loop {
            let mut data = call.pack(room)?;
            sys::call(&self.0, call.number, &mut data)?;
            let reply = Reply::unpack(&data);
            if reply.flags & BUFFER_FULL == 0 {
                return Ok(reply);
            }
            room = room.saturating_mul(4);
            if room > ROOM_MAX {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
    }

    fn simple(&self, number: u8, name: &str, flags: u32) -> io::Result<Reply> {
        self.call(&Call {
            number,
            name,
            flags,
            ..Call::default()
        })
    }

    /// Whether the kernel has a target, if need be by loading its module.
    pub fn has_target(&self, kind: &str) -> bool {
        self.simple(TARGET_VERSION, kind, 0).is_ok()
    }

    /// All mapped devices.
    pub fn devices(&self) -> io::Result<Vec<(String, Dev)>> {
        Ok(self.simple(LIST_DEVICES, "", 0)?.names())
    }

    /// Flags, number, uuid and users of a device.
    pub fn info(&self, name: &str) -> io::Result<Reply> {
        self.simple(DEV_STATUS, name, 0)
    }

    /// The live table's first target.
    pub fn table(&self, name: &str) -> io::Result<Option<Target>> {
        Ok(self
            .simple(TABLE_STATUS, name, STATUS_TABLE | NOFLUSH)?
            .target())
    }

    /// All targets of the live table.
    pub fn targets(&self, name: &str) -> io::Result<Vec<Target>> {
        Ok(self
            .simple(TABLE_STATUS, name, STATUS_TABLE | NOFLUSH)?
            .targets())
    }

    /// Its status.
    pub fn status(&self, name: &str) -> io::Result<Option<Target>> {
        Ok(self.simple(TABLE_STATUS, name, NOFLUSH)?.target())
    }

    /// Loads a table that the next resume makes live.
    pub fn load(&self, name: &str, table: &Target, read_only: bool) -> io::Result<()> {
        self.load_all(name, std::slice::from_ref(table), read_only)
    }

    /// Loads a table of several targets.
    pub fn load_all(&self, name: &str, table: &[Target], read_only: bool) -> io::Result<()> {
        let body = wire::pack_table(table);
        self.call(&Call {
            number: TABLE_LOAD,
            name,
            flags: if read_only { READ_ONLY } else { 0 },
            targets: u32::try_from(table.len()).unwrap_or(u32::MAX),
            body: &body,
            ..Call::default()
        })?;
        Ok(())
    }

    /// Drops a table that was loaded and is not live.
    pub fn clear(&self, name: &str) -> io::Result<()> {
        self.simple(TABLE_CLEAR, name, 0).map(drop)
    }

    /// Suspends a device. A signal may interrupt it; then nothing has changed.
    pub fn suspend(&self, name: &str, flags: u32) -> io::Result<()> {
        self.simple(DEV_SUSPEND, name, SUSPENDED | flags).map(drop)
    }

    /// Resumes a device. A table that was loaded becomes live; if the device is not suspended, it
    /// is so meanwhile, with the same file system frozen, all in one call. A signal may interrupt
    /// it; then nothing has changed.
    pub fn resume(&self, name: &str, flags: u32, rules: u32) -> io::Result<()> {
        self.call(&Call {
            number: DEV_SUSPEND,
            name,
            flags,
            cookie: node::cookie(rules),
            ..Call::default()
        })?;
        Ok(())
    }

    /// Makes a device with this table and a node for it; leaves none if that fails. `rules` is for
    /// udev, see [`node`].
    pub fn create(
        &self,
        name: &str,
        uuid: &str,
        table: &[Target],
        read_only: bool,
        rules: u32,
    ) -> io::Result<Dev> {
        let made = self.call(&Call {
            number: DEV_CREATE,
            name,
            uuid,
            ..Call::default()
        })?;
        let live = self
            .load_all(name, table, read_only)
            .and_then(|()| self.resume(name, 0, rules))
            .and_then(|()| node::appears(name, made.dev));
        if let Err(e) = live {
            // What is said is why it failed, not what became of the rest.
            let _ = self.remove(name);
            return Err(e);
        }
        Ok(made.dev)
    }

    /// Removes a device and its node. Who only looks at it (udev, say) is waited for, some seconds
    /// long.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let dev = self.info(name)?.dev;
        let mut tries = 0;
        loop {
            let call = Call {
                number: DEV_REMOVE,
                name,
                cookie: node::cookie(0),
                ..Call::default()
            };
            match self.call(&call) {
                Err(e)
                    if e.raw_os_error() == Some(libc::EBUSY)
                        && tries < 15
                        && node::users(dev).is_none() =>
                {
                    tries += 1;
                }
                Err(e) => return Err(e),
                Ok(_) => break,
            }
            sleep(Duration::from_millis(200));
        }
        node::vanishes(name, dev);
        Ok(())
    }

    /// Sends a message, and returns what it answers.
    pub fn message(&self, name: &str, words: &str) -> io::Result<String> {
        let mut body = vec![0; 8];
        body.extend(words.as_bytes());
        body.push(0);
        let reply = self.call(&Call {
            number: TARGET_MSG,
            name,
            body: &body,
            ..Call::default()
        })?;
        let answered = reply.flags & DATA_OUT != 0;
        Ok(if answered {
            reply.text()
        } else {
            String::new()
        })
    }
}

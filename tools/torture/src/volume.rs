// SPDX-License-Identifier: GPL-2.0

//! A mapped device and its model, and the kinds of I/O that are done to it.

use crate::{
    content::{describe, fill, Buffer, Version, SECTOR},
    dm,
    model::{Model, Shown, Wrong},
    Faults, Options,
};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
};

/// Sectors of a page, which the page cache writes as a whole.
const PAGE: u64 = 8;

/// How a read or a write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Past the page cache.
    Direct,
    /// The same, and durable when it ends.
    DirectSync,
    /// The same, or not at all if it would have to wait.
    NoWait,
    /// Through the page cache, with a flush after a write.
    Cached,
    /// Zeroes, by the block layer. A read is direct.
    Zeroes,
}

/// The device of a volume.
pub struct Device {
    node: String,
    direct: File,
    cached: File,
}

/// An origin or a snapshot.
pub struct Volume {
    /// Name of the mapped device.
    pub name: String,
    /// Id of the snapshot; empty for the origin.
    pub id: String,
    /// Its table.
    pub target: &'static str,
    /// Its table.
    pub arguments: String,
    /// Its length.
    pub sectors: u64,
    /// What it must show.
    pub model: Model,
    /// While it is mapped.
    pub device: Option<Device>,
    /// The store may be taken back to what was durable: each write is made so.
    careful: bool,
}

impl Volume {
    /// One that is not mapped yet.
    pub fn new(
        id: &str,
        target: &'static str,
        arguments: String,
        options: &Options,
        shown: Shown,
    ) -> Self {
        let careful = options.faults == Faults::Broken;
        // After a failed write the page cache and the device may differ until the next one.
        let settles = options.faults == Faults::None;
        Volume {
            name: format!("torture{id}"),
            id: id.to_owned(),
            target,
            arguments,
            sectors: options.sectors,
            model: Model::new(shown, settles),
            device: None,
            careful,
        }
    }

    /// Whether it is a snapshot of a snapshot.
    pub fn is_sub(&self) -> bool {
        self.id.contains('.')
    }

    /// Makes its device.
    pub fn map(&mut self) -> io::Result<()> {
        if self.device.is_some() {
            return Ok(());
        }
        let node = dm::create(&self.name, self.sectors, self.target, &self.arguments)?;
        let open = |flags| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(&node)
        };
        let opened = open(libc::O_DIRECT).and_then(|direct| Ok((direct, open(0)?)));
        let (direct, cached) = opened.inspect_err(|_| {
            // A device that nobody could use would only be in the way of the next one.
            let _ = dm::remove(&self.name);
        })?;
        self.device = Some(Device {
            node: node.clone(),
            direct,
            cached,
        });
        Ok(())
    }

    /// Removes its device.
    pub fn unmap(&mut self) -> io::Result<()> {
        if self.device.is_none() {
            return Ok(());
        }
        self.device = None;
        dm::remove(&self.name)
    }

    /// Gives it the same table anew.
    pub fn reload(&self) -> io::Result<()> {
        dm::load(&self.name, self.sectors, self.target, &self.arguments)
    }

    fn quiet(&self, range: &Range<u64>, how: How) -> Range<u64> {
        match how {
            How::Cached => {
                let end = range.end.next_multiple_of(PAGE).min(self.sectors);
                range.start / PAGE * PAGE..end
            }
            _ => range.clone(),
        }
    }

    /// Writes `range` in the device, and tells the model.
    pub fn write(
        &self,
        range: Range<u64>,
        how: How,
        version: Version,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        let Some(device) = &self.device else {
            return Ok(());
        };
        let version = if how == How::Zeroes { 0 } else { version };
        let count = (range.end - range.start) as usize;
        let data = buffer.sectors(count);
        for (sector, data) in (range.start..).zip(data.chunks_exact_mut(SECTOR)) {
            fill(data, version, sector);
        }
        let mut result = Ok(());
        let quiet = self.quiet(&range, how);
        self.model.write(range.clone(), quiet, version, || {
            result = device.write(range.clone(), how, data);
            if self.careful && result.is_ok() {
                result = device.direct.sync_data();
            }
            result.is_ok()
        });
        result
    }

    /// What is on the device at this sector, and a page before and after, past the cache.
    pub fn around(&self, sector: u64) -> String {
        let Some(device) = &self.device else {
            return "nothing".to_owned();
        };
        let first = sector.saturating_sub(PAGE);
        let mut buffer = Buffer::new(1);
        let all: Vec<String> = (first..self.sectors.min(sector + PAGE + 1))
            .step_by(PAGE as usize)
            .map(|at| {
                let data = buffer.sectors(1);
                let found = match device.read(at..at + 1, How::Direct, data) {
                    Ok(()) => describe(data),
                    Err(e) => e.to_string(),
                };
                format!("{at}: {found}")
            })
            .collect();
        all.join(", ")
    }

    /// Reads `range` of the device, and compares it with the model.
    pub fn read(
        &self,
        range: Range<u64>,
        how: How,
        buffer: &mut Buffer,
    ) -> Result<io::Result<()>, Wrong> {
        let Some(device) = &self.device else {
            return Ok(Ok(()));
        };
        let data = buffer.sectors((range.end - range.start) as usize);
        data.fill(0xee);
        let mut result = Ok(());
        let quiet = self.quiet(&range, how);
        self.model.read(range.clone(), quiet, || {
            result = device.read(range, how, data);
            result.is_ok().then_some(&*data)
        })?;
        Ok(result)
    }
}

fn checked(rc: libc::c_int) -> io::Result<()> {
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Device {
    fn write(&self, range: Range<u64>, how: How, data: &[u8]) -> io::Result<()> {
        let at = range.start * SECTOR as u64;
        match how {
            How::Direct => self.direct.write_all_at(data, at),
            How::DirectSync => self.vectored(data, at, libc::RWF_DSYNC),
            How::NoWait => self.vectored(data, at, libc::RWF_NOWAIT),
            How::Cached => {
                // Each error is told once to each open file: not to be missed, this is our own.
                let result = OpenOptions::new()
                    .write(true)
                    .open(&self.node)
                    .and_then(|file| {
                        file.write_all_at(data, at)?;
                        file.sync_data()
                    });
                if result.is_err() {
                    self.forget(range);
                }
                result
            }
            How::Zeroes => {
                let span = [at, data.len() as u64];
                // SAFETY: It takes two numbers.
                checked(unsafe { libc::ioctl(self.direct.as_raw_fd(), BLKZEROOUT as _, &span) })
            }
        }
    }

    fn vectored(&self, data: &[u8], at: u64, flags: libc::c_int) -> io::Result<()> {
        let part = libc::iovec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        };
        // SAFETY: The one part stays until the call returns, and is only read.
        let wrote =
            unsafe { libc::pwritev2(self.direct.as_raw_fd(), &part, 1, at as libc::off_t, flags) };
        match usize::try_from(wrote) {
            Ok(wrote) if wrote == data.len() => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// After a failed write, what the page cache holds is not what the device does.
    fn forget(&self, range: Range<u64>) {
        let (start, end) = (range.start / PAGE * PAGE, range.end.next_multiple_of(PAGE));
        let (at, len) = (start * SECTOR as u64, (end - start) * SECTOR as u64);
        // SAFETY: It touches no memory of ours.
        unsafe {
            libc::posix_fadvise(
                self.cached.as_raw_fd(),
                at as libc::off_t,
                len as libc::off_t,
                libc::POSIX_FADV_DONTNEED,
            )
        };
    }

    fn read(&self, range: Range<u64>, how: How, data: &mut [u8]) -> io::Result<()> {
        let at = range.start * SECTOR as u64;
        match how {
            How::Cached => self.cached.read_exact_at(data, at),
            _ => self.direct.read_exact_at(data, at),
        }
    }
}

/// Of `linux/fs.h`.
const BLKZEROOUT: u64 = 0x127f;

// SPDX-License-Identifier: GPL-2.0

//! Block devices past the page cache.

use crate::sector::SECTOR;
use anyhow::{bail, Context, Result};
use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    process::Command,
};

/// What memory and places must be a multiple of.
const ALIGN: usize = 4096;

/// Memory that a device can be read into.
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Zeroes.
    pub fn new(len: usize) -> Self {
        let data = vec![0; len + ALIGN];
        let start = data.as_ptr().align_offset(ALIGN).min(ALIGN);
        Buffer { data, start, len }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// An open device.
pub struct Raw {
    file: File,
    bytes: u64,
}

impl Raw {
    /// Opens a device; with `dsync`, what is written to it is durable when the write ends.
    pub fn open(path: &str, dsync: bool) -> Result<Self> {
        let dsync = if dsync { libc::O_DSYNC } else { 0 };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let options = options.custom_flags(libc::O_DIRECT | dsync);
        let mut file = options
            .open(path)
            .with_context(|| format!("cannot open {path}"))?;
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Raw { file, bytes })
    }

    /// Its size.
    pub fn sectors(&self) -> u64 {
        self.bytes / SECTOR as u64
    }

    /// Reads at a sector.
    pub fn read(&self, first: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, first * SECTOR as u64)
    }

    /// Writes at a sector.
    pub fn write(&self, first: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, first * SECTOR as u64)
    }

    /// Flushes it.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Discards a part of a device, or overwrites it with zeroes; `false` if there was no space.
pub fn blkdiscard(path: &str, zeroes: bool, first: u64, sectors: u64) -> Result<bool> {
    let mut command = Command::new("blkdiscard");
    // Others may do the same just now.
    command.arg("--force");
    if zeroes {
        command.arg("--zeroout");
    }
    let bytes = |sectors: u64| (sectors * SECTOR as u64).to_string();
    command.args(["--offset", &bytes(first), "--length", &bytes(sectors), path]);
    let output = command.output().context("cannot run blkdiscard")?;
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(true),
        false if error.contains("No space left") => Ok(false),
        false => bail!("{}", error.trim()),
    }
}

/// Whether a write failed for want of space.
pub fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSPC)
}

/// Whether it failed as it does where something is lost.
pub fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

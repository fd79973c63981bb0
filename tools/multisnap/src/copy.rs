// SPDX-License-Identifier: GPL-2.0

//! Content that is copied between devices, and the device that a new store goes to.

use crate::{
    device::{self, Disk, For},
    failure::Failure,
    signature,
};
use multisnap_store::image::{Device, Page, Refusal, PAGE_BYTES};
use std::{io, path::Path, sync::Arc};

/// Blocks that are copied at once.
const PIECE: u64 = 256;

/// Why content could not be copied.
#[derive(Debug)]
pub enum CopyError {
    /// It cannot be read, at this block.
    Read(u64, io::Error),
    /// It cannot be written.
    Write(io::Error),
    /// The new store refuses it.
    Refused(Refusal),
}

impl From<Refusal> for CopyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Copies content from one device to another.
pub struct Copier {
    from: Arc<Disk>,
    to: Arc<Disk>,
    pages: Vec<Page>,
}

impl Copier {
    /// From where to where.
    pub fn new(from: Arc<Disk>, to: Arc<Disk>) -> Self {
        Self {
            from,
            to,
            pages: vec![Page::ZERO; PIECE as usize],
        }
    }

    /// The device that content comes from.
    pub fn from(&self) -> &Disk {
        &self.from
    }

    /// Copies `blocks` blocks from block `from` on to block `to`.
    pub fn copy(&mut self, from: u64, to: u64, blocks: u64) -> Result<(), CopyError> {
        let mut done = 0;
        while done < blocks {
            let n = (blocks - done).min(PIECE);
            let pages = &mut self.pages[..n as usize];
            let at = from.saturating_add(done);
            self.from
                .read(at, pages)
                .map_err(|e| CopyError::Read(at, e))?;
            self.to
                .write(to.saturating_add(done), pages)
                .map_err(CopyError::Write)?;
            done += n;
        }
        Ok(())
    }
}

/// The device that a new store goes to.
pub struct Output {
    /// The device.
    pub disk: Arc<Disk>,
    /// It, as stores see it.
    pub device: Arc<dyn Device>,
    /// The file was made by this run, and is not worth anything before the run has ended well.
    made: bool,
}

impl Output {
    /// Opens an empty device or file, or makes a file of `size` bytes.
    pub fn open(path: &Path, size: u64, size_was_said: bool) -> Result<Self, Failure> {
        let made = !path.exists();
        let disk = if made {
            let blocks = size.div_ceil(PAGE_BYTES as u64);
            Disk::create(path, blocks.saturating_mul(PAGE_BYTES as u64))?
        } else {
            let disk = Disk::open(path, For::Output)?;
            if device::is_block(path) {
                signature::none(path)?;
            }
            disk
        };
        if size_was_said && disk.len() < size {
            let have = crate::size::show(disk.len());
            let what = format!("has {have}, which is less than --size");
            return Err(Failure::new(path, what, "take a larger one"));
        }
        let (disk, device) = disk.shared();
        Ok(Self { disk, device, made })
    }

    /// What `refusal` means for the device that a store was to go to.
    pub fn refused(&self, refusal: &Refusal) -> Failure {
        let path = self.disk.path();
        match refusal {
            Refusal::Foreign | Refusal::Rest => Failure::new(
                path,
                match refusal {
                    Refusal::Rest => refusal.to_string(),
                    _ => "is not empty".into(),
                },
                format!(
                    "take another one; or, if nothing on it is needed: wipefs -a {0} && dd \
                     if=/dev/zero of={0} bs=128k count=1 conv=notrunc",
                    path.display()
                ),
            ),
            Refusal::TooSmall => Failure::new(path, refusal.to_string(), "take a larger one"),
            Refusal::Io => Failure::new(path, refusal.to_string(), "see the kernel log: dmesg"),
            other => Failure::new(path, other.to_string(), "say another --size, or device"),
        }
    }

    /// Removes the file again if this run has made it.
    pub fn abandon(&self) {
        if self.made {
            // The failure that led here is what is told.
            let _ = std::fs::remove_file(self.disk.path());
        }
    }
}

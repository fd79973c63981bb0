// SPDX-License-Identifier: GPL-2.0

//! Files and block devices, past the page cache where that can be.

use crate::{
    failure::Failure,
    loops::{self, backing, number},
};
use multisnap_store::image::{bytes, bytes_mut, Device, Page, PAGE_BYTES};
use rustix::{
    fs::{flock, FlockOperation},
    io::Errno,
};
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A store that is looked at; nobody else may use it.
    Store,
    /// A store or an origin that may be in use.
    Live,
    /// To be written; nobody else may use it.
    Output,
}

/// A file or a block device.
pub struct Disk {
    file: File,
    path: PathBuf,
    /// Its size in bytes.
    len: u64,
    /// It is a block device, whose blocks must be read whole and in place.
    direct: bool,
}

impl Disk {
    /// Opens what is at `path`.
    pub fn open(path: &Path, what_for: For) -> Result<Self, Failure> {
        let meta =
            std::fs::metadata(path).map_err(|e| Failure::io(path, "cannot be opened", &e))?;
        let direct = meta.file_type().is_block_device();
        if !direct && !meta.is_file() {
            let what = "is neither a block device nor a file";
            return Err(Failure::new(
                path,
                what,
                "see lsblk for the names of devices",
            ));
        }
        let mut flags = 0;
        if direct {
            flags |= libc::O_DIRECT;
            if what_for != For::Live {
                flags |= libc::O_EXCL;
            }
        } else {
            not_by_loop(&meta, path, what_for)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(what_for == For::Output)
            .custom_flags(flags)
            .open(path)
            .map_err(|e| refused(path, &e, what_for))?;
        if !direct {
            lock(&file, path, what_for)?;
        }
        let end = file.seek(SeekFrom::End(0));
        let len = end.map_err(|e| Failure::io(path, "cannot be read", &e))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            len,
            direct,
        })
    }

    /// Makes a file of `len` bytes, where none is; its name is durable then.
    pub fn create(path: &Path, len: u64) -> Result<Self, Failure> {
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = made.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => in_use_by_another(path),
            _ => Failure::io(path, "cannot be made", &e),
        })?;
        // Whoever has opened it already finds it empty, and soon lets go of it.
        let _ = flock(&file, FlockOperation::LockExclusive);
        file.set_len(len).map_err(|e| {
            // It is there, but not of that size.
            let _ = std::fs::remove_file(path);
            Failure::io(path, "cannot be made", &e)
        })?;
        sync_name(path).map_err(|e| Failure::io(path, "cannot be made", &e))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            len,
            direct: false,
        })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fails if what is at `path`, which is to be written, is this one by the same or by another
    /// name, or by way of a loop device.
    pub fn is_not(&self, path: &Path) -> Result<(), Failure> {
        let of = |path: &Path| std::fs::metadata(path).ok();
        let Some(other) = of(path) else {
            return Ok(());
        };
        let own = self.file.metadata();
        let own = own.map_err(|e| Failure::io(&self.path, "cannot be read", &e))?;
        let through = |meta: &Metadata| backing(meta).as_deref().and_then(of);
        let same = [Some(&own), through(&own).as_ref()]
            .iter()
            .flatten()
            .any(|own| {
                [Some(&other), through(&other).as_ref()]
                    .iter()
                    .flatten()
                    .any(|other| number(own) == number(other))
            });
        if !same {
            return Ok(());
        }
        let what = format!("is {}, which is only read", self.path.display());
        Err(Failure::new(
            path,
            what,
            "say another device, or a new file",
        ))
    }

    /// As stores see it.
    pub fn shared(self) -> (Arc<Disk>, Arc<dyn Device>) {
        let disk = Arc::new(self);
        (disk.clone(), disk)
    }
}

/// Whether that is a block device.
pub fn is_block(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

fn refused(path: &Path, e: &io::Error, what_for: For) -> Failure {
    if e.raw_os_error() != Some(libc::EBUSY) {
        return Failure::io(path, "cannot be opened", e);
    }
    let then = busy(&path.display().to_string(), what_for);
    Failure::new(path, "is in use", then)
}

/// What to do about a device that is in use.
fn busy(name: &str, what_for: For) -> String {
    match what_for {
        For::Output => format!(
            "unmount it, remove what is on it (lsblk {name}), or wait for another multisnap"
        ),
        _ => format!(
            "stop its origin (multisnap stop {name}), wait for another multisnap, or see who else has \
             it (lsblk {name}, fuser -v {name}); check, dump, cat and map also take --live"
        ),
    }
}

/// Fails if a file is in use by way of a loop device.
fn not_by_loop(meta: &Metadata, path: &Path, what_for: For) -> Result<(), Failure> {
    if what_for == For::Live {
        return Ok(());
    }
    let Some((device, what)) = loops::user(meta) else {
        return Ok(());
    };
    let then = busy(&device, what_for);
    Err(Failure::new(
        path,
        format!("is behind {device}, which {what}"),
        then,
    ))
}

/// Keeps others from a file while it is written, and who writes it from one that is read. Devices are
/// opened so that only one has them.
fn lock(file: &File, path: &Path, what_for: For) -> Result<(), Failure> {
    let how = match what_for {
        For::Live => return Ok(()),
        For::Store => FlockOperation::NonBlockingLockShared,
        For::Output => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, how) {
        Err(Errno::WOULDBLOCK) => Err(in_use_by_another(path)),
        // Not every file system has locks.
        _ => Ok(()),
    }
}

fn in_use_by_another(path: &Path) -> Failure {
    let then = format!(
        "wait until that has ended; see which one it is: fuser -v {}",
        path.display()
    );
    Failure::new(path, "is in use by another multisnap", then)
}

/// Byte where block `nr` begins.
fn byte(nr: u64) -> io::Result<u64> {
    nr.checked_mul(PAGE_BYTES as u64)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

impl Device for Disk {
    fn blocks(&self) -> u64 {
        self.len / PAGE_BYTES as u64
    }

    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        self.file.read_exact_at(bytes_mut(pages), byte(nr)?)
    }

    fn write(&self, nr: u64, pages: &[Page]) -> io::Result<()> {
        let end = nr.checked_add(pages.len() as u64);
        if end.is_none_or(|end| end > self.blocks()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.write_all_at(bytes(pages), byte(nr)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Disk {
    /// Fills `pages` from block `nr` on; what is behind the end is zero. A device need not end at
    /// a whole block.
    pub fn read_to_end(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        pages.fill(Page::ZERO);
        let start = byte(nr)?;
        let left = self.len.saturating_sub(start);
        let data = bytes_mut(pages);
        let n = usize::try_from(left).map_or(data.len(), |left| left.min(data.len()));
        if !self.direct {
            return self.file.read_exact_at(&mut data[..n], start);
        }
        // Whole blocks are asked for; the kernel gives what is there.
        let mut done = 0;
        while done < n {
            match self.file.read_at(&mut data[done..], start + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => done += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Makes durable that there is a file of this name.
pub fn sync_name(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    std::fs::File::open(dir)?.sync_all()
}

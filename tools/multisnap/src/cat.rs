// SPDX-License-Identifier: GPL-2.0

//! `multisnap cat`: the content of a snapshot, from the origin and the store, without the module.

use crate::{
    device::{self, Disk, For},
    failure::{Code, Failure},
    identity::{self, Compared},
    out,
    progress::Progress,
    signature,
    size::{self, SECTOR},
    spans::{Opened, Place, Span},
};
use multisnap_store::image::{bytes, Page, SnapshotId, PAGE_BYTES};
use rustix::{
    fs::{renameat_with, RenameFlags, CWD},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What `cat` is told.
#[derive(clap::Args)]
#[command(
    after_help = "Example: multisnap cat /dev/vg/store 3 --origin /dev/vg/home --output home-3.img"
)]
pub struct Args {
    /// The store: a block device or a file.
    store: PathBuf,
    /// The snapshot: 3, or 3.0 for the first snapshot of snapshot 3.
    id: SnapshotId,
    /// The origin. It is only read.
    #[arg(long)]
    origin: PathBuf,
    /// Write to this new file, or to this block device, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write to the block device whatever it holds, unless somebody uses it.
    #[arg(long)]
    force: bool,
    /// Write zeroes for what is lost.
    #[arg(long)]
    lost_as_zero: bool,
    /// Look at a store although it is in use. What changes meanwhile may be written wrong.
    #[arg(long)]
    live: bool,
}

/// Blocks that are written at once.
const PIECE: u64 = 256;

/// Writes a snapshot.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let mut opened = Opened::new(&args.store, args.id, args.live)?;
    let (origin, _) = Disk::open(&args.origin, For::Live)?.shared();
    check_origin(&opened, &origin)?;
    let len = opened.sectors.saturating_mul(SECTOR);
    if let Some(path) = &args.output {
        opened.disk.is_not(path)?;
        origin.is_not(path)?;
    }
    let mut to = Sink::open(args.output.as_deref(), len)?;
    if let Some(path) = args
        .output
        .as_deref()
        .filter(|path| device::is_block(path) && !args.force)
    {
        // Now nobody else can make anything of it.
        signature::may_be_written(path)?;
    }
    let written = write(args, &mut opened, &origin, len, &mut to);
    let lost = written.inspect_err(|_| to.abandon())?;
    if lost != 0 {
        eprintln!(
            "multisnap: {} of snapshot {} lost: zeroes were written instead",
            size::count(lost, "chunk"),
            args.id
        );
    }
    Ok(Code::Good)
}

/// Writes all of it; how many chunks are lost.
fn write(
    args: &Args,
    opened: &mut Opened,
    origin: &Arc<Disk>,
    len: u64,
    to: &mut Sink,
) -> Result<u64, Failure> {
    let mut progress = Progress::new("cat", opened.chunks());
    let chunk_blocks = opened.image.header().chunk_blocks();
    let mut pages = vec![Page::ZERO; PIECE as usize];
    let (mut at, mut lost) = (0, 0u64);
    while let Some(span) = opened.span(at, 1 << 12) {
        at = span.first + span.count;
        progress.step(span.count);
        let begin = span.first.saturating_mul(chunk_blocks);
        let blocks = span.count.saturating_mul(chunk_blocks);
        let left = len.saturating_sub(begin.saturating_mul(PAGE_BYTES as u64));
        let source = source(&span, args, opened, origin, &mut lost)?;
        copy(source.as_ref(), &mut pages, blocks, left, to)?;
    }
    to.finish(len)?;
    Ok(lost)
}

/// Where the content of a span is: a device, and the block on it. `None`: it is zero.
fn source(
    span: &Span,
    args: &Args,
    opened: &Opened,
    origin: &Arc<Disk>,
    lost: &mut u64,
) -> Result<Option<(Arc<Disk>, u64)>, Failure> {
    let header = opened.image.header();
    let name = args.store.display();
    let (chunk, id) = (span.first, args.id);
    match span.place {
        Place::Zero => Ok(None),
        Place::Origin => {
            let block = span.first.saturating_mul(header.chunk_blocks());
            Ok(Some((origin.clone(), block)))
        }
        Place::Store(dest) => {
            // A look-up gives what is in the store only.
            let block = header.data_block(dest).unwrap_or(u64::MAX);
            Ok(Some((opened.disk.clone(), block)))
        }
        Place::Lost | Place::Unknown if args.lost_as_zero => {
            *lost = lost.saturating_add(span.count);
            Ok(None)
        }
        Place::Lost => Err(Failure::damage(
            &args.store,
            format!("has lost chunk {chunk} of snapshot {id}"),
            "say --lost-as-zero to have zeroes there",
        )),
        Place::Unknown => Err(Failure::damage(
            &args.store,
            format!("is damaged where it tells of chunk {chunk} of snapshot {id}"),
            format!("say --lost-as-zero to have zeroes there, or: multisnap repair {name} OUT"),
        )),
    }
}

/// Copies blocks to the output, no more than `left` bytes.
fn copy(
    source: Option<&(Arc<Disk>, u64)>,
    pages: &mut [Page],
    blocks: u64,
    left: u64,
    to: &mut Sink,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < blocks {
        let n = (blocks - done).min(PIECE);
        let left = left.saturating_sub(done.saturating_mul(PAGE_BYTES as u64));
        let bytes_here = left.min(n * PAGE_BYTES as u64);
        if bytes_here == 0 {
            break;
        }
        match source {
            None => to.zeroes(bytes_here)?,
            Some((disk, block)) => {
                let pages = &mut pages[..n as usize];
                let read = disk.read_to_end(block.saturating_add(done), pages);
                read.map_err(|e| Failure::io(disk.path(), "cannot be read", &e))?;
                to.write(&bytes(pages)[..bytes_here as usize])?;
            }
        }
        done += n;
    }
    Ok(())
}

/// Makes sure that `origin` can be the origin of the store.
fn check_origin(opened: &Opened, origin: &Arc<Disk>) -> Result<(), Failure> {
    let header = opened.image.header();
    let path = origin.path();
    let recorded = header.origin_sectors.saturating_mul(SECTOR);
    if origin.len() < recorded {
        let what = format!(
            "has {}, the origin of this store had {}",
            size::show(origin.len()),
            size::show(recorded)
        );
        return Err(Failure::new(path, what, "say the right one after --origin"));
    }
    match identity::compare(origin, header)? {
        Compared::Same => {}
        Compared::Other => {
            let what = "is another origin: nothing in it is as it was";
            return Err(Failure::new(path, what, "say the right one after --origin"));
        }
        Compared::Differs(n, of) => out::warn(&format!(
            "{} was written since the store was stopped ({n} of {of} samples differ): the snapshot \
             may show what was written",
            path.display()
        )),
    }
    Ok(())
}

/// Where a snapshot is written to.
struct Sink {
    path: PathBuf,
    /// A new file gets its own name when all is in it: nobody takes half a snapshot for one.
    part: PathBuf,
    to: Box<dyn Write>,
    /// A new file, in which zeroes need not be written.
    sparse: Option<File>,
    /// It must be durable in the end.
    device: Option<File>,
}

impl Sink {
    fn open(path: Option<&Path>, len: u64) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self {
                path: "standard output".into(),
                part: PathBuf::new(),
                to: Box::new(io::stdout().lock()),
                sparse: None,
                device: None,
            });
        };
        let failed = |e: &io::Error| Failure::io(path, "cannot be written", e);
        let is_device = device::is_block(path);
        let mut options = OpenOptions::new();
        options.write(true);
        let mut part = path.to_path_buf();
        let mut file = if is_device {
            let file = options.custom_flags(libc::O_EXCL).open(path);
            file.map_err(|e| failed(&e))?
        } else {
            if fs::symlink_metadata(path).is_ok() {
                return Err(failed(&io::ErrorKind::AlreadyExists.into()));
            }
            part.as_mut_os_string().push(".part");
            let file = options.create_new(true).open(&part);
            file.map_err(|e| Failure::io(&part, "cannot be written", &e))?
        };
        if is_device {
            let size = file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
            file.rewind().map_err(|e| failed(&e))?;
            if size < len {
                let what = format!("has {}, {} are needed", size::show(size), size::show(len));
                return Err(Failure::new(path, what, "take a larger one"));
            }
        }
        let copy = file.try_clone().map_err(|e| failed(&e))?;
        let (sparse, device) = if is_device {
            (None, Some(copy))
        } else {
            (Some(copy), None)
        };
        Ok(Self {
            path: path.to_path_buf(),
            part,
            to: Box::new(file),
            sparse,
            device,
        })
    }

    fn failed(&self, e: &io::Error) -> Failure {
        if self.sparse.is_none() && self.device.is_none() {
            return out::failed(e);
        }
        Failure::io(&self.path, "cannot be written", e)
    }

    fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        let written = self.to.write_all(data);
        written.map_err(|e| self.failed(&e))
    }

    fn zeroes(&mut self, n: u64) -> Result<(), Failure> {
        if let Some(file) = &mut self.sparse {
            // It has the same position as its clone.
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            let moved = file.seek(SeekFrom::Current(n));
            return moved.map(drop).map_err(|e| self.failed(&e));
        }
        let zero = [0; PAGE_BYTES];
        let mut left = n;
        while left != 0 {
            let n = left.min(PAGE_BYTES as u64);
            self.write(&zero[..n as usize])?;
            left -= n;
        }
        Ok(())
    }

    /// Removes the file again if this run has made it.
    fn abandon(&self) {
        if self.sparse.is_some() {
            // The failure that led here is what is told.
            let _ = fs::remove_file(&self.part);
        }
    }

    /// Gives a new file its name, unless something else has that by now.
    fn name(&self) -> io::Result<()> {
        match renameat_with(CWD, &self.part, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.part, &self.path),
            other => Ok(other?),
        }
    }

    fn finish(&mut self, len: u64) -> Result<(), Failure> {
        let mut done = self.to.flush();
        if let Some(file) = &self.sparse {
            done = done.and_then(|()| file.set_len(len));
            done = done.and_then(|()| file.sync_all());
            done = done.and_then(|()| self.name());
            done = done.and_then(|()| device::sync_name(&self.path));
        }
        if let Some(file) = &self.device {
            done = done.and_then(|()| file.sync_all());
        }
        done.map_err(|e| self.failed(&e))
    }
}

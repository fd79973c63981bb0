// SPDX-License-Identifier: GPL-2.0

//! What a device holds, told by the marks that file systems and the like leave, and by
//! blkid.

use crate::{
    device::{Disk, For},
    failure::{words, Failure},
};
use multisnap_store::image::{bytes, is_rest, Page, Refusal, PAGE_BYTES};
use std::{
    borrow::Cow,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

/// Bytes from the start that are looked at.
const LOOK: usize = 1 << 20;

/// Name of what leaves a mark, where the mark is, and its bytes.
type Mark = (&'static str, usize, &'static [u8]);

/// A superblock of ours.
const STORE: &str = "a store of snapshots";

/// Checkpoints of ours without it.
const REST: &str = "what is left of a store of snapshots, without its superblock";

/// Marks. Those that few others have by chance come first.
const MARKS: &[Mark] = &[
    (STORE, 4, b"USSM"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("a second LUKS header", 0x4000, b"SKUL\xba\xbe"),
    ("a physical volume of LVM", 0x018, b"LVM2 001"),
    ("a physical volume of LVM", 0x218, b"LVM2 001"),
    ("a physical volume of LVM", 0x418, b"LVM2 001"),
    ("a physical volume of LVM", 0x618, b"LVM2 001"),
    ("a btrfs file system", 0x10040, b"_BHRfS_M"),
    ("an XFS file system", 0, b"XFSB"),
    ("a log of XFS", 0, b"\xfe\xed\xba\xbe"),
    (
        "a bcachefs file system",
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9",
    ),
    (
        "a device of bcache",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca",
    ),
    ("an f2fs file system", 0x400, b"\x10\x20\xf5\xf2"),
    ("a ReiserFS file system", 0x10034, b"ReIsEr"),
    ("a JFS file system", 0x8000, b"JFS1"),
    ("a GFS2 file system", 0x10000, b"\x01\x16\x19\x70"),
    ("an OCFS2 file system", 0x2000, b"OCFSV2"),
    ("a squashfs file system", 0, b"hsqs"),
    ("an EROFS file system", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a FAT file system", 0x52, b"FAT32   "),
    ("a FAT file system", 0x36, b"FAT1"),
    ("swap space", 0xff6, b"SWAPSPACE2"),
    ("swap space", 0xff6, b"SWAP-SPACE"),
    ("a suspended system", 0xff6, b"S1SUSPEND"),
    ("a member of an md array", 0, b"\xfc\x4e\x2b\xa9"),
    ("a member of an md array", 0x1000, b"\xfc\x4e\x2b\xa9"),
    ("a ZFS device", 0x20000, b"\x0c\xb1\xba\x00\x00\x00\x00\x00"),
    ("a store of dm-snapshot", 0, b"SnAp"),
    (
        "metadata of dm-thin",
        0x20,
        b"\xba\x52\x9c\x01\x00\x00\x00\x00",
    ),
    (
        "metadata of dm-cache",
        0x20,
        b"\x03\xc4\x18\x00\x00\x00\x00\x00",
    ),
    ("a dm-integrity device", 0, b"integrt\0"),
    ("hashes of dm-verity", 0, b"verity\0\0"),
    ("a Ceph OSD", 0, b"bluestore block device"),
    ("a device of Stratis", 0x204, b"!Stra0tis\x86\xff\x02"),
    ("a VDO volume", 0, b"dmvdo001"),
    ("an ext2, ext3 or ext4 file system", 0x438, b"\x53\xef"),
    ("a NILFS file system", 0x406, b"\x34\x34"),
    ("a GPT partition table", 0x200, b"EFI PART"),
    ("a partition table or boot sector", 0x1fe, b"\x55\xaa"),
];

/// What the first bytes of a device are a mark of.
fn look(data: &[u8]) -> Option<&'static str> {
    let has = |(_, at, mark): &&Mark| data.get(*at..).is_some_and(|data| data.starts_with(mark));
    MARKS.iter().find(has).map(|(name, ..)| *name)
}

/// What the last bytes of a device are a mark of; `len` is its size in bytes, and `tail` begins at
/// a whole block of 4 KiB.
fn look_at_end(tail: &[u8], len: u64) -> Option<&'static str> {
    let begin = len.checked_sub(tail.len() as u64)?;
    let at = |place: u64, mark: &[u8]| {
        let skip = place
            .checked_sub(begin)
            .and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| tail.get(skip..))
            .is_some_and(|data| data.starts_with(mark))
    };
    let md = b"\xfc\x4e\x2b\xa9";
    // Form 0.90 is in the last whole 64 KiB, form 1.0 in the last 8 KiB, at a whole 4 KiB.
    let old = (len & !0xffff).checked_sub(0x10000);
    let new = len.checked_sub(0x2000).map(|place| place & !0xfff);
    if old.into_iter().chain(new).any(|place| at(place, md)) {
        return Some("a member of an md array");
    }
    let backup = len.checked_sub(512)?;
    at(backup, b"EFI PART").then_some("the second half of a GPT partition table")
}

/// What is on a device; `None` if it holds no mark that is known.
fn find(path: &Path) -> Result<Option<Cow<'static, str>>, Failure> {
    if let Some(mark) = find_mark(path)? {
        return Ok(Some(mark));
    }
    match ask_blkid(path) {
        Ok(what) => Ok(what.map(Into::into)),
        Err(why) => {
            let what = format!("may hold what only blkid knows, and blkid {why}");
            let then = format!(
                "see what it says, and install util-linux if it is missing: blkid -p {}",
                path.display()
            );
            Err(Failure::new(path, what, then))
        }
    }
}

/// What the marks that are known here tell.
fn find_mark(path: &Path) -> Result<Option<Cow<'static, str>>, Failure> {
    let disk = Disk::open(path, For::Live)?;
    let len = disk.len();
    let failed = |e| Failure::io(path, "cannot be read", &e);
    let mut pages = vec![Page::ZERO; LOOK / PAGE_BYTES];
    disk.read_to_end(0, &mut pages).map_err(failed)?;
    if let Some(what) = look(bytes(&pages)) {
        return Ok(Some(what.into()));
    }
    let mut tail = vec![Page::ZERO; 33];
    let first = (len / PAGE_BYTES as u64).saturating_sub(32);
    disk.read_to_end(first, &mut tail).map_err(failed)?;
    let have = len.saturating_sub(first.saturating_mul(PAGE_BYTES as u64));
    let tail = bytes(&tail);
    let have = usize::try_from(have).map_or(tail.len(), |have| have.min(tail.len()));
    if let Some(what) = look_at_end(&tail[..have], len) {
        return Ok(Some(what.into()));
    }
    let rest = is_rest(&disk.shared().1);
    let rest = rest.map_err(|refusal| Failure::refused(path, &refusal))?;
    Ok(rest.then_some(REST.into()))
}

/// What blkid finds on a device, which knows more than the marks here; `None` if that is nothing.
/// The error tells what is wrong with blkid.
fn ask_blkid(path: &Path) -> Result<Option<String>, String> {
    // Not what is in its cache, and not of whoever asks.
    let mut blkid = Command::new("blkid");
    let asked = blkid.args(["-p", "-o", "export", "--"]).arg(path);
    let asked = asked.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = asked.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("cannot be run: {}", words(&e)))?;
    read_blkid(
        output.status,
        &String::from_utf8_lossy(&output.stdout),
        &String::from_utf8_lossy(&output.stderr),
    )
}

/// Reads what blkid has said.
fn read_blkid(status: ExitStatus, said: &str, errors: &str) -> Result<Option<String>, String> {
    let value = |name: &str| {
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let error = errors.lines().find(|line| !line.trim().is_empty());
    match (status.code(), error) {
        (Some(0), _) => {
            let kind = value("TYPE").map(|kind| format!("what blkid names {kind}"));
            let table = || Some(format!("a partition table ({})", value("PTTYPE")?));
            Ok(kind.or_else(table))
        }
        // It is also the status of what could not be opened, which is said.
        (Some(2), None) => Ok(None),
        // Marks of several that rule each other out.
        (Some(8), _) => Ok(Some("marks of several things at once".to_owned())),
        (Some(code), None) => Err(format!("ended with status {code}")),
        (Some(code), Some(error)) => Err(format!("ended with status {code}: {}", error.trim())),
        (None, _) => Err(match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => "did not end".to_owned(),
        }),
    }
}

/// Fails if a device holds something that is known.
pub fn none(path: &Path) -> Result<(), Failure> {
    match find(path)? {
        None => Ok(()),
        Some(what) => Err(holds(path, &what)),
    }
}

/// Fails if a device that is to be written over holds something that is known, unless that is wanted.
pub fn may_be_written(path: &Path) -> Result<(), Failure> {
    match find(path)? {
        None => Ok(()),
        Some(what) => {
            let then = "take another device; or, if nobody needs that: --force";
            Err(Failure::new(path, format!("holds {what}"), then))
        }
    }
}

/// Fails if a device that is to be an origin is a store.
pub fn not_store(origin: &Path) -> Result<(), Failure> {
    if find_mark(origin)?.as_deref() != Some(STORE) {
        return Ok(());
    }
    let then = "say the origin first, then the store: multisnap create ORIGIN STORE";
    Err(Failure::new(origin, format!("holds {STORE}"), then))
}

fn holds(path: &Path, what: &str) -> Failure {
    let name = path.display();
    let first = match what {
        STORE => "start it: multisnap start ORIGIN STORE".to_owned(),
        REST => format!(
            "take another device; if there is a dump, it is saved by: multisnap restore DUMP OUT \
             --data {name}"
        ),
        _ => "take another device".to_owned(),
    };
    let then = format!(
        "{first}; or, if nobody needs that, erase it: wipefs -a {name}; dd if=/dev/zero of={name} \
         bs=128k count=1 oflag=direct"
    );
    Failure::new(path, format!("holds {what}"), then)
}

/// What is said of a device that is no store, or cannot become one.
pub fn failure(path: &Path, refusal: &Refusal) -> Failure {
    match find(path) {
        Ok(Some(what)) => holds(path, &what),
        _ if *refusal == Refusal::Foreign => holds(path, "something that is not known here"),
        _ => Failure::refused(path, refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found() {
        for (name, at, mark) in MARKS {
            let mut data = vec![0; LOOK];
            data[*at..at + mark.len()].copy_from_slice(mark);
            let found = look(&data).unwrap();
            assert_eq!(found, *name);
        }
        assert_eq!(look(&vec![0; LOOK]), None);
        assert_eq!(look(b"XFS"), None);
    }

    #[test]
    fn blkid_is_understood() {
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        let found = |code, said| read_blkid(ended(code), said, "").unwrap();
        let said = "DEVNAME=/dev/vdb\nVERSION=1\nBLOCK_SIZE=512\nTYPE=minix\nUSAGE=filesystem\n";
        assert_eq!(found(0, said).unwrap(), "what blkid names minix");
        let said = "DEVNAME=/dev/vdb\nPTUUID=7ec6\nPTTYPE=sun\n";
        assert_eq!(found(0, said).unwrap(), "a partition table (sun)");
        // A partition is told with its place, whatever is on it.
        assert_eq!(found(0, "PART_ENTRY_SCHEME=gpt\n"), None);
        assert!(found(8, "").is_some());
        assert_eq!(found(2, ""), None);
    }

    #[test]
    fn a_blkid_that_fails_has_not_found_nothing() {
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        let why = |status, errors| read_blkid(status, "", errors).unwrap_err();
        assert_eq!(why(ended(4), ""), "ended with status 4");
        let error = "\nblkid: error: /dev/vdb: Input/output error\n";
        let told = "ended with status 2: blkid: error: /dev/vdb: Input/output error";
        assert_eq!(why(ended(2), error), told);
        assert_eq!(why(ExitStatus::from_raw(9), ""), "was killed by signal 9");
    }

    #[test]
    fn marks_at_the_end_are_found() {
        let len = (1u64 << 30) + 512;
        let tail = |place: u64, mark: &[u8]| {
            let mut data = vec![0u8; (32 << 12) + 512];
            let begin = len - data.len() as u64;
            let at = (place - begin) as usize;
            data[at..at + mark.len()].copy_from_slice(mark);
            look_at_end(&data, len)
        };
        assert!(tail(len - 512, b"EFI PART").is_some());
        assert!(tail((1 << 30) - 0x10000, b"\xfc\x4e\x2b\xa9").is_some());
        assert!(tail((1 << 30) - 0x2000, b"\xfc\x4e\x2b\xa9").is_some());
        assert_eq!(tail(len - 1024, b"EFI PART"), None);
        assert_eq!(look_at_end(&[], 0), None);
    }
}

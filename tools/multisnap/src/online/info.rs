// SPDX-License-Identifier: GPL-2.0

//! The status line of an origin, as Documentation/messages.rst has it.

use serde::Serialize;

/// What a status line says. Chunks are of the store, blocks are of 4 KiB; errors, copies and what
/// follows them count from the load of the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Info {
    /// `rw`, `full`, `ro` or `fail`.
    pub mode: String,
    /// Whether damage was seen.
    pub needs_check: bool,
    /// Id of a create that waits for a suspend.
    pub pending: Option<String>,
    /// How the last create ended: `created:<id>` or `failed:<errno>`.
    pub last_create: Option<String>,
    /// `btree` or `bitmask`.
    pub store_type: String,
    /// Sectors in a chunk.
    pub chunk_sectors: u32,
    /// Chunks in use.
    pub used_chunks: u64,
    /// Chunks of the data area.
    pub total_chunks: u64,
    /// Chunks that were given to metadata.
    pub metadata_chunks: u64,
    /// Blocks of metadata in use.
    pub used_metadata_blocks: u64,
    /// Blocks of metadata.
    pub total_metadata_blocks: u64,
    /// Blocks of the log that no checkpoint covers.
    pub used_log_blocks: u64,
    /// Blocks of the log.
    pub total_log_blocks: u64,
    /// Copies whose source could not be read.
    pub read_errors: u64,
    /// Copies whose destination could not be written.
    pub write_errors: u64,
    /// Operations on metadata that failed.
    pub metadata_errors: u64,
    /// Copy jobs that have ended.
    pub copies: u64,
    /// Chunks that were filled.
    pub copied_chunks: u64,
    /// Log writes.
    pub commits: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Records of lost content.
    pub lost: u64,
    /// Fewer chunks are free than `low-water`.
    pub low: bool,
    /// How `sync-snapshots` ended.
    pub sync: Option<String>,
    /// Chunk of the origin that the sweep of deleted snapshots has come to.
    pub sweep: Option<u64>,
    /// Number of snapshots.
    pub snapshots: u64,
    /// Their ids, as ranges; none if there are too many to tell.
    pub ids: String,
}

impl Info {
    /// Reads the line, from the mode on. `None` if it is none: the device was not resumed yet, or
    /// the module is of another version.
    pub fn parse(args: &str) -> Option<Self> {
        let mut words = args.split_ascii_whitespace();
        let mut word = || words.next();
        let some = |word: &str| (word != "-").then(|| word.to_owned());
        let mut info = Self {
            mode: word()?.to_owned(),
            needs_check: word()? != "-",
            pending: some(word()?),
            last_create: some(word()?),
            store_type: word()?.to_owned(),
            chunk_sectors: word()?.parse().ok()?,
            ..Self::default()
        };
        (info.used_chunks, info.total_chunks) = pair(word()?)?;
        info.metadata_chunks = word()?.parse().ok()?;
        (info.used_metadata_blocks, info.total_metadata_blocks) = pair(word()?)?;
        (info.used_log_blocks, info.total_log_blocks) = pair(word()?)?;
        for number in [
            &mut info.read_errors,
            &mut info.write_errors,
            &mut info.metadata_errors,
            &mut info.copies,
            &mut info.copied_chunks,
            &mut info.commits,
            &mut info.checkpoints,
            &mut info.lost,
        ] {
            *number = word()?.parse().ok()?;
        }
        info.low = word()? == "low";
        info.sync = some(word()?);
        info.sweep = match word()? {
            "-" => None,
            chunk => Some(chunk.parse().ok()?),
        };
        info.snapshots = word()?.parse().ok()?;
        info.ids = some(word()?).unwrap_or_default();
        Some(info)
    }

    /// Bytes of so many chunks.
    pub fn bytes(&self, chunks: u64) -> u64 {
        chunks.saturating_mul(u64::from(self.chunk_sectors).saturating_mul(crate::size::SECTOR))
    }

    /// Whether a device of so many sectors is too small for the chunks of its store, because it was made
    /// smaller. Nothing is read for that, and the log is not counted.
    pub fn is_cut_short(&self, sectors: Option<u64>) -> bool {
        let needed = self.total_chunks.saturating_mul(self.chunk_sectors.into());
        sectors.is_some_and(|sectors| sectors < needed)
    }

    /// So many chunks, as a number and a size.
    pub fn show_chunks(&self, chunks: u64) -> String {
        let bytes = crate::size::show(self.bytes(chunks));
        format!("{} ({bytes})", crate::size::count(chunks, "chunk"))
    }

    /// Whether snapshots are damaged, or may be, or writes may fail.
    pub fn is_bad(&self) -> bool {
        self.needs_check || matches!(&*self.mode, "full" | "fail") || self.lost != 0
    }
}

/// Two numbers, as `1/2`.
fn pair(word: &str) -> Option<(u64, u64)> {
    let (used, total) = word.split_once('/')?;
    Some((used.parse().ok()?, total.parse().ok()?))
}

/// `used` of `total` in percent, with one decimal.
pub fn percent(used: u64, total: u64) -> String {
    let tenths = match total {
        0 => 0,
        _ => u128::from(used) * 1000 / u128::from(total),
    };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "rw - 4 created:3 btree 32 12/5000 1 7/64 3/16 1 2 3 40 50 60 70 0 low - 17 3 1-2,3.0";

    #[test]
    fn a_line_is_read() {
        let info = Info::parse(LINE).unwrap();
        assert_eq!(info.mode, "rw");
        assert_eq!(info.pending.as_deref(), Some("4"));
        assert_eq!((info.used_chunks, info.total_chunks), (12, 5000));
        assert_eq!(
            (info.metadata_errors, info.checkpoints, info.lost),
            (3, 70, 0)
        );
        assert_eq!(
            (info.low, info.sync.clone(), info.sweep),
            (true, None, Some(17))
        );
        assert_eq!((info.snapshots, info.ids.as_str()), (3, "1-2,3.0"));
        assert_eq!(info.bytes(2), 32 << 10);
        assert!(!info.is_bad());
    }

    #[test]
    fn what_is_no_line_is_refused() {
        assert_eq!(Info::parse(""), None);
        let words: Vec<&str> = LINE.split(' ').collect();
        for n in 0..words.len() {
            assert_eq!(Info::parse(&words[..n].join(" ")), None, "{n} words");
        }
        assert_eq!(Info::parse(&LINE.replace("12/5000", "12")), None);
        assert_eq!(Info::parse(&LINE.replace(" 17 ", " x ")), None);
    }

    #[test]
    fn losses_are_bad() {
        let lost = Info::parse(&LINE.replace(" 70 0 ", " 70 1 ")).unwrap();
        let failed = Info::parse(&LINE.replace("rw ", "fail ")).unwrap();
        assert!(lost.is_bad() && failed.is_bad());
        // With preserve-on-error nothing is lost, and writes fail.
        let full = Info::parse(&LINE.replace("rw ", "full ")).unwrap();
        let read_only = Info::parse(&LINE.replace("rw ", "ro ")).unwrap();
        assert!(full.is_bad() && !read_only.is_bad());
    }

    #[test]
    fn shares_in_percent() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
    }

    #[test]
    fn a_store_needs_its_chunks() {
        let info = Info::parse(LINE).unwrap();
        assert!(!info.is_cut_short(None));
        assert!(!info.is_cut_short(Some(5000 * 32)));
        assert!(info.is_cut_short(Some(5000 * 32 - 1)));
    }
}

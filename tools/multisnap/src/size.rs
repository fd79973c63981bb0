// SPDX-License-Identifier: GPL-2.0

//! Sizes, as people write and read them.

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// Reads a size: bytes, or with K, M, G or T, which are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size: say 1048576, 1024K, 1M, or 1G");
    let (digits, shift) = match text.char_indices().last() {
        Some((at, letter)) if !letter.is_ascii_digit() => {
            let shift = match letter.to_ascii_uppercase() {
                'B' => 0,
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(bad()),
            };
            (&text[..at], shift)
        }
        _ => (text, 0),
    };
    let n: u64 = digits.parse().map_err(|_| bad())?;
    n.checked_mul(1 << shift).ok_or_else(bad)
}

/// Bytes, as a size with one decimal at most.
pub fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut unit, mut scale) = (0, 1u64);
    while bytes / scale >= 1024 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    let whole = bytes / scale;
    let tenths = (bytes % scale / (scale / 10).max(1)).min(9);
    if tenths == 0 || unit == 0 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenths} {}", UNITS[unit])
    }
}

/// Sectors, as a size.
pub fn show_sectors(sectors: u64) -> String {
    show(sectors.saturating_mul(SECTOR))
}

/// `n` of something, in the right number.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("512"), Ok(512));
        assert_eq!(parse("4k"), Ok(4096));
        assert_eq!(parse("3M"), Ok(3 << 20));
        assert_eq!(parse("2G"), Ok(2 << 30));
        for bad in ["", "K", "-1", "1.5G", "1X", "99999999999T", "1é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(16 << 20), "16 MiB");
        assert_eq!(show(u64::MAX), "16383.9 PiB");
    }
}

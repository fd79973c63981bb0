// SPDX-License-Identifier: GPL-2.0

//! What a sector holds: who wrote it, when, and where it belongs.
//!
//! A *value* names one write: the number of the volume it was made to in its upper 16 bits, and
//! below them a count that goes up with each write of a round. Zero is what nobody has written.

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// The value of a sector that could not be read.
pub const UNREADABLE: u64 = u64::MAX;
/// The value of a sector that no single write has left.
pub const TORN: u64 = u64::MAX - 1;
/// The value of a sector that is whole, and belongs elsewhere.
pub const MISPLACED: u64 = u64::MAX - 2;

/// Marks the value of a write of zeroes. No volume has so great a number.
const ZERO: u64 = 1 << 63;
const COUNT_BITS: u32 = 48;
/// Bytes that are repeated through a sector.
const RECORD: usize = 32;

/// The value of the write with that count to the volume with that number.
pub fn value(volume: u16, count: u64) -> u64 {
    (u64::from(volume) << COUNT_BITS) | count
}

/// The number of the volume that a value was written to.
pub fn volume(value: u64) -> u16 {
    ((value & !ZERO) >> COUNT_BITS) as u16
}

/// What a write of zeroes with that count to the volume with that number leaves. On a disk it
/// looks like zero.
pub fn zero(volume: u16, count: u64) -> u64 {
    ZERO | value(volume, count)
}

/// Whether a sector that was read as `found` holds what the write of `value` has left.
pub fn holds(found: u64, value: u64) -> bool {
    match value & ZERO {
        0 => found == value,
        _ => found == 0,
    }
}

/// The count of a value, by which values are ordered in time.
pub fn count(value: u64) -> u64 {
    value & ((1 << COUNT_BITS) - 1)
}

/// Fills `buf` with what a write of `value` to the sectors from `first` on holds.
pub fn fill(buf: &mut [u8], round: u64, value: u64, first: u64) {
    for (sector, data) in (first..).zip(buf.chunks_exact_mut(SECTOR)) {
        let record = record(round, value, sector);
        data.chunks_exact_mut(RECORD)
            .for_each(|part| part.copy_from_slice(&record));
    }
}

/// The value that a sector holds, or one of the three that say what is wrong with it.
pub fn read(data: &[u8], round: u64, sector: u64) -> u64 {
    match whole(data, round) {
        Some((value, place)) if place == sector => value,
        Some(_) => MISPLACED,
        None if data.iter().all(|&byte| byte == 0) => 0,
        None => TORN,
    }
}

/// The sector of a volume that a sector's content belongs to; `None` if it is not one of ours.
pub fn place(data: &[u8], round: u64) -> Option<u64> {
    whole(data, round).map(|(_, place)| place)
}

/// The value and place that all of a sector agrees on.
fn whole(data: &[u8], round: u64) -> Option<(u64, u64)> {
    let word = |at: usize| {
        let bytes = data.get(at..at + 8).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let (value, place) = (word(8), word(16));
    let record = record(round, value, place);
    let mut parts = data.chunks_exact(RECORD);
    parts.all(|part| part == record).then_some((value, place))
}

fn record(round: u64, value: u64, sector: u64) -> [u8; RECORD] {
    // Fibonacci hashing: the last word depends on each bit of the others.
    let mix = (round ^ value.rotate_left(20) ^ sector.rotate_left(40))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut record = [0; RECORD];
    for (part, word) in record
        .chunks_exact_mut(8)
        .zip([round, value, sector, mix | 1])
    {
        part.copy_from_slice(&word.to_le_bytes());
    }
    record
}

/// Says a value in words.
pub fn describe(value: u64) -> String {
    match value {
        UNREADABLE => "an error".into(),
        TORN => "torn or foreign data".into(),
        MISPLACED => "data of another sector".into(),
        0 => "zeroes".into(),
        _ if value & ZERO != 0 => {
            format!("zeroes, {} to volume {}", count(value), volume(value))
        }
        _ => format!("write {} to volume {}", count(value), volume(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_write() {
        let mut buf = [0; 2 * SECTOR];
        assert_eq!(read(&buf[..SECTOR], 7, 0), 0);
        fill(&mut buf, 7, value(3, 99), 40);
        assert_eq!(read(&buf[..SECTOR], 7, 40), value(3, 99));
        assert_eq!(read(&buf[SECTOR..], 7, 41), value(3, 99));
        assert_eq!(read(&buf[SECTOR..], 7, 40), MISPLACED);
        assert_eq!(read(&buf[..SECTOR], 8, 40), TORN);
        buf[100] ^= 1;
        assert_eq!(read(&buf[..SECTOR], 7, 40), TORN);
    }

    #[test]
    fn a_write_of_zeroes_has_a_count() {
        let zeroes = zero(3, 99);
        assert_eq!((volume(zeroes), count(zeroes)), (3, 99));
        assert!(holds(0, zeroes) && !holds(zeroes, zeroes));
        assert!(!holds(0, value(3, 99)) && holds(value(3, 99), value(3, 99)));
    }
}

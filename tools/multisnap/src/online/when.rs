// SPDX-License-Identifier: GPL-2.0

//! Points in time, in seconds since 1970, and spans of it.

use crate::dm::sys;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY: i64 = 86400;

/// Now.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Local time, as people read it.
pub fn show(time: u64) -> String {
    show_at(time, sys::local_offset(time))
}

/// Time in a place that is `offset` seconds ahead of UTC.
fn show_at(time: u64, offset: i64) -> String {
    let local = i64::try_from(time)
        .unwrap_or(i64::MAX)
        .saturating_add(offset);
    let (year, month, day) = date(local.div_euclid(DAY));
    let second = local.rem_euclid(DAY);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of the day that is so many days after 1 January 1970.
///
/// Years are counted from March, so that the day that is not in each year is the last one; 400
/// years have the same number of days always.
pub fn date(days: i64) -> (i64, i64, i64) {
    // From 1 March of the year 0.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months of 31, 30, 31, 30, 31 days, again and again: 153 days for five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (late, month) = if month < 10 {
        (0, month + 3)
    } else {
        (1, month - 9)
    };
    (
        era.saturating_mul(400).saturating_add(year + late),
        month,
        day,
    )
}

/// Reads a span: a number with s, m, h, d or w behind it.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no span of time: say 90s, 30m, 12h, 7d or 4w");
    let (at, letter) = text.char_indices().last().ok_or_else(bad)?;
    let unit = match letter {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        'w' => 7 * 86400,
        _ => return Err(bad()),
    };
    let n: u64 = text[..at].parse().map_err(|_| bad())?;
    n.checked_mul(unit).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(date(59), (1970, 3, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_783), (2026, 11, 26));
        // Each day follows the one before.
        let mut last = date(-800_000);
        for n in -799_999..800_000 {
            let next = date(n);
            let day_after = next == (last.0, last.1, last.2 + 1);
            let month_after = next.2 == 1 && (next.0 * 12 + next.1) == (last.0 * 12 + last.1) + 1;
            assert!(
                day_after || (month_after && last.2 >= 28),
                "{last:?} {next:?}"
            );
            last = next;
        }
    }

    #[test]
    fn times_are_shown() {
        assert_eq!(show_at(0, 0), "1970-01-01 00:00:00");
        assert_eq!(show_at(1_795_651_199, 0), "2026-11-25 23:59:59");
        assert_eq!(show_at(1_795_651_199, 3600), "2026-11-26 00:59:59");
        assert_eq!(show_at(0, -3600), "1969-12-31 23:00:00");
        assert!(!show_at(u64::MAX, i64::MAX).is_empty());
    }

    #[test]
    fn spans_are_read() {
        assert_eq!(parse_span("90s"), Ok(90));
        assert_eq!(parse_span("7d"), Ok(604_800));
        assert_eq!(parse_span("4w"), Ok(2_419_200));
        for bad in [
            "",
            "7",
            "d",
            "-1d",
            "1.5h",
            "7y",
            "99999999999999999w",
            "7é",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}

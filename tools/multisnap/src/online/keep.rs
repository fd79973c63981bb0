// SPDX-License-Identifier: GPL-2.0

//! Which of many snapshots are kept.

use super::when;
use std::collections::HashSet;

/// How many are kept of each kind; none of a kind that is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Rules {
    /// Keep the newest N.
    #[arg(long = "keep-last", value_name = "N")]
    pub last: Option<u32>,
    /// Keep the newest one of each of the last N hours that have one.
    #[arg(long = "keep-hourly", value_name = "N")]
    pub hourly: Option<u32>,
    /// The same for days.
    #[arg(long = "keep-daily", value_name = "N")]
    pub daily: Option<u32>,
    /// The same for weeks, which begin on Monday.
    #[arg(long = "keep-weekly", value_name = "N")]
    pub weekly: Option<u32>,
    /// The same for months.
    #[arg(long = "keep-monthly", value_name = "N")]
    pub monthly: Option<u32>,
    /// The same for years.
    #[arg(long = "keep-yearly", value_name = "N")]
    pub yearly: Option<u32>,
}

/// A number for the hour, day and so on that a time falls into.
type Bucket = fn(i64) -> i64;

fn hour(local: i64) -> i64 {
    local.div_euclid(3600)
}

fn day(local: i64) -> i64 {
    local.div_euclid(86400)
}

/// 1 January 1970 was a Thursday.
fn week(local: i64) -> i64 {
    day(local).saturating_add(3).div_euclid(7)
}

fn month(local: i64) -> i64 {
    let (year, month, _) = when::date(day(local));
    year.saturating_mul(12).saturating_add(month)
}

fn year(local: i64) -> i64 {
    when::date(day(local)).0
}

impl Rules {
    /// Says for the times of snapshots, of which the newest snapshot must be first, by which rules
    /// each is kept; by none means that it is not. The times need not be in order: if the clock was
    /// wrong for a while, an hour may come back. `offset` tells how far local time is ahead of UTC at
    /// a time, in seconds.
    pub fn apply(&self, times: &[u64], offset: impl Fn(u64) -> i64) -> Vec<Vec<&'static str>> {
        let mut kept = vec![Vec::new(); times.len()];
        for why in kept.iter_mut().take(self.last.unwrap_or(0) as usize) {
            why.push("last");
        }
        let rules: [(&'static str, Option<u32>, Bucket); 5] = [
            ("hourly", self.hourly, hour),
            ("daily", self.daily, day),
            ("weekly", self.weekly, week),
            ("monthly", self.monthly, month),
            ("yearly", self.yearly, year),
        ];
        for (name, count, bucket) in rules {
            let most = count.unwrap_or(0) as usize;
            let mut seen = HashSet::new();
            for (time, why) in times.iter().zip(&mut kept) {
                if seen.len() >= most {
                    break;
                }
                let local = i64::try_from(*time)
                    .unwrap_or(i64::MAX)
                    .saturating_add(offset(*time));
                if seen.insert(bucket(local)) {
                    why.push(name);
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    /// Monday, 2 November 2026, 00:00 UTC.
    const MONDAY: u64 = 1_793_577_600;

    /// Places of those that are kept.
    fn places(rules: Rules, times: &[u64]) -> Vec<usize> {
        let kept = rules.apply(times, |_| 0);
        (0..times.len())
            .filter(|at| !kept[*at].is_empty())
            .collect()
    }

    #[test]
    fn the_last_ones_are_kept() {
        let rules = Rules {
            last: Some(2),
            ..Rules::default()
        };
        assert_eq!(places(rules, &[30, 20, 10]), [0, 1]);
        assert_eq!(places(rules, &[30]), [0]);
        assert_eq!(places(rules, &[]), [0; 0]);
        assert_eq!(places(Rules::default(), &[30, 20]), [0; 0]);
    }

    #[test]
    fn one_of_each_hour_is_kept() {
        let rules = Rules {
            hourly: Some(2),
            ..Rules::default()
        };
        // Every 20 minutes, the newest at 10:10; hours without one do not count.
        let at = |hour: u64, minute: u64| MONDAY + hour * HOUR + minute * 60;
        let times = [at(10, 10), at(9, 50), at(9, 30), at(7, 0), at(6, 0)];
        assert_eq!(places(rules, &times), [0, 1]);
        assert_eq!(places(rules, &times[2..]), [0, 1]);
    }

    #[test]
    fn a_wrong_clock_takes_one_place_for_each_hour() {
        let rules = Rules {
            last: Some(1),
            hourly: Some(3),
            ..Rules::default()
        };
        // The third and the fifth were made while the clock was a year ahead.
        let (at, wrong) = (MONDAY + 9 * HOUR, MONDAY + 365 * DAY);
        let times = [
            at,
            at - HOUR,
            wrong + 60,
            at - HOUR - 60,
            wrong,
            at - 2 * HOUR,
        ];
        assert_eq!(places(rules, &times), [0, 1, 2]);
    }

    #[test]
    fn weeks_begin_on_monday() {
        let rules = Rules {
            weekly: Some(2),
            ..Rules::default()
        };
        let times = [MONDAY + 6 * DAY, MONDAY, MONDAY - 1, MONDAY - 7 * DAY];
        assert_eq!(places(rules, &times), [0, 2]);
    }

    #[test]
    fn months_and_years() {
        let rules = Rules {
            monthly: Some(2),
            yearly: Some(2),
            ..Rules::default()
        };
        // 2 November, 1 November, 31 October 2026, and 31 December 2025.
        let times = [MONDAY, MONDAY - DAY, MONDAY - 2 * DAY, MONDAY - 306 * DAY];
        let kept = rules.apply(&times, |_| 0);
        assert_eq!(kept[0], ["monthly", "yearly"]);
        assert!(kept[1].is_empty());
        assert_eq!(kept[2], ["monthly"]);
        assert_eq!(kept[3], ["yearly"]);
    }

    #[test]
    fn days_are_local() {
        let rules = Rules {
            daily: Some(1),
            ..Rules::default()
        };
        let times = [MONDAY + HOUR, MONDAY - HOUR];
        assert_eq!(rules.apply(&times, |_| 0)[1].len(), 0);
        let two = Rules {
            daily: Some(2),
            ..rules
        };
        assert_eq!(two.apply(&times, |_| 0)[1], ["daily"]);
        // In a place where both are on the same day.
        assert_eq!(two.apply(&times, |_| 2 * 3600)[1].len(), 0);
    }

    #[test]
    fn a_rolling_week_stays_small() {
        // One every five minutes for 60 days.
        let times: Vec<u64> = (0..60 * 288).map(|n| MONDAY - n * 300).collect();
        let rules = Rules {
            last: Some(12),
            hourly: Some(24),
            daily: Some(7),
            weekly: Some(4),
            ..Rules::default()
        };
        // The newest ones of the present and the last hour, day and week are among the last 12.
        assert_eq!(places(rules, &times).len(), 12 + 22 + 5 + 2);
    }

    #[test]
    fn any_time_will_do() {
        let rules = Rules {
            hourly: Some(9),
            daily: Some(9),
            weekly: Some(9),
            monthly: Some(9),
            yearly: Some(9),
            ..Rules::default()
        };
        rules.apply(&[u64::MAX, i64::MAX as u64, 0], |_| i64::MAX);
        rules.apply(&[u64::MAX, 0], |_| i64::MIN);
    }
}

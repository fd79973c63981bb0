// SPDX-License-Identifier: GPL-2.0

//! The snapshots of a loaded origin, and which of them somebody means.

use super::{glob, volume::Volume};
use crate::{dm::Control, failure::Failure, table};
use multisnap_store::image::SnapshotId;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub id: SnapshotId,
    /// Seconds since 1970 when it was cut.
    pub time: u64,
    /// Sectors.
    pub sectors: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// Rows that are asked for at once; the kernel gives fewer if they do not fit.
const PAGE: u32 = 1000;

/// All snapshots, in the order in which the store has them: snapshots of a snapshot are before it.
pub fn read(control: &Control, volume: &Volume) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut from = "0".to_owned();
    loop {
        let text = control.message(&volume.name, &format!("list {from} {PAGE}"));
        let text = text.map_err(|e| {
            let what = format!("does not tell its snapshots: {e}");
            volume.failure(
                what,
                format!("see its state: multisnap status {}", volume.name),
            )
        })?;
        let (page, next) = parse(&text);
        let was = rows.len();
        rows.extend(page);
        match next {
            // Nothing but a kernel that goes in circles would say so without a row.
            Some(next) if rows.len() > was => from = next,
            _ => return Ok(rows),
        }
    }
}

/// Reads what `list` answers; where it goes on, if it does.
fn parse(text: &str) -> (Vec<Row>, Option<String>) {
    let mut rows = Vec::new();
    let mut next = None;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("next", id)) => next = Some(id.trim().to_owned()),
            _ => rows.extend(parse_row(line)),
        }
    }
    (rows, next)
}

fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    Some(Row {
        id: words.next()?.parse().ok()?,
        time: words.next()?.parse().ok()?,
        sectors: words.next()?.parse().ok()?,
        name: words.next().filter(|name| *name != "-").map(str::to_owned),
    })
}

/// Why a word means no snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Unclear {
    /// There is none.
    None,
    /// There are several of this name.
    Several(Vec<SnapshotId>),
}

impl Unclear {
    /// What is said of it.
    pub fn failure(&self, word: &str, volume: &Volume) -> Failure {
        let name = &volume.name;
        match self {
            Self::None => volume.failure(
                format!("has no snapshot {word}"),
                format!("see which there are: multisnap list {name}"),
            ),
            Self::Several(ids) => {
                let ids: Vec<String> = ids.iter().map(SnapshotId::to_string).collect();
                let what = format!("has several snapshots with the name {word}");
                volume.failure(what, format!("say one of the ids {}", ids.join(", ")))
            }
        }
    }
}

/// The snapshot that a word means: its id, or its name if no other has that.
pub fn one<'a>(rows: &'a [Row], word: &str) -> Result<&'a Row, Unclear> {
    if let Ok(id) = word.parse::<SnapshotId>() {
        return rows.iter().find(|row| row.id == id).ok_or(Unclear::None);
    }
    let named = |row: &&Row| row.name.as_deref() == Some(word);
    let mut found = rows.iter().filter(named);
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(Unclear::None),
        _ => Err(Unclear::Several(
            rows.iter().filter(named).map(|row| row.id).collect(),
        )),
    }
}

/// The snapshots that a word means: as [`one`]; or all with names like a pattern; or those of a
/// list of ids such as `3-7,9`, in which a range means all between that there are, but no snapshots
/// of snapshots unless it is one of those: `3.0-3.4`.
pub fn several<'a>(rows: &'a [Row], word: &str) -> Result<Vec<&'a Row>, Unclear> {
    if glob::is_pattern(word) {
        let like = |row: &&Row| {
            row.name
                .as_ref()
                .is_some_and(|name| glob::matches(word, name))
        };
        let found: Vec<&Row> = rows.iter().filter(like).collect();
        return if found.is_empty() {
            Err(Unclear::None)
        } else {
            Ok(found)
        };
    }
    let single = match one(rows, word) {
        Err(Unclear::None) => None,
        other => Some(other?),
    };
    if let Some(row) = single {
        return Ok(vec![row]);
    }
    let runs = table::parse(word).map_err(|_| Unclear::None)?;
    let mut found = Vec::new();
    for (lo, hi) in runs {
        let was = found.len();
        let kin = |row: &&Row| row.id.parent() == lo.parent() && (lo..=hi).contains(&row.id);
        found.extend(rows.iter().filter(kin));
        if found.len() == was {
            return Err(Unclear::None);
        }
    }
    Ok(found)
}

/// Checks a name that is to be given: what the kernel takes, but nothing that reads like an id, a
/// list of ids, or no name at all.
pub fn check_name(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    if !(1..=63).contains(&name.len()) || !name.chars().all(good) {
        return Err("a name has 1 to 63 of the letters A-Z a-z 0-9 + _ . -".into());
    }
    if name == "-" || table::parse(name).is_ok() {
        return Err(format!("{name:?} reads like an id: begin it with a letter"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        parse(
            "1 100 64 daily-1\n3.0 150 64 -\n3 110 64 daily-2\n4 120 64 -\n5 130 128 twice\n\
             6 140 128 twice\n",
        )
        .0
    }

    fn ids(found: Result<Vec<&Row>, Unclear>) -> String {
        let ids: Vec<String> = found
            .unwrap()
            .iter()
            .map(|row| row.id.to_string())
            .collect();
        ids.join(" ")
    }

    #[test]
    fn lists_are_read() {
        let (rows, next) = parse("1 100 64 a\ngarbage\n2 100\nnext 3\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(next.as_deref(), Some("3"));
        assert_eq!(parse("").1, None);
    }

    #[test]
    fn words_mean_one_snapshot() {
        let rows = rows();
        assert_eq!(one(&rows, "3").unwrap().name.as_deref(), Some("daily-2"));
        assert_eq!(one(&rows, "3.0").unwrap().time, 150);
        assert_eq!(one(&rows, "daily-1").unwrap().id, SnapshotId::top(1));
        for none in ["2", "0", "daily", "-", "", "3.1"] {
            assert_eq!(one(&rows, none), Err(Unclear::None), "{none}");
        }
        let both = vec![SnapshotId::top(5), SnapshotId::top(6)];
        assert_eq!(one(&rows, "twice"), Err(Unclear::Several(both)));
    }

    #[test]
    fn words_mean_several() {
        let rows = rows();
        assert_eq!(ids(several(&rows, "daily-*")), "1 3");
        assert_eq!(ids(several(&rows, "*")), "1 3 5 6");
        assert_eq!(ids(several(&rows, "1-4")), "1 3 4");
        assert_eq!(ids(several(&rows, "3.0-3.9")), "3.0");
        assert_eq!(ids(several(&rows, "1,4-9")), "1 4 5 6");
        assert_eq!(ids(several(&rows, "3")), "3");
        for none in ["x*", "7-9", "1,8", "nobody", "5-4"] {
            assert_eq!(several(&rows, none), Err(Unclear::None), "{none}");
        }
        assert!(matches!(several(&rows, "twice"), Err(Unclear::Several(_))));
    }

    #[test]
    fn names_are_checked() {
        for good in [
            "before-upgrade",
            "a",
            "x1-3",
            "2026-11-25_20.47",
            &"x".repeat(63),
        ] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-",
            "3",
            "3.0",
            "1-3",
            "1,2",
            "a b",
            "a/b",
            "é",
            &"x".repeat(64),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

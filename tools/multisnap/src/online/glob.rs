// SPDX-License-Identifier: GPL-2.0

//! Patterns of names, as a shell has them: `*` and `?`.

/// Whether a word is a pattern and not a name.
pub fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?'])
}

/// Whether `name` is like `pattern`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last star is to stand for one letter more.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, from)) = again else {
                    return false;
                };
                again = Some((star, from + 1));
                (p, n) = (star, from + 1);
            }
        }
    }
    pattern
        .get(p..)
        .is_none_or(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "x"),
            ("daily-*", "daily-3"),
            ("*-3", "daily-3"),
            ("d*y-?", "daily-3"),
            ("a*b*c", "a-b-b-c"),
            ("name", "name"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "x"),
            ("?", ""),
            ("daily-*", "hourly-3"),
            ("a*b", "a-b-c"),
            ("name", "names"),
            ("names", "name"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}

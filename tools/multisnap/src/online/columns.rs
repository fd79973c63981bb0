// SPDX-License-Identifier: GPL-2.0

//! Tables for people.

/// Lines with columns that are as wide as they must be.
pub fn columns(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, word) in widths.iter_mut().zip(line) {
            *width = (*width).max(word.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (word, width) in line.iter().zip(&widths) {
            let pad = width.saturating_sub(word.chars().count());
            shown = shown + "  " + word + &" ".repeat(pad);
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_are_wide_enough() {
        let line = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let lines = [line(&["ID", "NAME"]), line(&["├─3.0", "x", "y"]), line(&[])];
        assert_eq!(columns(&lines), "  ID     NAME\n  ├─3.0  x     y\n\n");
    }
}

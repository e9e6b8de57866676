//! Tables for people: aligned columns, no lines.

use unicode_width::UnicodeWidthStr;

/// Between two columns.
const GAP: usize = 2;

/// Columns with a head. No rows are said in words.
pub fn columns<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    if lines.len() == 1 {
        return "nothing there\n".to_owned();
    }
    aligned(&lines)
}

/// Pairs of a name and a value, a line each; those without a value are left out.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut lines = Vec::new();
    for (name, value) in rows {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push([name.to_owned(), printable(&value)]);
        }
    }
    aligned(&lines)
}

/// A line for each row. Cells are never broken, so that they can be searched and copied.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.width().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        for (width, cell) in widths.iter().zip(line) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.width() + GAP));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// The text with what could command a terminal made visible: others wrote it.
pub fn printable(text: &str) -> String {
    let is_harmful = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_harmful) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_width() {
        let rows = [["bücher.example.".into(), "1".into()], ["日本.example.".into(), "22".into()]];
        assert_eq!(
            columns(["NAME", "N"], rows),
            "NAME             N\n\
             bücher.example.  1\n\
             日本.example.    22\n"
        );
        assert_eq!(columns(["NAME", "N"], []), "nothing there\n");
    }

    #[test]
    fn pairs_leave_out_what_is_not_there() {
        let rows = [("name", Some("a".to_owned())), ("gone", None), ("created", Some("b".to_owned()))];
        assert_eq!(pairs(rows), "name     a\ncreated  b\n");
    }

    #[test]
    fn a_terminal_takes_no_orders_from_a_cell() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{202e}"), r"a\u{1b}[2J\u{a}b\u{202e}");
        assert_eq!(printable("bücher 日本"), "bücher 日本");
    }

    #[test]
    fn long_cells_are_not_broken() {
        let long = "x".repeat(70_000);
        assert_eq!(columns(["A"], [[long.clone()]]), format!("A\n{long}\n"));
    }
}

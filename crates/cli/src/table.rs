//! Tables for people: aligned columns, one line a row, the last column cut to the terminal.

use console::{measure_text_width, truncate_str};

use crate::printer::Printer;

/// Narrowest width that the last column is cut to.
const LAST_WIDTH_MIN: usize = 12;
/// Space between columns.
const GAP: &str = "  ";

/// Rows below their heads.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    numbers: Vec<bool>,
}

impl Table {
    /// Makes a table. A head that begins with `#` is of a column of numbers.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self {
            heads: heads
                .iter()
                .map(|head| head.trim_start_matches('#'))
                .collect(),
            rows: Vec::new(),
            numbers: heads.iter().map(|head| head.starts_with('#')).collect(),
        }
    }

    /// Adds a row; line breaks and other control characters become spaces.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|cell| one_line(&cell)).collect();
        assert_eq!(row.len(), self.heads.len(), "a row has a cell per head");
        self.rows.push(row);
    }

    /// Returns whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table.
    pub(crate) fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        let bold = console::Style::new().bold();
        for (at, line) in self.lines(printer.width()).iter().enumerate() {
            if at == 0 {
                printer.line(&printer.style(&bold, line))?;
            } else {
                printer.line(line)?;
            }
        }
        Ok(())
    }

    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|at| {
                all.iter()
                    .map(|row| measure_text_width(&row[at]))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let last = heads.len() - 1;
        let before: usize = widths[..last].iter().map(|column| column + GAP.len()).sum();
        let room = width.map(|width| width.saturating_sub(before).max(LAST_WIDTH_MIN));
        all.iter()
            .map(|row| {
                let mut line = String::new();
                for (at, cell) in row.iter().enumerate() {
                    let gap = widths[at] - measure_text_width(cell);
                    match (at == last, self.numbers[at]) {
                        (true, true) => line.push_str(&format!("{}{cell}", " ".repeat(gap))),
                        (true, false) => match room {
                            Some(room) => line.push_str(&truncate_str(cell, room, "…")),
                            None => line.push_str(cell),
                        },
                        (false, true) => {
                            line.push_str(&format!("{}{cell}{GAP}", " ".repeat(gap)));
                        }
                        (false, false) => {
                            line.push_str(&format!("{cell}{}{GAP}", " ".repeat(gap)));
                        }
                    }
                }
                line.trim_end().to_owned()
            })
            .collect()
    }
}

/// Returns the text in one line: every run of control characters and spaces is one space.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(512));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        // Nobody reads further in a table, and a message may have a megabyte.
        if out.len() > 2_000 {
            break;
        }
    }
    out
}

/// Returns a number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns the first 19 characters of a stored time, without the `T`.
pub(crate) fn short_time(time: Option<&str>) -> String {
    match time {
        Some(time) => time.chars().take(19).collect::<String>().replace('T', " "),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["id", "#rows", "title"]);
        table.row(["a".to_owned(), "7".to_owned(), "short".to_owned()]);
        table.row([
            "bcd".to_owned(),
            "1000".to_owned(),
            "two\nlines \u{1b}[31m".to_owned(),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_and_control_characters_do_not_get_through() {
        assert_eq!(
            table().lines(None),
            [
                "id   rows  title",
                "a       7  short",
                "bcd  1000  two lines [31m"
            ]
        );
    }

    #[test]
    fn the_last_column_is_cut_to_the_width() {
        let lines = table().lines(Some(24));
        assert_eq!(lines[2], "bcd  1000  two lines [3…");
        assert!(lines.iter().all(|line| measure_text_width(line) <= 24));
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        let grouped: Vec<_> = [0, 999, 1_000, 1_234_567].map(grouped).into();
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }
}

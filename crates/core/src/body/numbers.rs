//! Numbers of lines: agents read files with a number before each line, so that a file which grew by
//! one line differs in all lines behind it and packs badly. A value travels without them and gets
//! them back, byte for byte (ADR 0028).

use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::Row;
use coditect_protocol::wire::bodies::{LINE_NUMBERS, Mark, Numbering};
use serde_json::{Map, Value};

/// Fewer lines save less than saying so costs.
const LINES_MIN: u32 = 8;
/// Most characters of a number with its spaces.
const WIDTH_MAX: u8 = 16;
/// Digits of the largest number.
const DIGITS_MAX: usize = 9;

/// A number at the beginning of a line.
struct Label {
    number: u32,
    width: u8,
    mark: Mark,
    bytes: usize,
}

impl Label {
    fn of(line: &str) -> Option<Self> {
        let spaces = line.bytes().take_while(|byte| *byte == b' ').count();
        let rest = &line[spaces..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > DIGITS_MAX || (digits > 1 && rest.starts_with('0')) {
            return None;
        }
        let mark = match rest[digits..].chars().next()? {
            '\t' => Mark::Tab,
            '→' => Mark::Arrow,
            _ => return None,
        };
        let width = u8::try_from(spaces + digits).ok();
        Some(Self {
            number: rest[..digits].parse().ok()?,
            width: width.filter(|width| *width <= WIDTH_MAX)?,
            mark,
            bytes: spaces + digits + sign(mark).len_utf8(),
        })
    }

    fn follows(&self, run: &Numbering) -> bool {
        let expected = run.first.checked_add(run.lines);
        let digits = self.number.checked_ilog10().unwrap_or(0) + 1;
        let width = u32::from(run.width).max(digits);
        expected == Some(self.number) && self.mark == run.mark && u32::from(self.width) == width
    }
}

const fn sign(mark: Mark) -> char {
    match mark {
        Mark::Tab => '\t',
        Mark::Arrow => '→',
    }
}

/// Takes the numbers off the lines of a value's texts and returns them: none where there are none,
/// or where it would not come back byte for byte; the value is then as it was.
pub fn take(value: &mut Value) -> Vec<Numbering> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    each_text(value, &mut |text| {
        if let Some((rest, runs)) = take_text(text, at) {
            numbers.extend(runs);
            *text = rest;
        }
        at += 1;
        true
    });
    numbers
}

/// Puts numbers back that were taken off a value, whose texts may then have `left` bytes together;
/// lowers that by what they have. Returns whether the numbers fit the value: if not, it is broken.
#[must_use]
pub fn put(value: &mut Value, numbers: &[Numbering], left: &mut usize) -> bool {
    let (mut rest, mut at) = (numbers, 0);
    let fits = each_text(value, &mut |text| {
        let count = rest.iter().take_while(|run| run.text == at).count();
        let (own, others) = rest.split_at(count);
        (rest, at) = (others, at + 1);
        if own.is_empty() {
            return true;
        }
        let put = put_text(text, own, *left);
        let Some(whole) = put else {
            return false;
        };
        *left -= whole.len();
        *text = whole;
        true
    });
    fits && rest.is_empty()
}

/// Takes the numbers off the values of a row that may be long, and notes them in it.
pub fn take_from_row(table: &Table, row: &mut Row) {
    let mut noted = Map::new();
    for column in table.bodies() {
        let Some(value) = row.get_mut(column.name) else {
            continue;
        };
        let numbers = take(value);
        if !numbers.is_empty() {
            let numbers = serde_json::to_value(numbers).unwrap_or_default();
            noted.insert(column.name.to_owned(), numbers);
        }
    }
    if !noted.is_empty() {
        row.insert(LINE_NUMBERS.to_owned(), Value::Object(noted));
    }
}

/// Puts back what [`take_from_row`] took. What does not fit, or would be more than `left` bytes,
/// keeps its note: that row is none.
pub fn put_into_row(row: &mut Row, left: &mut usize) {
    let Some(Value::Object(noted)) = row.get(LINE_NUMBERS).cloned() else {
        return;
    };
    for (column, numbers) in noted {
        let numbers: Result<Vec<Numbering>, _> = serde_json::from_value(numbers);
        let fits = match (numbers, row.get_mut(&column)) {
            (Ok(numbers), Some(value)) => put(value, &numbers, left),
            _ => false,
        };
        if !fits {
            return;
        }
    }
    row.remove(LINE_NUMBERS);
}

/// Calls `of` with each text within a value, until it says no; returns whether it never did.
fn each_text(value: &mut Value, of: &mut impl FnMut(&mut String) -> bool) -> bool {
    match value {
        Value::String(text) => of(text),
        Value::Array(values) => values.iter_mut().all(|value| each_text(value, of)),
        Value::Object(values) => {
            let mut values: Vec<_> = values.iter_mut().collect();
            values.sort_unstable_by(|a, b| a.0.cmp(b.0));
            values.into_iter().all(|(_, value)| each_text(value, of))
        }
        _ => true,
    }
}

fn take_text(text: &str, at: u32) -> Option<(String, Vec<Numbering>)> {
    let runs = runs(text, at);
    if runs.is_empty() {
        return None;
    }
    let mut rest = String::with_capacity(text.len());
    let mut next = runs.iter().peekable();
    for (line_at, line) in text.split('\n').enumerate() {
        if line_at > 0 {
            rest.push('\n');
        }
        let line_at = u32::try_from(line_at).ok()?;
        next.next_if(|run| line_at - run.line.min(line_at) >= run.lines);
        let numbered = next.peek().is_some_and(|run| run.line <= line_at);
        let bytes = match numbered {
            true => Label::of(line)?.bytes,
            false => 0,
        };
        rest.push_str(&line[bytes..]);
    }
    let exact = put_text(&rest, &runs, text.len()).is_some_and(|whole| whole == text);
    exact.then_some((rest, runs))
}

fn runs(text: &str, at: u32) -> Vec<Numbering> {
    let mut found = Vec::new();
    let mut open: Option<Numbering> = None;
    let mut close = |run: Option<Numbering>| {
        found.extend(run.filter(|run| run.lines >= LINES_MIN));
    };
    for (line_at, line) in text.split('\n').enumerate() {
        let Ok(line_at) = u32::try_from(line_at) else {
            return Vec::new();
        };
        let label = Label::of(line);
        if let (Some(run), Some(label)) = (&mut open, &label)
            && label.follows(run)
        {
            run.lines += 1;
            continue;
        }
        close(open.take());
        open = label.map(|label| Numbering {
            text: at,
            line: line_at,
            lines: 1,
            first: label.number,
            width: label.width,
            mark: label.mark,
        });
    }
    close(open);
    found
}

fn put_text(text: &str, runs: &[Numbering], bytes_max: usize) -> Option<String> {
    let sound = |run: &Numbering| {
        let last = run.first.checked_add(run.lines);
        let digits = 10_u32.pow(DIGITS_MAX as u32);
        run.lines > 0 && run.width <= WIDTH_MAX && last.is_some_and(|last| last <= digits)
    };
    if !runs.iter().all(sound) || text.len() > bytes_max {
        return None;
    }
    let grown: usize = runs.iter().map(grown).fold(0, usize::saturating_add);
    let mut whole = String::with_capacity(bytes_max.min(text.len().saturating_add(grown)));
    let mut rest = runs;
    for (line_at, line) in text.split('\n').enumerate() {
        if line_at > 0 {
            whole.push('\n');
        }
        let line_at = u32::try_from(line_at).ok()?;
        if let Some((run, others)) = rest.split_first()
            && run.line <= line_at
        {
            let behind = line_at - run.line;
            if behind >= run.lines {
                // Lines of this one were before those of the last one.
                return None;
            }
            push_number(&mut whole, run, run.first + behind);
            if behind + 1 == run.lines {
                rest = others;
            }
        }
        whole.push_str(line);
        if whole.len() > bytes_max {
            return None;
        }
    }
    rest.is_empty().then_some(whole)
}

/// Returns the bytes that a run's numbers take at most.
fn grown(run: &Numbering) -> usize {
    let digits = (run.first + run.lines).checked_ilog10().unwrap_or(0) + 1;
    let bytes = u32::from(run.width).max(digits) as usize + sign(run.mark).len_utf8();
    (run.lines as usize).saturating_mul(bytes)
}

fn push_number(whole: &mut String, run: &Numbering, number: u32) {
    let digits = number.to_string();
    let spaces = usize::from(run.width).saturating_sub(digits.len());
    whole.extend(std::iter::repeat_n(' ', spaces));
    whole.push_str(&digits);
    whole.push(sign(run.mark));
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::catalogue::by_cloud_name;
    use proptest::prelude::*;
    use serde_json::json;

    fn numbered(first: u32, width: usize, mark: char, lines: &[&str]) -> String {
        let numbered = lines.iter().zip(first..);
        numbered
            .map(|(line, number)| format!("{number:>width$}{mark}{line}\n"))
            .collect()
    }

    fn come_back(value: &Value) -> (Value, Vec<Numbering>) {
        let mut taken = value.clone();
        let numbers = take(&mut taken);
        let mut back = taken.clone();
        assert!(put(&mut back, &numbers, &mut (1 << 24)));
        assert_eq!(back, *value);
        (taken, numbers)
    }

    #[test]
    fn what_a_reader_numbers_travels_without_numbers() {
        let lines = [
            "use std::io;",
            "",
            "fn main() {",
            "→",
            "\t1\t",
            "}",
            "é",
            "x",
        ];
        for (first, width, mark) in [(1, 6, '→'), (996, 3, '\t'), (95, 1, '\t'), (0, 0, '→')] {
            let text = numbered(first, width, mark, &lines);
            let (taken, numbers) = come_back(&json!(text));
            assert_eq!(taken, json!(lines.join("\n") + "\n"));
            assert_eq!(numbers.len(), 1, "{numbers:?}");
        }
    }

    #[test]
    fn a_note_before_and_behind_and_two_listings_in_one_value_are_no_hindrance() {
        let lines = vec!["let word = 1;"; 20];
        let text = format!(
            "Result:\n{}\n<note>\n{}</note>",
            numbered(1, 6, '→', &lines),
            numbered(400, 6, '→', &lines)
        );
        let value = json!([{"type": "tool_result", "content": text, "b": "short"}, [text]]);
        let (taken, numbers) = come_back(&value);
        assert_eq!(numbers.len(), 4);
        assert!(!taken.to_string().contains('→'));
    }

    #[test]
    fn what_does_not_count_upwards_stays() {
        let gap = numbered(1, 6, '→', &["a"; 7]) + &numbered(9, 6, '→', &["a"; 7]);
        let zeros: String = (1..20).map(|at| format!("{at:06}\tline\n")).collect();
        let ragged: String = (1..20)
            .map(|at| format!("{}{at}\tline\n", " ".repeat(at % 3)))
            .collect();
        for text in [gap, zeros, ragged, "\n".repeat(100), String::new()] {
            let (taken, numbers) = come_back(&json!(text));
            assert_eq!((taken, numbers.len()), (json!(text), 0));
        }
    }

    #[test]
    fn a_row_says_what_was_taken_and_one_that_lies_keeps_its_note() {
        let table = by_cloud_name("context_messages").unwrap();
        let text = numbered(1, 6, '\t', &["word"; 50]);
        let row = json!({"role": "user", "content": text, "content_blocks": [{"content": text}]});
        let row = row.as_object().unwrap().clone();
        let mut sent = row.clone();
        take_from_row(table, &mut sent);
        assert_eq!(sent["content"], json!("word\n".repeat(50)));
        let mut back = sent.clone();
        put_into_row(&mut back, &mut 100_000);
        assert_eq!(back, row);
        let mut narrow = sent.clone();
        put_into_row(&mut narrow, &mut text.len());
        assert!(narrow.contains_key(LINE_NUMBERS));
        for lie in [json!(1), json!([{"lines": 1}]), json!({"role": 5})] {
            let mut lying = sent.clone();
            lying.insert(LINE_NUMBERS.to_owned(), json!({"content": lie}));
            put_into_row(&mut lying, &mut 100_000);
            assert!(lying.contains_key(LINE_NUMBERS));
        }
    }

    fn hostile() -> impl Strategy<Value = Numbering> {
        let small = || prop_oneof![0..20_u32, any::<u32>()];
        let mark = prop_oneof![Just(Mark::Tab), Just(Mark::Arrow)];
        (0..3_u32, small(), small(), small(), any::<u8>(), mark).prop_map(
            |(text, line, lines, first, width, mark)| Numbering {
                text,
                line,
                lines,
                first,
                width,
                mark,
            },
        )
    }

    fn listing() -> impl Strategy<Value = String> {
        let line = prop_oneof!["[ 0-9→\t]{0,12}", "\\PC{0,20}"];
        let block = (
            0..2_000_u32,
            0..20_usize,
            prop_oneof![Just('\t'), Just('→'), Just(':')],
            prop::collection::vec(line.clone(), 0..30),
        );
        let block = block.prop_map(|(first, width, mark, lines)| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            numbered(first, width, mark, &lines)
        });
        let part = prop_oneof![block, line];
        prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_value_comes_back(a in listing(), b in listing(), c in ".{0,200}") {
            come_back(&json!(a));
            come_back(&json!([{"z": a, "a": [b, 1, null, {"k": c}], "b": true}, c]));
        }

        #[test]
        fn hostile_numbers_neither_panic_nor_exceed_the_limit(
            text in listing(),
            numbers in prop::collection::vec(hostile(), 0..4),
            limit in 0..2_000_usize,
        ) {
            let mut value = json!([text, text]);
            let mut left = limit;
            let fits = put(&mut value, &numbers, &mut left);
            prop_assert!(left <= limit);
            if fits && numbers.is_empty() {
                prop_assert_eq!(value, json!([text, text]));
            }
        }
    }
}

//! The bytes of a transcript without the secrets in them, for the archive: everything else stays
//! byte for byte, and a list says what was taken out where.
//!
//! Strings of JSON are looked at as they read, not only as they are written: an escape hides no
//! secret, and no secret that a row would lose stays here.

use std::borrow::Cow;

use coditect_core::redact::{Replaced, compose, kind_under_key, redact_listed, text_has_secret};
use serde::{Deserialize, Serialize};

/// Kind of what cannot be told from text around it that is no text.
const NO_TEXT: &str = "invalid-text";

/// What was taken out of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// Where it started in the file, in bytes.
    pub offset: u64,
    /// Its length there, in bytes.
    pub bytes: u64,
    /// Its kind; the marker `[REDACTED:kind]` stands in its place.
    pub kind: String,
}

/// A piece of a file without its secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawPiece {
    /// Where the piece starts in the file.
    pub start: u64,
    /// Where it ends there.
    pub end: u64,
    /// Its bytes, with markers in the places of secrets.
    pub content: Vec<u8>,
    /// What was taken out, in order.
    pub redactions: Vec<Redaction>,
}

impl RawPiece {
    /// Adds the piece that follows in the file.
    ///
    /// # Panics
    /// When it does not follow.
    pub fn append(&mut self, mut next: Self) {
        if self.start == self.end {
            *self = next;
            return;
        }
        assert_eq!(self.end, next.start, "pieces of a file are joined in order");
        self.end = next.end;
        self.content.append(&mut next.content);
        self.redactions.append(&mut next.redactions);
    }
}

/// Redacts bytes that start at `start` of their file, line by line. `thorough` looks at every
/// string of every line also where the line as written shows nothing.
#[must_use]
pub fn redact_lines(start: u64, bytes: &[u8], thorough: bool) -> RawPiece {
    let mut piece = RawPiece {
        start,
        end: start + bytes.len() as u64,
        content: Vec::with_capacity(bytes.len()),
        redactions: Vec::new(),
    };
    let mut at = start;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        push_unit(&mut piece, at, line, thorough);
        at += line.len() as u64;
    }
    piece
}

/// Redacts bytes that are one thing: a document of several lines, a text.
#[must_use]
pub fn redact_whole(start: u64, bytes: &[u8]) -> RawPiece {
    let mut piece = RawPiece {
        start,
        end: start + bytes.len() as u64,
        ..RawPiece::default()
    };
    push_unit(&mut piece, start, bytes, true);
    piece
}

fn push_unit(piece: &mut RawPiece, at: u64, unit: &[u8], thorough: bool) {
    let Some((content, list)) = redact_unit(unit, thorough) else {
        piece.content.extend_from_slice(unit);
        return;
    };
    piece.content.extend_from_slice(&content);
    piece
        .redactions
        .extend(list.into_iter().map(|one| Redaction {
            offset: at + one.start as u64,
            bytes: (one.end - one.start) as u64,
            kind: one.kind.into_owned(),
        }));
}

/// Returns the unit without its secrets; none when it holds none.
fn redact_unit(unit: &[u8], thorough: bool) -> Option<(Vec<u8>, Vec<Replaced>)> {
    let Ok(text) = std::str::from_utf8(unit) else {
        return redact_no_text(unit);
    };
    // A password may hold quotes, which are escaped, too.
    let signs = ["\\u", "\\/", "pass", "PASS", "Pass", "pwd", "PWD"];
    let has_escapes = || signs.iter().any(|sign| text.contains(sign));
    if !thorough && !text_has_secret(text) && !has_escapes() {
        return None;
    }
    let in_strings = in_strings(text);
    let first = apply(text, &in_strings);
    let (second, as_written) = redact_listed(&first);
    let list = compose(&in_strings, &as_written);
    (!list.is_empty()).then(|| (second.into_owned().into_bytes(), list))
}

/// What is no text is kept where nothing was found in what can be read of it; else it goes whole,
/// because nobody can say where in it the secret is.
fn redact_no_text(unit: &[u8]) -> Option<(Vec<u8>, Vec<Replaced>)> {
    let text = String::from_utf8_lossy(unit);
    redact_unit(text.as_bytes(), true)?;
    let whole = Replaced {
        start: 0,
        end: unit.len(),
        kind: Cow::Borrowed(NO_TEXT),
    };
    let mut content = format!("[REDACTED:{NO_TEXT}]").into_bytes();
    let ends = unit.ends_with(b"\n");
    let list = if ends {
        content.push(b'\n');
        vec![Replaced {
            end: unit.len() - 1,
            ..whole
        }]
    } else {
        vec![whole]
    };
    Some((content, list))
}

fn apply<'a>(text: &'a str, list: &[Replaced]) -> Cow<'a, str> {
    if list.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for one in list {
        out.push_str(&text[at..one.start]);
        out.push_str("[REDACTED:");
        out.push_str(&one.kind);
        out.push(']');
        at = one.end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Finds secrets in the strings of JSON, with their places in the text as it is written.
fn in_strings(text: &str) -> Vec<Replaced> {
    let bytes = text.as_bytes();
    let mut list = Vec::new();
    let mut key: Option<Cow<'_, str>> = None;
    let mut at = 0;
    while let Some(open) = find(bytes, at, b'"') {
        let Some(close) = closing_quote(bytes, open + 1) else {
            break;
        };
        let written = &text[open + 1..close];
        at = close + 1;
        let Some(read) = unescape(written) else {
            key = None;
            continue;
        };
        let (_, found) = redact_listed(&read);
        let is_key = next_sign(bytes, at) == Some(b':');
        let under_key = key
            .take()
            .filter(|_| !is_key)
            .and_then(|key| kind_under_key(&key, &apply(&read, &found)));
        if let Some(kind) = under_key {
            list.push(Replaced {
                start: open + 1,
                end: close,
                kind: Cow::Borrowed(kind),
            });
        } else {
            list.extend(found.into_iter().map(|one| Replaced {
                start: open + 1 + place(written, one.start),
                end: open + 1 + place(written, one.end),
                kind: one.kind,
            }));
        }
        key = is_key.then_some(read);
    }
    list
}

fn find(bytes: &[u8], from: usize, byte: u8) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|b| *b == byte).map(|at| from + at)
}

fn closing_quote(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn next_sign(bytes: &[u8], from: usize) -> Option<u8> {
    let rest = bytes.get(from..)?;
    rest.iter().copied().find(|b| !b.is_ascii_whitespace())
}

/// Returns what the inside of a JSON string reads; none when it is none.
fn unescape(written: &str) -> Option<Cow<'_, str>> {
    if !written.contains('\\') {
        return Some(Cow::Borrowed(written));
    }
    let quoted = format!("\"{written}\"");
    serde_json::from_str::<String>(&quoted).ok().map(Cow::Owned)
}

/// Returns where byte `read_at` of what a string reads is written.
fn place(written: &str, read_at: usize) -> usize {
    let bytes = written.as_bytes();
    let (mut at, mut read) = (0, 0);
    while at < bytes.len() && read < read_at {
        if bytes[at] != b'\\' {
            at += 1;
            read += 1;
            continue;
        }
        if bytes.get(at + 1) != Some(&b'u') {
            at += 2;
            read += 1;
            continue;
        }
        let unit = |from: usize| {
            let digits = written.get(from + 2..from + 6)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (length, bytes_read) = match unit(at) {
            Some(0xD800..0xE000) => (12, 4),
            Some(0x80..0x800) => (6, 2),
            Some(0x800..) => (6, 3),
            _ => (6, 1),
        };
        at += length;
        read += bytes_read;
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFgH12";

    /// Returns the original with markers where the list says, which must be the content.
    fn check(original: &[u8]) -> RawPiece {
        let piece = redact_lines(100, original, false);
        let mut rebuilt = Vec::new();
        let mut at = 0;
        for one in &piece.redactions {
            let start = usize::try_from(one.offset - 100).unwrap();
            rebuilt.extend_from_slice(&original[at..start]);
            rebuilt.extend_from_slice(format!("[REDACTED:{}]", one.kind).as_bytes());
            at = start + usize::try_from(one.bytes).unwrap();
        }
        rebuilt.extend_from_slice(&original[at..]);
        assert_eq!(
            rebuilt,
            piece.content,
            "{:?}",
            String::from_utf8_lossy(original)
        );
        assert_eq!((piece.start, piece.end), (100, 100 + original.len() as u64));
        piece
    }

    #[test]
    fn what_holds_no_secret_stays_byte_for_byte() {
        for original in [
            &b"{\"a\":\"\\u00e9\\/x\"}\r\n{\"b\" : 1.50}\n"[..],
            b"\0\0\xff\xfe garbage \n\n",
            b"",
            b"not json at all \"",
        ] {
            let piece = check(original);
            assert_eq!(piece.content, original);
        }
    }

    #[test]
    fn secrets_are_found_behind_escapes_and_under_keys() {
        let hidden = TOKEN.replace('g', "\\u0067");
        for line in [
            format!("{{\"text\":\"see {TOKEN} \\u00e9\"}}\n"),
            format!("{{\"text\":\"see \\ud83d\\ude00 {hidden} é\"}}\n"),
            "{\"url\":\"https:\\/\\/ann:pa55word@db.test\\/x\"}\n".to_owned(),
            "{\"password\":\"ab\\\"cd12\"}\n".to_owned(),
            "{\"password\" : \"correct1 horse\"}\n{\"x\":\"y\"}".to_owned(),
        ] {
            let piece = check(line.as_bytes());
            assert_eq!(piece.redactions.len(), 1, "{line}");
            let text = String::from_utf8(piece.content).unwrap();
            assert!(
                !text.contains("ghp_") && !text.contains("\\u0067"),
                "{text}"
            );
            assert!(!text.contains("pa55") && !text.contains("cd12") && !text.contains("horse"));
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }

    #[test]
    fn a_secret_between_bytes_that_are_no_text_takes_its_line_along() {
        let line = [b"\xff ", TOKEN.as_bytes(), b"\nnext\n"].concat();
        let piece = check(&line);
        assert_eq!(piece.content, b"[REDACTED:invalid-text]\nnext\n");
    }

    #[test]
    fn pieces_join_to_the_same_as_the_whole() {
        let bytes = format!("{{\"a\":\"{TOKEN}\"}}\nplain\n{{\"token\":\"{TOKEN}\"}}\n");
        let whole = redact_lines(0, bytes.as_bytes(), false);
        let mut joined = RawPiece::default();
        let mut at = 0;
        for line in bytes.split_inclusive('\n') {
            joined.append(redact_lines(at, line.as_bytes(), false));
            at += line.len() as u64;
        }
        assert_eq!(joined, whole);
    }
}

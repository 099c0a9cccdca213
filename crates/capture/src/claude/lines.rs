//! From one line to JSON objects, leniently.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What a line holds.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) objects: Vec<Map<String, Value>>,
    pub(super) damage: Option<Damage>,
    pub(super) repaired: bool,
}

#[derive(Debug)]
pub(crate) struct Damage {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// How often the rest of a damaged line is searched for a whole record.
const RESUMES_MAX: usize = 64;

/// Reads a line (without its newline) as a sequence of JSON objects. More than one object, or
/// anything else, makes the line damaged; an empty or padded one holds nothing.
pub(crate) fn read(line: &[u8]) -> Line {
    let padded = line;
    let line = trim(line);
    let padding = line.as_ptr().addr() - padded.as_ptr().addr();
    if line.is_empty() {
        return Line::default();
    }
    let text = String::from_utf8_lossy(line);
    let invalid_utf8 = matches!(text, Cow::Owned(_));
    let mut read = read_text(&text);
    if read.damage.is_some()
        && let Some(repaired) = repair_surrogates(&text)
    {
        let second = read_text(&repaired);
        if second.objects.len() > read.objects.len() || second.damage.is_none() {
            read = second;
            read.repaired = true;
        }
    }
    read.repaired |= invalid_utf8;
    if let Some(damage) = &mut read.damage {
        damage.at += padding;
    }
    read
}

fn read_text(text: &str) -> Line {
    let mut line = Line::default();
    let (end, stop) = read_objects(text, &mut line.objects);
    if let Some(reason) = stop {
        resume(&text[end..], &mut line.objects);
        line.damage = Some(Damage { at: end, reason });
    } else if line.objects.len() > 1 {
        let at = first_object_end(text);
        let reason = format!("{} records in one line", line.objects.len());
        line.damage = Some(Damage { at, reason });
    }
    line
}

/// Appends the leading whole objects; returns where they end and why reading stopped before the
/// end of the text.
fn read_objects(text: &str, objects: &mut Vec<Map<String, Value>>) -> (usize, Option<String>) {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut end = 0;
    loop {
        match stream.next() {
            None => return (end, None),
            Some(Ok(Value::Object(object))) => {
                objects.push(object);
                end = stream.byte_offset();
            }
            Some(Ok(_)) => return (end, Some("not a JSON object".to_owned())),
            Some(Err(error)) => return (end, Some(error.to_string())),
        }
    }
}

fn first_object_end(text: &str) -> usize {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    stream.next();
    stream.byte_offset()
}

/// Looks behind a torn record for whole ones that reach to the end of the line. An object that
/// is nested in the torn one ends before that, so it is not taken for a record.
fn resume(rest: &str, objects: &mut Vec<Map<String, Value>>) {
    let starts = rest
        .match_indices("{\"")
        .map(|(at, _)| at)
        .skip_while(|at| *at == 0);
    for at in starts.take(RESUMES_MAX) {
        let mut found = Vec::new();
        let (_, stop) = read_objects(&rest[at..], &mut found);
        if stop.is_none() && !found.is_empty() && found.iter().all(is_record) {
            objects.append(&mut found);
            return;
        }
    }
}

fn is_record(object: &Map<String, Value>) -> bool {
    let has = |key: &str| object.get(key).is_some_and(Value::is_string);
    let is_dag_record = has("sessionId") && (has("uuid") || has("timestamp"));
    has("type") && (is_dag_record || has("leafUuid") || has("messageId"))
}

fn trim(line: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n');
    let mut line = line;
    loop {
        let start = line
            .iter()
            .position(|byte| !is_padding(byte))
            .unwrap_or(line.len());
        let end = line
            .iter()
            .rposition(|byte| !is_padding(byte))
            .map_or(start, |last| last + 1);
        line = &line[start..end];
        match line.strip_prefix("\u{feff}".as_bytes()) {
            Some(rest) => line = rest,
            None => return line,
        }
    }
}

/// Replaces escapes of lone surrogates by the replacement character's, byte for byte; none when
/// there are none.
fn repair_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let unit = code_unit(bytes, at);
        let follows = |low: Option<u16>| low.is_some_and(|low| (0xDC00..0xE000).contains(&low));
        match unit {
            Some(0xD800..0xDC00) if follows(code_unit(bytes, at + 6)) => at += 12,
            Some(0xD800..0xE000) => {
                let out = out.get_or_insert_with(|| bytes.to_vec());
                out[at..at + 6].copy_from_slice(b"\\ufffd");
                at += 6;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    out.and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Returns the code unit of the `\uXXXX` escape at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &str) -> Vec<Value> {
        read(line.as_bytes())
            .objects
            .into_iter()
            .map(Value::Object)
            .collect()
    }

    #[test]
    fn a_record_survives_what_is_glued_behind_it() {
        for rest in [r#"{"b":"#, "garbage", "]", r#"{"b":2}"#, "\u{0}\u{0}x"] {
            let read = read(format!(r#"{{"a":1}}{rest}"#).as_bytes());
            assert_eq!(read.objects[0]["a"], 1, "{rest}");
            assert_eq!(read.damage.map(|damage| damage.at), Some(7), "{rest}");
        }
    }

    #[test]
    fn a_whole_record_behind_a_torn_one_is_found() {
        let torn = r#"{"type":"user","message":{"content":[{"type":"text","sessionId":"x"}"#;
        let line = format!(r#"{torn}{{"type":"user","sessionId":"s","uuid":"u"}}"#);
        assert_eq!(values(&line).len(), 1);
        assert_eq!(values(&line)[0]["uuid"], "u");
        assert_eq!(values(torn), Vec::<Value>::new());
    }

    #[test]
    fn padding_and_byte_order_marks_are_no_damage() {
        for line in [
            "\u{0}\u{0}{\"a\":1}",
            "\u{feff}{\"a\":1}\r",
            " {\"a\":1}\u{0}",
        ] {
            let read = read(line.as_bytes());
            assert!(read.damage.is_none() && read.objects.len() == 1, "{line:?}");
        }
        assert!(read(b"\0\0\0").damage.is_none());
    }

    #[test]
    fn lone_surrogates_are_repaired_and_pairs_stay() {
        let line =
            r#"{"a":"\ud83d","b":"\ud83d\ude00","c":"\\ud83d","d":"\ude00x\ud83d\ud83d\ude00"}"#;
        let read = read(line.as_bytes());
        assert!(read.damage.is_none() && read.repaired);
        assert_eq!(read.objects[0]["a"], "\u{fffd}");
        assert_eq!(read.objects[0]["b"], "😀");
        assert_eq!(read.objects[0]["c"], "\\ud83d");
        assert_eq!(read.objects[0]["d"], "\u{fffd}x\u{fffd}😀");
    }

    #[test]
    fn invalid_utf8_is_repaired() {
        let read = read(b"{\"a\":\"x\xff\"}");
        assert!(read.damage.is_none() && read.repaired);
        assert_eq!(read.objects[0]["a"], "x\u{fffd}");
    }
}

//! Reading fields of a record that may be missing or of another type.

use chrono::{DateTime, SecondsFormat, Utc};
use coditect_core::redact::{Report, redact_text};
use serde_json::{Map, Value};

/// One JSON object of a transcript.
pub(crate) type Record = Map<String, Value>;

/// Returns a text field that is not empty.
pub(crate) fn text<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    record
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// Returns the first of several text fields that is there.
pub(crate) fn first_text<'a>(record: &'a Record, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| text(record, key))
}

/// Returns a text field or a number as text.
pub(crate) fn id(record: &Record, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match record.get(*key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Returns whether a field is `true`.
pub(super) fn flag(record: &Record, key: &str) -> bool {
    record.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Returns a redacted copy of a text field.
pub(super) fn clean(record: &Record, key: &str, report: &mut Report) -> Option<String> {
    text(record, key).map(|text| redact_text(text, report).into_owned())
}

/// Returns the record's time as RFC 3339 UTC with microseconds; none if it cannot be read.
/// A number is milliseconds since 1970.
pub(crate) fn timestamp(record: &Record) -> Option<String> {
    let time = match record.get("timestamp")? {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc),
        Value::Number(number) => DateTime::from_timestamp_millis(number.as_i64()?)?,
        _ => return None,
    };
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Returns the time field as it is when it is there but cannot be read.
pub(super) fn unreadable_time(record: &Record) -> Option<&Value> {
    let value = record.get("timestamp")?;
    (!value.is_null() && timestamp(record).is_none()).then_some(value)
}

/// Returns the milliseconds from one time to a later one.
pub(super) fn elapsed_ms(from: Option<&str>, to: Option<&str>) -> Option<u64> {
    let from = DateTime::parse_from_rfc3339(from?).ok()?;
    let to = DateTime::parse_from_rfc3339(to?).ok()?;
    u64::try_from((to - from).num_milliseconds()).ok()
}

/// Returns at most `bytes_max` bytes of the text, ending at a character.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(value: Value) -> Record {
        Record::from_iter([("timestamp".to_owned(), value)])
    }

    #[test]
    fn times_become_utc_with_microseconds_and_unreadable_ones_are_kept_apart() {
        let expected = Some("2026-02-03T03:51:03.761000Z".to_owned());
        assert_eq!(
            timestamp(&at(json!("2026-02-03T04:51:03.761+01:00"))),
            expected
        );
        assert_eq!(timestamp(&at(json!(1_770_090_663_761_i64))), expected);
        let odd = at(json!("yesterday"));
        assert_eq!(timestamp(&odd), None);
        assert_eq!(unreadable_time(&odd), Some(&json!("yesterday")));
        assert_eq!(unreadable_time(&Record::new()), None);
    }
}

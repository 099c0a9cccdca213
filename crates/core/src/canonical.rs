//! The canonical form of a row: what is hashed, compared and sent. Client and server use the
//! same functions, so that equal rows have equal bytes.

pub(crate) mod json;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Utc};
use coditect_protocol::catalogue::{Column, ColumnType, Table};
use coditect_protocol::limits::INTEGER_MAX;
use coditect_protocol::wire::Row;
use serde_json::{Map, Value};

/// Key of a row under which values travel that do not fit their column (PROTOCOL 7).
pub const EXTRA: &str = "extra";

/// Returns the row with every value in canonical form. Unknown keys and NULLs are dropped; a
/// value that is not of its column's type goes to [`EXTRA`] as text.
#[must_use]
pub fn row(table: &Table, mut raw: Row) -> Row {
    let mut extra = match raw.remove(EXTRA) {
        Some(Value::Object(extra)) => extra,
        _ => Map::new(),
    };
    // Only columns have misfits, and only text stands for them.
    extra.retain(|name, value| table.column(name).is_some() && value.is_string());
    let mut canonical = Row::new();
    for column in table.columns {
        let Some(value) = raw.remove(column.name) else {
            continue;
        };
        match self::value(column, value) {
            Ok(Value::Null) => {}
            Ok(value) => {
                extra.remove(column.name);
                canonical.insert(column.name.to_owned(), value);
            }
            Err(text) => {
                extra.insert(column.name.to_owned(), Value::String(text));
            }
        }
    }
    if !extra.is_empty() {
        canonical.insert(EXTRA.to_owned(), Value::Object(extra));
    }
    crate::body::keep_fitting_names(table, &mut canonical);
    canonical
}

/// Returns whether [`row`] would give the row back as it is, without copying anything. `false`
/// also for rows with misfits or names of bodies, which only [`row`] looks at.
#[must_use]
pub fn is_plainly_canonical(table: &Table, row: &Row) -> bool {
    let names_bodies = table
        .body_names()
        .is_some_and(|place| row.contains_key(place.name));
    let is_column = |(name, value): (&String, &Value)| {
        let column = table.column(name);
        column.is_some_and(|column| is_canonical_value(column, value))
    };
    !names_bodies && !row.contains_key(EXTRA) && row.iter().all(is_column)
}

/// Returns whether [`value`] would give the value back as it is; not so for NULL, which a row
/// does not hold.
fn is_canonical_value(column: &Column, value: &Value) -> bool {
    match column.ty {
        ColumnType::Text | ColumnType::Blob => value.is_string(),
        ColumnType::Integer => value.as_i64().is_some_and(is_exact),
        ColumnType::Real => value.is_f64(),
        ColumnType::Boolean => value.is_boolean(),
        ColumnType::Timestamp => value.as_str().is_some_and(is_time),
        ColumnType::Json => !value.is_null() && is_canonical_json(value),
    }
}

fn is_canonical_json(value: &Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .is_some_and(|double| whole_of(double).is_none()),
        Value::Number(number) => number.as_i64().is_some_and(is_exact),
        Value::Array(items) => items.iter().all(is_canonical_json),
        Value::Object(map) => map.values().all(is_canonical_json),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Returns the value in the canonical form of the column's type.
///
/// # Errors
/// The value's text when it is not of that type; it belongs into [`EXTRA`] then.
pub fn value(column: &Column, value: Value) -> Result<Value, String> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match column.ty {
        ColumnType::Text => match value {
            Value::String(_) => Ok(value),
            other => Err(other.to_string()),
        },
        ColumnType::Integer => match value.as_i64() {
            Some(number) if is_exact(number) => Ok(Value::from(number)),
            _ => whole(&value).map(Value::from).ok_or_else(|| text_of(value)),
        },
        ColumnType::Real => match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(text_of(value)),
        },
        ColumnType::Boolean => match &value {
            Value::Bool(_) => Ok(value),
            Value::Number(number) if number.as_i64() == Some(0) => Ok(Value::Bool(false)),
            Value::Number(number) if number.as_i64() == Some(1) => Ok(Value::Bool(true)),
            _ => Err(text_of(value)),
        },
        ColumnType::Timestamp => match value.as_str().and_then(time) {
            Some(text) => Ok(Value::String(text)),
            None => Err(text_of(value)),
        },
        ColumnType::Json => Ok(json(value)),
        ColumnType::Blob => match value {
            Value::String(_) => Ok(value),
            other => Err(other.to_string()),
        },
    }
}

/// Returns the JSON with every number in the form that survives a binary double: integers up
/// to 2^53 as integers, all others as the nearest double. JSONB and browsers keep no more.
fn json(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_i64().filter(|whole| is_exact(*whole)) {
                return Value::from(whole);
            }
            let double = number.as_f64().unwrap_or(0.0);
            whole_of(double).map_or_else(|| Value::from(double), Value::from)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, json(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Returns whether every JSON reader keeps the integer.
const fn is_exact(number: i64) -> bool {
    number.unsigned_abs() <= INTEGER_MAX.unsigned_abs()
}

fn whole(value: &Value) -> Option<i64> {
    if value.is_i64() || value.is_u64() {
        return None;
    }
    value.as_f64().and_then(whole_of)
}

fn whole_of(double: f64) -> Option<i64> {
    let fits = double.fract() == 0.0 && double.abs() <= INTEGER_MAX as f64;
    fits.then_some(double as i64)
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Returns a time as RFC 3339 UTC with microseconds. Reads RFC 3339 with any offset, and what
/// SQLite's `datetime('now')` and `date('now')` write, which is UTC. None if it is no time
/// between the years 0 and 9999.
#[must_use]
pub fn time(text: &str) -> Option<String> {
    parse_time(text).and_then(format_time)
}

/// Returns whether the text is a time as [`time`] writes it.
#[must_use]
pub fn is_time(text: &str) -> bool {
    const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let bytes = text.as_bytes();
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == form,
    };
    if bytes.len() != FORM.len() || !bytes.iter().zip(FORM).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| {
        let digits = bytes[from..to].iter();
        digits.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    };
    let day = NaiveDate::from_ymd_opt(number(0, 4).cast_signed(), number(5, 7), number(8, 10));
    day.is_some() && number(11, 13) < 24 && number(14, 16) < 60 && number(17, 19) < 60
}

/// Returns the time of milliseconds since 1970, as [`time`] writes it; the nearest that can be
/// written when out of range.
#[must_use]
pub fn time_from_ms(unix_ms: i64) -> String {
    const MS_MAX: i64 = 253_402_300_799_999;
    const MS_MIN: i64 = -62_135_596_800_000;
    let moment = Utc
        .timestamp_millis_opt(unix_ms.clamp(MS_MIN, MS_MAX))
        .single();
    moment
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Returns the milliseconds since 1970 of a time that [`time`] reads.
#[must_use]
pub fn ms_from_time(text: &str) -> Option<i64> {
    parse_time(text).map(|moment| moment.timestamp_millis())
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if text.len() > 40 {
        return None;
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    for form in [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
    ] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, form) {
            return Some(naive.and_utc());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    day.and_hms_opt(0, 0, 0).map(|naive| naive.and_utc())
}

fn format_time(moment: DateTime<Utc>) -> Option<String> {
    let text = moment.to_rfc3339_opts(SecondsFormat::Micros, true);
    // Years outside 0000 to 9999 get a sign, which PostgreSQL and browsers do not read.
    // Leap seconds (":60") exist in none of our stores either.
    (text.len() == 27 && text.as_bytes()[17] != b'6').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::catalogue::by_cloud_name;
    use serde_json::json;

    fn canonical(table: &str, raw: Value) -> Value {
        let Value::Object(raw) = raw else {
            panic!("a row is an object")
        };
        Value::Object(row(by_cloud_name(table).unwrap(), raw))
    }

    #[test]
    fn what_is_plainly_canonical_stays_as_it_is() {
        let table = by_cloud_name("org_decisions").unwrap();
        let plain = |raw: &Value| is_plainly_canonical(table, raw.as_object().unwrap());
        for (raw, expected) in [
            (
                json!({"title": "t", "tags": ["a", 1, 1.5, null, {"b": -3}]}),
                true,
            ),
            (json!({"title": "t", "confidence": 0.5}), true),
            (json!({"title": "t", "confidence": 1}), false),
            (json!({"title": "t", "confidence": null}), false),
            (json!({"title": "t", "tags": null}), false),
            (json!({"title": "t", "tags": [1.0]}), false),
            (
                json!({"title": "t", "tags": [9_007_199_254_740_993_i64]}),
                false,
            ),
            (json!({"title": "t", "tags": [1e300]}), true),
            (json!({"title": 5}), false),
            (json!({"title": "t", "unknown": 1}), false),
            (
                json!({"title": "t", "extra": {"confidence": "high"}}),
                false,
            ),
        ] {
            assert_eq!(plain(&raw), expected, "{raw}");
            let same = canonical("org_decisions", raw.clone()) == raw;
            assert!(!expected || same, "{raw}");
        }
        for text in [
            "2026-02-03T03:51:03.761000Z",
            "2026-02-29T03:51:03.761000Z",
            "2024-02-29T23:59:59.999999Z",
            "2026-02-03T03:51:60.000000Z",
            "2026-02-03T24:00:00.000000Z",
            "0000-01-01T00:00:00.000000Z",
            "9999-12-31T23:59:59.999999Z",
            "2026-13-03T03:51:03.761000Z",
            "2026-02-03t03:51:03.761000z",
            "2026-02-03T03:51:03.761Z",
            "2026-02-03 03:51:03.761000Z",
            " 026-02-03T03:51:03.761000Z",
            "",
        ] {
            assert_eq!(is_time(text), time(text).as_deref() == Some(text), "{text}");
        }
    }

    #[test]
    fn misfits_travel_as_text_in_extra() {
        let raw = json!({"title": "t", "confidence": "high", "tags": ["a"], "unknown": 1});
        let expected = json!({"title": "t", "tags": ["a"], "extra": {"confidence": "high"}});
        assert_eq!(canonical("org_decisions", raw), expected);
    }

    #[test]
    fn canonical_form_is_a_fixed_point() {
        let raw = json!({
            "skill_name": "s", "learning": 5, "usage_count": 9_007_199_254_740_993_i64,
            "analyzed_at": "2026-01-02 03:04:05", "confidence": 1,
            "effectiveness_score": 3.0,
        });
        let once = canonical("org_skill_learnings", raw);
        assert_eq!(once["analyzed_at"], "2026-01-02T03:04:05.000000Z");
        assert_eq!(once["effectiveness_score"], 3);
        assert_eq!(once["extra"]["usage_count"], "9007199254740993");
        assert_eq!(once["extra"]["learning"], "5");
        assert_eq!(canonical("org_skill_learnings", once.clone()), once);
    }

    #[test]
    fn a_value_that_fits_again_leaves_extra() {
        let raw = json!({"title": "t", "confidence": 0.5, "extra": {"confidence": "high"}});
        let expected = json!({"title": "t", "confidence": 0.5});
        assert_eq!(canonical("org_decisions", raw), expected);
    }

    #[test]
    fn the_lowest_integer_does_not_fit() {
        let raw = json!({"skill_name": "s", "learning": "l", "usage_count": i64::MIN});
        let once = canonical("org_skill_learnings", raw);
        assert_eq!(once["extra"]["usage_count"], i64::MIN.to_string());
    }

    #[test]
    fn numbers_in_json_survive_a_double() {
        let raw = json!({"title": "t", "tags": [1.0, 18_446_744_073_709_551_615_u64, 1e300]});
        let once = canonical("org_decisions", raw);
        assert_eq!(once["tags"], json!([1, 1.8446744073709552e19, 1e300]));
        assert_eq!(canonical("org_decisions", once.clone()), once);
    }

    #[test]
    fn times_have_one_form() {
        for (text, expected) in [
            (
                "2026-02-03T03:51:03.761Z",
                Some("2026-02-03T03:51:03.761000Z"),
            ),
            (
                "2026-02-03T05:51:03.7617891+02:00",
                Some("2026-02-03T03:51:03.761789Z"),
            ),
            ("2026-02-03", Some("2026-02-03T00:00:00.000000Z")),
            ("2026-02-03T23:59:60Z", None),
            ("yesterday", None),
            ("+12026-02-03T00:00:00Z", None),
        ] {
            assert_eq!(time(text).as_deref(), expected, "{text}");
        }
        assert_eq!(
            ms_from_time(&time_from_ms(1_700_000_000_123)),
            Some(1_700_000_000_123)
        );
    }
}

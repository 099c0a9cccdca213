//! A row of the database as it travels, written without a tree of JSON in between: what reading
//! it as [`crate::sync::held::Held`] and writing that gives, byte for byte.

use std::error::Error;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use coditect_core::canonical;
use coditect_protocol::Version;
use coditect_protocol::catalogue::{Column, ColumnType, Table};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use crate::StoreError;
use crate::sync::columns::time_text;
use crate::sync::escape;
use crate::sync::sql::EXTRA_POSITION;

/// First byte of U+F8FF, which marks an escape.
const MARK_START: u8 = 0xef;
/// Digits of the integers that are surely exact in a double.
const EXACT_DIGITS: usize = 15;
/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A value as PostgreSQL sends it.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }
}

/// Returns a row's cursor.
pub(super) fn cursor(row: &Row) -> Result<i64, StoreError> {
    Ok(row.try_get(6)?)
}

/// Appends the row as JSON.
pub(super) fn row(out: &mut Vec<u8>, table: &Table, row: &Row) -> Result<(), StoreError> {
    let id: Uuid = row.try_get(0)?;
    let corrupt = || StoreError::Corrupt {
        table: table.cloud,
        row: id.to_string(),
    };
    let device: Option<Uuid> = row.try_get(2)?;
    let origin: Option<Uuid> = row.try_get(3)?;
    let hash: &[u8] = row.try_get(4)?;
    let version = Version::from_i64(row.try_get(5)?);
    let deleted: bool = row.try_get(9)?;
    if hash.len() != 32 {
        return Err(corrupt());
    }
    out.extend_from_slice(b"{\"table\":\"");
    out.extend_from_slice(table.cloud.as_bytes());
    named_uuid(out, b"\",\"id\":\"", id);
    let op: &[u8] = if deleted { b"delete" } else { b"upsert" };
    out.extend_from_slice(b"\",\"op\":\"");
    out.extend_from_slice(op);
    // Writing to memory cannot fail.
    let _ = write!(out, "\",\"version\":\"{version}");
    named_uuid(out, b"\",\"device\":\"", device.unwrap_or_default());
    named_uuid(out, b"\",\"origin\":\"", origin.unwrap_or_default());
    if let Some(user) = row.try_get(1)? {
        named_uuid(out, b"\",\"user_id\":\"", user);
    }
    out.extend_from_slice(b"\",\"hash\":\"");
    hex(out, hash);
    let _ = write!(out, "\",\"cursor\":\"{}", cursor(row)?);
    for (name, position) in [("created_at", 7), ("updated_at", 8)] {
        let _ = write!(out, "\",\"{name}\":\"");
        let at = row.try_get::<_, Option<Raw<'_>>>(position)?;
        time(out, at.map_or(-EPOCH_US, |at| integer(at.0))).ok_or_else(corrupt)?;
    }
    out.push(b'"');
    if !deleted {
        out.extend_from_slice(b",\"row\":{");
        columns(out, table, row).ok_or_else(corrupt)?;
        out.push(b'}');
    }
    out.push(b'}');
    Ok(())
}

/// Appends the table's own columns and `extra`; none for a value that is not of its type.
fn columns(out: &mut Vec<u8>, table: &Table, row: &Row) -> Option<()> {
    let start = out.len();
    let first = EXTRA_POSITION + 1;
    for (position, column) in table.columns.iter().enumerate() {
        let Some(raw) = row.try_get::<_, Option<Raw<'_>>>(first + position).ok()? else {
            continue;
        };
        let before = out.len();
        name(out, column.name, before == start);
        if !value(out, column, raw.0)? {
            out.truncate(before);
        }
    }
    if let Some(raw) = row.try_get::<_, Option<Raw<'_>>>(EXTRA_POSITION).ok()? {
        let before = out.len();
        name(out, canonical::EXTRA, before == start);
        let extra: Value = serde_json::from_slice(raw.0.get(1..)?).ok()?;
        serde_json::to_writer(&mut *out, &escape::original_json(extra)).ok()?;
    }
    Some(())
}

fn name(out: &mut Vec<u8>, name: &str, first: bool) {
    if !first {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a value; false when there is none after all.
fn value(out: &mut Vec<u8>, column: &Column, raw: &[u8]) -> Option<bool> {
    match column.ty {
        ColumnType::Text => text(out, raw)?,
        ColumnType::Integer => {
            let _ = write!(out, "{}", integer(raw));
        }
        ColumnType::Real => {
            let number = f64::from_be_bytes(raw.try_into().ok()?);
            serde_json::to_writer(&mut *out, &number).ok()?;
        }
        ColumnType::Boolean => {
            let truth: &[u8] = if raw == [0] { b"false" } else { b"true" };
            out.extend_from_slice(truth);
        }
        ColumnType::Timestamp => {
            out.push(b'"');
            time(out, integer(raw))?;
            out.push(b'"');
        }
        ColumnType::Json => return json(out, column, raw.get(1..)?),
        ColumnType::Blob => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(raw).as_bytes());
            out.push(b'"');
        }
    }
    Some(true)
}

fn text(out: &mut Vec<u8>, raw: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(raw).ok()?;
    let text = match raw.contains(&MARK_START) {
        true => escape::original(text),
        false => text.into(),
    };
    serde_json::to_writer(out, &text).ok()
}

/// Appends what is surely canonical as it is; the rest is read and written again, because jsonb
/// writes large doubles as integers, and what is escaped has to become itself.
fn json(out: &mut Vec<u8>, column: &Column, raw: &[u8]) -> Option<bool> {
    if raw == b"null" {
        return Some(false);
    }
    if is_canonical(raw) {
        out.extend_from_slice(raw);
        return Some(true);
    }
    let value: Value = serde_json::from_slice(raw).ok()?;
    let value = canonical::value(column, escape::original_json(value)).ok()?;
    serde_json::to_writer(out, &value).ok()?;
    Some(true)
}

/// Returns whether a text of jsonb holds no escaped character and, outside of its strings, no
/// number but short integers.
fn is_canonical(raw: &[u8]) -> bool {
    let (mut in_string, mut escaped, mut digits) = (false, false, 0);
    for byte in raw {
        if *byte == MARK_START {
            return false;
        }
        if in_string {
            match *byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match *byte {
            b'"' => in_string = true,
            b'0'..=b'9' => digits += 1,
            b'.' | b'E' | b'+' => return false,
            // Of "true" and "false" the only letter that a number may hold, too.
            b'e' if digits > 0 => return false,
            _ => digits = 0,
        }
        if digits > EXACT_DIGITS {
            return false;
        }
    }
    true
}

fn integer(raw: &[u8]) -> i64 {
    raw.try_into().map_or(0, i64::from_be_bytes)
}

fn named_uuid(out: &mut Vec<u8>, name: &[u8], id: Uuid) {
    out.extend_from_slice(name);
    let mut text = [0; 36];
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends a moment, in microseconds since 2000, as a canonical time; none if it cannot be
/// written.
fn time(out: &mut Vec<u8>, since_2000_us: i64) -> Option<()> {
    const DAY_US: i64 = 86_400_000_000;
    let unix_us = since_2000_us.checked_add(EPOCH_US)?;
    let (days, us) = (unix_us.div_euclid(DAY_US), unix_us.rem_euclid(DAY_US));
    // Days from March of year 0, in eras of 400 years, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..=9_999).contains(&year) {
        let moment = DateTime::from_timestamp_micros(unix_us)?;
        out.extend_from_slice(time_text(moment).as_bytes());
        return Some(());
    }
    let seconds = us / 1_000_000;
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (seconds / 3_600, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (us % 1_000_000, 6, b'Z'),
    ];
    for (number, width, behind) in parts {
        digits(out, number, width);
        out.push(behind);
    }
    Some(())
}

/// Appends a number that has at most so many digits.
fn digits(out: &mut Vec<u8>, mut number: i64, width: usize) {
    let mut text = [b'0'; 6];
    for slot in text[..width].iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(unix_us: i64) -> Option<String> {
        let mut out = Vec::new();
        time(&mut out, unix_us.checked_sub(EPOCH_US)?)?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn only_what_needs_no_change_is_taken_as_it_is() {
        for raw in [
            r#"{"a": [1, -2, 123456789012345], "b": true, "c": false, "d": null}"#,
            r#""1.5e9 and \" 12345678901234567890""#,
            r#"["é", "\\", {}]"#,
        ] {
            assert!(is_canonical(raw.as_bytes()), "{raw}");
        }
        for raw in [
            "1.0",
            "[12345678901234567]",
            "1e5",
            "[1E5]",
            "\"\u{f8ff}N\"",
        ] {
            assert!(!is_canonical(raw.as_bytes()), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn times_are_written_as_the_canonical_form(unix_us in -62_167_219_200_000_000_i64
            ..253_402_300_800_000_000) {
            let moment = DateTime::from_timestamp_micros(unix_us).unwrap();
            prop_assert_eq!(written(unix_us), Some(time_text(moment)));
        }

        #[test]
        fn texts_come_back(text in "\\PC*[\u{0}\u{f8ff}\"\\\\\n]?\\PC*") {
            let mut out = Vec::new();
            super::text(&mut out, escape::text(&text).as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}

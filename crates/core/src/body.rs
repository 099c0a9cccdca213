//! Bodies: long values that are kept apart from their row (DESIGN 4, ADR 0018). A row has two
//! forms of equal meaning and equal content hash: whole, with all values in it; and parted, where
//! a long text is cut to its beginning, a long JSON value is left out, and the column of
//! [`Apart::Names`](coditect_protocol::catalogue::Apart::Names) says which bodies belong there.

pub mod numbers;

use coditect_protocol::catalogue::{Column, ColumnType, Table};
use coditect_protocol::limits::{BODY_IN_ROW_BYTES_MAX, BODY_PREFIX_BYTES_MAX, ROW_BYTES_MAX};
use coditect_protocol::wire::Row;
use coditect_protocol::wire::bodies::{Body, BodyName, NumberedBody};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

use crate::hash::ContentHash;

/// Returns the hash that names a body.
#[must_use]
pub fn hash(text: &str) -> ContentHash {
    ContentHash(Sha256::digest(text.as_bytes()).into())
}

/// Returns the text of a value that has to be kept apart; none for a short one, and none for a
/// column without bodies.
#[must_use]
pub fn long_text<'a>(column: &Column, value: &'a Value) -> Option<Cow<'a, str>> {
    match (column.ty, value) {
        (ColumnType::Text, Value::String(text)) => {
            (text.len() > BODY_IN_ROW_BYTES_MAX).then_some(Cow::Borrowed(text))
        }
        (ColumnType::Json, value) => {
            let text = serde_json_canonicalizer::to_string(value).unwrap_or_default();
            (text.len() > BODY_IN_ROW_BYTES_MAX).then_some(Cow::Owned(text))
        }
        _ => None,
    }
}

/// Returns a body as the JSON value whose RFC 8785 form its text is; none for any other text, and
/// none where reading and writing it would not give the same bytes.
#[must_use]
pub fn as_value(text: &str) -> Option<Value> {
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let value = serde_json::from_str(text).ok()?;
    (text_of(&value) == text).then_some(value)
}

/// Returns the text of a body that came as a value.
#[must_use]
pub fn text_of(value: &Value) -> String {
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// Returns a body without the numbers of its lines, as a value where it is JSON and `values` says
/// that this is wanted; none for a body that has no numbered lines.
#[must_use]
pub fn as_numbered(hash: &str, text: &str, values: bool) -> Option<NumberedBody> {
    let value = values.then(|| as_value(text)).flatten();
    let mut value = value.unwrap_or_else(|| Value::from(text));
    let numbers = numbers::take(&mut value);
    (!numbers.is_empty()).then(|| NumberedBody {
        hash: hash.to_owned(),
        value,
        numbers,
    })
}

/// Returns the text of a body that came without the numbers of its lines; none when they do not
/// fit it, or make it longer than a row may be.
#[must_use]
pub fn text_of_numbered(body: NumberedBody) -> Option<String> {
    let mut value = body.value;
    let mut left = ROW_BYTES_MAX;
    if !numbers::put(&mut value, &body.numbers, &mut left) {
        return None;
    }
    Some(match value {
        Value::String(text) => text,
        value => text_of(&value),
    })
}

/// Returns the beginning of a body that stays in the row.
#[must_use]
pub fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(BODY_PREFIX_BYTES_MAX)]
}

/// Returns what a row says of a body.
#[must_use]
pub fn name(column: &Column, text: &str) -> BodyName {
    named(column, text, hash(text))
}

fn named(column: &Column, text: &str, hash: ContentHash) -> BodyName {
    BodyName {
        hash: hash.to_string(),
        bytes: text.len() as u64,
        prefix: (column.ty == ColumnType::Text).then(|| check(prefix(text))),
    }
}

/// Returns the digits by which the beginning in a row is recognised.
fn check(beginning: &str) -> String {
    let mut digits = hash(beginning).to_string();
    digits.truncate(16);
    digits
}

/// Returns the bodies that a canonical row names and does not hold, by column.
#[must_use]
pub fn names(table: &Table, row: &Row) -> Vec<(&'static Column, BodyName)> {
    let Some(Value::Object(names)) = table.body_names().and_then(|column| row.get(column.name))
    else {
        return Vec::new();
    };
    let named = |column: &'static Column| {
        let name = names.get(column.name)?;
        Some((column, serde_json::from_value(name.clone()).ok()?))
    };
    table.bodies().filter_map(named).collect()
}

/// Leaves only names that fit the row: what somebody wrote over a beginning is the value, and
/// nothing is missing there any more.
pub(crate) fn keep_fitting_names(table: &Table, row: &mut Row) {
    let Some(place) = table.body_names() else {
        return;
    };
    let Some(Value::Object(mut names)) = row.remove(place.name) else {
        return;
    };
    names.retain(|column, name| {
        let column = table.bodies().find(|known| known.name == column);
        let name: Result<BodyName, _> = serde_json::from_value(name.clone());
        column.zip(name.ok()).is_some_and(|(column, name)| {
            let value = row.get(column.name);
            name.hash.parse::<ContentHash>().is_ok()
                && name.bytes > BODY_IN_ROW_BYTES_MAX as u64
                && fits(column, &name, value)
        })
    });
    if !names.is_empty() {
        row.insert(place.name.to_owned(), Value::Object(names));
    }
}

fn fits(column: &Column, name: &BodyName, value: Option<&Value>) -> bool {
    match (column.ty, value, &name.prefix) {
        (ColumnType::Text, Some(Value::String(text)), Some(prefix)) => {
            text.len() <= BODY_PREFIX_BYTES_MAX && check(text) == *prefix
        }
        (ColumnType::Json, None, None) => true,
        _ => false,
    }
}

/// Parts a canonical row: returns it without its long values, and these; none for a row that has
/// no long value in it.
#[must_use]
pub fn part(table: &Table, row: &Row) -> Option<(Row, Vec<Body>)> {
    let long: Vec<(&Column, Cow<'_, str>)> = table
        .bodies()
        .filter_map(|column| Some((column, long_text(column, row.get(column.name)?)?)))
        .collect();
    if long.is_empty() {
        return None;
    }
    let place = table.body_names()?;
    let mut names = match row.get(place.name) {
        Some(Value::Object(names)) => names.clone(),
        _ => Map::new(),
    };
    let mut parted = Row::new();
    for (key, value) in row {
        if key == place.name {
            continue;
        }
        match long.iter().find(|(column, _)| column.name == key) {
            None => {
                parted.insert(key.clone(), value.clone());
            }
            Some((column, text)) if column.ty == ColumnType::Text => {
                parted.insert(key.clone(), Value::from(prefix(text)));
            }
            Some(_) => {}
        }
    }
    let mut bodies = Vec::with_capacity(long.len());
    for (column, text) in long {
        let hash = hash(&text);
        let name = named(column, &text, hash);
        let name = serde_json::to_value(name).unwrap_or_default();
        names.insert(column.name.to_owned(), name);
        bodies.push(Body {
            hash: hash.to_string(),
            text: text.into_owned(),
        });
    }
    parted.insert(place.name.to_owned(), Value::Object(names));
    Some((parted, bodies))
}

/// Returns the row parted, and nothing else.
#[must_use]
pub fn parted(table: &Table, row: Row) -> Row {
    match part(table, &row) {
        Some((parted, _)) => parted,
        None => row,
    }
}

/// Puts a body into its place in a parted row. Returns whether it belongs there: the row names
/// it, and its bytes are those that the name says.
pub fn join(table: &Table, row: &mut Row, column: &Column, text: &str) -> bool {
    let wanted = names(table, row).into_iter();
    let wanted = wanted.filter(|(known, _)| known.name == column.name);
    if wanted.map(|(_, wanted)| wanted).next() != Some(name(column, text)) {
        return false;
    }
    let value = match column.ty {
        ColumnType::Json => match serde_json::from_str(text) {
            Ok(value) => value,
            Err(_) => return false,
        },
        _ => Value::from(text),
    };
    row.insert(column.name.to_owned(), value);
    forget_name(table, row, column);
    true
}

/// Fills a parted row with what `known` holds: the same row as it was, whole or in part.
pub fn keep_known(table: &Table, row: &mut Row, known: &Row) {
    for (column, name) in names(table, row) {
        let Some(value) = known.get(column.name) else {
            continue;
        };
        let same = long_text(column, value).is_some_and(|text| self::name(column, &text) == name);
        if same {
            row.insert(column.name.to_owned(), value.clone());
            forget_name(table, row, column);
        }
    }
}

fn forget_name(table: &Table, row: &mut Row, column: &Column) {
    let Some(place) = table.body_names() else {
        return;
    };
    if let Some(Value::Object(names)) = row.get_mut(place.name) {
        names.remove(column.name);
        if names.is_empty() {
            row.remove(place.name);
        }
    }
}

/// Returns what the content hash covers in place of a column's value: the same for both forms of
/// a row. None for a short value.
pub(crate) fn hashed(table: &Table, row: &Row, column: &Column) -> Option<Value> {
    let stands = |hash: &str, bytes: u64| serde_json::json!({"body": hash, "bytes": bytes});
    if let Some(Value::Object(names)) = row.get(table.body_names()?.name)
        && let Some(name) = names.get(column.name)
        && let Ok(name) = serde_json::from_value::<BodyName>(name.clone())
        // A beginning that is not the body's is a value, or damaged.
        && fits(column, &name, row.get(column.name))
    {
        return Some(stands(&name.hash, name.bytes));
    }
    let text = long_text(column, row.get(column.name)?)?;
    Some(stands(&hash(&text).to_string(), text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{canonical, hash as content};
    use coditect_protocol::catalogue::by_cloud_name;
    use serde_json::json;

    fn messages() -> &'static Table {
        by_cloud_name("context_messages").unwrap()
    }

    fn whole(content: &str, blocks: Value) -> Row {
        let row = json!({"message_id": "m", "session_id": "s", "role": "user",
            "content": content, "content_blocks": blocks});
        canonical::row(messages(), row.as_object().unwrap().clone())
    }

    fn long() -> Row {
        let text = "Zürich \u{0} ".repeat(2_000);
        whole(&text, json!([{"type": "tool_result", "content": text}]))
    }

    #[test]
    fn both_forms_of_a_row_have_one_hash_and_become_each_other() {
        let table = messages();
        let row = long();
        let (parted, bodies) = part(table, &row).unwrap();
        assert_eq!(canonical::row(table, parted.clone()), parted);
        assert_eq!(
            content::content(table, &parted),
            content::content(table, &row)
        );
        assert!(parted.get("content_blocks").is_none());
        let beginning = parted["content"].as_str().unwrap();
        assert!(beginning.len() <= BODY_PREFIX_BYTES_MAX && beginning.starts_with("Zürich"));
        assert!(part(table, &parted).is_none());
        let mut joined = parted;
        for ((column, name), body) in names(table, &joined.clone()).iter().zip(&bodies) {
            assert_eq!(name.hash, body.hash);
            assert!(!join(table, &mut joined, column, "other"));
            assert!(join(table, &mut joined, column, &body.text));
        }
        assert_eq!(joined, row);
    }

    #[test]
    fn another_body_is_another_content() {
        let table = messages();
        let one = part(table, &whole(&"a".repeat(9_000), json!([])))
            .unwrap()
            .0;
        let other = format!("{}b", "a".repeat(8_999));
        let other = part(table, &whole(&other, json!([]))).unwrap().0;
        assert_eq!(one["content"], other["content"]);
        assert_ne!(
            content::content(table, &one),
            content::content(table, &other)
        );
    }

    #[test]
    fn a_damaged_beginning_or_name_is_another_content() {
        let (parted, _) = part(messages(), &long()).unwrap();
        let right = content::content(messages(), &parted);
        let flips: [fn(&mut Row); 3] = [
            |row| row["content"] = json!("Zurich"),
            |row| row["bodies"]["content"]["bytes"] = json!(9_000),
            |row| row["bodies"]["content_blocks"]["hash"] = json!("00"),
        ];
        for flip in flips {
            let mut row = parted.clone();
            flip(&mut row);
            assert_ne!(content::content(messages(), &row), right, "{row:?}");
        }
    }

    #[test]
    fn short_values_stay_and_hash_as_ever() {
        let table = messages();
        let row = whole(&"a".repeat(BODY_IN_ROW_BYTES_MAX), json!([1]));
        assert!(part(table, &row).is_none());
        let expected = serde_json_canonicalizer::to_vec(&row).unwrap();
        let expected = ContentHash(Sha256::digest(&expected).into());
        assert_eq!(content::content(table, &row), expected);
    }

    #[test]
    fn what_is_written_over_a_beginning_is_the_value() {
        let table = messages();
        let mut row = part(table, &long()).unwrap().0;
        row.insert("content".to_owned(), json!("mine"));
        let row = canonical::row(table, row);
        let named: Vec<_> = names(table, &row).iter().map(|(c, _)| c.name).collect();
        assert_eq!(named, ["content_blocks"]);
        let mut row = row;
        row.insert("content_blocks".to_owned(), json!([]));
        assert!(canonical::row(table, row).get("bodies").is_none());
    }

    #[test]
    fn a_known_row_fills_only_what_it_really_has() {
        let table = messages();
        let known = long();
        let mut row = part(table, &known).unwrap().0;
        keep_known(table, &mut row, &whole("short", json!([])));
        assert_eq!(names(table, &row).len(), 2);
        keep_known(table, &mut row, &known);
        assert_eq!(row, known);
    }

    #[test]
    fn only_canonical_json_travels_as_a_value() {
        for text in [
            r#"[{"a":1.5e-7,"b":"\u0001\n\t€"}]"#,
            "[1,2,333333333.3333333]",
            "{}",
        ] {
            let value = as_value(text).map(|value| text_of(&value));
            assert_eq!(value.as_deref(), Some(text));
        }
        for text in [
            "[1, 2]",
            r#"{"b":1,"a":2}"#,
            "[1e2]",
            "words",
            "\"text\"",
            "[1",
        ] {
            assert_eq!(as_value(text), None, "{text}");
        }
    }
}

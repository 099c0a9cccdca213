//! Between SQLite's values and those of a row on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coditect_core::canonical::EXTRA;
use coditect_protocol::catalogue::{Column, ColumnType, Merge, Table};
use coditect_protocol::wire::Row;
use rusqlite::types::{Value as Sql, ValueRef};
use serde_json::{Map, Number, Value};

/// Reads a column's value into a raw row; what no JSON value can carry goes to its `extra`.
pub(crate) fn read_into(raw: &mut Row, column: &Column, value: ValueRef<'_>) {
    match from_sql(column, value) {
        Ok(None) => {}
        Ok(Some(value)) => {
            raw.insert(column.name.to_owned(), value);
        }
        Err(text) => {
            extra_of(raw).insert(column.name.to_owned(), Value::String(text));
        }
    }
}

/// Reads the `extra` column into a raw row. A required column whose value stands there holds an
/// empty placeholder, because it cannot be NULL.
pub(crate) fn read_extra(raw: &mut Row, table: &Table, text: Option<&str>) {
    let Some(Ok(Value::Object(stored))) = text.map(serde_json::from_str::<Value>) else {
        return;
    };
    for (name, value) in stored {
        let placeholder = table.column(&name).is_some_and(|column| column.required)
            && raw.get(&name).is_some_and(|value| value == "");
        if placeholder {
            raw.remove(&name);
        }
        if !raw.contains_key(&name) {
            extra_of(raw).entry(name).or_insert(value);
        }
    }
}

/// Returns the value to store in a column.
pub(crate) fn to_sql(column: &Column, value: Option<&Value>) -> Sql {
    let Some(value) = value else {
        return if column.required {
            Sql::Text(String::new())
        } else {
            Sql::Null
        };
    };
    match (column.ty, value) {
        (ColumnType::Json, value) => Sql::Text(value.to_string()),
        (ColumnType::Blob, Value::String(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Sql::Blob(bytes),
            Err(_) => Sql::Text(text.clone()),
        },
        (_, Value::String(text)) => Sql::Text(text.clone()),
        (_, Value::Bool(truth)) => Sql::Integer(i64::from(*truth)),
        (ColumnType::Real, Value::Number(number)) => Sql::Real(number.as_f64().unwrap_or_default()),
        (_, Value::Number(number)) => number
            .as_i64()
            .map_or_else(|| Sql::Text(number.to_string()), Sql::Integer),
        (_, Value::Null) => Sql::Null,
        (_, other) => Sql::Text(other.to_string()),
    }
}

/// Returns the `extra` column's text.
pub(crate) fn extra_to_sql(row: &Row) -> Sql {
    match row.get(EXTRA) {
        Some(extra) => Sql::Text(extra.to_string()),
        None => Sql::Null,
    }
}

/// Adds the schema's defaults for columns without a value.
pub(crate) fn fill_defaults(table: &Table, row: &mut Row) {
    for column in table.columns {
        if row.contains_key(column.name) {
            continue;
        }
        if let Some(literal) = column.default {
            row.insert(column.name.to_owned(), literal_value(literal));
        }
    }
}

/// Returns an integer column's value, 0 if it has none.
pub(crate) fn integer(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or(0)
}

/// Returns the row's values of the columns that merge by `max`.
pub(crate) fn maxima(table: &Table, row: &Row) -> Row {
    let values = table.columns_by(Merge::Max).filter_map(|column| {
        let value = row.get(column.name)?;
        Some((column.name.to_owned(), value.clone()))
    });
    values.collect()
}

/// Returns whether `a` is greater than `b` in the column's order; a value is greater than none.
pub(crate) fn is_greater(column: &Column, a: Option<&Value>, b: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (a, b) else {
        return a.is_some() && b.is_none();
    };
    match column.ty {
        ColumnType::Integer => left.as_i64() > right.as_i64(),
        ColumnType::Real => left.as_f64() > right.as_f64(),
        _ => left.as_str() > right.as_str(),
    }
}

fn extra_of(raw: &mut Row) -> &mut Map<String, Value> {
    let entry = raw
        .entry(EXTRA)
        .or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

fn from_sql(column: &Column, value: ValueRef<'_>) -> Result<Option<Value>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(Value::from(number))),
        ValueRef::Real(number) => Number::from_f64(number)
            .map(|number| Some(Value::Number(number)))
            .ok_or_else(|| number.to_string()),
        ValueRef::Text(bytes) => text(column, String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) if column.ty == ColumnType::Blob => {
            Ok(Some(Value::String(STANDARD.encode(bytes))))
        }
        ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(valid) => text(column, valid.to_owned()),
            Err(_) => Err(STANDARD.encode(bytes)),
        },
    }
}

fn text(column: &Column, text: String) -> Result<Option<Value>, String> {
    if column.ty != ColumnType::Json {
        return Ok(Some(Value::String(text)));
    }
    match serde_json::from_str(&text) {
        Ok(Value::Null) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(text),
    }
}

fn literal_value(literal: &str) -> Value {
    if let Some(text) = literal
        .strip_prefix('\'')
        .and_then(|l| l.strip_suffix('\''))
    {
        return Value::String(text.replace("''", "'"));
    }
    serde_json::from_str(literal).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_core::canonical;
    use coditect_protocol::catalogue::{TABLES, by_cloud_name};
    use serde_json::json;

    fn read(table: &Table, name: &str, value: ValueRef<'_>) -> Value {
        let mut raw = Row::new();
        read_into(&mut raw, table.column(name).unwrap(), value);
        Value::Object(canonical::row(table, raw))
    }

    #[test]
    fn odd_values_travel_in_extra() {
        let table = by_cloud_name("org_decisions").unwrap();
        let cases = [
            (
                "tags",
                ValueRef::Text(b"not json"),
                json!({"extra": {"tags": "not json"}}),
            ),
            ("tags", ValueRef::Text(b"[1, 2]"), json!({"tags": [1, 2]})),
            ("tags", ValueRef::Text(b"null"), json!({})),
            (
                "confidence",
                ValueRef::Text(b"high"),
                json!({"extra": {"confidence": "high"}}),
            ),
            (
                "confidence",
                ValueRef::Real(f64::INFINITY),
                json!({"extra": {"confidence": "inf"}}),
            ),
            ("title", ValueRef::Blob(b"text"), json!({"title": "text"})),
            (
                "title",
                ValueRef::Blob(&[0xff]),
                json!({"extra": {"title": "/w=="}}),
            ),
        ];
        for (name, value, expected) in cases {
            assert_eq!(read(table, name, value), expected, "{name} {value:?}");
        }
    }

    #[test]
    fn a_placeholder_is_no_value_and_a_new_value_replaces_extra() {
        let table = by_cloud_name("org_decisions").unwrap();
        let extra = Some(r#"{"title": "/w=="}"#);
        let mut raw = Row::new();
        raw.insert("title".to_owned(), json!(""));
        read_extra(&mut raw, table, extra);
        assert_eq!(Value::Object(raw), json!({"extra": {"title": "/w=="}}));
        let mut raw = Row::new();
        raw.insert("title".to_owned(), json!("new"));
        read_extra(&mut raw, table, extra);
        assert_eq!(Value::Object(raw), json!({"title": "new"}));
    }

    #[test]
    fn every_default_of_the_catalogue_is_of_its_columns_type() {
        for table in TABLES {
            let mut row = Row::new();
            fill_defaults(table, &mut row);
            let filled = row.len();
            let canonical = canonical::row(table, row);
            assert!(!canonical.contains_key(EXTRA), "{}", table.cloud);
            assert_eq!(canonical.len(), filled, "{}", table.cloud);
        }
    }
}

//! Catalogue columns between JSON and PostgreSQL: arrays for multi-row inserts, and rows back to
//! JSON. Texts are escaped on the way in and unescaped on the way out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use coditect_core::canonical::{self, EXTRA};
use coditect_protocol::catalogue::{Column, ColumnType, Table};
use coditect_protocol::wire::Row;
use serde_json::Value;
use tokio_postgres::Row as DbRow;
use tokio_postgres::types::{Json, ToSql, Type};

use super::escape;
use crate::StoreError;

/// The values of one column for many rows.
#[derive(Debug)]
pub(super) enum Array<'a> {
    Text(Vec<Option<Cow<'a, str>>>),
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
    Timestamp(Vec<Option<DateTime<Utc>>>),
    Json(Vec<Option<Json<Cow<'a, Value>>>>),
    Blob(Vec<Option<Vec<u8>>>),
}

impl<'a> Array<'a> {
    /// Returns the column's values of all rows, `None` for tombstones. Canonical rows hold
    /// nothing else than the column's type.
    pub(super) fn of(column: &Column, rows: &[Option<&'a Row>]) -> Self {
        let values = || {
            rows.iter()
                .map(|row| row.and_then(|row| row.get(column.name)))
        };
        match column.ty {
            ColumnType::Text => Self::Text(
                values()
                    .map(|value| Some(escape::text(value?.as_str()?)))
                    .collect(),
            ),
            ColumnType::Integer => Self::Integer(values().map(|value| value?.as_i64()).collect()),
            ColumnType::Real => Self::Real(values().map(|value| value?.as_f64()).collect()),
            ColumnType::Boolean => Self::Boolean(values().map(|value| value?.as_bool()).collect()),
            ColumnType::Timestamp => {
                Self::Timestamp(values().map(|value| time(value?.as_str()?)).collect())
            }
            ColumnType::Json => Self::json(values()),
            ColumnType::Blob => Self::Blob(
                values()
                    .map(|value| STANDARD.decode(value?.as_str()?).ok())
                    .collect(),
            ),
        }
    }

    /// Returns the misfits of all rows.
    pub(super) fn extra(rows: &[Option<&'a Row>]) -> Self {
        Self::json(rows.iter().map(|row| row.and_then(|row| row.get(EXTRA))))
    }

    fn json(values: impl Iterator<Item = Option<&'a Value>>) -> Self {
        Self::Json(
            values
                .map(|value| Some(Json(escape::json(value?))))
                .collect(),
        )
    }

    /// Returns the parameter with its type on the wire.
    pub(super) fn param(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(values) => (values, Type::TEXT_ARRAY),
            Self::Integer(values) => (values, Type::INT8_ARRAY),
            Self::Real(values) => (values, Type::FLOAT8_ARRAY),
            Self::Boolean(values) => (values, Type::BOOL_ARRAY),
            Self::Timestamp(values) => (values, Type::TIMESTAMPTZ_ARRAY),
            Self::Json(values) => (values, Type::JSONB_ARRAY),
            Self::Blob(values) => (values, Type::BYTEA_ARRAY),
        }
    }
}

/// Returns the canonical row: `extra` at position `first`, the table's own columns behind it.
pub(super) fn read(table: &Table, row: &DbRow, first: usize) -> Result<Row, StoreError> {
    let mut object = Row::new();
    for (position, column) in table.columns.iter().enumerate() {
        if let Some(value) = value(column, row, first + 1 + position)? {
            object.insert(column.name.to_owned(), value);
        }
    }
    if let Some(Json(extra)) = row.try_get::<_, Option<Json<Value>>>(first)? {
        object.insert(EXTRA.to_owned(), escape::original_json(extra));
    }
    Ok(object)
}

fn value(column: &Column, row: &DbRow, position: usize) -> Result<Option<Value>, StoreError> {
    Ok(match column.ty {
        ColumnType::Text => {
            let text: Option<&str> = row.try_get(position)?;
            text.map(|text| Value::String(escape::original(text).into_owned()))
        }
        ColumnType::Integer => row.try_get::<_, Option<i64>>(position)?.map(Value::from),
        ColumnType::Real => row.try_get::<_, Option<f64>>(position)?.map(Value::from),
        ColumnType::Boolean => row.try_get::<_, Option<bool>>(position)?.map(Value::from),
        ColumnType::Timestamp => {
            let moment: Option<DateTime<Utc>> = row.try_get(position)?;
            moment.map(|moment| Value::String(time_text(moment)))
        }
        ColumnType::Json => match row.try_get::<_, Option<Json<Value>>>(position)? {
            // jsonb writes large doubles as integers, so the numbers need their form again.
            Some(Json(value)) => canonical::value(column, escape::original_json(value)).ok(),
            None => None,
        },
        ColumnType::Blob => {
            let bytes: Option<&[u8]> = row.try_get(position)?;
            bytes.map(|bytes| Value::String(STANDARD.encode(bytes)))
        }
    })
}

/// Returns the moment of a canonical time.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|moment| moment.to_utc())
}

/// Returns the canonical text of a moment.
pub(super) fn time_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Micros, true)
}

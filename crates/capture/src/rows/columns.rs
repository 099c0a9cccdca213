//! Puts optional values under column names; absent ones are left out.

use coditect_protocol::limits::INTEGER_MAX;
use coditect_protocol::wire::Row;
use serde_json::Value;

/// Collects the columns of one row.
#[derive(Debug, Default)]
pub(super) struct Columns(Row);

impl Columns {
    pub(super) fn text(mut self, name: &str, value: impl Into<Option<String>>) -> Self {
        if let Some(text) = value.into() {
            self.0.insert(name.to_owned(), Value::String(text));
        }
        self
    }

    /// Integers above the largest exact one are stored as that one.
    pub(super) fn integer(mut self, name: &str, value: impl Into<Option<u64>>) -> Self {
        if let Some(number) = value.into() {
            let number = number.min(INTEGER_MAX.unsigned_abs());
            self.0.insert(name.to_owned(), Value::from(number));
        }
        self
    }

    pub(super) fn boolean(mut self, name: &str, value: impl Into<Option<bool>>) -> Self {
        if let Some(flag) = value.into() {
            self.0.insert(name.to_owned(), Value::Bool(flag));
        }
        self
    }

    pub(super) fn json(mut self, name: &str, value: impl Into<Option<Value>>) -> Self {
        if let Some(value) = value.into()
            && !value.is_null()
        {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// A JSON array, left out when it is empty.
    pub(super) fn list(self, name: &str, items: Vec<String>) -> Self {
        if items.is_empty() {
            self
        } else {
            self.json(name, Value::from(items))
        }
    }

    pub(super) fn finish(self) -> Row {
        self.0
    }
}

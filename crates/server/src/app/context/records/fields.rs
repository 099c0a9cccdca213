//! From the fields of a request to the columns of a record. Pure; redacts.

use coditect_core::canonical::{self, EXTRA};
use coditect_core::hash;
use coditect_core::redact::{Report, redact_text, redact_value};
use coditect_protocol::RowId;
use coditect_protocol::catalogue::{Column, ColumnType};
use coditect_protocol::wire::Row;
use serde_json::Value;

use super::Kind;

/// What makes a record, checked and redacted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct New {
    id: Option<RowId>,
    columns: Row,
    /// Columns of a record that is not there yet and that nobody gave.
    defaults: Row,
}

impl New {
    /// Checks the fields of a request.
    pub(super) fn read(kind: &Kind, mut body: Row) -> Result<Self, String> {
        let given = match body.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.parse().map_err(|_| "id is no UUID")?),
            Some(_) => return Err("id is no UUID".to_owned()),
        };
        let columns = columns(kind, body, &[])?;
        let table = kind.table();
        for column in table.columns.iter().filter(|column| column.required) {
            if columns.get(column.name).is_none_or(Value::is_null) {
                return Err(format!("{} is required", column.name));
            }
        }
        let named = match kind.known_by {
            [] => None,
            names => {
                let part = |name: &&str| columns.get(*name).and_then(Value::as_str);
                let parts: Vec<&str> = names.iter().filter_map(part).collect();
                Some(hash::named_id(table, &parts))
            }
        };
        if named.is_some() && given.is_some_and(|id| Some(id) != named) {
            let names = kind.known_by.join(" and ");
            return Err(format!("the id of a {} is made from {names}", kind.noun));
        }
        let defaults = table.columns.iter().filter_map(|column| {
            let value = column.default.map(literal)?;
            Some((column.name.to_owned(), value))
        });
        Ok(Self {
            id: named.or(given),
            defaults: defaults.collect(),
            columns,
        })
    }

    /// Returns the id, if it is known beforehand.
    pub(super) const fn id(&self) -> Option<RowId> {
        self.id
    }

    /// Returns the columns to store over those that are stored, if any are.
    pub(super) fn apply(&self, stored: Option<&Row>) -> Row {
        merged(stored.unwrap_or(&self.defaults), &self.columns)
    }
}

/// What changes a record, checked and redacted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    /// Columns to set, and with null those to clear.
    columns: Row,
}

impl Edit {
    /// Checks the fields of a request.
    pub(super) fn read(kind: &Kind, body: Row) -> Result<Self, String> {
        let columns = columns(kind, body, kind.known_by)?;
        let required = kind.table().columns.iter().filter(|column| column.required);
        for column in required {
            if columns.get(column.name).is_some_and(Value::is_null) {
                return Err(format!("{} is required", column.name));
            }
        }
        Ok(Self { columns })
    }

    /// Returns the columns to store over those that are stored.
    pub(super) fn apply(&self, stored: &Row) -> Row {
        merged(stored, &self.columns)
    }
}

/// Returns the row with some columns set, and those cleared that are null.
fn merged(stored: &Row, columns: &Row) -> Row {
    let mut row = stored.clone();
    for (name, value) in columns {
        if let Some(Value::Object(misfits)) = row.get_mut(EXTRA) {
            misfits.remove(name);
        }
        if value.is_null() {
            row.remove(name);
        } else {
            row.insert(name.clone(), value.clone());
        }
    }
    row
}

/// Returns the columns that a request sets, in canonical form; null clears one, as an empty text
/// does. Columns in `fixed` cannot be set.
fn columns(kind: &Kind, body: Row, fixed: &[&str]) -> Result<Row, String> {
    let known: Vec<&Column> = kind
        .table()
        .columns
        .iter()
        .filter(|column| !fixed.contains(&column.name))
        .collect();
    let mut columns = Row::new();
    for (name, value) in body {
        // Only names of columns are ours to print; others may be content.
        let Some(column) = known.iter().find(|column| column.name == name) else {
            let names: Vec<&str> = known.iter().map(|column| column.name).collect();
            let (noun, names) = (kind.noun, names.join(", "));
            return Err(format!("a field that a {noun} has not: it has {names}"));
        };
        columns.insert(name, self::value(kind, column, value)?);
    }
    Ok(columns)
}

fn value(kind: &Kind, column: &Column, mut value: Value) -> Result<Value, String> {
    if value.is_null() || value == "" {
        return Ok(Value::Null);
    }
    match (&mut value, column.ty) {
        (Value::String(text), ColumnType::Text) => {
            *text = redact_text(text, &mut Report::default()).into_owned();
        }
        (value, ColumnType::Json) => redact_value(value, &mut Report::default()),
        _ => {}
    }
    let value = canonical::value(column, value)
        .map_err(|_| format!("{} is {}", column.name, misfit(column.ty)))?;
    let share = |value: &Value| {
        value
            .as_f64()
            .is_some_and(|share| (0.0..=1.0).contains(&share))
    };
    if kind.shares.contains(&column.name) && !share(&value) {
        return Err(format!("{} is no number from 0 to 1", column.name));
    }
    Ok(value)
}

/// Says what a value that does not fit its column is not.
const fn misfit(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Text => "no text",
        ColumnType::Integer => "no whole number up to 2^53",
        ColumnType::Real => "no number",
        ColumnType::Boolean => "neither true nor false",
        ColumnType::Timestamp => "no RFC 3339 time",
        ColumnType::Json => "no JSON",
        ColumnType::Blob => "no base64",
    }
}

/// Returns the value of a default's SQL literal.
fn literal(sql: &str) -> Value {
    let text = sql
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    text.map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::super::{CALIBRATION, CHECKPOINT, KINDS, METRIC, SPRINT, TRACK};
    use super::*;
    use serde_json::json;

    fn new(kind: &Kind, body: Value) -> Result<New, String> {
        New::read(kind, body.as_object().unwrap().clone())
    }

    fn edit(kind: &Kind, body: Value) -> Result<Edit, String> {
        Edit::read(kind, body.as_object().unwrap().clone())
    }

    #[test]
    fn a_new_record_has_its_defaults_in_canonical_form() {
        let body = json!({"name": "S1", "project_id": "p", "goal": "", "position": 3.0,
            "start_date": "2026-03-02", "metadata": {"a": null}});
        let made = new(&SPRINT, body).unwrap();
        assert_eq!(made.id(), None);
        let expected = json!({"name": "S1", "project_id": "p", "position": 3,
            "start_date": "2026-03-02T00:00:00.000000Z", "metadata": {"a": null},
            "status": "planned"});
        assert_eq!(Value::Object(made.apply(None)), expected);
        // What is there keeps what nobody gives.
        let stored = json!({"name": "S0", "project_id": "p", "status": "active", "goal": "g"});
        let row = made.apply(stored.as_object());
        assert_eq!(
            (&row["name"], &row["status"], row.get("goal")),
            (&json!("S1"), &json!("active"), None)
        );
    }

    #[test]
    fn defaults_are_texts() {
        for kind in KINDS {
            for column in kind.table().columns {
                let value = column.default.map(literal);
                assert!(value.is_none_or(|value| value.is_string()), "{column:?}");
            }
        }
    }

    #[test]
    fn a_track_is_known_by_project_and_letter() {
        let made = new(&TRACK, json!({"project_id": "p", "track_id": "J"})).unwrap();
        let id = hash::named_id(TRACK.table(), &["p", "J"]);
        assert_eq!(made.id(), Some(id));
        let same = json!({"project_id": "p", "track_id": "J", "id": id, "name": "n"});
        assert_eq!(new(&TRACK, same).unwrap().id(), Some(id));
        let other = json!({"project_id": "p", "track_id": "K", "id": id});
        assert!(new(&TRACK, other).unwrap_err().starts_with("the id of a"));
        let moved = edit(&TRACK, json!({"track_id": "K"})).unwrap_err();
        assert!(moved.starts_with("a field that a track has not"), "{moved}");
    }

    #[test]
    fn an_edit_sets_and_clears_and_takes_misfits_away() {
        let stored = json!({"name": "S1", "project_id": "p", "goal": "g", "status": "planned",
            "extra": {"start_date": "soon", "end_date": "later"}});
        let body = json!({"goal": null, "status": "", "start_date": "2026-03-02T01:00:00+01:00"});
        let row = edit(&SPRINT, body)
            .unwrap()
            .apply(stored.as_object().unwrap());
        let expected = json!({"name": "S1", "project_id": "p",
            "start_date": "2026-03-02T00:00:00.000000Z", "extra": {"end_date": "later"}});
        assert_eq!(Value::Object(row), expected);
    }

    #[test]
    fn mistakes_name_the_field_and_repeat_nothing() {
        for (kind, body, expected) in [
            (&SPRINT, json!({"name": "n"}), "project_id is required"),
            (
                &SPRINT,
                json!({"name": "", "project_id": "p"}),
                "name is required",
            ),
            (&METRIC, json!({"metric_name": 7}), "metric_name is no text"),
            (
                &METRIC,
                json!({"metric_name": "m", "metric_value": "hunter2"}),
                "metric_value is no number",
            ),
            (
                &METRIC,
                json!({"metric_name": "m", "hunter2": 1}),
                "a field that a metric has not: it has metric_name, metric_value",
            ),
            (
                &CALIBRATION,
                json!({"model": "m", "actual": 1.5}),
                "actual is no number from 0 to 1",
            ),
            (
                &CALIBRATION,
                json!({"model": "m", "sample_size": 1e300}),
                "sample_size is no whole number",
            ),
            (
                &CHECKPOINT,
                json!({"name": "n", "date": "hunter2"}),
                "date is no RFC 3339 time",
            ),
            (
                &CHECKPOINT,
                json!({"name": "n", "id": "hunter2"}),
                "id is no",
            ),
            (&CHECKPOINT, json!({"name": "n", "id": 5}), "id is no UUID"),
            (
                &CHECKPOINT,
                json!({"name": "n", "extra": {"date": "x"}}),
                "a field that",
            ),
        ] {
            let detail = new(kind, body.clone()).unwrap_err();
            assert!(detail.starts_with(expected), "{body}: {detail}");
            assert!(!detail.contains("hunter2"), "{detail}");
        }
        let detail = edit(&SPRINT, json!({"name": null})).unwrap_err();
        assert_eq!(detail, "name is required");
    }

    #[test]
    fn secrets_are_gone() {
        let key = format!("{}{}", "ghp_", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let body = json!({"name": key, "summary": key, "metadata": {"deep": [{"x": key}]}});
        let row = new(&CHECKPOINT, body).unwrap().apply(None);
        let text = Value::Object(row).to_string();
        assert!(
            !text.contains(&key) && text.contains("[REDACTED:"),
            "{text}"
        );
    }
}

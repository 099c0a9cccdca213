//! Schemas of the records that have routes of their own, made from the catalogue of tables.

use coditect_protocol::catalogue::{Column, ColumnType};
use coditect_protocol::limits::INTEGER_MAX;
use serde_json::{Map, Value, json};

use super::reference;
use crate::app::context::records::{KINDS, Kind};

/// Adds for each kind the schemas of a record, a page of them, a new one, and the change of one
/// where there are changes.
pub(super) fn add(schemas: &mut Map<String, Value>) {
    for kind in KINDS {
        schemas.insert(kind.name.to_owned(), record(kind));
        schemas.insert(format!("{}Page", kind.name), page(kind));
        schemas.insert(format!("New{}", kind.name), new(kind));
        if kind.can_change() {
            schemas.insert(format!("{}Edit", kind.name), edit(kind));
        }
    }
}

fn record(kind: &Kind) -> Value {
    let table = kind.table();
    let column = |column: &Column| (column.name.to_owned(), stored(column));
    let mut properties: Map<String, Value> = table.columns.iter().map(column).collect();
    for (name, schema) in [
        ("id", reference("RowId")),
        ("scope", reference("Scope")),
        ("user_id", or_null(&reference("UserId"))),
        ("device_id", reference("DeviceId")),
        ("content_hash", reference("ContentHash")),
        ("created_at", reference("Timestamp")),
        ("updated_at", reference("Timestamp")),
        (
            "sync_cursor",
            json!({ "type": "integer", "format": "int64" }),
        ),
    ] {
        properties.insert(name.to_owned(), schema);
    }
    let required: Vec<String> = properties.keys().cloned().collect();
    properties.insert(
        "extra".to_owned(),
        json!({
            "type": "object",
            "description": "Values that do not fit their column, as text",
            "additionalProperties": { "type": "string" },
        }),
    );
    json!({
        "type": "object",
        "description": format!("{} Null stands for what one lacks.", table.doc),
        "properties": properties,
        "required": required,
    })
}

fn page(kind: &Kind) -> Value {
    json!({
        "type": "object",
        "description": "Records behind the position asked for, in the order of the stream",
        "required": [kind.plural, "cursor", "has_more", "epoch"],
        "properties": {
            kind.plural: { "type": "array", "items": reference(kind.name) },
            "cursor": { "type": "integer", "format": "int64",
                "description": "Position to ask for next" },
            "has_more": { "type": "boolean",
                "description": "Whether there is more behind it now" },
            "epoch": reference("Epoch"),
        },
    })
}

fn new(kind: &Kind) -> Value {
    let table = kind.table();
    let column = |column: &Column| (column.name.to_owned(), given(kind, column));
    let mut properties: Map<String, Value> = table.columns.iter().map(column).collect();
    let id = "The record's id, made by the caller, so that sending it again makes no other; the \
        server makes one when it is left out";
    let mut schema = or_null(&reference("RowId"));
    schema["description"] = json!(id);
    properties.insert("id".to_owned(), schema);
    let required = table.columns.iter().filter(|column| column.required);
    let required: Vec<&str> = required.map(|column| column.name).collect();
    json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn edit(kind: &Kind) -> Value {
    let columns = kind.table().columns.iter();
    let columns = columns.filter(|column| !kind.known_by.contains(&column.name));
    let column = |column: &Column| (column.name.to_owned(), given(kind, column));
    json!({
        "type": "object",
        "description": "A field left out stays; null or an empty text clears one",
        "properties": columns.map(column).collect::<Map<String, Value>>(),
        "additionalProperties": false,
    })
}

/// Returns the schema of a column as it is shown.
fn stored(column: &Column) -> Value {
    match column.ty {
        ColumnType::Timestamp => or_null(&reference("Timestamp")),
        ColumnType::Json => json!({ "description": "Any JSON" }),
        ty => json!({ "type": [name(ty), "null"] }),
    }
}

/// Returns the schema of a column as it may be given.
fn given(kind: &Kind, column: &Column) -> Value {
    let mut schema = match column.ty {
        ColumnType::Timestamp => json!({ "type": "string",
            "description": "RFC 3339 time, or a day such as 2026-03-02" }),
        ColumnType::Json => return json!({ "description": "Any JSON; null clears it" }),
        ColumnType::Integer => {
            json!({ "type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX })
        }
        ty => json!({ "type": name(ty) }),
    };
    if kind.shares.contains(&column.name) {
        schema["minimum"] = json!(0);
        schema["maximum"] = json!(1);
    }
    if column.required {
        if column.ty == ColumnType::Text {
            schema["minLength"] = json!(1);
        }
    } else {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}

fn or_null(schema: &Value) -> Value {
    json!({ "oneOf": [schema, { "type": "null" }] })
}

const fn name(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Integer => "integer",
        ColumnType::Real => "number",
        ColumnType::Boolean => "boolean",
        ColumnType::Text | ColumnType::Timestamp | ColumnType::Json | ColumnType::Blob => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_schemas_and_facts_no_change() {
        let mut schemas = Map::new();
        add(&mut schemas);
        assert_eq!(schemas.len(), 5 * 3 + 2);
        assert!(schemas.contains_key("SprintEdit") && !schemas.contains_key("MetricEdit"));
        assert!(schemas["TrackEdit"]["properties"]["track_id"].is_null());
        let required = &schemas["NewTrack"]["required"];
        assert_eq!(required, &json!(["project_id", "track_id"]));
        let share = &schemas["NewCalibration"]["properties"]["actual"];
        assert_eq!(
            share,
            &json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1 })
        );
    }
}

//! Schemas of rows and changes, made from the catalogue of tables.
//!
//! `x-table` says what a row's schema is of, `x-merge` how concurrent values of a column become
//! one: what a client needs to make ids and content hashes.

use coditect_protocol::catalogue::{Column, ColumnType, Direction, Identity, Merge, TABLES, Table};
use coditect_protocol::limits::INTEGER_MAX;
use serde_json::{Map, Value, json};

/// Standard base64 with padding.
const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";

/// Adds the schemas of all rows, and in place of the general `Change` one for each table that
/// takes pushes. `Stored` and `Change` must be there already.
pub(super) fn add(schemas: &mut Map<String, Value>) {
    for table in TABLES {
        schemas.insert(row_name(table), row(table));
    }
    let names: Vec<&str> = TABLES.iter().map(|table| table.cloud).collect();
    for of_stored in ["Stored", "TableDigest"] {
        if let Some(stored) = schemas.get_mut(of_stored) {
            stored["properties"]["table"]["enum"] = json!(names);
        }
    }
    let Some(general) = schemas.get("Change").cloned() else {
        return;
    };
    let pushed = || {
        TABLES
            .iter()
            .filter(|table| table.direction != Direction::Down)
    };
    for table in pushed() {
        schemas.insert(change_name(table), change(&general, table));
    }
    let mapping: Map<String, Value> = pushed()
        .map(|table| (table.cloud.to_owned(), path(&change_name(table)).into()))
        .collect();
    let choices: Vec<Value> = mapping
        .values()
        .map(|path| json!({ "$ref": path }))
        .collect();
    schemas.insert(
        "Change".to_owned(),
        json!({
            "description": general["description"],
            "oneOf": choices,
            "discriminator": { "propertyName": "table", "mapping": mapping },
        }),
    );
}

fn path(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

/// Returns `OrgDecisionsRow` for `org_decisions`.
fn row_name(table: &Table) -> String {
    format!("{}Row", type_name(table))
}

fn change_name(table: &Table) -> String {
    format!("{}Change", type_name(table))
}

fn type_name(table: &Table) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    table.cloud.split('_').map(capital).collect()
}

fn row(table: &Table) -> Value {
    let mut properties: Map<String, Value> = table
        .columns
        .iter()
        .map(|column| (column.name.to_owned(), self::column(column)))
        .collect();
    let text = json!({ "type": "string" });
    let misfits: Map<String, Value> = table
        .columns
        .iter()
        .map(|column| (column.name.to_owned(), text.clone()))
        .collect();
    properties.insert(
        "extra".to_owned(),
        json!({
            "type": "object",
            "description": "Values that do not fit their column, as text",
            "properties": misfits,
            "additionalProperties": false,
        }),
    );
    // A required column may have its value in `extra`; a key's may not.
    let key = table.identity.columns();
    let required = table.columns.iter().filter(|column| column.required);
    let required: Vec<&str> = required.map(|column| column.name).collect();
    json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "required": key,
        "additionalProperties": false,
        "x-table": {
            "cloud": table.cloud,
            "file": table.file,
            "direction": table.direction,
            "class": table.class,
            "key": key,
            "required": required,
            "per_device": matches!(table.identity, Identity::DerivedPerDevice(_)),
        },
    })
}

fn column(column: &Column) -> Value {
    let mut schema = match column.ty {
        ColumnType::Text => json!({ "type": "string" }),
        ColumnType::Integer => {
            json!({ "type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX })
        }
        ColumnType::Real => json!({ "type": "number" }),
        ColumnType::Boolean => json!({ "type": "boolean" }),
        ColumnType::Timestamp => json!({ "$ref": path("Timestamp") }),
        ColumnType::Json => json!({
            "description": "Any JSON but null",
            "type": ["string", "number", "boolean", "array", "object"],
        }),
        ColumnType::Blob => json!({ "type": "string", "pattern": BASE64 }),
    };
    schema["x-merge"] = json!(column.merge);
    schema
}

/// Returns the schema of a change of one table.
fn change(general: &Value, table: &Table) -> Value {
    let mut schema = general.clone();
    schema["description"] = json!(format!("A change of {}", table.cloud));
    let properties = &mut schema["properties"];
    properties["table"] = json!({ "type": "string", "enum": [table.cloud] });
    properties["row"] = json!({
        "description": "The row; none for a delete",
        "oneOf": [{ "$ref": path(&row_name(table)) }, { "type": "null" }],
    });
    let parts: Map<String, Value> = table
        .columns_by(Merge::Counter)
        .map(|column| {
            let part = json!({ "$ref": path("CounterPart") });
            (column.name.to_owned(), part)
        })
        .collect();
    properties["counters"] = json!({
        "type": "object",
        "description": "What this device has added to each counter column so far",
        "properties": parts,
        "additionalProperties": false,
    });
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Map<String, Value> {
        let mut schemas = Map::new();
        schemas.insert(
            "Change".to_owned(),
            json!({ "description": "d", "properties": {} }),
        );
        add(&mut schemas);
        schemas
    }

    #[test]
    fn each_table_has_a_row_and_each_pushed_one_a_change() {
        let schemas = schemas();
        let count = |end: &str| schemas.keys().filter(|name| name.ends_with(end)).count();
        let down = TABLES
            .iter()
            .filter(|table| table.direction == Direction::Down)
            .count();
        assert_eq!(count("Row"), TABLES.len());
        // The general one stands for them.
        assert_eq!(count("Change"), TABLES.len() - down + 1);
        let choices = schemas["Change"]["oneOf"].as_array().unwrap().len();
        assert_eq!(choices, TABLES.len() - down);
    }

    #[test]
    fn a_row_names_its_key_and_what_merges() {
        let schemas = schemas();
        let task = &schemas["ContextTaskTrackingRow"];
        assert_eq!(task["x-table"]["key"], json!(["session_id", "task_id"]));
        let learning = &schemas["OrgSkillLearningsRow"]["properties"];
        assert_eq!(learning["usage_count"]["x-merge"], "counter");
        let parts = &schemas["OrgSkillLearningsChange"]["properties"]["counters"];
        assert!(parts["properties"]["usage_count"].is_object(), "{parts}");
    }
}

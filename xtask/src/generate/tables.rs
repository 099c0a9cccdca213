//! The reference page of the synced tables, from the catalogue.

use std::fmt::Write;

use coditect_protocol::catalogue::{
    Class, Column, ColumnType, Direction, File, Identity, Merge, TABLES, Table,
};

const HEADER: &str = "\
# Synced tables

Made from the catalogue in `crates/protocol/src/catalogue/` by `cargo xtask generate`; do not edit.

Every table has these columns besides its own: on the device `seq`, `id`, `scope`, `user_id`,
`device_id`, `content_hash`, `version`, `created_at`, `updated_at`, `deleted_at`, `extra`; on the
server also `tenant_id`, `scope_id`, `origin_device` and `cursor`. The key is (tenant, scope, id).

- Direction: `down` comes from the server only; `up` goes to the server only; `mirror` goes up, and
  down to the author's other devices; `both` is written by any holder.
- Class: a `record` changes, a `fact` is append-only, a `catalogue` row is the operator's.
- Merge: `lww` columns are one register, whose later version wins while the other is kept; `max`
  keeps the greater value; `counter` adds up what each device added; `owner` has one writer.
- Type: as the device stores it, as it travels, as the server stores it.
";

/// Returns the whole page.
pub(crate) fn page() -> String {
    let mut page = HEADER.to_owned();
    for file in File::ALL {
        _ = write!(
            page,
            "\n## {file}.db\n\n| table | on the server | direction | class |\n"
        );
        page.push_str("|---|---|---|---|\n");
        for table in TABLES.iter().filter(|table| table.file == file) {
            let (direction, class) = (direction(table.direction), class(table.class));
            let Table { local, cloud, .. } = table;
            _ = writeln!(
                page,
                "| [{local}](#{cloud}) | {cloud} | {direction} | {class} |"
            );
        }
        for table in TABLES.iter().filter(|table| table.file == file) {
            page.push_str(&section(table));
        }
    }
    page
}

fn section(table: &Table) -> String {
    let mut text = format!("\n### {}\n\n{}\n\n", table.cloud, table.doc);
    _ = writeln!(text, "Id: {}.", identity(table.identity));
    if !table.search.is_empty() {
        _ = writeln!(text, "Searched in: {}.", names(table.search));
    }
    for index in table.indexes {
        _ = writeln!(text, "Index: {}.", names(index));
    }
    text.push_str("\n| column | type | merge | required | default |\n|---|---|---|---|---|\n");
    for column in table.columns {
        text.push_str(&row(column));
    }
    text
}

fn row(column: &Column) -> String {
    let default = column
        .default
        .map_or(String::new(), |literal| format!("`{literal}`"));
    let (name, ty, merge) = (column.name, types(column.ty), merge(column.merge));
    let required = if column.required { "yes" } else { "" };
    format!("| {name} | {ty} | {merge} | {required} | {default} |\n")
}

fn identity(identity: Identity) -> String {
    match identity {
        Identity::Random => "random (UUIDv7)".to_owned(),
        Identity::Derived(columns) => format!("derived from {}", names(columns)),
        Identity::DerivedPerDevice(columns) => {
            format!("derived from the device and {}", names(columns))
        }
    }
}

fn names(columns: &[&str]) -> String {
    columns
        .iter()
        .map(|column| format!("`{column}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "down",
        Direction::Up => "up",
        Direction::Mirror => "mirror",
        Direction::Both => "both",
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Catalogue => "catalogue",
        Class::Fact => "fact",
        Class::Record => "record",
    }
}

fn merge(merge: Merge) -> &'static str {
    match merge {
        Merge::Lww => "lww",
        Merge::Max => "max",
        Merge::Counter => "counter",
        Merge::Owner => "owner",
    }
}

fn types(ty: ColumnType) -> &'static str {
    match ty {
        ColumnType::Text => "TEXT, string, text",
        ColumnType::Integer => "INTEGER, number, bigint",
        ColumnType::Real => "REAL, number, double precision",
        ColumnType::Boolean => "INTEGER, boolean, boolean",
        ColumnType::Timestamp => "TEXT, RFC 3339 string, timestamptz",
        ColumnType::Json => "TEXT, any JSON, jsonb",
        ColumnType::Blob => "BLOB, base64 string, bytea",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_every_table_and_every_column() {
        let page = page();
        for table in TABLES {
            let start = page.find(&format!("\n### {}\n", table.cloud)).unwrap();
            let section = &page[start + 1..];
            let section = &section[..section.find("\n## ").unwrap_or(section.len())];
            for column in table.columns {
                let line = format!("\n| {} | ", column.name);
                assert!(section.contains(&line), "{}.{}", table.cloud, column.name);
            }
        }
    }
}

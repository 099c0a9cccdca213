//! Reading and writing the rows of a synced table: the statements are made from the catalogue
//! once, and kept prepared by the connection.

use coditect_core::canonical;
use coditect_protocol::catalogue::{File, TABLES, Table};
use coditect_protocol::wire::Row;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::schema::COMMON;
use crate::value;

/// A row as the file holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LocalRow {
    pub(crate) seq: i64,
    pub(crate) id: Option<String>,
    pub(crate) scope: String,
    pub(crate) user_id: Option<String>,
    pub(crate) device_id: Option<String>,
    pub(crate) content_hash: Option<String>,
    pub(crate) version: Option<i64>,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
    pub(crate) deleted_at: Option<String>,
    /// The catalogue's columns, not canonical.
    pub(crate) raw: Row,
}

impl LocalRow {
    /// Returns the columns in canonical form.
    pub(crate) fn canonical(&self, table: &Table) -> Row {
        canonical::row(table, self.raw.clone())
    }
}

struct TableSql {
    by_seq: String,
    by_key: String,
    head_by_seq: String,
    head_by_key: String,
    by_id: String,
    insert: String,
    update: String,
    acknowledge: String,
    select: String,
}

static SQL: LazyLock<HashMap<&'static str, TableSql>> = LazyLock::new(|| {
    let made = TABLES
        .iter()
        .map(|table| (table.cloud, TableSql::new(table)));
    made.collect()
});

fn sql_of(table: &Table) -> &'static TableSql {
    // Every catalogue entry is a key of the map, which is made from the catalogue.
    &SQL[table.cloud]
}

impl TableSql {
    fn new(table: &Table) -> Self {
        let mut columns: Vec<&str> = COMMON.to_vec();
        columns.extend(table.columns.iter().map(|column| column.name));
        let list = columns
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let select = format!("select {list} from \"{}\"", table.local);
        let mut places = String::from("?1");
        let mut assignments = String::new();
        for (at, name) in columns.iter().enumerate().skip(1) {
            let _ = write!(places, ", ?{}", at + 1);
            let comma = if at > 1 { ", " } else { "" };
            let _ = write!(assignments, "{comma}\"{name}\" = ?{}", at + 1);
        }
        Self {
            by_seq: format!("{select} where seq = ?1"),
            by_key: format!("{select} where scope = ?1 and id = ?2"),
            head_by_seq: format!(
                "select seq, id, scope from \"{}\" where seq = ?1",
                table.local
            ),
            head_by_key: format!(
                "select seq, id, scope from \"{}\" where scope = ?1 and id = ?2",
                table.local
            ),
            // The index begins with the scope: each one's part of it is looked into.
            by_id: format!(
                "{select} where id = ?1 and scope in (
                   with recursive scopes (scope) as (
                     select min(scope) from \"{0}\"
                     union all
                     select (select min(scope) from \"{0}\" t where t.scope > scopes.scope)
                     from scopes where scopes.scope is not null)
                   select scope from scopes)
                 order by scope limit 1",
                table.local
            ),
            insert: format!("insert into \"{}\" ({list}) values ({places})", table.local),
            update: format!(
                "update \"{}\" set {assignments} where seq = ?1",
                table.local
            ),
            // Names no column of a key: SQLite writes the entries of an index anew for each that is
            // named, whether it changes or not.
            acknowledge: format!(
                "update \"{}\" set user_id = ?2, device_id = ?3, content_hash = ?4,
                   version = ?5, created_at = ?6, updated_at = ?7, deleted_at = null
                 where seq = ?1",
                table.local
            ),
            select,
        }
    }
}

/// Returns the row with that `seq`.
pub(crate) fn by_seq(
    connection: &Connection,
    table: &Table,
    seq: i64,
) -> rusqlite::Result<Option<LocalRow>> {
    let mut statement = connection.prepare_cached(&sql_of(table).by_seq)?;
    statement
        .query_row([seq], |row| read(table, row))
        .optional()
}

/// Returns the row with that key.
pub(crate) fn by_key(
    connection: &Connection,
    table: &Table,
    scope: &str,
    id: &str,
) -> rusqlite::Result<Option<LocalRow>> {
    let mut statement = connection.prepare_cached(&sql_of(table).by_key)?;
    statement
        .query_row([scope, id], |row| read(table, row))
        .optional()
}

/// Returns the row with that key, looked for under a `seq` first: there are its neighbours by time,
/// while keys are all over their index.
pub(crate) fn by_seq_or_key(
    connection: &Connection,
    table: &Table,
    seq: Option<i64>,
    scope: &str,
    id: &str,
) -> rusqlite::Result<Option<LocalRow>> {
    if let Some(seq) = seq
        && let Some(live) = by_seq(connection, table, seq)?
        && live.scope == scope
        && live.id.as_deref() == Some(id)
    {
        return Ok(Some(live));
    }
    by_key(connection, table, scope, id)
}

/// The same without its columns, which may be long: only number and key.
pub(crate) fn head_by_seq_or_key(
    connection: &Connection,
    table: &Table,
    seq: Option<i64>,
    scope: &str,
    id: &str,
) -> rusqlite::Result<Option<LocalRow>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(LocalRow {
            seq: row.get(0)?,
            id: text(row.get_ref(1)?),
            scope: text(row.get_ref(2)?).unwrap_or_default(),
            ..LocalRow::default()
        })
    };
    let sql = sql_of(table);
    if let Some(seq) = seq {
        let mut statement = connection.prepare_cached(&sql.head_by_seq)?;
        let head = statement.query_row([seq], read).optional()?;
        if let Some(head) = head
            && head.scope == scope
            && head.id.as_deref() == Some(id)
        {
            return Ok(Some(head));
        }
    }
    let mut statement = connection.prepare_cached(&sql.head_by_key)?;
    statement.query_row([scope, id], read).optional()
}

/// Returns the row with that id, of the first scope that has it.
pub(crate) fn by_id(
    connection: &Connection,
    table: &Table,
    id: &str,
) -> rusqlite::Result<Option<LocalRow>> {
    let mut statement = connection.prepare_cached(&sql_of(table).by_id)?;
    statement.query_row([id], |row| read(table, row)).optional()
}

/// Returns the rows that `clause` (from WHERE on) selects.
pub(crate) fn select(
    connection: &Connection,
    table: &Table,
    clause: &str,
    parameters: Vec<Sql>,
) -> rusqlite::Result<Vec<LocalRow>> {
    let sql = format!("{} {clause}", sql_of(table).select);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| read(table, row))?;
    rows.collect()
}

/// Writes a row: updates the one with its `seq`, or inserts it when that is 0. The columns are
/// those of `row`. Returns the `seq`.
pub(crate) fn write(
    connection: &Connection,
    table: &Table,
    local: &LocalRow,
    row: &Row,
) -> rusqlite::Result<i64> {
    let text = |value: &Option<String>| value.clone().map_or(Sql::Null, Sql::Text);
    let mut parameters = vec![
        if local.seq == 0 {
            Sql::Null
        } else {
            Sql::Integer(local.seq)
        },
        text(&local.id),
        Sql::Text(local.scope.clone()),
        text(&local.user_id),
        text(&local.device_id),
        text(&local.content_hash),
        local.version.map_or(Sql::Null, Sql::Integer),
        text(&local.created_at),
        text(&local.updated_at),
        text(&local.deleted_at),
        value::extra_to_sql(row),
    ];
    let columns = table.columns.iter();
    parameters.extend(columns.map(|column| value::to_sql(column, row.get(column.name))));
    let sql = sql_of(table);
    let text = if local.seq == 0 {
        &sql.insert
    } else {
        &sql.update
    };
    connection
        .prepare_cached(text)?
        .execute(params_from_iter(parameters))?;
    Ok(if local.seq == 0 {
        connection.last_insert_rowid()
    } else {
        local.seq
    })
}

/// Writes what was said about a row whose key and columns stay as they are.
pub(crate) fn acknowledge(
    connection: &Connection,
    table: &Table,
    local: &LocalRow,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&sql_of(table).acknowledge)?
        .execute(params![
            local.seq,
            local.user_id,
            local.device_id,
            local.content_hash,
            local.version,
            local.created_at,
            local.updated_at,
        ])?;
    Ok(())
}

/// Removes the row with that `seq`.
pub(crate) fn remove(connection: &Connection, table: &Table, seq: i64) -> rusqlite::Result<()> {
    let sql = format!("delete from \"{}\" where seq = ?1", table.local);
    connection.prepare_cached(&sql)?.execute([seq])?;
    Ok(())
}

/// Returns the table of that cloud name, if the file holds it.
pub(crate) fn table_in(file: File, cloud: &str) -> Option<&'static Table> {
    coditect_protocol::catalogue::by_cloud_name(cloud).filter(|table| table.file == file)
}

fn read(table: &Table, row: &rusqlite::Row<'_>) -> rusqlite::Result<LocalRow> {
    let mut raw = Row::new();
    for (at, column) in table.columns.iter().enumerate() {
        value::read_into(&mut raw, column, row.get_ref(COMMON.len() + at)?);
    }
    let extra = text(row.get_ref(10)?);
    value::read_extra(&mut raw, table, extra.as_deref());
    Ok(LocalRow {
        seq: row.get(0)?,
        id: text(row.get_ref(1)?),
        scope: text(row.get_ref(2)?).unwrap_or_default(),
        user_id: text(row.get_ref(3)?),
        device_id: text(row.get_ref(4)?),
        content_hash: text(row.get_ref(5)?),
        version: row.get_ref(6)?.as_i64().ok(),
        created_at: text(row.get_ref(7)?),
        updated_at: text(row.get_ref(8)?),
        deleted_at: text(row.get_ref(9)?),
        raw,
    })
}

/// Returns a value as text, whatever somebody wrote there; none for NULL.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;
    use rusqlite::config::DbConfig;

    #[test]
    fn an_acknowledgement_writes_no_entry_of_an_index() {
        for file in File::ALL {
            let connection = Database::in_memory(file).unwrap().connection;
            // What triggers would do is not looked at.
            let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
            connection.set_db_config(triggers, false).unwrap();
            for table in file.tables() {
                let sql = format!("explain {}", sql_of(table).acknowledge);
                let mut statement = connection.prepare(&sql).unwrap();
                let none = vec![Sql::Null; statement.parameter_count()];
                let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(1);
                let steps = statement.query_map(params_from_iter(none), read);
                let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
                assert!(steps.iter().any(|step| step == "Insert"), "{steps:?}");
                let writes = steps.iter().filter(|step| *step == "IdxInsert").count();
                // The rows that lack a body are found by their time.
                let may = usize::from(table.body_names().is_some());
                assert!(writes <= may, "{}: {steps:?}", table.cloud);
            }
        }
    }

    #[test]
    fn a_row_is_found_under_its_key_when_another_has_the_number() {
        let table = coditect_protocol::catalogue::by_cloud_name("org_decisions").unwrap();
        let connection = Database::in_memory(table.file).unwrap().connection;
        let put = |id: &str| {
            let local = LocalRow {
                id: Some(id.to_owned()),
                scope: "user".to_owned(),
                ..LocalRow::default()
            };
            let title = serde_json::json!({ "title": id });
            write(&connection, table, &local, title.as_object().unwrap()).unwrap()
        };
        let (first, second) = (put("a"), put("b"));
        for seq in [None, Some(first), Some(second), Some(second + 1)] {
            let row = by_seq_or_key(&connection, table, seq, "user", "b");
            let row = row.unwrap().unwrap();
            assert_eq!((row.seq, row.raw["title"].as_str()), (second, Some("b")));
            let head = head_by_seq_or_key(&connection, table, seq, "user", "b");
            let head = head.unwrap().unwrap();
            assert_eq!((head.seq, head.id.as_deref()), (second, Some("b")));
            let other = by_seq_or_key(&connection, table, seq, "org", "b");
            assert_eq!(other.unwrap(), None);
        }
    }
}

//! SQL made from the catalogue: the statements over the synced tables, one set per table. The
//! only module that makes SQL; all names in it are constants of the catalogue.

mod scratch;
mod scrub;

use std::fmt::Write as _;
use std::sync::LazyLock;

use coditect_protocol::catalogue::{Class, Direction, File, TABLES, Table};

use crate::migrations::sql_type;
pub(super) use scratch::{ScratchSql, scratch};
pub(super) use scrub::{ScrubSql, scrub};

/// Columns that every synced table has, in the order of [`TableSql::fetch`], before `extra` and
/// the table's own.
const COMMON: &str = "id, user_id, device_id, origin_device, content_hash, version, cursor, \
     created_at, updated_at, deleted_at is not null";
/// The same of the platform's catalogue, which has no author and no device.
const PLATFORM_COMMON: &str = "id, null::uuid, null::uuid, null::uuid, content_hash, version, \
     cursor, created_at, updated_at, deleted_at is not null";
/// Position of `extra` in what the statements return; the table's own columns follow.
pub(super) const EXTRA_POSITION: usize = 10;

/// Common columns of an insert behind tenant and scope, with their types.
const INSERTED: [(&str, &str); 11] = [
    ("id", "uuid"),
    ("user_id", "uuid"),
    ("device_id", "uuid"),
    ("origin_device", "uuid"),
    ("content_hash", "bytea"),
    ("version", "bigint"),
    ("cursor", "bigint"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
    ("deleted_at", "timestamptz"),
    ("extra", "jsonb"),
];

/// The statements over one synced table. Tenant and scope are `$1` and `$2` of each, but for the
/// platform's catalogue, which has neither.
#[derive(Debug)]
pub(super) struct TableSql {
    /// Rows by id: `$3` is a list of ids.
    pub(super) fetch: String,
    /// Inserts those that are not there yet and returns their ids: `$3` and on are the arrays.
    pub(super) insert: String,
    /// Inserts rows of several parts of a joined transaction, `$2`, each in its part's scope, and
    /// returns scopes and ids of those that were not there yet.
    pub(super) insert_joined: String,
    /// Inserts or replaces rows and returns their ids.
    pub(super) upsert: String,
    /// Cursors behind `$3`, in order, at most `$4`.
    pub(super) cursors: String,
    /// Rows with a cursor from `$3` to `$4`, in order.
    pub(super) page: String,
    /// Rows of a tenant behind scope `$2` and id `$3`, at most `$4`, with the scope at the end;
    /// for the system role. Of the catalogue: behind id `$1`, at most `$2`.
    pub(super) dump: String,
    /// Count and XOR of the terms of the rows with an id from `$3` to `$4`, by parts of `$5` rows,
    /// with each part's highest id, which the last one may lack; of an `up` table those of origin
    /// `$6`. Of the catalogue: ids from `$1` to `$2`, parts of `$3` rows.
    pub(super) parts: String,
    /// Id, version and term of the same rows in order, at most `$5` (`$3`); origin is `$6`.
    pub(super) listed: String,
}

static STATEMENTS: LazyLock<Vec<TableSql>> =
    LazyLock::new(|| TABLES.iter().map(|table| make(table)).collect());

/// Returns the statements over the table.
pub(super) fn of(table: &Table) -> &'static TableSql {
    let position = TABLES.iter().position(|entry| entry.cloud == table.cloud);
    &STATEMENTS[position.expect("a table of the catalogue")]
}

/// Returns the statement that reads the next cursors of all the tables at once: an array for
/// each. Its parameters are those of [`TableSql::cursors`].
pub(super) fn cursors(tables: &[&Table]) -> String {
    let arrays = tables
        .iter()
        .map(|table| format!("array({})", of(table).cursors));
    format!("select {}", arrays.collect::<Vec<_>>().join(", "))
}

/// Returns the text of the multi-row insert that a push of new facts runs, for a benchmark that
/// runs the same statement by other means; `$1` and `$2` are tenant and scope, then come arrays.
/// Empty for the platform's catalogue.
#[must_use]
pub fn insert_text(table: &Table) -> &'static str {
    &of(table).insert
}

/// Returns the text of the statement that reads a page's rows, from cursor `$3` to `$4`, for the
/// same purpose.
#[must_use]
pub fn page_text(table: &Table) -> &'static str {
    &of(table).page
}

fn make(table: &Table) -> TableSql {
    let name = table.cloud;
    let own = table.columns.iter().fold(String::new(), |mut own, column| {
        let _infallible = write!(own, ", \"{}\"", column.name);
        own
    });
    if table.class == Class::Catalogue {
        let columns = format!("{PLATFORM_COMMON}, extra{own}");
        return TableSql {
            fetch: format!("select {columns} from {name}"),
            insert: String::new(),
            insert_joined: String::new(),
            upsert: upsert_catalogue(table),
            cursors: format!(
                "select cursor from {name} where cursor > $1 order by cursor limit $2"
            ),
            page: format!(
                "select {columns} from {name} where cursor between $1 and $2 order by cursor"
            ),
            dump: format!("select {columns} from {name} where id > $1 order by id limit $2"),
            parts: parts(name, "id between $1 and $2", "$3"),
            listed: listed(name, "id between $1 and $2", "$3"),
        };
    }
    let columns = format!("{COMMON}, extra{own}");
    let guard = "tenant_id = $1 and scope_id = $2";
    let insert = insert(table);
    let origin = if table.direction == Direction::Up {
        " and origin_device = $6"
    } else {
        ""
    };
    let within = format!("{guard} and id between $3 and $4{origin}");
    TableSql {
        parts: parts(name, &within, "$5"),
        listed: listed(name, &within, "$5"),
        fetch: format!("select {columns} from {name} where {guard} and id = any ($3)"),
        upsert: format!("{insert} do update set {} returning id", replaced(table)),
        insert: format!("{insert} do nothing returning id"),
        insert_joined: insert_joined(table),
        cursors: format!(
            "select cursor from {name} where {guard} and cursor > $3 order by cursor limit $4"
        ),
        page: format!(
            "select {columns} from {name} where {guard} and cursor between $3 and $4 \
             order by cursor"
        ),
        dump: format!(
            "select {columns}, scope_id from {name} where tenant_id = $1 \
             and (scope_id, id) > ($2, $3) order by scope_id, id limit $4"
        ),
    }
}

/// Returns the sums over parts of a range; reads the key's index alone.
fn parts(name: &str, within: &str, size: &str) -> String {
    format!(
        "select count(*), bit_xor(term), max(id::text) filter (where place % {size} = 0) \
         from (select id, term, row_number() over (order by id) as place from {name} \
         where {within}) as ranked group by (place - 1) / {size} order by (place - 1) / {size}"
    )
}

/// Returns the rows of a range, without their columns.
fn listed(name: &str, within: &str, limit: &str) -> String {
    format!("select id, version, term from {name} where {within} order by id limit {limit}")
}

/// Returns the multi-row insert or replacement of the catalogue's rows; `$1` and on are arrays.
fn upsert_catalogue(table: &Table) -> String {
    let of_devices = ["user_id", "device_id", "origin_device"];
    let common = INSERTED
        .into_iter()
        .filter(|(name, _)| !of_devices.contains(name));
    let common = common.map(|(name, ty)| (name.to_owned(), ty));
    let own = table
        .columns
        .iter()
        .map(|column| (quoted(column.name), sql_type(column.ty)));
    let columns: Vec<_> = common.chain(own).collect();
    let names = columns
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let arrays = arrays(&columns, 1);
    let set = columns
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != "id");
    let set = set
        .map(|name| format!("{name} = excluded.{name}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "insert into {} ({names}) select {names} from unnest({arrays}) as given ({names}) \
         on conflict (id) do update set {set}",
        table.cloud
    )
}

/// Returns the list of array parameters, the first of which is `$first`.
fn arrays(columns: &[(String, &str)], first: usize) -> String {
    let numbered = columns.iter().zip(first..);
    numbered
        .map(|((_, ty), n)| format!("${n}::{ty}[]"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the names of the columns of an insert behind tenant and scope, and their arrays from
/// `$3` on.
fn inserted(table: &Table) -> (String, String) {
    let common = INSERTED.into_iter().map(|(name, ty)| (name.to_owned(), ty));
    let own = table
        .columns
        .iter()
        .map(|column| (quoted(column.name), sql_type(column.ty)));
    let columns: Vec<_> = common.chain(own).collect();
    let names = columns
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let arrays = arrays(&columns, 3);
    (names, arrays)
}

/// Returns the multi-row insert of several parts. `act_as` stands in the select list, so that it
/// runs for a row before the row is checked and stored, and not for all rows before the first.
fn insert_joined(table: &Table) -> String {
    let (names, arrays) = inserted(table);
    format!(
        "insert into {} (tenant_id, scope_id, {names}) select $1, act_as(part), {names} \
         from unnest($2::integer[], {arrays}) as given (part, {names}) \
         on conflict (tenant_id, scope_id, id) do nothing returning scope_id, id",
        table.cloud
    )
}

/// Returns the multi-row insert up to the action of its ON CONFLICT.
fn insert(table: &Table) -> String {
    let (names, arrays) = inserted(table);
    format!(
        "insert into {} (tenant_id, scope_id, {names}) select $1, $2, {names} \
         from unnest({arrays}) as given ({names}) on conflict (tenant_id, scope_id, id)",
        table.cloud
    )
}

/// Returns the SET list of a replaced row; author, origin and creation stay.
fn replaced(table: &Table) -> String {
    let kept = ["id", "user_id", "origin_device", "created_at"];
    let common = INSERTED
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !kept.contains(name));
    let own = table.columns.iter().map(|column| quoted(column.name));
    common
        .map(str::to_owned)
        .chain(own)
        .map(|name| format!("{name} = excluded.{name}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the name as it is written in SQL; some columns are called like keywords.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Returns the statement that moves a stream's counter and the file's head to `$3` and adds to
/// its usage.
pub(super) const fn advance(file: File) -> &'static str {
    match file {
        File::Platform => {
            "update streams set n = $3, head_platform = $3, row_count = row_count + $4,
    byte_count = byte_count + $5 where tenant_id = $1 and scope_id = $2"
        }
        File::Org => {
            "update streams set n = $3, head_org = $3, row_count = row_count + $4,
    byte_count = byte_count + $5 where tenant_id = $1 and scope_id = $2"
        }
        File::Sessions => {
            "update streams set n = $3, head_sessions = $3, row_count = row_count + $4,
    byte_count = byte_count + $5 where tenant_id = $1 and scope_id = $2"
        }
        File::Projects => {
            "update streams set n = $3, head_projects = $3, row_count = row_count + $4,
    byte_count = byte_count + $5 where tenant_id = $1 and scope_id = $2"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::catalogue::by_cloud_name;

    #[test]
    fn every_statement_over_a_tenant_table_names_tenant_and_scope() {
        for table in TABLES
            .iter()
            .filter(|table| table.class != Class::Catalogue)
        {
            let sql = of(table);
            for read in [&sql.fetch, &sql.cursors, &sql.page, &sql.parts, &sql.listed] {
                assert!(
                    read.contains("where tenant_id = $1 and scope_id = $2 and"),
                    "{read}"
                );
            }
            for write in [&sql.insert, &sql.upsert] {
                assert!(write.contains("(tenant_id, scope_id, id"), "{write}");
                assert!(write.ends_with("returning id"), "{write}");
            }
        }
    }

    #[test]
    fn a_replaced_row_keeps_author_origin_and_creation() {
        let sql = &of(by_cloud_name("org_kg_edges").unwrap()).upsert;
        for kept in [
            "user_id",
            "origin_device",
            "created_at",
            "id",
            "tenant_id",
            "scope_id",
        ] {
            assert!(!sql.contains(&format!(" {kept} = excluded")), "{kept}");
        }
        for replaced in ["version", "cursor", "extra", "\"from_node\"", "\"weight\""] {
            assert!(
                sql.contains(&format!("{replaced} = excluded.{replaced}")),
                "{replaced}"
            );
        }
    }
}

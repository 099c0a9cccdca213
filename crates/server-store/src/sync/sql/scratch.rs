//! Statements over copies of the synced tables that live as long as one transaction, for trial
//! restores, and over rows that are given. Every name of a copy has the schema of temporary tables
//! before it, so that none of these statements can meet a table of somebody's rows.

use std::fmt::Write as _;
use std::sync::LazyLock;

use coditect_protocol::catalogue::{Class, TABLES, Table};

use super::{COMMON, inserted, quoted};

/// The statements of one table.
#[derive(Debug)]
pub(in crate::sync) struct ScratchSql {
    /// Makes the copy: the same columns with the same types and conditions.
    pub(in crate::sync) create: String,
    /// Inserts rows; tenant and scope are `$1` and `$2`, then come arrays.
    pub(in crate::sync) insert: String,
    /// Rows behind id `$1` in order, at most `$2`.
    pub(in crate::sync) rows: String,
    /// Rows that are given as a JSON array of objects, `$1`, as far as they are of tenant `$2` and
    /// scope `$3`.
    pub(in crate::sync) given: String,
}

static STATEMENTS: LazyLock<Vec<(&'static str, ScratchSql)>> = LazyLock::new(|| {
    let of_tenants = TABLES.iter().filter(|it| it.class != Class::Catalogue);
    of_tenants.map(|table| (table.cloud, make(table))).collect()
});

/// Returns the statements over the copy of a table of tenants; none for the platform's catalogue.
pub(in crate::sync) fn scratch(table: &Table) -> Option<&'static ScratchSql> {
    let mut all = STATEMENTS.iter();
    let found = all.find(|(name, _)| *name == table.cloud);
    found.map(|(_, sql)| sql)
}

fn make(table: &Table) -> ScratchSql {
    let name = table.cloud;
    let (names, arrays) = inserted(table);
    let mut columns = format!("{COMMON}, extra");
    for column in table.columns {
        let _infallible = write!(columns, ", {}", quoted(column.name));
    }
    ScratchSql {
        create: format!(
            "create temporary table {name} (like {name} including generated \
             including constraints, primary key (id)) on commit drop"
        ),
        insert: format!(
            "insert into pg_temp.{name} (tenant_id, scope_id, {names}) select $1, $2, {names} \
             from unnest({arrays}) as given ({names})"
        ),
        rows: format!("select {columns} from pg_temp.{name} where id > $1 order by id limit $2"),
        given: format!(
            "select {columns} from jsonb_populate_recordset(null::{name}, $1::text::jsonb) \
             where tenant_id = $2 and scope_id = $3"
        ),
    }
}

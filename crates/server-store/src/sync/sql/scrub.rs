//! Statements that look at every row of a tenant, for the scrub; made from the catalogue.

use std::fmt::Write as _;
use std::sync::LazyLock;

use coditect_protocol::catalogue::{Class, Merge, TABLES, Table};

use super::{COMMON, quoted};

/// The statements of one table; tenant and scope are `$1` and `$2`.
#[derive(Debug)]
pub(in crate::sync) struct ScrubSql {
    /// Rows behind scope `$2` and id `$3` over all scopes, at most `$4`; scope and term stand
    /// behind the table's own columns.
    pub(in crate::sync) rows: String,
    /// The rows with the ids `$3` once more; the term stands behind the table's own columns.
    pub(in crate::sync) again: String,
    /// Origins whose kept digest is not that of the rows: origin, and by how much rows, count and
    /// XOR are wrong. One statement, so that both sides are of one moment.
    pub(in crate::sync) sums: String,
    /// Has the terms of the rows `$3` computed anew.
    pub(in crate::sync) refresh: String,
    /// Gives row `$3` the cursor `$4` and its counters, in their order, the values `$5` and on;
    /// null leaves one as it is.
    pub(in crate::sync) recount: String,
}

static STATEMENTS: LazyLock<Vec<(&'static str, ScrubSql)>> = LazyLock::new(|| {
    let of_tenants = TABLES.iter().filter(|it| it.class != Class::Catalogue);
    of_tenants.map(|table| (table.cloud, make(table))).collect()
});

/// Returns the statements over a table of tenants; none for the platform's catalogue.
pub(in crate::sync) fn scrub(table: &Table) -> Option<&'static ScrubSql> {
    let mut all = STATEMENTS.iter();
    let found = all.find(|(name, _)| *name == table.cloud);
    found.map(|(_, sql)| sql)
}

fn make(table: &Table) -> ScrubSql {
    let name = table.cloud;
    let guard = "tenant_id = $1 and scope_id = $2";
    let mut columns = format!("{COMMON}, extra");
    for column in table.columns {
        let _infallible = write!(columns, ", {}", quoted(column.name));
    }
    let mut counters = String::new();
    for (position, column) in table.columns_by(Merge::Counter).enumerate() {
        let (column, n) = (quoted(column.name), position + 5);
        let _infallible = write!(counters, ", {column} = coalesce(${n}, {column})");
    }
    ScrubSql {
        rows: format!(
            "select {columns}, scope_id, term from {name} where tenant_id = $1 \
             and (scope_id, id) > ($2, $3) order by scope_id, id limit $4"
        ),
        again: format!("select {columns}, term from {name} where {guard} and id = any ($3)"),
        sums: format!(
            "select coalesce(held.origin_device, kept.origin_device), \
             coalesce(held.rows, 0) - coalesce(kept.rows, 0), \
             coalesce(held.count, 0) - coalesce(kept.count, 0), \
             coalesce(held.xor, 0) # coalesce(kept.xor, 0) from \
             (select origin_device, count(*) filter (where deleted_at is null) as rows, \
             count(*) as count, bit_xor(term) as xor from {name} where {guard} \
             group by origin_device) as held full join \
             (select origin_device, rows, count, xor from stream_digests \
             where {guard} and table_name = '{name}') as kept using (origin_device) \
             where (coalesce(held.rows, 0), coalesce(held.count, 0), coalesce(held.xor, 0)) \
             <> (coalesce(kept.rows, 0), coalesce(kept.count, 0), coalesce(kept.xor, 0))"
        ),
        refresh: format!("update {name} set id = id where {guard} and id = any ($3)"),
        recount: format!("update {name} set cursor = $4{counters} where {guard} and id = $3"),
    }
}

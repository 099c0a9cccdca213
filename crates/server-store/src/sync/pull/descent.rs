//! Answers to a descent: ranges of ids divided into sums, or listed, and rows read again, on the
//! pull's snapshot.

use std::collections::HashSet;

use coditect_protocol::catalogue::{Class, Direction, File, Merge, Table, by_cloud_name};
use coditect_protocol::limits::{
    DESCENT_LISTED_MAX, DESCENT_PARTS, DESCENT_RANGES_MAX, DESCENT_ROWS_MAX,
};
use coditect_protocol::wire::Stored;
use coditect_protocol::wire::descent::{
    Descended, Descent, Divided, Listed, NamedRows, OwnPart, Part, Range,
};
use coditect_protocol::{DeviceId, RowId, Scope, Version};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Budget, OVERHEAD_BYTES};
use crate::db::{Param, Statement, TenantTx};
use crate::sync::held::Held;
use crate::sync::{SyncError, sql};

const OWN_PARTS: &str = "select row_id, column_name, total from counter_parts
    where tenant_id = $1 and scope_id = $2 and table_name = $3 and row_id = any ($4)
    and device_id = $5";

/// Refuses what is too much, or about tables that are not in this file and stream.
pub(super) fn check(descent: &Descent, scope: Scope, file: File) -> Result<(), SyncError> {
    let ids: usize = descent.rows.iter().map(|named| named.ids.len()).sum();
    if descent.ranges.len() > DESCENT_RANGES_MAX
        || descent.rows.len() > DESCENT_RANGES_MAX
        || ids > DESCENT_ROWS_MAX
    {
        return Err(SyncError::BadRequest("a descent asks for too much at once"));
    }
    let names = descent.ranges.iter().map(|range| &range.table);
    for name in names.chain(descent.rows.iter().map(|named| &named.table)) {
        table_of(name, scope, file)?;
    }
    Ok(())
}

fn table_of(name: &str, scope: Scope, file: File) -> Result<&'static Table, SyncError> {
    by_cloud_name(name)
        .filter(|table| table.file == file)
        .filter(|table| (table.class == Class::Catalogue) == (scope == Scope::Platform))
        .ok_or(SyncError::UnknownTable)
}

/// Answers a descent that was checked.
pub(super) async fn answer(
    tx: &mut TenantTx,
    descent: &Descent,
    (scope, file): (Scope, File),
    device: DeviceId,
    budget: &mut Budget,
) -> Result<Descended, SyncError> {
    let mut asked = Vec::with_capacity(descent.ranges.len());
    for range in &descent.ranges {
        let table = table_of(&range.table, scope, file)?;
        asked.push(Asked::new(tx, table, scope, device, range));
    }
    let mut descended = Descended {
        ranges: divide(tx, &asked).await?,
        ..Descended::default()
    };
    for named in &descent.rows {
        let table = table_of(&named.table, scope, file)?;
        read_again(tx, table, scope, named, budget, &mut descended).await?;
        if table.columns_by(Merge::Counter).next().is_some() {
            let parts = own_parts(tx, table, scope, named, device).await?;
            descended.parts.extend(parts);
        }
    }
    Ok(descended)
}

/// A range with the parameters of its statements.
#[derive(Debug)]
struct Asked<'a> {
    table: &'static Table,
    range: &'a Range,
    tenant: Uuid,
    scope: Uuid,
    first: Uuid,
    last: Uuid,
    device: Uuid,
    /// Rows in a part.
    size: i64,
    /// Rows that are read to be listed: one more than may be, to see that there are too many.
    limit: i64,
}

impl<'a> Asked<'a> {
    fn new(
        tx: &TenantTx,
        table: &'static Table,
        scope: Scope,
        device: DeviceId,
        range: &'a Range,
    ) -> Self {
        let parts = DESCENT_PARTS as i64;
        // The device counts its own rows. Others may have written more meanwhile; one part too many
        // would halve the parts' number, and cost a round trip.
        let rows = range.count.saturating_add(range.count / 8);
        Self {
            table,
            range,
            tenant: tx.tenant().get(),
            scope: scope.id(),
            first: range.first.get(),
            last: range.last.get(),
            device: device.get(),
            size: (rows.max(parts) - 1) / parts + 1,
            limit: DESCENT_LISTED_MAX as i64 + 1,
        }
    }

    const fn expects_few(&self) -> bool {
        self.range.count <= DESCENT_LISTED_MAX as i64
    }

    fn statement(&self, listed: bool) -> Statement<'_> {
        let statements = sql::of(self.table);
        let mut params: Vec<Param<'_>> = Vec::with_capacity(6);
        if self.table.class != Class::Catalogue {
            params.push((&self.tenant, Type::UUID));
            params.push((&self.scope, Type::UUID));
        }
        params.push((&self.first, Type::UUID));
        params.push((&self.last, Type::UUID));
        params.push((if listed { &self.limit } else { &self.size }, Type::INT8));
        if self.table.direction == Direction::Up {
            params.push((&self.device, Type::UUID));
        }
        let sql = if listed {
            &statements.listed
        } else {
            &statements.parts
        };
        Statement { sql, params }
    }

    fn divided(&self, parts: Vec<Part>, listed: Option<Vec<Listed>>) -> Divided {
        Divided {
            table: self.table.cloud.to_owned(),
            first: self.range.first,
            last: self.range.last,
            parts,
            listed,
        }
    }
}

/// Lists the ranges that are said to be small and divides the others; a range that is not what
/// was said is done the other way.
async fn divide(tx: &mut TenantTx, asked: &[Asked<'_>]) -> Result<Vec<Divided>, SyncError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let first = |asked: &Asked<'_>| asked.expects_few();
    let statements: Vec<_> = asked.iter().map(|it| it.statement(first(it))).collect();
    let answers = tx.pipeline(&statements).await?;
    let mut divided = Vec::with_capacity(asked.len());
    for (asked, rows) in asked.iter().zip(answers) {
        let found = if asked.expects_few() {
            list(&rows)?.map(|listed| asked.divided(Vec::new(), Some(listed)))
        } else {
            let parts = parts(&rows, asked.range.last)?;
            let few = parts.iter().map(|part| part.count).sum::<i64>() < asked.limit;
            (!few).then(|| asked.divided(parts, None))
        };
        divided.push(match found {
            Some(found) => found,
            None => again(tx, asked).await?,
        });
    }
    Ok(divided)
}

async fn again(tx: &mut TenantTx, asked: &Asked<'_>) -> Result<Divided, SyncError> {
    let listed = !asked.expects_few();
    let rows = tx.pipeline(&[asked.statement(listed)]).await?.remove(0);
    Ok(if listed {
        asked.divided(Vec::new(), list(&rows)?)
    } else {
        asked.divided(parts(&rows, asked.range.last)?, None)
    })
}

/// Returns the rows; none if there are too many to be listed.
fn list(rows: &[Row]) -> Result<Option<Vec<Listed>>, SyncError> {
    if rows.len() > DESCENT_LISTED_MAX {
        return Ok(None);
    }
    let listed = rows.iter().map(|row| {
        Ok(Listed {
            id: RowId::new(row.try_get(0)?),
            version: Version::from_i64(row.try_get(1)?),
            term: row.try_get::<_, i64>(2)?.cast_unsigned(),
        })
    });
    listed.collect::<Result<_, SyncError>>().map(Some)
}

fn parts(rows: &[Row], last: RowId) -> Result<Vec<Part>, SyncError> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let end: Option<&str> = row.try_get(2)?;
        let end = end.and_then(|text| text.parse().ok());
        parts.push((end.unwrap_or(last), row.try_get(0)?, row.try_get(1)?));
    }
    if let Some(end) = parts.last_mut() {
        // The last part goes on to the end of the range, also where no rows are.
        end.0 = last;
    }
    Ok(joined(&parts))
}

/// Joins neighbours until there are no more parts than a reply has.
fn joined(parts: &[(RowId, i64, i64)]) -> Vec<Part> {
    let each = parts.len().div_ceil(DESCENT_PARTS).max(1);
    let join = |some: &[(RowId, i64, i64)]| {
        Some(Part {
            last: some.last()?.0,
            count: some.iter().map(|part| part.1).sum(),
            xor: some
                .iter()
                .fold(0, |xor, part| xor ^ part.2.cast_unsigned()),
        })
    };
    parts.chunks(each).filter_map(join).collect()
}

/// Reads named rows, as many as fit; those that do not fit are neither there nor absent.
async fn read_again(
    tx: &mut TenantTx,
    table: &'static Table,
    scope: Scope,
    named: &NamedRows,
    budget: &mut Budget,
    descended: &mut Descended,
) -> Result<(), SyncError> {
    let (tenant, scope_id) = (tx.tenant().get(), scope.id());
    let ids: Vec<Uuid> = named.ids.iter().map(|id| id.get()).collect();
    let params: Vec<Param<'_>> = if table.class == Class::Catalogue {
        Vec::new()
    } else {
        vec![
            (&tenant, Type::UUID),
            (&scope_id, Type::UUID),
            (&ids, Type::UUID_ARRAY),
        ]
    };
    let sql = &sql::of(table).fetch;
    let rows = tx.pipeline(&[Statement { sql, params }]).await?.remove(0);
    let wanted: HashSet<RowId> = named.ids.iter().copied().collect();
    let mut there = HashSet::new();
    for row in &rows {
        let bytes = row.raw_size_bytes() + OVERHEAD_BYTES;
        let stored: Stored = Held::read(table, row)?.into_stored(table);
        if !wanted.contains(&stored.id) {
            continue;
        }
        there.insert(stored.id);
        if budget.take(bytes) {
            descended.rows.push(stored);
        }
    }
    let absent = wanted.into_iter().filter(|id| !there.contains(id));
    let mut ids: Vec<RowId> = absent.collect();
    ids.sort_unstable();
    if !ids.is_empty() {
        let table = table.cloud.to_owned();
        descended.absent.push(NamedRows { table, ids });
    }
    Ok(())
}

/// Returns what the device has added to the counters of the rows.
async fn own_parts(
    tx: &mut TenantTx,
    table: &'static Table,
    scope: Scope,
    named: &NamedRows,
    device: DeviceId,
) -> Result<Vec<OwnPart>, SyncError> {
    let (tenant, scope_id, name) = (tx.tenant().get(), scope.id(), table.cloud);
    let ids: Vec<Uuid> = named.ids.iter().map(|id| id.get()).collect();
    let device = device.get();
    let params: Vec<Param<'_>> = vec![
        (&tenant, Type::UUID),
        (&scope_id, Type::UUID),
        (&name, Type::TEXT),
        (&ids, Type::UUID_ARRAY),
        (&device, Type::UUID),
    ];
    let statement = Statement {
        sql: OWN_PARTS,
        params,
    };
    let rows = tx.pipeline(&[statement]).await?.remove(0);
    let part = |row: &Row| {
        Ok(OwnPart {
            table: name.to_owned(),
            id: RowId::new(row.try_get(0)?),
            column: row.try_get(1)?,
            total: row.try_get(2)?,
        })
    };
    rows.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_parts_are_answered_than_the_limit_and_nothing_is_lost() {
        for given in [0, 1, 127, 128, 129, 256, 257, 4_000] {
            let id = |n: usize| RowId::new(Uuid::from_u128(n as u128));
            let parts: Vec<_> = (0..given).map(|n| (id(n), 3, 1_i64 << (n % 60))).collect();
            let joined = joined(&parts);
            assert!(joined.len() <= DESCENT_PARTS, "{given}");
            assert_eq!(
                joined.iter().map(|part| part.count).sum::<i64>(),
                3 * given as i64
            );
            let all = parts.iter().fold(0, |xor, part| xor ^ part.2);
            let sum = joined.iter().fold(0, |xor, part| xor ^ part.xor);
            assert_eq!(sum, all.cast_unsigned());
            assert_eq!(
                joined.last().map(|part| part.last),
                parts.last().map(|part| part.0)
            );
        }
    }
}

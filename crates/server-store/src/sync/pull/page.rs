//! One page: the rows of a file's tables, merged in cursor order, as many as fit.
//!
//! The cursors are read first, from the indexes alone; then the rows themselves, by ranges that
//! are sized by what the rows before them weighed, and encoded as they come.

use std::ops::Range;

use coditect_protocol::catalogue::Table;
use coditect_protocol::limits::PULL_CHANGES_MAX;
use coditect_protocol::wire::pull::{Page, Position};
use coditect_protocol::{Epoch, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::pulled::Changes;
use super::{Budget, OVERHEAD_BYTES, empty, encode};
use crate::db::{Param, Statement, TenantTx};
use crate::sync::{SyncError, sql};

/// Rows fetched at once: at first, at least, at most.
const FETCH_FIRST: usize = 128;
const FETCH_MIN: usize = 8;
const FETCH_MAX: usize = 512;

/// Reads the changes after `range.start`, up to the head at `range.end`. The page itself comes
/// without them.
pub(super) async fn read(
    tx: &mut TenantTx,
    position: &Position,
    tables: &[&'static Table],
    epoch: Epoch,
    range: Range<i64>,
    budget: &mut Budget,
) -> Result<(Page, Changes), SyncError> {
    let mut changes = Changes::default();
    if range.start >= range.end {
        return Ok((empty(position, epoch, range.end, true), changes));
    }
    if budget.bytes == 0 {
        return Ok((empty(position, epoch, range.start, false), changes));
    }
    let source = Source {
        tenant: tx.tenant().get(),
        scope: position.scope,
    };
    let mut places = places(tx, &source, tables, range.start).await?;
    let exhausted = places.len() <= PULL_CHANGES_MAX;
    places.truncate(PULL_CHANGES_MAX);
    let mut page = empty(position, epoch, range.start, false);
    let mut rest = places.as_slice();
    let mut fetch = FETCH_FIRST;
    while !rest.is_empty() {
        let (chunk, others) = rest.split_at(fetch.min(rest.len()));
        rest = others;
        let mut bytes = 0;
        for (table, row) in rows(tx, &source, tables, chunk).await? {
            let size = row.raw_size_bytes() + OVERHEAD_BYTES;
            bytes += size;
            if !budget.take(size) {
                return Ok((page, changes));
            }
            page.cursor.n = encode::cursor(&row)?;
            changes.push(table, &row)?;
        }
        let average = (bytes / chunk.len()).max(1);
        fetch = (budget.bytes / average).clamp(FETCH_MIN, FETCH_MAX);
    }
    if exhausted {
        page.cursor.n = range.end;
        page.at_head = true;
    }
    Ok((page, changes))
}

/// Where rows are read from; owns the parameters that every statement begins with.
#[derive(Debug)]
struct Source {
    tenant: Uuid,
    scope: Scope,
}

impl Source {
    /// Returns the parameters of a statement; the platform's catalogue has no tenant.
    fn params<'a>(&'a self, scope: &'a Uuid, from: &'a i64, other: &'a i64) -> Vec<Param<'a>> {
        let mut params: Vec<Param<'a>> = Vec::with_capacity(4);
        if self.scope != Scope::Platform {
            params.push((&self.tenant, Type::UUID));
            params.push((scope, Type::UUID));
        }
        params.push((from, Type::INT8));
        params.push((other, Type::INT8));
        params
    }
}

/// A cursor and the table that it is in, as position in the list of tables.
type Place = (i64, usize);

/// Returns the next cursors of all tables in order, one more than a page may have if there are.
async fn places(
    tx: &mut TenantTx,
    source: &Source,
    tables: &[&'static Table],
    from: i64,
) -> Result<Vec<Place>, SyncError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let (scope, limit) = (source.scope.id(), PULL_CHANGES_MAX as i64 + 1);
    let statement = Statement {
        sql: &sql::cursors(tables),
        params: source.params(&scope, &from, &limit),
    };
    let mut places = Vec::new();
    for row in tx.pipeline(&[statement]).await?.remove(0) {
        for table in 0..tables.len() {
            let cursors: Vec<i64> = row.try_get(table)?;
            places.extend(cursors.into_iter().map(|cursor| (cursor, table)));
        }
    }
    places.sort_unstable();
    places.truncate(PULL_CHANGES_MAX + 1);
    Ok(places)
}

/// Returns the rows at the places, in order.
async fn rows(
    tx: &mut TenantTx,
    source: &Source,
    tables: &[&'static Table],
    places: &[Place],
) -> Result<Vec<(&'static Table, Row)>, SyncError> {
    let scope = source.scope.id();
    let ranges: Vec<(&'static Table, i64, i64)> = tables
        .iter()
        .enumerate()
        .filter_map(|(table, entry)| {
            let mut cursors = places
                .iter()
                .filter(|place| place.1 == table)
                .map(|place| place.0);
            let first = cursors.next()?;
            Some((*entry, first, cursors.next_back().unwrap_or(first)))
        })
        .collect();
    let statements: Vec<_> = ranges
        .iter()
        .map(|(table, first, last)| Statement {
            sql: &sql::of(table).page,
            params: source.params(&scope, first, last),
        })
        .collect();
    let mut found = Vec::with_capacity(places.len());
    for ((table, ..), rows) in ranges.iter().zip(tx.pipeline(&statements).await?) {
        for row in rows {
            found.push((encode::cursor(&row)?, *table, row));
        }
    }
    if ranges.len() > 1 {
        found.sort_unstable_by_key(|(cursor, ..)| *cursor);
    }
    let rows = found.into_iter().map(|(_, table, row)| (table, row));
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_holds_one_change_of_any_size_and_then_what_fits() {
        let mut budget = Budget {
            bytes: 100,
            used: false,
        };
        assert!(budget.take(1_000));
        assert!(!budget.take(1));
        let mut budget = Budget {
            bytes: 100,
            used: false,
        };
        assert!(budget.take(60) && budget.take(40));
        assert!(!budget.take(1));
    }
}

//! Stores the checked changes of a batch: reads what is there, lets the rules decide, writes.

use std::collections::{HashMap, HashSet};

use coditect_protocol::catalogue::{Class, Table};
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::Outcome;
use coditect_protocol::{ErrorCode, RowId};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::counters::{self, Counters};
use super::decide::{self, Changed};
use super::moves;
use super::write::{self, Rows};
use super::{Batch, Numbered, Totals, rejected};
use crate::StoreError;
use crate::db::{Statement, TenantTx};
use crate::sync::guards::Guard;
use crate::sync::held::Held;
use crate::sync::validate::Refusal;
use crate::sync::{SyncError, sql};

/// A row's key within a stream: table and id.
pub(super) type Key = (&'static str, RowId);

/// What is known of the facts among some changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Facts {
    /// They are inserted where nothing is stored.
    MayBeNew,
    /// An insert has met them: they are read like all others.
    AreThere,
}

/// Stores the changes; when the database refuses a value, halves them until the row is found
/// that it is about, and rejects that one alone.
pub(super) async fn bisecting(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    changes: &[Numbered<'_>],
    facts: Facts,
    totals: &mut Totals,
) -> Result<Vec<(usize, Outcome)>, SyncError> {
    let mut outcomes = Vec::with_capacity(changes.len());
    let mut parts = vec![changes];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let stored = tx
            .savepoint("part", async |tx| store(tx, batch, part, facts).await)
            .await?;
        match stored {
            Ok(stored) => {
                totals.add(&stored.totals);
                outcomes.extend(stored.outcomes);
            }
            Err(SyncError::Store(StoreError::Refused { sqlstate })) if part.len() == 1 => {
                let reason = format!("the database refuses a value ({sqlstate})");
                let refusal = Refusal {
                    code: ErrorCode::MalformedRow,
                    reason,
                };
                outcomes.push((part[0].position, rejected(refusal)));
            }
            Err(SyncError::Store(StoreError::Refused { .. })) if Guard::Halving.is_on() => {
                let (first, second) = part.split_at(part.len() / 2);
                // The stack is taken from its end, and order matters for a key named twice.
                parts.extend([second, first]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(outcomes)
}

struct Stored {
    outcomes: Vec<(usize, Outcome)>,
    totals: Totals,
}

async fn store(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    changes: &[Numbered<'_>],
    facts: Facts,
) -> Result<Stored, SyncError> {
    let (fresh, mut rest) = match facts {
        Facts::MayBeNew => split(changes),
        Facts::AreThere => (Vec::new(), changes.iter().collect()),
    };
    let mut changed = Changed::default();
    let mut outcomes = Vec::with_capacity(changes.len());
    let new: Vec<_> = fresh
        .into_iter()
        .map(|it| (it, decide::fresh(batch, it)))
        .collect();
    let (inserted, mut held, mut counters) = read(tx, batch, &new, &rest).await?;
    let mut met = Vec::new();
    for (change, row) in new {
        let key = (change.valid.table.cloud, row.id);
        if inserted.contains(&key) {
            outcomes.push((
                change.position,
                decide::inserted(change, &row, &mut changed),
            ));
            // Looked at again only by a change of the same push.
            if !rest.is_empty() {
                let mut row = row;
                row.existing.row.clone_from(&change.valid.change.row);
                held.insert(key, row);
            }
        } else {
            met.push(change);
        }
    }
    if !met.is_empty() {
        fetch(tx, batch, &met, &mut held).await?;
        rest.extend(met);
        rest.sort_by_key(|change| change.position);
    }
    let gone = moves::gone(tx, batch, &buried(&rest, &held)).await?;
    for change in rest {
        let key = (change.valid.table.cloud, change.valid.change.id);
        if let Some((to, held)) = gone.get(&key).zip(held.get(&key))
            && change.valid.change.op == Op::Upsert
        {
            let outcome = decide::moved_away(batch, change, held, *to, &mut changed);
            outcomes.push((change.position, outcome));
            continue;
        }
        let outcome = decide::decide(batch, change, &mut held, &mut counters, &mut changed);
        outcomes.push((change.position, outcome));
    }
    write::write(tx, batch, &held, &counters, &changed).await?;
    Ok(Stored {
        outcomes,
        totals: changed.totals(),
    })
}

/// Returns the tombstones that changes would bring back.
pub(super) fn buried<'a>(
    changes: &[&Numbered<'_>],
    held: &'a HashMap<Key, Held>,
) -> Vec<(Key, &'a Held)> {
    let back = changes
        .iter()
        .filter(|change| change.valid.change.op == Op::Upsert);
    let keys = back.map(|change| (change.valid.table.cloud, change.valid.change.id));
    keys.filter_map(|key| Some((key, held.get(&key).filter(|held| held.deleted())?)))
        .collect()
}

/// Parts new facts, which one insert settles in most cases, from all that has to be read first.
fn split<'a, 'b>(changes: &'b [Numbered<'a>]) -> (Vec<&'b Numbered<'a>>, Vec<&'b Numbered<'a>>) {
    let mut seen = HashSet::new();
    changes.iter().partition(|change| {
        let first = seen.insert((change.valid.table.cloud, change.valid.change.id));
        first && is_fact(change)
    })
}

/// Returns whether the change brings a fact.
pub(super) fn is_fact(change: &Numbered<'_>) -> bool {
    change.valid.table.class == Class::Fact && change.valid.change.op == Op::Upsert
}

type Read = (HashSet<Key>, HashMap<Key, Held>, Counters);

/// Inserts the new facts, and reads rows and counter parts of all others, in one round trip.
async fn read(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    new: &[(&Numbered<'_>, Held)],
    others: &[&Numbered<'_>],
) -> Result<Read, SyncError> {
    let new = new
        .iter()
        .map(|(change, row)| (change.valid.table, (*change, row)));
    let new: Vec<_> = by_table(new)
        .into_iter()
        .map(|(table, facts)| (table, Rows::fresh(table, facts)))
        .collect();
    let wanted = ids(others);
    let counted = counters::Wanted::of(others);
    let mut statements: Vec<Statement<'_>> = new
        .iter()
        .map(|(table, rows)| rows.statement(batch, &sql::of(table).insert))
        .collect();
    statements.extend(
        wanted
            .iter()
            .map(|(table, ids)| fetch_statement(batch, table, ids)),
    );
    statements.extend(counted.statement(batch));
    if statements.is_empty() {
        return Ok(Read::default());
    }
    let mut answers = tx.pipeline(&statements).await?.into_iter();
    drop(statements);
    let mut inserted = HashSet::new();
    for ((table, _), rows) in new.iter().zip(answers.by_ref()) {
        for row in rows {
            inserted.insert((table.cloud, RowId::new(row.try_get(0)?)));
        }
    }
    let mut held = HashMap::new();
    for ((table, _), rows) in wanted.iter().zip(answers.by_ref()) {
        take(table, &rows, &mut held)?;
    }
    let parts = answers.next().unwrap_or_default();
    Ok((inserted, held, Counters::read(&parts)?))
}

async fn fetch(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    changes: &[&Numbered<'_>],
    held: &mut HashMap<Key, Held>,
) -> Result<(), SyncError> {
    let wanted = ids(changes);
    let statements: Vec<_> = wanted
        .iter()
        .map(|(table, ids)| fetch_statement(batch, table, ids))
        .collect();
    let answers = tx.pipeline(&statements).await?;
    for ((table, _), rows) in wanted.iter().zip(answers) {
        // A row inserted by this push is known already, and in its latest form.
        take(table, &rows, held)?;
    }
    Ok(())
}

fn take(
    table: &'static Table,
    rows: &[tokio_postgres::Row],
    held: &mut HashMap<Key, Held>,
) -> Result<(), StoreError> {
    for row in rows {
        let row = Held::read(table, row)?;
        held.entry((table.cloud, row.id)).or_insert(row);
    }
    Ok(())
}

fn fetch_statement<'a>(batch: &'a Batch<'_>, table: &Table, ids: &'a Vec<Uuid>) -> Statement<'a> {
    let params = vec![
        (&batch.tenant as _, Type::UUID),
        (&batch.scope as _, Type::UUID),
        (ids as _, Type::UUID_ARRAY),
    ];
    Statement {
        sql: &sql::of(table).fetch,
        params,
    }
}

/// Groups by table; tables in the order of their first item, items in theirs.
pub(super) fn by_table<T>(
    items: impl Iterator<Item = (&'static Table, T)>,
) -> Vec<(&'static Table, Vec<T>)> {
    let mut tables: Vec<(&'static Table, Vec<T>)> = Vec::new();
    for (table, item) in items {
        match tables
            .iter_mut()
            .find(|(known, _)| known.cloud == table.cloud)
        {
            Some((_, items)) => items.push(item),
            None => tables.push((table, vec![item])),
        }
    }
    tables
}

/// Returns the ids that the changes name in each table.
fn ids(changes: &[&Numbered<'_>]) -> Vec<(&'static Table, Vec<Uuid>)> {
    let ids = changes
        .iter()
        .map(|change| (change.valid.table, change.valid.change.id.get()));
    by_table(ids)
}

/// Reads what is stored under the keys of the changes.
pub(super) async fn stored(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    changes: &[&Numbered<'_>],
) -> Result<HashMap<Key, Held>, SyncError> {
    let mut held = HashMap::new();
    if !changes.is_empty() {
        fetch(tx, batch, changes, &mut held).await?;
    }
    Ok(held)
}

//! Joined pushes: several small ones of one tenant in one transaction, each in its own context.
//!
//! The streams are locked in the order given, which is that of their ids, then the tokens in
//! theirs. A push that is refused takes no part in what follows. New facts of all pushes are
//! inserted by one statement for each table; what needs to be read first goes through the rules
//! of a single push, one part after the other, so that later parts see what earlier ones wrote.
//! Three round trips carry out the usual case, the last of them with the commit.

mod close;
mod open;

use std::collections::{HashMap, HashSet};

use coditect_protocol::RowId;
use coditect_protocol::wire::push::{Outcome, PushReply, PushRequest};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::apply::{self, Facts, Key, by_table};
use super::counters::Counters;
use super::decide::{self, Changed};
use super::token::{Known, Life};
use super::write::Rows;
use super::{Batch, Numbered, PushContext, Totals, carry_out, checked};
use crate::db::{JoinedTx, Statement};
use crate::sync::guards::Guard;
use crate::sync::held::Held;
use crate::sync::{SyncError, bodies, sql};

/// What became of one push of several.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was carried out.
    Replied(PushReply),
    /// It was refused as a whole.
    Refused(SyncError),
    /// It has to be sent by itself: nothing of it was carried out.
    Alone,
}

/// A push that is carried out, with what was found out about it.
#[derive(Debug)]
struct Open<'a> {
    /// Its place among the parts of the transaction, from 0.
    part: usize,
    batch: Batch<'a>,
    life: Life,
    known: Option<Known>,
    /// The number that its first change's follows.
    n: i64,
    outcomes: Vec<Option<Outcome>>,
    /// New facts with their rows.
    fresh: Vec<(Numbered<'a>, Held)>,
    /// Facts that the insert met.
    met: Vec<Numbered<'a>>,
    /// All other changes that passed the checks.
    rest: Vec<Numbered<'a>>,
    /// What the new facts change.
    changed: Changed,
    totals: Totals,
}

impl<'a> Open<'a> {
    fn new(part: usize, batch: Batch<'a>, life: Life, known: Option<Known>, n: i64) -> Self {
        Self {
            part,
            batch,
            life,
            known,
            n,
            outcomes: Vec::new(),
            fresh: Vec::new(),
            met: Vec::new(),
            rest: Vec::new(),
            changed: Changed::default(),
            totals: Totals::default(),
        }
    }

    /// Returns the part's number in the database.
    fn number(&self) -> i32 {
        i32::try_from(self.part + 1).unwrap_or(i32::MAX)
    }
}

/// Carries the pushes out, one for each caller of the transaction, ordered by their streams, of
/// each file of a device one at most; commits. One answer for each.
///
/// # Errors
///
/// [`SyncError`] when the database fails for all of them, whoever caused it; nothing is stored
/// then, and each may be sent by itself.
pub(super) async fn push(
    tx: &mut JoinedTx,
    requests: &[&PushRequest],
    context: &PushContext<'_>,
) -> Result<Vec<Answer>, SyncError> {
    let (mut answers, mut parts) = open::open(tx, requests, context).await?;
    number(&mut parts);
    insert(tx, &mut parts).await?;
    settle_met(tx, &mut parts).await?;
    for part in &mut parts {
        if part.rest.is_empty() {
            continue;
        }
        let Open {
            batch,
            rest,
            outcomes,
            totals,
            ..
        } = part;
        let lent = tx.part(part.part)?;
        let of_rest = carry_out(lent, batch, rest, Facts::AreThere, outcomes).await?;
        totals.add(&of_rest);
    }
    #[cfg(feature = "fault-injection")]
    if let Some(first) = parts.first() {
        context.faults.delay(tx.part(first.part)?).await?;
        context.faults.fail_joined()?;
    }
    for (part, reply) in close::close(tx, parts, context).await? {
        answers[part] = Answer::Replied(reply);
    }
    Ok(answers)
}

/// Checks all changes, numbers them stream by stream, and finds those that may be new facts: of
/// a row that is named twice only the first.
fn number(parts: &mut [Open<'_>]) {
    let mut heads = HashMap::new();
    let mut seen = HashSet::new();
    for part in parts {
        let (scope, length) = (part.batch.scope, part.batch.request.changes.len());
        let head = heads.entry(scope).or_insert(part.n);
        if Guard::JoinedNumbers.is_on() {
            part.n = *head;
        }
        *head += length as i64;
        let (outcomes, changes) = checked(&part.batch, part.n);
        part.outcomes = outcomes;
        for change in changes {
            let first = seen.insert((scope, change.valid.table.cloud, change.valid.change.id))
                || !Guard::JoinedFirst.is_on();
            if first && apply::is_fact(&change) && !bodies::is_named_by(&change.valid) {
                let row = decide::fresh(&part.batch, &change);
                part.fresh.push((change, row));
            } else {
                part.rest.push(change);
            }
        }
    }
}

/// Inserts the new facts of all parts, one statement for each table; those that are there
/// already join the rest.
async fn insert(tx: &mut JoinedTx, parts: &mut [Open<'_>]) -> Result<(), SyncError> {
    let tenant = tx.tenant().get();
    let fresh = parts.iter().flat_map(|part| {
        let number = part.number();
        let rows = part.fresh.iter();
        rows.map(move |(change, row)| (change.valid.table, (number, (change, row))))
    });
    let tables: Vec<_> = by_table(fresh)
        .into_iter()
        .map(|(table, rows)| {
            let (numbers, facts): (Vec<i32>, Vec<_>) = rows.into_iter().unzip();
            (table, numbers, Rows::fresh(table, facts))
        })
        .collect();
    if tables.is_empty() {
        return Ok(());
    }
    let statements: Vec<Statement<'_>> = tables
        .iter()
        .map(|(table, numbers, rows)| rows.joined(&tenant, numbers, &sql::of(table).insert_joined))
        .collect();
    let answers = tx.shared(&statements).await?;
    let mut inserted = HashSet::new();
    for ((table, _, _), rows) in tables.iter().zip(answers) {
        for row in &rows {
            let (scope, id): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            inserted.insert((scope, table.cloud, RowId::new(id)));
        }
    }
    drop(statements);
    drop(tables);
    for part in parts {
        for (change, row) in std::mem::take(&mut part.fresh) {
            let key = (part.batch.scope, change.valid.table.cloud, row.id);
            if inserted.contains(&key) {
                let outcome = decide::inserted(&change, &row, &mut part.changed);
                part.outcomes[change.position] = Some(outcome);
            } else {
                part.met.push(change);
            }
        }
        part.totals = part.changed.totals();
    }
    Ok(())
}

/// Answers the facts that are stored already, after reading them stream by stream in one round
/// trip. Where more is to be done than to answer, they join the rest.
async fn settle_met(tx: &mut JoinedTx, parts: &mut [Open<'_>]) -> Result<(), SyncError> {
    if parts.iter().all(|part| part.met.is_empty()) {
        return Ok(());
    }
    let mut held = read_met(tx, parts).await?;
    for part in parts {
        let batch = part.batch;
        for change in std::mem::take(&mut part.met) {
            let stored = held.entry(batch.scope).or_default();
            let key = (change.valid.table.cloud, change.valid.change.id);
            let mut changed = Changed::default();
            let outcome = stored
                .get(&key)
                .is_some_and(|held| !held.deleted())
                .then(|| {
                    let mut counters = Counters::default();
                    decide::decide(&batch, &change, stored, &mut counters, &mut changed)
                });
            if changed.is_empty()
                && let Some(outcome) = outcome
            {
                part.outcomes[change.position] = Some(outcome);
            } else {
                // What was decided is not written here, so it counts for nobody.
                stored.remove(&key);
                part.rest.push(change);
            }
        }
        part.rest.sort_by_key(|change| change.position);
    }
    Ok(())
}

/// Reads the facts that the insert met, by their streams.
async fn read_met(
    tx: &mut JoinedTx,
    parts: &[Open<'_>],
) -> Result<HashMap<Uuid, HashMap<Key, Held>>, SyncError> {
    let tenant = tx.tenant().get();
    let mut streams: Vec<(&Open<'_>, Vec<_>)> = Vec::new();
    for part in parts.iter().filter(|part| !part.met.is_empty()) {
        let ids = part.met.iter();
        let ids = ids.map(|change| (change.valid.table, change.valid.change.id.get()));
        match streams.last_mut() {
            Some((first, known)) if first.batch.scope == part.batch.scope => known.extend(ids),
            _ => streams.push((part, ids.collect())),
        }
    }
    let mut wanted = Vec::new();
    for (part, ids) in streams {
        let tables = by_table(ids.into_iter());
        wanted.extend(tables.into_iter().map(|(table, ids)| (part, table, ids)));
    }
    let statements = wanted.iter().map(|(part, table, ids)| {
        let params = vec![
            (&tenant as _, Type::UUID),
            (&part.batch.scope as _, Type::UUID),
            (ids as _, Type::UUID_ARRAY),
        ];
        let sql = &sql::of(table).fetch;
        (part.part, Statement { sql, params })
    });
    let statements = statements.collect();
    let mut held: HashMap<Uuid, HashMap<Key, Held>> = HashMap::new();
    for ((part, table, _), rows) in wanted.iter().zip(tx.of_parts(statements).await?) {
        let stream = held.entry(part.batch.scope).or_default();
        for row in &rows {
            let row = Held::read(table, row)?;
            stream.insert((table.cloud, row.id), row);
        }
    }
    Ok(held)
}

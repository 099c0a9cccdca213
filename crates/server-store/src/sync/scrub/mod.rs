//! The rolling scrub: every stored row is read once a day, its hash made anew from its bytes, and
//! the sums that are kept of the rows are compared with the rows (DESIGN 4, "Convergence proof").
//!
//! Owns how far a round has got. A round goes through the tables in the catalogue's order: first
//! the rows of one, in short transactions, then its sums, stream by stream. A server holds a round
//! by a lease; its place is in the database, so that another one goes on where it stopped.

mod findings;
mod rows;
mod sums;

use std::time::Instant;

use chrono::{DateTime, Duration, Utc};
use coditect_protocol::OrganizationId;
use coditect_protocol::catalogue::{Class, TABLES, Table};
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::credential::random_uuid;
use crate::db::{Db, Param, SystemTask, SystemTx};
pub use findings::{FINDINGS_MAX, Finding, findings, recheck};

/// Time in which all rows of a tenant are read once.
const ROUND: Duration = Duration::hours(24);
/// Shortest pause between two slices of a tenant.
const PAUSE: Duration = Duration::minutes(1);
/// How long a server may go without a sign of life before its round is another's.
const LEASE: Duration = Duration::minutes(5);
/// Fewest and most rows of one slice.
const SLICE_ROWS: std::ops::RangeInclusive<i64> = 200..=100_000;
/// Rows read between two signs of life.
const ROWS_PER_RENEWAL: i64 = 5_000;

const MAKE: &str = "insert into scrub_rounds (tenant_id, started_at, next_at)
    select tenant_id, $1, $1 from tenants on conflict do nothing";
const COLUMNS: &str = "tenant_id, started_at, next_at, table_name, sums, scope_id, row_id,
    rows_expected, rows_read, found, last_finished_at, last_rows_read, last_found";
const LEASED: &str = "update scrub_rounds set lease_id = $2, lease_until = $3 where tenant_id = $1";
const EXPECTED: &str = "select coalesce(sum(count), 0)::bigint from stream_digests
    where tenant_id = $1";
const SAVE: &str = "update scrub_rounds set started_at = $3, next_at = $4, table_name = $5,
    sums = $6, scope_id = $7, row_id = $8, rows_expected = $9, rows_read = $10, found = $11,
    last_finished_at = $12, last_rows_read = $13, last_found = $14, lease_until = $15
    where tenant_id = $1 and lease_id = $2";

/// Where a round stands: behind a row, or behind a stream when it compares sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Position in the list of tables.
    table: usize,
    /// Whether the rows are read and the sums are compared.
    sums: bool,
    scope: Uuid,
    row: Uuid,
}

impl Place {
    const START: Self = Self {
        table: 0,
        sums: false,
        scope: Uuid::nil(),
        row: Uuid::nil(),
    };
}

/// A round that this server holds.
#[derive(Clone, Debug)]
pub struct Round {
    tenant: Uuid,
    lease: Uuid,
    started_at: DateTime<Utc>,
    place: Place,
    expected: i64,
    rows: i64,
    found: i64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    finished_at: DateTime<Utc>,
    rows: i64,
    found: i64,
}

/// What one slice did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slice {
    /// Rows that were read.
    pub rows: u64,
    /// Faults that were found, mended ones included.
    pub found: u64,
    /// Whether the round is complete.
    pub finished: bool,
}

/// How far the scrub of a tenant is, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The tenant.
    pub tenant_id: OrganizationId,
    /// When the round began, or the next one begins.
    pub started_at: DateTime<Utc>,
    /// When its next slice is due.
    pub next_at: DateTime<Utc>,
    /// Rows and tombstones when it began.
    pub rows_expected: i64,
    /// Rows read so far.
    pub rows_read: i64,
    /// Faults found so far.
    pub found: i64,
    /// When the round before was complete.
    pub last_finished_at: Option<DateTime<Utc>>,
    /// What it read.
    pub last_rows_read: Option<i64>,
    /// What it found.
    pub last_found: Option<i64>,
}

impl Round {
    /// Returns whose rows are read.
    #[must_use]
    pub const fn tenant(&self) -> OrganizationId {
        OrganizationId::new(self.tenant)
    }

    /// Returns how many rows have to be read now so that a day suffices.
    #[must_use]
    pub fn due(&self, now: DateTime<Utc>) -> u64 {
        let passed = (now - self.started_at + PAUSE).num_seconds();
        let passed = passed.clamp(0, ROUND.num_seconds());
        let due = i128::from(self.expected) * i128::from(passed) / i128::from(ROUND.num_seconds());
        let due = i64::try_from(due).unwrap_or(i64::MAX) - self.rows;
        due.clamp(*SLICE_ROWS.start(), *SLICE_ROWS.end()) as u64
    }
}

/// Claims a tenant whose next slice is due and that no other server reads.
///
/// # Errors
/// Those of the database.
pub async fn claim(db: &Db, now: DateTime<Utc>) -> Result<Option<Round>, StoreError> {
    let sql = format!(
        "select {COLUMNS} from scrub_rounds where next_at <= $1
    and (lease_until is null or lease_until < $1) order by next_at limit 1
    for update skip locked"
    );
    let sql = &sql;
    db.system(SystemTask::Scrub, |mut tx| async move {
        tx.execute(MAKE, &[(&now, Type::TIMESTAMPTZ)]).await?;
        let row = tx.query_opt(sql, &[(&now, Type::TIMESTAMPTZ)]).await?;
        match row {
            Some(row) => hold(&mut tx, &row, now).await.map(Some),
            None => Ok(None),
        }
    })
    .await
}

/// Claims a tenant for a whole round from its first row, whatever is due; none while another
/// server reads it.
///
/// # Errors
/// Those of the database.
pub async fn claim_now(
    db: &Db,
    tenant: OrganizationId,
    now: DateTime<Utc>,
) -> Result<Option<Round>, StoreError> {
    let sql = format!(
        "select {COLUMNS} from scrub_rounds where tenant_id = $1
    and (lease_until is null or lease_until < $2) for update"
    );
    let (sql, tenant) = (&sql, tenant.get());
    db.system(SystemTask::Scrub, |mut tx| async move {
        tx.execute(MAKE, &[(&now, Type::TIMESTAMPTZ)]).await?;
        let params = [(&tenant as _, Type::UUID), (&now as _, Type::TIMESTAMPTZ)];
        let Some(row) = tx.query_opt(sql, &params).await? else {
            return Ok(None);
        };
        let mut round = hold(&mut tx, &row, now).await?;
        begin(&mut tx, &mut round, now).await?;
        Ok::<_, StoreError>(Some(round))
    })
    .await
}

async fn hold(tx: &mut SystemTx, row: &Row, now: DateTime<Utc>) -> Result<Round, StoreError> {
    let name: Option<&str> = row.try_get(3)?;
    let position = name.map(|name| tables().position(|table| table.cloud == name));
    // A table that this version does not know, or none: from the start.
    let place = match position.flatten() {
        Some(table) => Place {
            table,
            sums: row.try_get(4)?,
            scope: row.try_get::<_, Option<Uuid>>(5)?.unwrap_or_default(),
            row: row.try_get::<_, Option<Uuid>>(6)?.unwrap_or_default(),
        },
        None => Place::START,
    };
    let (finished, rows, found) = (row.try_get(10)?, row.try_get(11)?, row.try_get(12)?);
    let mut round = Round {
        tenant: row.try_get(0)?,
        lease: random_uuid()?,
        started_at: row.try_get(1)?,
        place,
        expected: row.try_get(7)?,
        rows: row.try_get(8)?,
        found: row.try_get(9)?,
        last: Option::zip(finished, Option::zip(rows, found)).map(
            |(finished_at, (rows, found))| Last {
                finished_at,
                rows,
                found,
            },
        ),
    };
    let until = now + LEASE;
    let params = [
        (&round.tenant as _, Type::UUID),
        (&round.lease as _, Type::UUID),
        (&until as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(LEASED, &params).await?;
    if round.place == Place::START {
        begin(tx, &mut round, now).await?;
    }
    Ok(round)
}

/// Starts a round from the first row.
async fn begin(tx: &mut SystemTx, round: &mut Round, now: DateTime<Utc>) -> Result<(), StoreError> {
    let row = tx
        .query_opt(EXPECTED, &[(&round.tenant, Type::UUID)])
        .await?;
    round.expected = row.map_or(Ok(0), |row| row.try_get(0))?;
    (round.place, round.started_at) = (Place::START, now);
    (round.rows, round.found) = (0, 0);
    Ok(())
}

/// Reads `rows` rows behind the round's place, or to its end, mends what can be mended and notes
/// what cannot. Where others go first it rests after each transaction as long as that took, but no
/// longer than `rest_max`.
///
/// # Errors
/// [`StoreError::Retry`] when another server took the round over; those of the database. What was
/// read before is noted.
pub async fn slice(
    db: &Db,
    round: &mut Round,
    rows: u64,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
    rest_max: std::time::Duration,
) -> Result<Slice, StoreError> {
    let (mut slice, mut unsaved) = (Slice::default(), 0);
    let mut pace = rows::Pace::default();
    while slice.rows < rows && !slice.finished {
        let Some(table) = tables().nth(round.place.table) else {
            slice.finished = true;
            break;
        };
        let left = i64::try_from(rows - slice.rows).unwrap_or(i64::MAX);
        let began = Instant::now();
        let step = if round.place.sums {
            sums::step(db, round, table, now()).await?
        } else {
            rows::step(db, round, table, &mut pace, left, now()).await?
        };
        round.rows += step.rows;
        round.found += step.found;
        slice.rows += step.rows.unsigned_abs();
        slice.found += step.found.unsigned_abs();
        unsaved += step.rows.max(1);
        if unsaved >= ROWS_PER_RENEWAL {
            save(db, round, None, now()).await?;
            unsaved = 0;
        }
        if !rest_max.is_zero() {
            tokio::time::sleep(began.elapsed().min(rest_max)).await;
        }
    }
    Ok(slice)
}

/// What one step of a round did.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    rows: i64,
    found: i64,
}

/// Gives a round back after a slice: it goes on later, or begins anew a day after it began.
///
/// # Errors
/// As [`slice`].
pub async fn release(
    db: &Db,
    mut round: Round,
    finished: bool,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut next = now + PAUSE;
    if finished {
        round.last = Some(Last {
            finished_at: now,
            rows: round.rows,
            found: round.found,
        });
        next = (round.started_at + ROUND).max(next);
        round.place = Place::START;
        round.started_at = next;
        (round.rows, round.found) = (0, 0);
    }
    save(db, &round, Some(next), now).await
}

/// Notes a round's place; with a time for the next slice the lease ends.
async fn save(
    db: &Db,
    round: &Round,
    next: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let place = round.place;
    let table = tables().nth(place.table).map(|table| table.cloud);
    let table = table.filter(|_| place != Place::START);
    let lease_until = next.is_none().then(|| now + LEASE);
    let next = next.unwrap_or(now);
    let last = round.last;
    let (last_at, last_rows, last_found) = (
        last.map(|last| last.finished_at),
        last.map(|last| last.rows),
        last.map(|last| last.found),
    );
    let params: [Param<'_>; 15] = [
        (&round.tenant, Type::UUID),
        (&round.lease, Type::UUID),
        (&round.started_at, Type::TIMESTAMPTZ),
        (&next, Type::TIMESTAMPTZ),
        (&table, Type::TEXT),
        (&place.sums, Type::BOOL),
        (&place.scope, Type::UUID),
        (&place.row, Type::UUID),
        (&round.expected, Type::INT8),
        (&round.rows, Type::INT8),
        (&round.found, Type::INT8),
        (&last_at, Type::TIMESTAMPTZ),
        (&last_rows, Type::INT8),
        (&last_found, Type::INT8),
        (&lease_until, Type::TIMESTAMPTZ),
    ];
    let params = &params;
    let saved = db
        .system(SystemTask::Scrub, |mut tx| async move {
            tx.execute(SAVE, params).await
        })
        .await?;
    if saved == 1 {
        return Ok(());
    }
    Err(StoreError::Retry {
        reason: "another server took the scrub over",
    })
}

/// Returns how far every tenant's scrub is, or one tenant's.
///
/// # Errors
/// Those of the database.
pub async fn progress(
    db: &Db,
    tenant: Option<OrganizationId>,
) -> Result<Vec<Progress>, StoreError> {
    let sql = format!(
        "select {COLUMNS} from scrub_rounds where $1::uuid is null or tenant_id = $1
    order by tenant_id"
    );
    let (sql, tenant) = (&sql, tenant.map(|tenant| tenant.get()));
    db.system(SystemTask::Scrub, |mut tx| async move {
        let rows = tx.query(sql, &[(&tenant, Type::UUID)]).await?;
        let read = |row: &Row| {
            Ok(Progress {
                tenant_id: OrganizationId::new(row.try_get(0)?),
                started_at: row.try_get(1)?,
                next_at: row.try_get(2)?,
                rows_expected: row.try_get(7)?,
                rows_read: row.try_get(8)?,
                found: row.try_get(9)?,
                last_finished_at: row.try_get(10)?,
                last_rows_read: row.try_get(11)?,
                last_found: row.try_get(12)?,
            })
        };
        rows.iter().map(read).collect()
    })
    .await
}

/// Returns the tables whose rows are read: all of tenants. The platform's catalogue is read again
/// from its file by an import.
fn tables() -> impl Iterator<Item = &'static Table> {
    let of_tenants = |table: &&Table| table.class != Class::Catalogue;
    TABLES.iter().copied().filter(of_tenants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(expected: i64, rows: i64) -> Round {
        Round {
            tenant: Uuid::nil(),
            lease: Uuid::nil(),
            started_at: DateTime::UNIX_EPOCH,
            place: Place::START,
            expected,
            rows,
            found: 0,
            last: None,
        }
    }

    #[test]
    fn a_day_suffices_for_a_store_of_any_size_within_the_bounds() {
        for expected in [0, 1, 3_000, 1_000_000, 20_000_000] {
            let (mut read, mut slices) = (0, 0);
            let mut now = DateTime::UNIX_EPOCH;
            while read < expected && slices < 2_000 {
                read += round(expected, read).due(now) as i64;
                now += PAUSE;
                slices += 1;
            }
            assert!(now - DateTime::UNIX_EPOCH <= ROUND + PAUSE, "{expected}");
        }
    }

    #[test]
    fn a_late_round_reads_more_and_a_clock_that_jumps_does_no_harm() {
        let late = round(1_000_000, 0);
        assert_eq!(late.due(DateTime::UNIX_EPOCH + ROUND / 20), 50_694);
        assert_eq!(late.due(DateTime::UNIX_EPOCH + ROUND * 9), 100_000);
        assert_eq!(late.due(DateTime::UNIX_EPOCH - ROUND), 200);
    }
}

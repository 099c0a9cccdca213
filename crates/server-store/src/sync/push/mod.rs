//! Push: one batch of one stream and one file, in one READ COMMITTED transaction.
//!
//! The stream's row is locked first and until commit, then the row of the file's token. That
//! keeps a number from appearing behind a reader, and two copies of a file apart.

mod apply;
mod counters;
mod decide;
mod joined;
mod moves;
mod queue;
mod repeat;
mod restore;
mod trail;
mod trial;
pub(super) mod unfiled;
mod write;

pub use moves::move_rows;
pub use queue::PushQueue;
pub(crate) use restore::take_in;
pub use restore::{
    ArchivedPart, ArchivedRow, Restore, RestoreError, RestoreMode, Restored, TakenIn, restore,
};
pub use trial::{TrialError, Tried, try_restore};

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use coditect_core::clock::Skew;
use coditect_protocol::limits::PUSH_CHANGES_MAX;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::push::{Outcome, PushReply, PushRequest, Status};
use coditect_protocol::{Cursor, DeviceId, Epoch};
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::access::{self, Access, Question};
use super::token::{self, Check, Holder, Known, Life, Token, TokenKey};
use super::validate::{self, Refusal, Valid};
use super::{SyncError, bodies, sql};
use crate::StoreError;
use crate::audit;
use crate::credential::{Caller, random_bytes};
use crate::db::{Statement, TenantTx};
use apply::Facts;

const LOCK_STREAM: &str = "select n from streams where tenant_id = $1 and scope_id = $2
    for update";
#[cfg(feature = "fault-injection")]
const READ_STREAM: &str = "select n from streams where tenant_id = $1 and scope_id = $2";
const MAKE_STREAM: &str = "insert into streams (tenant_id, scope_id) values ($1, $2)
    on conflict do nothing";
const LOCK_TOKEN: &str = "select epoch, counter, nonce, previous_counter, previous_nonce, batch_id
    from device_tokens where tenant_id = $1 and device_id = $2 and file = $3 for update";
const MAKE_TOKEN: &str = "insert into device_tokens
    (tenant_id, device_id, file, epoch, counter, nonce, updated_at)
    values ($1, $2, $3, $4, 0, '', $5) on conflict do nothing";
const TURN_TOKEN: &str = "update device_tokens set epoch = $4, counter = $5, nonce = $6,
    previous_counter = $7, previous_nonce = $8, batch_id = $9, updated_at = $10
    where tenant_id = $1 and device_id = $2 and file = $3";
const COUNT_PUSH: &str = "insert into device_cursors
    (tenant_id, device_id, scope_id, file, epoch, n, rows_pushed, bytes_pushed, last_push_at)
    values ($1, $2, $3, $4, $5, 0, $6, $7, $8)
    on conflict (tenant_id, device_id, scope_id, file) do update set
    rows_pushed = device_cursors.rows_pushed + excluded.rows_pushed,
    bytes_pushed = device_cursors.bytes_pushed + excluded.bytes_pushed,
    last_push_at = excluded.last_push_at";

/// What a push needs from outside the database.
#[derive(Clone, Copy, Debug)]
pub struct PushContext<'a> {
    /// The server's time, milliseconds since 1970.
    pub now_ms: i64,
    /// Key of the file tokens.
    pub key: &'a TokenKey,
    /// Guards that a test takes out.
    #[cfg(feature = "fault-injection")]
    pub faults: super::Faults,
}

impl<'a> PushContext<'a> {
    /// Makes the context with all guards in place.
    #[must_use]
    pub fn new(now_ms: i64, key: &'a TokenKey) -> Self {
        Self {
            now_ms,
            key,
            #[cfg(feature = "fault-injection")]
            faults: super::Faults::default(),
        }
    }
}

/// What every part of a push knows.
#[derive(Clone, Copy, Debug)]
struct Batch<'a> {
    tenant: Uuid,
    scope: Uuid,
    user: Uuid,
    device: DeviceId,
    id: Uuid,
    now: DateTime<Utc>,
    skew: Skew,
    /// Whether the role does not allow to delete checkpoints.
    keeps_checkpoints: bool,
    request: &'a PushRequest,
}

impl<'a> Batch<'a> {
    fn new(tx: &TenantTx, request: &'a PushRequest, now_ms: i64) -> Result<Self, SyncError> {
        Self::of(tx.caller(), request, now_ms)
    }

    fn of(caller: &Caller, request: &'a PushRequest, now_ms: i64) -> Result<Self, SyncError> {
        if request.changes.len() > PUSH_CHANGES_MAX {
            return Err(SyncError::BadRequest("a push has at most 1000 changes"));
        }
        let now = DateTime::from_timestamp_millis(now_ms);
        Ok(Self {
            tenant: caller.tenant().get(),
            scope: request.scope.id(),
            user: caller.user_id().get(),
            device: request.device,
            id: request.batch_id.get(),
            now: now.ok_or(SyncError::BadRequest("the server's clock is out of range"))?,
            skew: Skew::measure(now_ms, request.sent_at_ms),
            keeps_checkpoints: false,
            request,
        })
    }

    /// Returns a time of the device by the server's clock, and not after it.
    fn corrected_time(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let by_ms = time.timestamp_millis();
        let shift = chrono::TimeDelta::milliseconds(self.skew.correct_ms(by_ms) - by_ms);
        time.checked_add_signed(shift).unwrap_or(self.now)
    }
}

/// What the rows of a push amount to.
#[derive(Debug, Default)]
struct Totals {
    /// Highest number that was used; 0 when nothing was written.
    head: i64,
    rows: i64,
    bytes: i64,
}

impl Totals {
    /// Adds what further rows of the same push amount to.
    fn add(&mut self, other: &Self) {
        self.head = self.head.max(other.head);
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Stores the batch and answers each of its changes.
///
/// # Errors
///
/// [`SyncError`] when the batch is refused as a whole. On [`SyncError::EpochBehind`] the caller
/// has to change the epoch, on [`SyncError::Fenced`] to register a new device; both roll back.
pub async fn push(
    tx: &mut TenantTx,
    request: &PushRequest,
    context: &PushContext<'_>,
) -> Result<PushReply, SyncError> {
    let batch = Batch::new(tx, request, context.now_ms)?;
    let (access, n, known) = open(tx, &batch, lock_stream(context)).await?;
    let life = access.life;
    let batch = Batch {
        keeps_checkpoints: !access.may(Permission::CheckpointsDelete, request.scope),
        ..batch
    };
    let reply = |outcomes, token| reply(&batch, context, life, outcomes, token);
    if admit(&batch, context, life, known.as_ref())? == Admitted::Again {
        let token = repeated_token(known.as_ref(), life)?;
        return Ok(reply(repeat::answer(tx, &batch).await?, token));
    }
    let (outcomes, totals) = store(tx, &batch, n).await?;
    let token = close(tx, &batch, life, known.as_ref(), &totals, &outcomes).await?;
    note_head(tx, request, life.epoch, &totals);
    #[cfg(feature = "fault-injection")]
    context.faults.delay(tx).await?;
    Ok(reply(outcomes, token))
}

/// How a push that is not refused goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    /// It is carried out.
    First,
    /// It was carried out; its reply was lost.
    Again,
}

/// Says whether a push is carried out, by the token that it sent and the life it is of.
fn admit(
    batch: &Batch<'_>,
    context: &PushContext<'_>,
    life: Life,
    known: Option<&Known>,
) -> Result<Admitted, SyncError> {
    let request = batch.request;
    let sent = request.token.as_deref();
    let sent = match sent.map(|text| Token::verify(text, context.key, holder(batch))) {
        Some(None) => return Err(SyncError::Fenced),
        Some(Some(token)) => Some(token),
        None => None,
    };
    let batch_id = request.batch_id;
    match token::check_push(request.epoch, sent.as_ref(), batch_id, known, life) {
        Check::Current => Ok(Admitted::First),
        Check::Repeated => Ok(Admitted::Again),
        Check::OtherEpoch => Err(SyncError::EpochChanged { epoch: life.epoch }),
        Check::DatabaseBehind => Err(SyncError::EpochBehind { epoch: life.epoch }),
        Check::Fenced => Err(SyncError::Fenced),
    }
}

fn holder(batch: &Batch<'_>) -> Holder {
    Holder {
        tenant: batch.tenant,
        device: batch.device,
        file: batch.request.file,
    }
}

fn reply(
    batch: &Batch<'_>,
    context: &PushContext<'_>,
    life: Life,
    outcomes: Vec<Outcome>,
    token: Token,
) -> PushReply {
    PushReply {
        epoch: life.epoch,
        token: token.sign(context.key, holder(batch)),
        server_time_ms: context.now_ms,
        outcomes,
    }
}

#[cfg_attr(
    not(feature = "fault-injection"),
    expect(unused_variables, reason = "for tests")
)]
const fn lock_stream(context: &PushContext<'_>) -> &'static str {
    #[cfg(feature = "fault-injection")]
    if context.faults.stream_lock_off {
        return READ_STREAM;
    }
    LOCK_STREAM
}

/// Locks stream and token and checks what the caller may do. Returns the stream's counter and
/// what is known of the file's tokens.
async fn open(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    lock_stream: &str,
) -> Result<(Access, i64, Option<Known>), SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, batch.device);
    let (device, file) = (batch.device.get(), batch.request.file.as_str());
    let stream = vec![
        (&batch.tenant as _, Type::UUID),
        (&batch.scope as _, Type::UUID),
    ];
    let token = vec![
        (&batch.tenant as _, Type::UUID),
        (&device as _, Type::UUID),
        (&file as _, Type::TEXT),
    ];
    let mut statements = vec![
        Statement {
            sql: lock_stream,
            params: stream.clone(),
        },
        Statement {
            sql: LOCK_TOKEN,
            params: token.clone(),
        },
    ];
    statements.extend(question.statements());
    let mut answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[2..2 + access::STATEMENTS])?;
    access.require(Permission::SyncPush, batch.request.scope)?;
    if answers[0].is_empty() || answers[1].is_empty() {
        let epoch = access.life.epoch.to_string();
        let mut make_token = token.clone();
        make_token.push((&epoch, Type::TEXT));
        make_token.push((&batch.now, Type::TIMESTAMPTZ));
        answers = tx
            .pipeline(&[
                Statement {
                    sql: MAKE_STREAM,
                    params: stream.clone(),
                },
                Statement {
                    sql: MAKE_TOKEN,
                    params: make_token,
                },
                Statement {
                    sql: lock_stream,
                    params: stream,
                },
                Statement {
                    sql: LOCK_TOKEN,
                    params: token,
                },
            ])
            .await?
            .split_off(2);
    }
    let stream = answers[0].first().ok_or(StoreError::NotFound)?;
    let known = known(answers[1].first().ok_or(StoreError::NotFound)?)?;
    Ok((access, stream.try_get(0)?, known))
}

/// Reads the token's row; `None` when no token was given out yet.
pub(super) fn known(row: &Row) -> Result<Option<Known>, SyncError> {
    let counter: i64 = row.try_get(1)?;
    if counter == 0 {
        return Ok(None);
    }
    let epoch: Epoch = row
        .try_get::<_, &str>(0)?
        .parse()
        .map_err(|_| StoreError::Corrupt {
            table: "device_tokens",
            row: "epoch".to_owned(),
        })?;
    let previous: Option<i64> = row.try_get(3)?;
    let nonce: Option<Vec<u8>> = row.try_get(4)?;
    let batch: Option<Uuid> = row.try_get(5)?;
    Ok(Some(Known {
        epoch,
        counter,
        nonce: row.try_get(2)?,
        previous: previous.zip(nonce),
        batch: batch.map(coditect_protocol::BatchId::new),
    }))
}

fn repeated_token(known: Option<&Known>, life: Life) -> Result<Token, SyncError> {
    let known = known.ok_or(SyncError::Fenced)?;
    let nonce = known
        .nonce
        .as_slice()
        .try_into()
        .map_err(|_| StoreError::Corrupt {
            table: "device_tokens",
            row: "nonce".to_owned(),
        })?;
    Ok(Token {
        life,
        counter: known.counter,
        nonce,
    })
}

/// Checks, decides and writes all changes; answers them in the order of the request.
async fn store(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    n: i64,
) -> Result<(Vec<Outcome>, Totals), SyncError> {
    let (mut outcomes, mut changes) = checked(batch, n);
    let totals = carry_out(tx, batch, &mut changes, Facts::MayBeNew, &mut outcomes).await?;
    Ok((whole(outcomes), totals))
}

/// Checks each change by itself and numbers those that pass, behind `n`; the others have their
/// outcome.
fn checked<'a>(batch: &Batch<'a>, n: i64) -> (Vec<Option<Outcome>>, Vec<Numbered<'a>>) {
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    let mut changes = Vec::new();
    for (position, change) in batch.request.changes.iter().enumerate() {
        match validate::change(change, batch.request.file, batch.device) {
            Ok(valid) => {
                outcomes.push(None);
                changes.push(Numbered {
                    position,
                    cursor: n + 1 + position as i64,
                    valid,
                });
            }
            Err(refusal) => outcomes.push(Some(rejected(refusal))),
        }
    }
    (outcomes, changes)
}

/// Decides and writes changes that passed the checks, in the order of their positions.
async fn carry_out(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    changes: &mut Vec<Numbered<'_>>,
    facts: Facts,
    outcomes: &mut [Option<Outcome>],
) -> Result<Totals, SyncError> {
    let place = bodies::Place {
        tenant: batch.tenant,
        scope: batch.scope,
    };
    refuse_without_body(tx, place, changes, outcomes).await?;
    let mut totals = Totals::default();
    let mut links = bodies::Links::default();
    for (position, outcome) in apply::bisecting(tx, batch, changes, facts, &mut totals).await? {
        let change = changes.binary_search_by_key(&position, |change| change.position);
        if let Ok(at) = change {
            links.note(&changes[at].valid, outcome.status);
        }
        outcomes[position] = Some(outcome);
    }
    totals.bytes += links.write(tx, place).await?;
    Ok(totals)
}

fn whole(outcomes: Vec<Option<Outcome>>) -> Vec<Outcome> {
    let outcomes: Option<Vec<_>> = outcomes.into_iter().collect();
    outcomes.expect("every change has an outcome")
}

/// Takes out the changes that name a body which is not here.
async fn refuse_without_body(
    tx: &mut TenantTx,
    place: bodies::Place,
    changes: &mut Vec<Numbered<'_>>,
    outcomes: &mut [Option<Outcome>],
) -> Result<(), SyncError> {
    let valid: Vec<_> = changes.iter().map(|change| &change.valid).collect();
    let mut refusals = bodies::missing(tx, place, &valid).await?.into_iter();
    changes.retain(|change| match refusals.next().flatten() {
        Some(refusal) => {
            outcomes[change.position] = Some(rejected(refusal));
            false
        }
        None => true,
    });
    Ok(())
}

/// A change with its place in the request and the number that it gets if it is written.
#[derive(Debug)]
struct Numbered<'a> {
    position: usize,
    cursor: i64,
    valid: Valid<'a>,
}

fn rejected(refusal: Refusal) -> Outcome {
    Outcome {
        status: Status::Rejected,
        code: Some(refusal.code),
        reason: Some(refusal.reason),
        stored: None,
        loser: None,
        moved_to: None,
    }
}

/// Returns the token that acknowledges a push.
fn next_token(life: Life, known: Option<&Known>) -> Result<Token, SyncError> {
    Ok(Token {
        life,
        counter: known.map_or(0, |known| known.counter) + 1,
        nonce: random_bytes().map_err(StoreError::from)?,
    })
}

/// Moves the stream and the token on, counts, and leaves the entry in the audit trail.
async fn close(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    life: Life,
    known: Option<&Known>,
    totals: &Totals,
    outcomes: &[Outcome],
) -> Result<Token, SyncError> {
    let next = next_token(life, known)?;
    let counter = next.counter;
    let known = known.filter(|known| known.epoch == life.epoch);
    let sums = Sums::of(batch, life.epoch, totals);
    let nonce = next.nonce.as_slice();
    let previous_counter = known.map(|known| known.counter);
    let previous_nonce = known.map(|known| known.nonce.as_slice());
    let mut statements = vec![Statement {
        sql: TURN_TOKEN,
        params: vec![
            (&batch.tenant, Type::UUID),
            (&sums.device, Type::UUID),
            (&sums.file, Type::TEXT),
            (&sums.epoch, Type::TEXT),
            (&counter, Type::INT8),
            (&nonce, Type::BYTEA),
            (&previous_counter, Type::INT8),
            (&previous_nonce, Type::BYTEA),
            (&batch.id, Type::UUID),
            (&batch.now, Type::TIMESTAMPTZ),
        ],
    }];
    statements.extend(sums.statements(batch, totals));
    let entry = entry(batch, outcomes);
    let entry = audit::Prepared::new(tx, &entry)?;
    statements.push(entry.statement());
    tx.pipeline(&statements).await?;
    Ok(next)
}

/// Has the stream's followers told once the transaction is committed.
fn note_head(tx: &mut TenantTx, request: &PushRequest, epoch: Epoch, totals: &Totals) {
    if totals.head > 0 {
        let n = totals.head;
        tx.note_head(request.scope, request.file, Cursor { epoch, n });
    }
}

/// What a push adds to the stream and to the statistics of its device; owns the parameters.
#[derive(Debug)]
struct Sums {
    device: Uuid,
    file: &'static str,
    epoch: String,
    changes: i64,
    bytes: i64,
}

impl Sums {
    fn of(batch: &Batch<'_>, epoch: Epoch, totals: &Totals) -> Self {
        Self {
            device: batch.device.get(),
            file: batch.request.file.as_str(),
            epoch: epoch.to_string(),
            changes: batch.request.changes.len() as i64,
            bytes: totals.bytes.max(0),
        }
    }

    fn statements<'a>(&'a self, batch: &'a Batch<'_>, totals: &'a Totals) -> Vec<Statement<'a>> {
        let mut statements = vec![Statement {
            sql: COUNT_PUSH,
            params: vec![
                (&batch.tenant, Type::UUID),
                (&self.device, Type::UUID),
                (&batch.scope, Type::UUID),
                (&self.file, Type::TEXT),
                (&self.epoch, Type::TEXT),
                (&self.changes, Type::INT8),
                (&self.bytes, Type::INT8),
                (&batch.now, Type::TIMESTAMPTZ),
            ],
        }];
        if totals.head > 0 {
            statements.push(Statement {
                sql: sql::advance(batch.request.file),
                params: vec![
                    (&batch.tenant, Type::UUID),
                    (&batch.scope, Type::UUID),
                    (&totals.head, Type::INT8),
                    (&totals.rows, Type::INT8),
                    (&totals.bytes, Type::INT8),
                ],
            });
        }
        statements
    }
}

/// Returns the push's entry in the audit trail: counts per table, never content.
fn entry(batch: &Batch<'_>, outcomes: &[Outcome]) -> audit::Entry<'static> {
    let mut tables: BTreeMap<&str, HashMap<Status, u64>> = BTreeMap::new();
    for (change, outcome) in batch.request.changes.iter().zip(outcomes) {
        // Unknown names are not ours to keep.
        let table = coditect_protocol::catalogue::by_cloud_name(&change.table);
        let table = table.map_or("unknown", |table| table.cloud);
        *tables
            .entry(table)
            .or_default()
            .entry(outcome.status)
            .or_default() += 1;
    }
    audit::Entry {
        at: batch.now,
        action: "push",
        resource_type: Some("stream"),
        resource_id: Some(batch.request.scope.to_string()),
        detail: json!({
            "device": batch.device,
            "batch": batch.id,
            "file": batch.request.file,
            "tables": tables,
        }),
    }
}

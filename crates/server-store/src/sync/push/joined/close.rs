//! Moves streams and tokens on, counts, leaves the entries in the audit trail, and commits: one
//! statement each for all parts, in one round trip.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coditect_core::digest::Digest;
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{Cursor, DeviceId};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Open;
use crate::audit;
use crate::db::{JoinedTx, Statement};
use crate::sync::SyncError;
use crate::sync::guards::Guard;
use crate::sync::push::token::Token;
use crate::sync::push::{PushContext, entry, next_token, reply, whole};

const TURN_TOKENS: &str = "insert into device_tokens (tenant_id, device_id, file, epoch, counter,
    nonce, previous_counter, previous_nonce, batch_id, updated_at)
    select $1, device_id, file, epoch, counter, nonce, previous_counter, previous_nonce, batch_id,
    updated_at
    from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bytea[], $7::bigint[],
    $8::bytea[], $9::uuid[], $10::timestamptz[])
    as given (device_id, file, epoch, counter, nonce, previous_counter, previous_nonce, batch_id,
    updated_at)
    on conflict (tenant_id, device_id, file) do update set epoch = excluded.epoch,
    counter = excluded.counter, nonce = excluded.nonce,
    previous_counter = excluded.previous_counter, previous_nonce = excluded.previous_nonce,
    batch_id = excluded.batch_id, updated_at = excluded.updated_at";
const COUNT_PUSHES: &str = "insert into device_cursors
    (tenant_id, device_id, scope_id, file, epoch, n, rows_pushed, bytes_pushed, last_push_at)
    select $1, device_id, scope_id, file, epoch, 0, rows_pushed, bytes_pushed, last_push_at
    from unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::timestamptz[])
    as given (device_id, scope_id, file, epoch, rows_pushed, bytes_pushed, last_push_at)
    order by device_id, scope_id, file
    on conflict (tenant_id, device_id, scope_id, file) do update set
    rows_pushed = device_cursors.rows_pushed + excluded.rows_pushed,
    bytes_pushed = device_cursors.bytes_pushed + excluded.bytes_pushed,
    last_push_at = excluded.last_push_at";
const ADD_DIGESTS: &str = "insert into stream_digests
    (tenant_id, scope_id, table_name, origin_device, rows, count, xor)
    select $1, act_as(part), table_name, origin_device, rows, count, xor
    from unnest($2::integer[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[])
    as given (part, table_name, origin_device, rows, count, xor)
    on conflict (tenant_id, scope_id, table_name, origin_device) do update set
    rows = stream_digests.rows + excluded.rows, count = stream_digests.count + excluded.count,
    xor = stream_digests.xor # excluded.xor";
/// The rows are there and locked, so the conflict is what always happens.
const ADVANCE: &str = "insert into streams (tenant_id, scope_id, n, head_platform, head_org,
    head_sessions, head_projects, row_count, byte_count)
    select $1, act_as(part), n, head_platform, head_org, head_sessions, head_projects, row_count,
    byte_count
    from unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[])
    as given (part, n, head_platform, head_org, head_sessions, head_projects, row_count,
    byte_count)
    on conflict (tenant_id, scope_id) do update set n = greatest(streams.n, excluded.n),
    head_platform = greatest(streams.head_platform, excluded.head_platform),
    head_org = greatest(streams.head_org, excluded.head_org),
    head_sessions = greatest(streams.head_sessions, excluded.head_sessions),
    head_projects = greatest(streams.head_projects, excluded.head_projects),
    row_count = streams.row_count + excluded.row_count,
    byte_count = streams.byte_count + excluded.byte_count";

/// Writes what all parts have in common, commits, and returns the replies with the place of
/// their parts.
pub(super) async fn close(
    tx: &mut JoinedTx,
    parts: Vec<Open<'_>>,
    context: &PushContext<'_>,
) -> Result<Vec<(usize, PushReply)>, SyncError> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let tenant = tx.tenant().get();
    let mut tokens = Tokens::default();
    let mut pushes = Pushes::default();
    let mut digests = Digests::default();
    let mut streams = Streams::default();
    let mut entries = audit::Joined::default();
    let mut replies = Vec::with_capacity(parts.len());
    for mut part in parts {
        let outcomes = whole(std::mem::take(&mut part.outcomes));
        let next = next_token(part.life, part.known.as_ref())?;
        tokens.push(&part, &next);
        pushes.push(&part);
        digests.add(&part);
        streams.add(&part);
        entries.push(
            part.number(),
            &tx.callers()[part.part],
            entry(&part.batch, &outcomes),
        )?;
        if part.totals.head > 0 {
            let (n, epoch) = (part.totals.head, part.life.epoch);
            let request = part.batch.request;
            tx.note_head(request.scope, request.file, Cursor { epoch, n });
        }
        let reply = reply(&part.batch, context, part.life, outcomes, next);
        replies.push((part.part, reply));
    }
    let (digests, streams) = (digests.arrays(), streams.arrays());
    let mut statements = vec![tokens.statement(&tenant), pushes.statement(&tenant)];
    if !digests.parts.is_empty() {
        statements.push(digests.statement(&tenant));
    }
    if !streams.parts.is_empty() {
        statements.push(streams.statement(&tenant));
    }
    statements.push(entries.statement(&tenant));
    let committed = tx.shared_and_commit(&statements).await;
    if Guard::JoinedCommit.is_on() {
        // Nobody is answered before.
        committed?;
    }
    Ok(replies)
}

/// New tokens as arrays.
#[derive(Debug, Default)]
struct Tokens {
    devices: Vec<Uuid>,
    files: Vec<&'static str>,
    epochs: Vec<String>,
    counters: Vec<i64>,
    nonces: Vec<Vec<u8>>,
    previous_counters: Vec<Option<i64>>,
    previous_nonces: Vec<Option<Vec<u8>>>,
    batches: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
}

impl Tokens {
    fn push(&mut self, part: &Open<'_>, next: &Token) {
        let known = part.known.as_ref();
        let known = known.filter(|known| known.epoch == part.life.epoch);
        self.devices.push(part.batch.device.get());
        self.files.push(part.batch.request.file.as_str());
        self.epochs.push(part.life.epoch.to_string());
        self.counters.push(next.counter);
        self.nonces.push(next.nonce.to_vec());
        self.previous_counters
            .push(known.map(|known| known.counter));
        self.previous_nonces
            .push(known.map(|known| known.nonce.clone()));
        self.batches.push(part.batch.id);
        self.at.push(part.batch.now);
    }

    fn statement<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        Statement {
            sql: TURN_TOKENS,
            params: vec![
                (tenant, Type::UUID),
                (&self.devices, Type::UUID_ARRAY),
                (&self.files, Type::TEXT_ARRAY),
                (&self.epochs, Type::TEXT_ARRAY),
                (&self.counters, Type::INT8_ARRAY),
                (&self.nonces, Type::BYTEA_ARRAY),
                (&self.previous_counters, Type::INT8_ARRAY),
                (&self.previous_nonces, Type::BYTEA_ARRAY),
                (&self.batches, Type::UUID_ARRAY),
                (&self.at, Type::TIMESTAMPTZ_ARRAY),
            ],
        }
    }
}

/// Statistics of devices as arrays.
#[derive(Debug, Default)]
struct Pushes {
    devices: Vec<Uuid>,
    scopes: Vec<Uuid>,
    files: Vec<&'static str>,
    epochs: Vec<String>,
    rows: Vec<i64>,
    bytes: Vec<i64>,
    at: Vec<DateTime<Utc>>,
}

impl Pushes {
    fn push(&mut self, part: &Open<'_>) {
        self.devices.push(part.batch.device.get());
        self.scopes.push(part.batch.scope);
        self.files.push(part.batch.request.file.as_str());
        self.epochs.push(part.life.epoch.to_string());
        self.rows.push(part.batch.request.changes.len() as i64);
        self.bytes.push(part.totals.bytes.max(0));
        self.at.push(part.batch.now);
    }

    fn statement<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        Statement {
            sql: COUNT_PUSHES,
            params: vec![
                (tenant, Type::UUID),
                (&self.devices, Type::UUID_ARRAY),
                (&self.scopes, Type::UUID_ARRAY),
                (&self.files, Type::TEXT_ARRAY),
                (&self.epochs, Type::TEXT_ARRAY),
                (&self.rows, Type::INT8_ARRAY),
                (&self.bytes, Type::INT8_ARRAY),
                (&self.at, Type::TIMESTAMPTZ_ARRAY),
            ],
        }
    }
}

/// Differences of digests by stream, table and origin, under the first part that has one.
#[derive(Debug, Default)]
struct Digests(HashMap<(Uuid, &'static str, DeviceId), (i32, Digest)>);

impl Digests {
    fn add(&mut self, part: &Open<'_>) {
        for ((table, origin), digest) in &part.changed.digests {
            let key = (part.batch.scope, *table, *origin);
            let (_, sum) = self
                .0
                .entry(key)
                .or_insert((part.number(), Digest::default()));
            sum.join(*digest);
        }
    }

    /// Returns them in the order of their parts, so that the context changes seldom.
    fn arrays(self) -> DigestArrays {
        let mut sums: Vec<_> = self.0.into_iter().collect();
        sums.sort_by_key(|((_, table, origin), (part, _))| (*part, *table, *origin));
        let mut arrays = DigestArrays::default();
        for ((_, table, origin), (part, digest)) in sums {
            arrays.parts.push(part);
            arrays.tables.push(table);
            arrays.origins.push(origin.get());
            arrays.rows.push(digest.rows);
            arrays.counts.push(digest.count);
            arrays.xors.push(digest.xor.cast_signed());
        }
        arrays
    }
}

#[derive(Debug, Default)]
struct DigestArrays {
    parts: Vec<i32>,
    tables: Vec<&'static str>,
    origins: Vec<Uuid>,
    rows: Vec<i64>,
    counts: Vec<i64>,
    xors: Vec<i64>,
}

impl DigestArrays {
    fn statement<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        Statement {
            sql: ADD_DIGESTS,
            params: vec![
                (tenant, Type::UUID),
                (&self.parts, Type::INT4_ARRAY),
                (&self.tables, Type::TEXT_ARRAY),
                (&self.origins, Type::UUID_ARRAY),
                (&self.rows, Type::INT8_ARRAY),
                (&self.counts, Type::INT8_ARRAY),
                (&self.xors, Type::INT8_ARRAY),
            ],
        }
    }
}

/// Where streams move to, and what they gain, under the first part that moves them.
#[derive(Debug, Default)]
struct Streams(HashMap<Uuid, Moved>);

#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    part: i32,
    n: i64,
    /// Heads in the order of the columns; 0 where none moves.
    heads: [i64; 4],
    rows: i64,
    bytes: i64,
}

impl Streams {
    fn add(&mut self, part: &Open<'_>) {
        let totals = &part.totals;
        if totals.head == 0 {
            return;
        }
        let moved = self.0.entry(part.batch.scope).or_insert(Moved {
            part: part.number(),
            ..Moved::default()
        });
        moved.n = moved.n.max(totals.head);
        let head = &mut moved.heads[match part.batch.request.file {
            File::Platform => 0,
            File::Org => 1,
            File::Sessions => 2,
            File::Projects => 3,
        }];
        *head = (*head).max(totals.head);
        moved.rows += totals.rows;
        moved.bytes += totals.bytes;
    }

    /// Returns them in the order of their parts.
    fn arrays(self) -> StreamArrays {
        let mut all: Vec<Moved> = self.0.into_values().collect();
        all.sort_by_key(|moved| moved.part);
        StreamArrays {
            parts: all.iter().map(|moved| moved.part).collect(),
            n: all.iter().map(|moved| moved.n).collect(),
            heads: [0, 1, 2, 3].map(|file| all.iter().map(|moved| moved.heads[file]).collect()),
            rows: all.iter().map(|moved| moved.rows).collect(),
            bytes: all.iter().map(|moved| moved.bytes).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct StreamArrays {
    parts: Vec<i32>,
    n: Vec<i64>,
    heads: [Vec<i64>; 4],
    rows: Vec<i64>,
    bytes: Vec<i64>,
}

impl StreamArrays {
    fn statement<'a>(&'a self, tenant: &'a Uuid) -> Statement<'a> {
        let [platform, org, sessions, projects] = &self.heads;
        Statement {
            sql: ADVANCE,
            params: vec![
                (tenant, Type::UUID),
                (&self.parts, Type::INT4_ARRAY),
                (&self.n, Type::INT8_ARRAY),
                (platform, Type::INT8_ARRAY),
                (org, Type::INT8_ARRAY),
                (sessions, Type::INT8_ARRAY),
                (projects, Type::INT8_ARRAY),
                (&self.rows, Type::INT8_ARRAY),
                (&self.bytes, Type::INT8_ARRAY),
            ],
        }
    }
}

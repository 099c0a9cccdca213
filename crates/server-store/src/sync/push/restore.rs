//! Restore: rows of an archive come back into their stream, under new versions, in one
//! transaction. Devices get them like any other change.
//!
//! A counter is not set back: what devices added since the backup stays added.

mod taken;

pub use taken::TakenIn;
pub(crate) use taken::take_in;

use std::collections::{BTreeMap, HashMap, HashSet};

use coditect_core::body;
use coditect_core::clock;
use coditect_core::merge::Existing;
use coditect_protocol::catalogue::{Class, Direction, File, Merge, TABLES, Table};
use coditect_protocol::wire::bodies::Body;
use coditect_protocol::wire::push::PushRequest;
use coditect_protocol::wire::{Op, Stored};
use coditect_protocol::{API_VERSION, BatchId, DeviceId, RowId, Scope, UserId};
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::apply::{Key, by_table};
use super::counters::{self, Counters};
use super::decide::{Changed, Kept};
use super::unfiled::{self, Opened};
use super::{Batch, moves, write};
use crate::StoreError;
use crate::audit;
use crate::credential::random_uuid;
use crate::db::{Retryable, Statement, TenantTx};
use crate::erasure;
use crate::sync::held::Held;
use crate::sync::{SyncError, bodies, columns, sql};

/// Live rows behind cursor `$3` and up to `$4` that are looked through at once.
const SWEEP_AT_ONCE: i64 = 500;
const ADD_PARTS: &str = "insert into counter_parts
    (tenant_id, scope_id, table_name, row_id, column_name, device_id, seq, total)
    select $1, $2, table_name, row_id, column_name, device_id, seq, total
    from unnest($3::text[], $4::uuid[], $5::text[], $6::uuid[], $7::bigint[], $8::bigint[])
    as given (table_name, row_id, column_name, device_id, seq, total)
    on conflict do nothing";

/// Keys of rows that a replacing restore leaves as they are. It goes with the transaction; a scope
/// of any size is kept where the rows are.
const MAKE_KEPT: &str = "create temporary table restore_kept (table_name text not null,
    id uuid not null, primary key (table_name, id)) on commit drop";
const KEEP: &str = "insert into pg_temp.restore_kept (table_name, id) select $1, unnest($2::uuid[])
    on conflict do nothing";
const KEPT: &str = "select id from pg_temp.restore_kept where table_name = $1 and id = any ($2)";

/// What a restore does with rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreMode {
    /// Missing and deleted rows come back; what is there stays, it is newer.
    Merge,
    /// The scope becomes what the archive says: other rows are deleted.
    Replace,
}

/// What a device added to a counter column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedPart {
    /// The device.
    pub device: DeviceId,
    /// Number of its last report.
    pub seq: i64,
    /// All that it added.
    pub total: i64,
}

/// A row of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedRow {
    /// The row as its stream had it.
    pub stored: Stored,
    /// Parts of its counters by column.
    pub parts: BTreeMap<String, Vec<ArchivedPart>>,
}

/// What is restored, and where.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The stream.
    pub scope: Scope,
    /// The device that the caller acts with.
    pub device: DeviceId,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// Whether only to count.
    pub dry_run: bool,
    /// The backup, for the audit trail.
    pub backup: Uuid,
    /// The server's time, milliseconds since 1970.
    pub now_ms: i64,
}

/// What a restore did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Rows that came back, or got their archived content back.
    pub restored: u64,
    /// Archived rows that were there already, or are newer now.
    pub skipped: u64,
    /// Rows that the archive does not have, deleted by a replacing restore.
    pub removed: u64,
}

/// Why a restore changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was refused, or the store failed.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The rows could not be read.
    #[error("cannot read the rows to restore")]
    Source(#[from] std::io::Error),
    /// An archived row is none that this server's tables take.
    #[error("the archive has a row that fits no table")]
    Unfit,
    /// The scope was erased, with its person or the organisation.
    #[error("the scope was erased")]
    Erased,
    /// Nothing was to be changed; this is what would have been.
    #[error("dry run")]
    DryRun(Restored),
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Sync(error.into())
    }
}

impl Retryable for RestoreError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Sync(error) if error.is_retry())
    }
}

/// Restores the rows that `next` hands over, some at a time, each row once, `None` at the end.
///
/// # Errors
///
/// [`RestoreError`]; nothing is changed then.
pub async fn restore(
    tx: &mut TenantTx,
    wanted: &Restore,
    mut next: impl FnMut() -> std::io::Result<Option<Vec<ArchivedRow>>>,
) -> Result<Restored, RestoreError> {
    if erasure::is_erased(tx, wanted.scope).await? {
        return Err(RestoreError::Erased);
    }
    let opened = unfiled::open(tx, wanted.scope, wanted.device).await?;
    let request = request(wanted)?;
    let batch = Batch::new(tx, &request, wanted.now_ms)?;
    let mut work = Work {
        n: opened.n,
        mode: wanted.mode,
        heads: BTreeMap::new(),
        done: Restored::default(),
    };
    if wanted.mode == RestoreMode::Replace {
        tx.execute(MAKE_KEPT, &[]).await?;
    }
    while let Some(rows) = next()? {
        for (file, rows) in by_file(rows)? {
            work.take(tx, &batch, file, rows).await?;
        }
    }
    if wanted.mode == RestoreMode::Replace {
        work.sweep(tx, &batch, &opened).await?;
    }
    work.advance(tx, &batch).await?;
    if wanted.dry_run {
        return Err(RestoreError::DryRun(work.done));
    }
    audit::record(tx, &entry(&batch, wanted, work.done)).await?;
    Ok(work.done)
}

/// Returns the request that the restore is instead of: it names the stream, and has no changes.
fn request(wanted: &Restore) -> Result<PushRequest, RestoreError> {
    Ok(PushRequest {
        api_version: API_VERSION.to_owned(),
        device: wanted.device,
        batch_id: BatchId::new(random_uuid().map_err(StoreError::from)?),
        sent_at_ms: wanted.now_ms,
        file: File::Org,
        scope: wanted.scope,
        epoch: None,
        token: None,
        changes: Vec::new(),
    })
}

/// A row of the archive with its table.
type Filed = (&'static Table, ArchivedRow);

fn by_file(rows: Vec<ArchivedRow>) -> Result<Vec<(File, Vec<Filed>)>, RestoreError> {
    let mut files: Vec<(File, Vec<Filed>)> = Vec::new();
    for row in rows {
        let table = coditect_protocol::catalogue::by_cloud_name(&row.stored.table);
        let table = table.filter(|table| table.class != Class::Catalogue);
        let table = table.ok_or(RestoreError::Unfit)?;
        match files.iter_mut().find(|(file, _)| *file == table.file) {
            Some((_, rows)) => rows.push((table, row)),
            None => files.push((table.file, vec![(table, row)])),
        }
    }
    Ok(files)
}

/// A file's share of what was written.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    n: i64,
    rows: i64,
    bytes: i64,
}

struct Work {
    n: i64,
    mode: RestoreMode,
    heads: BTreeMap<&'static str, (File, Head)>,
    done: Restored,
}

impl Work {
    /// Restores some rows of one file.
    async fn take(
        &mut self,
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        file: File,
        rows: Vec<Filed>,
    ) -> Result<(), RestoreError> {
        let live: Vec<Filed> = rows
            .into_iter()
            .filter(|(_, row)| row.stored.op == Op::Upsert)
            .collect();
        let mut held = fetch(tx, batch, &live).await?;
        let buried: Vec<(Key, &Held)> = held
            .iter()
            .filter(|(_, held)| held.deleted())
            .map(|(key, held)| (*key, held))
            .collect();
        // What was moved to another scope since is there, and would be twice.
        let gone = moves::gone(tx, batch, &buried).await?;
        let (back, stays): (Vec<Filed>, Vec<Filed>) = live.into_iter().partition(|(table, row)| {
            let key = (table.cloud, row.stored.id);
            !gone.contains_key(&key) && self.comes_back(held.get(&key), row)
        });
        self.keep(tx, &stays).await?;
        self.done.skipped += stays.len() as u64;
        self.done.restored += back.len() as u64;
        let sums = counters(tx, batch, &back).await?;
        let mut changed = Changed::default();
        let mut texts = Vec::new();
        for (table, mut row) in back {
            let whole = row.stored.row.as_ref();
            if let Some((parted, bodies)) = whole.and_then(|row| body::part(table, row)) {
                row.stored.row = Some(parted);
                texts.extend(bodies);
            }
            let key = (table.cloud, row.stored.id);
            self.n += 1;
            let before = held.remove(&key);
            let after = restored(batch, table, row, before.as_ref(), &sums, self.n)?;
            note(&mut changed, table, before.as_ref(), &after, "restored");
            held.insert(key, after);
        }
        self.write(tx, batch, file, &held, &changed).await?;
        self.link(tx, batch, file, &held, &texts).await
    }

    /// Stores the bodies of the rows that came back.
    async fn link(
        &mut self,
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        file: File,
        held: &HashMap<Key, Held>,
        texts: &[Body],
    ) -> Result<(), RestoreError> {
        if texts.is_empty() {
            return Ok(());
        }
        let mut links = bodies::Links::default();
        links.texts(texts);
        for ((table, id), row) in held {
            let table = coditect_protocol::catalogue::by_cloud_name(table);
            if let Some((table, row)) = table.zip(row.existing.row.as_ref()) {
                links.row(table, id.get(), row);
            }
        }
        let place = bodies::Place {
            tenant: batch.tenant,
            scope: batch.scope,
        };
        let bytes = links.write(tx, place).await?;
        let head = self.heads.entry(file.as_str());
        head.or_insert((file, Head::default())).1.bytes += bytes;
        Ok(())
    }

    /// Notes rows that stay, for the sweep.
    async fn keep(&self, tx: &mut TenantTx, rows: &[Filed]) -> Result<(), RestoreError> {
        if self.mode == RestoreMode::Merge {
            return Ok(());
        }
        let ids = rows.iter();
        let ids = ids.map(|(table, row)| (*table, row.stored.id.get()));
        for (table, ids) in by_table(ids) {
            let params = [
                (&table.cloud as _, Type::TEXT),
                (&ids as _, Type::UUID_ARRAY),
            ];
            tx.execute(KEEP, &params).await?;
        }
        Ok(())
    }

    fn comes_back(&self, held: Option<&Held>, row: &ArchivedRow) -> bool {
        let Some(held) = held.filter(|held| !held.deleted()) else {
            return true;
        };
        self.mode == RestoreMode::Replace && held.existing.hash.to_string() != row.stored.hash
    }

    /// Deletes the live rows that the archive does not have. What this transaction wrote lies
    /// behind the number that the stream had.
    async fn sweep(
        &mut self,
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        opened: &Opened,
    ) -> Result<(), RestoreError> {
        let tables = TABLES
            .iter()
            .copied()
            .filter(|table| table.class != Class::Catalogue && table.direction != Direction::Down);
        for table in tables {
            let mut from = 0;
            while let Some((rows, to)) = page(tx, batch, table, from, opened.n).await? {
                from = to;
                let (mut held, mut changed) = (HashMap::new(), Changed::default());
                let kept = kept(tx, table, &rows).await?;
                for before in rows {
                    let key = (table.cloud, before.id);
                    if before.deleted() || kept.contains(&before.id) {
                        continue;
                    }
                    self.n += 1;
                    self.done.removed += 1;
                    let after = tombstone(batch, &before, self.n);
                    note(&mut changed, table, Some(&before), &after, "restored");
                    held.insert(key, after);
                }
                self.write(tx, batch, table.file, &held, &changed).await?;
                let mut links = bodies::Links::default();
                held.keys().for_each(|(_, id)| links.gone(table, id.get()));
                let place = bodies::Place {
                    tenant: batch.tenant,
                    scope: batch.scope,
                };
                links.write(tx, place).await?;
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        file: File,
        held: &HashMap<Key, Held>,
        changed: &Changed,
    ) -> Result<(), RestoreError> {
        write::write(tx, batch, held, &Counters::default(), changed).await?;
        let totals = changed.totals();
        let (_, head) = self
            .heads
            .entry(file.as_str())
            .or_insert((file, Head::default()));
        head.n = head.n.max(totals.head);
        head.rows += totals.rows;
        head.bytes += totals.bytes;
        Ok(())
    }

    /// Moves the stream and the heads of its files on, the stream to the highest at last.
    async fn advance(&self, tx: &mut TenantTx, batch: &Batch<'_>) -> Result<(), RestoreError> {
        let mut heads: Vec<&(File, Head)> = self.heads.values().collect();
        heads.retain(|(_, head)| head.n > 0);
        heads.sort_by_key(|(_, head)| head.n);
        let statements: Vec<_> = heads
            .iter()
            .map(|(file, head)| Statement {
                sql: sql::advance(*file),
                params: vec![
                    (&batch.tenant as _, Type::UUID),
                    (&batch.scope as _, Type::UUID),
                    (&head.n as _, Type::INT8),
                    (&head.rows as _, Type::INT8),
                    (&head.bytes as _, Type::INT8),
                ],
            })
            .collect();
        if !statements.is_empty() {
            tx.pipeline(&statements).await?;
        }
        Ok(())
    }
}

/// Returns those of the rows that stay as they are.
async fn kept(
    tx: &mut TenantTx,
    table: &'static Table,
    rows: &[Held],
) -> Result<HashSet<RowId>, RestoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.get()).collect();
    let params = [
        (&table.cloud as _, Type::TEXT),
        (&ids as _, Type::UUID_ARRAY),
    ];
    let kept = tx.query(KEPT, &params).await?;
    let kept = kept.iter().map(|row| Ok(RowId::new(row.try_get(0)?)));
    Ok(kept.collect::<Result<_, StoreError>>()?)
}

/// Notes a written row, with the version that it replaced.
fn note(
    changed: &mut Changed,
    table: &'static Table,
    before: Option<&Held>,
    after: &Held,
    reason: &'static str,
) {
    if let Some(before) = before.filter(|before| !before.deleted()) {
        changed.history.push(Kept {
            table: table.cloud,
            id: before.id,
            version: before.existing.version,
            device: before.existing.device,
            user: before.user,
            reason,
            row: before.existing.row.clone(),
            cursor: after.cursor,
        });
    }
    changed.put(table, before, after);
    changed.rows.push((table.cloud, after.id));
}

/// Returns the archived row as it will be stored: author, origin and times are its own, the
/// version is a new one of no device.
fn restored(
    batch: &Batch<'_>,
    table: &'static Table,
    row: ArchivedRow,
    before: Option<&Held>,
    sums: &Counters,
    cursor: i64,
) -> Result<Held, RestoreError> {
    let stored = row.stored;
    let time = |text: &str| columns::time(text).ok_or(RestoreError::Unfit);
    let mut content = stored.row.ok_or(RestoreError::Unfit)?;
    content.extend(sums.sums(table, stored.id));
    let known = before.map(|before| before.existing.version);
    let known = known.max(Some(stored.version));
    Ok(Held {
        id: stored.id,
        user: before.map_or(stored.user_id.map(UserId::get), |before| before.user),
        origin: before.map_or(stored.origin, |before| before.origin),
        cursor,
        created_at: time(&stored.created_at)?,
        updated_at: time(&stored.updated_at)?,
        existing: Existing {
            version: clock::mint(clock::propose(batch.now.timestamp_millis(), 0), known),
            device: DeviceId::new(Uuid::nil()),
            hash: stored.hash.parse().map_err(|_| RestoreError::Unfit)?,
            row: Some(content),
        },
    })
}

fn tombstone(batch: &Batch<'_>, before: &Held, cursor: i64) -> Held {
    let proposed = clock::propose(batch.now.timestamp_millis(), 0);
    let mut after = before.clone();
    after.cursor = cursor;
    after.updated_at = batch.now;
    after.existing.row = None;
    after.existing.device = DeviceId::new(Uuid::nil());
    after.existing.version = clock::mint(proposed, Some(before.existing.version));
    after
}

/// Reads what is stored under the keys of the rows.
async fn fetch(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    rows: &[Filed],
) -> Result<HashMap<Key, Held>, RestoreError> {
    let ids = by_table(
        rows.iter()
            .map(|(table, row)| (*table, row.stored.id.get())),
    );
    let statements: Vec<_> = ids
        .iter()
        .map(|(table, ids)| Statement {
            sql: &sql::of(table).fetch,
            params: vec![
                (&batch.tenant as _, Type::UUID),
                (&batch.scope as _, Type::UUID),
                (ids as _, Type::UUID_ARRAY),
            ],
        })
        .collect();
    let mut held = HashMap::new();
    if statements.is_empty() {
        return Ok(held);
    }
    for ((table, _), rows) in ids.iter().zip(tx.pipeline(&statements).await?) {
        for row in &rows {
            let row = Held::read(table, row)?;
            held.insert((table.cloud, row.id), row);
        }
    }
    Ok(held)
}

/// Adds the archived parts that are missing, and reads all parts of the rows.
async fn counters(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    rows: &[Filed],
) -> Result<Counters, RestoreError> {
    let (mut tables, mut ids) = (Vec::new(), Vec::new());
    let (mut columns, mut devices) = (Vec::new(), Vec::new());
    let (mut seqs, mut totals) = (Vec::new(), Vec::new());
    let mut counted: Vec<(&'static str, RowId)> = Vec::new();
    for (table, row) in rows {
        for column in table.columns_by(Merge::Counter) {
            counted.push((table.cloud, row.stored.id));
            for part in row.parts.get(column.name).into_iter().flatten() {
                tables.push(table.cloud);
                ids.push(row.stored.id.get());
                columns.push(column.name);
                devices.push(part.device.get());
                seqs.push(part.seq);
                totals.push(part.total);
            }
        }
    }
    if counted.is_empty() {
        return Ok(Counters::default());
    }
    let add = Statement {
        sql: ADD_PARTS,
        params: vec![
            (&batch.tenant as _, Type::UUID),
            (&batch.scope as _, Type::UUID),
            (&tables as _, Type::TEXT_ARRAY),
            (&ids as _, Type::UUID_ARRAY),
            (&columns as _, Type::TEXT_ARRAY),
            (&devices as _, Type::UUID_ARRAY),
            (&seqs as _, Type::INT8_ARRAY),
            (&totals as _, Type::INT8_ARRAY),
        ],
    };
    let wanted = counters::Wanted::of_rows(&counted);
    let mut statements = vec![add];
    statements.extend(wanted.statement(batch));
    let parts = tx.pipeline(&statements).await?.pop().unwrap_or_default();
    Ok(Counters::read(&parts)?)
}

/// Returns the rows with the next cursors behind `from` and up to `to`, and the last cursor.
async fn page(
    tx: &mut TenantTx,
    batch: &Batch<'_>,
    table: &'static Table,
    from: i64,
    to: i64,
) -> Result<Option<(Vec<Held>, i64)>, RestoreError> {
    let statements = sql::of(table);
    let stream = |a, b| {
        vec![
            (&batch.tenant as _, Type::UUID),
            (&batch.scope as _, Type::UUID),
            (a, Type::INT8),
            (b, Type::INT8),
        ]
    };
    let cursors = tx
        .query(
            &statements.cursors,
            &stream(&from as _, &SWEEP_AT_ONCE as _),
        )
        .await?;
    let mut last = None;
    for row in &cursors {
        let cursor: i64 = row.try_get(0).map_err(StoreError::from)?;
        last = Some(cursor).filter(|cursor| *cursor <= to).or(last);
    }
    let Some(last) = last else { return Ok(None) };
    let first = from + 1;
    let rows = tx
        .query(&statements.page, &stream(&first as _, &last as _))
        .await?;
    let rows = rows.iter().map(|row| Held::read(table, row));
    Ok(Some((rows.collect::<Result<_, _>>()?, last)))
}

fn entry(batch: &Batch<'_>, wanted: &Restore, done: Restored) -> audit::Entry<'static> {
    audit::Entry {
        at: batch.now,
        action: "restore",
        resource_type: Some("stream"),
        resource_id: Some(wanted.scope.to_string()),
        detail: json!({
            "backup": wanted.backup,
            "mode": match wanted.mode {
                RestoreMode::Merge => "merge",
                RestoreMode::Replace => "replace",
            },
            "restored": done.restored,
            "skipped": done.skipped,
            "removed": done.removed,
        }),
    }
}

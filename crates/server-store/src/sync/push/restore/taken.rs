//! Import: rows that a person had on another server come into the own scope here, by the rules of
//! a merging restore. Unlike a restore it has tombstones, too: what the person deleted there must
//! not come in again from old transcripts.

use std::collections::{BTreeMap, HashMap};

use coditect_core::clock;
use coditect_core::merge::Existing;
use coditect_protocol::catalogue::File;
use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::Op;
use coditect_protocol::{DeviceId, UserId};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::apply::Key;
use super::super::decide::Changed;
use super::super::{Batch, LOCK_STREAM, MAKE_STREAM};
use super::{
    ArchivedRow, Filed, Held, Restore, RestoreError, Restored, TenantTx, Work, by_file, columns,
    erasure, fetch, note, request,
};
use crate::StoreError;
use crate::authority::Authority;
use crate::sync::SyncError;

/// What an import brought, or would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Rows that came.
    pub restored: u64,
    /// Rows and tombstones whose place was taken: they stay as they are here.
    pub skipped: u64,
    /// Tombstones that came, for rows that were never here.
    pub deletions: u64,
    /// Rows and tombstones that came, by table.
    pub tables: BTreeMap<String, u64>,
    /// Rows by which the organisation's usage grows.
    pub(crate) rows_added: i64,
    /// Bytes by which it grows.
    pub(crate) bytes_added: i64,
}

/// Takes in the rows that `next` hands over, some at a time, each row once, `None` at the end. The
/// caller writes the audit entry, and rolls back what was a dry run.
///
/// # Errors
///
/// [`RestoreError`]; the transaction is to be rolled back then.
pub(crate) async fn take_in(
    tx: &mut TenantTx,
    wanted: &Restore,
    mut next: impl FnMut() -> std::io::Result<Option<Vec<ArchivedRow>>>,
) -> Result<TakenIn, RestoreError> {
    if erasure::is_erased(tx, wanted.scope).await? {
        return Err(RestoreError::Erased);
    }
    let authority = Authority::of(tx).await?;
    if !authority.may(Permission::SyncPush, wanted.scope) {
        return Err(SyncError::PermissionDenied.into());
    }
    let request = request(wanted)?;
    let batch = Batch::new(tx, &request, wanted.now_ms)?;
    let mut work = Work {
        n: lock(tx, &batch).await?,
        mode: wanted.mode,
        heads: BTreeMap::new(),
        done: Restored::default(),
    };
    let mut taken = TakenIn::default();
    while let Some(rows) = next()? {
        for (table, rows) in by_name(rows) {
            let (buried, live): (Vec<_>, Vec<_>) = rows
                .into_iter()
                .partition(|row| row.stored.op == Op::Delete);
            let before = work.done.restored;
            for (file, rows) in by_file(live)? {
                work.take(tx, &batch, file, rows).await?;
            }
            let mut came = work.done.restored - before;
            for (file, rows) in by_file(buried)? {
                let deletions = work.bury(tx, &batch, file, rows).await?;
                taken.deletions += deletions;
                came += deletions;
            }
            if came > 0 {
                *taken.tables.entry(table).or_default() += came;
            }
        }
    }
    work.advance(tx, &batch).await?;
    taken.restored = work.done.restored;
    taken.skipped = work.done.skipped;
    for (_, head) in work.heads.values() {
        taken.rows_added += head.rows;
        taken.bytes_added += head.bytes;
    }
    Ok(taken)
}

fn by_name(rows: Vec<ArchivedRow>) -> BTreeMap<String, Vec<ArchivedRow>> {
    let mut tables = BTreeMap::<String, Vec<ArchivedRow>>::new();
    for row in rows {
        let name = row.stored.table.clone();
        tables.entry(name).or_default().push(row);
    }
    tables
}

/// Locks the stream, which is made where it is missing, and returns its counter.
async fn lock(tx: &mut TenantTx, batch: &Batch<'_>) -> Result<i64, RestoreError> {
    let stream = [
        (&batch.tenant as _, Type::UUID),
        (&batch.scope as _, Type::UUID),
    ];
    tx.execute(MAKE_STREAM, &stream).await?;
    let row = tx.query_opt(LOCK_STREAM, &stream).await?;
    let row = row.ok_or(StoreError::NotFound)?;
    Ok(row.try_get(0).map_err(StoreError::from)?)
}

impl Work {
    /// Writes the tombstones of rows that were never here; returns how many.
    async fn bury(
        &mut self,
        tx: &mut TenantTx,
        batch: &Batch<'_>,
        file: File,
        rows: Vec<Filed>,
    ) -> Result<u64, RestoreError> {
        let here = fetch(tx, batch, &rows).await?;
        let mut changed = Changed::default();
        let mut put: HashMap<Key, Held> = HashMap::new();
        for (table, row) in rows {
            let key = (table.cloud, row.stored.id);
            if here.contains_key(&key) {
                self.done.skipped += 1;
                continue;
            }
            self.n += 1;
            let after = buried(batch, row, self.n)?;
            note(&mut changed, table, None, &after, "restored");
            put.insert(key, after);
        }
        self.write(tx, batch, file, &put, &changed).await?;
        Ok(put.len() as u64)
    }
}

/// Returns the archived tombstone as it will be stored, under a new version of no device.
fn buried(batch: &Batch<'_>, row: ArchivedRow, cursor: i64) -> Result<Held, RestoreError> {
    let stored = row.stored;
    let time = |text: &str| columns::time(text).ok_or(RestoreError::Unfit);
    let proposed = clock::propose(batch.now.timestamp_millis(), 0);
    Ok(Held {
        id: stored.id,
        user: stored.user_id.map(UserId::get),
        origin: stored.origin,
        cursor,
        created_at: time(&stored.created_at)?,
        updated_at: time(&stored.updated_at)?,
        existing: Existing {
            version: clock::mint(proposed, Some(stored.version)),
            device: DeviceId::new(Uuid::nil()),
            hash: stored.hash.parse().map_err(|_| RestoreError::Unfit)?,
            row: None,
        },
    })
}

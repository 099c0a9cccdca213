//! The trail as a chain of blocks, so that an entry that was changed or removed is found, whoever
//! did it (DESIGN 5, ADR 0027).
//!
//! A job puts entries into blocks after they are committed: nobody who writes one waits for
//! another. A block's hash covers its entries and the block before it. The hash of the last block
//! is signed and kept outside the database ([`super::head`]), so that the end cannot be cut off.

use chrono::{DateTime, Utc};
use coditect_core::hex::hex;
use coditect_protocol::OrganizationId;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Entry;
use super::head::Tip;
use crate::StoreError;
use crate::credential::TenantId;
use crate::db::{Db, SystemTask, SystemTx};

/// Most entries of a block.
pub const BLOCK_ENTRIES_MAX: i64 = 1_000;
/// Most faults that one check returns.
pub const FAULTS_MAX: usize = 1_000;
/// Blocks that are checked in one transaction.
const BLOCKS_AT_ONCE: i64 = 50;

const WAITING: &str = "select distinct tenant_id from audit_log where block is null";
/// One server at a time; no one else waits for it.
const LOCK: &str = "select from tenants where tenant_id = $1 for no key update";
const LAST: &str = "select number, closed_at, entries, entries_total, entries_hash, hash
    from audit_blocks where tenant_id = $1 order by number desc limit 1";
const ONE: &str = "select number, closed_at, entries, entries_total, entries_hash, hash
    from audit_blocks where tenant_id = $1 and number = $2";
const BLOCKS: &str = "select number, closed_at, entries, entries_total, entries_hash, hash
    from audit_blocks where tenant_id = $1 and number > $2 order by number limit $3";
const OPEN: &str = "select id, at, user_id, device_id, action, resource_type, resource_id,
    detail::text from audit_log where tenant_id = $1 and block is null order by at, id limit $2";
const OF_BLOCK: &str = "select id, at, user_id, device_id, action, resource_type, resource_id,
    detail::text from audit_log where tenant_id = $1 and block = $2 order by id";
const PUT: &str = "update audit_log set block = $3
    where tenant_id = $1 and id = any ($2) and block is null";
const INSERT: &str = "insert into audit_blocks
    (tenant_id, number, closed_at, entries, entries_total, entries_hash, hash)
    values ($1, $2, $3, $4, $5, $6, $7)";
const OPEN_COUNT: &str = "select count(*) from audit_log where tenant_id = $1 and block is null";
const STRAY: &str = "select block, count(*) from audit_log
    where tenant_id = $1 and block > $2 group by block order by block limit 100";

type Hash = [u8; 32];

/// A stored block.
#[derive(Clone, Debug)]
struct Block {
    number: i64,
    closed_at: DateTime<Utc>,
    entries: i64,
    entries_total: i64,
    entries_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl Block {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.try_get(0)?,
            closed_at: row.try_get(1)?,
            entries: row.try_get(2)?,
            entries_total: row.try_get(3)?,
            entries_hash: row.try_get(4)?,
            hash: row.try_get(5)?,
        })
    }

    fn tip(&self, tenant: Uuid) -> Tip {
        Tip {
            tenant_id: OrganizationId::new(tenant),
            block: self.number,
            entries: self.entries_total,
            closed_at: self.closed_at,
            hash: hex(&self.hash),
        }
    }

    /// Returns the hash that follows from the other fields and the block before.
    fn expected(&self, tenant: Uuid, previous: &[u8]) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(b"coditect audit block 1\0");
        hasher.update(tenant.as_bytes());
        hasher.update(self.number.to_be_bytes());
        hasher.update(self.closed_at.timestamp_micros().to_be_bytes());
        hasher.update(self.entries.to_be_bytes());
        hasher.update(self.entries_total.to_be_bytes());
        hasher.update(&self.entries_hash);
        hasher.update(previous);
        hasher.finalize().into()
    }
}

/// What is wrong with a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A block has fewer entries than when it was closed.
    EntriesRemoved,
    /// A block has more entries than when it was closed.
    EntriesAdded,
    /// An entry of the block is not what it was.
    EntryAltered,
    /// The block itself is not what it was, or the one before it is not.
    BlockAltered,
    /// A block between others is missing.
    BlockRemoved,
    /// The database ends before the head that is kept outside.
    CutOff,
    /// The block that the head names has another hash: it is another chain.
    OtherChain,
    /// The head that was kept outside is gone.
    HeadRemoved,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// In which block.
    pub block: i64,
    /// Entries of the block when it was closed, where that is known.
    pub entries_expected: Option<i64>,
    /// Entries that it has now.
    pub entries_found: Option<i64>,
}

impl Fault {
    const fn of(kind: FaultKind, block: i64) -> Self {
        Self {
            kind,
            block,
            entries_expected: None,
            entries_found: None,
        }
    }
}

/// What a check of a tenant's trail came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Blocks that were read.
    pub blocks: i64,
    /// Entries of these blocks that were read.
    pub entries: i64,
    /// Entries that are in no block yet: nothing proves them.
    pub open: i64,
    /// What is wrong; at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
}

/// What is known of the chain from outside the database.
#[derive(Clone, Copy, Debug)]
pub enum Outside<'a> {
    /// No head is kept there.
    Nothing,
    /// This one is.
    Head(&'a Tip),
    /// It does not matter: an operator says that the database is right.
    Ignored,
}

impl Outside<'_> {
    /// Returns whether the block is to be kept there before the next one is closed: otherwise two
    /// servers together could get ahead of the head by more than one, as if it had been removed.
    fn lacks(self, block: &Block) -> bool {
        match self {
            Self::Nothing => true,
            Self::Head(head) => head.block < block.number,
            Self::Ignored => false,
        }
    }
}

impl<'a> From<Option<&'a Tip>> for Outside<'a> {
    fn from(head: Option<&'a Tip>) -> Self {
        head.map_or(Self::Nothing, Self::Head)
    }
}

/// What closing a block came to.
#[derive(Clone, Debug)]
pub enum Closing {
    /// No entry waits for a block, and the last one is kept outside.
    Idle,
    /// A block that is to be kept outside: it was closed now, or by a server that has not told yet.
    Closed(Tip),
    /// The chain is not the one whose head is kept outside; nothing was changed.
    Broken(Fault),
}

/// Returns the tenants that have entries in no block.
///
/// # Errors
///
/// Those of the database.
pub async fn waiting(db: &Db) -> Result<Vec<OrganizationId>, StoreError> {
    db.system(SystemTask::ChainAudit, |mut tx| async move {
        let rows = tx.query(WAITING, &[]).await?;
        let ids = rows
            .iter()
            .map(|row| Ok(OrganizationId::new(row.try_get(0)?)));
        ids.collect()
    })
    .await
}

/// Puts the next entries of a tenant into a block, once the block before is kept outside.
///
/// # Errors
///
/// Those of the database.
pub async fn close(
    db: &Db,
    tenant: OrganizationId,
    outside: Outside<'_>,
    now: DateTime<Utc>,
) -> Result<Closing, StoreError> {
    let tenant = tenant.get();
    db.system(SystemTask::ChainAudit, |mut tx| async move {
        tx.query(LOCK, &[(&tenant, Type::UUID)]).await?;
        if let Some(fault) = compare(&mut tx, tenant, outside).await? {
            return Ok(Closing::Broken(fault));
        }
        let last = one(&mut tx, LAST, tenant, None).await?;
        if let Some(untold) = last.as_ref().filter(|last| outside.lacks(last)) {
            return Ok(Closing::Closed(untold.tip(tenant)));
        }
        let params = [
            (&tenant as _, Type::UUID),
            (&BLOCK_ENTRIES_MAX as _, Type::INT8),
        ];
        let mut rows = tx.query(OPEN, &params).await?;
        if rows.is_empty() {
            return Ok(Closing::Idle);
        }
        rows.sort_by_key(|row| row.get::<_, Uuid>(0));
        let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let block = next(tenant, last.as_ref(), &rows, now)?;
        let params = [
            (&tenant as _, Type::UUID),
            (&ids as _, Type::UUID_ARRAY),
            (&block.number as _, Type::INT8),
        ];
        if tx.execute(PUT, &params).await? != ids.len() as u64 {
            return Err(StoreError::Retry {
                reason: "another server closed the block",
            });
        }
        let params = [
            (&tenant as _, Type::UUID),
            (&block.number as _, Type::INT8),
            (&block.closed_at as _, Type::TIMESTAMPTZ),
            (&block.entries as _, Type::INT8),
            (&block.entries_total as _, Type::INT8),
            (&block.entries_hash as _, Type::BYTEA),
            (&block.hash as _, Type::BYTEA),
        ];
        tx.execute(INSERT, &params).await?;
        Ok(Closing::Closed(block.tip(tenant)))
    })
    .await
}

/// Makes the block of some entries, which are sorted by id.
fn next(
    tenant: Uuid,
    last: Option<&Block>,
    rows: &[Row],
    now: DateTime<Utc>,
) -> Result<Block, StoreError> {
    let entries = rows.len() as i64;
    let mut block = Block {
        number: last.map_or(0, |last| last.number) + 1,
        // As precise as the database keeps it, because it is hashed.
        closed_at: DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now),
        entries,
        entries_total: last.map_or(0, |last| last.entries_total) + entries,
        entries_hash: entries_hash(rows)?.to_vec(),
        hash: Vec::new(),
    };
    let previous = last.map_or(&[0; 32][..], |last| &last.hash);
    block.hash = block.expected(tenant, previous).to_vec();
    Ok(block)
}

/// Notes in the trail that the database's chain holds from now on, whatever head was kept outside:
/// what an operator says after a restore.
///
/// # Errors
///
/// Those of the database.
pub async fn note_accepted(
    db: &Db,
    tenant: OrganizationId,
    old: Option<&Tip>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = &Entry {
        at: now,
        action: "audit.accept",
        resource_type: Some("audit_trail"),
        resource_id: None,
        detail: json!({ "old_head": old }),
    };
    db.system(SystemTask::ChainAudit, |mut tx| async move {
        super::record_for(&mut tx, TenantId::new(tenant.get()), None, None, entry).await
    })
    .await
}

/// Reads a tenant's whole chain and compares it with the entries, and with the head that is kept
/// outside. Memory does not grow with the trail.
///
/// # Errors
///
/// Those of the database.
pub async fn verify(
    db: &Db,
    tenant: OrganizationId,
    outside: Outside<'_>,
) -> Result<Verdict, StoreError> {
    let tenant = tenant.get();
    let mut verdict = Verdict::default();
    // Entries may be of a later block than this by the time they are read: not a fault.
    let last = db
        .system(SystemTask::ChainAudit, |mut tx| async move {
            one(&mut tx, LAST, tenant, None).await
        })
        .await?
        .map_or(0, |block| block.number);
    let mut place = (0, vec![0; 32]);
    loop {
        let (from, previous) = (place.0, place.1.clone());
        let (faults, read, entries, next) = db
            .system(SystemTask::ChainAudit, |mut tx| {
                let previous = previous.clone();
                async move { piece(&mut tx, tenant, from, previous).await }
            })
            .await?;
        verdict.faults.extend(faults);
        verdict.blocks += read;
        verdict.entries += entries;
        place = next;
        if read < BLOCKS_AT_ONCE || verdict.faults.len() >= FAULTS_MAX {
            break;
        }
    }
    let (more, open) = db
        .system(SystemTask::ChainAudit, |mut tx| async move {
            ends(&mut tx, tenant, last, outside).await
        })
        .await?;
    verdict.faults.extend(more);
    verdict.faults.truncate(FAULTS_MAX);
    verdict.open = open;
    Ok(verdict)
}

type Piece = (Vec<Fault>, i64, i64, (i64, Vec<u8>));

/// Checks the next blocks behind one whose hash is `previous`.
async fn piece(
    tx: &mut SystemTx,
    tenant: Uuid,
    from: i64,
    mut previous: Vec<u8>,
) -> Result<Piece, StoreError> {
    let params = [
        (&tenant as _, Type::UUID),
        (&from as _, Type::INT8),
        (&BLOCKS_AT_ONCE as _, Type::INT8),
    ];
    let rows = tx.query(BLOCKS, &params).await?;
    let (mut faults, mut entries, mut number) = (Vec::new(), 0, from);
    for row in &rows {
        let block = Block::read(row)?;
        for missing in number + 1..block.number.min(number + 100) {
            faults.push(Fault::of(FaultKind::BlockRemoved, missing));
        }
        // Behind a gap nothing says what came before.
        let follows = block.number == number + 1;
        if follows && block.expected(tenant, &previous)[..] != block.hash[..] {
            faults.push(Fault::of(FaultKind::BlockAltered, block.number));
        }
        let params = [(&tenant as _, Type::UUID), (&block.number as _, Type::INT8)];
        let found = tx.query(OF_BLOCK, &params).await?;
        entries += found.len() as i64;
        faults.extend(entry_fault(&block, &found)?);
        number = block.number;
        previous = block.hash;
    }
    Ok((faults, rows.len() as i64, entries, (number, previous)))
}

fn entry_fault(block: &Block, found: &[Row]) -> Result<Option<Fault>, StoreError> {
    let kind = match (found.len() as i64).cmp(&block.entries) {
        std::cmp::Ordering::Less => FaultKind::EntriesRemoved,
        std::cmp::Ordering::Greater => FaultKind::EntriesAdded,
        std::cmp::Ordering::Equal if entries_hash(found)?[..] == block.entries_hash[..] => {
            return Ok(None);
        }
        std::cmp::Ordering::Equal => FaultKind::EntryAltered,
    };
    Ok(Some(Fault {
        kind,
        block: block.number,
        entries_expected: Some(block.entries),
        entries_found: Some(found.len() as i64),
    }))
}

/// Compares the end with the head outside, and counts what no block holds.
async fn ends(
    tx: &mut SystemTx,
    tenant: Uuid,
    last: i64,
    outside: Outside<'_>,
) -> Result<(Vec<Fault>, i64), StoreError> {
    let mut faults: Vec<Fault> = compare(tx, tenant, outside).await?.into_iter().collect();
    let now = one(tx, LAST, tenant, None).await?;
    let now = now.map_or(0, |block| block.number).max(last);
    let params = [(&tenant as _, Type::UUID), (&now as _, Type::INT8)];
    for row in tx.query(STRAY, &params).await? {
        faults.push(Fault {
            entries_found: row.try_get(1)?,
            ..Fault::of(FaultKind::BlockRemoved, row.try_get(0)?)
        });
    }
    let row = tx.query_opt(OPEN_COUNT, &[(&tenant, Type::UUID)]).await?;
    Ok((faults, row.map_or(Ok(0), |row| row.try_get(0))?))
}

/// Returns what is wrong with the end of the chain, as seen from outside.
async fn compare(
    tx: &mut SystemTx,
    tenant: Uuid,
    outside: Outside<'_>,
) -> Result<Option<Fault>, StoreError> {
    let head = match outside {
        Outside::Ignored => return Ok(None),
        Outside::Nothing => {
            // The first block may be there already: a server died before it could tell.
            let last = one(tx, LAST, tenant, None).await?;
            let last = last.filter(|last| last.number > 1);
            return Ok(last.map(|last| Fault::of(FaultKind::HeadRemoved, last.number)));
        }
        Outside::Head(head) => head,
    };
    let kind = match one(tx, ONE, tenant, Some(head.block)).await? {
        None => FaultKind::CutOff,
        Some(block) if hex(&block.hash) != head.hash => FaultKind::OtherChain,
        Some(_) => return Ok(None),
    };
    Ok(Some(Fault::of(kind, head.block)))
}

async fn one(
    tx: &mut SystemTx,
    sql: &str,
    tenant: Uuid,
    number: Option<i64>,
) -> Result<Option<Block>, StoreError> {
    let mut params = vec![(&tenant as _, Type::UUID)];
    if let Some(number) = &number {
        params.push((number as _, Type::INT8));
    }
    let row = tx.query_opt(sql, &params).await?;
    row.as_ref().map(Block::read).transpose()
}

/// Returns the hash over entries that are sorted by id.
fn entries_hash(rows: &[Row]) -> Result<Hash, StoreError> {
    let mut all = Sha256::new();
    for row in rows {
        all.update(entry_hash(row)?);
    }
    Ok(all.finalize().into())
}

/// Returns the hash over all that an entry says. Each field has its length before it, so that
/// nothing can move from one into the next.
fn entry_hash(row: &Row) -> Result<Hash, StoreError> {
    let mut hasher = Sha256::new();
    let mut field = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => {
            hasher.update([1]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
        None => hasher.update([0]),
    };
    let at: DateTime<Utc> = row.try_get(1)?;
    let uuid = |column| row.try_get::<_, Option<Uuid>>(column);
    field(uuid(0)?.as_ref().map(|id| &id.as_bytes()[..]));
    field(Some(&at.timestamp_micros().to_be_bytes()));
    field(uuid(2)?.as_ref().map(|id| &id.as_bytes()[..]));
    field(uuid(3)?.as_ref().map(|id| &id.as_bytes()[..]));
    for column in 4..8 {
        let text: Option<&str> = row.try_get(column)?;
        field(text.map(str::as_bytes));
    }
    Ok(hasher.finalize().into())
}

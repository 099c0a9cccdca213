//! What a scrub found: kept until somebody looks, and which rows have to come from a device.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::{DeviceId, OrganizationId, RowId};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::rows;
use crate::StoreError;
use crate::audit;
use crate::credential::{TenantId, random_uuid};
use crate::db::{Db, SystemTask, SystemTx};
use crate::sync::sql;

/// Most findings that are returned or rechecked at once.
pub const FINDINGS_MAX: i64 = 1_000;

const LOCK: &str = "select n from streams where tenant_id = $1 and scope_id = $2 for update";
const INSERT: &str = "insert into scrub_findings (tenant_id, scope_id, id, table_name, kind,
    row_id, origin_device, detail, found_at, mended_at, mended_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (tenant_id, scope_id, table_name, row_id)
    where kind = 'hash' and mended_at is null do nothing";
/// The number of damaged rows beside each kept digest follows the open findings.
const COUNT: &str = "update stream_digests as kept set damaged = open.damaged
    from (select d.table_name, d.origin_device, count(f.id) as damaged from stream_digests d
        left join scrub_findings f on f.tenant_id = $1 and f.scope_id = $2
        and f.table_name = d.table_name and f.origin_device = d.origin_device
        and f.kind = 'hash' and f.mended_at is null
        where d.tenant_id = $1 and d.scope_id = $2 group by d.table_name, d.origin_device) as open
    where kept.tenant_id = $1 and kept.scope_id = $2 and kept.table_name = open.table_name
    and kept.origin_device = open.origin_device and kept.damaged <> open.damaged";
const OPEN: &str = "select scope_id, table_name, row_id from scrub_findings
    where tenant_id = $1 and kind = 'hash' and mended_at is null
    order by scope_id, table_name limit $2";
const MEND: &str = "update scrub_findings set mended_at = $4, mended_by = $5
    where tenant_id = $1 and scope_id = $2 and row_id = any ($3) and kind = 'hash'
    and mended_at is null and table_name = $6";
const LIST: &str = "select tenant_id, scope_id, table_name, kind, row_id, origin_device, detail,
    found_at, mended_at, mended_by from scrub_findings
    where ($1::uuid is null or tenant_id = $1) and ($2 or mended_at is null)
    order by found_at desc, id limit $3";

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row's bytes are not those that its hash was made from.
    Hash,
    /// What is kept of a stream's rows is not what the rows give.
    Digest,
    /// A counter is not the sum of its parts.
    Counter,
    /// The term in a key's index is not the row's.
    Term,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Digest => "digest",
            Self::Counter => "counter",
            Self::Term => "term",
        }
    }
}

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// From other rows, by the scrub itself.
    Recomputed,
    /// A device sent the row, or an edit of it.
    Sent,
}

impl How {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Recomputed => "recomputed",
            Self::Sent => "sent",
        }
    }
}

/// A fault that was just found.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) table: &'static str,
    pub(super) kind: Kind,
    pub(super) row: Option<Uuid>,
    pub(super) origin: Option<Uuid>,
    /// Counts and versions, never content.
    pub(super) detail: Value,
}

/// A fault, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// When it was found.
    pub found_at: DateTime<Utc>,
    /// `hash`: the row's bytes do not fit its hash; `digest`: what is kept of the stream's rows
    /// was wrong; `counter`: a counter was not the sum of its parts; `term`: the index was wrong.
    pub kind: String,
    /// Cloud name of the table.
    pub table: String,
    /// The row, if it is about one.
    pub id: Option<RowId>,
    /// `mended` or `open`.
    pub state: &'static str,
    /// `recomputed` from other rows, or `sent` by a device.
    pub mended_by: Option<String>,
    /// When it was mended.
    pub mended_at: Option<DateTime<Utc>>,
    /// The stream's id.
    pub scope_id: Uuid,
    /// Device of the first accepted push, which should hold the bytes.
    pub origin: Option<DeviceId>,
    /// The tenant.
    pub tenant_id: OrganizationId,
    /// Counts and versions.
    pub detail: Value,
}

/// Locks a stream as a push does and returns its counter; 0 where there is none.
pub(super) async fn lock(tx: &mut SystemTx, tenant: Uuid, scope: Uuid) -> Result<i64, StoreError> {
    let params = [(&tenant as _, Type::UUID), (&scope as _, Type::UUID)];
    let row = tx.query_opt(LOCK, &params).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}

/// Moves a stream's counter and a file's head to `n`.
pub(super) async fn advance(
    tx: &mut SystemTx,
    file: File,
    (tenant, scope): (Uuid, Uuid),
    n: i64,
) -> Result<(), StoreError> {
    let params = [
        (&tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&n as _, Type::INT8),
        (&0_i64 as _, Type::INT8),
        (&0_i64 as _, Type::INT8),
    ];
    tx.execute(sql::advance(file), &params).await.map(drop)
}

/// Keeps findings, those that are mended already with how; returns how many are new.
pub(super) async fn note(
    tx: &mut SystemTx,
    (tenant, scope): (Uuid, Uuid),
    news: &[(New, Option<How>)],
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let (mut count, mut kinds) = (0, BTreeMap::<_, u64>::new());
    for (new, how) in news {
        let (id, kind) = (random_uuid()?, new.kind.as_str());
        let (by, at) = (how.map(How::as_str), how.map(|_| now));
        let params = [
            (&tenant as _, Type::UUID),
            (&scope as _, Type::UUID),
            (&id as _, Type::UUID),
            (&new.table as _, Type::TEXT),
            (&kind as _, Type::TEXT),
            (&new.row as _, Type::UUID),
            (&new.origin as _, Type::UUID),
            (&new.detail as _, Type::JSONB),
            (&now as _, Type::TIMESTAMPTZ),
            (&at as _, Type::TIMESTAMPTZ),
            (&by as _, Type::TEXT),
        ];
        if tx.execute(INSERT, &params).await? > 0 {
            count += 1;
            *kinds.entry((new.table, kind)).or_default() += 1;
        }
    }
    if count == 0 {
        return Ok(0);
    }
    let params = [(&tenant as _, Type::UUID), (&scope as _, Type::UUID)];
    tx.execute(COUNT, &params).await?;
    let kinds = kinds.into_iter();
    let kinds = kinds.map(|((table, kind), n)| json!({"table": table, "kind": kind, "count": n}));
    let entry = audit::Entry {
        at: now,
        action: "scrub.found",
        resource_type: Some("stream"),
        resource_id: Some(scope.to_string()),
        detail: json!({ "findings": kinds.collect::<Vec<_>>() }),
    };
    audit::record_for(tx, TenantId::new(tenant), None, None, &entry).await?;
    Ok(count)
}

/// Looks at the open findings of a tenant again and closes those whose rows are right by now;
/// returns how many were closed.
///
/// # Errors
/// Those of the database.
pub async fn recheck(
    db: &Db,
    tenant: OrganizationId,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let tenant = tenant.get();
    let open = db
        .system(SystemTask::Scrub, |mut tx| async move {
            let params = [(&tenant as _, Type::UUID), (&FINDINGS_MAX as _, Type::INT8)];
            let mut open: BTreeMap<(Uuid, String), Vec<Uuid>> = BTreeMap::new();
            for row in tx.query(OPEN, &params).await? {
                let key = (row.try_get(0)?, row.try_get(1)?);
                open.entry(key)
                    .or_default()
                    .extend(row.try_get::<_, Option<Uuid>>(2)?);
            }
            Ok::<_, StoreError>(open)
        })
        .await?;
    let mut closed = 0;
    for ((scope, table), ids) in &open {
        let Some(table) = by_cloud_name(table) else {
            continue;
        };
        closed += db
            .system(SystemTask::Scrub, |mut tx| async move {
                lock(&mut tx, tenant, *scope).await?;
                let wrong = rows::still_wrong(&mut tx, table, (tenant, *scope), ids).await?;
                let right: Vec<Uuid> = ids
                    .iter()
                    .copied()
                    .filter(|id| !wrong.contains(id))
                    .collect();
                if right.is_empty() {
                    return Ok(0);
                }
                let how = How::Sent.as_str();
                let params = [
                    (&tenant as _, Type::UUID),
                    (scope as _, Type::UUID),
                    (&right as _, Type::UUID_ARRAY),
                    (&now as _, Type::TIMESTAMPTZ),
                    (&how as _, Type::TEXT),
                    (&table.cloud as _, Type::TEXT),
                ];
                let closed = tx.execute(MEND, &params).await?;
                tx.execute(COUNT, &params[..2]).await?;
                Ok::<_, StoreError>(closed)
            })
            .await?;
    }
    Ok(closed)
}

/// Returns the newest findings, of all tenants or one: open ones, or `mended` ones as well; at
/// most [`FINDINGS_MAX`].
///
/// # Errors
/// Those of the database.
pub async fn findings(
    db: &Db,
    tenant: Option<OrganizationId>,
    mended: bool,
) -> Result<Vec<Finding>, StoreError> {
    let tenant = tenant.map(|tenant| tenant.get());
    db.system(SystemTask::Scrub, |mut tx| async move {
        let params = [
            (&tenant as _, Type::UUID),
            (&mended as _, Type::BOOL),
            (&FINDINGS_MAX as _, Type::INT8),
        ];
        let mut findings = Vec::new();
        for row in tx.query(LIST, &params).await? {
            let mended_at: Option<DateTime<Utc>> = row.try_get(8)?;
            findings.push(Finding {
                tenant_id: OrganizationId::new(row.try_get(0)?),
                scope_id: row.try_get(1)?,
                table: row.try_get(2)?,
                kind: row.try_get(3)?,
                id: row.try_get::<_, Option<Uuid>>(4)?.map(RowId::new),
                origin: row.try_get::<_, Option<Uuid>>(5)?.map(DeviceId::new),
                detail: row.try_get(6)?,
                found_at: row.try_get(7)?,
                state: if mended_at.is_some() {
                    "mended"
                } else {
                    "open"
                },
                mended_at,
                mended_by: row.try_get(9)?,
            });
        }
        Ok::<_, StoreError>(findings)
    })
    .await
}

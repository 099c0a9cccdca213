//! The removal itself. Which tables there are the database says, so that none is forgotten when one
//! is added; what stays is listed here with the reason.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::UserId;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{ErasedArchive, ErasedBackup, Erasure, Receipt, Signed};
use crate::StoreError;
use crate::audit::head::HeadKey;
use crate::audit::{self, Entry};
use crate::credential::TenantId;
use crate::db::{Db, Isolation, Param, SystemTask, SystemTx};
use crate::transfer::{Shape, all_shapes};

/// Rows that one transaction removes.
const ROWS_AT_ONCE: i64 = 2_000;

/// Tables that an erasure leaves as they are, or has statements of its own for.
///
/// The trail holds ids and counts, and cannot be changed without showing; an organisation's own
/// line and what was erased are what proves the rest. Backups go one by one, with their archives.
const KEPT: &[&str] = &[
    "audit_log",
    "audit_blocks",
    "tenants",
    "erasures",
    "erased_logins",
    "context_backups",
];
/// Tables that go at once: they say who may come in, and where what is read and written lies.
const AT_ONCE: &[&str] = &[
    "streams",
    "scopes",
    "scope_members",
    "project_repositories",
    "project_teams",
    "device_cursors",
];
/// Which rows of a table are a person's (`$2`) where the names of its columns do not say it.
const OF_PERSON: &[(&str, &str)] = &[
    ("users", "id = $2"),
    ("scope_members", "(user_id = $2 or scope_id = $2)"),
    (
        "device_tokens",
        "device_id in (select id from devices where tenant_id = $1 and user_id = $2)",
    ),
    (
        "device_cursors",
        "(scope_id = $2
        or device_id in (select id from devices where tenant_id = $1 and user_id = $2))",
    ),
    (
        "invitations",
        "email in (select email from users where tenant_id = $1 and id = $2)",
    ),
];

/// Holds pushes that are under way: each has locked its stream.
const LOCK: &str = "select from streams
    where tenant_id = $1 and ($2::uuid is null or scope_id = $2) order by scope_id for update";
const EMAILS: &str = "select email from tenant_logins
    where tenant_id = $1 and ($2::uuid is null or user_id = $2)";
const NOTE: &str = "insert into erasures (tenant_id, id, user_id, requested_at)
    values ($1, $2, $3, $4) on conflict do nothing";
const KEEP_LOGINS: &str = "insert into erased_logins
    (tenant_id, id, user_id, device_id, secret_hash, erasure_id)
    select tenant_id, id, user_id, device_id, secret_hash, $3 from refresh_tokens
    where tenant_id = $1 and ($2::uuid is null or user_id = $2) on conflict do nothing";
const FORGET_LOGINS: &str = "delete from logins l where l.email = any ($1)
    and not exists (select from tenant_logins t where t.email = l.email)";
const END_BACKUPS: &str = "update context_backups set status = 'expiring', lease_until = null
    where tenant_id = $1 and ($2::uuid is null or scope_id = $2)";
const BACKUPS: &str = "select id, scope_id, path, created_at from context_backups
    where tenant_id = $1 and ($2::uuid is null or scope_id = $2) and status = 'expiring'
    order by created_at, id";
const FORGET_BACKUP: &str = "delete from context_backups
    where tenant_id = $1 and scope_id = $2 and id = $3 and status = 'expiring'";
const SHUT_TENANT: &str = "update tenants set name = 'erased', suspended_at =
    coalesce(suspended_at, $2) where tenant_id = $1";
const LOGINS: &str = "select count(*) from erased_logins where tenant_id = $1 and erasure_id = $2";
const FINISH: &str = "update erasures set finished_at = $3, receipt = $4
    where tenant_id = $1 and id = $2";
/// What rows were while they were in another scope, which they left for the person's own.
const FORGET_MOVED: [&str; 2] = [
    "delete from record_history h using row_moves m where h.tenant_id = $1
    and m.tenant_id = $1 and m.to_scope = $2 and m.scope_id <> $2 and h.scope_id = m.scope_id
    and h.table_name = m.table_name and h.row_id = m.row_id
    and not exists (select from row_moves b where b.tenant_id = $1 and b.scope_id = $2
        and b.to_scope = m.scope_id and b.table_name = m.table_name and b.row_id = m.row_id
        and b.moved_at > m.moved_at)",
    "delete from sync_conflicts c using row_moves m where c.tenant_id = $1
    and m.tenant_id = $1 and m.to_scope = $2 and m.scope_id <> $2 and c.scope_id = m.scope_id
    and c.table_name = m.table_name and c.row_id = m.row_id
    and not exists (select from row_moves b where b.tenant_id = $1 and b.scope_id = $2
        and b.to_scope = m.scope_id and b.table_name = m.table_name and b.row_id = m.row_id
        and b.moved_at > m.moved_at)",
];

/// Returns which rows of a table are erased; none where none are. `$1` is the tenant, `$2` the
/// person.
fn condition(shape: &Shape, whole_tenant: bool) -> Option<String> {
    let table = shape.table.as_str();
    if KEPT.contains(&table) {
        return None;
    }
    if whole_tenant {
        return Some("tenant_id = $1 and $2::uuid is null".to_owned());
    }
    let named = OF_PERSON.iter().find(|(name, _)| *name == table);
    let has = |wanted: &str| shape.columns.iter().any(|name| name == wanted);
    let of_person = match named {
        Some((_, condition)) => *condition,
        None if has("scope_id") => "scope_id = $2",
        None if has("user_id") => "user_id = $2",
        None => return None,
    };
    Some(format!("tenant_id = $1 and {of_person}"))
}

/// Returns whether a table's rows may be many, and hold nobody up until they are gone.
fn is_large(shape: &Shape) -> bool {
    let has_scope = shape.columns.iter().any(|name| name == "scope_id");
    let is_of_invitations = shape.table == "invitations";
    has_scope && !is_of_invitations && !AT_ONCE.contains(&shape.table.as_str())
}

/// Tenant and person as parameters.
struct Of {
    tenant: Uuid,
    user: Option<Uuid>,
}

impl Of {
    fn new(erasure: &Erasure) -> Self {
        Self {
            tenant: erasure.tenant_id.get(),
            user: erasure.user_id.map(UserId::get),
        }
    }

    fn params(&self) -> [Param<'_>; 2] {
        [(&self.tenant, Type::UUID), (&self.user, Type::UUID)]
    }
}

/// What an erasure would remove.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// All rows.
    pub rows: u64,
    /// The same by table.
    pub tables: BTreeMap<String, u64>,
    /// Archives of what would be erased.
    pub backups: u64,
}

/// Counts what an erasure would remove, and removes nothing.
///
/// # Errors
///
/// Those of the database.
pub async fn plan(db: &Db, erasure: &Erasure) -> Result<Plan, StoreError> {
    let of = &Of::new(erasure);
    db.system_in(
        Isolation::Snapshot,
        SystemTask::Erase,
        |mut tx| async move {
            let tables = count(&mut tx, of).await?;
            let backups = "select count(*) from context_backups
            where tenant_id = $1 and ($2::uuid is null or scope_id = $2)";
            Ok(Plan {
                rows: tables.values().sum(),
                tables,
                backups: one(&mut tx, backups, &of.params()).await?,
            })
        },
    )
    .await
}

/// Counts the rows that are there, by table.
async fn count(tx: &mut SystemTx, of: &Of) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut tables = BTreeMap::new();
    for shape in all_shapes(tx).await? {
        if let Some(condition) = condition(&shape, of.user.is_none()) {
            let select = format!("select count(*) from {} where {condition}", shape.table);
            let rows = one(tx, &select, &of.params()).await?;
            if rows > 0 {
                tables.insert(shape.table, rows);
            }
        }
    }
    Ok(tables)
}

async fn one(tx: &mut SystemTx, sql: &str, params: &[Param<'_>]) -> Result<u64, StoreError> {
    let row = tx
        .query_opt(sql, params)
        .await?
        .ok_or(StoreError::NotFound)?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}

/// How far an erasure has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Rows that were removed so far, by table.
    pub tables: BTreeMap<String, u64>,
    /// Archives that are to be removed.
    pub backups: Vec<ErasedBackup>,
    /// Archives of the database itself that expire later.
    pub database_archives: Vec<ErasedArchive>,
}

/// Locks the person, or everybody of the organisation, out, forgets who that was, ends the backups,
/// and notes it in the trail: all in one transaction, which waits for pushes that are under way.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an unknown tenant; those of the database.
pub async fn begin(db: &Db, erasure: &Erasure, now: DateTime<Utc>) -> Result<Begun, StoreError> {
    let of = &Of::new(erasure);
    db.system(SystemTask::Erase, |mut tx| async move {
        let params = of.params();
        tx.query(LOCK, &params).await?;
        let emails = tx.query(EMAILS, &params).await?;
        let emails = emails.iter().map(|row| Ok(row.try_get(0)?));
        let emails: Vec<String> = emails.collect::<Result<_, StoreError>>()?;
        let note = [
            (&of.tenant as _, Type::UUID),
            (&erasure.id as _, Type::UUID),
            (&of.user as _, Type::UUID),
            (&erasure.at as _, Type::TIMESTAMPTZ),
        ];
        let is_new = tx.execute(NOTE, &note).await? > 0;
        let [tenant, user] = of.params();
        let keep = [tenant, user, (&erasure.id as _, Type::UUID)];
        tx.execute(KEEP_LOGINS, &keep).await?;
        let mut begun = Begun::default();
        let shapes = all_shapes(&mut tx).await?;
        // What refers to others goes before them.
        for shape in shapes.iter().rev().filter(|shape| !is_large(shape)) {
            if let Some(condition) = condition(shape, of.user.is_none()) {
                let delete = format!("delete from {} where {condition}", shape.table);
                let removed = tx.execute(&delete, &params).await?;
                add(&mut begun.tables, &shape.table, removed);
            }
        }
        let forgotten = tx
            .execute(FORGET_LOGINS, &[(&emails, Type::TEXT_ARRAY)])
            .await?;
        add(&mut begun.tables, "logins", forgotten);
        tx.execute(END_BACKUPS, &params).await?;
        for row in tx.query(BACKUPS, &params).await? {
            begun.backups.push(ErasedBackup {
                id: row.try_get(0)?,
                scope_id: row.try_get(1)?,
                path: row.try_get(2)?,
                created_at: row.try_get(3)?,
                removed_at: None,
            });
        }
        if of.user.is_none() {
            let shut = [
                (&of.tenant as _, Type::UUID),
                (&now as _, Type::TIMESTAMPTZ),
            ];
            tx.execute(SHUT_TENANT, &shut).await?;
        }
        if is_new {
            let detail = json!({ "erasure_id": erasure.id, "backups": begun.backups.len() });
            trail(&mut tx, erasure, "erase", detail, now).await?;
        }
        Ok(begun)
    })
    .await
}

fn add(tables: &mut BTreeMap<String, u64>, table: &str, rows: u64) {
    if rows > 0 {
        *tables.entry(table.to_owned()).or_default() += rows;
    }
}

/// Writes an entry of the trail: `user.erase`, `tenant.erased` and so on.
async fn trail(
    tx: &mut SystemTx,
    erasure: &Erasure,
    verb: &str,
    detail: serde_json::Value,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (kind, id) = match erasure.user_id {
        Some(user) => ("user", user.to_string()),
        None => ("tenant", erasure.tenant_id.to_string()),
    };
    let entry = Entry {
        at: now,
        action: &format!("{kind}.{verb}"),
        resource_type: Some(kind),
        resource_id: Some(id),
        detail,
    };
    let tenant = TenantId::new(erasure.tenant_id.get());
    audit::record_for(tx, tenant, None, None, &entry).await
}

/// Removes all rows that are left, some at a time, so that nobody waits for long; adds their number
/// to `tables`.
///
/// # Errors
///
/// Those of the database.
pub async fn remove(
    db: &Db,
    erasure: &Erasure,
    tables: &mut BTreeMap<String, u64>,
) -> Result<(), StoreError> {
    let of = &Of::new(erasure);
    let shapes = db.system(SystemTask::Erase, |mut tx| async move {
        if of.user.is_some() {
            for forget in FORGET_MOVED {
                tx.execute(forget, &of.params()).await?;
            }
        }
        all_shapes(&mut tx).await
    });
    for shape in shapes.await?.iter().rev() {
        let Some(condition) = condition(shape, of.user.is_none()) else {
            continue;
        };
        let table = &shape.table;
        let delete = &format!(
            "delete from {table} where ctid = any (array(
                select ctid from {table} where {condition} limit {ROWS_AT_ONCE}))
             and {condition}"
        );
        loop {
            let some = db.system(SystemTask::Erase, |mut tx| async move {
                tx.execute(delete, &of.params()).await
            });
            let removed = some.await?;
            add(tables, table, removed);
            if removed < ROWS_AT_ONCE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(())
}

/// Looks that nothing is left, and writes the signed receipt and its entry in the trail; none when
/// something has come meanwhile, and has to be removed first.
///
/// # Errors
///
/// Those of the database.
pub async fn finish(
    db: &Db,
    erasure: &Erasure,
    begun: &Begun,
    key: &HeadKey,
    now: DateTime<Utc>,
) -> Result<Option<Signed<Receipt>>, StoreError> {
    let of = &Of::new(erasure);
    db.system(SystemTask::Erase, |mut tx| async move {
        if !count(&mut tx, of).await?.is_empty() {
            return Ok(None);
        }
        let ids: [Param<'_>; 2] = [(&of.tenant, Type::UUID), (&erasure.id, Type::UUID)];
        let receipt = Receipt {
            erasure_id: erasure.id,
            tenant_id: erasure.tenant_id,
            user_id: erasure.user_id,
            requested_at: erasure.at,
            finished_at: now,
            rows: begun.tables.values().sum(),
            tables: begun.tables.clone(),
            backups: begun.backups.clone(),
            logins: one(&mut tx, LOGINS, &ids).await?,
            database_archives: begun.database_archives.clone(),
        };
        let receipt = receipt.sign(key)?;
        let json = serde_json::to_value(&receipt).map_err(|_| StoreError::Aborted)?;
        let [tenant, id] = ids;
        let finish = [tenant, id, (&now, Type::TIMESTAMPTZ), (&json, Type::JSONB)];
        tx.execute(FINISH, &finish).await?;
        let detail = json!({
            "erasure_id": erasure.id,
            "rows": receipt.what.rows,
            "backups": receipt.what.backups.len(),
            "signature": receipt.signature,
        });
        trail(&mut tx, erasure, "erased", detail, now).await?;
        Ok(Some(receipt))
    })
    .await
}

/// Forgets a backup whose archive was removed.
///
/// # Errors
///
/// Those of the database.
pub async fn forget_backup(
    db: &Db,
    erasure: &Erasure,
    backup: &ErasedBackup,
) -> Result<(), StoreError> {
    let tenant = erasure.tenant_id.get();
    let params: &[Param<'_>; 3] = &[
        (&tenant, Type::UUID),
        (&backup.scope_id, Type::UUID),
        (&backup.id, Type::UUID),
    ];
    db.system(SystemTask::Erase, |mut tx| async move {
        tx.execute(FORGET_BACKUP, params).await.map(drop)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(table: &str, columns: &[&str]) -> Option<String> {
        let shape = Shape::new(table, columns);
        condition(&shape, false)
    }

    #[test]
    fn a_person_loses_the_own_scope_and_what_names_the_person() {
        let condition = of("org_decisions", &["tenant_id", "scope_id", "user_id"]);
        assert_eq!(
            condition.as_deref(),
            Some("tenant_id = $1 and scope_id = $2")
        );
        let condition = of("licenses", &["tenant_id", "id", "user_id"]);
        assert_eq!(
            condition.as_deref(),
            Some("tenant_id = $1 and user_id = $2")
        );
        assert!(
            of("users", &["tenant_id", "id"])
                .unwrap()
                .contains("id = $2")
        );
        assert_eq!(of("audit_log", &["tenant_id", "user_id"]), None);
        assert_eq!(of("project_x", &["tenant_id"]), None);
    }

    #[test]
    fn an_organisation_loses_all_but_its_proofs() {
        for kept in KEPT {
            assert_eq!(condition(&Shape::new(kept, &["scope_id"]), true), None);
        }
        assert!(condition(&Shape::new("project_x", &["tenant_id"]), true).is_some());
    }

    #[test]
    fn who_may_come_in_goes_first() {
        assert!(is_large(&Shape::new("org_decisions", &["scope_id"])));
        for small in ["streams", "scope_members", "invitations"] {
            assert!(!is_large(&Shape::new(small, &["scope_id"])), "{small}");
        }
        assert!(!is_large(&Shape::new("users", &["id"])));
    }
}

//! A tenant's complete data, out of one database and into another; and a person's, out of it and
//! into another account of the person.
//!
//! Rows leave and arrive as they are stored: versions, cursors, history, conflicts, bodies, the
//! audit trail. Which tables there are the database says itself, so that none is forgotten when
//! one is added; what is left out is listed here with the reason.

mod person;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use coditect_protocol::{OrganizationId, UserId};
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::{TenantId, generate_password, hash_password};
use crate::db::{Db, Isolation, Param, Retryable, SystemTask, SystemTx};
use crate::migrations;
pub use person::{
    Account, Imported, PersonFile, PersonImport, email_of, import_person, read_person,
};

/// Tables with a tenant that are not part of its data.
///
/// Logins of running and of erased programs and the tokens of their files belong to the server that
/// gave them;
/// how far devices have read, how often people asked and how far the scrub came, to its database;
/// backups lie in its storage, and restores were from there.
pub const LEFT_OUT: &[&str] = &[
    "refresh_tokens",
    "device_tokens",
    "device_cursors",
    "request_rates",
    "scrub_rounds",
    "context_backups",
    "context_restores",
    "erased_logins",
];
/// Tables that name the person whom a row is about, and in which column. Of a table with a scope
/// a person has the rows of the own scope; of others nothing.
pub const OF_PERSON: &[(&str, &str)] = &[
    ("users", "id"),
    ("tenant_logins", "user_id"),
    ("memberships", "user_id"),
    ("scope_members", "user_id"),
    ("devices", "user_id"),
    ("licenses", "user_id"),
    ("audit_log", "user_id"),
    ("erasures", "user_id"),
];
/// Columns that a person's data does without: hashes of secrets prove who knows one, and say
/// nothing about anybody.
const SECRETS: &[&str] = &["secret_hash"];
/// Rows that are read at a time. One may have 16 MiB.
const ROWS_AT_ONCE: usize = 50;

const TABLES: &str = "select c.relname::text,
    (select array_agg(a.attname::text order by a.attnum) from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''),
    array(select distinct n.relname::text from pg_constraint f
        join pg_class n on n.oid = f.confrelid
        where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid)
    from pg_class c where c.relkind in ('r', 'p') and not c.relispartition
    and c.relnamespace = current_schema()::regnamespace
    and exists (select from pg_attribute a where a.attrelid = c.oid
        and a.attname = 'tenant_id' and not a.attisdropped)
    order by c.relname";
const NAME: &str = "select name from tenants where tenant_id = $1";
const EMAIL: &str = "select email from users where tenant_id = $1 and id = $2";
const EXISTS: &str = "select from tenants where tenant_id = $1";
const INSERT_LOGIN: &str = "insert into logins (email, password_hash, created_at, changed_at)
    values ($1, $2, $3, $3) on conflict do nothing";

/// Why a tenant could not be taken out or in.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("cannot read or write the file")]
    File(#[from] std::io::Error),
    /// The file is not what an export wrote.
    #[error("the file is damaged or no export: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The export's tables are not those of this database.
    #[error("the export has the tables of schema {theirs}, this database those of {ours}")]
    OtherSchema {
        /// Of the export.
        theirs: String,
        /// Of the database.
        ours: String,
    },
    /// The file is of a later form than this program reads.
    #[error("the file has format version {theirs}, this program reads {ours}")]
    Newer {
        /// Of the file.
        theirs: u32,
        /// The latest that is read.
        ours: u32,
    },
    /// The file is encrypted.
    #[error("the file is encrypted; exports are not, it is a backup's archive")]
    Encrypted,
    /// The file is of somebody whose address is not the account's.
    #[error("the file is of {theirs}, the account is of {ours}")]
    OtherPerson {
        /// Address in the file.
        theirs: String,
        /// Address of the account.
        ours: String,
    },
    /// The account's role does not write its own scope.
    #[error("the role of the account does not allow to write")]
    Denied,
    /// The account was erased.
    #[error("the account was erased")]
    Erased,
    /// The organisation's plan has no room for it.
    #[error("the plan {plan} has not enough {what} left")]
    Full {
        /// Name of the plan.
        plan: String,
        /// `rows` or `storage`.
        what: &'static str,
    },
    /// The tenant is there already.
    #[error("the organisation {tenant} is there already")]
    Exists {
        /// Which.
        tenant: OrganizationId,
    },
}

impl TransferError {
    /// Makes the error for a file that is no export.
    pub fn damaged(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Damaged { reason }
    }
}

/// What was read or written cannot be taken back, so nothing runs twice.
impl Retryable for TransferError {
    fn is_retry(&self) -> bool {
        false
    }
}

/// A row, as JSON of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Its table.
    pub table: String,
    /// Its columns.
    pub json: String,
}

/// A table with a tenant.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) table: String,
    /// All that are not computed from others.
    pub(crate) columns: Vec<String>,
    /// Tables that it refers to.
    needs: Vec<String>,
}

impl Shape {
    #[cfg(test)]
    pub(crate) fn new(table: &str, columns: &[&str]) -> Self {
        Self {
            table: table.to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            needs: Vec::new(),
        }
    }

    /// Returns the column that says which rows are a person's; none where none are.
    fn of_person(&self) -> Option<&'static str> {
        let mut known = OF_PERSON.iter();
        let named = known.find(|(table, _)| *table == self.table);
        let has_scope = || self.columns.iter().any(|name| name == "scope_id");
        named
            .map(|(_, column)| *column)
            .or_else(|| has_scope().then_some("scope_id"))
    }
}

/// Returns the name of a tenant and hands all of its rows to `each`, as of one moment; a table
/// comes after those that it refers to. Memory does not grow with the tenant.
///
/// # Errors
///
/// [`StoreError::NotFound`] for an unknown tenant; those of the database; what `each` returns ends
/// the export.
pub async fn export(
    db: &Db,
    tenant: OrganizationId,
    each: impl FnMut(TransferRow) -> Result<(), TransferError>,
) -> Result<String, TransferError> {
    let (each, tenant) = (&RefCell::new(each), tenant.get());
    db.system_in(
        Isolation::Snapshot,
        SystemTask::Transfer,
        |mut tx| async move {
            let param = [(&tenant as _, Type::UUID)];
            let named = tx.query_opt(NAME, &param).await?;
            let name = named.ok_or(StoreError::NotFound)?.try_get(0);
            for shape in shapes(&mut tx).await? {
                let (table, columns) = (&shape.table, shape.columns.join(", "));
                let select = format!("select {columns} from {table} where tenant_id = $1");
                hand_out(&mut tx, table, &select, &param, each).await?;
            }
            Ok(name.map_err(StoreError::from)?)
        },
    )
    .await
}

/// Returns the e-mail address of a person and hands the person's rows to `each`, as of one moment:
/// everything in the own scope, with history, conflicts and long values, and what says who the
/// person is ([`OF_PERSON`]). Rows that the person put into shared scopes are the organisation's.
///
/// # Errors
///
/// [`StoreError::NotFound`] for a person whom the tenant does not have; those of the database; what
/// `each` returns ends the export.
pub async fn export_person(
    db: &Db,
    tenant: OrganizationId,
    person: UserId,
    each: impl FnMut(TransferRow) -> Result<(), TransferError>,
) -> Result<String, TransferError> {
    let (each, tenant, person) = (&RefCell::new(each), tenant.get(), person.get());
    db.system_in(
        Isolation::Snapshot,
        SystemTask::Transfer,
        |mut tx| async move {
            let params = [(&tenant as _, Type::UUID), (&person as _, Type::UUID)];
            let named = tx.query_opt(EMAIL, &params).await?;
            let email = named.ok_or(StoreError::NotFound)?.try_get(0);
            for shape in shapes(&mut tx).await? {
                let Some(column) = shape.of_person() else {
                    continue;
                };
                let known = shape.columns.iter().map(String::as_str);
                let known: Vec<&str> = known.filter(|name| !SECRETS.contains(name)).collect();
                let (table, columns) = (&shape.table, known.join(", "));
                let select =
                    format!("select {columns} from {table} where tenant_id = $1 and {column} = $2");
                hand_out(&mut tx, table, &select, &params, each).await?;
            }
            Ok(email.map_err(StoreError::from)?)
        },
    )
    .await
}

/// Hands the rows that a statement selects to `each`, some at a time.
async fn hand_out(
    tx: &mut SystemTx,
    table: &str,
    select: &str,
    params: &[Param<'_>],
    each: &RefCell<impl FnMut(TransferRow) -> Result<(), TransferError>>,
) -> Result<(), TransferError> {
    let declare = format!(
        "declare export no scroll cursor for select to_jsonb(t)::text
         from ({select}) t"
    );
    tx.execute(&declare, params).await?;
    loop {
        let fetch = format!("fetch {ROWS_AT_ONCE} from export");
        let rows = tx.query(&fetch, &[]).await?;
        for row in &rows {
            let json = row.try_get(0).map_err(StoreError::from)?;
            let table = table.to_owned();
            (each.borrow_mut())(TransferRow { table, json })?;
        }
        if rows.len() < ROWS_AT_ONCE {
            break;
        }
    }
    tx.execute("close export", &[]).await?;
    Ok(())
}

/// Notes in the tenant's trail that its data left, or those of one person.
///
/// # Errors
///
/// Those of the database.
pub async fn note_export(
    db: &Db,
    tenant: OrganizationId,
    person: Option<UserId>,
    checksum: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    db.system(SystemTask::Transfer, |mut tx| async move {
        let (action, thing) = match person {
            None => ("tenant.export", ("tenant", tenant.to_string())),
            Some(person) => ("user.export", ("user", person.to_string())),
        };
        note(&mut tx, tenant, action, thing, checksum, now).await
    })
    .await
}

async fn note(
    tx: &mut SystemTx,
    tenant: OrganizationId,
    action: &str,
    (kind, id): (&str, String),
    checksum: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = Entry {
        at: now,
        action,
        resource_type: Some(kind),
        resource_id: Some(id),
        detail: json!({ "sha256": checksum }),
    };
    audit::record_for(tx, TenantId::new(tenant.get()), None, None, &entry).await
}

/// Stores the rows that `next` returns, until it returns none, and the note of it in the trail: all
/// or nothing. `next` says whether the export was whole by an error at its end; then `checksum`
/// names it.
///
/// People of addresses that this database does not know get a password that nobody knows.
///
/// # Errors
///
/// [`TransferError::Exists`], [`TransferError::Damaged`] for a table or column that is not here,
/// those of the database, and what `next` returns.
pub async fn import(
    db: &Db,
    tenant: OrganizationId,
    now: DateTime<Utc>,
    next: impl FnMut() -> Result<Option<TransferRow>, TransferError>,
    checksum: impl Fn() -> String,
) -> Result<(), TransferError> {
    let password = generate_password().map_err(StoreError::from)?;
    let hashed = hash_password(password).await;
    let password_hash = &hashed.map_err(StoreError::from)?;
    let (next, checksum) = (&RefCell::new(next), &checksum);
    db.system(SystemTask::Transfer, |mut tx| async move {
        let param = [(&tenant.get() as _, Type::UUID)];
        if tx.query_opt(EXISTS, &param).await?.is_some() {
            return Err(TransferError::Exists { tenant });
        }
        let shapes = shapes(&mut tx).await?;
        let mut batch = Vec::new();
        let mut table = String::new();
        loop {
            let row = (next.borrow_mut())()?;
            let is_other = row.as_ref().is_none_or(|row| row.table != table);
            if (is_other || batch.len() == ROWS_AT_ONCE) && !batch.is_empty() {
                let shape = shapes.iter().find(|shape| shape.table == table);
                let unknown = || TransferError::damaged(format!("there is no table {table}"));
                store(&mut tx, shape.ok_or_else(unknown)?, tenant, &batch).await?;
                batch.clear();
            }
            let Some(row) = row else { break };
            if row.table == "tenant_logins" {
                add_login(&mut tx, &row.json, password_hash, now).await?;
            }
            table = row.table;
            batch.push(row.json);
        }
        if tx.query_opt(EXISTS, &param).await?.is_none() {
            return Err(TransferError::damaged("it has no organisation"));
        }
        let thing = ("tenant", tenant.to_string());
        note(&mut tx, tenant, "tenant.import", thing, &checksum(), now).await?;
        Ok(())
    })
    .await
}

/// Stores rows of one table; all of them must be the tenant's.
async fn store(
    tx: &mut SystemTx,
    shape: &Shape,
    tenant: OrganizationId,
    rows: &[String],
) -> Result<(), TransferError> {
    let (table, columns) = (&shape.table, shape.columns.join(", "));
    let insert = format!(
        "insert into {table} ({columns}) select {columns}
         from jsonb_populate_recordset(null::{table}, $1::text::jsonb) where tenant_id = $2"
    );
    for row in rows {
        let row: BTreeMap<String, serde::de::IgnoredAny> =
            serde_json::from_str(row).map_err(|error| TransferError::damaged(error.to_string()))?;
        if let Some(odd) = row.keys().find(|name| !shape.columns.contains(name)) {
            let reason = format!("{table} has no column {odd}");
            return Err(TransferError::damaged(reason));
        }
    }
    let rows_json = format!("[{}]", rows.join(","));
    let params = [
        (&rows_json as _, Type::TEXT),
        (&tenant.get() as _, Type::UUID),
    ];
    let stored = tx.execute(&insert, &params).await?;
    if stored != rows.len() as u64 {
        return Err(TransferError::damaged(format!(
            "{table} has rows of another organisation"
        )));
    }
    Ok(())
}

/// Makes the login that a person of the tenant has, where there is none of the address.
async fn add_login(
    tx: &mut SystemTx,
    row: &str,
    password_hash: &str,
    now: DateTime<Utc>,
) -> Result<(), TransferError> {
    #[derive(Deserialize)]
    struct Login {
        email: String,
    }
    let login: Login =
        serde_json::from_str(row).map_err(|error| TransferError::damaged(error.to_string()))?;
    let params = [
        (&login.email as _, Type::TEXT),
        (&password_hash as _, Type::TEXT),
        (&now as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(INSERT_LOGIN, &params).await?;
    Ok(())
}

/// Returns the tables of a tenant's data, each after those that it refers to.
async fn shapes(tx: &mut SystemTx) -> Result<Vec<Shape>, StoreError> {
    let mut shapes = all_shapes(tx).await?;
    shapes.retain(|shape| !LEFT_OUT.contains(&shape.table.as_str()));
    Ok(shapes)
}

/// Returns all tables that have a tenant, each after those that it refers to.
pub(crate) async fn all_shapes(tx: &mut SystemTx) -> Result<Vec<Shape>, StoreError> {
    let mut open = Vec::new();
    for row in tx.query(TABLES, &[]).await? {
        open.push(Shape {
            table: row.try_get(0)?,
            columns: row.try_get(1)?,
            needs: row.try_get(2)?,
        });
    }
    in_order(open)
}

fn in_order(mut open: Vec<Shape>) -> Result<Vec<Shape>, StoreError> {
    let mut done = Vec::with_capacity(open.len());
    while !open.is_empty() {
        let waiting: BTreeSet<String> = open.iter().map(|shape| shape.table.clone()).collect();
        let (ready, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|shape| shape.needs.iter().all(|need| !waiting.contains(need)));
        if ready.is_empty() {
            // Tables that refer to each other in a circle: there are none.
            return Err(StoreError::Aborted);
        }
        done.extend(ready);
        open = rest;
    }
    Ok(done)
}

/// Returns the name of the tables' state, which an export and its database must share.
#[must_use]
pub fn schema() -> String {
    migrations::fingerprint()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(table: &str, needs: &[&str]) -> Shape {
        Shape {
            table: table.to_owned(),
            columns: Vec::new(),
            needs: needs.iter().map(|&need| need.to_owned()).collect(),
        }
    }

    #[test]
    fn a_person_has_the_own_scope_and_what_is_about_the_person() {
        let of = |table: &str, columns: &[&str]| {
            let columns = columns.iter().map(|&name| name.to_owned()).collect();
            let shape = Shape {
                columns,
                ..shape(table, &[])
            };
            shape.of_person()
        };
        assert_eq!(of("users", &["tenant_id", "id"]), Some("id"));
        let both = ["tenant_id", "scope_id", "user_id"];
        assert_eq!(of("org_decisions", &both), Some("scope_id"));
        assert_eq!(of("scope_members", &both), Some("user_id"));
        assert_eq!(of("tenants", &["tenant_id", "name"]), None);
    }

    #[test]
    fn a_table_comes_after_those_that_it_refers_to() {
        let open = vec![
            shape("a", &["c", "elsewhere"]),
            shape("b", &[]),
            shape("c", &["b"]),
        ];
        let sorted = in_order(open).unwrap();
        let names: Vec<_> = sorted.iter().map(|shape| shape.table.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
        let circle = vec![shape("a", &["b"]), shape("b", &["a"])];
        assert!(in_order(circle).is_err());
    }
}

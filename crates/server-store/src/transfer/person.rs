//! A person's data into another account of the person: another server, another organisation,
//! another id.
//!
//! Rows come into the own scope by the rules of a merging restore, under new versions and with the
//! ids and hashes that they have. They are written as the person, so that row security, the role
//! and the plan hold. What belongs to the account there (devices, licences, memberships, history,
//! conflicts, the trail) stays there.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, OrganizationId, Scope, UserId};
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{EMAIL, ROWS_AT_ONCE, TransferError, TransferRow, all_shapes, schema};
use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::{Caller, TenantId};
use crate::db::{Db, Retryable, SystemTask, SystemTx};
use crate::identity::Role;
use crate::plans::{self, Plan, Usage};
use crate::sync::person::{self, Owner, Unreadable, Use};
use crate::sync::{self, ArchivedRow, Restore, RestoreError, RestoreMode, SyncError, TakenIn};

/// Lines without use after which the database hears of us: it ends transactions that rest.
const LINES_ASIDE: u64 = 2_000;
const ROLE: &str = "select role from memberships where tenant_id = $1 and user_id = $2 and active";

/// An account: a person in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The organisation.
    pub tenant: OrganizationId,
    /// The person.
    pub user: UserId,
}

/// What a person's file is.
#[derive(Clone, Debug)]
pub struct PersonFile {
    /// Whose it is, on the server that wrote it.
    pub owner: Account,
    /// State of that server's tables, see [`schema`].
    pub schema: String,
}

/// What is imported, and into which account.
#[derive(Clone, Debug)]
pub struct PersonImport {
    /// The account here.
    pub account: Account,
    /// Whose the file is, for the audit trail.
    pub owner: Account,
    /// SHA-256 of the file, for the audit trail.
    pub sha256: String,
    /// Whether only to say what would come.
    pub dry_run: bool,
    /// The server's time.
    pub now: DateTime<Utc>,
}

/// What came, or would come.
pub type Imported = TakenIn;

/// Returns the e-mail address of an account.
///
/// # Errors
///
/// [`StoreError::NotFound`], those of the database.
pub async fn email_of(db: &Db, account: Account) -> Result<String, StoreError> {
    let (tenant, user) = (account.tenant.get(), account.user.get());
    db.system(SystemTask::Transfer, |mut tx| async move {
        let params = [(&tenant as _, Type::UUID), (&user as _, Type::UUID)];
        let row = tx.query_opt(EMAIL, &params).await?;
        Ok(row.ok_or(StoreError::NotFound)?.try_get(0)?)
    })
    .await
}

/// Reads a person's file and hands its rows to `each`, as rows of `author`: whole, and each what
/// its hash says. `open` begins to read the file; it is read twice. Returns how many rows of which
/// tables stay out because they belong to the account there.
///
/// # Errors
///
/// [`TransferError::Damaged`], [`TransferError::OtherSchema`] for columns that are not here, those
/// of the database, and what `open`, what it returns, and `each` return.
pub async fn read_person<N>(
    db: &Db,
    file: &PersonFile,
    author: UserId,
    open: impl FnMut() -> Result<N, TransferError>,
    each: impl FnMut(ArchivedRow) -> Result<(), TransferError>,
) -> Result<BTreeMap<String, u64>, TransferError>
where
    N: FnMut() -> Result<Option<TransferRow>, TransferError>,
{
    let (open, each) = (&RefCell::new(open), &RefCell::new(each));
    db.system(SystemTask::Transfer, |mut tx| async move {
        person::prepare(&mut tx).await?;
        let mut reading = Reading::new(&mut tx, file, author).await?;
        let mut next = (open.borrow_mut())()?;
        while let Some(row) = next()? {
            if matches!(person::use_of(&row.table), Use::Aside(_)) {
                reading.take(&mut tx, row, each).await?;
            } else {
                reading.pass(&mut tx).await?;
            }
        }
        reading.flush(&mut tx, each).await?;
        let mut next = (open.borrow_mut())()?;
        while let Some(row) = next()? {
            match person::use_of(&row.table) {
                Use::Rows(_) => reading.take(&mut tx, row, each).await?,
                Use::Aside(_) => reading.pass(&mut tx).await?,
                Use::None => {
                    reading.check_table(&row.table)?;
                    *reading.left_out.entry(row.table).or_default() += 1;
                    reading.pass(&mut tx).await?;
                }
            }
        }
        reading.flush(&mut tx, each).await?;
        Ok(reading.left_out)
    })
    .await
}

/// Rows of one table that are read at once, and what is known of all.
struct Reading<'a> {
    file: &'a PersonFile,
    author: UserId,
    /// Columns by table.
    columns: BTreeMap<String, Vec<String>>,
    table: String,
    batch: Vec<String>,
    left_out: BTreeMap<String, u64>,
    passed: u64,
}

impl<'a> Reading<'a> {
    async fn new(
        tx: &mut SystemTx,
        file: &'a PersonFile,
        author: UserId,
    ) -> Result<Self, TransferError> {
        let shapes = all_shapes(tx).await?.into_iter();
        Ok(Self {
            file,
            author,
            columns: shapes.map(|it| (it.table, it.columns)).collect(),
            table: String::new(),
            batch: Vec::new(),
            left_out: BTreeMap::new(),
            passed: 0,
        })
    }

    /// Leaves a line.
    async fn pass(&mut self, tx: &mut SystemTx) -> Result<(), TransferError> {
        self.passed += 1;
        if self.passed.is_multiple_of(LINES_ASIDE) {
            tx.execute("select", &[]).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        tx: &mut SystemTx,
        row: TransferRow,
        each: &RefCell<impl FnMut(ArchivedRow) -> Result<(), TransferError>>,
    ) -> Result<(), TransferError> {
        if self.table != row.table || self.batch.len() == ROWS_AT_ONCE {
            self.flush(tx, each).await?;
            self.table = row.table;
        }
        self.check(&row.json)?;
        self.batch.push(row.json);
        Ok(())
    }

    /// Checks that a row has no columns that this database would forget.
    fn check(&self, row: &str) -> Result<(), TransferError> {
        let known = self.columns.get(&self.table).map_or(&[][..], Vec::as_slice);
        let row: BTreeMap<String, serde::de::IgnoredAny> =
            serde_json::from_str(row).map_err(|error| TransferError::damaged(error.to_string()))?;
        match row.keys().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(odd) => Err(self.unknown(format!("{} has no column {odd}", self.table))),
        }
    }

    /// Checks that a table which stays out is one that this database has.
    fn check_table(&self, table: &str) -> Result<(), TransferError> {
        if self.columns.contains_key(table) {
            return Ok(());
        }
        Err(self.unknown(format!("there is no table {table}")))
    }

    /// Returns the error for what this database does not know.
    fn unknown(&self, reason: String) -> TransferError {
        let (theirs, ours) = (self.file.schema.clone(), schema());
        if ours == theirs {
            return TransferError::Damaged { reason };
        }
        TransferError::OtherSchema { theirs, ours }
    }

    async fn flush(
        &mut self,
        tx: &mut SystemTx,
        each: &RefCell<impl FnMut(ArchivedRow) -> Result<(), TransferError>>,
    ) -> Result<(), TransferError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let owner = Owner {
            tenant: self.file.owner.tenant,
            user: self.file.owner.user,
        };
        match person::use_of(&self.table) {
            Use::Aside(insert) => {
                let put = person::put_aside(tx, owner, insert, &batch).await;
                put.map_err(TransferError::from)
            }
            Use::Rows(table) => {
                for row in person::read(tx, owner, self.author, table, &batch).await? {
                    (each.borrow_mut())(row)?;
                }
                Ok(())
            }
            Use::None => Ok(()),
        }
    }
}

impl From<Unreadable> for TransferError {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Store(StoreError::Corrupt { table, row }) => {
                Self::damaged(format!("{table}: {row} is not what it says"))
            }
            Unreadable::Store(error) => Self::Store(error),
            Unreadable::Rows(reason) => Self::Damaged { reason },
        }
    }
}

/// Why nothing was imported.
enum Stop {
    Restore(RestoreError),
    Full(&'static str),
    /// Nothing was to be changed; this is what would have been.
    DryRun(Imported),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Restore(error.into())
    }
}

impl From<RestoreError> for Stop {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

impl Retryable for Stop {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Restore(error) if error.is_retry())
    }
}

/// Stores the rows that `open` begins to hand over, each row once, and the entry in the trail: all
/// or nothing.
///
/// # Errors
///
/// [`TransferError::Denied`], [`TransferError::Erased`], [`TransferError::Full`],
/// [`StoreError::NotMember`] for somebody who is locked out, those of the database and of what
/// `open` returns. Nothing was changed then.
pub async fn import_person<N>(
    db: &Db,
    wanted: &PersonImport,
    open: impl Fn() -> std::io::Result<N>,
) -> Result<Imported, TransferError>
where
    N: FnMut() -> std::io::Result<Option<Vec<ArchivedRow>>>,
{
    let caller = &caller(db, wanted.account).await?;
    let plan = &plans::of_tenant(db, caller).await?;
    let used = plans::usage(db, caller).await?;
    let restore = &Restore {
        scope: Scope::User(wanted.account.user.get()),
        device: DeviceId::new(Uuid::nil()),
        mode: RestoreMode::Merge,
        dry_run: false,
        backup: Uuid::nil(),
        now_ms: wanted.now.timestamp_millis(),
    };
    let open = &open;
    let done = db
        .tenant("transfer.import_person", caller, |mut tx| async move {
            let rows = open().map_err(RestoreError::from)?;
            let taken = sync::take_in(&mut tx, restore, rows).await?;
            if let Some(what) = lacks(plan, used, &taken) {
                return Err(Stop::Full(what));
            }
            if wanted.dry_run {
                return Err(Stop::DryRun(taken));
            }
            audit::record_by_operator(&mut tx, &entry(wanted, &taken)).await?;
            Ok(taken)
        })
        .await;
    match done {
        Ok(taken) | Err(Stop::DryRun(taken)) => Ok(taken),
        Err(Stop::Full(what)) => Err(TransferError::Full {
            plan: plan.name.clone(),
            what,
        }),
        Err(Stop::Restore(error)) => Err(refused(error)),
    }
}

/// Returns what the plan has too little of for what came.
fn lacks(plan: &Plan, used: Usage, taken: &Imported) -> Option<&'static str> {
    let over = |limit: Option<i64>, used: i64, added: i64| {
        added > 0 && limit.is_some_and(|limit| used + added > limit)
    };
    if over(plan.rows, used.rows, taken.rows_added) {
        return Some("rows");
    }
    over(plan.storage_bytes, used.bytes, taken.bytes_added).then_some("storage")
}

fn refused(error: RestoreError) -> TransferError {
    match error {
        RestoreError::Sync(SyncError::Store(error)) => TransferError::Store(error),
        RestoreError::Sync(SyncError::PermissionDenied) => TransferError::Denied,
        RestoreError::Erased => TransferError::Erased,
        RestoreError::Source(error) => TransferError::File(error),
        error => TransferError::damaged(error.to_string()),
    }
}

/// Returns the person as a caller: the operator acts for an account that may log in.
async fn caller(db: &Db, account: Account) -> Result<Caller, StoreError> {
    let (tenant, user) = (account.tenant.get(), account.user.get());
    let role = db
        .system(SystemTask::Transfer, |mut tx| async move {
            let params = [(&tenant as _, Type::UUID), (&user as _, Type::UUID)];
            let row = tx.query_opt(ROLE, &params).await?;
            let role: String = row.ok_or(StoreError::NotMember)?.try_get(0)?;
            Role::parse(&role).ok_or(StoreError::NotMember)
        })
        .await?;
    Ok(Caller::by_operator(
        TenantId::new(tenant),
        account.user,
        role,
    ))
}

fn entry(wanted: &PersonImport, taken: &Imported) -> Entry<'static> {
    Entry {
        at: wanted.now,
        action: "user.import",
        resource_type: Some("user"),
        resource_id: Some(wanted.account.user.to_string()),
        detail: json!({
            "by": "operator",
            "sha256": wanted.sha256,
            "from_tenant": wanted.owner.tenant,
            "from_user": wanted.owner.user,
            "restored": taken.restored,
            "skipped": taken.skipped,
            "deletions": taken.deletions,
        }),
    }
}

//! Erasure of a person, or of a whole organisation (ADR 0034).
//!
//! What is to be erased is written into a ledger outside the database first, by the caller; here is
//! what the database does about it. It goes in steps, each of which may be the last before a crash:
//! [`begin`] locks out and notes, [`remove`] takes the rows away some at a time, [`finish`] looks
//! that nothing is left and writes the receipt. Doing any of it again is harmless.

mod remove;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use coditect_protocol::wire::erasure::ErasureNotice;
use coditect_protocol::{OrganizationId, Scope, UserId};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::audit::head::{HeadKey, NotSigned};
use crate::credential::{OpaqueKey, random_uuid};
use crate::db::{Db, Param, SystemTask, SystemTx, TenantTx};
pub use remove::{Begun, Plan, begin, finish, forget_backup, plan, remove};

const IS_THERE: &str = "select exists (select from users where tenant_id = $1
    and ($2::uuid is null or id = $2))";
const OTHER_OWNERS: &str = "select exists (select from memberships
    where tenant_id = $1 and user_id <> $2 and role = 'owner' and active)
    or not exists (select from memberships where tenant_id = $1 and user_id = $2
        and role = 'owner' and active)";
/// What the ledger says and the database does not know, or has again: it was set back.
const UNAPPLIED: &str = "select given.id
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given (id, tenant_id, user_id)
    join tenants t on t.tenant_id = given.tenant_id
    left join erasures e on e.tenant_id = given.tenant_id and e.id = given.id
    where e.id is null or (e.finished_at is null and e.requested_at < $4)
    or exists (select from users u where u.tenant_id = given.tenant_id
        and (given.user_id is null or u.id = given.user_id))
    or exists (select from streams s where s.tenant_id = given.tenant_id
        and (given.user_id is null or s.scope_id = given.user_id))";
const LOGIN: &str = "select l.user_id, l.secret_hash, e.id, e.requested_at
    from erased_logins l
    join erasures e on e.tenant_id = l.tenant_id and e.id = l.erasure_id
    where l.tenant_id = $1 and l.id = $2 and e.tenant_id = $1";
const OF_SCOPE: &str = "select exists (select from erasures
    where tenant_id = $1 and (user_id = $2 or user_id is null))";
const RECEIPTS: &str = "select receipt from erasures
    where tenant_id = $1 and receipt is not null order by finished_at, id";

/// What is erased, as the ledger keeps it: ids and a time, never content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its id.
    pub id: Uuid,
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The person; none when it is the organisation itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// When it was asked for.
    pub at: DateTime<Utc>,
}

impl Erasure {
    /// Makes one with a fresh id, after a look whether there is something to erase.
    ///
    /// # Errors
    ///
    /// [`EraseError::LastOwner`] when the organisation would be left without an owner,
    /// [`StoreError::NotFound`], those of the database.
    pub async fn order(
        db: &Db,
        tenant_id: OrganizationId,
        user_id: Option<UserId>,
        at: DateTime<Utc>,
    ) -> Result<Self, EraseError> {
        let (tenant, user) = (tenant_id.get(), user_id.map(UserId::get));
        let params: &[Param<'_>; 2] = &[(&tenant, Type::UUID), (&user, Type::UUID)];
        db.system(SystemTask::Erase, |mut tx| async move {
            if !is(&mut tx, IS_THERE, params).await? {
                return Err(StoreError::NotFound.into());
            }
            if user.is_some() && !is(&mut tx, OTHER_OWNERS, params).await? {
                return Err(EraseError::LastOwner);
            }
            Ok(())
        })
        .await?;
        Ok(Self {
            id: random_uuid().map_err(StoreError::from)?,
            tenant_id,
            user_id,
            at,
        })
    }

    /// Returns the text that the ledger's signature covers.
    fn text(&self) -> String {
        let Self {
            id,
            tenant_id,
            user_id,
            at,
        } = self;
        let user = user_id.map_or_else(|| "-".to_owned(), |user| user.to_string());
        let at = at.timestamp_micros();
        format!("coditect erasure 1\n{id}\n{tenant_id}\n{user}\n{at}\n")
    }

    /// Signs it for the ledger.
    #[must_use]
    pub fn sign(self, key: &HeadKey) -> Signed<Self> {
        let (public_key, signature) = (key.public_key(), key.sign_text(&self.text()));
        Signed {
            what: self,
            public_key,
            signature,
        }
    }
}

/// Something with a signature of the installation's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    /// What is signed.
    #[serde(flatten)]
    pub what: T,
    /// The public key (Ed25519), base64: for whoever checks it without this program.
    pub public_key: String,
    /// The signature, base64.
    pub signature: String,
}

impl Signed<Erasure> {
    /// Returns what the ledger says, if this key has signed it.
    ///
    /// # Errors
    ///
    /// [`NotSigned`].
    pub fn check(self, key: &HeadKey) -> Result<Erasure, NotSigned> {
        match key.has_signed(&self.what.text(), &self.signature) {
            true => Ok(self.what),
            false => Err(NotSigned),
        }
    }
}

/// What was erased: counts and ids, never content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which erasure it was.
    pub erasure_id: Uuid,
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The person; none when it was the organisation itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When nothing was left in the database.
    pub finished_at: DateTime<Utc>,
    /// All rows that were removed.
    pub rows: u64,
    /// The same by table.
    pub tables: BTreeMap<String, u64>,
    /// Archives of what was erased.
    pub backups: Vec<ErasedBackup>,
    /// Refresh tokens by which the devices will be told.
    pub logins: u64,
    /// Archives of the database itself that hold what it was before; only where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub database_archives: Vec<ErasedArchive>,
}

impl Receipt {
    /// Returns the text that the receipt's signature covers: a first line, then the receipt
    /// without its signature as JSON, in the order of its fields and without spaces.
    ///
    /// # Errors
    ///
    /// [`StoreError::Aborted`] when it has no JSON.
    pub fn text(&self) -> Result<String, StoreError> {
        let json = serde_json::to_string(self).map_err(|_| StoreError::Aborted)?;
        Ok(format!("coditect erasure receipt 1\n{json}\n"))
    }

    fn sign(self, key: &HeadKey) -> Result<Signed<Self>, StoreError> {
        let signature = key.sign_text(&self.text()?);
        Ok(Signed {
            what: self,
            public_key: key.public_key(),
            signature,
        })
    }
}

/// An archive of an erased scope. Its time is over with the erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedBackup {
    /// The backup's id.
    pub id: Uuid,
    /// Id of the scope.
    pub scope_id: Uuid,
    /// Path of the archive below the storage's root.
    pub path: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When the archive was removed; none while it still lies there, because the storage refused:
    /// the server tries again every minute.
    pub removed_at: Option<DateTime<Utc>>,
}

/// A part of an archive of the database itself: what was erased is in it until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedArchive {
    /// The archive.
    pub archive_id: Uuid,
    /// `base_backups`, or `log` for the write-ahead log.
    pub kind: String,
    /// By when it is gone, if the server goes on making a base backup a day; none for an archive
    /// that nobody goes on with and no server removes: that is the operator's to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_by: Option<DateTime<Utc>>,
}

/// Why nothing was erased, or not all.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The organisation would be left without an owner.
    #[error("the organisation would be left without an owner")]
    LastOwner,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl crate::Retryable for EraseError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

/// The erased account that a genuine refresh token was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Which erasure it was.
    pub id: Uuid,
    /// The organisation.
    pub tenant: OrganizationId,
    /// The person.
    pub user: UserId,
    /// When it was asked for.
    pub at: DateTime<Utc>,
}

/// Returns what the account's devices are told, signed.
#[must_use]
pub fn notice(key: &HeadKey, erased: &Erased) -> ErasureNotice {
    let mut notice = ErasureNotice {
        id: erased.id,
        tenant_id: erased.tenant,
        user_id: erased.user,
        erased_at_ms: erased.at.timestamp_millis(),
        public_key: key.public_key(),
        signature: String::new(),
    };
    notice.signature = key.sign_text(&notice.text());
    notice
}

/// Returns the erased account that a refresh token was of, if it was of one.
pub(crate) async fn erased_login(
    tx: &mut SystemTx,
    key: &OpaqueKey,
) -> Result<Option<Erased>, StoreError> {
    let params: [Param<'_>; 2] = [(&key.tenant, Type::UUID), (&key.id, Type::UUID)];
    let Some(row) = tx.query_opt(LOGIN, &params).await? else {
        return Ok(None);
    };
    let hash: Vec<u8> = row.try_get(1)?;
    if !key.has_hash(&hash) {
        return Ok(None);
    }
    Ok(Some(Erased {
        id: row.try_get(2)?,
        tenant: OrganizationId::new(key.tenant),
        user: UserId::new(row.try_get(0)?),
        at: row.try_get(3)?,
    }))
}

/// Returns whether the scope was erased, with its person or the organisation.
pub(crate) async fn is_erased(tx: &mut TenantTx, scope: Scope) -> Result<bool, StoreError> {
    let (tenant, scope) = (tx.tenant().get(), scope.id());
    let params: [Param<'_>; 2] = [(&tenant, Type::UUID), (&scope, Type::UUID)];
    let row = tx.query_opt(OF_SCOPE, &params).await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

/// Returns those of the ledger's erasures that the database does not know, has not finished since
/// `before`, or has something of again.
///
/// # Errors
///
/// Those of the database.
pub async fn unapplied(
    db: &Db,
    ledger: &[Erasure],
    before: DateTime<Utc>,
) -> Result<Vec<Erasure>, StoreError> {
    let ids: Vec<Uuid> = ledger.iter().map(|it| it.id).collect();
    let tenants: Vec<Uuid> = ledger.iter().map(|it| it.tenant_id.get()).collect();
    let users = ledger.iter().map(|it| it.user_id.map(UserId::get));
    let users: Vec<Option<Uuid>> = users.collect();
    let params: &[Param<'_>; 4] = &[
        (&ids, Type::UUID_ARRAY),
        (&tenants, Type::UUID_ARRAY),
        (&users, Type::UUID_ARRAY),
        (&before, Type::TIMESTAMPTZ),
    ];
    let found = db
        .system(SystemTask::Erase, |mut tx| async move {
            let rows = tx.query(UNAPPLIED, params).await?;
            let ids = rows.iter().map(|row| Ok(row.try_get(0)?));
            ids.collect::<Result<Vec<Uuid>, StoreError>>()
        })
        .await?;
    let open = ledger.iter().filter(|it| found.contains(&it.id));
    Ok(open.cloned().collect())
}

/// Returns the receipts of a tenant's erasures, oldest first.
///
/// # Errors
///
/// Those of the database.
pub async fn receipts(
    db: &Db,
    tenant: OrganizationId,
) -> Result<Vec<serde_json::Value>, StoreError> {
    let tenant = tenant.get();
    db.system(SystemTask::Erase, |mut tx| async move {
        let rows = tx.query(RECEIPTS, &[(&tenant, Type::UUID)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    })
    .await
}

async fn is(tx: &mut SystemTx, sql: &str, params: &[Param<'_>]) -> Result<bool, StoreError> {
    let row = tx.query_opt(sql, params).await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_believes_its_own_key_only() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = HeadKey::load_or_create(folder.path()).unwrap();
        let other = HeadKey::load_or_create(other.path()).unwrap();
        let erasure = Erasure {
            id: Uuid::from_u128(1),
            tenant_id: OrganizationId::new(Uuid::from_u128(2)),
            user_id: Some(UserId::new(Uuid::from_u128(3))),
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        };
        let signed = erasure.clone().sign(&key);
        let text = serde_json::to_string(&signed).unwrap();
        let read: Signed<Erasure> = serde_json::from_str(&text).unwrap();
        assert_eq!(read.clone().check(&key), Ok(erasure));
        assert_eq!(read.clone().check(&other), Err(NotSigned));
        let mut forged = read;
        forged.what.user_id = None;
        assert_eq!(forged.check(&key), Err(NotSigned));
    }

    #[test]
    fn a_notice_is_no_entry_of_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let key = HeadKey::load_or_create(folder.path()).unwrap();
        let erased = Erased {
            id: Uuid::from_u128(1),
            tenant: OrganizationId::new(Uuid::from_u128(2)),
            user: UserId::new(Uuid::from_u128(3)),
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        };
        let notice = notice(&key, &erased);
        assert!(key.has_signed(&notice.text(), &notice.signature));
        let erasure = Erasure {
            id: erased.id,
            tenant_id: erased.tenant,
            user_id: Some(erased.user),
            at: erased.at,
        };
        assert!(!key.has_signed(&erasure.text(), &notice.signature));
    }
}

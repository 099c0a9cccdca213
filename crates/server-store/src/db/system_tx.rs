//! The transaction of a system task: row security does not bind it.

use tokio_postgres::Row;

use super::session::{Param, Session, Slot};
use crate::StoreError;

/// What the system role is used for, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemTask {
    /// Checking a licence key, password or refresh token; the tenant is not known before.
    Authenticate,
    /// Letting the holder of an invitation's secret in.
    AcceptInvitation,
    /// Locking a device out and ending its logins, for a member who may.
    RevokeDevice,
    /// Making and listing tenants, people and licences, by the operator.
    Administer,
    /// Filling the platform catalogue.
    ImportCatalogue,
    /// Changing the epoch after a restore.
    ChangeEpoch,
    /// Writing out a tenant's rows, by the operator.
    Dump,
    /// Taking the next job, and noting how it goes on.
    ClaimJob,
    /// Reading the stream that a backup job names.
    Backup,
    /// Restoring a backup into tables that go with the transaction, and noting what came of it.
    TryBackup,
    /// Reading every row once a day, and mending what can be.
    Scrub,
    /// Putting entries of the audit trail into blocks, and checking them.
    ChainAudit,
    /// Removing bodies that no row names any more.
    Collect,
    /// Removing old versions that no device needs any more, and settled conflicts.
    Purge,
    /// Reading a caller's plan and usage, and counting requests.
    Limit,
    /// Reading figures of the service as a whole.
    Measure,
    /// Taking a tenant's complete data out or in, by the operator.
    Transfer,
    /// Erasing a person or a tenant, and answering those who were.
    Erase,
}

impl SystemTask {
    /// Returns the name for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::AcceptInvitation => "accept_invitation",
            Self::RevokeDevice => "revoke_device",
            Self::Administer => "administer",
            Self::ImportCatalogue => "import_catalogue",
            Self::ChangeEpoch => "change_epoch",
            Self::Dump => "dump",
            Self::ClaimJob => "claim_job",
            Self::Backup => "backup",
            Self::TryBackup => "try_backup",
            Self::Scrub => "scrub",
            Self::ChainAudit => "chain_audit",
            Self::Collect => "collect",
            Self::Purge => "purge",
            Self::Limit => "limit",
            Self::Measure => "measure",
            Self::Transfer => "transfer",
            Self::Erase => "erase",
        }
    }
}

/// A transaction of the system role, for one of the listed tasks.
#[derive(Debug)]
pub struct SystemTx {
    /// Taken on drop only.
    session: Option<Session>,
    slot: Slot,
    task: SystemTask,
}

impl SystemTx {
    pub(super) fn new(session: Session, slot: Slot, task: SystemTask) -> Self {
        Self {
            session: Some(session),
            slot,
            task,
        }
    }

    /// Returns what the transaction is for.
    #[must_use]
    pub fn task(&self) -> SystemTask {
        self.task
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.session()?.query(sql, params).await
    }

    /// Runs a statement and returns its row, if there is one.
    pub(crate) async fn query_opt(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.session()?.query(sql, params).await?.into_iter().next())
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, StoreError> {
        self.session()?.execute(sql, params).await
    }

    /// Returns the session, which is there until the drop.
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        self.session.as_mut().ok_or(StoreError::Aborted)
    }
}

impl Drop for SystemTx {
    fn drop(&mut self) {
        self.slot.put(self.session.take());
    }
}

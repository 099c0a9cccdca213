//! A restore on trial: the rows of archives go into copies of the tables, which live as long as
//! the transaction, are read back from there, and are summed up.

use std::collections::BTreeSet;

use coditect_core::digest::Digest;
use coditect_core::hash;
use coditect_core::merge::Existing;
use coditect_protocol::catalogue::{Class, Table, by_cloud_name};
use coditect_protocol::wire::Op;
use coditect_protocol::{OrganizationId, Scope, UserId};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::apply::by_table;
use super::restore::ArchivedRow;
use super::write::Rows;
use crate::StoreError;
use crate::db::{Retryable, Statement, SystemTx};
use crate::sync::columns;
use crate::sync::held::Held;
use crate::sync::sql::{self, ScratchSql};

/// Rows that are read back at once.
const ROWS_AT_ONCE: i64 = 100;

/// What a trial came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// The digest over all rows that were restored, tombstones included.
    pub digest: Digest,
    /// Rows that are not what their hash says, as they came back from the database.
    pub altered: u64,
}

/// Why a trial came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows could not be read.
    #[error("cannot read the rows to restore")]
    Source(#[from] std::io::Error),
    /// A row is none that this server's tables take.
    #[error("the archive has a row that fits no table")]
    Unfit,
}

impl Retryable for TrialError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retry())
    }
}

/// Restores the rows that `next` hands over, some at a time, each row once, `None` at the end,
/// into copies of the tables, and reads them back. Nobody's rows are touched, and the copies are
/// gone when the transaction ends, whatever ends it.
///
/// # Errors
///
/// [`TrialError`].
pub async fn try_restore(
    tx: &mut SystemTx,
    tenant: OrganizationId,
    scope: Scope,
    mut next: impl FnMut() -> std::io::Result<Option<Vec<ArchivedRow>>>,
) -> Result<Tried, TrialError> {
    let (tenant, scope) = (tenant.get(), scope.id());
    let mut made = Copies::default();
    while let Some(rows) = next()? {
        let rows = rows.into_iter().map(|row| {
            let table = by_cloud_name(&row.stored.table);
            let table = table.filter(|table| table.class != Class::Catalogue);
            let table = table.ok_or(TrialError::Unfit)?;
            Ok::<_, TrialError>((table, held(row)?))
        });
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for (table, rows) in by_table(rows.iter().map(|(table, row)| (*table, row))) {
            let statements = made.of(tx, table).await?;
            let rows = Rows::new(table, rows);
            let first = [(&tenant as _, Type::UUID), (&scope as _, Type::UUID)];
            let Statement { sql, params } = rows.with(first, &statements.insert);
            tx.execute(sql, &params).await?;
        }
    }
    let mut tried = Tried::default();
    for name in &made.0 {
        if let Some(table) = by_cloud_name(name) {
            read_back(tx, table, &mut tried).await?;
        }
    }
    Ok(tried)
}

/// Names of the tables that have a copy in this transaction.
#[derive(Default)]
struct Copies(BTreeSet<&'static str>);

impl Copies {
    /// Returns the statements over the copy of a table, which is made where it is missing.
    async fn of(
        &mut self,
        tx: &mut SystemTx,
        table: &'static Table,
    ) -> Result<&'static ScratchSql, TrialError> {
        let statements = sql::scratch(table).ok_or(TrialError::Unfit)?;
        if self.0.insert(table.cloud) {
            tx.execute(&statements.create, &[]).await?;
        }
        Ok(statements)
    }
}

/// Returns the archived row as its stream had it.
fn held(row: ArchivedRow) -> Result<Held, TrialError> {
    let stored = row.stored;
    let time = |text: &str| columns::time(text).ok_or(TrialError::Unfit);
    let content = match stored.op {
        Op::Upsert => Some(stored.row.ok_or(TrialError::Unfit)?),
        Op::Delete => None,
    };
    Ok(Held {
        id: stored.id,
        user: stored.user_id.map(UserId::get),
        origin: stored.origin,
        cursor: stored.cursor,
        created_at: time(&stored.created_at)?,
        updated_at: time(&stored.updated_at)?,
        existing: Existing {
            version: stored.version,
            device: stored.device,
            hash: stored.hash.parse().map_err(|_| TrialError::Unfit)?,
            row: content,
        },
    })
}

async fn read_back(
    tx: &mut SystemTx,
    table: &'static Table,
    tried: &mut Tried,
) -> Result<(), TrialError> {
    let statements = sql::scratch(table).ok_or(TrialError::Unfit)?;
    let mut behind = Uuid::nil();
    loop {
        let params = [(&behind as _, Type::UUID), (&ROWS_AT_ONCE as _, Type::INT8)];
        let rows = tx.query(&statements.rows, &params).await?;
        for row in &rows {
            let row = Held::read(table, row)?;
            behind = row.id.get();
            let content = row.existing.row.as_ref();
            let same = |content| hash::content(table, content) == row.existing.hash;
            tried.altered += u64::from(!content.is_none_or(same));
            tried.digest.add(row.term(table), row.deleted());
        }
        if (rows.len() as i64) < ROWS_AT_ONCE {
            return Ok(());
        }
    }
}

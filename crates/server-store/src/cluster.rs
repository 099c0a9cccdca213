//! The life of the database: its epoch, which every cursor and token carries.

use coditect_protocol::Epoch;
use tokio_postgres::types::Type;

use crate::StoreError;
use crate::credential::random_bytes;
use crate::db::{Db, Param, SystemTask, TenantTx};

const SELECT: &str = "select epoch from cluster";
const UPDATE: &str = "update cluster set epoch = $1, changed_at = now()";
const END: &str = "update cluster set epoch = $1, changed_at = now() where epoch = $2";

/// Returns the epoch of the database.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when the stored value is none.
pub async fn epoch(tx: &mut TenantTx) -> Result<Epoch, StoreError> {
    let row = tx
        .query_opt(SELECT, &[])
        .await?
        .ok_or(StoreError::NotFound)?;
    parse(row.try_get(0)?)
}

/// Gives the database a new, random epoch and returns it: after a restore or a promotion.
///
/// # Errors
///
/// Those of the database.
pub async fn change_epoch(db: &Db) -> Result<Epoch, StoreError> {
    let epoch = Epoch(u64::from_be_bytes(random_bytes()?));
    let text = &epoch.to_string();
    db.system(SystemTask::ChangeEpoch, |mut tx| async move {
        tx.execute(UPDATE, &[(text, Type::TEXT)]).await?;
        Ok::<_, StoreError>(epoch)
    })
    .await
}

/// Ends the epoch `old`, because a token of it is ahead of the database, and returns the epoch
/// of this moment: another request may have ended it already.
///
/// # Errors
///
/// Those of the database.
pub async fn end_epoch(db: &Db, old: Epoch) -> Result<Epoch, StoreError> {
    let new = &Epoch(u64::from_be_bytes(random_bytes()?)).to_string();
    let old = &old.to_string();
    db.system(SystemTask::ChangeEpoch, |mut tx| async move {
        let params: [Param<'_>; 2] = [(new, Type::TEXT), (old, Type::TEXT)];
        tx.execute(END, &params).await?;
        let row = tx
            .query_opt(SELECT, &[])
            .await?
            .ok_or(StoreError::NotFound)?;
        parse(row.try_get(0)?)
    })
    .await
}

fn parse(text: &str) -> Result<Epoch, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt {
        table: "cluster",
        row: "epoch".to_owned(),
    })
}

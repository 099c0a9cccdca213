//! `admin tenant export|import`: an organisation's data out of one server and into another; and
//! `admin user export`: a person's.

use std::path::Path;

use anyhow::Context as _;
use coditect_protocol::OrganizationId;
use coditect_server_store::Db;
use coditect_server_store::transfer::TransferError;
use serde_json::Value;

use crate::commands::serve;
use crate::config::Config;
use crate::erasure::{self, ErasureError, Ledger};
use crate::jobs::audit;
use crate::state::Clock;
use crate::transfer;

/// Writes the file and returns the receipt.
pub(super) async fn export(db: &Db, tenant: &str, file: &Path) -> anyhow::Result<Value> {
    let tenant_id = super::find_tenant(db, tenant).await?;
    let written = transfer::export(db, &Clock::system(), tenant_id, file).await;
    let receipt = written.with_context(|| format!("cannot export to {}", file.display()))?;
    Ok(serde_json::to_value(receipt)?)
}

/// Writes the file of a person's data and returns the receipt.
pub(super) async fn export_person(
    db: &Db,
    tenant: &str,
    user: &str,
    file: &Path,
) -> anyhow::Result<Value> {
    let tenant_id = super::find_tenant(db, tenant).await?;
    let user_id = super::find_user(db, tenant_id, user).await?;
    let clock = Clock::system();
    let written = transfer::export_person(db, &clock, tenant_id, user_id, file).await;
    let receipt = written.with_context(|| format!("cannot export to {}", file.display()))?;
    Ok(serde_json::to_value(receipt)?)
}

/// Reads the file and returns the receipt. The trail's head, which is kept beside the backups, is
/// made anew, because the key that signs it is this server's own.
pub(super) async fn import(config: &Config, db: &Db, file: &Path) -> anyhow::Result<Value> {
    let clock = &Clock::system();
    let read = transfer::import(db, clock, file).await;
    let hint = match &read {
        Err(TransferError::Exists { .. }) => {
            "\nhint: coditect-server admin tenant list; an organisation is taken in once"
        }
        Err(TransferError::OtherSchema { .. }) => {
            "\nhint: upgrade the older of the two servers, and export again"
        }
        Err(TransferError::Damaged { .. }) => "\nhint: nothing was changed; export again",
        _ => "",
    };
    let receipt = read.with_context(|| format!("cannot import {}{hint}", file.display()))?;
    if let Some(backups) = serve::backups(config)? {
        let heads = serve::heads(config, backups.storage)?;
        audit::accept(db, clock, &heads, receipt.tenant_id)
            .await
            .context("the data is here, but the head of the audit trail cannot be written")?;
    }
    if let Some(ledger) = serve::ledger(config)? {
        erase_again(db, clock, &ledger, receipt.tenant_id)
            .await
            .context("the data is here, and with it something that was erased before")?;
    }
    Ok(serde_json::to_value(receipt)?)
}

/// Erases once more what the export held and this installation has erased.
async fn erase_again(
    db: &Db,
    clock: &Clock,
    ledger: &Ledger,
    tenant: OrganizationId,
) -> Result<(), ErasureError> {
    let mut known = ledger.read_all().await?;
    known.retain(|erasure| erasure.tenant_id == tenant);
    let patience = chrono::TimeDelta::zero();
    erasure::apply_again(db, clock, ledger, &known, patience)
        .await
        .map(drop)
}

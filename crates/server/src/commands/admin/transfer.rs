//! `admin tenant export|import`: an organisation's data out of one server and into another; and
//! `admin user export|import`: a person's, into an account of the person.

use std::path::Path;

use anyhow::Context as _;
use coditect_protocol::OrganizationId;
use coditect_server_store::transfer::{Account, TransferError};
use coditect_server_store::{Db, StoreError};
use serde_json::Value;

use crate::commands::serve;
use crate::config::Config;
use crate::erasure::{self, ErasureError, Ledger};
use crate::jobs::audit;
use crate::state::Clock;
use crate::transfer;
use crate::transfer::person::Target;

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

/// Reads the file of a person's data into an account and returns the receipt.
pub(super) async fn import_person(
    db: &Db,
    (tenant, user): (&str, &str),
    from: Option<&str>,
    dry_run: bool,
    file: &Path,
) -> anyhow::Result<Value> {
    let tenant = super::find_tenant(db, tenant).await?;
    let user = super::find_user(db, tenant, user).await?;
    let target = Target {
        account: Account { tenant, user },
        from,
        dry_run,
    };
    let read = transfer::person::import(db, &Clock::system(), &target, file).await;
    let hint = match &read {
        Err(TransferError::OtherPerson { theirs, .. }) => {
            format!("\nhint: nothing was changed; where both are the same person: --from {theirs}")
        }
        Err(TransferError::Full { .. }) => format!(
            "\nhint: nothing was changed; coditect-server admin tenant plan --tenant {tenant} PLAN"
        ),
        Err(TransferError::Store(StoreError::NotMember)) => {
            "\nhint: nothing was changed; the account is disabled: admin user enable".to_owned()
        }
        Err(error) => unchanged(error).to_owned(),
        Ok(_) => String::new(),
    };
    let receipt = read.with_context(|| format!("cannot import {}{hint}", file.display()))?;
    Ok(serde_json::to_value(receipt)?)
}

/// Returns what to do about a file that was not taken.
fn unchanged(error: &TransferError) -> &'static str {
    match error {
        TransferError::OtherSchema { .. } | TransferError::Newer { .. } => {
            "\nhint: upgrade the older of the two servers, and export again"
        }
        TransferError::Damaged { .. } => "\nhint: nothing was changed; export again",
        TransferError::Encrypted => "\nhint: a backup comes back by a restore of its scope",
        _ => "",
    }
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
        Err(error) => unchanged(error),
        Ok(_) => "",
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

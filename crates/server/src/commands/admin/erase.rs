//! `admin user erase` and `admin tenant erase`: everything of a person, or of an organisation, for
//! good; and the receipts of that.

use anyhow::Context as _;
use coditect_protocol::{OrganizationId, UserId};
use coditect_server_store::erasure::receipts;
use coditect_server_store::{Db, StoreError};
use serde_json::{Value, json};

use crate::cli::Consent;
use crate::commands::serve;
use crate::config::Config;
use crate::erasure::{self, ErasureError};
use crate::state::Clock;

/// Erases a person.
pub(super) async fn user(
    config: &Config,
    db: &Db,
    tenant: &str,
    user: &str,
    how: Consent,
) -> anyhow::Result<Value> {
    let tenant_id = super::find_tenant(db, tenant).await?;
    let user_id = super::find_user(db, tenant_id, user).await?;
    run(config, db, tenant_id, Some(user_id), how).await
}

/// Erases an organisation.
pub(super) async fn tenant(
    config: &Config,
    db: &Db,
    tenant: &str,
    how: Consent,
) -> anyhow::Result<Value> {
    let tenant_id = super::find_tenant(db, tenant).await?;
    run(config, db, tenant_id, None, how).await
}

/// Returns the receipts of an organisation's erasures.
pub(super) async fn list(db: &Db, tenant: &str) -> anyhow::Result<Value> {
    let tenant_id = super::find_tenant(db, tenant).await?;
    let receipts = receipts(db, tenant_id).await;
    Ok(json!({ "receipts": receipts.context("cannot list receipts")? }))
}

async fn run(
    config: &Config,
    db: &Db,
    tenant: OrganizationId,
    person: Option<UserId>,
    how: Consent,
) -> anyhow::Result<Value> {
    let clock = Clock::system();
    if how.dry_run || !how.yes {
        let plan = erasure::plan(db, &clock, tenant, person).await;
        let plan = plan.map_err(explained)?;
        if how.dry_run {
            return Ok(
                json!({ "dry_run": true, "rows": plan.rows, "backups": plan.backups,
                "tables": plan.tables }),
            );
        }
        anyhow::bail!(
            "nothing was erased: {} rows and {} backups would be, and nothing brings them back\n\
             hint: --dry-run lists them; --yes does it",
            plan.rows,
            plan.backups
        );
    }
    let ledger = serve::ledger(config)?
        .context("there is no place for the ledger of erasures\nhint: --backup-url names it")?;
    let receipt = erasure::erase(db, &clock, &ledger, tenant, person).await;
    Ok(serde_json::to_value(receipt.map_err(explained)?)?)
}

fn explained(error: ErasureError) -> anyhow::Error {
    match error {
        ErasureError::LastOwner => anyhow::anyhow!(
            "nothing was erased: the organisation would be left without an owner\n\
             hint: make another person owner first, or admin tenant erase"
        ),
        ErasureError::Store(StoreError::NotFound) => {
            super::missing("there is no such person or organisation any more".to_owned())
        }
        error => anyhow::Error::from(error).context(
            "the erasure is not finished; what was written into the ledger goes on when a server \
             runs",
        ),
    }
}

//! `admin audit`: whether the trails are what they were, and what to do after a restore.

use anyhow::Context as _;
use coditect_server_store::Db;
use serde_json::{Value, json};

use crate::cli::{AuditCommand, Output};
use crate::commands::serve;
use crate::config::Config;
use crate::jobs::audit::{self as job, Heads};
use crate::state::Clock;

/// Checks trails, or takes the database's as the right one.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    command: AuditCommand,
) -> anyhow::Result<(Output, Value)> {
    let (output, tenant, accept) = match command {
        AuditCommand::Verify { tenant, output } => (output, tenant, false),
        AuditCommand::Accept { tenant, output } => (output, Some(tenant), true),
    };
    let backups = serve::backups(config)?.context(
        "there is no place where the heads of the trails are kept\n\
         hint: --backup-url names it",
    )?;
    let heads = serve::heads(config, backups.storage)?;
    let tenants = super::tenants(db, tenant.as_deref()).await?;
    let mut entries = Vec::new();
    for tenant in tenants {
        let entry = if accept {
            accept_one(db, &heads, tenant).await
        } else {
            verify_one(db, &heads, tenant).await
        };
        entries.push(entry.with_context(|| format!("cannot check the trail of {tenant}"))?);
    }
    Ok((output, json!({ "trails": entries })))
}

async fn verify_one(
    db: &Db,
    heads: &Heads,
    tenant: coditect_protocol::OrganizationId,
) -> anyhow::Result<Value> {
    let verdict = job::verify(db, &Clock::system(), heads, tenant).await?;
    Ok(json!({
        "tenant_id": tenant,
        "state": if verdict.faults.is_empty() { "whole" } else { "broken" },
        "blocks": verdict.blocks,
        "entries": verdict.entries,
        "open": verdict.open,
        "faults": verdict.faults,
    }))
}

async fn accept_one(
    db: &Db,
    heads: &Heads,
    tenant: coditect_protocol::OrganizationId,
) -> anyhow::Result<Value> {
    let old = job::accept(db, &Clock::system(), heads, tenant).await?;
    let new = heads.read(tenant).await?;
    Ok(json!({ "tenant_id": tenant, "old_head": old, "head": new }))
}

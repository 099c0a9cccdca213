//! `admin history`: how long versions of records are kept, what holds old ones back, and removing
//! those that nothing holds.

use anyhow::Context as _;
use coditect_protocol::OrganizationId;
use coditect_server_store::Db;
use coditect_server_store::history as store;
use serde_json::{Value, json};

use crate::cli::{Consent, HistoryArgs, HistoryCommand, KeptDays, Output};
use crate::config::Config;
use crate::jobs;
use crate::state::Clock;

/// Does what was asked and returns what to print.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    wanted: HistoryArgs,
) -> anyhow::Result<(Output, Value)> {
    let server = config.history_days;
    match wanted.command {
        None => {
            let tenants = super::tenants(db, wanted.tenant.as_deref()).await?;
            Ok((wanted.output, reports(db, tenants, server).await?))
        }
        Some(HistoryCommand::Purge {
            tenant,
            how,
            output,
        }) => {
            let tenants = super::tenants(db, tenant.as_deref()).await?;
            Ok((output, purge(db, tenants, server, how).await?))
        }
        Some(HistoryCommand::Retention {
            tenant,
            days: KeptDays(days),
            output,
        }) => {
            let tenant = super::find_tenant(db, &tenant).await?;
            let set = store::set_retention(db, tenant, days, Clock::system().now()).await;
            set.context("cannot set the retention")?;
            let retention = store::retention(db, tenant, server).await;
            let mut result = serde_json::to_value(retention.context("cannot read the retention")?)?;
            result["tenant_id"] = json!(tenant);
            Ok((output, result))
        }
    }
}

async fn reports(
    db: &Db,
    tenants: Vec<OrganizationId>,
    server: Option<u32>,
) -> anyhow::Result<Value> {
    let mut reports = Vec::new();
    for tenant in tenants {
        let report = store::report(db, tenant, server, Clock::system().now()).await;
        reports.push(report.with_context(|| format!("cannot read the history of {tenant}"))?);
    }
    Ok(json!({ "tenants": reports }))
}

async fn purge(
    db: &Db,
    tenants: Vec<OrganizationId>,
    server: Option<u32>,
    how: Consent,
) -> anyhow::Result<Value> {
    let clock = Clock::system();
    let (mut versions, mut conflicts, mut entries) = (0, 0, Vec::new());
    for tenant in tenants {
        let (of_versions, of_conflicts) = if how.yes {
            let purged = jobs::history::run_now(db, &clock, tenant, server).await;
            let purged = purged.with_context(|| format!("cannot purge {tenant}"))?;
            let purged = purged.with_context(|| {
                format!(
                    "a server is removing versions of {tenant} at this moment, or it is shut out\n\
                     hint: again in a few minutes"
                )
            })?;
            (purged.versions, purged.conflicts)
        } else {
            let report = store::report(db, tenant, server, clock.now()).await;
            let report = report.with_context(|| format!("cannot read the history of {tenant}"))?;
            (report.removable, report.conflicts_removable)
        };
        versions += of_versions;
        conflicts += of_conflicts;
        entries.push(json!({
            "tenant_id": tenant, "versions": of_versions, "conflicts": of_conflicts,
        }));
    }
    if !how.yes && !how.dry_run {
        anyhow::bail!(
            "nothing was removed: {versions} versions and {conflicts} settled conflicts would be\n\
             hint: --dry-run lists them by organisation; --yes does it"
        );
    }
    Ok(
        json!({ "dry_run": how.dry_run, "versions": versions, "conflicts": conflicts,
        "tenants": entries }),
    )
}

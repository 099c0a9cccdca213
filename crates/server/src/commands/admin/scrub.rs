//! `admin scrub` and `admin findings`: how far the stored rows are read, and what is wrong.

use anyhow::Context as _;
use coditect_protocol::OrganizationId;
use coditect_server_store::Db;
use coditect_server_store::sync::scrub as store;
use serde_json::{Value, json};

use crate::commands::{DAMAGED, Exit};
use crate::jobs;
use crate::state::Clock;

/// Says how far the rows are read, or reads them now.
pub(super) async fn scrub(db: &Db, tenant: Option<&str>, now: bool) -> anyhow::Result<Value> {
    let mut entries = Vec::new();
    if now {
        for tenant in super::tenants(db, tenant).await? {
            entries.push(read(db, tenant).await?);
        }
    } else {
        let tenant = find(db, tenant).await?;
        let progress = store::progress(db, tenant).await;
        for progress in progress.context("cannot read how far the rows are read")? {
            let open = open(db, progress.tenant_id).await?;
            let mut entry = serde_json::to_value(progress)?;
            entry["open"] = json!(open);
            entries.push(entry);
        }
    }
    Ok(json!({ "tenants": entries }))
}

async fn read(db: &Db, tenant: OrganizationId) -> anyhow::Result<Value> {
    let whole = jobs::scrub::run_now(db, &Clock::system(), tenant).await;
    let whole = whole.with_context(|| format!("cannot read the rows of {tenant}"))?;
    let whole = whole.with_context(|| {
        format!("a server is reading the rows of {tenant} at this moment\nhint: again in a minute")
    })?;
    Ok(json!({
        "tenant_id": tenant,
        "rows_read": whole.rows,
        "found": whole.found,
        "mended": whole.mended,
        "open": open(db, tenant).await?,
    }))
}

/// Lists findings.
pub(super) async fn findings(db: &Db, tenant: Option<&str>, mended: bool) -> anyhow::Result<Value> {
    let tenant = find(db, tenant).await?;
    let found = store::findings(db, tenant, mended).await;
    Ok(json!({ "findings": found.context("cannot list the findings")? }))
}

/// Ends the program with a code of its own when a result says that rows are damaged.
pub(super) fn exit(result: &Value) -> anyhow::Result<()> {
    let tenants = result["tenants"].as_array().into_iter().flatten();
    let open = tenants
        .filter_map(|entry| entry["open"].as_u64())
        .sum::<u64>();
    if open == 0 {
        return Ok(());
    }
    let text = format!(
        "{open} damaged rows are not mended yet\nhint: coditect-server admin findings lists them; \
         a device that holds one sends it at its next sync"
    );
    Err(Exit {
        code: DAMAGED,
        text,
    }
    .into())
}

async fn open(db: &Db, tenant: OrganizationId) -> anyhow::Result<usize> {
    let open = store::findings(db, Some(tenant), false).await;
    Ok(open.context("cannot count the findings")?.len())
}

async fn find(db: &Db, tenant: Option<&str>) -> anyhow::Result<Option<OrganizationId>> {
    match tenant {
        Some(tenant) => super::find_tenant(db, tenant).await.map(Some),
        None => Ok(None),
    }
}

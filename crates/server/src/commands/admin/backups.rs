//! `admin backup-try` and `admin jobs`: whether a backup can be restored, and what is under way.

use anyhow::Context as _;
use coditect_server_store::backups::jobs as store;
use coditect_server_store::{Db, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::{DAMAGED, Exit, serve};
use crate::config::Config;
use crate::jobs::trials::{self, Unable};
use crate::state::Clock;

/// Restores a backup on trial.
pub(super) async fn try_one(config: &Config, db: &Db, backup: Uuid) -> anyhow::Result<Value> {
    let backups = serve::backups(config)?
        .context("there is no place for backups\nhint: --backup-url names it")?;
    let tried = trials::run_one(db, &Clock::system(), &backups.storage, backup).await;
    let verdict = match tried {
        Err(Unable::Store(StoreError::NotFound)) => {
            return Err(super::missing(format!(
                "there is no complete backup {backup} with a recorded digest\n\
                 hint: GET …/context/backups lists those of a scope"
            )));
        }
        tried => tried.with_context(|| format!("cannot try the backup {backup}"))?,
    };
    Ok(json!({
        "backup_id": verdict.backup,
        "trial": if verdict.failure.is_none() { "passed" } else { "failed" },
        "archives": verdict.archives,
        "rows": verdict.rows,
        "failure": verdict.failure,
    }))
}

/// Lists what is under way or was given up.
pub(super) async fn jobs(db: &Db, tenant: Option<&str>) -> anyhow::Result<Value> {
    let tenant = match tenant {
        Some(tenant) => Some(super::find_tenant(db, tenant).await?),
        None => None,
    };
    let now = Clock::system().now();
    let found = store::open(db, tenant, now).await;
    Ok(json!({ "jobs": found.context("cannot list the jobs")? }))
}

/// Ends the program with a code of its own when a backup is not what was recorded.
pub(super) fn exit(result: &Value) -> anyhow::Result<()> {
    if result["trial"] != "failed" {
        return Ok(());
    }
    let reason = result["failure"].as_str().unwrap_or_default();
    let text = format!(
        "the backup cannot be restored: {reason}\nhint: take a full backup of its scope now"
    );
    Err(Exit {
        code: DAMAGED,
        text,
    }
    .into())
}

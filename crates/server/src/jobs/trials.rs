//! Restores on trial: a backup is read as a restore would read it, goes into tables that live as
//! long as one transaction, and what comes back from there is compared with what the database
//! said of the scope when the backup was taken.

use std::time::Duration;

use coditect_backup::Storage;
use coditect_core::digest::Digest;
use coditect_server_store::backups::trials::{self, Trial};
use coditect_server_store::sync::{self, TrialError};
use coditect_server_store::{Db, StoreError, SystemTask};
use uuid::Uuid;

use super::backups::causes;
use crate::app::backups::spool::{Spool, SpoolError};
use crate::state::{AppState, Clock};

/// How often the job looks whether it is time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What a trial showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The backup.
    pub backup: Uuid,
    /// Archives that were read: the backup's and those that it goes on from.
    pub archives: usize,
    /// Rows that were restored, tombstones included.
    pub rows: i64,
    /// What is wrong with the backup, without content; none when all is as recorded.
    pub failure: Option<String>,
}

/// Why a trial showed nothing; it says nothing about the backup.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    /// The database failed, or has no such backup.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage cannot be reached, or there is no room beside the server.
    #[error("the archives cannot be read: {0}")]
    Archives(String),
}

/// Tries a random backup each time that `every` is over, until the server stops.
pub async fn run(state: AppState, storage: Storage, every: chrono::Duration) {
    loop {
        if let Err(error) = run_due(&state, &storage, every).await {
            tracing::warn!(error = causes(&error), "cannot try a backup");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Tries a random backup if it is time for one.
///
/// # Errors
/// [`Unable`].
pub async fn run_due(
    state: &AppState,
    storage: &Storage,
    every: chrono::Duration,
) -> Result<Option<Verdict>, Unable> {
    let claimed = trials::claim_due(&state.db, every, state.clock.now()).await?;
    match claimed {
        Some(trial) => carry_out(&state.db, &state.clock, storage, &trial)
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Tries one backup now.
///
/// # Errors
/// [`Unable`]; [`StoreError::NotFound`] for a backup that is not complete, or was taken before
/// there were trials.
pub async fn run_one(
    db: &Db,
    clock: &Clock,
    storage: &Storage,
    backup: Uuid,
) -> Result<Verdict, Unable> {
    let trial = trials::claim(db, backup, clock.now()).await?;
    carry_out(db, clock, storage, &trial).await
}

async fn carry_out(
    db: &Db,
    clock: &Clock,
    storage: &Storage,
    trial: &Trial,
) -> Result<Verdict, Unable> {
    let tried = attempt(db, storage, trial).await;
    let (rows, failure) = match tried {
        Ok(found) => found,
        Err(error) => {
            trials::release(db, trial).await?;
            return Err(error);
        }
    };
    trials::note(db, trial, failure.as_deref(), clock.now()).await?;
    match &failure {
        None => tracing::info!(backup.id = %trial.id, backup.records = rows, "backup tried"),
        Some(reason) => tracing::error!(
            backup.id = %trial.id, error = reason,
            "a backup cannot be restored\nhint: take a full one of its scope"
        ),
    }
    Ok(Verdict {
        backup: trial.id,
        archives: trial.chain.len(),
        rows,
        failure,
    })
}

/// Returns the rows that were restored, and what is wrong.
async fn attempt(
    db: &Db,
    storage: &Storage,
    trial: &Trial,
) -> Result<(i64, Option<String>), Unable> {
    let refused = |reason: String| Ok((0, Some(reason)));
    let recorded = trial.chain.last().and_then(|backup| backup.digest);
    let Some(recorded) = recorded else {
        return refused("a backup that it goes on from is not there any more".to_owned());
    };
    let spool = Spool::read(storage, trial.tenant, trial.scope, &trial.chain).await;
    let spool = match spool {
        Ok(spool) => spool,
        Err(error) if error.is_of_archives() => return refused(causes(&error)),
        Err(error) => return Err(unable(&error)),
    };
    let spool = &spool;
    let tried = db
        .system(SystemTask::TryBackup, |mut tx| async move {
            let mut rows = spool.rows()?;
            sync::try_restore(&mut tx, trial.tenant, trial.scope, || rows.next_batch()).await
        })
        .await;
    match tried {
        Ok(tried) => {
            let failure = difference(recorded, tried.digest, tried.altered);
            Ok((tried.digest.count, failure))
        }
        Err(TrialError::Store(StoreError::Refused { sqlstate })) => {
            refused(format!("the database refuses a row ({sqlstate})"))
        }
        Err(TrialError::Store(StoreError::Conflict { .. })) => {
            refused("a row is there twice".to_owned())
        }
        Err(error @ TrialError::Unfit) => refused(error.to_string()),
        Err(TrialError::Store(error)) => Err(error.into()),
        Err(error @ TrialError::Source(_)) => Err(Unable::Archives(causes(&error))),
    }
}

fn unable(error: &SpoolError) -> Unable {
    Unable::Archives(causes(error))
}

fn difference(recorded: Digest, restored: Digest, altered: u64) -> Option<String> {
    if altered > 0 {
        return Some(format!("{altered} rows are not what their hash says"));
    }
    let text = |digest: Digest| {
        let deleted = digest.count - digest.rows;
        format!("{} rows, {deleted} deleted, {}", digest.rows, digest.text())
    };
    (recorded != restored).then(|| {
        let (recorded, restored) = (text(recorded), text(restored));
        format!("the digest of what was restored is another: {recorded} recorded, {restored} found")
    })
}

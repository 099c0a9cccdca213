//! Does the restores that were asked for, in whichever server finds one: it claims the job, and
//! says every few seconds that it is still alive. When it is not, another server begins the restore
//! anew, of which nothing is left but the backup that was taken before.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::TimeDelta;
use coditect_server_store::StoreError;
use coditect_server_store::backups::restores::{self, ClaimedRestore};
use futures_util::FutureExt as _;

use crate::app::backups::restores::{NotDone, carry_out, failure};
use crate::backups::Backups;
use crate::error::AppError;
use crate::state::AppState;

/// How often the job looks for restores whose servers died, and for those that wait for another
/// attempt.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Time between two signs of life.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Most attempts that may be cut off: whatever ends the server each time must not do so for ever.
const ATTEMPTS_MAX: i32 = 20;
/// How often those that ended long ago are forgotten.
const FORGET_AGAIN: TimeDelta = TimeDelta::hours(6);

/// Does what there is to do, and looks for more, until the server stops.
pub async fn run(state: AppState, backups: Backups) {
    let mut forget_at = state.clock.now();
    loop {
        if backups.has_restore_place() {
            start(&state, &backups);
        }
        let now = state.clock.now();
        if now >= forget_at {
            if let Err(error) = restores::forget(&state.db, now).await {
                tracing::warn!(%error, "cannot forget old restores");
            }
            forget_at = now + FORGET_AGAIN;
        }
        // Woken, or time to look: both mean the same.
        let _ = tokio::time::timeout(LOOK_AGAIN, backups.woken_for_restores()).await;
    }
}

/// Has the restores done that nobody works on, apart from whoever asks for it.
pub(crate) fn start(state: &AppState, backups: &Backups) {
    let (state, backups) = (state.clone(), backups.clone());
    tokio::spawn(async move {
        if let Err(error) = run_pending(&state, &backups).await {
            tracing::warn!(%error, "cannot look for restores to do");
        }
    });
}

/// Does all restores that nobody works on, as soon as there is a place; returns how many were
/// completed.
///
/// # Errors
/// Those of the database while jobs are claimed and failures recorded.
pub async fn run_pending(state: &AppState, backups: &Backups) -> Result<u64, StoreError> {
    let _place = backups.restore_place().await;
    let mut completed = 0;
    while let Some(job) = restores::claim(&state.db, state.clock.now()).await? {
        let done = attempt(state, backups, &job).await;
        backups.say_restore_ended();
        completed += u64::from(done?);
    }
    Ok(completed)
}

/// Makes an attempt; returns whether it completed the restore.
async fn attempt(
    state: &AppState,
    backups: &Backups,
    job: &ClaimedRestore,
) -> Result<bool, StoreError> {
    let error = match guarded(state, backups, job).await {
        Ok(done) => {
            tracing::info!(restore.id = %job.id, attempt = job.attempt,
                restore.rows = done.restored, restore.removed = done.removed, "restore completed");
            return Ok(true);
        }
        Err(NotDone::TakenOver) => {
            tracing::info!(restore.id = %job.id, attempt = job.attempt,
                "restore is over or another's");
            return Ok(false);
        }
        Err(NotDone::Failed(error)) => error,
    };
    let why = failure(&error);
    tracing::error!(restore.id = %job.id, attempt = job.attempt, error = why.fault,
        "restore failed");
    restores::fail(&state.db, job, &why, state.clock.now()).await?;
    Ok(false)
}

/// Does the restore as long as the job is this server's.
async fn guarded(
    state: &AppState,
    backups: &Backups,
    job: &ClaimedRestore,
) -> Result<coditect_server_store::sync::Restored, NotDone> {
    if job.attempt > ATTEMPTS_MAX {
        let reason = "the restore was cut off too often";
        return Err(AppError::Unavailable { reason }.into());
    }
    let work = AssertUnwindSafe(carry_out(state, backups, job)).catch_unwind();
    tokio::select! {
        done = work => match done {
            Ok(done) => done,
            Err(panic) => Err(AppError::Panic(text_of(&*panic)).into()),
        },
        // Dropping the work closes its database connection, which rolls back.
        () = lost(state, job) => Err(NotDone::TakenOver),
    }
}

/// Renews the lease until the job is another server's.
async fn lost(state: &AppState, job: &ClaimedRestore) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match restores::renew(&state.db, job, state.clock.now()).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(restore.id = %job.id, %error, "cannot renew the lease of a restore");
            }
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

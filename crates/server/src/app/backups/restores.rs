//! Restores (ADR 0036): jobs that outlive the requests that ask for them, and dry runs within one.

use std::time::Duration;

use coditect_protocol::permissions::Permission;
use coditect_protocol::wire::backups::{
    RestoreJob as Shown, RestoreMode, RestoreReply, RestoreRequest, RestoreStatus, RestoredBackup,
};
use coditect_protocol::{DeviceId, ErrorCode, Scope};
use coditect_server_store::backups::restores::{
    self, ClaimedRestore, RestoreFailure, RestoreJob, RestoreWanted,
};
use coditect_server_store::backups::{self, Backup, Request};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::{self, Restore, RestoreError, Restored, SyncError};
use coditect_server_store::{Retryable, StoreError, TenantTx};
use uuid::Uuid;

use super::spool::{self, Spool};
use super::{chain, not_there, place, time};
use crate::app::context::{Asker, as_device};
use crate::backups::Backups;
use crate::error::{AppError, OperatorText};
use crate::jobs;
use crate::state::AppState;

/// How often a request looks at a restore that another server may be doing.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often, and with which pauses, a replacing restore looks for the backup that it takes before:
/// an hour, in which that one may fail and be tried again.
const SAFETY_TRIES: u32 = 18_000;
const SAFETY_PAUSE: Duration = Duration::from_millis(200);

/// What is answered to who asks for a restore.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done, or was tried dry.
    Done(RestoreReply),
    /// It goes on without the request.
    Later(Box<Shown>),
}

/// Why an attempt did not do its restore.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// Another server does it.
    #[error("another server took the restore over")]
    TakenOver,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] AppError),
}

/// Has the scope restored from a backup, and waits for it as long as the server lets a request
/// wait, or as long as `wait` says; or says what a restore would change.
///
/// # Errors
/// `SYNC_003` when the scope has no such complete backup, `SYNC_004` when the archive is damaged
/// or another's; nothing is changed then. `SYNC_005` when the role does not allow it,
/// [`AppError::NotFound`] for a scope that the caller may not know of, [`AppError::Unavailable`]
/// where there is no place for backups.
pub async fn create(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
    request: &RestoreRequest,
    wait: Option<Duration>,
) -> Result<Answer, AppError> {
    let (backups, caller) = (place(state)?, asker.caller);
    let now = state.clock.now();
    state.limits.check_storage(&state.db, caller, now).await?;
    if request.dry_run {
        let done = dry_run(state, backups, asker, scope, request).await?;
        return Ok(Answer::Done(done));
    }
    let asked = as_device(state, asker, |device| async move {
        let stored = state
            .db
            .tenant("restores.create", caller, |mut tx| async move {
                let chain = allowed(&mut tx, device, scope, request.backup_id).await?;
                let Some(backup) = chain.last() else {
                    return Ok(None);
                };
                let wanted = RestoreWanted {
                    scope,
                    backup,
                    mode: mode_of(request.mode),
                    device,
                    now,
                };
                let asked = restores::request(&mut tx, &wanted).await?;
                Ok::<_, SyncError>(Some(asked))
            });
        stored.await
    })
    .await?;
    let asked = asked.ok_or_else(not_there)?;
    jobs::restores::start(state, backups);
    let longest = backups
        .restore_wait
        .unwrap_or(state.http.request_timeout / 10 * 9);
    let wait = wait.map_or(longest, |wait| wait.min(longest));
    answer(wait_for(state, backups, caller, asked, wait).await?)
}

/// Returns the restores of the scope, newest first.
///
/// # Errors
/// As [`create`], of those about the scope.
pub async fn list(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
) -> Result<Vec<Shown>, AppError> {
    let caller = asker.caller;
    let found = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("restores.list", caller, |mut tx| async move {
                sync::require(&mut tx, device, Permission::BackupsRead, scope).await?;
                Ok(restores::list(&mut tx, scope).await?)
            });
        read.await
    })
    .await?;
    Ok(found.iter().map(show).collect())
}

/// Returns a restore of the scope.
///
/// # Errors
/// As [`list`]; [`AppError::NotFound`] when the scope has no such restore.
pub async fn find(
    state: &AppState,
    asker: Asker<'_>,
    scope: Scope,
    id: Uuid,
) -> Result<Shown, AppError> {
    let caller = asker.caller;
    let found = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("restores.find", caller, |mut tx| async move {
                sync::require(&mut tx, device, Permission::BackupsRead, scope).await?;
                Ok(restores::find(&mut tx, scope, id).await?)
            });
        read.await
    })
    .await?;
    Ok(show(&found))
}

/// Does a claimed restore in the name of who asked for it, whose right to it is looked at again.
pub(crate) async fn carry_out(
    state: &AppState,
    backups: &Backups,
    job: &ClaimedRestore,
) -> Result<Restored, NotDone> {
    let (caller, scope) = (&job.caller, job.scope);
    let read = state
        .db
        .tenant_snapshot("restores.begin", caller, |mut tx| async move {
            allowed(&mut tx, job.device, scope, job.backup).await
        });
    let chain = read.await.map_err(AppError::from)?;
    if chain.is_empty() {
        return Err(not_there().into());
    }
    let tenant = caller.tenant().organization();
    let spool = &Spool::fill(&backups.storage, tenant, scope, &chain).await?;
    if job.mode == sync::RestoreMode::Replace {
        take_safety(state, backups, job).await?;
    }
    let now = state.clock.now();
    let wanted = &Restore {
        scope,
        device: job.device,
        mode: job.mode,
        dry_run: false,
        backup: job.backup,
        now_ms: now.timestamp_millis(),
    };
    let applied = state
        .db
        .tenant("restores.apply", caller, |mut tx| async move {
            let mut rows = spool.rows().map_err(RestoreError::from)?;
            let done = sync::restore(&mut tx, wanted, || rows.next_batch()).await?;
            match restores::complete(&mut tx, job, done, now).await? {
                true => Ok(done),
                false => Err(StepError::TakenOver),
            }
        });
    Ok(applied.await?)
}

/// Returns what is recorded of an attempt that failed.
pub(crate) fn failure(error: &AppError) -> RestoreFailure {
    let problem = error.problem();
    RestoreFailure {
        code: problem.code,
        failure: problem.detail.unwrap_or_default(),
        fault: OperatorText::of(error).0,
        is_passing: is_passing(error),
    }
}

/// Returns whether the next attempt may do better: the way to the archives or the database was at
/// fault, and neither the archives nor who asks.
fn is_passing(error: &AppError) -> bool {
    let fault = match error {
        AppError::Spool(_) | AppError::Panic(_) => return true,
        AppError::Store(error) => error,
        _ => return false,
    };
    !matches!(
        fault,
        StoreError::NotFound
            | StoreError::NotMember
            | StoreError::DeviceRevoked
            | StoreError::Forbidden
    )
}

/// Checks that the caller may restore the scope, and returns the backup and those that it goes on
/// from; none when it is not there.
async fn allowed(
    tx: &mut TenantTx,
    device: DeviceId,
    scope: Scope,
    backup: Uuid,
) -> Result<Vec<Backup>, SyncError> {
    sync::require(tx, device, Permission::BackupsRestore, scope).await?;
    // It writes, which must be known before anything is taken for it.
    sync::require(tx, device, Permission::SyncPush, scope).await?;
    Ok(chain(tx, scope, backup).await?)
}

/// Waits until the restore has ended, or an attempt of it has failed, no longer than `wait`;
/// returns it as it was seen last.
async fn wait_for(
    state: &AppState,
    backups: &Backups,
    caller: &Caller,
    mut job: RestoreJob,
    wait: Duration,
) -> Result<RestoreJob, AppError> {
    if wait.is_zero() {
        return Ok(job);
    }
    let (scope, id) = (job.scope, job.id);
    let seen = &mut job;
    let look = async {
        loop {
            let mut ended = std::pin::pin!(backups.restore_ended());
            // What ends from here on is heard, so that nothing is missed between look and wait.
            ended.as_mut().enable();
            let found = state
                .db
                .tenant_snapshot("restores.find", caller, |mut tx| async move {
                    restores::find(&mut tx, scope, id).await
                });
            match found.await.map_err(AppError::from) {
                Ok(found) => *seen = found,
                // The database may come back while the restore waits for it.
                Err(error) if error.code() == ErrorCode::Unavailable => {}
                Err(error) => return Err(error),
            }
            if is_settled(seen) {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
        }
    };
    match tokio::time::timeout(wait, look).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(job),
    }
}

/// Returns whether there is something to say: the end, or a failure before the next attempt.
fn is_settled(job: &RestoreJob) -> bool {
    match job.status.as_str() {
        "completed" | "failed" => true,
        _ => job.not_before.is_some(),
    }
}

fn answer(job: RestoreJob) -> Result<Answer, AppError> {
    match (job.status.as_str(), reply(&job)) {
        ("completed", Some(reply)) => Ok(Answer::Done(reply)),
        ("failed", _) => {
            let code = job.code.unwrap_or(ErrorCode::Internal);
            Err(AppError::refused(code, job.failure.unwrap_or_default()))
        }
        _ => Ok(Answer::Later(Box::new(show(&job)))),
    }
}

/// Says what a restore would change.
async fn dry_run(
    state: &AppState,
    backups: &Backups,
    asker: Asker<'_>,
    scope: Scope,
    request: &RestoreRequest,
) -> Result<RestoreReply, AppError> {
    let caller = asker.caller;
    let (device, chain) = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("restores.begin", caller, |mut tx| async move {
                allowed(&mut tx, device, scope, request.backup_id).await
            });
        Ok((device, read.await?))
    })
    .await?;
    let wanted = chain.last().ok_or_else(not_there)?;
    let tenant = caller.tenant().organization();
    let spool = &Spool::fill(&backups.storage, tenant, scope, &chain).await?;
    let restore = &Restore {
        scope,
        device,
        mode: mode_of(request.mode),
        dry_run: true,
        backup: request.backup_id,
        now_ms: state.clock.now().timestamp_millis(),
    };
    let tried = state
        .db
        .tenant("restores.try", caller, |mut tx| async move {
            let mut rows = spool.rows()?;
            sync::restore(&mut tx, restore, || rows.next_batch()).await
        });
    let done = match tried.await {
        Ok(done) | Err(RestoreError::DryRun(done)) => done,
        Err(error) => return Err(refusal(error)),
    };
    let backup = RestoredBackup {
        id: wanted.id,
        created_at: time(wanted.created_at),
        record_count: wanted.record_count.unwrap_or_default(),
    };
    Ok(reply_of(done, request.mode, backup, true, None))
}

/// Takes a full backup and waits for it: a replacing restore can be undone. What an earlier attempt
/// took is good for all.
async fn take_safety(
    state: &AppState,
    backups: &Backups,
    job: &ClaimedRestore,
) -> Result<(), NotDone> {
    let (caller, scope) = (&job.caller, job.scope);
    let id = match job.safety {
        Some(id) => id,
        None => ask_safety(state, job).await?,
    };
    for _ in 0..SAFETY_TRIES {
        let written = jobs::backups::run_pending(state, backups).await;
        written.map_err(AppError::from)?;
        let found = state
            .db
            .tenant_snapshot("backups.find", caller, |mut tx| async move {
                backups::find(&mut tx, scope, id).await
            });
        match found.await.map_err(AppError::from)?.status.as_str() {
            "completed" => return Ok(()),
            // Another server writes it, or it failed and is tried again later.
            "pending" | "running" => tokio::time::sleep(SAFETY_PAUSE).await,
            _ => break,
        }
    }
    let reason = "the backup that a replacing restore takes before could not be taken";
    Err(AppError::Unavailable { reason }.into())
}

/// Asks for that backup, and notes which it is in the same transaction.
async fn ask_safety(state: &AppState, job: &ClaimedRestore) -> Result<Uuid, NotDone> {
    let wanted = &Request {
        scope: job.scope,
        incremental: false,
        now: state.clock.now(),
    };
    let asked = state
        .db
        .tenant("restores.safety", &job.caller, |mut tx| async move {
            sync::require(&mut tx, job.device, Permission::BackupsCreate, job.scope).await?;
            let backup = backups::request(&mut tx, wanted).await?;
            match restores::note_safety(&mut tx, job, backup.id).await? {
                true => Ok(backup.id),
                false => Err(StepError::TakenOver),
            }
        });
    Ok(asked.await?)
}

/// Why a transaction of a restore was given up.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error("another server took the restore over")]
    TakenOver,
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Restore(error.into())
    }
}

impl From<SyncError> for StepError {
    fn from(error: SyncError) -> Self {
        Self::Restore(error.into())
    }
}

impl Retryable for StepError {
    fn is_retry(&self) -> bool {
        matches!(self, Self::Restore(error) if error.is_retry())
    }
}

impl From<StepError> for NotDone {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Restore(error) => Self::Failed(refusal(error)),
            StepError::TakenOver => Self::TakenOver,
        }
    }
}

fn refusal(error: RestoreError) -> AppError {
    match error {
        RestoreError::Sync(error) => error.into(),
        RestoreError::Erased => AppError::refused(
            ErrorCode::ScopeErased,
            "what the backup holds was erased, and does not come back",
        ),
        RestoreError::Unfit => spool::damaged("a row fits no table of this server"),
        error => AppError::Spool(error.to_string()),
    }
}

const fn mode_of(mode: RestoreMode) -> sync::RestoreMode {
    match mode {
        RestoreMode::Merge => sync::RestoreMode::Merge,
        RestoreMode::Replace => sync::RestoreMode::Replace,
    }
}

const fn shown_mode(mode: sync::RestoreMode) -> RestoreMode {
    match mode {
        sync::RestoreMode::Merge => RestoreMode::Merge,
        sync::RestoreMode::Replace => RestoreMode::Replace,
    }
}

const fn reply_of(
    done: Restored,
    mode: RestoreMode,
    backup: RestoredBackup,
    dry_run: bool,
    safety_backup_id: Option<Uuid>,
) -> RestoreReply {
    RestoreReply {
        restored: done.restored,
        skipped: done.skipped,
        mode,
        backup,
        removed: done.removed,
        dry_run,
        safety_backup_id,
    }
}

/// Returns what a completed restore is answered with.
fn reply(job: &RestoreJob) -> Option<RestoreReply> {
    let backup = RestoredBackup {
        id: job.backup,
        created_at: time(job.backup_created_at),
        record_count: job.backup_records,
    };
    let done = job.done?;
    Some(reply_of(
        done,
        shown_mode(job.mode),
        backup,
        false,
        job.safety,
    ))
}

fn show(job: &RestoreJob) -> Shown {
    Shown {
        id: job.id,
        scope_type: job.scope.kind().to_owned(),
        scope_id: job.scope.id(),
        status: match job.status.as_str() {
            "running" => RestoreStatus::Running,
            "completed" => RestoreStatus::Completed,
            "failed" => RestoreStatus::Failed,
            _ => RestoreStatus::Queued,
        },
        backup_id: job.backup,
        mode: shown_mode(job.mode),
        requested_by: job.requested_by,
        device_id: job.device,
        created_at: time(job.created_at),
        started_at: job.started_at.map(time),
        finished_at: job.finished_at.map(time),
        attempts: job.attempts,
        retry_at: job.not_before.map(time),
        safety_backup_id: job.safety,
        result: reply(job),
        code: job.code,
        failure: job.failure.clone(),
    }
}

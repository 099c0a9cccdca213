//! The seeds' routes: views on the caller's own stream, or a team's or project's, read and written
//! by the sync engine's rules. What is written counts for the device that the request names, or
//! for the person's web device, which is registered when it is first needed.

mod messages;
pub(crate) mod records;
mod show;
mod tasks;

use coditect_core::canonical;
use coditect_protocol::wire::context::{
    ContextPush, ContextPushReply, ContextStatus, DecisionPage, DeviceStatus, LearningPage,
    MessagePage, PushedMessage, PushedMessages, RejectedMessage, TaskEvent, TaskPage, TaskReply,
    ViewStatus,
};
use coditect_protocol::wire::push::{Outcome, Status};
use coditect_protocol::{DeviceId, Epoch, ErrorCode, Scope};
use coditect_server_store::credential::Caller;
use coditect_server_store::sync::views::{self, Filter, Listed, Listing, View, Writer};
use coditect_server_store::{StoreError, sync::SyncError};

use crate::app::progress;
use crate::error::AppError;
use crate::state::AppState;

/// Rows in a page when the caller does not say.
pub const LIMIT_DEFAULT: u32 = 100;
/// Most rows in a page.
pub const LIMIT_MAX: u32 = 1_000;

/// Who asks, and which device it counts for.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The verified caller.
    pub caller: &'a Caller,
    /// The device that the request names, if it names one.
    pub device: Option<DeviceId>,
    /// The stream that the request is about.
    pub scope: Scope,
}

/// Where a list begins and how long it may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// Position after which to begin; the beginning when left out.
    pub cursor: Option<i64>,
    /// Life of the database that the position is of, when the caller says so.
    pub epoch: Option<Epoch>,
    /// Most rows; [`LIMIT_DEFAULT`] when left out, [`LIMIT_MAX`] when more.
    pub limit: Option<u32>,
}

/// Stores messages, several or one.
///
/// # Errors
/// [`AppError::BadRequest`] names the message that is not of the form; a single message that
/// cannot be stored is refused with its code; [`AppError::DeviceUnknown`].
pub async fn push(
    state: &AppState,
    asker: Asker<'_>,
    push: ContextPush,
) -> Result<ContextPushReply, AppError> {
    let now = state.clock.now();
    let now_ms = now.timestamp_millis();
    let single = push.messages.is_none();
    state
        .limits
        .check_storage(&state.db, asker.caller, now)
        .await?;
    let facts = &messages::facts(push, now_ms)?;
    let (caller, scope) = (asker.caller, asker.scope);
    let written = as_device(state, asker, |device| async move {
        let writer = Writer {
            scope,
            device,
            now_ms,
        };
        let stored = state
            .db
            .tenant("context.push", caller, |mut tx| async move {
                views::add_facts(&mut tx, writer, View::Messages.table(), facts).await
            });
        stored.await
    })
    .await?;
    state.metrics.pushed(&written.outcomes);
    if single {
        return pushed_one(&written).map(ContextPushReply::Single);
    }
    let mut reply = PushedMessages {
        synced: 0,
        skipped: 0,
        cursor: written.cursor,
        timestamp: canonical::time_from_ms(now_ms),
        epoch: written.epoch,
        rejected: Vec::new(),
    };
    for (index, outcome) in (0..).zip(&written.outcomes) {
        match outcome.status {
            Status::Rejected => reply.rejected.push(rejected(index, outcome)),
            Status::Applied => reply.synced += 1,
            _ => reply.skipped += 1,
        }
    }
    Ok(ContextPushReply::Batch(reply))
}

fn rejected(index: u64, outcome: &Outcome) -> RejectedMessage {
    RejectedMessage {
        index,
        code: outcome.code.unwrap_or(ErrorCode::MalformedRow),
        reason: outcome.reason.clone().unwrap_or_default(),
    }
}

/// Returns the outcome of a single change with its id, or the refusal that it is.
fn only(written: &views::Written) -> Result<(&Outcome, coditect_protocol::RowId), AppError> {
    let outcome = written.outcomes.first();
    match outcome.and_then(|outcome| Some((outcome, outcome.stored.as_ref()?.id))) {
        Some(found) => Ok(found),
        None => {
            let code = outcome.and_then(|outcome| outcome.code);
            let reason = outcome.and_then(|outcome| outcome.reason.clone());
            let code = code.unwrap_or(ErrorCode::MalformedRow);
            Err(AppError::refused(code, reason.unwrap_or_default()))
        }
    }
}

fn pushed_one(written: &views::Written) -> Result<PushedMessage, AppError> {
    let (outcome, id) = only(written)?;
    let created = outcome.status == Status::Applied;
    Ok(PushedMessage {
        status: if created {
            ViewStatus::Created
        } else {
            ViewStatus::Duplicate
        },
        id,
        cursor: written.cursor,
        epoch: written.epoch,
    })
}

/// Makes or changes a task.
///
/// # Errors
/// [`AppError::BadRequest`] names the field that is not of the form; [`AppError::DeviceUnknown`].
pub async fn put_task(
    state: &AppState,
    asker: Asker<'_>,
    event: &TaskEvent,
) -> Result<TaskReply, AppError> {
    let edit = &tasks::Edit::of(event)?;
    let now = state.clock.now();
    state
        .limits
        .check_storage(&state.db, asker.caller, now)
        .await?;
    let now_ms = now.timestamp_millis();
    let (caller, scope) = (asker.caller, asker.scope);
    let edited = as_device(state, asker, |device| async move {
        let writer = Writer {
            scope,
            device,
            now_ms,
        };
        let stored = state
            .db
            .tenant("context.task", caller, |mut tx| async move {
                let apply = |row: Option<&_>| edit.apply(row);
                views::edit_record(&mut tx, writer, View::Tasks.table(), edit.key(), &apply).await
            });
        stored.await
    })
    .await?;
    let (outcome, id) = only(&edited.written)?;
    let status = match outcome.status {
        Status::Duplicate | Status::Superseded => ViewStatus::Duplicate,
        _ if edited.existed => ViewStatus::Updated,
        _ => ViewStatus::Created,
    };
    Ok(TaskReply {
        status,
        id,
        cursor: edited.written.cursor,
        epoch: edited.written.epoch,
    })
}

/// Returns messages.
///
/// # Errors
/// `SYNC_001` for a position of the future or of another epoch, [`AppError::DeviceUnknown`].
pub async fn messages(
    state: &AppState,
    asker: Asker<'_>,
    range: Range,
) -> Result<MessagePage, AppError> {
    let listed = list(state, asker, View::Messages, range, Filter::default()).await?;
    progress::of_view(state, asker, &listed).await;
    let shared = !matches!(asker.scope, Scope::User(_));
    let message = |stored| show::message(stored, shared);
    Ok(MessagePage {
        messages: listed.rows.into_iter().map(message).collect(),
        cursor: listed.cursor,
        has_more: listed.has_more,
        epoch: listed.epoch,
    })
}

/// Returns tasks.
///
/// # Errors
/// As [`messages`].
pub async fn tasks(
    state: &AppState,
    asker: Asker<'_>,
    range: Range,
    filter: Filter,
) -> Result<TaskPage, AppError> {
    let listed = list(state, asker, View::Tasks, range, filter).await?;
    let tenant = asker.caller.tenant().organization();
    let show = |stored| show::task(stored, tenant, asker.caller.user_id());
    Ok(TaskPage {
        tasks: listed.rows.into_iter().map(show).collect(),
        cursor: listed.cursor,
        has_more: listed.has_more,
        epoch: listed.epoch,
    })
}

/// Returns decisions.
///
/// # Errors
/// As [`messages`].
pub async fn decisions(
    state: &AppState,
    asker: Asker<'_>,
    range: Range,
) -> Result<DecisionPage, AppError> {
    let listed = list(state, asker, View::Decisions, range, Filter::default()).await?;
    Ok(DecisionPage {
        decisions: listed.rows.into_iter().map(show::decision).collect(),
        cursor: listed.cursor,
        has_more: listed.has_more,
        epoch: listed.epoch,
    })
}

/// Returns learnings.
///
/// # Errors
/// As [`messages`].
pub async fn learnings(
    state: &AppState,
    asker: Asker<'_>,
    range: Range,
) -> Result<LearningPage, AppError> {
    let listed = list(state, asker, View::Learnings, range, Filter::default()).await?;
    Ok(LearningPage {
        learnings: listed.rows.into_iter().map(show::learning).collect(),
        cursor: listed.cursor,
        has_more: listed.has_more,
        epoch: listed.epoch,
    })
}

/// Returns the figures of the caller's stream.
///
/// # Errors
/// [`AppError::DeviceUnknown`], those of the store.
pub async fn status(state: &AppState, asker: Asker<'_>) -> Result<ContextStatus, AppError> {
    let (caller, scope) = (asker.caller, asker.scope);
    let (device, figures) = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("context.status", caller, |mut tx| async move {
                views::figures(&mut tx, scope, device).await
            });
        Ok((device, read.await?))
    })
    .await?;
    let time =
        |time: chrono::DateTime<chrono::Utc>| canonical::time_from_ms(time.timestamp_millis());
    let of_device = |known: views::DeviceFigures| DeviceStatus {
        device_id: known.id,
        last_seen_at: time(known.last_seen_at),
        cursor: known.cursor,
        drift: known.cursor.map(|cursor| figures.cursor - cursor),
    };
    Ok(ContextStatus {
        tenant_id: caller.tenant().organization(),
        user_id: caller.user_id(),
        device_id: device,
        cursor: figures.cursor,
        epoch: figures.epoch,
        messages: figures.messages,
        tasks: figures.tasks,
        decisions: figures.decisions,
        learnings: figures.learnings,
        devices: figures.devices.into_iter().map(of_device).collect(),
        storage_bytes: figures.bytes,
        last_push_at: figures.last_push_at.map(time),
        last_pull_at: figures.last_pull_at.map(time),
    })
}

async fn list(
    state: &AppState,
    asker: Asker<'_>,
    view: View,
    range: Range,
    filter: Filter,
) -> Result<Listed, AppError> {
    let (caller, scope) = (asker.caller, asker.scope);
    let limit = range.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let filter = &filter;
    as_device(state, asker, |device| async move {
        let listing = &Listing {
            view,
            scope,
            device,
            cursor: range.cursor.unwrap_or(0),
            epoch: range.epoch,
            limit: limit as usize,
            filter: filter.clone(),
        };
        let read = state
            .db
            .tenant_snapshot("context.list", caller, |mut tx| async move {
                views::list(&mut tx, listing).await
            });
        read.await
    })
    .await
}

/// Does the work as the device that the request names; as the person's web device when it names
/// none, which is registered when the store does not know it yet.
pub(crate) async fn as_device<T, F, Fut>(
    state: &AppState,
    asker: Asker<'_>,
    work: F,
) -> Result<T, AppError>
where
    F: Fn(DeviceId) -> Fut,
    Fut: Future<Output = Result<T, SyncError>>,
{
    if let Some(device) = asker.device {
        return Ok(work(device).await?);
    }
    let device = state.token_key.web_device(asker.caller);
    match work(device).await {
        Err(SyncError::DeviceUnknown) => {}
        done => return Ok(done?),
    }
    let now = state.clock.now();
    match views::register_web_device(&state.db, asker.caller, device, now).await {
        Ok(()) => Ok(work(device).await?),
        Err(StoreError::NotFound) => Err(AppError::DeviceUnknown),
        Err(error) => Err(error.into()),
    }
}

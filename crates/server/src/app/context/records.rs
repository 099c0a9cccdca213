//! Records that people write down, all alike on this level: sprints, tracks, metrics,
//! calibrations and checkpoints of any scope. What is special about one is its [`Kind`].

mod fields;

use coditect_protocol::catalogue::{Class, Table};
use coditect_protocol::wire::context::{RecordWritten, ViewStatus};
use coditect_protocol::wire::push::Status;
use coditect_protocol::wire::{Row, Stored};
use coditect_protocol::{ErrorCode, RowId};
use coditect_server_store::sync::views::{self, Edited, Filter, View, Writer};
use serde_json::{Value, json};

use super::{Asker, Range, as_device, only};
use crate::error::AppError;
use crate::state::AppState;
use fields::{Edit, New};

/// A kind of record.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Name of its schema, and what the names of the others are made from.
    pub(crate) name: &'static str,
    /// In messages.
    pub(crate) noun: &'static str,
    /// In the path, and key of the list.
    pub(crate) plural: &'static str,
    /// Its table.
    pub(crate) view: View,
    /// Columns that a new record's id is made from, where they say what it is; else the id is
    /// given or random.
    pub(crate) known_by: &'static [&'static str],
    /// Columns that go from 0 to 1.
    pub(crate) shares: &'static [&'static str],
}

pub(crate) const SPRINT: Kind = Kind {
    name: "Sprint",
    noun: "sprint",
    plural: "sprints",
    view: View::Sprints,
    known_by: &[],
    shares: &[],
};
pub(crate) const TRACK: Kind = Kind {
    name: "Track",
    noun: "track",
    plural: "tracks",
    view: View::Tracks,
    known_by: &["project_id", "track_id"],
    shares: &[],
};
pub(crate) const METRIC: Kind = Kind {
    name: "Metric",
    noun: "metric",
    plural: "metrics",
    view: View::Metrics,
    known_by: &[],
    shares: &[],
};
pub(crate) const CALIBRATION: Kind = Kind {
    name: "Calibration",
    noun: "calibration",
    plural: "calibrations",
    view: View::Calibrations,
    known_by: &[],
    shares: &["predicted", "actual"],
};
pub(crate) const CHECKPOINT: Kind = Kind {
    name: "Checkpoint",
    noun: "checkpoint",
    plural: "checkpoints",
    view: View::Checkpoints,
    known_by: &[],
    shares: &[],
};
/// All of them.
pub(crate) const KINDS: [&Kind; 5] = [&SPRINT, &TRACK, &METRIC, &CALIBRATION, &CHECKPOINT];

impl Kind {
    /// Returns its table's entry in the catalogue.
    pub(crate) fn table(&self) -> &'static Table {
        self.view.table()
    }

    /// Returns whether one that was written can be changed; facts cannot.
    pub(crate) fn can_change(&self) -> bool {
        self.table().class == Class::Record
    }
}

/// Returns records of a scope behind a position: a page under the kind's plural.
///
/// # Errors
/// `SYNC_001` for a position of the future or of another epoch, [`AppError::NotFound`] for a
/// scope that the caller may not know of, [`AppError::DeviceUnknown`].
pub(crate) async fn list(
    state: &AppState,
    asker: Asker<'_>,
    kind: &'static Kind,
    range: Range,
    filter: Filter,
) -> Result<Value, AppError> {
    let listed = super::list(state, asker, kind.view, range, filter).await?;
    let records = listed.rows.into_iter();
    let records: Vec<Value> = records.map(|row| document(kind, asker, row)).collect();
    Ok(json!({
        kind.plural: records,
        "cursor": listed.cursor,
        "has_more": listed.has_more,
        "epoch": listed.epoch,
    }))
}

/// Returns one record.
///
/// # Errors
/// [`AppError::NotFound`] when the scope has no such live record or the caller may not know of
/// it, [`AppError::DeviceUnknown`].
pub(crate) async fn show(
    state: &AppState,
    asker: Asker<'_>,
    kind: &'static Kind,
    id: RowId,
) -> Result<Value, AppError> {
    let (caller, scope) = (asker.caller, asker.scope);
    let stored = as_device(state, asker, |device| async move {
        let read = state
            .db
            .tenant_snapshot("context.record", caller, |mut tx| async move {
                views::get(&mut tx, kind.view, scope, device, id).await
            });
        read.await
    })
    .await?;
    Ok(document(kind, asker, stored))
}

/// Makes a record; one of that identity that is there already is changed, or left alone when its
/// kind is written once.
///
/// # Errors
/// [`AppError::BadRequest`] names the field that is not of the form; [`AppError::NotFound`] for a
/// record that is written once and was deleted; as a push.
pub(crate) async fn create(
    state: &AppState,
    asker: Asker<'_>,
    kind: &'static Kind,
    body: Row,
) -> Result<RecordWritten, AppError> {
    let new = &New::read(kind, body).map_err(AppError::BadRequest)?;
    let (caller, now_ms) = (asker.caller, admit(state, asker).await?);
    let edited = as_device(state, asker, |device| async move {
        let writer = writer(asker, device, now_ms);
        let stored = state
            .db
            .tenant("context.record.create", caller, |mut tx| async move {
                let apply = |row: Option<&Row>| new.apply(row);
                views::add_record(&mut tx, writer, kind.table(), new.id(), &apply).await
            });
        stored.await
    })
    .await?;
    state.metrics.pushed(&edited.written.outcomes);
    written(&edited)
}

/// Changes a record.
///
/// # Errors
/// [`AppError::BadRequest`] names the field that is not of the form; [`AppError::NotFound`] when
/// the scope has no such live record; as a push.
pub(crate) async fn edit(
    state: &AppState,
    asker: Asker<'_>,
    kind: &'static Kind,
    id: RowId,
    body: Row,
) -> Result<RecordWritten, AppError> {
    let edit = &Edit::read(kind, body).map_err(AppError::BadRequest)?;
    let (caller, now_ms) = (asker.caller, admit(state, asker).await?);
    let edited = as_device(state, asker, |device| async move {
        let writer = writer(asker, device, now_ms);
        let stored = state
            .db
            .tenant("context.record.edit", caller, |mut tx| async move {
                let apply = |row: &Row| edit.apply(row);
                views::change_record(&mut tx, writer, kind.table(), id, &apply).await
            });
        stored.await
    })
    .await?;
    state.metrics.pushed(&edited.written.outcomes);
    written(&edited)
}

/// Deletes a record, here and on every device that holds it.
///
/// # Errors
/// [`AppError::NotFound`] when the scope has no such live record; `direction_refused` for one
/// that only the device or the person that wrote it may delete; as a push.
pub(crate) async fn remove(
    state: &AppState,
    asker: Asker<'_>,
    kind: &'static Kind,
    id: RowId,
) -> Result<(), AppError> {
    let (caller, now_ms) = (asker.caller, state.clock.now().timestamp_millis());
    let written = as_device(state, asker, |device| async move {
        let writer = writer(asker, device, now_ms);
        let stored = state
            .db
            .tenant("context.record.delete", caller, |mut tx| async move {
                views::delete_record(&mut tx, writer, kind.table(), id).await
            });
        stored.await
    })
    .await?;
    state.metrics.pushed(&written.outcomes);
    accepted(&written)
}

/// Checks the plan's storage and returns the time of the write.
async fn admit(state: &AppState, asker: Asker<'_>) -> Result<i64, AppError> {
    let now = state.clock.now();
    state
        .limits
        .check_storage(&state.db, asker.caller, now)
        .await?;
    Ok(now.timestamp_millis())
}

const fn writer(asker: Asker<'_>, device: coditect_protocol::DeviceId, now_ms: i64) -> Writer {
    Writer {
        scope: asker.scope,
        device,
        now_ms,
    }
}

/// Returns the refusal that the only outcome is, if it is one.
fn accepted(written: &views::Written) -> Result<(), AppError> {
    let mut outcomes = written.outcomes.iter();
    match outcomes.find(|outcome| outcome.status == Status::Rejected) {
        None => Ok(()),
        Some(outcome) => Err(AppError::refused(
            outcome.code.unwrap_or(ErrorCode::MalformedRow),
            outcome.reason.clone().unwrap_or_default(),
        )),
    }
}

fn written(edited: &Edited) -> Result<RecordWritten, AppError> {
    accepted(&edited.written)?;
    let (outcome, id) = only(&edited.written)?;
    let status = match outcome.status {
        // What is written once and was deleted does not come back.
        Status::Duplicate if !edited.existed => return Err(AppError::NotFound),
        Status::Duplicate | Status::Superseded => ViewStatus::Duplicate,
        _ if edited.existed => ViewStatus::Updated,
        _ => ViewStatus::Created,
    };
    Ok(RecordWritten {
        status,
        id,
        cursor: edited.written.cursor,
        epoch: edited.written.epoch,
    })
}

/// Returns a record as it is shown: its columns, null where it lacks one, with the common ones
/// beside them.
fn document(kind: &Kind, asker: Asker<'_>, stored: Stored) -> Value {
    let mut row = stored.row.unwrap_or_default();
    let mut document = Row::new();
    for column in kind.table().columns {
        let value = row.remove(column.name).unwrap_or(Value::Null);
        document.insert(column.name.to_owned(), value);
    }
    // Values that do not fit their column, as text.
    if let Some(extra) = row.remove("extra") {
        document.insert("extra".to_owned(), extra);
    }
    for (name, value) in [
        ("id", json!(stored.id)),
        ("scope", json!(asker.scope)),
        ("user_id", json!(stored.user_id)),
        ("device_id", json!(stored.device)),
        ("content_hash", json!(stored.hash)),
        ("created_at", json!(stored.created_at)),
        ("updated_at", json!(stored.updated_at)),
        ("sync_cursor", json!(stored.cursor)),
    ] {
        document.insert(name.to_owned(), value);
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_name_columns_of_their_tables_and_none_is_a_common_one() {
        for kind in KINDS {
            let table = kind.table();
            for name in kind.known_by.iter().chain(kind.shares) {
                assert!(table.column(name).is_some(), "{}: {name}", kind.noun);
            }
            for name in [
                "id",
                "scope",
                "user_id",
                "device_id",
                "content_hash",
                "created_at",
                "updated_at",
                "sync_cursor",
                "extra",
            ] {
                assert!(table.column(name).is_none(), "{}: {name}", kind.noun);
            }
            // Their ids are not made from their columns by the catalogue.
            assert!(table.identity.columns().is_empty(), "{}", kind.noun);
        }
    }
}

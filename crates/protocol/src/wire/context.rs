//! `/api/v1/context/*`: views on a person's own stream, for programs that do not synchronise.
//!
//! Positions are integers here, beside the epoch that they are of (PROTOCOL 29).

use crate::{DeviceId, Epoch, ErrorCode, OrganizationId, RowId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `POST /api/v1/context/push`: several messages, or the fields of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContextPush {
    /// The messages, at most 1,000; the other fields stay out then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub messages: Option<Vec<NewMessage>>,
    /// Of a single message: its kind.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of a single message: its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Of a single message: who speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Of a single message: what is known about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<Map<String, Value>>,
}

/// A message to store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewMessage {
    /// Kind, such as `decision`; `type` or `content` is there.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Who speaks; `user` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `source` is the session, `timestamp` the time, `source_id` the id that the source has for
    /// the message, `agent` and `project_id` what they say; everything is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<Map<String, Value>>,
}

/// Reply to `POST /api/v1/context/push`, in the form of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ContextPushReply {
    /// To several messages.
    Batch(PushedMessages),
    /// To a single one.
    Single(PushedMessage),
}

/// What became of several messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushedMessages {
    /// Messages that are stored now and were not before.
    pub synced: u64,
    /// Messages that were stored already.
    pub skipped: u64,
    /// The stream's position after this push.
    pub cursor: i64,
    /// The server's time.
    pub timestamp: String,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
    /// Messages that cannot be stored; the others are.
    pub rejected: Vec<RejectedMessage>,
}

/// A message that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RejectedMessage {
    /// Place in the request, from 0.
    pub index: u64,
    /// Stable code.
    pub code: ErrorCode,
    /// Why.
    pub reason: String,
}

/// What became of a single message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushedMessage {
    /// `created` or `duplicate`.
    pub status: ViewStatus,
    /// Id of the stored message.
    pub id: RowId,
    /// The stream's position after this push.
    pub cursor: i64,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// What a write through a view did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ViewStatus {
    /// There was nothing of that identity.
    Created,
    /// What was there is changed.
    Updated,
    /// The same was there already.
    Duplicate,
}

/// `GET /api/v1/context/pull`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessagePage {
    /// Messages behind the position asked for, in the order of the stream.
    pub messages: Vec<MessageView>,
    /// Position to ask for next.
    pub cursor: i64,
    /// Whether there is more behind it now.
    pub has_more: bool,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageView {
    /// Id.
    pub id: RowId,
    /// Kind; the role where it has none.
    #[serde(rename = "type")]
    pub kind: String,
    /// Text.
    pub content: String,
    /// SHA-256 of the stored row, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::openapi::ContentHash))]
    pub content_hash: String,
    /// What is known about it, with `source` and `timestamp` where they are.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Map<String, Value>,
    /// When it was said.
    pub created_at: String,
    /// Who speaks.
    pub role: String,
    /// In a team's or project's stream: who put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contributed_by: Option<UserId>,
}

/// `GET /api/v1/context/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContextStatus {
    /// The caller's organisation.
    pub tenant_id: OrganizationId,
    /// The caller.
    pub user_id: UserId,
    /// Device that the request counts for.
    pub device_id: DeviceId,
    /// The stream's position.
    pub cursor: i64,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
    /// Live messages in the stream.
    pub messages: i64,
    /// Live tasks.
    pub tasks: i64,
    /// Live decisions.
    pub decisions: i64,
    /// Live learnings.
    pub learnings: i64,
    /// The caller's devices that are not locked out.
    pub devices: Vec<DeviceStatus>,
    /// Encoded bytes of the stream's rows.
    pub storage_bytes: i64,
    /// When one of the devices pushed last; null before the first push.
    pub last_push_at: Option<String>,
    /// When one of the devices pulled last; null while none has said so.
    pub last_pull_at: Option<String>,
}

/// A device in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceStatus {
    /// Id.
    pub device_id: DeviceId,
    /// When it was heard of last.
    pub last_seen_at: String,
    /// How far it has read; null while it has not said so.
    pub cursor: Option<i64>,
    /// How far that is behind the stream; null like `cursor`.
    pub drift: Option<i64>,
}

/// `POST /api/v1/context/tasks/`. A field left out keeps what is stored; an empty text clears it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskEvent {
    /// The task's name within its session, such as `A.9.1.1`.
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub task_id: String,
    /// What is to be done.
    #[serde(default)]
    pub description: Option<String>,
    /// The same in the form of something going on.
    #[serde(default)]
    pub active_form: Option<String>,
    /// Session; part of the task's identity, empty when left out.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Project.
    #[serde(default)]
    pub project_id: Option<String>,
    /// State; a new task is `pending`.
    #[serde(default)]
    pub status: Option<String>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<String>,
    /// How well, from 0 to 1.
    #[serde(default)]
    pub outcome_score: Option<f64>,
    /// Tool calls that worked; the greater value stays.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9007199254740992_i64)
    )]
    pub tool_success_count: Option<i64>,
    /// Tool calls that failed; the greater value stays.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9007199254740992_i64)
    )]
    pub tool_error_count: Option<i64>,
    /// How often a person stepped in; the greater value stays.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9007199254740992_i64)
    )]
    pub user_corrections: Option<i64>,
    /// RFC 3339 time of the start.
    #[serde(default)]
    pub started_at: Option<String>,
    /// RFC 3339 time of the end.
    #[serde(default)]
    pub completed_at: Option<String>,
    /// Version of the program that reports.
    #[serde(default)]
    pub client_version: Option<String>,
    /// Machine that reports.
    #[serde(default)]
    pub hardware_id: Option<String>,
}

/// Reply to `POST /api/v1/context/tasks/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskReply {
    /// `created`, `updated` or `duplicate`.
    pub status: ViewStatus,
    /// Id of the stored task.
    pub id: RowId,
    /// The stream's position after this write.
    pub cursor: i64,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// `GET /api/v1/context/tasks/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskPage {
    /// Tasks behind the position asked for, in the order of the stream.
    pub tasks: Vec<TaskView>,
    /// Position to ask for next.
    pub cursor: i64,
    /// Whether there is more behind it now.
    pub has_more: bool,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// A stored task. Texts that it lacks are empty, counts 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskView {
    /// Id.
    pub id: RowId,
    /// Organisation.
    pub tenant_id: OrganizationId,
    /// Author.
    pub user_id: UserId,
    /// The task's name within its session.
    pub task_id: String,
    /// What is to be done.
    pub description: String,
    /// The same in the form of something going on.
    pub active_form: String,
    /// Session.
    pub session_id: String,
    /// Project.
    pub project_id: String,
    /// State.
    pub status: String,
    /// How it ended.
    pub outcome: String,
    /// How well; null when nobody said.
    pub outcome_score: Option<f64>,
    /// Tool calls that worked.
    pub tool_success_count: i64,
    /// Tool calls that failed.
    pub tool_error_count: i64,
    /// How often a person stepped in.
    pub user_corrections: i64,
    /// When it started; null when nobody said.
    pub started_at: Option<String>,
    /// When it ended; null when nobody said.
    pub completed_at: Option<String>,
    /// When it was made.
    pub synced_at: String,
    /// When it was changed last.
    pub updated_at: String,
    /// SHA-256 of the stored row, 64 hexadecimal digits.
    pub content_hash: String,
    /// Its position in the stream.
    pub sync_cursor: i64,
    /// Version of the program that reported.
    pub client_version: String,
    /// Machine that reported.
    pub hardware_id: String,
}

/// `GET /api/v1/context/decisions/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionPage {
    /// Decisions behind the position asked for, in the order of the stream.
    pub decisions: Vec<DecisionView>,
    /// Position to ask for next.
    pub cursor: i64,
    /// Whether there is more behind it now.
    pub has_more: bool,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// A stored decision; null stands for what it lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionView {
    /// Id.
    pub id: RowId,
    /// Name that people gave it, such as `D-1`.
    pub decision_id: Option<String>,
    /// What was decided.
    pub title: String,
    /// Why.
    pub rationale: Option<String>,
    /// State.
    pub status: Option<String>,
    /// Message in which it was taken.
    pub message_id: Option<String>,
    /// Project.
    pub project_id: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was changed last.
    pub updated_at: String,
}

/// `GET /api/v1/context/learnings/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LearningPage {
    /// Learnings behind the position asked for, in the order of the stream.
    pub learnings: Vec<LearningView>,
    /// Position to ask for next.
    pub cursor: i64,
    /// Whether there is more behind it now.
    pub has_more: bool,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

/// A stored learning; null stands for what it lacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LearningView {
    /// Id.
    pub id: RowId,
    /// Skill that it is about.
    pub skill_name: String,
    /// What was learned.
    pub learning: String,
    /// Kind.
    pub category: Option<String>,
    /// How sure it is, from 0 to 1.
    pub confidence: Option<f64>,
    /// How often it was of use, over all devices.
    pub usage_count: i64,
    /// When it was made.
    pub created_at: String,
}

/// Reply to a write of a sprint, track, metric, calibration or checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecordWritten {
    /// `created`, `updated` or `duplicate`.
    pub status: ViewStatus,
    /// Id of the stored record.
    pub id: RowId,
    /// The stream's position after this write.
    pub cursor: i64,
    /// Life of the database that the position is of.
    pub epoch: Epoch,
}

//! `…/context/backup`, `…/context/backups`, `…/context/restore`: the seeds' shapes, with more
//! fields beside the printed ones. `…/context/restores`: restores as jobs.

use crate::{DeviceId, ErrorCode, OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether a backup holds the whole scope or what changed since the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// The whole scope.
    Full,
    /// What changed since the newest backup; a full one when there is none to go on from.
    Incremental,
}

/// Where a backup stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BackupStatus {
    /// Waits for its turn.
    Pending,
    /// Is being written.
    Running,
    /// Was written and read back.
    Completed,
    /// Was given up after several attempts.
    Failed,
}

/// What a restore does with rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RestoreMode {
    /// Missing and deleted rows come back; rows that are there stay as they are.
    Merge,
    /// The scope becomes what the backup holds.
    Replace,
}

/// Asks for a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// What it shall hold.
    #[serde(rename = "type")]
    pub kind: BackupType,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupMetadata {
    /// Its id.
    pub id: Uuid,
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// `user`, `team`, `project` or `org`.
    pub scope_type: String,
    /// The user, team, project or organisation.
    pub scope_id: Uuid,
    /// What it holds.
    pub backup_type: BackupType,
    /// Where the archive is, whatever the store; the name is the seeds'.
    pub gcs_path: String,
    /// The same.
    pub path: String,
    /// Packed size; none until it is complete.
    pub size_bytes: Option<i64>,
    /// Number of records, tombstones included; none until it is complete.
    pub record_count: Option<i64>,
    /// `sha256:` and 64 hexadecimal digits over the archive; none until it is complete.
    pub checksum: Option<String>,
    /// Where it stands.
    pub status: BackupStatus,
    /// When it was asked for, RFC 3339 UTC.
    pub created_at: String,
    /// When it was complete and read back, RFC 3339 UTC.
    pub completed_at: Option<String>,
    /// When it may be removed; none for one that somebody asked for.
    pub expires_at: Option<String>,
    /// Why the last attempt failed; no content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The backup that an incremental one goes on from.
    pub base_id: Option<Uuid>,
    /// Whether somebody asked for it.
    pub on_demand: bool,
}

/// Reply of `GET …/context/backups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupList {
    /// The backups, newest first, at most 1,000.
    pub backups: Vec<BackupMetadata>,
}

/// Asks for a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// From which backup; with an incremental one, those that it goes on from are read first.
    pub backup_id: Uuid,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// Whether only to say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreReply {
    /// Rows that came back, or got their archived content back.
    pub restored: u64,
    /// Archived rows that were there already, or are newer now.
    pub skipped: u64,
    /// How.
    pub mode: RestoreMode,
    /// From what.
    pub backup: RestoredBackup,
    /// Rows that the backup does not have, deleted by a replacing restore.
    pub removed: u64,
    /// Whether nothing was changed because nothing was to be.
    pub dry_run: bool,
    /// The backup that was taken before a replacing restore, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_backup_id: Option<Uuid>,
}

/// The backup that a restore read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoredBackup {
    /// Its id.
    pub id: Uuid,
    /// When it was asked for, RFC 3339 UTC.
    pub created_at: String,
    /// Number of its records.
    pub record_count: i64,
}

/// Where a restore stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RestoreStatus {
    /// Waits for its turn, or for its next attempt.
    Queued,
    /// Is being done.
    Running,
    /// Was done.
    Completed,
    /// Changed nothing, and is not tried again.
    Failed,
}

/// A restore that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreJob {
    /// Its id.
    pub id: Uuid,
    /// `user`, `team`, `project` or `org`.
    pub scope_type: String,
    /// The user, team, project or organisation.
    pub scope_id: Uuid,
    /// Where it stands.
    pub status: RestoreStatus,
    /// From which backup.
    pub backup_id: Uuid,
    /// What to do with rows that are there.
    pub mode: RestoreMode,
    /// Who asked.
    pub requested_by: UserId,
    /// The device that it counts for.
    pub device_id: DeviceId,
    /// When it was asked for, RFC 3339 UTC.
    pub created_at: String,
    /// When it was begun first, RFC 3339 UTC.
    pub started_at: Option<String>,
    /// When it was completed or given up, RFC 3339 UTC.
    pub finished_at: Option<String>,
    /// How often it was begun.
    pub attempts: i32,
    /// When it is tried again after a failure, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// The backup that is taken before a replacing restore, as soon as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_backup_id: Option<Uuid>,
    /// What it did, once it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RestoreReply>,
    /// Code of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// Why it failed last; no content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Reply of `GET …/context/restores`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreJobList {
    /// The restores, newest first, at most 1,000.
    pub restores: Vec<RestoreJob>,
}

//! The tables that can be listed: what it takes, and by which columns rows can be picked.

use coditect_protocol::catalogue::{Table, by_cloud_name};
use coditect_protocol::permissions::Permission;

const MESSAGES: &str = "select cursor, id from context_messages
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
const TASKS: &str = "select cursor, id from context_task_tracking
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or status = $5) and ($6::text is null or project_id = $6)
    and ($7::text is null or session_id = $7) and ($8::text is null or task_id = $8)
    order by cursor limit $4";
const DECISIONS: &str = "select cursor, id from org_decisions
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
const LEARNINGS: &str = "select cursor, id from org_skill_learnings
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    order by cursor limit $4";
const SPRINTS: &str = "select cursor, id from projects_sprints
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or project_id = $5) and ($6::text is null or status = $6)
    order by cursor limit $4";
const TRACKS: &str = "select cursor, id from org_project_tracks
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or project_id = $5) and ($6::text is null or track_id = $6)
    and ($7::text is null or status = $7)
    order by cursor limit $4";
const METRICS: &str = "select cursor, id from org_quality_metrics
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or metric_name = $5) and ($6::text is null or component_id = $6)
    and ($7::text is null or project_id = $7)
    order by cursor limit $4";
const CALIBRATIONS: &str = "select cursor, id from org_calibration_history
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or model = $5) and ($6::text is null or component_id = $6)
    and ($7::text is null or metric = $7)
    order by cursor limit $4";
const CHECKPOINTS: &str = "select cursor, id from context_checkpoints
    where tenant_id = $1 and scope_id = $2 and cursor > $3 and deleted_at is null
    and ($5::text is null or checkpoint_type = $5) and ($6::text is null or project_id = $6)
    and ($7::text is null or session_id = $7) and ($8::text is null or phase = $8)
    and ($9::text is null or focus_area = $9) and ($10::text is null or git_branch = $10)
    order by cursor limit $4";

/// A table that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// `context_messages`.
    Messages,
    /// `context_task_tracking`.
    Tasks,
    /// `org_decisions`.
    Decisions,
    /// `org_skill_learnings`.
    Learnings,
    /// `projects_sprints`.
    Sprints,
    /// `org_project_tracks`.
    Tracks,
    /// `org_quality_metrics`.
    Metrics,
    /// `org_calibration_history`.
    Calibrations,
    /// `context_checkpoints`.
    Checkpoints,
}

impl View {
    /// All of them.
    #[cfg(test)]
    pub(in crate::sync) const ALL: [Self; 9] = [
        Self::Messages,
        Self::Tasks,
        Self::Decisions,
        Self::Learnings,
        Self::Sprints,
        Self::Tracks,
        Self::Metrics,
        Self::Calibrations,
        Self::Checkpoints,
    ];

    /// Returns the table's name.
    const fn cloud(self) -> &'static str {
        match self {
            Self::Messages => "context_messages",
            Self::Tasks => "context_task_tracking",
            Self::Decisions => "org_decisions",
            Self::Learnings => "org_skill_learnings",
            Self::Sprints => "projects_sprints",
            Self::Tracks => "org_project_tracks",
            Self::Metrics => "org_quality_metrics",
            Self::Calibrations => "org_calibration_history",
            Self::Checkpoints => "context_checkpoints",
        }
    }

    /// Returns the statement that reads numbers and ids of its rows: tenant, scope, the number
    /// behind which to begin and the most rows, then a value for each of [`View::filters`].
    pub(in crate::sync) const fn places(self) -> &'static str {
        match self {
            Self::Messages => MESSAGES,
            Self::Tasks => TASKS,
            Self::Decisions => DECISIONS,
            Self::Learnings => LEARNINGS,
            Self::Sprints => SPRINTS,
            Self::Tracks => TRACKS,
            Self::Metrics => METRICS,
            Self::Calibrations => CALIBRATIONS,
            Self::Checkpoints => CHECKPOINTS,
        }
    }

    /// Returns the columns that a [`super::Filter`] can ask for.
    #[must_use]
    pub const fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Messages | Self::Decisions | Self::Learnings => &[],
            Self::Tasks => &["status", "project_id", "session_id", "task_id"],
            Self::Sprints => &["project_id", "status"],
            Self::Tracks => &["project_id", "track_id", "status"],
            Self::Metrics => &["metric_name", "component_id", "project_id"],
            Self::Calibrations => &["model", "component_id", "metric"],
            Self::Checkpoints => &[
                "checkpoint_type",
                "project_id",
                "session_id",
                "phase",
                "focus_area",
                "git_branch",
            ],
        }
    }

    /// Returns the table's entry in the catalogue.
    #[must_use]
    pub fn table(self) -> &'static Table {
        by_cloud_name(self.cloud()).expect("a table of the catalogue")
    }

    /// Returns what it takes to read it: a permission of its own where the published roles have
    /// one, else that of a pull.
    pub(super) const fn permission(self) -> Permission {
        match self {
            Self::Messages => Permission::MessagesRead,
            Self::Tasks => Permission::TasksRead,
            Self::Decisions => Permission::DecisionsRead,
            Self::Learnings => Permission::LearningsRead,
            Self::Checkpoints => Permission::CheckpointsRead,
            Self::Sprints | Self::Tracks | Self::Metrics | Self::Calibrations => {
                Permission::SyncPull
            }
        }
    }

    /// Returns the names of the tables that the status counts.
    pub(super) fn counted() -> [&'static str; 4] {
        [
            Self::Messages,
            Self::Tasks,
            Self::Decisions,
            Self::Learnings,
        ]
        .map(Self::cloud)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::catalogue::ColumnType;

    #[test]
    fn statements_take_the_filters_in_their_order() {
        for view in View::ALL {
            let (sql, table) = (view.places(), view.table());
            assert!(sql.contains(&format!("from {}\n", table.cloud)), "{sql}");
            for (number, name) in (5..).zip(view.filters()) {
                let asked = format!("(${number}::text is null or {name} = ${number})");
                assert!(sql.contains(&asked), "{sql}: {asked}");
                assert_eq!(table.column(name).unwrap().ty, ColumnType::Text, "{name}");
            }
            assert_eq!(sql.matches("is null or").count(), view.filters().len());
        }
    }
}

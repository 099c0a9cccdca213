//! Which task a call of a tool belonged to.

use coditect_core::hash;
use coditect_protocol::RowId;
use coditect_protocol::catalogue::by_cloud_name;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::NamedRow;
use super::columns::Columns;

const TABLE: &str = "context_activity_associations";

/// How it is known what a call belonged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Its own words name the task.
    Explicit,
    /// One task was in progress at the time.
    Temporal,
    /// Several were.
    Ambiguous,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Temporal => "temporal",
            Self::Ambiguous => "ambiguous",
        }
    }

    /// How sure it is, from 0 to 1.
    const fn confidence(self) -> f64 {
        match self {
            Self::Explicit => 0.99,
            Self::Temporal => 0.70,
            Self::Ambiguous => 0.50,
        }
    }
}

/// What a call was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// What was done: the call's own words, the file, or the commit.
    pub description: String,
    /// Task; none where several were in progress.
    pub task_id: Option<String>,
    /// Track of the task, where its words begin with it.
    pub track: Option<String>,
    /// Name of the session's folder.
    pub project_name: Option<String>,
    /// How that is known.
    pub method: Method,
}

impl Activity {
    /// Returns the row of a call under the catalogue's names, and its id: the same whoever reads
    /// the transcript.
    pub(super) fn row(&self, session_id: &str, tool_use_id: &str) -> Option<(RowId, NamedRow)> {
        let table = by_cloud_name(TABLE)?;
        let id = hash::named_id(table, &[session_id, tool_use_id]);
        let unknown = match self.method {
            Method::Ambiguous => "_AMBIGUOUS",
            Method::Explicit | Method::Temporal => "_NONE",
        };
        let or = |value: &Option<String>, unknown: &str| {
            value.clone().unwrap_or_else(|| unknown.to_owned())
        };
        let row = Columns::default()
            .text("tool_description", self.description.clone())
            .text("task_id", or(&self.task_id, unknown))
            .text("track", or(&self.track, unknown))
            .text("project_name", or(&self.project_name, "_UNKNOWN"))
            .json("confidence", json!(self.method.confidence()))
            .text("association_method", self.method.name().to_owned())
            .text("session_id", session_id.to_owned())
            .text("tool_use_id", tool_use_id.to_owned());
        Some((id, (table.cloud, row.finish())))
    }
}

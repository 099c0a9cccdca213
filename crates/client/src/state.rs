//! What the last run of the engine saw, remembered so that `status` can tell without a network.
//! Losing the file loses nothing but that.

use std::path::Path;

use coditect_core::sync::{Comparison, Report};
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::{Cursor, Scope};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Memory of the last runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncState {
    /// End of the last run that reached the server, RFC 3339 UTC.
    pub last_sync_at: Option<String>,
    /// End of the last run of any kind.
    pub last_attempt_at: Option<String>,
    /// Whether all digests were equal at the end of the last run that reached the heads.
    pub converged: Option<bool>,
    /// Whether the last run ended because nothing answered.
    pub offline: bool,
    /// Why the last run ended early, for people.
    pub last_error: Option<String>,
    /// The server's side of every stream at its last head.
    pub streams: Vec<ServerStream>,
}

/// The server's digest of one table of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStream {
    /// Stream.
    pub scope: Scope,
    /// Cloud name of the table.
    pub table: String,
    /// Rows that are no tombstones.
    pub rows: i64,
    /// Rows and tombstones.
    pub count: i64,
    /// 16 hexadecimal digits.
    pub digest: String,
    /// Head that it belongs to.
    pub cursor: Cursor,
}

impl SyncState {
    /// Reads the file; a missing or unreadable one is an empty memory.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        match files::read_json(path) {
            Ok(state) => state.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(target: "coditect::sync", %error, "the last run is forgotten");
                Self::default()
            }
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`FileError`] when that fails.
    pub fn store(&self, path: &Path) -> Result<(), FileError> {
        files::write_json(path, self)
    }

    /// Takes in a run that ended at `now` (RFC 3339 UTC).
    pub fn note(&mut self, report: &Report, now: &str) {
        self.last_attempt_at = Some(now.to_owned());
        let problem = report.problem.as_ref().map(|problem| {
            let text = problem.detail.as_deref().unwrap_or(&problem.title);
            format!("{text} ({})", problem.code)
        });
        self.offline = report.offline;
        self.last_error = problem.or_else(|| report.offline_reason.clone());
        if report.offline || report.problem.is_some() {
            return;
        }
        self.last_sync_at = Some(now.to_owned());
        if report.comparisons.is_empty() {
            return;
        }
        self.converged = report.converged;
        self.streams.clear();
        for comparison in &report.comparisons {
            for stream in comparison.streams() {
                self.streams.push(ServerStream {
                    scope: stream.scope,
                    table: stream.server.table,
                    rows: stream.server.rows,
                    count: stream.server.count,
                    digest: stream.server.digest,
                    cursor: stream.cursor,
                });
            }
        }
    }

    /// Takes in a run that was about a part, or that read nothing: what it did not see stays as
    /// it was known.
    pub fn note_part(&mut self, report: &Report, now: &str) {
        if report.offline || report.problem.is_some() {
            return self.note(report, now);
        }
        let seen = |stream: &ServerStream| {
            let same = |head: &Comparison| {
                let of_file = by_cloud_name(&stream.table).map(|table| table.file);
                head.scope == stream.scope && Some(head.file) == of_file
            };
            report.comparisons.iter().any(same)
        };
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain(|stream| !seen(stream));
        let before = self.converged;
        self.note(report, now);
        self.streams.splice(0..0, streams);
        let equal = report.comparisons.iter().all(Comparison::equal);
        self.converged = before.map(|converged| converged && equal);
    }

    /// Returns the server's side of one table.
    #[must_use]
    pub fn stream(&self, scope: Scope, table: &str) -> Option<&ServerStream> {
        let same = |stream: &&ServerStream| stream.scope == scope && stream.table == table;
        self.streams.iter().find(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_core::sync::Comparison;
    use coditect_protocol::Epoch;
    use coditect_protocol::catalogue::File;

    fn report() -> Report {
        let cursor = Cursor {
            epoch: Epoch(7),
            n: 3,
        };
        let comparison = Comparison {
            scope: Scope::Platform,
            file: File::Platform,
            cursor,
            local: Vec::new(),
            server: Vec::new(),
        };
        Report {
            converged: Some(true),
            comparisons: vec![comparison],
            ..Report::default()
        }
    }

    #[test]
    fn a_run_without_an_answer_keeps_what_was_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync-state.json");
        let mut state = SyncState::default();
        state.note(&report(), "2026-01-01T00:00:00Z");
        let offline = Report {
            offline: true,
            offline_reason: Some("no connection".to_owned()),
            ..Report::default()
        };
        state.note(&offline, "2026-01-02T00:00:00Z");
        state.store(&path).unwrap();

        let state = SyncState::load(&path);
        assert_eq!(state.last_sync_at.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(
            state.last_attempt_at.as_deref(),
            Some("2026-01-02T00:00:00Z")
        );
        assert_eq!(state.last_error.as_deref(), Some("no connection"));
        assert!(state.offline);
        assert_eq!(state.converged, Some(true));
        let stream = state.stream(Scope::Platform, "platform_components");
        assert_eq!(stream.unwrap().digest, "0000000000000000");
    }

    #[test]
    fn a_broken_file_is_an_empty_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync-state.json");
        std::fs::write(&path, "{").unwrap();
        assert_eq!(SyncState::load(&path), SyncState::default());
    }
}

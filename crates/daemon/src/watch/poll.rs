//! Looks at sizes and times every few seconds, where the system does not tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coditect_protocol::catalogue::File;
use tokio::sync::mpsc;

use super::{Change, Watched};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a file looked like.
type Look = Option<(u64, Option<SystemTime>)>;

/// Watches by looking.
pub(super) struct Poller {
    watched: Watched,
    seen: HashMap<PathBuf, Look>,
}

impl Poller {
    pub(super) fn new(watched: Watched) -> Self {
        let mut poller = Self {
            watched,
            seen: HashMap::new(),
        };
        // What there is now is no change.
        poller.look();
        poller
    }

    #[cfg_attr(
        target_os = "linux",
        expect(dead_code, reason = "tested there, used elsewhere")
    )]
    pub(super) async fn run(mut self, changes: mpsc::Sender<Vec<Change>>) {
        while !changes.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = self.look();
            if !found.is_empty() && changes.send(found).await.is_err() {
                return;
            }
        }
    }

    fn look(&mut self) -> Vec<Change> {
        let mut found = Vec::new();
        for file in File::ALL {
            let path = self.watched.databases.join(format!("{file}.db"));
            let journal = path.with_extension("db-wal");
            // Both are looked at, whatever the first one says.
            let changed = [self.is_new(&path), self.is_new(&journal)];
            if changed.contains(&true) {
                found.push(Change::Database(file));
            }
        }
        for folder in self.watched.settings.clone() {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            if paths.iter().any(|path| self.is_new(path)) {
                found.push(Change::Settings);
            }
        }
        let agents = self.watched.agents.iter();
        let transcripts: Vec<PathBuf> = agents
            .filter_map(|agent| agent.find().ok())
            .flat_map(|found| found.files)
            .collect();
        for path in transcripts {
            if self.is_new(&path) {
                found.push(Change::Transcript(path));
            }
        }
        found
    }

    fn is_new(&mut self, path: &Path) -> bool {
        let metadata = std::fs::metadata(path).ok();
        let look = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        self.seen.insert(path.to_owned(), look).unwrap_or(None) != look
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_capture::{Format, Root};
    use std::fs;

    #[test]
    fn a_change_is_seen_once() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join("agent/projects/-repo");
        fs::create_dir_all(&project).unwrap();
        let mut poller = Poller::new(Watched {
            databases: home.path().to_owned(),
            settings: vec![home.path().join("settings")],
            agents: vec![Root::new(Format::Claude, home.path().join("agent"))],
        });
        assert_eq!(poller.look(), []);
        fs::write(home.path().join("org.db-wal"), "x").unwrap();
        let transcript = project.join("s.jsonl");
        fs::write(&transcript, "{}\n").unwrap();
        let seen = [Change::Database(File::Org), Change::Transcript(transcript)];
        assert_eq!(poller.look(), seen);
        assert_eq!(poller.look(), []);
    }
}

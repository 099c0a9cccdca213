//! Linux tells.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coditect_capture::Root;
use coditect_protocol::catalogue::File;
use futures_util::StreamExt as _;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::mpsc;

use super::{Change, WatchError, Watched, database_of};

/// Bytes of events that are read at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Time between two looks whether an agent's folder has appeared.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Folders of transcripts that are watched; the others are read when the daemon starts.
const FOLDERS_MAX: usize = 4_096;

/// Folders on the way to an agent's that may appear while it is looked for.
const REACH_TRIES: u32 = 16;

/// What a watched folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Databases,
    Settings,
    /// A folder below which agents' folders will appear.
    Parent,
    /// An agent's folder itself, by its place in the list.
    Agent(usize),
    /// A folder with transcripts of that agent.
    Transcripts(usize),
}

/// Watches by inotify.
pub(super) struct Watcher {
    events: EventStream<Vec<u8>>,
    watches: Watches,
    folders: HashMap<WatchDescriptor, (Kind, PathBuf)>,
    agents: Vec<Root>,
    /// Agents whose folder is missing, and nothing above it can be watched.
    missing: BTreeSet<usize>,
}

impl Watcher {
    /// Begins to watch; events from now on are not lost.
    pub(super) fn new(watched: Watched) -> Result<Self, WatchError> {
        let failed = |source| WatchError {
            path: watched.databases.clone(),
            source,
        };
        let inotify = Inotify::init().map_err(failed)?;
        let watches = inotify.watches();
        let events = inotify
            .into_event_stream(vec![0; BUFFER_BYTES])
            .map_err(failed)?;
        let mut watcher = Self {
            events,
            watches,
            folders: HashMap::new(),
            agents: watched.agents,
            missing: BTreeSet::new(),
        };
        watcher
            .add(Kind::Databases, &watched.databases)
            .map_err(failed)?;
        for folder in &watched.settings {
            if let Err(error) = watcher.add(Kind::Settings, folder) {
                tracing::warn!(target: "coditect::daemon", %error, "settings are not watched");
            }
        }
        watcher.add_agents();
        Ok(watcher)
    }

    pub(super) async fn run(mut self, changes: mpsc::Sender<Vec<Change>>) {
        loop {
            let mut found = Vec::new();
            tokio::select! {
                event = self.events.next() => match event {
                    Some(Ok(event)) => self.take(event, &mut found),
                    Some(Err(error)) => {
                        tracing::error!(target: "coditect::daemon", %error, "nothing is watched");
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep(LOOK_EVERY), if !self.missing.is_empty() => {
                    for at in self.missing.clone() {
                        found.extend(self.add_agent(at));
                    }
                }
                () = changes.closed() => return,
            }
            found.dedup();
            if !found.is_empty() && changes.send(found).await.is_err() {
                return;
            }
        }
    }

    fn add(&mut self, kind: Kind, folder: &Path) -> std::io::Result<()> {
        let mask = match kind {
            Kind::Databases => WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE,
            Kind::Settings => WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::DELETE,
            Kind::Parent | Kind::Agent(_) => WatchMask::CREATE | WatchMask::MOVED_TO,
            Kind::Transcripts(_) => WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO,
        };
        let watch = self.watches.add(folder, mask | WatchMask::ONLYDIR)?;
        self.folders.insert(watch, (kind, folder.to_owned()));
        Ok(())
    }

    fn add_agents(&mut self) -> Vec<Change> {
        (0..self.agents.len())
            .flat_map(|at| self.add_agent(at))
            .collect()
    }

    /// Watches an agent's transcripts, or waits for them to appear. Returns those there are.
    fn add_agent(&mut self, at: usize) -> Vec<Change> {
        let agent = self.agents[at].clone();
        self.missing.remove(&at);
        if !self.reach(at, &agent.folder) {
            return Vec::new();
        }
        for folder in agent.transcript_folders() {
            if folder.is_dir() {
                self.add_folders(at, &folder, &mut Vec::new());
            }
        }
        let found = agent.find().map(|found| found.files).unwrap_or_default();
        found.into_iter().map(Change::Transcript).collect()
    }

    /// Watches an agent's folder, or the nearest one above it that is there. Returns whether it
    /// is there itself.
    fn reach(&mut self, at: usize, folder: &Path) -> bool {
        let nearest = || folder.ancestors().skip(1).find(|above| above.is_dir());
        for _ in 0..REACH_TRIES {
            if self.add(Kind::Agent(at), folder).is_ok() {
                return true;
            }
            let above = nearest().unwrap_or(Path::new("/"));
            if self.add(Kind::Parent, above).is_err() {
                break;
            }
            // Something on the way may have appeared just before that one was watched.
            if !folder.is_dir() && nearest() == Some(above) {
                return false;
            }
        }
        self.missing.insert(at);
        false
    }

    /// Watches a folder and those below it, and adds the transcripts in them to `found`: they
    /// may have been written before the folder was watched.
    fn add_folders(&mut self, at: usize, folder: &Path, found: &mut Vec<Change>) {
        if self.folders.len() >= FOLDERS_MAX {
            tracing::warn!(target: "coditect::daemon", "too many folders of transcripts");
            return;
        }
        if let Err(error) = self.add(Kind::Transcripts(at), folder) {
            tracing::warn!(target: "coditect::daemon", %error, "transcripts are not watched");
            return;
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add_folders(at, &path, found);
            } else if self.agents[at].is_transcript(&path) {
                found.push(Change::Transcript(path));
            }
        }
    }

    fn take(&mut self, event: Event<OsString>, found: &mut Vec<Change>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Events were lost: everything may have changed.
            found.extend(File::ALL.map(Change::Database));
            found.push(Change::Settings);
            found.extend(self.add_agents());
            return;
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.folders.remove(&event.wd);
            return;
        }
        let Some((kind, folder)) = self.folders.get(&event.wd).cloned() else {
            return;
        };
        let name = event.name.unwrap_or_default();
        match kind {
            Kind::Databases => {
                let database = name.to_str().and_then(database_of);
                found.extend(database.map(Change::Database));
            }
            Kind::Settings => {
                let is_json = Path::new(&name).extension().is_some_and(|it| it == "json");
                found.extend(is_json.then_some(Change::Settings));
            }
            Kind::Parent => {
                let path = folder.join(name);
                for at in 0..self.agents.len() {
                    if self.agents[at].folder.starts_with(&path) {
                        found.extend(self.add_agent(at));
                    }
                }
            }
            Kind::Agent(at) => {
                let path = folder.join(name);
                if self.agents[at].transcript_folders().contains(&path) {
                    found.extend(self.add_agent(at));
                }
            }
            Kind::Transcripts(at) => {
                self.take_transcript(at, &folder.join(name), event.mask, found);
            }
        }
    }

    fn take_transcript(
        &mut self,
        at: usize,
        path: &Path,
        mask: EventMask,
        found: &mut Vec<Change>,
    ) {
        if mask.contains(EventMask::ISDIR) {
            self.add_folders(at, path, found);
        } else if self.agents[at].is_transcript(path) {
            found.push(Change::Transcript(path.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::watch;
    use coditect_capture::Format;
    use std::fs;

    /// Waits for a change; others may come before it.
    async fn expect(changes: &mut mpsc::Receiver<Vec<Change>>, wanted: &Change) {
        loop {
            if changes.recv().await.unwrap().contains(wanted) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn writes_to_databases_settings_and_transcripts_are_told() {
        let home = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (databases, settings) = (folder("db"), folder("settings"));
        let (agent, codex) = (home.path().join("agent"), home.path().join("far/off/codex"));
        let mut changes = watch(Watched {
            databases: databases.clone(),
            settings: vec![settings.clone()],
            agents: vec![
                Root::new(Format::Claude, &agent),
                Root::new(Format::Codex, &codex),
            ],
        })
        .unwrap();
        fs::write(databases.join("org.db-shm"), "x").unwrap();
        fs::write(databases.join("org.db-wal"), "x").unwrap();
        expect(&mut changes, &Change::Database(File::Org)).await;
        fs::write(settings.join("config.json"), "{}").unwrap();
        expect(&mut changes, &Change::Settings).await;
        // The agent is installed, begins a project, and a subagent does, too.
        let project = folder("agent/projects/-repo");
        let transcript = project.join("s.jsonl");
        fs::write(&transcript, "{}\n").unwrap();
        expect(&mut changes, &Change::Transcript(transcript.clone())).await;
        let below = folder("agent/projects/-repo/s/subagents").join("agent-a.jsonl");
        fs::write(&below, "{}\n").unwrap();
        expect(&mut changes, &Change::Transcript(below)).await;
        let text = fs::read_to_string(&transcript).unwrap();
        fs::write(&transcript, text + "{}\n").unwrap();
        expect(&mut changes, &Change::Transcript(transcript)).await;
        // So is another agent, which has a folder per day and other files beside.
        fs::create_dir_all(&codex).unwrap();
        fs::write(codex.join("history.jsonl"), "{}\n").unwrap();
        let rollout = folder("far/off/codex/sessions/2026/02/03").join("rollout-1-a.jsonl");
        fs::write(&rollout, "{}\n").unwrap();
        expect(&mut changes, &Change::Transcript(rollout)).await;
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_an_error_that_names_it() {
        let watched = Watched {
            databases: PathBuf::from("/nowhere/at/all"),
            settings: Vec::new(),
            agents: Vec::new(),
        };
        let error = watch(watched).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}

//! Notices what other programs do: to the databases, the transcripts, the configuration. Costs
//! nothing while nothing happens where the system tells of changes (Linux: inotify); elsewhere
//! it looks every few seconds.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(any(not(target_os = "linux"), test))]
mod poll;

use std::path::PathBuf;

use coditect_capture::Root;
use coditect_protocol::catalogue::File;
use tokio::sync::mpsc;

/// Something that may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody wrote to a database, perhaps we.
    Database(File),
    /// A transcript grew or appeared.
    Transcript(PathBuf),
    /// Configuration or login.
    Settings,
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Folder of the four databases.
    pub databases: PathBuf,
    /// Folders of configuration and tokens.
    pub settings: Vec<PathBuf>,
    /// The agents' folders, whether they are there yet or not.
    pub agents: Vec<Root>,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {}", path.display())]
pub struct WatchError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Watches until nobody listens any more; changes come in groups.
///
/// # Errors
/// [`WatchError`] when the folder of the databases cannot be watched.
pub fn watch(watched: Watched) -> Result<mpsc::Receiver<Vec<Change>>, WatchError> {
    let (sender, changes) = mpsc::channel(16);
    #[cfg(target_os = "linux")]
    tokio::spawn(inotify::Watcher::new(watched)?.run(sender));
    #[cfg(not(target_os = "linux"))]
    tokio::spawn(poll::Poller::new(watched).run(sender));
    Ok(changes)
}

/// Returns the database that a file of their folder belongs to; its journal counts as it.
fn database_of(name: &str) -> Option<File> {
    let (stem, rest) = name.split_once(".db")?;
    let counts = rest.is_empty() || rest == "-wal" || rest == "-journal";
    let file = File::ALL.into_iter().find(|file| file.as_str() == stem);
    file.filter(|_| counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_count_as_their_database_and_other_files_do_not() {
        assert_eq!(database_of("org.db"), Some(File::Org));
        assert_eq!(database_of("sessions.db-wal"), Some(File::Sessions));
        for name in ["org.db-shm", "sync.lock", "other.db", "org.db.bak"] {
            assert_eq!(database_of(name), None, "{name}");
        }
    }
}

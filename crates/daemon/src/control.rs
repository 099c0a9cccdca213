//! The local socket: what commands ask the daemon, and the file that says that one runs.
//!
//! One request and one reply per connection, a JSON object in a line each. A thread of its own
//! answers from a copy of the daemon's state, so that a long run keeps nobody waiting. Only the
//! owner of the folder can reach it.

use std::fs::{File, Permissions, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::status::Status;

/// Bytes of a request.
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Bytes of a reply.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest path that a socket may have on every system (the shortest limit is 104).
const PATH_BYTES_MAX: usize = 100;

/// What a command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Say how things are.
    Status,
    /// Sync everything now.
    Sync,
    /// An agent began a session.
    SessionStarted,
    /// An agent ended a session.
    SessionEnded,
}

/// Why the daemon's place cannot be taken, or it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// One runs already.
    #[error("a daemon runs already (process {pid})")]
    Running {
        /// Its process.
        pid: u32,
    },
    /// None runs.
    #[error("no daemon runs")]
    NotRunning,
    /// The system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The reply is none.
    #[error("the daemon's answer is not understood")]
    Reply(#[from] serde_json::Error),
}

/// The daemon's place in a data folder; free again when dropped, also by a crash.
#[derive(Debug)]
pub struct Place {
    _lock: File,
    socket: PathBuf,
}

/// Returns where the socket of a data folder is.
#[must_use]
pub fn socket_path(data: &Path) -> PathBuf {
    let path = data.join("daemon.sock");
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return path;
    }
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    std::env::temp_dir().join(format!("coditect-{:016x}.sock", hasher.finish()))
}

impl Place {
    /// Takes the place.
    ///
    /// # Errors
    /// [`ControlError::Running`] when another daemon has it.
    pub fn take(data: &Path) -> Result<Self, ControlError> {
        let path = data.join("daemon.lock");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ControlError::Io { path, source }
        };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut lock = options.open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = lock.read_to_string(&mut text);
                let pid = text.trim().parse().unwrap_or(0);
                return Err(ControlError::Running { pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
        written.map_err(failed(&path))?;
        Ok(Self {
            _lock: lock,
            socket: socket_path(data),
        })
    }

    /// Answers requests until the place is dropped; what is more than a question goes to
    /// `commands`.
    ///
    /// # Errors
    /// [`ControlError::Io`] when the socket cannot be made.
    pub fn answer(
        &self,
        status: Arc<Mutex<Status>>,
        commands: mpsc::Sender<Request>,
    ) -> Result<(), ControlError> {
        let failed = |source| ControlError::Io {
            path: self.socket.clone(),
            source,
        };
        // Whoever left it is gone: the lock is ours.
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).map_err(failed)?;
        std::fs::set_permissions(&self.socket, Permissions::from_mode(0o600)).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .stack_size(128 * 1024);
        let thread = thread.spawn(move || {
            for stream in listener.incoming() {
                if commands.is_closed() {
                    return;
                }
                if let Ok(stream) = stream {
                    // A client that goes away is no fault.
                    let _ = answer_one(stream, &status, &commands);
                }
            }
        });
        thread.map(drop).map_err(failed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Wakes the thread, which then sees that nobody takes commands any more.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn answer_one(
    stream: UnixStream,
    status: &Mutex<Status>,
    commands: &mpsc::Sender<Request>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&stream).take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line) {
        Ok(Request::Status) => {
            let mut status = status
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            status.look_at_process();
            serde_json::to_value(status)?
        }
        // With a full queue the same was asked for already.
        Ok(request) => {
            let _ = commands.try_send(request);
            serde_json::json!({"ok": true})
        }
        Err(error) => serde_json::json!({"ok": false, "error": error.to_string()}),
    };
    (&stream).write_all(format!("{reply}\n").as_bytes())
}

/// Asks the daemon of a data folder and returns its reply, one line of JSON.
///
/// # Errors
/// [`ControlError::NotRunning`] when there is none.
pub fn ask(data: &Path, request: Request) -> Result<serde_json::Value, ControlError> {
    let path = socket_path(data);
    let failed = |source| ControlError::Io {
        path: path.clone(),
        source,
    };
    let Ok(stream) = UnixStream::connect(&path) else {
        return Err(ControlError::NotRunning);
    };
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let text = serde_json::to_string(&request)?;
    (&stream)
        .write_all(format!("{text}\n").as_bytes())
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new((&stream).take(REPLY_BYTES_MAX))
        .read_line(&mut line)
        .map_err(failed)?;
    if line.is_empty() {
        return Err(ControlError::NotRunning);
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_has_the_place_and_answers() {
        let data = tempfile::tempdir().unwrap();
        assert!(matches!(
            ask(data.path(), Request::Status),
            Err(ControlError::NotRunning)
        ));
        let place = Place::take(data.path()).unwrap();
        let own = std::process::id();
        let second = Place::take(data.path()).unwrap_err();
        assert!(matches!(second, ControlError::Running { pid } if pid == own));
        let (sender, mut commands) = mpsc::channel(4);
        let status = Arc::new(Mutex::new(Status {
            connected: true,
            ..Status::default()
        }));
        place.answer(status, sender).unwrap();
        let status = ask(data.path(), Request::Status).unwrap();
        assert_eq!(
            (&status["connected"], &status["pid"]),
            (&true.into(), &own.into())
        );
        ask(data.path(), Request::SessionEnded).unwrap();
        assert_eq!(commands.try_recv(), Ok(Request::SessionEnded));
        let mode = std::fs::metadata(socket_path(data.path()))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        drop((commands, place));
        assert!(!socket_path(data.path()).exists());
        Place::take(data.path()).unwrap();
    }

    #[test]
    fn a_deep_folder_has_a_socket_that_fits() {
        let deep = PathBuf::from(format!("/{}", "x/".repeat(80)));
        let other = PathBuf::from(format!("/{}y", "x/".repeat(80)));
        assert!(socket_path(&deep).as_os_str().len() <= PATH_BYTES_MAX);
        assert_ne!(socket_path(&deep), socket_path(&other));
    }
}

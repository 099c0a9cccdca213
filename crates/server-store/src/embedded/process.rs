//! Starting, watching and stopping the PostgreSQL process.
//!
//! One thread spawns the server and lives as long as it, because Linux ties the wish to die with
//! the parent to the spawning thread. The same thread starts the server again when it dies.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::archiving::{self, ArchiveRecord};
use super::cluster::{self, Layout, PORT, SUPERUSER};
use super::guarded;
use super::os::{self, Tie};
use super::reach::{Entrance, Reach};
use super::{Binaries, Durability, EmbeddedError, EmbeddedOptions};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A setting without a meaning to PostgreSQL: its command line then has the folder's real path.
const REAL_PATH_SETTING: &str = "coditect.data_folder";
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// More unexpected ends than this within [`RESTART_WINDOW`] and the supervisor gives up.
const RESTARTS_MAX: usize = 10;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// A server under supervision.
#[derive(Debug)]
pub(super) struct Supervised {
    state: Arc<Mutex<State>>,
    ended: Receiver<()>,
    given_up: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// The running server; its number stays taken until the state is unlocked again.
    pid: Option<u32>,
    stopping: bool,
}

/// Everything that is needed to start the server again.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) layout: Layout,
    pub(super) binaries: Binaries,
    pub(super) options: EmbeddedOptions,
}

impl Supervised {
    /// Starts the server on a thread of its own and returns once it accepts connections.
    pub(super) fn start(launch: Launch) -> Result<Self, EmbeddedError> {
        let state = Arc::new(Mutex::new(State::default()));
        let (ready_sender, ready) = mpsc::sync_channel(1);
        let (ended_sender, ended) = mpsc::sync_channel(1);
        let (given_up_sender, given_up) = watch::channel(false);
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("postgres-supervisor".to_owned())
            .spawn(move || {
                supervise(&launch, &shared, &ready_sender, &given_up_sender);
                // The receiver may be gone already; then nobody waits for the end.
                let _ = ended_sender.send(());
            })
            .map_err(EmbeddedError::io("start a thread in", Path::new("/")))?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self {
                state,
                ended,
                given_up,
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EmbeddedError::Start {
                detail: "supervisor thread ended".to_owned(),
            }),
        }
    }

    /// Returns a signal that turns true when the server died too often to be started again.
    pub(super) fn given_up(&self) -> watch::Receiver<bool> {
        self.given_up.clone()
    }

    /// Returns the process id of the running server.
    pub(super) fn pid(&self) -> Option<u32> {
        lock(&self.state).pid
    }

    /// Stops the server: SIGINT (running transactions roll back), after ten seconds SIGQUIT.
    pub(super) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.signal(libc::SIGINT);
        if self.ended.recv_timeout(FAST_STOP_TIMEOUT).is_err() {
            tracing::warn!("postgresql does not stop, sending SIGQUIT");
            self.signal(libc::SIGQUIT);
        }
        if thread.join().is_err() {
            tracing::error!("the supervisor thread of postgresql panicked");
        }
    }

    fn signal(&self, signal: i32) {
        let mut state = lock(&self.state);
        state.stopping = true;
        if let Some(pid) = state.pid
            && let Err(error) = os::send_signal(pid.cast_signed(), signal)
        {
            tracing::warn!(%error, "cannot signal postgresql");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the server until it is told to stop or dies too often.
fn supervise(
    launch: &Launch,
    state: &Mutex<State>,
    ready: &SyncSender<Result<(), EmbeddedError>>,
    given_up: &watch::Sender<bool>,
) {
    let mut ends: Vec<Instant> = Vec::new();
    let mut first = true;
    loop {
        match start_and_wait_ready(launch, Tie::DiesWithThread) {
            Ok(mut child) => {
                lock(state).pid = Some(child.id());
                if std::mem::take(&mut first) {
                    // The starter may have gone; then the next stop request comes by drop.
                    let _ = ready.send(Ok(()));
                }
                if run_until_end(&mut child, state) {
                    return;
                }
            }
            Err(error) if first => {
                let _ = ready.send(Err(error));
                return;
            }
            Err(error) => tracing::error!(%error, "cannot start postgresql again"),
        }
        if lock(state).stopping {
            return;
        }
        let now = Instant::now();
        ends.retain(|end| now.duration_since(*end) < RESTART_WINDOW);
        ends.push(now);
        if ends.len() > RESTARTS_MAX {
            tracing::error!(restarts = RESTARTS_MAX, "postgresql keeps dying, giving up");
            given_up.send_replace(true);
            return;
        }
        tracing::warn!("postgresql ended unexpectedly, starting it again");
    }
}

/// Waits for the end of `child` and returns whether it was asked for.
fn run_until_end(child: &mut Child, state: &Mutex<State>) -> bool {
    {
        // The request to stop may have come while the server was starting.
        let state = lock(state);
        if state.stopping && os::send_signal(child.id().cast_signed(), libc::SIGINT).is_err() {
            tracing::warn!("cannot signal postgresql");
        }
    }
    os::wait_without_reaping(child.id());
    let mut state = lock(state);
    state.pid = None;
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "cannot collect postgresql's exit status");
    }
    state.stopping
}

/// Starts the server and returns once it accepts connections.
///
/// A server that was just killed may leave its workers behind for a moment; until they are gone
/// a new one refuses to start, and is tried again.
pub(super) fn start_and_wait_ready(launch: &Launch, tie: Tie) -> Result<Child, EmbeddedError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let mut child = spawn(launch, tie)?;
        let Some(detail) = wait_ready(&launch.layout, &mut child, deadline)? else {
            return Ok(child);
        };
        let passing = detail.contains("shared memory block") || detail.contains("postmaster.pid");
        if !passing || Instant::now() > deadline {
            return Err(EmbeddedError::Start { detail });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns `None` once the server accepts connections, or the log's end when it ended first.
fn wait_ready(
    layout: &Layout,
    child: &mut Child,
    deadline: Instant,
) -> Result<Option<String>, EmbeddedError> {
    let socket = layout.socket();
    loop {
        let ended = child
            .try_wait()
            .map_err(EmbeddedError::io("watch", &layout.data))?;
        if ended.is_some() {
            return Ok(Some(layout.log_tail()));
        }
        if accepts(&socket) {
            return Ok(None);
        }
        if Instant::now() > deadline {
            let detail = format!("not ready after {READY_TIMEOUT:?}: {}", layout.log_tail());
            if os::send_signal(child.id().cast_signed(), libc::SIGQUIT).is_ok() {
                child
                    .wait()
                    .map_err(EmbeddedError::io("watch", &layout.data))?;
            }
            return Err(EmbeddedError::Start { detail });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Starts the server and does not wait for it.
pub(super) fn spawn(launch: &Launch, tie: Tie) -> Result<Child, EmbeddedError> {
    let (layout, options) = (&launch.layout, &launch.options);
    let log = open_log(&layout.log).map_err(EmbeddedError::io("open", &layout.log))?;
    let entrance = Entrance::open(&layout.root, layout.reach)?;
    let program = launch.binaries.program("postgres");
    let mut command = Command::new(&program);
    command
        .arg("-D")
        .arg(entrance.path(&layout.data))
        .arg("-k")
        .arg(entrance.path(&layout.socket_dir));
    command.args(["-p", &PORT.to_string()]);
    if layout.reach == Reach::Descriptor {
        command.arg("-c").arg(real_path_setting(&layout.data));
    }
    let kept = match ArchiveRecord::of(&layout.root) {
        Some(record) => archiving::settings(&layout.root, layout.account, &record)?,
        None => Vec::new(),
    };
    for setting in settings(options).into_iter().chain(kept) {
        command.arg("-c").arg(setting);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    cluster::clean_environment(&mut command);
    os::prepare_child(&mut command, layout.account, tie, entrance.into_folder());
    command.spawn().map_err(EmbeddedError::io("run", &program))
}

/// Opens the log, and begins it anew when it has become long.
fn open_log(path: &Path) -> io::Result<fs::File> {
    let log = guarded::file(path)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}

fn real_path_setting(data: &Path) -> String {
    format!("{REAL_PATH_SETTING}={}", data.display())
}

fn settings(options: &EmbeddedOptions) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=".to_owned(),
        "shared_buffers=128MB".to_owned(),
        format!("max_connections={}", options.connections_max),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
        "jit=off".to_owned(),
        // No DETAIL lines: they quote the content of rows.
        "log_error_verbosity=terse".to_owned(),
    ];
    if cfg!(target_os = "linux") {
        // One call for the whole file system instead of one for each file, after a crash.
        settings.push("recovery_init_sync_method=syncfs".to_owned());
    }
    let durable = if options.durability == Durability::Full {
        "on"
    } else {
        "off"
    };
    settings.push(format!("fsync={durable}"));
    settings.push(format!("full_page_writes={durable}"));
    settings.push(format!("synchronous_commit={durable}"));
    settings.extend(options.settings.iter().cloned());
    settings
}

/// Returns whether the server behind `socket` lets a session start; merely connecting works
/// during recovery too.
pub(super) fn accepts(socket: &Path) -> bool {
    try_startup(socket).unwrap_or(false)
}

fn try_startup(socket: &Path) -> io::Result<bool> {
    const AUTHENTICATION: u8 = b'R';
    const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let body = format!("\0\x03\0\0user\0{SUPERUSER}\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), body.as_bytes()].concat())?;
    let mut answer = [0_u8; 1];
    stream.read_exact(&mut answer)?;
    stream.write_all(&TERMINATE)?;
    Ok(answer[0] == AUTHENTICATION)
}

/// Returns the running server of `layout`'s folder, if there is one.
pub(super) fn running_pid(layout: &Layout) -> Option<i32> {
    recorded_pid(&layout.pid_file()).filter(|pid| os::is_alive(*pid) && serves(*pid, &layout.data))
}

/// Deals with what an earlier run left: stops a server without a supervisor, and removes lock
/// files whose number now belongs to another program. The caller holds the folder's lock.
pub(super) fn clear_orphan(layout: &Layout) -> Result<(), EmbeddedError> {
    if let Some(pid) = running_pid(layout) {
        tracing::warn!(pid, "stopping a postgresql that lost its supervisor");
        stop_orphan(layout, pid)?;
    }
    for file in [
        layout.pid_file(),
        layout.socket().with_added_extension("lock"),
    ] {
        // PostgreSQL itself recognises the number of a process that is gone.
        if recorded_pid(&file).is_some_and(os::is_alive) {
            tracing::warn!(file = %file.display(), "removing a stale lock file");
            fs::remove_file(&file).map_err(EmbeddedError::io("remove", &file))?;
        }
    }
    Ok(())
}

/// Returns the process id in the first line of a lock file of PostgreSQL.
fn recorded_pid(file: &Path) -> Option<i32> {
    String::from_utf8_lossy(&guarded::read(file))
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

fn stop_orphan(layout: &Layout, pid: i32) -> Result<(), EmbeddedError> {
    for (signal, patience) in [
        (libc::SIGINT, ORPHAN_TIMEOUT),
        (libc::SIGQUIT, FAST_STOP_TIMEOUT),
    ] {
        // It may end between the look and the signal, which is what we want.
        let _ = os::send_signal(pid, signal);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !os::is_alive(pid) || !serves(pid, &layout.data) {
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Err(EmbeddedError::Orphan { pid })
}

/// Returns whether the process `pid` is a PostgreSQL on the folder `data`, however it reaches it.
fn serves(pid: i32, data: &Path) -> bool {
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => line,
        Err(_) if Path::new("/proc/self").exists() => return false,
        Err(_) => {
            let mut ps = Command::new("ps");
            ps.args(["-ww", "-o", "command=", "-p", &pid.to_string()]);
            ps.output().map(|output| output.stdout).unwrap_or_default()
        }
    };
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let names = [
        format!("-D {} ", data.display()),
        format!("-c {} ", real_path_setting(data)),
    ];
    line.contains("postgres") && names.iter().any(|name| line.contains(name))
}

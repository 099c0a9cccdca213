//! What hooks leave to processes of their own, which end by themselves: taking in the spool, and
//! keeping the database's log short. Where no daemon holds the file open, whoever opens it reads
//! its whole log, and to write it back waits for the disk.

use std::fs::File as Handle;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use coditect_client::Paths;
use coditect_daemon::hooks::{DrainPlace, Drained, Folder};
use coditect_local_store::{LocalStore, Random};
use coditect_protocol::catalogue::File;

use crate::clock;

/// Length of the log from which it is written back, in bytes.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// How long nobody tries again while others write, who will write the log back themselves.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the process waits for other writers.
const WAIT: Duration = Duration::from_secs(10);
/// How often it looks again.
const ROUNDS_MAX: u32 = 100;
/// The flag of the process that takes in the spool.
pub(super) const DRAIN: &str = "--drain";

/// Starts this program as a process that nobody waits for.
pub(super) fn start(paths: &Paths, flag: &str, input: Stdio) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut command = Command::new(program);
    let profile = paths.profile().unwrap_or("default");
    command.args(["hook", flag, "--profile", profile]);
    command
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir(paths.home());
    // What ends the agent and its children must not end it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .spawn()
        .context("cannot start a process for what takes longer")?;
    Ok(())
}

/// Starts the process that takes in the spool, if none was started for a time and nobody is at
/// it. The place is its standard input: free again when it has ended, however it ends.
pub(super) fn start_drain(paths: &Paths, folder: &Folder, every: Duration) -> anyhow::Result<()> {
    match folder.claim_drain(every) {
        Some(place) => start(paths, DRAIN, Stdio::from(place.into_file())),
        None => Ok(()),
    }
}

/// What that process does.
pub(super) fn drain(paths: &Paths) -> anyhow::Result<()> {
    let folder = Folder::new(&paths.data_dir());
    // By hand it has no place yet.
    let mut place = match inherited() {
        Some(place) => Some(place),
        None => folder.drain_place()?,
    };
    let storage = paths.context_storage();
    for _ in 0..ROUNDS_MAX {
        let Some(held) = place.take() else { break };
        if folder.has_spooled() {
            let mut store = open(&storage)?;
            folder.drain_held(&held, &mut store, clock::now_ms(), &mut Drained::default())?;
        }
        held.give_back()?;
        // Who came meanwhile and found the place taken has started nobody.
        if !folder.has_spooled() {
            break;
        }
        place = folder.drain_place()?;
    }
    if is_log_long(&storage) {
        shorten_log(&folder, &storage)?;
    }
    Ok(())
}

/// Opens sessions.db alone, or all of them where it has to be made or migrated.
fn open(storage: &Path) -> anyhow::Result<LocalStore> {
    let one = LocalStore::open_one(storage, File::Sessions, WAIT, Random::System)?;
    match one {
        Some(store) => Ok(store),
        None => Ok(LocalStore::open(storage, clock::now_ms(), Random::System)?),
    }
}

/// Returns the place that this process was given as its standard input.
fn inherited() -> Option<DrainPlace> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd as _;
        let input = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
        let file = Handle::from(input);
        let is_file = file.metadata().is_ok_and(|input| input.is_file());
        is_file.then(|| DrainPlace::inherited(file))
    }
    #[cfg(not(unix))]
    None
}

/// Returns whether the log is so long that it should be written back.
pub(super) fn is_log_long(storage: &Path) -> bool {
    let log = storage.join(format!("{}.db-wal", File::Sessions));
    std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_MAX)
}

/// Writes the log back, one process at a time.
fn shorten_log(folder: &Folder, storage: &Path) -> anyhow::Result<()> {
    let Some(_place) = folder.log_place()? else {
        return Ok(());
    };
    if !LocalStore::shorten_log(storage, File::Sessions)? {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

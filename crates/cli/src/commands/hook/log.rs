//! Keeping the database's log short: where no daemon holds the file open, each hook reads all of
//! it. A hook does not write it back itself, because that waits for the disk; it starts a process
//! that does, one at a time.

use std::fs::{File as Handle, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use coditect_client::Paths;
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::File;

/// Length of the log from which it is written back, in bytes: what two dozen hooks add.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// How long nobody tries again while others write, who will write the log back themselves.
const PAUSE: Duration = Duration::from_secs(2);
/// The flag of the process that writes it back.
pub(super) const SHORTEN: &str = "--shorten-log";

/// Starts the process if the log is long and none is at it.
pub(super) fn shorten_in_background(paths: &Paths) -> anyhow::Result<()> {
    if !is_long(&paths.context_storage()) {
        return Ok(());
    }
    let place = paths.data_dir().join("hooks").join("log.lock");
    // The place is the new process's standard input: it is free when that process has ended.
    let Some(place) = lock(&place)? else {
        return Ok(());
    };
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut command = Command::new(program);
    let profile = paths.profile().unwrap_or("default");
    command.args(["hook", SHORTEN, "--profile", profile]);
    command
        .stdin(Stdio::from(place))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir(paths.home());
    // What ends the agent and its children must not end it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .spawn()
        .context("cannot start a process that shortens the log")?;
    Ok(())
}

/// What that process does.
pub(super) fn shorten(paths: &Paths) -> anyhow::Result<()> {
    let is_short = LocalStore::shorten_log(&paths.context_storage(), File::Sessions)?;
    if !is_short {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_long(folder: &Path) -> bool {
    let log = folder.join(format!("{}.db-wal", File::Sessions));
    std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_MAX)
}

/// Takes the place of the one process; none when it is taken.
fn lock(path: &Path) -> anyhow::Result<Option<Handle>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if let Some(folder) = path.parent() {
        coditect_local_store::make_private_folder(folder)?;
    }
    let file = options.open(path)?;
    Ok(file.try_lock().is_ok().then_some(file))
}

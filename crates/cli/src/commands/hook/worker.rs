//! The process that a hook leaves behind: it takes in what waits, reads transcripts, syncs, and
//! ends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use coditect_client::Paths;
use coditect_daemon::control::{self, Request};
use coditect_daemon::hooks::Folder;

use super::background;
use crate::clock;
use crate::context::Context;
use crate::logs::HOOKS;
use crate::remote::{self, Kind};

/// Looks for the place before it is taken that another one is at work: a hook that only asks
/// holds it for a moment.
const LOOKS: u32 = 3;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts the process; nobody waits for it.
pub(super) fn start(paths: &Paths) -> anyhow::Result<()> {
    background::start(paths, "--work", Stdio::null())
}

/// Does what is left to do, until nothing is. Everything that goes wrong is logged only.
pub(super) fn run(context: &Context) {
    let folder = Folder::new(&context.paths.data_dir());
    // Between the last look for work and giving the place back, a hook may find it taken and
    // start nobody: so one more look follows.
    loop {
        let Some(place) = place(&folder) else { return };
        if let Err(error) = work(context, &folder) {
            tracing::warn!(target: HOOKS, error = format!("{error:#}"), "work was left undone");
            return;
        }
        drop(place);
        let store = context.store();
        let more = store.ok().and_then(|store| folder.has_work(&store).ok());
        if more != Some(true) {
            return;
        }
    }
}

fn place(folder: &Folder) -> Option<coditect_daemon::hooks::Place> {
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(LOOK_EVERY);
        }
        if let Some(place) = folder.work_place() {
            return Some(place);
        }
    }
    None
}

fn work(context: &Context, folder: &Folder) -> anyhow::Result<()> {
    let mut store = context.store()?;
    let worked = folder.work(&mut store, &context.config.hooks()?.ignore, clock::now_ms)?;
    tracing::info!(
        target: HOOKS,
        events = worked.events,
        transcripts = worked.transcripts,
        messages = worked.messages,
        "worked"
    );
    crate::commands::backup::daily(context);
    // A daemon syncs by itself; it only has to know that this is a good moment.
    if control::ask(&context.paths.data_dir(), Request::SessionEnded).is_ok() {
        return Ok(());
    }
    if context.is_offline() || store.owner_of_folder().is_none() {
        return Ok(());
    }
    let run = remote::sync(context, &mut store, Kind::Whole).context("syncing")?;
    tracing::info!(
        target: HOOKS,
        pushed = run.report.pushed,
        pulled = run.report.pulled,
        offline = run.report.offline,
        duration_ms = run.duration_ms,
        "synced"
    );
    Ok(())
}

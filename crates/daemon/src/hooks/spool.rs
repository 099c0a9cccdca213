//! The spool: events that found the file busy, one file each, redacted before they touch the
//! disk. Whoever comes next takes them in, in their order. A crash between storing an event and
//! removing its file is harmless: it is stored again, and changes nothing.

use std::fs::{File as Handle, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use coditect_capture::hooks::Event;
use coditect_core::redact::Report;
use coditect_local_store::{self as local_store, Error, LocalStore};

use super::{Folder, apply, private};

/// Events that may wait. More means that nobody has been able to store any for long.
pub const SPOOLED_MAX: usize = 50_000;
/// Events stored in one transaction.
const BATCH: usize = 32;

/// Why an event could not be spooled.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Too many wait.
    #[error("{SPOOLED_MAX} events wait already")]
    Full,
    /// The system refused.
    #[error("cannot write to the spool")]
    Io(#[from] std::io::Error),
    /// The event has no written form.
    #[error("cannot write an event down")]
    Form(#[from] serde_json::Error),
}

/// What became of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events that were stored.
    pub events: u64,
    /// Files that are no events, or that the store refuses; they were put aside.
    pub bad: u64,
    /// Whether some are left: another process is at it, or there were more than were asked for.
    pub left: bool,
}

impl Folder {
    /// Writes an event down, so that it survives the end of this process. A loss of power may
    /// take the last ones, as it may take the last ones from sessions.db; nothing waits for the
    /// disk.
    ///
    /// # Errors
    /// When too many wait, or the system refuses.
    pub fn spool(&self, event: &Event) -> Result<(), SpoolError> {
        let folder = self.file("spool");
        make_folder(&folder)?;
        if std::fs::read_dir(&folder)?.take(SPOOLED_MAX).count() == SPOOLED_MAX {
            return Err(SpoolError::Full);
        }
        let mut event = event.clone();
        event.redact(&mut Report::default());
        let text = serde_json::to_vec(&event)?;
        let name = format!("{:015}-{:010}", event.at_ms.max(0), std::process::id());
        let unfinished = folder.join(format!("{name}.unfinished"));
        let mut options = OpenOptions::new();
        private(options.write(true).create(true).truncate(true));
        let mut file = options.open(&unfinished)?;
        let written = file.write_all(&text);
        let done = written
            .and_then(|()| std::fs::rename(&unfinished, folder.join(format!("{name}.json"))));
        if done.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        Ok(done?)
    }

    /// Returns whether events wait. Costs one look at a folder.
    #[must_use]
    pub fn has_spooled(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(self.file("spool")) else {
            return false;
        };
        entries.flatten().any(|entry| is_event(&entry.path()))
    }

    /// Stores events that wait, oldest first, `max` of them at most. Nothing is done while
    /// another process is at it.
    ///
    /// # Errors
    /// When the store fails; what was not stored waits on.
    pub fn drain(
        &self,
        store: &mut LocalStore,
        max: usize,
        now_ms: i64,
    ) -> local_store::Result<Drained> {
        let mut drained = Drained::default();
        if !self.has_spooled() {
            return Ok(drained);
        }
        let path = self.file("spool.lock");
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let Some(_lock) = lock(&path).map_err(failed)? else {
            drained.left = true;
            return Ok(drained);
        };
        // Only now it is sure that nobody else takes some of them.
        let waiting = self.spooled();
        drained.left = waiting.len() > max;
        for batch in waiting[..waiting.len().min(max)].chunks(BATCH) {
            store_batch(store, batch, now_ms, &mut drained)?;
        }
        Ok(drained)
    }

    /// Stores all events that wait.
    ///
    /// # Errors
    /// As [`Folder::drain`].
    pub fn drain_all(&self, store: &mut LocalStore, now_ms: i64) -> local_store::Result<Drained> {
        self.drain(store, usize::MAX, now_ms)
    }

    fn spooled(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.file("spool"));
        let paths = entries.into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = paths
            .map(|entry| entry.path())
            .filter(|path| is_event(path))
            .collect();
        paths.sort();
        paths
    }
}

fn is_event(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

fn store_batch(
    store: &mut LocalStore,
    batch: &[PathBuf],
    now_ms: i64,
    drained: &mut Drained,
) -> local_store::Result<()> {
    let mut events = Vec::with_capacity(batch.len());
    for path in batch {
        match std::fs::read(path).map(|text| serde_json::from_slice::<Event>(&text)) {
            Ok(Ok(event)) => events.push((path, event)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => put_aside(path, drained),
        }
    }
    let only: Vec<Event> = events.iter().map(|(_, event)| event.clone()).collect();
    match apply(store, &only, now_ms) {
        Ok(_) => {
            for (path, _) in &events {
                remove(path, drained);
            }
            return Ok(());
        }
        Err(error) if !is_refusal(&error) => return Err(error),
        Err(_) => {}
    }
    // One of them is refused for what it says; the others must not suffer for it.
    for (path, event) in events {
        match apply(store, std::slice::from_ref(&event), now_ms) {
            Ok(_) => remove(path, drained),
            Err(error) if is_refusal(&error) => put_aside(path, drained),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::UnknownTable(_) | Error::UnknownColumn { .. } | Error::MissingColumn { .. }
    )
}

fn remove(path: &Path, drained: &mut Drained) {
    drained.events += 1;
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(target: "coditect::hook", %error, "a stored event's file stays");
    }
}

fn put_aside(path: &Path, drained: &mut Drained) {
    drained.bad += 1;
    tracing::warn!(target: "coditect::hook", "a spooled event cannot be stored; it is put aside");
    let _ = std::fs::rename(path, path.with_extension("bad"));
}

/// Takes a lock file; none when another process has it.
pub(super) fn lock(path: &Path) -> std::io::Result<Option<Handle>> {
    let mut options = OpenOptions::new();
    private(options.write(true).create(true).truncate(false));
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(path.parent().unwrap_or(path))?;
            options.open(path)?
        }
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

//! The spool: one file to whose end hooks write what they hear, redacted before it touches the
//! disk, one line and one write for each event. Whoever opens the database next takes it in.
//!
//! Nothing is lost or doubled, whoever is killed when. A hook writes while it shares the gate;
//! who takes the file in holds the gate alone for the moment in which it renames the file, so
//! that nobody writes to it any more; and removes it after the last of its events is stored. One
//! that is left by a crash is stored again, which changes nothing.

use std::fs::{File as Handle, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use coditect_capture::hooks::Event;
use coditect_core::redact::Report;
use coditect_local_store::{self as local_store, Error, LocalStore};

use super::{Folder, apply};
use crate::files::{open_lock, private};

/// Size from which nothing more is added, in bytes: nobody has been able to store any for long.
pub const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Events stored in one transaction.
const BATCH: usize = 64;
/// Size from which lines that are no events are dropped, in bytes.
const BAD_BYTES_MAX: u64 = 1024 * 1024;
/// How long a command waits for another process that takes the spool in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long a hook waits for the gate, which is shut for a rename.
const GATE_WAIT: Duration = Duration::from_millis(50);
/// How often one call takes the spool in when more comes meanwhile.
const ROUNDS_MAX: u32 = 8;

const WAITING: &str = "spool.jsonl";
const TAKEN: &str = "spool.taken.jsonl";
const BAD: &str = "spool.bad.jsonl";
const GATE: &str = "spool.gate";
const LOCK: &str = "spool.lock";

/// Why an event could not be spooled.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Too much waits.
    #[error("more than {SPOOL_BYTES_MAX} bytes wait already")]
    Full,
    /// Not all of it could be written; whoever takes the spool in leaves the piece out.
    #[error("there is no room for an event in the spool")]
    Cut,
    /// Another process has kept the gate shut for too long.
    #[error("the spool is being taken in")]
    Busy,
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
    /// Lines that are no events, or that the store refuses; they were put aside.
    pub bad: u64,
    /// Whether some are left: another process is at it, or there is more than was asked for.
    pub left: bool,
}

/// The place of the one process that takes the spool in; free again when dropped, also by a
/// crash.
#[derive(Debug)]
pub struct DrainPlace(Handle);

impl DrainPlace {
    /// Returns the place held by an open file, as a process inherits it.
    #[must_use]
    pub fn inherited(file: Handle) -> Self {
        Self(file)
    }

    /// Returns the open file that holds it, for a process to inherit.
    #[must_use]
    pub fn into_file(self) -> Handle {
        self.0
    }

    /// Gives the place back, also where other processes have the file open.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_back(self) -> std::io::Result<()> {
        self.0.unlock()
    }
}

impl Folder {
    /// Writes an event to the end of the spool, so that it survives the end of this process.
    /// Returns how many bytes wait then. A loss of power may take the last ones, as it may take
    /// the last ones from sessions.db; nothing waits for the disk.
    ///
    /// # Errors
    /// When too much waits, or the system refuses.
    pub fn spool(&self, event: &Event) -> Result<u64, SpoolError> {
        let mut event = event.clone();
        event.redact(&mut Report::default());
        // The line end before it ends what a process left that was killed while it wrote.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, &event)?;
        line.push(b'\n');
        let gate = open_lock(&self.file(GATE))?;
        within(GATE_WAIT, || answer(gate.try_lock_shared()))?.ok_or(SpoolError::Busy)?;
        let mut options = OpenOptions::new();
        let mut file = private(options.append(true).create(true)).open(self.file(WAITING))?;
        let length = file.metadata()?.len();
        if length > SPOOL_BYTES_MAX {
            return Err(SpoolError::Full);
        }
        // One write: the system lets no other come between.
        let written = loop {
            match file.write(&line) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if written < line.len() {
            return Err(SpoolError::Cut);
        }
        Ok(length + line.len() as u64)
    }

    /// Returns whether events wait. Costs two looks at names.
    #[must_use]
    pub fn has_spooled(&self) -> bool {
        self.spooled_bytes() > 0
    }

    /// Returns how many bytes wait.
    #[must_use]
    pub fn spooled_bytes(&self) -> u64 {
        let length = |name| std::fs::metadata(self.file(name)).map_or(0, |file| file.len());
        length(WAITING) + length(TAKEN)
    }

    /// Takes the place of the one process that takes the spool in, if nobody has it and the last
    /// one was started longer than `every` ago. Notes that one is started.
    #[must_use]
    pub fn claim_drain(&self, every: Duration) -> Option<DrainPlace> {
        let path = self.file(LOCK);
        if !every.is_zero() && super::is_younger(&path, every) {
            return None;
        }
        let place = self.drain_place().ok().flatten()?;
        place.0.set_len(0).ok()?;
        Some(place)
    }

    /// Takes that place; none when another process has it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn drain_place(&self) -> std::io::Result<Option<DrainPlace>> {
        Ok(lock(&self.file(LOCK))?.map(DrainPlace))
    }

    /// Takes the place of the one process that writes the database's log back; none when another
    /// process has it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn log_place(&self) -> std::io::Result<Option<DrainPlace>> {
        Ok(lock(&self.file("log.lock"))?.map(DrainPlace))
    }

    /// Stores what waits, oldest first, unless it is more than `bytes_max`. Nothing is done while
    /// another process is at it.
    ///
    /// # Errors
    /// When the store fails; what was not stored waits on.
    pub fn drain(
        &self,
        store: &mut LocalStore,
        bytes_max: u64,
        now_ms: i64,
    ) -> local_store::Result<Drained> {
        self.drain_within(store, Duration::ZERO, bytes_max, now_ms)
    }

    /// Stores all that waits. While another process is at it, waits for that a little.
    ///
    /// # Errors
    /// As [`Folder::drain`].
    pub fn drain_all(&self, store: &mut LocalStore, now_ms: i64) -> local_store::Result<Drained> {
        self.drain_within(store, PATIENCE, u64::MAX, now_ms)
    }

    fn drain_within(
        &self,
        store: &mut LocalStore,
        patience: Duration,
        bytes_max: u64,
        now_ms: i64,
    ) -> local_store::Result<Drained> {
        let mut drained = Drained::default();
        for _ in 0..ROUNDS_MAX {
            // Who finds the place taken starts nobody, so there is a look after giving it back.
            let waiting = self.spooled_bytes();
            if waiting == 0 || waiting > bytes_max {
                break;
            }
            let place = within(patience, || self.drain_place());
            let Some(place) = place.map_err(|source| self.failed(LOCK, source))? else {
                break;
            };
            self.drain_held(&place, store, now_ms, &mut drained)?;
        }
        drained.left = self.has_spooled();
        Ok(drained)
    }

    /// Stores all that waits, for whoever has the place already.
    ///
    /// # Errors
    /// As [`Folder::drain`].
    pub fn drain_held(
        &self,
        _place: &DrainPlace,
        store: &mut LocalStore,
        now_ms: i64,
        drained: &mut Drained,
    ) -> local_store::Result<()> {
        let taken = self.file(TAKEN);
        loop {
            let text = match std::fs::read(&taken) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let moved = self.take().map_err(|source| self.failed(WAITING, source))?;
                    if !moved {
                        return Ok(());
                    }
                    continue;
                }
                Err(source) => return Err(self.failed(TAKEN, source)),
            };
            self.store(&text, store, now_ms, drained)?;
            std::fs::remove_file(&taken).map_err(|source| self.failed(TAKEN, source))?;
        }
    }

    /// Renames the file that hooks write to, while none writes. Returns whether there was one, and
    /// nobody who has stopped in the middle of writing.
    fn take(&self) -> std::io::Result<bool> {
        let gate = open_lock(&self.file(GATE))?;
        if within(PATIENCE, || answer(gate.try_lock()))?.is_none() {
            return Ok(false);
        }
        match std::fs::rename(self.file(WAITING), self.file(TAKEN)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    fn store(
        &self,
        text: &[u8],
        store: &mut LocalStore,
        now_ms: i64,
        drained: &mut Drained,
    ) -> local_store::Result<()> {
        let lines = text.split(|byte| *byte == b'\n');
        let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
        for batch in lines.chunks(BATCH) {
            let mut events = Vec::with_capacity(batch.len());
            for line in batch {
                match serde_json::from_slice::<Event>(line) {
                    Ok(event) => events.push((*line, event)),
                    Err(_) => self.put_aside(line, drained),
                }
            }
            self.store_batch(events, store, now_ms, drained)?;
        }
        Ok(())
    }

    fn store_batch(
        &self,
        events: Vec<(&[u8], Event)>,
        store: &mut LocalStore,
        now_ms: i64,
        drained: &mut Drained,
    ) -> local_store::Result<()> {
        let (lines, events): (Vec<&[u8]>, Vec<Event>) = events.into_iter().unzip();
        match apply(store, &events, now_ms) {
            Ok(_) => {
                drained.events += events.len() as u64;
                return Ok(());
            }
            Err(error) if !is_refusal(&error) => return Err(error),
            Err(_) => {}
        }
        // One of them is refused for what it says; the others must not suffer for it.
        for (line, event) in lines.into_iter().zip(&events) {
            match apply(store, std::slice::from_ref(event), now_ms) {
                Ok(_) => drained.events += 1,
                Err(error) if is_refusal(&error) => self.put_aside(line, drained),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps a line that cannot be stored for looking at; it was redacted when it was written.
    fn put_aside(&self, line: &[u8], drained: &mut Drained) {
        drained.bad += 1;
        tracing::warn!(
            target: "coditect::hook",
            bytes = line.len(),
            "a line of the spool cannot be stored; it is put aside"
        );
        let mut options = OpenOptions::new();
        let opened = private(options.append(true).create(true)).open(self.file(BAD));
        let Ok(mut file) = opened else { return };
        if file.metadata().is_ok_and(|it| it.len() < BAD_BYTES_MAX) {
            let _ = file.write_all(&[line, b"\n"].concat());
        }
    }

    fn failed(&self, name: &str, source: std::io::Error) -> Error {
        let path = self.file(name);
        Error::Io { path, source }
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::UnknownTable(_) | Error::UnknownColumn { .. } | Error::MissingColumn { .. }
    )
}

/// Asks again until there is an answer, at most for a time; once at least.
fn within<T>(
    time: Duration,
    mut ask: impl FnMut() -> std::io::Result<Option<T>>,
) -> std::io::Result<Option<T>> {
    let began = Instant::now();
    loop {
        let answer = ask()?;
        if answer.is_some() || began.elapsed() >= time {
            return Ok(answer);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Returns whether a lock was given; none when another process has it.
fn answer(tried: Result<(), TryLockError>) -> std::io::Result<Option<()>> {
    match tried {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes a lock file; none when another process has it.
pub(super) fn lock(path: &Path) -> std::io::Result<Option<Handle>> {
    let file = open_lock(path)?;
    Ok(answer(file.try_lock())?.map(|()| file))
}

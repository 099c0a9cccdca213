//! Log files: `cloud-sync.log` with everything about requests and runs, `hooks.log` with what
//! hooks did, `sync-errors.log` with what went wrong. JSON lines, never content or tokens. Several
//! processes may write at once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, filter};

/// Size from which a file is put aside when it is opened, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files that are kept beside the current one.
const FILES_KEPT: u32 = 3;

/// Target of what hooks do, and of what they set going.
pub(crate) const HOOKS: &str = "coditect::hook";

/// Sends the program's events to the log files of the folder. Files appear with the first event.
pub(crate) fn start(folder: &Path) {
    // Fails when there is a subscriber already, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber(folder));
}

fn subscriber(folder: &Path) -> impl tracing::Subscriber + Send + Sync + use<> {
    let all = |level| filter::Targets::new().with_target("coditect", level);
    let sync = all(LevelFilter::INFO).with_target(HOOKS, LevelFilter::OFF);
    let hooks = filter::Targets::new().with_target(HOOKS, LevelFilter::INFO);
    Registry::default()
        .with(layer(folder.join("cloud-sync.log"), sync))
        .with(layer(folder.join("hooks.log"), hooks))
        .with(layer(
            folder.join("sync-errors.log"),
            all(LevelFilter::WARN),
        ))
}

fn layer<S>(path: PathBuf, targets: filter::Targets) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(LogFile::new(path, FILE_BYTES_MAX))
        .with_filter(targets)
}

/// A file that is opened when it is first needed, and put aside when it has grown too large.
/// What cannot be logged is dropped: a full disk must not stop the program from reading.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    /// Size as far as this process knows.
    bytes: u64,
    failed: bool,
}

impl LogFile {
    fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self {
            path,
            bytes_max,
            open: Mutex::default(),
        }
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        let mut current = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = current.bytes > self.bytes_max;
        if (current.file.is_none() || full) && !current.failed {
            current.file = None;
            let opened = open(&self.path, self.bytes_max);
            current.failed = opened.is_err();
            current.bytes = opened.as_ref().map_or(0, |(_, bytes)| *bytes);
            current.file = opened.ok().map(|(file, _)| file);
        }
        Line(current)
    }
}

/// Writes one event; the file is in append mode, so lines of several processes do not mix.
#[derive(Debug)]
struct Line<'a>(MutexGuard<'a, Open>);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = &mut self.0.file {
            let _ = file.write_all(bytes);
        }
        self.0.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens a file and returns its size, too.
fn open(path: &Path, bytes_max: u64) -> std::io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    rotate(path, bytes_max);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    Ok((file, bytes))
}

/// Puts a file that is too large aside: `.1` is the newest of the old ones.
fn rotate(path: &Path, bytes_max: u64) {
    let is_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > bytes_max);
    if !is_large {
        return;
    }
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    // Another process may do the same at this moment; a missing file is no reason to stop.
    for number in (1..FILES_KEPT).rev() {
        let _ = std::fs::rename(old(number), old(number + 1));
    }
    let _ = std::fs::rename(path, old(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud-sync.log");
        for round in 0..6 {
            std::fs::write(&path, format!("round {round}")).unwrap();
            rotate(&path, 3);
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("cloud-sync.log"), None);
        assert_eq!(read("cloud-sync.log.1").as_deref(), Some("round 5"));
        assert_eq!(read("cloud-sync.log.3").as_deref(), Some("round 3"));
        assert_eq!(read("cloud-sync.log.4"), None);
        std::fs::write(&path, "xy").unwrap();
        rotate(&path, 3);
        assert_eq!(read("cloud-sync.log").as_deref(), Some("xy"));
    }

    #[test]
    fn each_event_is_in_its_file_and_a_long_run_puts_files_aside() {
        let folder = tempfile::tempdir().unwrap();
        tracing::subscriber::with_default(subscriber(folder.path()), || {
            tracing::info!(target: "coditect::http", "a request");
            tracing::info!(target: HOOKS, "a hook");
            tracing::warn!(target: HOOKS, "a failed hook");
            tracing::error!(target: "other", "not ours");
        });
        let lines = |name: &str| {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            text.lines()
                .map(|line| {
                    let line: serde_json::Value = serde_json::from_str(line).unwrap();
                    line["message"].as_str().unwrap().to_owned()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("cloud-sync.log"), ["a request"]);
        assert_eq!(lines("hooks.log"), ["a hook", "a failed hook"]);
        assert_eq!(lines("sync-errors.log"), ["a failed hook"]);

        let long = LogFile::new(folder.path().join("long.log"), 100);
        for _ in 0..9 {
            long.make_writer().write_all(&[b'x'; 60]).unwrap();
        }
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert_eq!((size("long.log"), size("long.log.1")), (60, 120));
        assert!(!folder.path().join("long.log.5").exists());
    }
}

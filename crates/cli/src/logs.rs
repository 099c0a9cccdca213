//! Log files: `cloud-sync.log` with everything about requests and runs, `sync-errors.log` with
//! what went wrong. JSON lines, never content or tokens. Several processes may write at once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, filter};

/// Size from which a file is put aside when it is opened, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files that are kept beside the current one.
const FILES_KEPT: u32 = 3;

/// Sends the program's events to the log files of the folder. Files appear with the first event.
pub(crate) fn start(folder: &Path) {
    let subscriber = Registry::default()
        .with(layer(folder.join("cloud-sync.log"), LevelFilter::INFO))
        .with(layer(folder.join("sync-errors.log"), LevelFilter::WARN));
    // Fails when there is a subscriber already, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn layer<S>(path: PathBuf, level: LevelFilter) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(LogFile::new(path))
        .with_filter(filter::Targets::new().with_target("coditect", level))
}

/// A file that is opened when it is first needed. What cannot be logged is dropped: a full disk
/// must not stop the program from reading.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: OnceLock<Option<File>>,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: OnceLock::new(),
        }
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        let file = self.file.get_or_init(|| open(&self.path).ok());
        Line(file.as_ref())
    }
}

/// Writes one event; the file is in append mode, so lines of several processes do not mix.
#[derive(Debug)]
struct Line<'a>(Option<&'a File>);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(mut file) = self.0 {
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    rotate(path, FILE_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
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
}

//! Makes base backups: reads all files of the running PostgreSQL through `pg_basebackup`, packs
//! them, reads them back, and only then writes the manifest by which they count.

use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};
use coditect_backup::database::{
    self, Base, Entry, FORMAT, FORMAT_VERSION, Lsn, Packer, TarError, TarReader, Unpacker,
};
use coditect_backup::{Storage, Upload};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::{Archive, ArchiveError, wal};
use crate::state::Clock;

/// Most that is read in a second, so that pushes are not slowed down.
const KIB_PER_SECOND: u32 = 50 * 1024;
const PIECE_BYTES: usize = 256 * 1024;
/// PostgreSQL's own list of the files; longer for some hundred thousand of them.
const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longest time until the WAL of a base backup is in the archive.
const WAL_SECONDS_MAX: u64 = 900;

/// Who keeps the WAL while a base backup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetching {
    /// Somebody else.
    Elsewhere,
    /// The one who makes the base backup.
    Here,
}

/// Makes a base backup and returns its manifest.
///
/// # Errors
/// [`ArchiveError`]; nothing then counts as one.
pub async fn make(
    archive: &Archive,
    clock: &Clock,
    fetching: Fetching,
) -> Result<Base, ArchiveError> {
    let started_at = clock.now();
    let archive_id = archive.id();
    wal::begin(archive, started_at).await?;
    let id = started_at.format("%Y%m%dT%H%M%S%3fZ").to_string();
    let path = database::base_path(archive_id, &id);
    let made = async {
        let written = write(archive, &path).await?;
        let finished_at = clock.now();
        wait_for_wal(archive, archive_id, clock, fetching, &written).await?;
        check(&archive.storage, &path, &written).await?;
        Ok(manifest(
            archive,
            archive_id,
            id,
            (started_at, finished_at),
            written,
        ))
    };
    let base = match made.await {
        Ok(base) => base,
        Err(error) => {
            // Without its manifest it is none, and goes with the next look for such.
            let _ = archive.storage.remove(&path).await;
            return Err(error);
        }
    };
    let path = database::manifest_path(archive_id, &base.id);
    let text = serde_json::to_vec_pretty(&base).map_err(|error| ArchiveError::Damaged {
        path: path.clone(),
        source: error.into(),
    })?;
    archive.storage.write(&path, text).await?;
    archive.note(|status| status.base_at = Some(base.finished_at));
    tracing::info!(
        archive.id = %archive_id, base.id = base.id, base.bytes = base.size_bytes,
        "base backup of the database completed"
    );
    Ok(base)
}

fn manifest(
    archive: &Archive,
    archive_id: Uuid,
    id: String,
    times: (DateTime<Utc>, DateTime<Utc>),
    written: Written,
) -> Base {
    Base {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        id,
        archive_id,
        system_identifier: written.system_identifier,
        postgres_major: archive.program.major,
        timeline: written.range.timeline,
        start_lsn: written.range.start_lsn,
        end_lsn: written.range.end_lsn,
        started_at: times.0,
        finished_at: times.1,
        size_bytes: written.bytes,
        checksum: written.checksum,
    }
}

/// What is known of a base backup once it is written.
struct Written {
    system_identifier: u64,
    range: Range,
    bytes: u64,
    checksum: String,
}

/// The WAL that a base backup needs, as PostgreSQL's list of its files says.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Range {
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start_lsn: Lsn,
    #[serde(rename = "End-LSN")]
    end_lsn: Lsn,
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
}

async fn write(archive: &Archive, path: &str) -> Result<Written, ArchiveError> {
    let mut command = Command::from(archive.program.command(KIB_PER_SECOND));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(ArchiveError::file("run", "pg_basebackup"))?;
    let mut upload = archive.storage.upload(path)?;
    match copy(&mut child, &mut upload).await {
        Ok(written) => {
            upload.finish().await?;
            Ok(written)
        }
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

async fn copy(child: &mut Child, upload: &mut Upload) -> Result<Written, ArchiveError> {
    let (Some(mut out), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ArchiveError::Interrupted);
    };
    let said = tokio::spawn(async move {
        let mut text = Vec::new();
        let read = errors.read_to_end(&mut text).await;
        read.map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let packing = || ArchiveError::file("pack", "the base backup");
    let mut packer = Packer::new().map_err(packing())?;
    let (mut tar, mut seen) = (TarReader::default(), Seen::default());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = out.read(&mut piece).await;
        let length = read.map_err(ArchiveError::file("read from", "pg_basebackup"))?;
        if length == 0 {
            break;
        }
        let piece = &piece[..length];
        tar.feed(piece, |entry| seen.take(&entry))?;
        upload.write(packer.feed(piece).map_err(packing())?).await?;
    }
    let status = child.wait().await;
    let status = status.map_err(ArchiveError::file("watch", "pg_basebackup"))?;
    let said = said.await.ok().and_then(Result::ok).unwrap_or_default();
    if !status.success() {
        let detail = said.trim().to_owned();
        return Err(ArchiveError::Program { detail });
    }
    tar.finish()?;
    let (last, bytes, checksum) = packer.finish().map_err(packing())?;
    upload.write(last).await?;
    let (system_identifier, range) = seen.found()?;
    Ok(Written {
        system_identifier,
        range,
        bytes,
        checksum,
    })
}

/// What a base backup says about itself: two of its files.
#[derive(Default)]
struct Seen {
    open: Option<&'static str>,
    control: Vec<u8>,
    list: Vec<u8>,
}

const CONTROL: &str = "global/pg_control";
const LIST: &str = "backup_manifest";

impl Seen {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), ArchiveError> {
        match entry {
            Entry::File { path, bytes } => {
                self.open = [CONTROL, LIST].into_iter().find(|it| it == path);
                if self.open == Some(LIST) && *bytes > LIST_BYTES_MAX {
                    return Err(TarError::Header.into());
                }
            }
            Entry::Bytes(bytes) => match self.open {
                Some(CONTROL) => self.control.extend_from_slice(bytes),
                Some(_) => self.list.extend_from_slice(bytes),
                None => {}
            },
            Entry::Folder(_) | Entry::End => self.open = None,
        }
        Ok(())
    }

    /// Returns PostgreSQL's name for the database, the first bytes of its control file, and the WAL
    /// that is needed.
    fn found(&self) -> Result<(u64, Range), ArchiveError> {
        let first = self.control.first_chunk().ok_or(TarError::Incomplete)?;
        let list: Option<List> = serde_json::from_slice(&self.list).ok();
        let range = list.and_then(|list| list.ranges.last().copied());
        Ok((
            u64::from_ne_bytes(*first),
            range.ok_or(TarError::Incomplete)?,
        ))
    }
}

/// Waits until everything is in the archive that makes the files of the base backup fit together.
async fn wait_for_wal(
    archive: &Archive,
    id: Uuid,
    clock: &Clock,
    fetching: Fetching,
    written: &Written,
) -> Result<(), ArchiveError> {
    let Range {
        timeline, end_lsn, ..
    } = written.range;
    let waited = async {
        loop {
            if fetching == Fetching::Here {
                wal::fetch(archive, || clock.now()).await?;
            }
            if archive.id() != id {
                return Err(ArchiveError::Replaced);
            }
            if wal::is_kept(archive, id, timeline, end_lsn.segment_before()).await? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(WAL_SECONDS_MAX), waited).await {
        Ok(waited) => waited,
        Err(_) => Err(ArchiveError::WalMissing {
            seconds: WAL_SECONDS_MAX,
        }),
    }
}

/// Reads the base backup back from where it is kept.
async fn check(storage: &Storage, path: &str, written: &Written) -> Result<(), ArchiveError> {
    let (bytes, checksum) = read(storage, path, |_| Ok(())).await?;
    if (bytes, &checksum) == (written.bytes, &written.checksum) {
        return Ok(());
    }
    let path = path.to_owned();
    Err(ArchiveError::Different { path })
}

/// Unpacks a base backup, hands its bytes to `each`, and returns how many there were with which
/// checksum.
///
/// # Errors
/// [`ArchiveError::Damaged`], those of the storage, and what `each` returns.
pub async fn read(
    storage: &Storage,
    path: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(u64, String), ArchiveError> {
    let damaged = || {
        let path = path.to_owned();
        |source| ArchiveError::Damaged { path, source }
    };
    let mut unpacker = Unpacker::new().map_err(damaged())?;
    let mut pieces = std::pin::pin!(storage.download(path).await?);
    while let Some(piece) = pieces.try_next().await? {
        for part in piece.chunks(16 * 1024) {
            each(&unpacker.feed(part).map_err(damaged())?)?;
        }
    }
    let (last, bytes, checksum) = unpacker.finish().map_err(damaged())?;
    each(&last)?;
    Ok((bytes, checksum))
}

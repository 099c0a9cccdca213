//! Fetches the write-ahead log (WAL) from the spool: packs each piece, keeps it, reads it back, and
//! only then removes it from the spool.

use std::io::{self, ErrorKind};

use chrono::{DateTime, Utc};
use coditect_backup::Upload;
use coditect_backup::database::{self, Head, Packer, SEGMENT_BYTES, WalName};
use coditect_server_store::embedded::Waiting;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use super::{Archive, ArchiveError, base, blocking};

/// What is held of a piece at once, so that the server stays small beside a busy database.
const PART_BYTES: usize = 128 * 1024;

/// Keeps all that waits, in order; returns how many pieces.
///
/// # Errors
/// Those of the storage and of the spool. What was not kept stays in the spool.
pub async fn fetch(
    archive: &Archive,
    now: impl Fn() -> DateTime<Utc>,
) -> Result<u64, ArchiveError> {
    let spool = archive.spool.clone();
    let waiting = blocking(move || Ok(spool.waiting()?)).await?;
    let mut kept = 0;
    for one in waiting {
        if WalName::parse(&one.name).is_none() {
            tracing::warn!(
                wal.name = one.name,
                "no piece of a write-ahead log, left alone"
            );
            continue;
        }
        keep(archive, one, now()).await?;
        archive.note(|status| status.wal_kept_at = Some(now()));
        kept += 1;
    }
    Ok(kept)
}

/// Writes the archive's head unless it is there: others find it by that.
///
/// # Errors
/// Those of the storage.
pub async fn begin(archive: &Archive, now: DateTime<Utc>) -> Result<(), ArchiveError> {
    let record = archive.record();
    let path = database::head_path(record.archive_id);
    if archive.storage.has(&path).await? {
        return Ok(());
    }
    let head = Head::new(record.archive_id, record.parent_id, now);
    let text = serde_json::to_vec(&head).map_err(|error| ArchiveError::Damaged {
        path: path.clone(),
        source: error.into(),
    })?;
    archive.storage.write(&path, text).await?;
    tracing::info!(archive.id = %record.archive_id, "an archive of the database begins");
    Ok(())
}

/// Returns whether the segment is in the archive.
///
/// # Errors
/// Those of the storage.
pub async fn is_kept(
    archive: &Archive,
    id: Uuid,
    timeline: u32,
    number: u64,
) -> Result<bool, ArchiveError> {
    let path = database::wal_path(id, &WalName::segment(timeline, number));
    Ok(archive.storage.has(&path).await?)
}

/// Returns the content of a piece that is kept.
///
/// # Errors
/// [`ArchiveError::Damaged`], and those of the storage.
pub async fn read(storage: &coditect_backup::Storage, path: &str) -> Result<Vec<u8>, ArchiveError> {
    let mut content = Vec::new();
    let read = base::read(storage, path, |part| {
        content.extend_from_slice(part);
        if content.len() as u64 <= SEGMENT_BYTES {
            return Ok(());
        }
        let source = io::Error::new(ErrorKind::InvalidData, "it is longer than a segment");
        let path = path.to_owned();
        Err(ArchiveError::Damaged { path, source })
    });
    read.await?;
    Ok(content)
}

async fn keep(archive: &Archive, waiting: Waiting, now: DateTime<Utc>) -> Result<(), ArchiveError> {
    let is_segment = matches!(
        WalName::parse(&waiting.name),
        Some(WalName::Segment { .. } | WalName::Partial { .. })
    );
    let bytes = waiting.open()?.1;
    if bytes > SEGMENT_BYTES || is_segment && bytes != SEGMENT_BYTES {
        let name = waiting.name;
        return Err(ArchiveError::SegmentSize { name, bytes });
    }
    begin(archive, now).await?;
    let mut path = database::wal_path(archive.id(), &waiting.name);
    match kept_already(archive, &path, &waiting).await? {
        Kept::Same => {}
        Kept::Another => {
            let next = archive.replace()?;
            tracing::warn!(
                archive.id = %next.archive_id, wal.name = waiting.name,
                "the database was set back, or is a copy: its archive begins anew"
            );
            begin(archive, now).await?;
            path = database::wal_path(next.archive_id, &waiting.name);
            write(archive, &path, &waiting).await?;
        }
        Kept::Not => write(archive, &path, &waiting).await?,
    }
    blocking(move || Ok(waiting.remove()?)).await
}

/// Packs the piece into the storage, and reads it back from there.
async fn write(archive: &Archive, path: &str, waiting: &Waiting) -> Result<(), ArchiveError> {
    let mut upload = archive.storage.upload(path)?;
    let written = match pack(waiting, Some(&mut upload)).await {
        Ok(written) => written,
        Err(error) => {
            upload.abort().await;
            return Err(error);
        }
    };
    upload.finish().await?;
    let read = base::read(&archive.storage, path, |_| Ok(())).await?;
    if read == written {
        return Ok(());
    }
    let path = path.to_owned();
    Err(ArchiveError::Different { path })
}

/// Packs the piece, into the upload if there is one; returns its bytes and checksum.
async fn pack(
    waiting: &Waiting,
    mut upload: Option<&mut Upload>,
) -> Result<(u64, String), ArchiveError> {
    let failed = || ArchiveError::file("pack", &waiting.name);
    let mut packer = Packer::new().map_err(failed())?;
    let mut file = File::from_std(waiting.open()?.0);
    let mut part = vec![0; PART_BYTES];
    loop {
        let length = file.read(&mut part).await.map_err(failed())?;
        if length == 0 {
            break;
        }
        let packed = packer.feed(&part[..length]).map_err(failed())?;
        if let Some(upload) = &mut upload {
            upload.write(packed).await?;
        }
    }
    let (last, bytes, checksum) = packer.finish().map_err(failed())?;
    if let Some(upload) = upload {
        upload.write(last).await?;
    }
    Ok((bytes, checksum))
}

enum Kept {
    Not,
    Same,
    Another,
}

/// Looks whether the piece is kept already: by an attempt that was cut off before it left the
/// spool, or because the same name was written twice.
async fn kept_already(
    archive: &Archive,
    path: &str,
    waiting: &Waiting,
) -> Result<Kept, ArchiveError> {
    if !archive.storage.has(path).await? {
        return Ok(Kept::Not);
    }
    match base::read(&archive.storage, path, |_| Ok(())).await {
        Ok(kept) if kept == pack(waiting, None).await? => Ok(Kept::Same),
        Ok(_) => Ok(Kept::Another),
        // Written again, it is whole.
        Err(ArchiveError::Damaged { .. }) => Ok(Kept::Not),
        Err(error) if error.key_is_missing() => Ok(Kept::Another),
        Err(error) => Err(error),
    }
}

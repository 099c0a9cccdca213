//! Fetches the write-ahead log (WAL) from the spool: packs each piece, keeps it, and only then
//! removes it from the spool.

use chrono::{DateTime, Utc};
use coditect_backup::database::{self, Head, SEGMENT_BYTES, WalName};
use coditect_server_store::embedded::Waiting;
use uuid::Uuid;

use super::{Archive, ArchiveError, blocking};

/// A packed segment is no longer than this, encrypted.
const KEPT_BYTES_MAX: usize = 2 * SEGMENT_BYTES as usize;

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
    let packed = storage.read(path, KEPT_BYTES_MAX).await?;
    let path = path.to_owned();
    blocking(move || {
        let content = database::unpack(&packed, SEGMENT_BYTES as usize);
        content.map_err(|source| ArchiveError::Damaged { path, source })
    })
    .await
}

async fn keep(archive: &Archive, waiting: Waiting, now: DateTime<Utc>) -> Result<(), ArchiveError> {
    let (waiting, content, packed) = blocking(move || {
        let content = waiting.read(SEGMENT_BYTES)?;
        let is_segment = matches!(
            WalName::parse(&waiting.name),
            Some(WalName::Segment { .. } | WalName::Partial { .. })
        );
        if is_segment && content.len() as u64 != SEGMENT_BYTES {
            return Err(ArchiveError::SegmentSize {
                name: waiting.name,
                bytes: content.len() as u64,
            });
        }
        let packed = database::pack(&content).map_err(ArchiveError::file("pack", &waiting.name))?;
        Ok((waiting, content, packed))
    })
    .await?;
    begin(archive, now).await?;
    let mut path = database::wal_path(archive.id(), &waiting.name);
    match kept_already(archive, &path, &content).await? {
        Kept::Same => {}
        Kept::Another => {
            let next = archive.replace()?;
            tracing::warn!(
                archive.id = %next.archive_id, wal.name = waiting.name,
                "the database was set back, or is a copy: its archive begins anew"
            );
            begin(archive, now).await?;
            path = database::wal_path(next.archive_id, &waiting.name);
            archive.storage.write(&path, packed).await?;
        }
        Kept::Not => archive.storage.write(&path, packed).await?,
    }
    blocking(move || Ok(waiting.remove()?)).await
}

enum Kept {
    Not,
    Same,
    Another,
}

/// Looks whether the piece is kept already: by an attempt that was cut off before it left the
/// spool, or because the same name was written twice.
async fn kept_already(archive: &Archive, path: &str, content: &[u8]) -> Result<Kept, ArchiveError> {
    if !archive.storage.has(path).await? {
        return Ok(Kept::Not);
    }
    match read(&archive.storage, path).await {
        Ok(kept) if kept == content => Ok(Kept::Same),
        Ok(_) => Ok(Kept::Another),
        // Written again, it is whole.
        Err(ArchiveError::Damaged { .. }) => Ok(Kept::Not),
        Err(error) if error.key_is_missing() => Ok(Kept::Another),
        Err(error) => Err(error),
    }
}

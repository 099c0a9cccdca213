//! What lies in an archive.

use coditect_backup::database::{self, Base, Head};
use coditect_backup::{Storage, Stored};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use super::ArchiveError;

/// A head is a few hundred bytes, a manifest a thousand; what is longer is neither.
const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What it is.
    pub head: Head,
    /// Its base backups, oldest first.
    pub bases: Vec<Base>,
    /// Files of the WAL by their names, in order.
    pub wal: Vec<(String, Stored)>,
    /// Base backups, also of attempts that came to no manifest.
    pub tars: Vec<Stored>,
}

/// Returns the ids of all archives.
///
/// # Errors
/// Those of the storage.
pub async fn archives(storage: &Storage) -> Result<Vec<Uuid>, ArchiveError> {
    let mut found = std::pin::pin!(storage.list(database::FOLDER));
    let mut ids = Vec::new();
    while let Some(one) = found.try_next().await? {
        ids.extend(database::archive_of_head(&one.path));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Reads an archive's head; none when there is none.
///
/// # Errors
/// Those of the storage; [`ArchiveError::Manifest`].
pub async fn head(storage: &Storage, id: Uuid) -> Result<Option<Head>, ArchiveError> {
    let path = database::head_path(id);
    if !storage.has(&path).await? {
        return Ok(None);
    }
    let text = storage.read(&path, MANIFEST_BYTES_MAX).await?;
    Ok(Some(database::parse_head(&path, &text)?))
}

/// Returns what an archive holds.
///
/// # Errors
/// [`ArchiveError::NoArchive`], [`ArchiveError::Manifest`], those of the storage.
pub async fn contents(storage: &Storage, id: Uuid) -> Result<Contents, ArchiveError> {
    let head = head(storage, id).await?;
    let head = head.ok_or(ArchiveError::NoArchive(id))?;
    let (mut bases, mut tars, mut wal) = (Vec::new(), Vec::new(), Vec::new());
    let found: Vec<Stored> = storage
        .list(&database::bases_folder(id))
        .try_collect()
        .await?;
    for one in found {
        if one.path.ends_with(".json") {
            let text = storage.read(&one.path, MANIFEST_BYTES_MAX).await?;
            bases.push(database::parse_base(&one.path, &text)?);
        } else {
            tars.push(one);
        }
    }
    let mut found = std::pin::pin!(storage.list(&database::wal_folder(id)));
    while let Some(one) = found.try_next().await? {
        if let Some(name) = database::wal_of_path(&one.path) {
            wal.push((name.to_owned(), one));
        }
    }
    bases.sort_by_key(|base| base.finished_at);
    wal.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(Contents {
        head,
        bases,
        wal,
        tars,
    })
}

/// Returns an archive and those that it goes on from, in this order.
///
/// # Errors
/// As [`contents`].
pub async fn lineage(storage: &Storage, id: Uuid) -> Result<Vec<Contents>, ArchiveError> {
    let mut all: Vec<Contents> = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        // A parent whose time is over is no loss; the one that was asked for is.
        let found = match contents(storage, id).await {
            Err(ArchiveError::NoArchive(_)) if !all.is_empty() => break,
            found => found?,
        };
        next = found.head.parent_id;
        next = next.filter(|id| all.iter().all(|it| it.head.archive_id != *id));
        all.push(found);
    }
    Ok(all)
}

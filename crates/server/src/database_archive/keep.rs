//! Removes what has had its time.

use chrono::{DateTime, TimeDelta, Utc};
use coditect_backup::Storage;
use coditect_backup::database::{self, Base, KEPT_DAYS};
use uuid::Uuid;

use super::contents::{Contents, contents};
use super::{Archive, ArchiveError};

/// How old a base backup without a manifest must be before it counts as left behind.
const LEFT_AFTER: TimeDelta = TimeDelta::days(1);

/// Removes what no recovery within the last days needs; returns how many files.
///
/// # Errors
/// Those of the storage. What could not be removed is tried again the next time.
pub async fn expire(archive: &Archive, now: DateTime<Utc>) -> Result<u64, ArchiveError> {
    let (storage, record) = (&archive.storage, archive.record());
    let own = contents(storage, record.archive_id).await?;
    let names: Vec<String> = own.wal.iter().map(|(name, _)| name.clone()).collect();
    let gone = database::expired(&own.bases, &names, now);
    let mut paths = Vec::new();
    for base in &gone.bases {
        // Without its manifest it is none: a recovery never begins with half of one.
        paths.push(database::manifest_path(record.archive_id, base));
        paths.push(database::base_path(record.archive_id, base));
    }
    let named = |path: &str| {
        let path_of = |base: &Base| database::base_path(record.archive_id, &base.id);
        own.bases.iter().any(|base| path_of(base) == path)
    };
    let left = own.tars.iter().filter(|it| it.modified < now - LEFT_AFTER);
    paths.extend(left.filter(|it| !named(&it.path)).map(|it| it.path.clone()));
    let wal = gone.wal.iter();
    paths.extend(wal.map(|name| database::wal_path(record.archive_id, name)));
    let mut removed = remove(storage, &paths).await?;
    let since = now - TimeDelta::days(KEPT_DAYS);
    if own.bases.iter().any(|base| base.finished_at <= since) {
        for former in record.former {
            removed += expire_former(storage, former, since).await?;
        }
    }
    if removed > 0 {
        tracing::info!(
            archive.removed = removed,
            "removed what had its time from the archive"
        );
    }
    Ok(removed)
}

/// Removes an archive that nobody goes on with, once all of it is older than `since`.
async fn expire_former(
    storage: &Storage,
    id: Uuid,
    since: DateTime<Utc>,
) -> Result<u64, ArchiveError> {
    let found = match contents(storage, id).await {
        Err(ArchiveError::NoArchive(_)) => return Ok(0),
        found => found?,
    };
    let Contents {
        bases, wal, tars, ..
    } = found;
    let files = wal.iter().map(|(_, stored)| stored).chain(&tars);
    if files.map(|stored| stored.modified).any(|it| it > since) {
        return Ok(0);
    }
    let mut paths: Vec<String> = bases
        .iter()
        .map(|base| database::manifest_path(id, &base.id))
        .collect();
    paths.extend(tars.into_iter().map(|it| it.path));
    paths.extend(wal.into_iter().map(|(_, stored)| stored.path));
    // The head last: by it the rest is found again.
    paths.push(database::head_path(id));
    remove(storage, &paths).await
}

async fn remove(storage: &Storage, paths: &[String]) -> Result<u64, ArchiveError> {
    for path in paths {
        storage.remove(path).await?;
    }
    Ok(paths.len() as u64)
}

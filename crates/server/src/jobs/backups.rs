//! Writes the backups that were asked for: claims one, reads its stream, packs it, reads the
//! archive back, and only then calls it complete. Asks for those of the schedule, and removes
//! those that have had their time.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use coditect_backup::{
    ArchiveError, CounterPart, FORMAT, FORMAT_VERSION, Kind, Manifest, Reader, Record, Sealed,
    Storage, StorageError, Upload, Writer,
};
use coditect_core::canonical;
use coditect_core::digest::Digest;
use coditect_protocol::OrganizationId;
use coditect_server_store::StoreError;
use coditect_server_store::backups::{self, Completed, Job, retention, schedule};
use coditect_server_store::sync::{ArchivedPart, ArchivedRow, archive};
use futures_util::TryStreamExt as _;

use super::pace::Pace;
use super::quiet;
use crate::backups::Backups;
use crate::state::AppState;

/// How often the job looks for work that nobody woke it for: another server's.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pieces of the stream between two signs of life.
const PIECES_PER_RENEWAL: u32 = 20;

/// How often orphans are looked for.
const SWEEP_AGAIN: TimeDelta = TimeDelta::hours(6);
/// How old an archive without a backup must be before it counts as left behind. No attempt takes
/// as long.
const ORPHANS_AFTER: TimeDelta = TimeDelta::days(1);
/// Archives of one tenant that are looked up at once.
const PATHS_AT_ONCE: usize = 500;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was written cannot be read back.
    #[error("the archive cannot be read back")]
    Archive(#[from] ArchiveError),
    /// What was read back is not what was written.
    #[error("the archive that was read back is another one")]
    Different,
    /// The database was set back meanwhile.
    #[error("the database was set back while the backup was taken")]
    EpochChanged,
    /// Another server took the job over.
    #[error("another server took the job over")]
    TakenOver,
    /// A piece was not packed or unpacked to its end.
    #[error(transparent)]
    Cut(#[from] quiet::Cut),
}

/// Does what there is to do, and waits for more, until the server stops.
pub async fn run(state: AppState, backups: Backups) {
    let mut sweep_at = state.clock.now();
    loop {
        if let Err(error) = keep_schedule(&state, &backups).await {
            tracing::warn!(%error, "cannot keep the schedule of backups");
        }
        if state.clock.now() >= sweep_at {
            if let Err(error) = sweep(&state, &backups).await {
                tracing::warn!(
                    error = causes(&error),
                    "cannot look for archives left behind"
                );
            }
            sweep_at = state.clock.now() + SWEEP_AGAIN;
        }
        if let Err(error) = run_pending(&state, &backups).await {
            tracing::warn!(%error, "cannot look for backups to write");
        }
        // Woken, or time to look: both mean the same.
        let _ = tokio::time::timeout(LOOK_AGAIN, backups.woken()).await;
    }
}

/// Asks for the backups that are due, and removes the archives that have had their time.
///
/// # Errors
/// Those of the database. An archive that cannot be removed is tried again the next time.
pub async fn keep_schedule(state: &AppState, backups: &Backups) -> Result<(), StoreError> {
    let now = state.clock.now();
    schedule::ask_for_due(&state.db, now).await?;
    loop {
        let (expired, mut removed) = (retention::expired(&state.db, now).await?, 0);
        for one in &expired {
            match backups.storage.remove(&one.path).await {
                Ok(()) => {
                    retention::forget(&state.db, one).await?;
                    tracing::info!(backup.id = %one.id, "backup expired and removed");
                    removed += 1;
                }
                Err(error) => {
                    tracing::warn!(backup.id = %one.id, %error, "cannot remove an old backup");
                }
            }
        }
        // Each round uncovers the backups that those removed went on from.
        if removed == 0 {
            return Ok(());
        }
    }
}

/// Removes archives that no backup names, and unfinished ones: what attempts left that were cut
/// off, by a crash for instance. Young ones may be somebody's who is at work, and stay. Returns
/// how many were removed.
///
/// # Errors
/// Those of the database and the storage.
pub async fn sweep(state: &AppState, backups: &Backups) -> Result<u64, BackupError> {
    let before = state.clock.now() - ORPHANS_AFTER;
    let storage = &backups.storage;
    let mut removed = storage.remove_unfinished(before).await?;
    let mut waiting: BTreeMap<OrganizationId, Vec<String>> = BTreeMap::new();
    let mut found = std::pin::pin!(storage.older("tenants", before));
    while let Some(path) = found.try_next().await? {
        let Some(tenant) = tenant_of(&path) else {
            continue;
        };
        let paths = waiting.entry(tenant).or_default();
        paths.push(path);
        if paths.len() >= PATHS_AT_ONCE {
            let paths = std::mem::take(paths);
            removed += remove_unnamed(state, storage, tenant, &paths).await?;
        }
    }
    for (tenant, paths) in waiting {
        removed += remove_unnamed(state, storage, tenant, &paths).await?;
    }
    if removed > 0 {
        state.metrics.orphans_removed(removed);
        tracing::warn!(
            backup.orphans = removed,
            "removed archives that attempts had left behind"
        );
    }
    Ok(removed)
}

/// Returns whose archive lies at the path; none where something else does.
fn tenant_of(path: &str) -> Option<OrganizationId> {
    let below = path
        .strip_prefix("tenants/")?
        .strip_suffix(backups::ENDING)?;
    let (tenant, _) = below.split_once('/')?;
    Some(OrganizationId::new(tenant.parse().ok()?))
}

async fn remove_unnamed(
    state: &AppState,
    storage: &Storage,
    tenant: OrganizationId,
    paths: &[String],
) -> Result<u64, BackupError> {
    let unnamed = retention::unnamed(&state.db, tenant, paths).await?;
    for path in &unnamed {
        storage.remove(path).await?;
    }
    Ok(unnamed.len() as u64)
}

/// Carries out all jobs that nobody works on; returns how many were completed.
///
/// # Errors
/// Those of the database while jobs are claimed. A job that fails is recorded as such.
pub async fn run_pending(state: &AppState, backups: &Backups) -> Result<u64, StoreError> {
    let mut completed = 0;
    while let Some(job) = backups::claim(&state.db, state.clock.now()).await? {
        match carry_out(state, backups, &job).await {
            Ok(()) => completed += 1,
            Err(BackupError::TakenOver) => {}
            Err(error) => {
                let reason = causes(&error);
                tracing::error!(backup.id = %job.id, attempt = job.attempt, error = reason,
                    "backup failed");
                backups::fail(&state.db, &job, &reason, state.clock.now()).await?;
            }
        }
    }
    Ok(completed)
}

/// Returns the error and what is behind it, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Many libraries repeat the cause in their own text.
    texts.dedup_by(|next, shown| shown.contains(next.as_str()));
    texts.join(": ")
}

async fn carry_out(state: &AppState, backups: &Backups, job: &Job) -> Result<(), BackupError> {
    let storage = &backups.storage;
    // A path of its own for each attempt: two servers that both think the job theirs must not
    // write one file.
    let path = job.archive_path();
    let mut upload = storage.upload(&path)?;
    let (to, digest, sealed) = match write(state, job, &mut upload, backups.bytes_per_second).await
    {
        Ok(written) => written,
        Err(error) => {
            upload.abort().await;
            return Err(error);
        }
    };
    upload.finish().await?;
    let checked = check(storage, &path, &sealed).await;
    let done = Completed {
        path: path.clone(),
        to,
        size_bytes: sealed.size_bytes.try_into().unwrap_or(i64::MAX),
        record_count: sealed.records.try_into().unwrap_or(i64::MAX),
        checksum: sealed.checksum,
        key_id: storage.key_id(),
        digest,
    };
    let recorded = match checked {
        Ok(()) => backups::complete(&state.db, job, &done, state.clock.now()).await,
        Err(error) => {
            storage.remove(&path).await?;
            return Err(error);
        }
    };
    if !recorded? {
        storage.remove(&path).await?;
        return Err(BackupError::TakenOver);
    }
    tracing::info!(backup.id = %job.id, backup.records = done.record_count, "backup completed");
    Ok(())
}

/// Packs the stream behind the job's position to its head.
async fn write(
    state: &AppState,
    job: &Job,
    upload: &mut Upload,
    bytes_per_second: Option<u64>,
) -> Result<(i64, Digest, Sealed), BackupError> {
    let pace = Pace::new(bytes_per_second);
    let mut writer = Writer::new(Manifest {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        backup_id: job.id,
        tenant_id: job.tenant,
        scope: job.scope,
        kind: if job.base.is_some() {
            Kind::Incremental
        } else {
            Kind::Full
        },
        base_id: job.base,
        epoch: job.epoch,
        from: job.from,
        created_at: canonical::time_from_ms(state.clock.now().timestamp_millis()),
    });
    let (mut from, mut pieces) = (job.from, 0);
    let digest = loop {
        let piece = archive::piece(&state.db, job.tenant, job.scope, from).await?;
        if piece.epoch != job.epoch {
            return Err(BackupError::EpochChanged);
        }
        let mut rows = Vec::with_capacity(piece.rows.len());
        for mut row in piece.rows {
            archive::whole(&state.db, job.tenant, job.scope, &mut row).await?;
            rows.push(record(row));
        }
        // Packing takes longer than a thread that answers requests may be held.
        let (packer, packed) = quiet::run(move || {
            for row in rows {
                writer.record(row);
            }
            let packed = writer.take();
            (writer, packed)
        })
        .await?;
        writer = packer;
        upload.write(packed).await?;
        pace.keep(writer.bytes()).await;
        from = piece.to;
        if let Some(digest) = piece.digest.filter(|_| piece.at_head) {
            break digest;
        }
        pieces += 1;
        if pieces % PIECES_PER_RENEWAL == 0
            && !backups::renew(&state.db, job, state.clock.now()).await?
        {
            return Err(BackupError::TakenOver);
        }
    };
    let (last, sealed) = writer.finish(from);
    upload.write(last).await?;
    Ok((from, digest, sealed))
}

/// Returns a row as archives and spools have it.
pub(crate) fn record(row: ArchivedRow) -> Record {
    let part = |part: ArchivedPart| CounterPart {
        device: part.device,
        seq: part.seq,
        total: part.total,
    };
    let counters = row.parts.into_iter();
    Record {
        stored: row.stored,
        counters: counters
            .map(|(column, parts)| (column, parts.into_iter().map(part).collect()))
            .collect(),
    }
}

/// Reads the archive back from where it is kept.
async fn check(storage: &Storage, path: &str, written: &Sealed) -> Result<(), BackupError> {
    let mut reader = Reader::default();
    let mut pieces = std::pin::pin!(storage.download(path).await?);
    while let Some(piece) = pieces.try_next().await? {
        let fed = quiet::run(move || {
            let fed = reader.feed(&piece, &mut |_, _| Ok::<_, ArchiveError>(()));
            fed.map(|()| reader)
        });
        reader = fed.await??;
    }
    let (_, _, read) = reader.finish(&mut |_, _| Ok::<_, ArchiveError>(()))?;
    if read == *written {
        Ok(())
    } else {
        Err(BackupError::Different)
    }
}

//! Keeps the archive of the embedded PostgreSQL: fetches the write-ahead log (WAL) as it comes, has
//! a base backup made once a day, and removes what has had its time.

use std::time::Duration;

use chrono::TimeDelta;

use super::backups::causes;
use crate::database_archive::base::{self, Fetching};
use crate::database_archive::{Archive, ArchiveError, contents, keep, wal};
use crate::state::Clock;

/// How often the spool is looked into.
const TICK: Duration = Duration::from_secs(2);
/// Time from the start to the first base backup of an archive: a server that only starts for a
/// moment makes none.
const FIRST_BASE_AFTER: Duration = Duration::from_secs(120);
/// How often it is looked whether a base backup is due.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Age of the last base backup at which the next one is made.
const BASE_EVERY: TimeDelta = TimeDelta::days(1);
/// Longest pause after attempts that failed.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Longest time for what the stopped PostgreSQL handed over last.
const LAST_FETCH: Duration = Duration::from_secs(10);

/// Fetches the WAL and makes base backups until the server stops. Nobody else may fetch meanwhile.
pub async fn run(archive: Archive, clock: Clock) {
    let fetching = fetch(archive.clone(), clock.clone());
    tokio::join!(fetching, make_bases(archive, clock));
}

async fn fetch(archive: Archive, clock: Clock) {
    let mut is_failing = false;
    loop {
        match wal::fetch(&archive, || clock.now()).await {
            Ok(_) => is_failing = false,
            Err(error) if is_failing => {
                tracing::debug!(error = causes(&error), "cannot archive yet");
            }
            Err(error) => {
                is_failing = true;
                tracing::error!(
                    error = causes(&error),
                    "the database's log cannot be archived; it waits beside the data and is tried \
                     again"
                );
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn make_bases(archive: Archive, clock: Clock) {
    tokio::time::sleep(FIRST_BASE_AFTER).await;
    let mut failures = 0;
    loop {
        let pause = match make_due(&archive, &clock).await {
            Ok(()) => {
                failures = 0;
                LOOK_AGAIN
            }
            Err(error) => {
                failures += 1;
                tracing::error!(
                    error = causes(&error),
                    "no base backup of the database was made; tried again"
                );
                pause_after(failures)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Makes a base backup if it is time, and then removes what is not needed any more.
async fn make_due(archive: &Archive, clock: &Clock) -> Result<(), ArchiveError> {
    if !archive.status().is_known {
        look_up(archive).await?;
    }
    let due = clock.now() - BASE_EVERY;
    if archive.status().base_at.is_some_and(|last| last > due) {
        return Ok(());
    }
    base::make(archive, clock, Fetching::Elsewhere).await?;
    keep::expire(archive, clock.now()).await?;
    Ok(())
}

/// Looks up when the last base backup was made.
async fn look_up(archive: &Archive) -> Result<(), ArchiveError> {
    let found = match contents::head(&archive.storage, archive.id()).await? {
        Some(head) => {
            contents::contents(&archive.storage, head.archive_id)
                .await?
                .bases
        }
        None => Vec::new(),
    };
    archive.know(found.last().map(|base| base.finished_at));
    Ok(())
}

/// Returns the pause after so many attempts that failed: twice as long each time.
fn pause_after(failures: u32) -> Duration {
    LOOK_AGAIN
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(PAUSE_MAX)
}

/// Fetches what PostgreSQL handed over while it stopped, if that goes quickly. What is left is
/// fetched after the next start.
pub async fn fetch_last(archive: &Archive, clock: &Clock) {
    let fetched = wal::fetch(archive, || clock.now());
    match tokio::time::timeout(LAST_FETCH, fetched).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(error = causes(&error), "archived after the next start"),
        Err(_) => tracing::warn!("the rest is archived after the next start"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour() {
        let pauses: Vec<u64> = (1..10).map(|it| pause_after(it).as_secs()).collect();
        assert_eq!(pauses[..4], [60, 120, 240, 480]);
        assert_eq!(pauses[8], 3_600);
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }
}

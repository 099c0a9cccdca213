//! The metrics that are read at the moment somebody asks.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use coditect_server_store::measure::{self, Measured};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::machine;
use crate::app::health;
use crate::state::AppState;

/// Longest time for the figures of the database.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(3);

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What cannot be known is NaN, which no alert's comparison holds for.
pub(super) struct Gauges {
    backup_success: Float,
    trials_failed: Float,
    trial_age: Float,
    base_age: Float,
    wal_age: Float,
    spool_bytes: Float,
    spool_age: Float,
    archiver_fails: Float,
    dedup: Float,
    drift: Float,
    active: Float,
    cache_hits: Float,
    database_up: Float,
    disk_used: Float,
    memory_used: Float,
    resident: Float,
    seen: Mutex<Seen>,
}

/// The counts of the time before, so that a rate is one of now.
#[derive(Debug, Default)]
struct Seen {
    dedup: (u64, u64),
    cache: (u64, u64),
}

fn register_build(registry: &mut Registry) {
    let build = Family::<BuildLabels, Gauge>::default();
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create_owned(&BuildLabels { version }).set(1);
    registry.register("coditect_build_info", "The program's version", build);
}

impl Gauges {
    /// Makes and names them.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        register_build(registry);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Float::default();
            gauge.set(f64::NAN);
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            backup_success: gauge(
                "context_backup_success_rate",
                "Percentage of the backups of the last 24 hours that were completed",
            ),
            trials_failed: gauge(
                "coditect_backup_trials_failed",
                "Backups whose last restore on trial did not come to what was recorded",
            ),
            trial_age: gauge(
                "coditect_backup_trial_age_seconds",
                "Time since a backup was last restored on trial with success",
            ),
            base_age: gauge(
                "coditect_database_base_age_seconds",
                "Time since a base backup of the database was last completed",
            ),
            wal_age: gauge(
                "coditect_database_wal_age_seconds",
                "Time since a piece of the database's write-ahead log was last archived",
            ),
            spool_bytes: gauge(
                "coditect_database_spool_bytes",
                "Write-ahead log that waits beside the data to be archived",
            ),
            spool_age: gauge(
                "coditect_database_spool_age_seconds",
                "How long the oldest piece of it has been waiting",
            ),
            archiver_fails: gauge(
                "coditect_database_archiver_failing",
                "Whether PostgreSQL failed when it last put aside a piece of its log",
            ),
            dedup: gauge(
                "context_dedup_rate",
                "Percentage of the changes pushed since the last reading that were there before",
            ),
            drift: gauge(
                "context_cursor_drift",
                "Changes that the active device farthest behind has not been given",
            ),
            active: gauge(
                "coditect_active_sessions",
                "Devices that synced within five minutes",
            ),
            cache_hits: gauge(
                "coditect_cache_hit_ratio",
                "Share of the pages asked for since the last reading that were in memory",
            ),
            database_up: gauge("coditect_database_up", "Whether the database answers"),
            disk_used: gauge(
                "coditect_disk_used_ratio",
                "Used share of the disk that has the data folder",
            ),
            memory_used: gauge(
                "coditect_memory_used_ratio",
                "Used share of the machine's memory",
            ),
            resident: gauge("process_resident_memory_bytes", "Memory of this process"),
            seen: Mutex::default(),
        }
    }

    /// Reads all of them.
    pub(super) async fn read(&self, state: &AppState, data_dir: &Path) {
        self.read_database(state).await;
        self.read_rates(state);
        self.read_archive(state).await;
        let set = |gauge: &Float, value: Option<f64>| gauge.set(value.unwrap_or(f64::NAN));
        set(&self.disk_used, machine::disk_used(data_dir));
        set(&self.memory_used, machine::memory_used());
        set(&self.resident, machine::resident_bytes());
    }

    async fn read_database(&self, state: &AppState) {
        let up = health::check(state).await.is_ok();
        self.database_up.set(f64::from(u8::from(up)));
        let figures = match up {
            true => figures(state).await,
            false => None,
        };
        let of = |value: fn(&Measured) -> f64| figures.as_ref().map_or(f64::NAN, value);
        self.backup_success.set(of(|it| {
            percent(
                it.backups_completed,
                it.backups_completed + it.backups_failed,
            )
        }));
        self.trials_failed.set(of(|it| it.trials_failed as f64));
        let age = |it: &Measured| it.trial_age_seconds.unwrap_or(f64::NAN);
        self.trial_age.set(of(age));
        self.drift.set(of(|it| it.cursor_drift as f64));
        self.active.set(of(|it| it.active_devices as f64));
    }

    async fn read_archive(&self, state: &AppState) {
        let Some(archive) = &state.database_archive else {
            return;
        };
        let (status, now) = (archive.status(), state.clock.now());
        let age = |at: Option<DateTime<Utc>>| {
            at.map_or(f64::NAN, |at| (now - at).as_seconds_f64().max(0.0))
        };
        // One that never was is as old as the server.
        self.base_age.set(match status.base_at {
            None if status.is_known => age(Some(archive.begun_at())),
            base_at => age(base_at),
        });
        self.wal_age.set(age(status.wal_kept_at));
        let spool = archive.spool.clone();
        let size = tokio::task::spawn_blocking(move || spool.size()).await;
        let size = size.unwrap_or_default();
        self.spool_bytes.set(size.bytes as f64);
        let oldest = size.oldest.map(DateTime::<Utc>::from);
        self.spool_age.set(oldest.map_or(0.0, |at| age(Some(at))));
        let fails = tokio::time::timeout(MEASURE_TIMEOUT, measure::archiver_fails(&state.db));
        self.archiver_fails.set(match fails.await {
            Ok(Ok(fails)) => f64::from(u8::from(fails)),
            _ => f64::NAN,
        });
    }

    fn read_rates(&self, state: &AppState) {
        let lookups = state.pages.lookups();
        let cache = (lookups.hits, lookups.hits + lookups.misses);
        let dedup = state.metrics.duplicates();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |now: (u64, u64), before: (u64, u64)| {
            let part = now.0.saturating_sub(before.0) as i64;
            percent(part, now.1.saturating_sub(before.1) as i64)
        };
        self.dedup.set(since(dedup, seen.dedup));
        self.cache_hits.set(since(cache, seen.cache) / 100.0);
        *seen = Seen { dedup, cache };
    }
}

async fn figures(state: &AppState) -> Option<Measured> {
    let measured = measure::measure(&state.db, state.clock.now());
    match tokio::time::timeout(MEASURE_TIMEOUT, measured).await {
        Ok(Ok(figures)) => Some(figures),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot measure the service");
            None
        }
        Err(_) => {
            tracing::warn!("cannot measure the service in time");
            None
        }
    }
}

/// Returns the share in percent; NaN of nothing.
fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        f64::NAN
    } else {
        100.0 * part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_unknown() {
        assert!(percent(0, 0).is_nan());
        assert_eq!((percent(0, 4), percent(3, 4)), (0.0, 75.0));
    }
}

//! The archive of the embedded PostgreSQL: what leaves the spool, when, and what shows of it.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use coditect_backup::database::SEGMENT_BYTES;
use coditect_backup::{Settings, Storage};
use coditect_server::database_archive::contents::contents;
use coditect_server::database_archive::{Archive, ArchiveError, wal};
use coditect_server::erasure::{self, Ledger};
use coditect_server::metrics;
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::embedded::{ArchiveRecord, BaseBackup};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::{Reply, TestApp, get};

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";

/// A cluster's folder without a cluster, and a place for its archive.
struct Place {
    folder: TempDir,
    store: TempDir,
    archive: Archive,
}

impl Place {
    fn new() -> Self {
        let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let storage = Storage::open(Settings {
            address: store.path().join("place").display().to_string(),
            ..Settings::default()
        });
        let record = ArchiveRecord::fresh(None, 60).unwrap();
        record.write(folder.path()).unwrap();
        let program = BaseBackup::new(PathBuf::from("/none"), String::new(), 18);
        let path = folder.path().to_owned();
        Self {
            archive: Archive::new(storage.unwrap(), path, program, record, now()),
            folder,
            store,
        }
    }

    /// Hands a segment over, as PostgreSQL does after its start of that number.
    fn hand_over(&self, start: u32, name: &str, fill: u8) {
        let folder = self.folder.path().join(format!("spool/{start:08}"));
        std::fs::create_dir_all(&folder).unwrap();
        let content = vec![fill; SEGMENT_BYTES as usize];
        std::fs::write(folder.join(name), content).unwrap();
    }

    async fn kept(&self, id: uuid::Uuid) -> Vec<String> {
        let found = contents(&self.archive.storage, id).await.unwrap();
        found.wal.into_iter().map(|(name, _)| name).collect()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000)
}

#[tokio::test]
async fn what_cannot_be_kept_waits_and_what_is_kept_is_not_kept_twice() {
    let place = Place::new();
    place.hand_over(1, FIRST, 1);
    place.hand_over(1, SECOND, 2);
    let (at, away) = (
        place.store.path().join("place"),
        place.store.path().join("away"),
    );
    std::fs::rename(&at, &away).unwrap();
    // A file where a folder should be: nothing can be written.
    std::fs::write(&at, "").unwrap();
    let failed = wal::fetch(&place.archive, now).await;
    assert!(
        matches!(failed, Err(ArchiveError::Storage(_))),
        "{failed:?}"
    );
    assert_eq!(place.archive.spool.size().files, 2);
    std::fs::remove_file(&at).unwrap();
    std::fs::rename(&away, &at).unwrap();
    assert_eq!(wal::fetch(&place.archive, now).await.unwrap(), 2);
    assert_eq!(place.archive.spool.size().files, 0);
    let id = place.archive.id();
    assert_eq!(place.kept(id).await, [FIRST, SECOND]);
    assert_eq!(place.archive.status().wal_kept_at, Some(now()));
    // PostgreSQL was cut off before it noted that it had handed this one over.
    place.hand_over(2, SECOND, 2);
    assert_eq!(wal::fetch(&place.archive, now).await.unwrap(), 1);
    assert_eq!(
        (place.archive.id(), place.archive.spool.size().files),
        (id, 0)
    );
    let path = coditect_backup::database::wal_path(id, SECOND);
    let read = wal::read(&place.archive.storage, &path).await.unwrap();
    assert!(read == vec![2; SEGMENT_BYTES as usize]);
}

#[tokio::test]
async fn another_history_under_the_same_names_begins_another_archive() {
    let place = Place::new();
    let first = place.archive.id();
    place.hand_over(1, FIRST, 1);
    place.hand_over(1, SECOND, 2);
    wal::fetch(&place.archive, now).await.unwrap();
    // The data was set back to a copy.
    place.hand_over(2, SECOND, 3);
    wal::fetch(&place.archive, now).await.unwrap();
    let second = place.archive.id();
    assert_ne!(second, first);
    assert_eq!(place.kept(first).await, [FIRST, SECOND]);
    assert_eq!(place.kept(second).await, [SECOND]);
    let path = coditect_backup::database::wal_path(first, SECOND);
    let read = wal::read(&place.archive.storage, &path).await.unwrap();
    assert!(read == vec![2; SEGMENT_BYTES as usize]);
    // The next start goes on with it, and knows which one is left.
    let record = ArchiveRecord::of(place.folder.path()).unwrap();
    assert_eq!((record.archive_id, record.former), (second, vec![first]));
}

#[tokio::test]
async fn pieces_of_another_size_are_refused_and_strange_files_left_alone() {
    let place = Place::new();
    place.hand_over(1, FIRST, 1);
    let folder = place.folder.path().join("spool/00000001");
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    wal::fetch(&place.archive, now).await.unwrap();
    assert!(folder.join("notes.txt").exists() && !folder.join(FIRST).exists());
    std::fs::write(folder.join(SECOND), "short").unwrap();
    let failed = wal::fetch(&place.archive, now).await;
    assert!(
        matches!(failed, Err(ArchiveError::SegmentSize { .. })),
        "{failed:?}"
    );
    assert!(folder.join(SECOND).exists());
}

#[tokio::test]
async fn an_operator_sees_what_waits_and_how_old_the_archive_is() {
    let mut app = TestApp::start().await;
    let place = Place::new();
    app.state.database_archive = Some(place.archive.clone());
    place.hand_over(1, FIRST, 1);
    let shown = async |app: &TestApp, name: &str| {
        let router = metrics::router(app.state.clone(), app.backups.path().to_owned());
        let reply = Reply::read(router.oneshot(get("/metrics")).await.unwrap()).await;
        let text = reply.text();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {text}"))
    };
    let waiting = shown(&app, "coditect_database_spool_bytes").await;
    assert_eq!(waiting, SEGMENT_BYTES as f64);
    assert_eq!(shown(&app, "coditect_database_archiver_failing").await, 0.0);
    assert!(
        shown(&app, "coditect_database_wal_age_seconds")
            .await
            .is_nan()
    );
    let clock = app.state.clock.clone();
    wal::fetch(&place.archive, || clock.now()).await.unwrap();
    assert_eq!(shown(&app, "coditect_database_spool_bytes").await, 0.0);
    assert_eq!(
        shown(&app, "coditect_database_spool_age_seconds").await,
        0.0
    );
    assert!(shown(&app, "coditect_database_wal_age_seconds").await < 60.0);
}

/// Hands a segment over in a cluster's folder, and has it archived.
async fn archived(folder: &std::path::Path, storage: &Storage, record: ArchiveRecord) {
    std::fs::create_dir_all(folder.join("spool/00000001")).unwrap();
    let content = vec![7; SEGMENT_BYTES as usize];
    std::fs::write(folder.join("spool/00000001").join(FIRST), content).unwrap();
    record.write(folder).unwrap();
    let program = BaseBackup::new(PathBuf::from("/none"), String::new(), 18);
    let archive = Archive::new(storage.clone(), folder.to_owned(), program, record, now());
    assert_eq!(wal::fetch(&archive, now).await.unwrap(), 1);
}

#[tokio::test]
async fn a_receipt_of_an_erasure_names_the_archives_that_hold_what_was() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let bob = app.db.with_user(&tenant, "bob@acme.example").await;
    let storage = app.state.backups.clone().unwrap().storage;
    let key = HeadKey::load_or_create(&app.db.secrets_folder()).unwrap();
    let data = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(data.path(), storage.clone(), key.into());
    let erase = |user| {
        let (db, clock) = (app.db.db(), &app.state.clock);
        erasure::erase(db, clock, &ledger, tenant.id, Some(user))
    };
    let without = erase(bob.user_id).await.unwrap();
    assert_eq!(without.what.database_archives, []);
    assert!(!without.what.text().unwrap().contains("database_archives"));

    let elsewhere = tempfile::tempdir().unwrap();
    let parent = ArchiveRecord::fresh(None, 60).unwrap();
    archived(elsewhere.path(), &storage, parent.clone()).await;
    let mut own = ArchiveRecord::fresh(Some(parent.archive_id), 60).unwrap();
    // It was removed when its time was over.
    own.former.push(uuid::Uuid::from_u128(1));
    archived(&data.path().join("postgres"), &storage, own.clone()).await;
    let receipt = erase(ann.user_id).await.unwrap().what;
    let listed = receipt.database_archives.iter();
    let listed: Vec<_> = listed
        .map(|it| (it.archive_id, it.kind.as_str(), it.gone_by))
        .collect();
    let gone_by = receipt.finished_at + TimeDelta::days(9);
    assert_eq!(
        listed,
        [
            (own.archive_id, "log", Some(gone_by)),
            (parent.archive_id, "log", None),
        ]
    );
}

//! Restores on trial: what shows that a backup is what was recorded, and what shows that it is
//! not; archives that crashed attempts left behind.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chrono::TimeDelta;
use coditect_backup::{Line, Writer};
use coditect_core::hash;
use coditect_protocol::catalogue::by_cloud_name;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::backups::BackupMetadata;
use coditect_protocol::wire::push::Change;
use coditect_server::jobs::trials::Verdict;
use coditect_server::{jobs, metrics};
use coditect_testkit::TestUser;
use serde_json::json;
use tower::ServiceExt as _;

use crate::backups::{Pusher, archives, back_up, contents, start};
use crate::support::{Reply, TestApp, decision, fresh_row, get};

const EVERY: TimeDelta = TimeDelta::hours(24);

async fn try_due(app: &TestApp) -> Option<Verdict> {
    let storage = &app.state.backups.as_ref().unwrap().storage;
    let tried = jobs::trials::run_due(&app.state, storage, EVERY).await;
    tried.unwrap()
}

async fn try_one(app: &TestApp, backup: &BackupMetadata) -> Verdict {
    let storage = &app.state.backups.as_ref().unwrap().storage;
    let (db, clock) = (&app.state.db, &app.state.clock);
    let tried = jobs::trials::run_one(db, clock, storage, backup.id).await;
    tried.unwrap()
}

fn file(backup: &BackupMetadata) -> PathBuf {
    PathBuf::from(backup.path.strip_prefix("file://").unwrap())
}

/// Names of tables in schemas of temporary ones.
async fn scratch(app: &TestApp) -> Vec<String> {
    let superuser = app.db.superuser_client().await;
    let sql = "select relname::text from pg_class where relpersistence = 't' and relkind = 'r'";
    let rows = superuser.query_typed(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Entries of the audit trail about trials: whether each passed, failures first.
async fn audited(app: &TestApp) -> Vec<bool> {
    let superuser = app.db.superuser_client().await;
    let sql = "select (detail->>'passed')::boolean from audit_log where action = 'backup.trial'
        and resource_type = 'backup' order by 1";
    let rows = superuser.query_typed(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A full backup and one that goes on from it, with edited, deleted and further rows.
async fn two_backups(app: &TestApp, ann: &TestUser) -> (BackupMetadata, BackupMetadata) {
    let (edited, gone) = (fresh_row(), fresh_row());
    let mut device = Pusher::new(app, ann);
    let title = "kept ä\u{0}\u{f8ff}\n".repeat(30);
    device
        .push(vec![
            decision(fresh_row(), &title, 0),
            decision(edited, "before", 0),
            decision(gone, "gone", 0),
        ])
        .await;
    let full = back_up(app, ann, "full").await;
    app.db.clock().advance(TimeDelta::seconds(1));
    let delete = Change {
        op: Op::Delete,
        row: None,
        ..decision(gone, "", 10)
    };
    device
        .push(vec![
            decision(edited, "after", 10),
            delete,
            decision(fresh_row(), "later", 10),
        ])
        .await;
    let newest = back_up(app, ann, "incremental").await;
    assert_eq!(newest.base_id, Some(full.id));
    (full, newest)
}

#[tokio::test]
async fn good_backups_pass_one_after_the_other_and_leave_nothing() {
    let (app, ann) = start().await;
    assert_eq!(try_due(&app).await, None, "there is none");
    let (full, newest) = two_backups(&app, &ann).await;
    let before = contents(&app, &ann).await;
    let first = try_due(&app).await.unwrap();
    assert_eq!(first.failure, None);
    assert_eq!(try_due(&app).await, None, "one a day");
    app.db.clock().advance(EVERY);
    let second = try_due(&app).await.unwrap();
    assert_eq!(second.failure, None);
    let mut tried = [first, second].map(|it| (it.backup, it.archives, it.rows));
    tried.sort_by_key(|(_, archives, _)| *archives);
    assert_eq!(tried, [(full.id, 1, 3), (newest.id, 2, 4)]);
    app.db.clock().advance(EVERY);
    assert_eq!(try_due(&app).await, None, "both were tried lately");
    app.db.clock().advance(TimeDelta::days(7));
    assert!(try_due(&app).await.is_some());
    assert_eq!(audited(&app).await, [true, true, true]);
    assert_eq!(scratch(&app).await, Vec::<String>::new());
    assert_eq!(contents(&app, &ann).await, before);
}

#[tokio::test]
async fn of_two_servers_one_tries() {
    let (app, ann) = start().await;
    two_backups(&app, &ann).await;
    let (one, two) = tokio::join!(try_due(&app), try_due(&app));
    assert_eq!(u8::from(one.is_some()) + u8::from(two.is_some()), 1);
}

/// Writes the archive anew with other lines, and has its row say that this is what was written.
async fn forge(app: &TestApp, backup: &BackupMetadata, mut change: impl FnMut(&mut Line)) {
    let mut text = String::new();
    let packed = std::fs::File::open(file(backup)).unwrap();
    let mut unpacked = flate2::read::GzDecoder::new(packed);
    unpacked.read_to_string(&mut text).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Line>(line).unwrap());
    let Some(Line::Manifest(manifest)) = lines.next() else {
        panic!("an archive begins with its manifest")
    };
    let (mut writer, mut packed, mut end) = (Writer::new(manifest), Vec::new(), 0);
    for mut line in lines {
        change(&mut line);
        match line {
            Line::Record(record) => writer.record(*record),
            Line::End(at) => end = at.to,
            Line::Manifest(_) => {}
        }
    }
    packed.extend(writer.take());
    let (last, sealed) = writer.finish(end);
    packed.extend(last);
    let mut file = std::fs::File::create(file(backup)).unwrap();
    file.write_all(&packed).unwrap();
    let superuser = app.db.superuser_client().await;
    let sql = format!(
        "update context_backups set checksum = '{}', size_bytes = {}, record_count = {}
         where id = '{}'",
        sealed.checksum, sealed.size_bytes, sealed.records, backup.id
    );
    superuser.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn an_archive_that_was_changed_with_its_checksum_is_found_by_the_digest() {
    let (app, ann) = start().await;
    let (full, newest) = two_backups(&app, &ann).await;
    assert_eq!(try_one(&app, &newest).await.failure, None);
    // Somebody who can write to bucket and database changes a row, with its hash.
    forge(&app, &full, |line| {
        let Line::Record(record) = line else { return };
        let row = record.stored.row.as_mut().unwrap();
        if row["title"] == "before" || row["title"] == "gone" {
            return;
        }
        row.insert("title".to_owned(), json!("what nobody decided"));
        let table = by_cloud_name(&record.stored.table).unwrap();
        record.stored.hash = hash::content(table, row).to_string();
    })
    .await;
    for backup in [&full, &newest] {
        let failure = try_one(&app, backup).await.failure.unwrap();
        assert!(failure.contains("digest"), "{failure}");
    }
    assert_eq!(audited(&app).await, [false, false, true]);
    assert_eq!(scratch(&app).await, Vec::<String>::new());
    let stored = coditect_server_store::measure::measure(app.db.db(), app.state.clock.now());
    assert_eq!(stored.await.unwrap().trials_failed, 2);
    let open = coditect_server_store::backups::jobs::open(app.db.db(), None, app.state.clock.now());
    let open = open.await.unwrap();
    let failed: Vec<_> = open.iter().map(|job| (&*job.kind, &*job.status)).collect();
    assert_eq!(failed, [("trial", "failed"), ("trial", "failed")]);
}

#[tokio::test]
async fn lost_rows_foreign_deletes_and_missing_archives_are_found() {
    let (app, ann) = start().await;
    let (full, newest) = two_backups(&app, &ann).await;
    let whole = std::fs::read(file(&full)).unwrap();
    // A row that is deleted instead; its hash is not looked at elsewhere.
    forge(&app, &full, |line| {
        if let Line::Record(record) = line {
            record.stored.op = Op::Delete;
            record.stored.row = None;
        }
    })
    .await;
    let failure = try_one(&app, &newest).await.failure.unwrap();
    assert!(failure.contains("digest"), "{failure}");
    // The row still has the forged checksum: the archive as it was is another one now.
    std::fs::write(file(&full), &whole).unwrap();
    let failure = try_one(&app, &full).await.failure.unwrap();
    assert!(failure.contains("not the one"), "{failure}");
    std::fs::remove_file(file(&full)).unwrap();
    let failure = try_one(&app, &newest).await.failure.unwrap();
    assert!(failure.contains("not there"), "{failure}");
}

#[tokio::test]
async fn archives_that_attempts_left_behind_are_swept() {
    let (app, ann) = start().await;
    let (full, newest) = two_backups(&app, &ann).await;
    let left = file(&full).with_file_name("left-behind.jsonl.gz");
    let again = file(&full).with_file_name("left-behind.2.jsonl.gz");
    let cut = file(&full).with_file_name("cut-off.jsonl.gz#1");
    let young = file(&full).with_file_name("young.jsonl.gz");
    let other = file(&full).with_file_name("a-letter.txt");
    let now = SystemTime::from(app.state.clock.now());
    for (path, days) in [(&left, 2), (&again, 2), (&cut, 2), (&young, 0), (&other, 2)] {
        let file = std::fs::File::create(path).unwrap();
        let age = Duration::from_secs(days * 86_400 + 3_600);
        file.set_modified(now - age).unwrap();
    }
    for kept in [file(&full), file(&newest)] {
        let kept = std::fs::File::options().write(true).open(kept).unwrap();
        kept.set_modified(now - Duration::from_secs(3 * 86_400))
            .unwrap();
    }
    let backups = app.state.backups.as_ref().unwrap();
    // A job is about to name what its second attempt has written.
    let root = app.backups.path();
    let path = left.strip_prefix(root).unwrap().display().to_string();
    let superuser = app.db.superuser_client().await;
    let running = format!(
        "update context_backups set status = 'pending', path = '{path}' where id = '{}'",
        newest.id
    );
    superuser.batch_execute(&running).await.unwrap();
    // Its own former archive is nobody's now.
    assert_eq!(jobs::backups::sweep(&app.state, backups).await.unwrap(), 2);
    let mut kept = vec![
        file(&full),
        left.clone(),
        again.clone(),
        young.clone(),
        other.clone(),
    ];
    kept.sort();
    assert_eq!(archives(&app), kept);
    let given_up = format!(
        "update context_backups set status = 'failed' where id = '{}'",
        newest.id
    );
    superuser.batch_execute(&given_up).await.unwrap();
    assert_eq!(jobs::backups::sweep(&app.state, backups).await.unwrap(), 2);
    assert_eq!(jobs::backups::sweep(&app.state, backups).await.unwrap(), 0);
    let router = metrics::router(app.state.clone(), app.backups.path().to_owned());
    let shown = Reply::read(router.oneshot(get("/metrics")).await.unwrap()).await;
    assert!(shown.text().contains("\ncoditect_backup_orphans_total 4\n"));
    let mut kept = vec![file(&full), young, other];
    kept.sort();
    assert_eq!(archives(&app), kept);
    assert_eq!(try_one(&app, &full).await.failure, None);
}

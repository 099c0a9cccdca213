//! Restores as jobs: waited for or not, taken over from servers that died, one at a time for a
//! scope, refused to who may not any more, and tried again after a pause.

use std::path::PathBuf;

use axum::http::HeaderMap;
use chrono::TimeDelta;
use coditect_protocol::wire::backups::{
    BackupMetadata, RestoreJob, RestoreJobList, RestoreReply, RestoreStatus,
};
use coditect_protocol::{ErrorCode, Scope};
use coditect_server::backups::Backups;
use coditect_server::jobs;
use coditect_server_store::backups::jobs::{OpenJob, open};
use coditect_server_store::backups::{self as store, restores};
use coditect_server_store::identity::Role;
use coditect_server_store::sync::Restored;
use coditect_testkit::TestUser;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::backup_roles::{add, fill, make, path as of_scope};
use crate::backups::{Contents, Pusher, back_up, contents, path, restore, start};
use crate::support::{Reply, TestApp, bearer, decision, fresh_row, fresh_uuid, post};

/// Takes the doing of restores from the routes, which only note them then; returns the place for
/// backups as another server would use it.
async fn park(app: &mut TestApp) -> (Backups, OwnedSemaphorePermit) {
    let storage = app.state.backups.as_ref().unwrap().storage.clone();
    let parked = Backups::new(storage.clone());
    let permit = parked.hold_restores().await.unwrap();
    app.use_backups(parked);
    (Backups::new(storage), permit)
}

async fn ask_async(app: &TestApp, user: &TestUser, path: &str, request: &Value) -> Reply {
    let mut asked = bearer(post(path, request), &user.access_token);
    let preference = "respond-async".parse().unwrap();
    asked.headers_mut().insert("prefer", preference);
    app.send(asked).await
}

fn accepted(reply: &Reply) -> RestoreJob {
    assert_eq!(reply.status, 202, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn location(headers: &HeaderMap) -> &str {
    headers["location"].to_str().unwrap()
}

async fn all(app: &TestApp, user: &TestUser) -> Vec<RestoreJob> {
    let list: RestoreJobList = app.get_as(user, &path(user, "restores")).await.ok();
    list.restores
}

fn live(contents: Contents) -> Contents {
    let live = contents.into_iter().filter(|(_, (_, deleted, _))| !deleted);
    live.collect()
}

/// A scope that was changed since it was backed up, and what it was.
async fn changed(app: &TestApp, user: &TestUser) -> (BackupMetadata, Contents) {
    let (edited, later) = (fresh_row(), fresh_row());
    let mut device = Pusher::new(app, user);
    device.push(vec![decision(edited, "before", 0)]).await;
    let recorded = contents(app, user).await;
    let full = back_up(app, user, "full").await;
    device
        .push(vec![
            decision(edited, "after", 10),
            decision(later, "later", 10),
        ])
        .await;
    (full, recorded)
}

fn replace(full: &BackupMetadata) -> Value {
    json!({ "backup_id": full.id, "mode": "replace" })
}

async fn open_jobs(app: &TestApp) -> Vec<OpenJob> {
    let now = app.db.clock().now();
    open(app.db.db(), None, now).await.unwrap()
}

#[tokio::test]
async fn who_waits_is_answered_as_before_and_the_job_says_the_same() {
    let (app, ann) = start().await;
    let (full, recorded) = changed(&app, &ann).await;
    let done: RestoreReply = restore(&app, &ann, &replace(&full)).await.ok();
    assert_eq!((done.restored, done.skipped, done.removed), (1, 0, 1));
    assert_eq!(live(contents(&app, &ann).await), recorded);
    let jobs = all(&app, &ann).await;
    let [job] = jobs.as_slice() else {
        panic!("{jobs:?}")
    };
    assert_eq!(job.status, RestoreStatus::Completed);
    assert_eq!((job.requested_by, job.attempts), (ann.user_id, 1));
    assert_eq!(job.safety_backup_id, done.safety_backup_id);
    assert_eq!(job.result.as_ref(), Some(&done));
    assert!(job.started_at.is_some() && job.finished_at.is_some());
    assert!(open_jobs(&app).await.is_empty());
}

#[tokio::test]
async fn who_does_not_wait_is_told_where_to_look() {
    let (mut app, ann) = start().await;
    let (full, recorded) = changed(&app, &ann).await;
    let before = contents(&app, &ann).await;
    let (worker, _parked) = park(&mut app).await;
    let reply = ask_async(&app, &ann, &path(&ann, "restore"), &replace(&full)).await;
    let job = accepted(&reply);
    assert_eq!(reply.headers["preference-applied"], "respond-async");
    assert_eq!(job.status, RestoreStatus::Queued);
    let place = location(&reply.headers);
    assert_eq!(place, path(&ann, &format!("restores/{}", job.id)));
    let seen: RestoreJob = app.get_as(&ann, place).await.ok();
    assert_eq!(seen, job);
    assert_eq!(contents(&app, &ann).await, before);
    let listed = open_jobs(&app).await;
    let listed: Vec<_> = listed
        .iter()
        .map(|one| (&*one.kind, &*one.status))
        .collect();
    assert_eq!(listed, [("restore", "queued")]);

    // Nobody waits any more; another server does it.
    let done = jobs::restores::run_pending(&app.state, &worker).await;
    assert_eq!(done.unwrap(), 1);
    let seen: RestoreJob = app.get_as(&ann, place).await.ok();
    assert_eq!(seen.status, RestoreStatus::Completed);
    let result = seen.result.unwrap();
    assert_eq!((result.restored, result.removed), (1, 1));
    assert_eq!(live(contents(&app, &ann).await), recorded);
}

#[tokio::test]
async fn who_waits_for_too_long_is_told_where_to_look() {
    let (mut app, ann) = start().await;
    let (full, _) = changed(&app, &ann).await;
    let storage = app.state.backups.as_ref().unwrap().storage.clone();
    let mut slow = Backups::new(storage);
    slow.restore_wait = Some(std::time::Duration::from_millis(1));
    let _parked = slow.hold_restores().await;
    app.use_backups(slow);
    let reply = restore(&app, &ann, &replace(&full)).await;
    let job = accepted(&reply);
    assert!(!reply.headers.contains_key("preference-applied"));
    let seen: RestoreJob = app.get_as(&ann, location(&reply.headers)).await.ok();
    assert_eq!(seen, job);
}

#[tokio::test]
async fn a_server_that_dies_is_followed_by_another() {
    let (mut app, ann) = start().await;
    let (full, recorded) = changed(&app, &ann).await;
    let (worker, _parked) = park(&mut app).await;
    let asked = ask_async(&app, &ann, &path(&ann, "restore"), &replace(&full)).await;
    let place = location(&asked.headers).to_owned();

    // It comes as far as the rows, one of which somebody holds; then it is gone.
    let holder = app.db.superuser_client().await;
    let hold = "begin; select from org_decisions for update";
    holder.batch_execute(hold).await.unwrap();
    let (state, dying) = (app.state.clone(), worker.clone());
    let dying = tokio::spawn(async move { jobs::restores::run_pending(&state, &dying).await });
    let looker = app.db.superuser_client().await;
    let safe = "select exists (select from context_restores r
        join context_backups b on b.id = r.safety_backup_id and b.status = 'completed')";
    while !looker
        .query_typed_one(safe, &[])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {}
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    holder.batch_execute("rollback").await.unwrap();
    let seen: RestoreJob = app.get_as(&ann, &place).await.ok();
    assert_eq!(
        (seen.status, seen.attempts, seen.safety_backup_id.is_some()),
        (RestoreStatus::Running, 1, true)
    );

    // Nobody knows that it is dead before its lease has run out.
    let done = jobs::restores::run_pending(&app.state, &worker).await;
    assert_eq!(done.unwrap(), 0);
    app.db.clock().advance(restores::LEASE);
    app.db.clock().advance(TimeDelta::seconds(1));
    let done = jobs::restores::run_pending(&app.state, &worker).await;
    assert_eq!(done.unwrap(), 1);
    let done: RestoreJob = app.get_as(&ann, &place).await.ok();
    assert_eq!(
        (done.status, done.attempts, done.safety_backup_id),
        (RestoreStatus::Completed, 2, seen.safety_backup_id)
    );
    assert_eq!(live(contents(&app, &ann).await), recorded);
    let taken = "select count(*) from context_backups where on_demand";
    let taken = looker.query_typed_one(taken, &[]).await.unwrap();
    assert_eq!(taken.get::<_, i64>(0), 2, "the backup before is taken once");
}

#[tokio::test]
async fn one_at_a_time_for_a_scope_and_none_by_two() {
    let (mut app, ann) = start().await;
    let tenant = app.db.with_tenant("beta").await;
    let bob = app.db.with_user(&tenant, "bob@beta.example").await;
    let (of_ann, recorded) = changed(&app, &ann).await;
    let (of_bob, _) = changed(&app, &bob).await;
    let (worker, _parked) = park(&mut app).await;
    let mut asked = Vec::new();
    for (user, full) in [(&ann, &of_ann), (&ann, &of_ann), (&bob, &of_bob)] {
        let request = json!({ "backup_id": full.id, "mode": "merge" });
        let reply = ask_async(&app, user, &path(user, "restore"), &request).await;
        asked.push(accepted(&reply).id);
        app.db.clock().advance(TimeDelta::seconds(1));
    }
    let db = app.db.db();
    let claim = async || restores::claim(db, app.db.clock().now()).await.unwrap();
    let first = claim().await.unwrap();
    let other = claim().await.unwrap();
    assert_eq!((first.id, first.attempt), (asked[0], 1));
    assert_eq!(other.id, asked[2], "Ann's second one waits");
    assert_eq!(claim().await, None);

    app.db
        .clock()
        .advance(restores::LEASE + TimeDelta::seconds(1));
    let now = app.db.clock().now();
    let again = claim().await.unwrap();
    assert_eq!((again.id, again.attempt), (first.id, 2));
    assert_eq!(claim().await.map(|job| job.id), Some(other.id));
    assert_eq!(claim().await, None, "Ann's other one waits all the same");

    // Who has lost the job can say nothing about it, and must not change the scope.
    assert!(!restores::renew(db, &first, now).await.unwrap());
    let completed = db
        .tenant("test", &first.caller, |mut tx| {
            let first = first.clone();
            async move {
                let done = Restored::default();
                restores::complete(&mut tx, &first, done, now).await
            }
        })
        .await;
    assert!(!completed.unwrap());
    let why = restores::RestoreFailure {
        code: ErrorCode::Internal,
        failure: String::new(),
        fault: String::new(),
        is_passing: false,
    };
    assert!(!restores::fail(db, &first, &why, now).await.unwrap());

    app.db
        .clock()
        .advance(restores::LEASE + TimeDelta::seconds(1));
    let done = jobs::restores::run_pending(&app.state, &worker).await;
    assert_eq!(done.unwrap(), 3);
    let jobs = all(&app, &ann).await;
    let statuses: Vec<_> = jobs.iter().map(|job| job.status).collect();
    assert_eq!(statuses, [RestoreStatus::Completed; 2]);
    let now = contents(&app, &ann).await;
    assert!(recorded.keys().all(|key| now.contains_key(key)));
}

#[tokio::test]
async fn who_lost_the_role_meanwhile_is_refused() {
    let mut app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let beta = app.db.with_tenant("beta").await;
    let boss = app.db.with_role(&acme, "boss@acme.example", Role::Owner);
    let boss = boss.await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let cat = app.db.with_user(&acme, "cat@acme.example").await;
    let eve = app.db.with_role(&beta, "eve@beta.example", Role::Owner);
    let eve = eve.await;
    let team = Scope::Team(fresh_uuid());
    make(&app, &acme, team, &boss).await;
    add(&app, &acme, team, &ann, "admin").await;
    add(&app, &acme, team, &cat, "member").await;
    let mut device = Pusher::new(&app, &boss);
    let full = fill(&app, &mut device, &boss, team).await;
    let later = decision(fresh_row(), "later", 10);
    device.push_to(team, vec![later]).await;

    let (worker, _parked) = park(&mut app).await;
    let (place, places) = (of_scope(team, "restore"), of_scope(team, "restores"));
    let request = json!({ "backup_id": full, "mode": "replace" });
    let refused = ask_async(&app, &cat, &place, &request).await;
    refused.problem(ErrorCode::PermissionDenied);
    let refused = ask_async(&app, &eve, &place, &request).await;
    refused.problem(ErrorCode::NotFound);
    let asked = ask_async(&app, &ann, &place, &request).await;
    accepted(&asked);
    let place = location(&asked.headers);
    let superuser = app.db.superuser_client().await;
    let demote = format!(
        "update scope_members set role = 'member' where user_id = '{}'",
        ann.user_id
    );
    superuser.batch_execute(&demote).await.unwrap();
    let done = jobs::restores::run_pending(&app.state, &worker).await;
    assert_eq!(done.unwrap(), 0);

    let seen: RestoreJob = app.get_as(&boss, place).await.ok();
    assert_eq!(
        (seen.status, seen.code),
        (RestoreStatus::Failed, Some(ErrorCode::PermissionDenied))
    );
    assert_eq!(seen.requested_by, ann.user_id);
    assert!(seen.safety_backup_id.is_none() && seen.result.is_none());
    let list: RestoreJobList = app.get_as(&boss, &places).await.ok();
    assert_eq!(list.restores, [seen], "what is refused at once is no job");
    let live = "select count(*) from org_decisions where deleted_at is null";
    let live = superuser.query_typed_one(live, &[]).await.unwrap();
    assert_eq!(live.get::<_, i64>(0), 2);
    for place in [place, &places] {
        let refused = app.get_as(&cat, place).await;
        refused.problem(ErrorCode::PermissionDenied);
        let refused = app.get_as(&eve, place).await;
        refused.problem(ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_damaged_or_missing_archive_keeps_its_code() {
    let (app, ann) = start().await;
    let (full, _) = changed(&app, &ann).await;
    let before = contents(&app, &ann).await;
    let file = PathBuf::from(full.path.strip_prefix("file://").unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = restore(&app, &ann, &replace(&full)).await;
    let damaged = damaged.problem(ErrorCode::ChecksumFailed);
    std::fs::remove_file(&file).unwrap();
    let missing = restore(&app, &ann, &replace(&full)).await;
    let missing = missing.problem(ErrorCode::BackupNotFound);
    let jobs = all(&app, &ann).await;
    assert_eq!(jobs.len(), 2);
    for problem in [damaged, missing] {
        let job = jobs.iter().find(|job| job.code == Some(problem.code));
        let job = job.unwrap_or_else(|| panic!("{problem:?} in {jobs:?}"));
        assert_eq!((job.status, job.attempts), (RestoreStatus::Failed, 1));
        assert_eq!(job.failure, problem.detail);
        assert!(job.retry_at.is_none() && job.safety_backup_id.is_none());
    }
    assert_eq!(contents(&app, &ann).await, before);
}

/// Puts a file where the folder of the archives is, and back again.
struct Broken<'a>(&'a TestApp);

impl<'a> Broken<'a> {
    fn storage(app: &'a TestApp) -> Self {
        let folder = app.backups.path().join("tenants");
        if folder.exists() {
            std::fs::rename(&folder, app.backups.path().join("aside")).unwrap();
        }
        std::fs::write(&folder, "in the way").unwrap();
        Self(app)
    }

    fn mend(self) {
        let (folder, aside) = (self.0.backups.path().join("tenants"), "aside");
        std::fs::remove_file(&folder).unwrap();
        let aside = self.0.backups.path().join(aside);
        if aside.exists() {
            std::fs::rename(aside, folder).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restore_whose_storage_fails_is_tried_again_after_a_pause() {
    let (app, ann) = start().await;
    let (full, recorded) = changed(&app, &ann).await;
    let backups = app.state.backups.as_ref().unwrap();
    let broken = Broken::storage(&app);
    let request = json!({ "backup_id": full.id, "mode": "replace" });
    // There is nothing to wait for.
    let reply = restore(&app, &ann, &request).await;
    let job = accepted(&reply);
    assert_eq!((job.status, job.attempts), (RestoreStatus::Queued, 1));
    assert_eq!(job.code, Some(ErrorCode::Internal));
    assert!(job.retry_at.is_some());
    let listed = open_jobs(&app).await;
    let pause = listed[0].not_before.unwrap() - app.db.clock().now();
    assert_eq!(
        (pause, listed[0].restore_id),
        (TimeDelta::seconds(30), Some(job.id))
    );
    assert!(listed[0].failure.is_some());

    let done = jobs::restores::run_pending(&app.state, backups).await;
    assert_eq!(done.unwrap(), 0);
    app.db.clock().advance(pause);
    let done = jobs::restores::run_pending(&app.state, backups).await;
    assert_eq!(done.unwrap(), 0);
    let pause = open_jobs(&app).await[0].not_before.unwrap() - app.db.clock().now();
    assert_eq!(pause, TimeDelta::minutes(2));
    broken.mend();
    app.db.clock().advance(pause - TimeDelta::seconds(1));
    let done = jobs::restores::run_pending(&app.state, backups).await;
    assert_eq!(done.unwrap(), 0);
    app.db.clock().advance(TimeDelta::seconds(1));
    let done = jobs::restores::run_pending(&app.state, backups).await;
    assert_eq!(done.unwrap(), 1);
    let seen: RestoreJob = app.get_as(&ann, location(&reply.headers)).await.ok();
    assert_eq!(
        (seen.status, seen.attempts, seen.code),
        (RestoreStatus::Completed, 3, None)
    );
    assert_eq!(live(contents(&app, &ann).await), recorded);
}

#[tokio::test]
async fn a_backup_that_fails_waits_longer_each_time_and_is_given_up() {
    let (app, ann) = start().await;
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![decision(fresh_row(), "kept", 0)]).await;
    let broken = Broken::storage(&app);
    let asked = json!({ "type": "full" });
    for _ in 0..2 {
        let reply = app.post_as(&ann, &path(&ann, "backup"), &asked).await;
        assert_eq!(reply.status, 202);
    }
    let backups = app.state.backups.as_ref().unwrap();
    let tick = async || {
        jobs::backups::run_pending(&app.state, backups)
            .await
            .unwrap()
    };
    let mut pauses = Vec::new();
    for _ in 1..store::retries::FAILURES_MAX {
        assert_eq!(tick().await, 0);
        let jobs = open_jobs(&app).await;
        assert!(jobs.iter().all(|job| job.status == "pending"), "{jobs:?}");
        assert!(jobs.iter().all(|job| job.failure.is_some()), "{jobs:?}");
        let pause = jobs[0].not_before.unwrap() - app.db.clock().now();
        let attempts = jobs[0].attempts;
        app.db.clock().advance(pause - TimeDelta::seconds(1));
        assert_eq!(tick().await, 0);
        assert_eq!(open_jobs(&app).await[0].attempts, attempts, "it waits");
        app.db.clock().advance(TimeDelta::seconds(1));
        pauses.push(pause.num_seconds());
    }
    assert_eq!(pauses, [30, 120, 480, 900, 900]);
    assert_eq!(tick().await, 0);
    let jobs = open_jobs(&app).await;
    let given_up = |job: &OpenJob| job.status == "failed" && job.not_before.is_none();
    assert!(jobs.len() == 2 && jobs.iter().all(given_up), "{jobs:?}");
    broken.mend();
    assert_eq!(tick().await, 0);
}

#[tokio::test]
async fn a_server_that_was_killed_has_not_failed() {
    let (app, ann) = start().await;
    let mut device = Pusher::new(&app, &ann);
    device.push(vec![decision(fresh_row(), "kept", 0)]).await;
    let asked = json!({ "type": "full" });
    let reply = app.post_as(&ann, &path(&ann, "backup"), &asked).await;
    assert_eq!(reply.status, 202);
    let backups = app.state.backups.as_ref().unwrap();
    for attempt in 1..=store::retries::FAILURES_MAX {
        let claimed = store::claim(app.db.db(), app.db.clock().now()).await;
        let claimed = claimed.unwrap().unwrap();
        assert_eq!((claimed.attempt, claimed.failures), (attempt, 0));
        let taken = jobs::backups::run_pending(&app.state, backups).await;
        assert_eq!(taken.unwrap(), 0, "it is somebody's");
        app.db.clock().advance(TimeDelta::minutes(2));
        app.db.clock().advance(TimeDelta::seconds(1));
    }
    let written = jobs::backups::run_pending(&app.state, backups).await;
    assert_eq!(written.unwrap(), 1);
}

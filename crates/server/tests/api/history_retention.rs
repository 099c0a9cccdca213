//! Retention of versions: what goes, what holds it back, and what is said of it.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use coditect_protocol::wire::auth::DeviceInfo;
use coditect_protocol::wire::history::RecordHistory;
use coditect_protocol::wire::pull::{PullReply, TableDigest};
use coditect_protocol::wire::push::{Change, PushReply, PushRequest, Status};
use coditect_protocol::{Cursor, DeviceId, ErrorCode, RowId, Version};
use coditect_server::{jobs, metrics};
use coditect_server_store::StoreError;
use coditect_server_store::history::{self, DecidedBy, Purged, Report};
use coditect_testkit::{TestTenant, TestUser};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::backups::{back_up, contents, restore};
use crate::support::{
    CONFLICTS, PULL, PUSH, Reply, TestApp, decision, fresh_row, get, own_scope, pull_request,
    push_request,
};

const HISTORY: &str = "/api/v1/sync/history";

/// A person, at one device after the other.
struct Person {
    user: TestUser,
    /// Tokens of the devices' files.
    tokens: BTreeMap<DeviceId, String>,
    known: BTreeMap<RowId, Version>,
}

impl Person {
    async fn new(app: &TestApp, tenant: &TestTenant, email: &str) -> Self {
        Self {
            user: app.db.with_user(tenant, email).await,
            tokens: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// Returns another device.
    async fn device(&self, app: &TestApp) -> DeviceId {
        let info = DeviceInfo::default();
        let login = app.db.log_in(&self.user.license_key, &info).await;
        login.caller.device_id()
    }

    /// Logs in again at a device: after days its token is too old.
    async fn at(&mut self, app: &TestApp, device: DeviceId) -> &TestUser {
        let info = DeviceInfo {
            id: Some(device),
            ..DeviceInfo::default()
        };
        let login = app.db.log_in(&self.user.license_key, &info).await;
        assert_eq!(login.caller.device_id(), device);
        self.user.access_token = login.access_token;
        self.user.caller = login.caller;
        self.user.device_id = device;
        &self.user
    }

    async fn push(&mut self, app: &TestApp, device: DeviceId, mut change: Change) -> PushReply {
        self.at(app, device).await;
        change.base = self.known.get(&change.id).copied();
        let token = self.tokens.get(&device).map(String::as_str);
        let request = PushRequest {
            sent_at_ms: app.state.clock.now().timestamp_millis(),
            ..push_request(device, own_scope(&self.user), token, vec![change])
        };
        let reply: PushReply = app.post_as(&self.user, PUSH, &request).await.ok();
        let stored = reply.outcomes[0].stored.as_ref().unwrap();
        self.known.insert(stored.id, stored.version);
        self.tokens.insert(device, reply.token.clone());
        reply
    }

    /// Pushes so many versions of a row that nobody else edits.
    async fn edit(&mut self, app: &TestApp, device: DeviceId, id: RowId, titles: &[&str]) {
        for (nth, title) in titles.iter().enumerate() {
            let later = 10 * nth as u64;
            let reply = self.push(app, device, decision(id, title, later)).await;
            assert_eq!(reply.outcomes[0].status, Status::Applied, "{title}");
        }
    }

    /// Pulls from a position, a minute after what came before, so that it is noted.
    async fn pull(&mut self, app: &TestApp, device: DeviceId, from: Option<Cursor>) -> PullReply {
        app.db.clock().advance(TimeDelta::seconds(61));
        self.at(app, device).await;
        let mut request = pull_request(device, own_scope(&self.user));
        request.positions[0].cursor = from;
        app.post_as(&self.user, PULL, &request).await.ok()
    }

    /// Pulls everything and says so.
    async fn catch_up(&mut self, app: &TestApp, device: DeviceId) -> Cursor {
        let at = self.pull(app, device, None).await.pages[0].cursor;
        self.pull(app, device, Some(at)).await;
        at
    }

    async fn history(&mut self, app: &TestApp, id: RowId) -> RecordHistory {
        let device = self.user.device_id;
        let user = self.at(app, device).await;
        let path = format!("{HISTORY}?table=org_decisions&id={id}");
        app.get_as(user, &path).await.ok()
    }
}

struct World {
    app: TestApp,
    tenant: TestTenant,
    ann: Person,
    eve: Person,
}

impl World {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let tenant = app.db.with_tenant("acme").await;
        let other = app.db.with_tenant("other").await;
        let ann = Person::new(&app, &tenant, "ann@acme.example").await;
        let eve = Person::new(&app, &other, "eve@other.example").await;
        Self {
            app,
            tenant,
            ann,
            eve,
        }
    }

    fn days_pass(&self, days: i64) {
        self.app.db.clock().advance(TimeDelta::days(days));
    }

    /// Has the job carry out what is due; a day must have passed since the last time.
    async fn purge(&self) -> Purged {
        jobs::history::run_pending(&self.app.state, None)
            .await
            .unwrap()
    }

    async fn report(&self) -> Report {
        let now = self.app.state.clock.now();
        let report = history::report(self.app.db.db(), self.tenant.id, None, now);
        report.await.unwrap()
    }

    async fn count(&self, what: &str) -> i64 {
        let client = self.app.db.superuser_client().await;
        let sql = format!("select count(*) from {what}");
        client.query_typed_one(&sql, &[]).await.unwrap().get(0)
    }
}

fn versions(versions: i64) -> Purged {
    Purged {
        versions,
        conflicts: 0,
    }
}

fn titles(history: &RecordHistory) -> Vec<&str> {
    let rows = history.versions.iter().filter_map(|one| one.row.as_ref());
    rows.map(|row| row["title"].as_str().unwrap()).collect()
}

fn digests(reply: &PullReply) -> Vec<TableDigest> {
    reply.pages[0].digests.clone().unwrap()
}

#[tokio::test]
async fn a_device_that_lags_holds_versions_until_it_has_what_replaced_them() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (writer, reader, id) = (ann.user.device_id, ann.device(app).await, fresh_row());
    ann.edit(app, writer, id, &["one"]).await;
    let first = ann.catch_up(app, reader).await;
    ann.edit(app, writer, id, &["two", "three"]).await;
    let base = ann.history(app, id).await.versions[2].version;
    let eve = &mut world.eve;
    let (device, hers) = (eve.user.device_id, fresh_row());
    eve.edit(app, device, hers, &["one", "two"]).await;
    let forever = history::set_retention(
        app.db.db(),
        eve.user.tenant_id,
        Some(0),
        app.state.clock.now(),
    );
    forever.await.unwrap();

    // It asks now and then, but what it is answered never arrives.
    let mut before = None;
    for _ in 0..7 {
        world.app.db.clock().advance(TimeDelta::days(60));
        let reply = world.ann.pull(&world.app, reader, Some(first)).await;
        before = Some((digests(&reply), reply.pages[0].cursor));
    }
    let (digests_before, head) = before.unwrap();
    let report = world.report().await;
    assert_eq!(
        (report.aged, report.removable, report.held_by_devices),
        (2, 0, 2),
        "{report:?}"
    );
    let holder = &report.holders[0];
    assert_eq!(
        (holder.device_id, holder.position, holder.head),
        (reader, first.n, head.n)
    );
    assert_eq!(report.retention.decided_by, DecidedBy::Plan);
    assert_eq!(world.purge().await, versions(0));
    assert_eq!(titles(&world.ann.history(&world.app, id).await).len(), 3);

    let after = world.ann.pull(&world.app, reader, Some(head)).await;
    assert_eq!(world.report().await.removable, 2);
    world.days_pass(1);
    assert_eq!(world.purge().await, versions(2));
    assert_eq!(world.purge().await, versions(0));
    let again = world.ann.pull(&world.app, reader, Some(head)).await;
    assert_eq!(digests(&after), digests_before);
    assert_eq!(digests(&again), digests_before);
    said(&mut world, id, base).await;
    assert_eq!(world.count("record_history").await, 1, "that of the other");
}

/// Checks what list, restore, trail and metrics say after two versions went.
async fn said(world: &mut World, id: RowId, base: Version) {
    let (app, ann) = (&world.app, &mut world.ann);
    let known = ann.history(app, id).await;
    assert_eq!(titles(&known), ["three"]);
    assert!(known.complete_since.is_some());
    let wanted = json!({ "scope": own_scope(&ann.user), "table": "org_decisions", "id": id,
        "version": base });
    let path = format!("{HISTORY}/restore");
    let problem = app.post_as(&ann.user, &path, &wanted).await;
    let problem = problem.problem(ErrorCode::NotFound);
    let detail = problem.detail.unwrap();
    assert!(detail.contains("retention of 365 days"), "{detail}");
    // What came later has lost nothing.
    let (fresh, device) = (fresh_row(), ann.user.device_id);
    let at = app.state.clock.now();
    let stamp = coditect_core::canonical::time_from_ms(at.timestamp_millis());
    let change = Change {
        created_at: stamp.clone(),
        updated_at: stamp,
        ..decision(fresh, "later", 0)
    };
    ann.push(app, device, change).await;
    assert_eq!(ann.history(app, fresh).await.complete_since, None);
    let trail = "audit_log where action = 'history.purge' and detail ->> 'versions' = '2'";
    assert_eq!(world.count(trail).await, 1);
    let router = metrics::router(world.app.state.clone(), world.app.backups.path().to_owned());
    let shown = Reply::read(router.oneshot(get("/metrics")).await.unwrap()).await;
    assert!(shown.text().contains("\ncoditect_history_purged_total 2\n"));
}

#[tokio::test]
async fn a_device_that_is_gone_or_locked_out_holds_nothing() {
    for revoked in [false, true] {
        let mut world = World::start().await;
        let (app, ann) = (&world.app, &mut world.ann);
        let (writer, reader, id) = (ann.user.device_id, ann.device(app).await, fresh_row());
        ann.edit(app, writer, id, &["one"]).await;
        let first = ann.catch_up(app, reader).await;
        ann.edit(app, writer, id, &["two"]).await;
        app.db.clock().advance(TimeDelta::days(300));
        ann.pull(app, reader, Some(first)).await;
        world.days_pass(88);
        assert_eq!(world.purge().await, versions(0), "it may come back");
        if revoked {
            let client = world.app.db.superuser_client().await;
            let sql = format!("update devices set revoked_at = now() where id = '{reader}'");
            client.batch_execute(&sql).await.unwrap();
            world.days_pass(1);
        } else {
            world.days_pass(3);
        }
        assert_eq!(world.purge().await, versions(1), "{revoked}");
    }
}

#[tokio::test]
async fn versions_of_a_record_with_an_open_conflict_stay() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (one, two, id) = (ann.user.device_id, ann.device(app).await, fresh_row());
    ann.edit(app, one, id, &["ancestor", "edited"]).await;
    // Of a device that knows neither.
    ann.known.clear();
    let reply = ann.push(app, two, decision(id, "lost", 5)).await;
    assert_eq!(reply.outcomes[0].status, Status::Conflict);
    world.days_pass(400);
    let report = world.report().await;
    assert_eq!(
        (report.aged, report.held_by_conflicts, report.conflicts_open),
        (2, 2, 1),
        "{report:?}"
    );
    assert_eq!(world.purge().await, versions(0));
    let (app, ann) = (&world.app, &mut world.ann);
    assert!(titles(&ann.history(app, id).await).contains(&"ancestor"));

    let user = ann.at(app, one).await;
    let open: Value = app.get_as(user, CONFLICTS).await.ok();
    let conflict = open["conflicts"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("{CONFLICTS}/{conflict}/resolve");
    let body = json!({ "scope": own_scope(user), "take": "stored" });
    assert_eq!(app.post_as(user, &path, &body).await.status, 200);
    world.days_pass(1);
    assert_eq!(world.purge().await, versions(2));
    assert_eq!(world.count("sync_conflicts").await, 1, "settled lately");
    world.days_pass(366);
    let settled = Purged {
        versions: 0,
        conflicts: 1,
    };
    assert_eq!(world.purge().await, settled);
    assert_eq!(world.count("sync_conflicts").await, 0);
}

#[tokio::test]
async fn a_backup_under_way_is_waited_for_and_backups_still_work() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (writer, id) = (ann.user.device_id, fresh_row());
    ann.edit(app, writer, id, &["one", "two"]).await;
    let full = back_up(app, ann.at(app, writer).await, "full").await;
    ann.edit(app, writer, fresh_row(), &["of after"]).await;
    world.days_pass(400);
    let client = world.app.db.superuser_client().await;
    let running = "update context_backups set status = 'running', lease_until = ";
    let lease = world.app.state.clock.now() + TimeDelta::days(2);
    let hold = format!("{running} '{}'", lease.to_rfc3339());
    client.batch_execute(&hold).await.unwrap();
    assert_eq!(world.purge().await, versions(0));
    let free = "update context_backups set status = 'completed', lease_until = null";
    client.batch_execute(free).await.unwrap();
    let restoring = format!(
        "insert into context_restores (tenant_id, scope_id, id, scope_kind, backup_id,
        backup_created_at, backup_records, mode, status, requested_by, login_device, device_id,
        created_at, lease_until) select tenant_id, scope_id, id, scope_kind, id, created_at, 1,
        'merge', 'running', requested_by, requested_by, requested_by, created_at, '{}'
        from context_backups",
        lease.to_rfc3339()
    );
    client.batch_execute(&restoring).await.unwrap();
    world.days_pass(1);
    assert_eq!(world.purge().await, versions(0));
    let restored = "delete from context_restores";
    client.batch_execute(restored).await.unwrap();
    world.days_pass(1);
    assert_eq!(world.purge().await, versions(1));

    let (app, ann) = (&world.app, &mut world.ann);
    let user = ann.at(app, writer).await;
    let before = contents(app, user).await;
    let request = json!({ "backup_id": full.id, "mode": "replace" });
    let restored = restore(app, user, &request).await;
    assert!(restored.status < 300, "{}", restored.text());
    let after = contents(app, user).await;
    assert_eq!(before.values().filter(|it| !it.1).count(), 2);
    assert_eq!(after.values().filter(|it| !it.1).count(), 1);
    back_up(app, user, "full").await;
    let mut tables = std::collections::BTreeMap::<String, u64>::new();
    let export = coditect_server_store::transfer::export(app.db.db(), user.tenant_id, |row| {
        *tables.entry(row.table).or_default() += 1;
        Ok(())
    });
    export.await.unwrap();
    assert_eq!(tables["history_floors"], 1);
    assert_eq!(tables["org_decisions"], 2);
}

#[tokio::test]
async fn versions_of_before_numbers_were_kept_go_with_the_heads_of_their_files() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (writer, reader, id) = (ann.user.device_id, ann.device(app).await, fresh_row());
    ann.edit(app, writer, id, &["one"]).await;
    let first = ann.catch_up(app, reader).await;
    ann.edit(app, writer, id, &["two"]).await;
    let client = world.app.db.superuser_client().await;
    let forget = "update record_history set cursor = null";
    client.batch_execute(forget).await.unwrap();
    world.app.db.clock().advance(TimeDelta::days(380));
    world.ann.pull(&world.app, reader, Some(first)).await;
    assert_eq!(world.purge().await, versions(0));
    let head = world.ann.catch_up(&world.app, reader).await;
    assert!(head.n > first.n);
    world.days_pass(1);
    assert_eq!(world.purge().await, versions(1));
}

#[tokio::test]
async fn one_server_at_a_time_and_another_goes_on() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (writer, id) = (ann.user.device_id, fresh_row());
    ann.edit(app, writer, id, &["one", "two"]).await;
    world.days_pass(400);
    let (db, clock) = (world.app.db.db(), world.app.state.clock.clone());
    let tenant = world.tenant.id;
    let claim = || history::claim_now(db, tenant, None, clock.now());
    let first = claim().await.unwrap().unwrap();
    assert!(claim().await.unwrap().is_none());
    world.app.db.clock().advance(TimeDelta::minutes(6));
    let second = claim().await.unwrap().unwrap();
    let rest = std::time::Duration::ZERO;
    let refused = history::run(db, &first, || clock.now(), rest).await;
    assert!(
        matches!(refused, Err(StoreError::Retry { .. })),
        "{refused:?}"
    );
    history::run(db, &second, || clock.now(), rest)
        .await
        .unwrap();
    let purged = history::release(db, &second, clock.now()).await.unwrap();
    assert_eq!(purged, versions(1));
}

#[tokio::test]
async fn the_organisation_says_how_long() {
    let mut world = World::start().await;
    let (app, ann) = (&world.app, &mut world.ann);
    let (writer, id) = (ann.user.device_id, fresh_row());
    ann.edit(app, writer, id, &["one", "two"]).await;
    world.days_pass(40);
    assert_eq!(world.purge().await, versions(0));
    let (db, now) = (world.app.db.db(), world.app.state.clock.now());
    let server = history::retention(db, world.tenant.id, Some(10))
        .await
        .unwrap();
    assert_eq!(
        (server.days, server.decided_by),
        (Some(10), DecidedBy::Server)
    );
    history::set_retention(db, world.tenant.id, Some(30), now)
        .await
        .unwrap();
    let own = history::retention(db, world.tenant.id, Some(10))
        .await
        .unwrap();
    assert_eq!(
        (own.days, own.decided_by),
        (Some(30), DecidedBy::Organisation)
    );
    // A change is looked at with the next tick.
    assert_eq!(world.purge().await, versions(1));
    let set = "audit_log where action = 'history.retention' and detail ->> 'days' = '30'";
    assert_eq!(world.count(set).await, 1);
}

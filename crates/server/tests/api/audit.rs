//! The audit trail: who reads it, and that nobody changes it unnoticed.

use std::time::Duration;

use coditect_protocol::wire::audit::{AuditEntry, AuditPage};
use coditect_protocol::wire::push::PushReply;
use coditect_protocol::{ErrorCode, OrganizationId};
use coditect_server::jobs::audit::{self, AuditError, Heads};
use coditect_server_store::audit::chain::{self, Closing, Fault, FaultKind, Outside, Verdict};
use coditect_server_store::audit::head::{HeadKey, Tip};
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser};

use crate::support::{PUSH, TestApp, decision, fresh_row, own_scope, push_request};

const LIST: &str = "/api/v1/audit/";
const EXPORT: &str = "/api/v1/audit/export";

/// Entries of the trail that a superuser spoils; `AUDIT_ENTRIES` makes it longer.
#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn entries_wanted() -> i64 {
    let wanted = std::env::var("AUDIT_ENTRIES").ok();
    wanted.map_or(3_500, |text| text.parse().unwrap())
}

/// A server with a trail, and where its heads are kept.
struct Trail {
    app: TestApp,
    tenant: TestTenant,
    heads: Heads,
}

impl Trail {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let tenant = app.db.with_tenant("acme").await;
        let storage = app.state.backups.clone().unwrap().storage;
        let key = HeadKey::load_or_create(&app.db.secrets_folder()).unwrap();
        Self {
            heads: Heads::new(storage, key),
            app,
            tenant,
        }
    }

    fn id(&self) -> OrganizationId {
        self.tenant.id
    }

    /// Adds entries as somebody who needs no server for it.
    async fn add(&self, count: i64) {
        let sql = format!(
            "insert into audit_log (tenant_id, id, at, action, resource_type, resource_id, detail)
             select '{}', gen_random_uuid(), now(), 'push', 'stream', n::text,
             jsonb_build_object('rows', n) from generate_series(1, {count}) n",
            self.id()
        );
        self.by_superuser(&sql).await;
    }

    async fn by_superuser(&self, sql: &str) {
        let client = self.app.db.superuser_client().await;
        client.batch_execute(sql).await.unwrap();
    }

    async fn close(&self) -> Option<Fault> {
        let (db, clock) = (&self.app.state.db, &self.app.state.clock);
        let closed = audit::close_all(db, clock, &self.heads, self.id()).await;
        closed.unwrap()
    }

    async fn verify(&self) -> Result<Verdict, AuditError> {
        let (db, clock) = (&self.app.state.db, &self.app.state.clock);
        audit::verify(db, clock, &self.heads, self.id()).await
    }

    /// Returns the faults as kind and block.
    async fn faults(&self) -> Vec<(FaultKind, i64)> {
        let found = self.verify().await.unwrap().faults;
        found.iter().map(|it| (it.kind, it.block)).collect()
    }
}

/// Pushes a decision so many times.
async fn push(app: &TestApp, user: &TestUser, times: u32) {
    let mut token = None;
    for _ in 0..times {
        let change = decision(fresh_row(), "a decision", 0);
        let (device, scope) = (user.device_id, own_scope(user));
        let request = push_request(device, scope, token.as_deref(), vec![change]);
        let reply: PushReply = app.post_as(user, PUSH, &request).await.ok();
        token = Some(reply.token);
    }
}

#[tokio::test]
async fn what_a_superuser_alters_or_removes_is_found() {
    let trail = Trail::start().await;
    let wanted = entries_wanted();
    trail.add(wanted).await;
    assert_eq!(trail.close().await, None);
    let whole = trail.verify().await.unwrap();
    assert_eq!((whole.entries >= wanted, whole.open), (true, 0));
    assert_eq!(whole.blocks, (whole.entries + 999) / 1_000);
    assert_eq!(whole.faults, []);
    trail
        .by_superuser(
            "update audit_log set detail = '{\"rows\": 0}' where id =
             (select id from audit_log where block = 2 order by id limit 1 offset 5);
             delete from audit_log where id =
             (select id from audit_log where block = 3 order by id limit 1 offset 7)",
        )
        .await;
    let found = trail.verify().await.unwrap().faults;
    let expected = [
        (FaultKind::EntryAltered, 2, 1_000),
        (FaultKind::EntriesRemoved, 3, 999),
    ];
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.kind, it.block, it.entries_found.unwrap()))
        .collect();
    assert_eq!(found, expected);
    // The trail goes on, and goes on telling.
    trail.add(1).await;
    assert_eq!(trail.close().await, None);
    assert_eq!(trail.faults().await.len(), 2);
}

#[tokio::test]
async fn every_field_of_an_entry_is_proven() {
    let trail = Trail::start().await;
    trail.add(3).await;
    assert_eq!(trail.close().await, None);
    let fields = [
        ("at", "a.at + interval '1 microsecond'"),
        ("user_id", "gen_random_uuid()"),
        ("device_id", "gen_random_uuid()"),
        ("action", "'pull'"),
        ("resource_type", "null"),
        ("resource_id", "a.resource_id || '0'"),
        ("detail", "'{}'"),
    ];
    // One of those just added: what the tenant's own start left in the trail lacks some fields.
    trail
        .by_superuser(
            "create table before as
             select * from audit_log where block = 1 and resource_type = 'stream' limit 1",
        )
        .await;
    for (field, value) in fields {
        let change =
            format!("update audit_log a set {field} = {value} from before b where a.id = b.id");
        trail.by_superuser(&change).await;
        assert_eq!(
            trail.faults().await,
            [(FaultKind::EntryAltered, 1)],
            "{field}"
        );
        trail
            .by_superuser(&format!(
                "update audit_log a set {field} = b.{field} from before b where a.id = b.id"
            ))
            .await;
        assert_eq!(trail.faults().await, [], "{field}");
    }
}

#[tokio::test]
async fn an_end_that_is_cut_off_is_found() {
    let trail = Trail::start().await;
    trail.add(2_500).await;
    assert_eq!(trail.close().await, None);
    trail
        .by_superuser(
            "create table kept_entries as select * from audit_log where block = 3;
             create table kept_blocks as select * from audit_blocks where number = 3;
             delete from audit_log where block = 3; delete from audit_blocks where number = 3",
        )
        .await;
    assert_eq!(trail.faults().await, [(FaultKind::CutOff, 3)]);
    // Nothing goes over it: entries wait, and the head stays what it was.
    trail.add(5).await;
    let fault = trail.close().await.unwrap();
    assert_eq!((fault.kind, fault.block), (FaultKind::CutOff, 3));
    assert_eq!(trail.verify().await.unwrap().open, 5);
    trail
        .by_superuser(
            "insert into audit_blocks select * from kept_blocks;
             insert into audit_log select * from kept_entries",
        )
        .await;
    assert_eq!(trail.faults().await, []);
    // A block made up in the place of the last one.
    trail
        .by_superuser("update audit_blocks set hash = sha256('x') where number = 4")
        .await;
    let found = trail.faults().await;
    assert!(found.contains(&(FaultKind::OtherChain, 4)), "{found:?}");
    // The middle of the chain.
    trail
        .by_superuser("delete from audit_blocks where number = 2")
        .await;
    let found = trail.faults().await;
    assert!(found.contains(&(FaultKind::BlockRemoved, 2)), "{found:?}");
}

#[tokio::test]
async fn a_head_that_is_gone_or_forged_is_found() {
    let trail = Trail::start().await;
    trail.add(1_500).await;
    assert_eq!(trail.close().await, None);
    let path = trail.app.backups.path().join(Heads::path(trail.id()));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"block\": 2", "\"block\": 1")).unwrap();
    assert!(matches!(
        trail.verify().await,
        Err(AuditError::NotSigned { .. })
    ));
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(
        trail.verify().await,
        Err(AuditError::NoHead { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(trail.faults().await, [(FaultKind::HeadRemoved, 2)]);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(trail.faults().await, []);
}

#[tokio::test]
async fn a_database_that_was_set_back_is_accepted_by_an_operator_only() {
    let trail = Trail::start().await;
    trail.add(1_500).await;
    assert_eq!(trail.close().await, None);
    trail
        .by_superuser(
            "delete from audit_log where block = 2; delete from audit_blocks where number = 2",
        )
        .await;
    assert_eq!(trail.faults().await, [(FaultKind::CutOff, 2)]);
    let (db, clock) = (&trail.app.state.db, &trail.app.state.clock);
    let old = audit::accept(db, clock, &trail.heads, trail.id()).await;
    assert_eq!(old.unwrap().unwrap().block, 2);
    let after = trail.verify().await.unwrap();
    assert_eq!((after.blocks, after.open, after.faults), (2, 0, vec![]));
    let client = trail.app.db.superuser_client().await;
    let noted = "select detail #>> '{old_head,block}' from audit_log
        where action = 'audit.accept' and block = 2";
    let noted = client.query_typed(noted, &[]).await.unwrap();
    assert_eq!(noted[0].get::<_, &str>(0), "2");
}

#[tokio::test]
async fn roles_of_the_program_only_add() {
    let trail = Trail::start().await;
    trail.add(2).await;
    assert_eq!(trail.close().await, None);
    let app = trail.app.db.app_client().await;
    let system = trail.app.db.system_client().await;
    let spoiling = [
        "update audit_log set action = 'x'",
        "delete from audit_log",
        "truncate audit_log",
        "update audit_blocks set entries = 1",
        "delete from audit_blocks",
    ];
    for sql in spoiling {
        for (client, role) in [(&app, "app"), (&system, "system")] {
            let refused = client.batch_execute(sql).await.unwrap_err();
            let code = refused.code().unwrap().code();
            assert_eq!(code, "42501", "{role}: {sql}: {refused}");
        }
    }
    let block = "update audit_log set block = 9";
    assert!(app.batch_execute(block).await.is_err());
    assert_eq!(trail.faults().await, []);
}

#[tokio::test]
async fn auditors_read_the_trail_of_their_organisation_and_members_do_not() {
    let trail = Trail::start().await;
    let app = &trail.app;
    let ann = app.db.with_user(&trail.tenant, "ann@acme.example").await;
    let person = async |email: &str, role| app.db.with_role(&trail.tenant, email, role).await;
    let auditor = person("aud@acme.example", Role::Auditor).await;
    let other = app.db.with_tenant("other").await;
    let owner = app.db.with_role(&other, "eve@other.example", Role::Owner);
    let owner = owner.await;
    push(app, &ann, 3).await;
    for role in [Role::Member, Role::Viewer, Role::Executive] {
        let someone = person(&format!("{}@acme.example", role.as_str()), role).await;
        for path in [LIST, EXPORT] {
            let refused = app.get_as(&someone, path).await;
            refused.problem(ErrorCode::PermissionDenied);
        }
    }
    let mut found: Vec<AuditEntry> = Vec::new();
    let mut path = format!("{LIST}?action=push&limit=2");
    let mut pages = 0;
    loop {
        let page: AuditPage = app.get_as(&auditor, &path).await.ok();
        found.extend(page.entries);
        pages += 1;
        let Some(next) = page.next else { break };
        path = format!("{LIST}?action=push&limit=2&before={next}");
    }
    assert_eq!((found.len(), pages), (3, 2));
    assert!(found.iter().all(|it| it.user_id == Some(ann.user_id)));
    assert!(found.is_sorted_by(|left, right| left.at >= right.at));
    let none: AuditPage = app
        .get_as(&owner, &format!("{LIST}?action=push"))
        .await
        .ok();
    assert_eq!(none.entries, []);
    let by = format!("{LIST}?user_id={}&device_id={}", ann.user_id, ann.device_id);
    let by: AuditPage = app.get_as(&auditor, &by).await.ok();
    assert!(by.entries.len() >= 3);
    let later = format!("{LIST}?since=2999-01-01T00:00:00Z");
    let later: AuditPage = app.get_as(&auditor, &later).await.ok();
    assert_eq!(later.entries, []);
    for wrong in ["before=x", "since=yesterday", "color=red"] {
        let reply = app.get_as(&auditor, &format!("{LIST}?{wrong}")).await;
        reply.problem(ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn an_export_has_every_entry_and_is_one() {
    let trail = Trail::start().await;
    let app = &trail.app;
    let owner = app
        .db
        .with_role(&trail.tenant, "own@acme.example", Role::Owner)
        .await;
    trail.add(2_300).await;
    let reply = app.get_as(&owner, EXPORT).await;
    assert_eq!(reply.headers["content-type"], "application/jsonl");
    let text = reply.text();
    let all: Vec<AuditEntry> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pushes = all.iter().filter(|entry| entry.action == "push").count();
    assert_eq!(pushes, 2_300);
    let exports = all.iter().filter(|entry| entry.action == "audit.export");
    assert_eq!(exports.count(), 1);
    let csv = app
        .get_as(&owner, &format!("{EXPORT}?format=csv&action=push"))
        .await;
    assert_eq!(csv.headers["content-type"], "text/csv");
    let text = csv.text();
    assert!(text.starts_with("id,at,user_id,"), "{text}");
    assert_eq!(text.matches("\r\n").count(), 2_301);
    let wrong = app.get_as(&owner, &format!("{EXPORT}?format=xml")).await;
    wrong.problem(ErrorCode::BadRequest);
}

#[tokio::test]
async fn two_servers_close_the_blocks_of_one_trail() {
    let trail = Trail::start().await;
    trail.add(5_000).await;
    let (db, clock) = (&trail.app.state.db, &trail.app.state.clock);
    let close = || audit::close_all(db, clock, &trail.heads, trail.id());
    let closed = tokio::time::timeout(Duration::from_secs(300), async {
        tokio::join!(close(), close(), close())
    });
    let (one, two, three) = closed.await.unwrap();
    assert_eq!(
        (one.unwrap(), two.unwrap(), three.unwrap()),
        (None, None, None)
    );
    let whole = trail.verify().await.unwrap();
    assert_eq!((whole.open, whole.faults), (0, vec![]));
}

#[tokio::test]
async fn no_block_is_closed_before_the_last_one_is_told() {
    let trail = Trail::start().await;
    trail.add(2_500).await;
    let (state, tenant) = (&trail.app.state, trail.id());
    let closed = async |outside: Outside<'_>| -> Tip {
        let closing = chain::close(&state.db, tenant, outside, state.clock.now()).await;
        match closing.unwrap() {
            Closing::Closed(tip) => tip,
            other => panic!("{other:?}"),
        }
    };
    let first = closed(Outside::Nothing).await;
    // Another server, while the first one still writes what it has to tell.
    assert_eq!(
        (closed(Outside::Nothing).await, first.block),
        (first.clone(), 1)
    );
    let second = closed(Outside::Head(&first)).await;
    assert_eq!(
        (closed(Outside::Head(&first)).await, second.block),
        (second.clone(), 2)
    );
    assert_eq!(closed(Outside::Head(&second)).await.block, 3);
}

//! Erasure: of a person, of an organisation, and that nothing brings them back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::TimeDelta;
use coditect_core::{canonical, clock, hash};
use coditect_protocol::catalogue::{ColumnType, Direction, File, Merge, TABLES, Table};
use coditect_protocol::wire::erasure::{ErasureNotice, NOTICE};
use coditect_protocol::wire::push::{Change, CounterPart, PushReply, PushRequest};
use coditect_protocol::wire::{Op, Row};
use coditect_protocol::{ErrorCode, Scope};
use coditect_server::erasure::{self, ErasureError, Ledger};
use coditect_server::jobs::audit::{self, Heads};
use coditect_server::{router, transfer};
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::erasure::{Plan, Receipt, Signed};
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser, files_below};
use serde_json::{Value, json};

use crate::backups::{back_up, restore};
use crate::support::{NOW_MS, PUSH, TestApp, decision, fresh_row, own_scope, push_request};

const REFRESH: &str = "/api/v1/auth/refresh/";
/// Edits were made a minute before.
const EDIT_MS: i64 = NOW_MS - 60_000;

/// An organisation of two, and a stranger in another one. What each writes can be told apart.
struct World {
    app: TestApp,
    tenant: TestTenant,
    ann: TestUser,
    bob: TestUser,
    stranger: TestUser,
    key: Arc<HeadKey>,
    data: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let mut app = TestApp::start().await;
        let key = HeadKey::load_or_create(&app.db.secrets_folder()).unwrap();
        let key = Arc::new(key);
        app.state.erasure_key = Some(Arc::clone(&key));
        app.router = router::router(app.state.clone());
        let tenant = app.db.with_tenant("mark-acme").await;
        let ann = app.db.with_user(&tenant, "mark-ann@acme.example").await;
        let bob = app
            .db
            .with_role(&tenant, "mark-bob@acme.example", Role::Owner);
        let bob = bob.await;
        let other = app.db.with_tenant("mark-other").await;
        let stranger = app
            .db
            .with_role(&other, "mark-eve@other.example", Role::Owner);
        let stranger = stranger.await;
        let world = Self {
            app,
            tenant,
            ann,
            bob,
            stranger,
            key,
            data: tempfile::tempdir().unwrap(),
        };
        let token = world.plant(&world.ann, "mark-ann").await;
        world.plant(&world.bob, "mark-bob").await;
        world.plant(&world.stranger, "mark-eve").await;
        let shared = vec![decision(fresh_row(), "mark-shared", 0)];
        let org = Scope::Org(world.tenant.id.get());
        let shared = push_request(world.ann.device_id, org, Some(&token), shared);
        world.push(&world.ann, &shared).await;
        world
    }

    async fn push(&self, user: &TestUser, request: &PushRequest) -> String {
        let reply: PushReply = self.app.post_as(user, PUSH, request).await.ok();
        for outcome in &reply.outcomes {
            assert_eq!(outcome.code, None, "{outcome:?}");
        }
        reply.token
    }

    /// Writes `mark` into every column that takes it of every table that devices write to, into a
    /// long value, into history and into a conflict. Returns the token of the critical file.
    async fn plant(&self, user: &TestUser, mark: &str) -> String {
        let mut org = String::new();
        for file in [File::Sessions, File::Projects, File::Platform, File::Org] {
            let tables = file
                .tables()
                .filter(|table| table.direction != Direction::Down);
            let changes = tables.map(|table| planted(table, user, mark)).collect();
            let request = PushRequest {
                file,
                ..push_request(user.device_id, own_scope(user), None, changes)
            };
            org = self.push(user, &request).await;
        }
        let row = fresh_row();
        for (title, later_ms) in [("first", 0), ("edited", 5)] {
            let change = decision(row, &format!("{mark} {title}"), later_ms);
            let scope = own_scope(user);
            let request = push_request(user.device_id, scope, Some(&org), vec![change]);
            org = self.push(user, &request).await;
        }
        let conflict = format!(
            "insert into sync_conflicts (tenant_id, scope_id, id, table_name, row_id, reason,
             winner_version, winner_device, loser_version, loser_device, row, detected_at)
             values ('{tenant}', '{user}', gen_random_uuid(), 'org_decisions', '{row}',
             'concurrent', 1, '{device}', 1, '{device}', '{{\"title\": \"{mark}\"}}', now());
             update devices set name = '{mark}' where id = '{device}';
             insert into invitations (tenant_id, id, scope_id, email, role, secret_hash, invited_by,
             created_at, expires_at) values ('{tenant}', gen_random_uuid(), '{tenant}', '{email}',
             'member', '', '{user}', now(), now());",
            tenant = user.tenant_id,
            user = user.user_id,
            device = user.device_id,
            email = user.email,
        );
        self.by_superuser(&conflict).await;
        org
    }

    async fn by_superuser(&self, sql: &str) {
        let client = self.app.db.superuser_client().await;
        client.batch_execute(sql).await.unwrap();
    }

    fn ledger(&self) -> Ledger {
        let storage = self.app.state.backups.clone().unwrap().storage;
        Ledger::new(self.data.path(), storage, Arc::clone(&self.key))
    }

    async fn audit_is_whole(&self, app: &TestApp) {
        let storage = self.app.state.backups.clone().unwrap().storage;
        let heads = Heads::new(storage, Arc::clone(&self.key));
        let (db, clock) = (app.db.db(), &app.state.clock);
        let verdict = audit::verify(db, clock, &heads, self.tenant.id).await;
        let verdict = verdict.unwrap();
        assert_eq!((verdict.faults, verdict.open), (Vec::new(), 0));
        assert!(verdict.entries > 3);
    }
}

/// Returns a new row of a table with `mark` in every column that takes it.
pub(crate) fn planted(table: &'static Table, user: &TestUser, mark: &str) -> Change {
    let mut row = Row::new();
    for column in table.columns {
        let value = match column.ty {
            ColumnType::Text if table.cloud == "context_messages" && column.name == "content" => {
                json!(format!("{mark} ").repeat(5_000))
            }
            ColumnType::Text => json!(format!("{mark} {}", column.name)),
            ColumnType::Integer => json!(7),
            ColumnType::Real => json!(0.5),
            ColumnType::Boolean => json!(true),
            ColumnType::Timestamp => json!(canonical::time_from_ms(EDIT_MS)),
            ColumnType::Json => json!({ "said": mark }),
            ColumnType::Blob => json!("AAEC"),
        };
        row.insert(column.name.to_owned(), value);
    }
    if table.cloud == "context_messages" {
        row.remove("bodies");
    }
    let row = canonical::row(table, row);
    let id = hash::derived_id(table, &row, user.device_id).unwrap();
    let counters = table.columns_by(Merge::Counter);
    let counters = counters.map(|column| {
        let part = CounterPart { seq: 1, total: 7 };
        (column.name.to_owned(), part)
    });
    Change {
        table: table.cloud.to_owned(),
        id: id.unwrap_or_else(fresh_row),
        op: Op::Upsert,
        base: None,
        follows: None,
        base_hash: None,
        proposed: clock::propose(EDIT_MS, 0),
        register: true,
        hash: hash::content(table, &row).to_string(),
        created_at: canonical::time_from_ms(EDIT_MS),
        updated_at: canonical::time_from_ms(EDIT_MS),
        counters: counters.collect(),
        row: Some(row),
    }
}

/// Returns in how many rows of each table of the database `mark` stands, wherever: in text, in
/// JSON, in bytes, in what is packed.
async fn found(app: &TestApp, mark: &str) -> BTreeMap<String, usize> {
    let client = app.db.superuser_client().await;
    let columns = "select table_name::text, column_name::text, data_type::text
        from information_schema.columns where table_schema = current_schema() order by 1, 2";
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for row in client.query_typed(columns, &[]).await.unwrap() {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let blobs = tables.entry(table).or_default();
        if row.get::<_, String>(2) == "bytea" {
            blobs.push(column);
        }
    }
    let mut found = BTreeMap::new();
    for (table, blobs) in tables {
        let bytes: Vec<String> = blobs.iter().map(|it| format!(", {it}")).collect();
        let select = format!("select to_jsonb(t)::text{} from {table} t", bytes.concat());
        let rows = client.query_typed(&select, &[]).await.unwrap();
        let has = |bytes: &[u8]| {
            bytes
                .windows(mark.len())
                .any(|some| some == mark.as_bytes())
        };
        let marked = rows.iter().filter(|row| {
            let blobs = (1..=blobs.len()).filter_map(|at| row.get::<_, Option<Vec<u8>>>(at));
            let mut blobs = blobs.map(|blob| zstd::decode_all(&blob[..]).unwrap_or(blob));
            has(row.get::<_, String>(0).as_bytes()) || blobs.any(|blob| has(&blob))
        });
        let marked = marked.count();
        if marked > 0 {
            found.insert(table, marked);
        }
    }
    found
}

/// Tables that hold something of each person.
fn everywhere() -> Vec<&'static str> {
    let pushed = TABLES
        .iter()
        .filter(|table| table.direction != Direction::Down);
    let mut tables: Vec<&str> = pushed.map(|table| table.cloud).collect();
    tables.extend([
        "bodies",
        "record_history",
        "sync_conflicts",
        "users",
        "logins",
        "tenant_logins",
        "devices",
        "invitations",
    ]);
    tables.sort_unstable();
    tables
}

#[tokio::test]
async fn nothing_of_a_person_is_left_and_all_of_others() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let before = found(app, "mark-ann").await;
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        everywhere().iter().collect::<Vec<_>>()
    );
    let others = ["mark-bob", "mark-eve", "mark-shared"];
    let mut of_others = Vec::new();
    for mark in others {
        of_others.push(found(app, mark).await);
    }
    let backup = back_up(app, ann, "full").await;
    let folder = app
        .backups
        .path()
        .join(format!("tenants/{}/users", world.tenant.id));
    let archives = files_below(&folder);
    assert_eq!(archives.len(), 1);
    let (copy, row) = (std::fs::read(&archives[0]).unwrap(), backup_row(app).await);

    let (db, clock) = (app.db.db(), &app.state.clock);
    let (tenant, person) = (world.tenant.id, Some(ann.user_id));
    let plan = erasure::plan(db, clock, tenant, person).await.unwrap();
    assert_eq!(
        found(app, "mark-ann").await,
        before,
        "a plan removes nothing"
    );
    let receipt = erasure::erase(db, clock, &world.ledger(), tenant, person).await;
    let receipt = receipt.unwrap();

    assert_eq!(found(app, "mark-ann").await, BTreeMap::new());
    for (mark, before) in others.into_iter().zip(of_others) {
        assert_eq!(found(app, mark).await, before, "{mark}");
    }
    // The id itself: where nothing but the proof of it is left.
    let id = ann.user_id.to_string();
    let named = found(app, &id).await;
    let named: Vec<&str> = named.keys().map(String::as_str).collect();
    let proofs = ["audit_log", "erased_logins", "erasures", "org_decisions"];
    assert!(
        named.iter().all(|table| proofs.contains(table)),
        "{named:?}"
    );

    assert_eq!(
        files_below(&folder),
        Vec::<PathBuf>::new(),
        "the archive went"
    );
    assert_eq!(receipt.what.backups[0].id, backup.id);
    tells_all(&world, &plan, &receipt);
    world.audit_is_whole(app).await;
    std::fs::create_dir_all(archives[0].parent().unwrap()).unwrap();
    std::fs::write(&archives[0], copy).unwrap();
    put_back(&world, &row).await;
    let request = json!({ "backup_id": backup.id, "mode": "merge" });
    nothing_brings_it_back(&world, &request).await;
}

fn tells_all(world: &World, plan: &Plan, receipt: &Signed<Receipt>) {
    let what = &receipt.what;
    assert_eq!((what.rows, what.tables["logins"]), (plan.rows + 1, 1));
    for (table, rows) in &plan.tables {
        assert_eq!(what.tables.get(table), Some(rows), "{table}");
    }
    assert_eq!(what.backups.len(), 1);
    assert!(what.backups[0].removed_at.is_some());
    let text = what.text().unwrap();
    assert!(world.key.has_signed(&text, &receipt.signature));
}

/// Neither a device that was away nor an archive that somebody kept.
async fn nothing_brings_it_back(world: &World, request: &Value) {
    let (app, ann) = (&world.app, &world.ann);
    let late = vec![decision(fresh_row(), "x", 0)];
    let late = push_request(ann.device_id, own_scope(ann), None, late);
    let refused = app.post_as(ann, PUSH, &late).await;
    refused.problem(ErrorCode::Unauthenticated);
    let as_bob = format!("/api/v1/users/{}/context/restore", ann.user_id);
    let refused = app.post_as(&world.bob, &as_bob, request).await;
    assert!(refused.status >= 400, "{}", refused.text());
    assert_eq!(restore(app, ann, request).await.status, 401);
    assert_eq!(found(app, "mark-ann").await, BTreeMap::new());
}

/// Returns the one backup's row.
async fn backup_row(app: &TestApp) -> String {
    let client = app.db.superuser_client().await;
    let select = "select to_jsonb(b)::text from context_backups b";
    client.query_typed_one(select, &[]).await.unwrap().get(0)
}

/// Puts a backup's row back, as an older copy of the database has it.
async fn put_back(world: &World, row: &str) {
    let insert = format!(
        "insert into context_backups
         select * from jsonb_populate_record(null::context_backups, $row${row}$row$)"
    );
    world.by_superuser(&insert).await;
}

#[tokio::test]
async fn a_restore_is_refused_where_an_erased_account_is_back() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let backup = back_up(app, ann, "full").await;
    let request = json!({ "backup_id": backup.id, "mode": "merge" });
    assert_eq!(restore(app, ann, &request).await.status, 200);
    // As in a database that was put together of older and newer tables.
    let erased = format!(
        "insert into erasures (tenant_id, id, user_id, requested_at)
         values ('{}', gen_random_uuid(), '{}', now())",
        ann.tenant_id, ann.user_id
    );
    world.by_superuser(&erased).await;
    for mode in ["merge", "replace"] {
        let request = json!({ "backup_id": backup.id, "mode": mode });
        let refused = restore(app, ann, &request).await;
        refused.problem(ErrorCode::ScopeErased);
    }
}

#[tokio::test]
async fn devices_are_told_with_a_proof_and_strangers_are_not() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let (db, clock) = (app.db.db(), &app.state.clock);
    let login: Value = app
        .post(
            "/api/v1/auth/license/",
            &json!({ "license_key": ann.license_key }),
        )
        .await
        .ok();
    assert_eq!(login["erasure_key"], world.key.public_key());
    let ledger = world.ledger();
    let erased = erasure::erase(db, clock, &ledger, world.tenant.id, Some(ann.user_id)).await;
    erased.unwrap();
    for token in [json!(ann.refresh_token), login["refresh_token"].clone()] {
        let told = app.post(REFRESH, &json!({ "refresh_token": token })).await;
        let problem = told.problem(ErrorCode::AccountErased);
        let notice = problem.extra.get(NOTICE).cloned().unwrap();
        let notice: ErasureNotice = serde_json::from_value(notice).unwrap();
        assert_eq!(
            (notice.tenant_id, notice.user_id),
            (ann.tenant_id, ann.user_id)
        );
        assert!(world.key.has_signed(&notice.text(), &notice.signature));
    }
    // Somebody who made a token up learns nothing.
    let mut forged = ann.refresh_token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let forged = app.post(REFRESH, &json!({ "refresh_token": forged })).await;
    forged.problem(ErrorCode::Unauthenticated);
    let license = json!({ "license_key": ann.license_key });
    let refused = app.post("/api/v1/auth/license/", &license).await;
    refused.problem(ErrorCode::Unauthenticated);
    let bob = json!({ "refresh_token": world.bob.refresh_token });
    assert_eq!(app.post(REFRESH, &bob).await.status, 200);
}

#[tokio::test]
async fn an_older_state_loses_again_what_the_ledger_names() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let (db, clock) = (app.db.db(), &app.state.clock);
    let file = world.data.path().join("acme.jsonl.gz");
    transfer::export(db, clock, world.tenant.id, &file)
        .await
        .unwrap();
    let ledger = world.ledger();
    let erased = erasure::erase(db, clock, &ledger, world.tenant.id, Some(ann.user_id)).await;
    let id = erased.unwrap().what.erasure_id;

    // Another database that knows nothing of it, beside the same ledger.
    let older = TestApp::start().await;
    transfer::import(older.db.db(), clock, &file).await.unwrap();
    assert!(found(&older, "mark-ann").await.len() > 20);
    erasure::lock_out(older.db.db(), clock, &ledger)
        .await
        .unwrap();
    let license = json!({ "license_key": ann.license_key });
    let refused = older.post("/api/v1/auth/license/", &license).await;
    refused.problem(ErrorCode::Unauthenticated);
    // Either half of the ledger is enough.
    for known in [
        ledger.read_file().unwrap(),
        ledger.read_storage().await.unwrap(),
    ] {
        assert_eq!(known.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
    }
    let known = ledger.read_all().await.unwrap();
    let again = async |app: &TestApp, patience: TimeDelta| {
        let done = erasure::apply_again(app.db.db(), clock, &ledger, &known, patience).await;
        done.unwrap()
    };
    let begun = again(&older, TimeDelta::minutes(10)).await;
    assert_eq!(begun, 0, "it is left to who began it");
    app.db.clock().advance(TimeDelta::seconds(1));
    assert_eq!(again(&older, TimeDelta::zero()).await, 1);
    assert_eq!(found(&older, "mark-ann").await, BTreeMap::new());
    assert!(found(&older, "mark-bob").await.len() > 20);
    for app in [&older, app] {
        let left = again(app, TimeDelta::zero()).await;
        assert_eq!(left, 0, "there is nothing left to do");
    }
}

#[tokio::test]
async fn an_organisation_goes_with_all_its_people() {
    let world = World::start().await;
    let (app, tenant) = (&world.app, world.tenant.id);
    let (db, clock) = (app.db.db(), &app.state.clock);
    let of_stranger = found(app, "mark-eve").await;
    back_up(app, &world.bob, "full").await;
    let receipt = erasure::erase(db, clock, &world.ledger(), tenant, None)
        .await
        .unwrap();
    assert_eq!(receipt.what.backups.len(), 1);
    for mark in ["mark-ann", "mark-bob", "mark-shared", "mark-acme"] {
        assert_eq!(found(app, mark).await, BTreeMap::new(), "{mark}");
    }
    assert_eq!(found(app, "mark-eve").await, of_stranger);
    for user in [&world.ann, &world.bob] {
        let token = json!({ "refresh_token": user.refresh_token });
        app.post(REFRESH, &token)
            .await
            .problem(ErrorCode::AccountErased);
    }
    world.audit_is_whole(app).await;
}

#[tokio::test]
async fn the_last_owner_stays_and_the_ledger_does_not_name_anybody() {
    let world = World::start().await;
    let (app, bob) = (&world.app, &world.bob);
    let (db, clock) = (app.db.db(), &app.state.clock);
    let (before, ledger) = (found(app, "mark-bob").await, world.ledger());
    let refused = erasure::erase(db, clock, &ledger, world.tenant.id, Some(bob.user_id)).await;
    assert!(
        matches!(refused, Err(ErasureError::LastOwner)),
        "{refused:?}"
    );
    assert_eq!(found(app, "mark-bob").await, before);
    assert_eq!(ledger.read_all().await.unwrap(), []);
    // A person of another organisation is nobody here.
    let stranger = Some(world.stranger.user_id);
    let refused = erasure::erase(db, clock, &ledger, world.tenant.id, stranger).await;
    assert!(
        matches!(refused, Err(ErasureError::Store(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_somebody_else_wrote_into_the_ledger_does_not_count() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let (db, clock) = (app.db.db(), &app.state.clock);
    let other = tempfile::tempdir().unwrap();
    let key = Arc::new(HeadKey::load_or_create(other.path()).unwrap());
    let storage = app.state.backups.clone().unwrap().storage;
    let forged = Ledger::new(world.data.path(), storage, key);
    let order = coditect_server_store::erasure::Erasure::order(
        db,
        world.tenant.id,
        Some(ann.user_id),
        clock.now(),
    );
    forged.add(&order.await.unwrap()).await.unwrap();
    let ledger = world.ledger();
    assert_eq!(ledger.read_all().await.unwrap(), []);
    erasure::lock_out(db, clock, &ledger).await.unwrap();
    assert!(found(app, "mark-ann").await.len() > 20);
}

fn own_account(user: &TestUser) -> String {
    format!("/api/v1/users/{}/erase", user.user_id)
}

#[tokio::test]
async fn people_erase_themselves_and_nobody_else() {
    let mut world = World::start().await;
    world.app.state.ledger = Some(world.ledger());
    world.app.router = router::router(world.app.state.clone());
    let (app, ann, bob) = (&world.app, &world.ann, &world.bob);
    let before = found(app, "mark-ann").await;
    let wanted = json!({ "email": ann.email });

    // Others, another address, nothing said.
    let others = app.post_as(bob, &own_account(ann), &wanted).await;
    others.problem(ErrorCode::NotFound);
    let path = own_account(ann);
    let strangers = app.post_as(&world.stranger, &path, &wanted).await;
    strangers.problem(ErrorCode::NotFound);
    for wrong in [
        json!({ "email": bob.email }),
        json!({ "email": "" }),
        json!({}),
    ] {
        let refused = app.post_as(ann, &own_account(ann), &wrong).await;
        refused.problem(ErrorCode::BadRequest);
    }
    let last = json!({ "email": bob.email });
    let refused = app.post_as(bob, &own_account(bob), &last).await;
    let detail = refused.problem(ErrorCode::LastOwner).detail.unwrap();
    assert!(detail.contains("make another person owner"), "{detail}");
    let dry = json!({ "email": "Mark-Ann@acme.example ", "dry_run": true });
    let plan: Value = app.post_as(ann, &own_account(ann), &dry).await.ok();
    assert_eq!(
        (&plan["dry_run"], &plan["receipt"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(found(app, "mark-ann").await, before, "nothing went");
    assert_eq!(world.ledger().read_all().await.unwrap(), []);

    let done: Value = app.post_as(ann, &own_account(ann), &wanted).await.ok();
    assert_eq!(found(app, "mark-ann").await, BTreeMap::new());
    assert!(!found(app, "mark-bob").await.is_empty());
    assert_eq!(
        done["tables"]["org_decisions"],
        plan["tables"]["org_decisions"]
    );
    let receipt: Signed<Receipt> = serde_json::from_value(done["receipt"].clone()).unwrap();
    assert_eq!(receipt.what.user_id, Some(ann.user_id));
    let text = receipt.what.text().unwrap();
    assert!(world.key.has_signed(&text, &receipt.signature));
    let [written] = &world.ledger().read_all().await.unwrap()[..] else {
        panic!("the ledger has one entry");
    };
    assert_eq!(written.id, receipt.what.erasure_id);
    world.audit_is_whole(app).await;
    let client = app.db.superuser_client().await;
    let asked = format!(
        "select count(*) from audit_log where action = 'user.erase.own' and user_id = '{}'",
        ann.user_id
    );
    let asked = client.query_typed_one(&asked, &[]).await.unwrap();
    assert_eq!(
        asked.get::<_, i64>(0),
        1,
        "refused ones were not noted as done"
    );

    // The account is gone, and its devices are told.
    let again = app.post_as(ann, &own_account(ann), &wanted).await;
    again.problem(ErrorCode::Unauthenticated);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let told = app.post(REFRESH, &refresh).await;
    told.problem(ErrorCode::AccountErased);
}

#[tokio::test]
async fn nobody_is_erased_where_no_ledger_is_kept() {
    let world = World::start().await;
    let (app, ann) = (&world.app, &world.ann);
    let wanted = json!({ "email": ann.email });
    let refused = app.post_as(ann, &own_account(ann), &wanted).await;
    refused.problem(ErrorCode::Unavailable);
    assert!(!found(app, "mark-ann").await.is_empty());
}

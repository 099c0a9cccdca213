//! A person's file into an account of the person on another server.

use coditect_protocol::catalogue::{Direction, File};
use coditect_protocol::wire::Op;
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest};
use coditect_protocol::wire::push::{Change, PushReply, PushRequest};
use coditect_protocol::{API_VERSION, BatchId, DeviceId, RowId};
use coditect_server::transfer::person::{PersonReceipt, Target};
use coditect_server_store::transfer::Account;
use coditect_server_store::{admin, plans};

use super::*;
use crate::backups::{Contents, Pusher, contents};
use crate::erasure::planted;
use crate::support::{Reply, fresh_uuid};

const MOVE: &str = "/api/v1/sync/move";

fn account(user: &TestUser) -> Account {
    Account {
        tenant: user.tenant_id,
        user: user.user_id,
    }
}

fn into(user: &TestUser) -> Target<'static> {
    Target {
        account: account(user),
        from: None,
        dry_run: false,
    }
}

async fn take_in(
    app: &TestApp,
    wanted: &Target<'_>,
    file: &Path,
) -> Result<PersonReceipt, TransferError> {
    transfer::person::import(app.db.db(), &app.state.clock, wanted, file).await
}

fn deleted(change: Change) -> Change {
    Change {
        op: Op::Delete,
        row: None,
        ..change
    }
}

/// A server where the person has something in every table, deleted one row, shared another, and
/// went away with a file.
struct Left {
    source: Source,
    file: PathBuf,
    /// What an import has to bring: of the shared row nothing.
    contents: Contents,
    gone: RowId,
}

impl Left {
    async fn start() -> Self {
        let source = Source::start().await;
        let (app, user) = (&source.app, &source.user);
        let whole = |file: File, device| {
            let tables = file.tables();
            let tables = tables.filter(|table| table.direction != Direction::Down);
            let changes = tables.map(|table| planted(table, user, "of ann")).collect();
            PushRequest {
                file,
                ..push_request(device, own_scope(user), None, changes)
            }
        };
        for file in [File::Sessions, File::Projects, File::Platform] {
            let request = whole(file, user.device_id);
            let reply: PushReply = app.post_as(user, PUSH, &request).await.ok();
            assert!(reply.outcomes.iter().all(|it| it.code.is_none()));
        }
        // Another device than the one that has filled this file, whose tokens it has.
        let login = app.db.log_in(&user.license_key, &Default::default()).await;
        let device = login.caller.device_id();
        let send = async |path: &str, body: &Value| {
            let sent = crate::support::post(path, body);
            app.send(crate::support::bearer(sent, &login.access_token))
                .await
        };
        let request = whole(File::Org, device);
        let filled: PushReply = send(PUSH, &json!(request)).await.ok();
        assert!(filled.outcomes.iter().all(|it| it.code.is_none()));
        let own = own_scope(user);
        let (gone, shared) = bury_and_share(&source.tenant, own, device, &filled.token, send).await;

        let file = source.folder.path().join("ann.jsonl.gz");
        let (db, clock) = (app.db.db(), &app.state.clock);
        let written = transfer::export_person(db, clock, source.tenant.id, user.user_id, &file);
        written.await.unwrap();
        let mut contents = contents(app, user).await;
        contents.retain(|(_, id), _| *id != shared);
        assert!(contents.values().any(|(_, deleted, _)| *deleted));
        Self {
            file,
            contents,
            gone,
            source,
        }
    }
}

/// Makes two decisions, of which one is deleted and one is moved to the organisation; returns their
/// ids.
async fn bury_and_share(
    tenant: &TestTenant,
    own: Scope,
    device: DeviceId,
    token: &str,
    send: impl AsyncFn(&str, &Value) -> Reply,
) -> (RowId, RowId) {
    let (gone, shared) = (fresh_row(), fresh_row());
    let rows = [(gone, "soon gone"), (shared, "soon shared")];
    let rows = rows.map(|(id, title)| decision(id, title, 0)).to_vec();
    let request = push_request(device, own, Some(token), rows);
    let reply: PushReply = send(PUSH, &json!(request)).await.ok();
    let version = |id: RowId| {
        let mut stored = reply.outcomes.iter().filter_map(|it| it.stored.as_ref());
        stored.find(|row| row.id == id).unwrap().version
    };
    let mut bury = deleted(decision(gone, "", 9));
    bury.base = Some(version(gone));
    let request = push_request(device, own, Some(&reply.token), vec![bury]);
    let buried: PushReply = send(PUSH, &json!(request)).await.ok();
    assert!(buried.outcomes[0].code.is_none(), "{buried:?}");
    let request = MoveRequest {
        api_version: API_VERSION.to_owned(),
        device,
        batch_id: BatchId::new(fresh_uuid()),
        file: File::Org,
        from: own,
        to: Scope::Org(tenant.id.get()),
        moves: vec![Move {
            table: "org_decisions".to_owned(),
            id: shared,
            base: version(shared),
        }],
    };
    let moved: MoveReply = send(MOVE, &json!(request)).await.ok();
    assert!(moved.outcomes[0].code.is_none(), "{moved:?}");
    (gone, shared)
}

/// Another server, with an account of the same address, a colleague, and other ids.
async fn arrive() -> (TestApp, TestTenant, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("new home").await;
    let user = app.db.with_user(&tenant, "a@b.c").await;
    (app, tenant, user)
}

#[tokio::test]
async fn everything_of_a_person_comes_into_another_account_once() {
    let left = Left::start().await;
    let (app, tenant, ann) = arrive().await;
    assert_ne!(ann.user_id, left.source.user.user_id);
    let before = everything(&app).await;
    let dry = Target {
        dry_run: true,
        ..into(&ann)
    };
    let would = take_in(&app, &dry, &left.file).await.unwrap();
    assert_eq!(everything(&app).await, before, "a dry run changes nothing");

    let came = take_in(&app, &into(&ann), &left.file).await.unwrap();
    assert_eq!(contents(&app, &ann).await, left.contents);
    let rows = left.contents.len() as u64;
    assert_eq!((came.restored + came.deletions, came.skipped), (rows, 0));
    assert_eq!(came.deletions, 1);
    assert_eq!(
        (would.restored, would.deletions, &would.tables),
        (came.restored, came.deletions, &came.tables)
    );
    for table in ["devices", "record_history", "users", "audit_log"] {
        assert!(came.left_out[table] > 0, "{table}");
    }
    is_at_home(&app, &tenant, &ann, &left).await;

    // Once more: nothing comes, and nothing changes but the trail.
    let mut once = everything(&app).await;
    let again = take_in(&app, &into(&ann), &left.file).await.unwrap();
    assert_eq!((again.restored, again.deletions), (0, 0));
    assert_eq!((again.skipped, again.tables.len()), (rows, 0));
    let mut twice = everything(&app).await;
    once.remove("audit_log");
    let trail = twice.remove("audit_log").unwrap();
    assert_eq!(twice, once);
    let noted = trail.iter().filter(|row| row.contains("user.import"));
    let noted: Vec<_> = noted.filter(|row| row.contains(&came.sha256)).collect();
    assert_eq!(noted.len(), 2);
}

/// Rows are the account's own, counted, and whole: nothing names the account of before but the
/// trail.
async fn is_at_home(app: &TestApp, tenant: &TestTenant, ann: &TestUser, left: &Left) {
    let client = app.db.superuser_client().await;
    let was = left.source.user.user_id.to_string();
    for (table, rows) in everything(app).await {
        let named = rows.iter().filter(|row| row.contains(&was)).count();
        // Their id stands in the trail's entry, and in no row of data.
        assert_eq!(named, usize::from(table == "audit_log"), "{table}");
    }
    let live = left.contents.values().filter(|(_, gone, _)| !gone).count();
    let sums = format!(
        "select (select sum(rows)::bigint from stream_digests where scope_id = '{0}'),
         (select row_count from streams where tenant_id = '{1}' and scope_id = '{0}')",
        ann.user_id, tenant.id
    );
    let sums = client.query_typed_one(&sums, &[]).await.unwrap();
    assert_eq!(sums.get::<_, i64>(0), live as i64);
    assert_eq!(sums.get::<_, i64>(1), live as i64);
    // A device pulls it, and what was deleted stays so.
    let pull = pull_request(ann.device_id, own_scope(ann));
    let reply: PullReply = app.post_as(ann, PULL, &pull).await.ok();
    let changes = reply.pages.iter().flat_map(|page| &page.changes);
    let gone: Vec<_> = changes.filter(|it| it.id == left.gone).collect();
    assert!(gone.iter().all(|it| it.op == Op::Delete) && !gone.is_empty());
}

#[tokio::test]
async fn what_is_here_stays_as_it_is() {
    let left = Left::start().await;
    let (app, _, ann) = arrive().await;
    let known = left.contents.iter();
    let mut known =
        known.filter(|((table, _), (_, deleted, _))| table == "org_decisions" && !deleted);
    let (((_, edited), _), ((_, removed), then)) = (known.next().unwrap(), known.next().unwrap());
    let mut device = Pusher::new(&app, &ann);
    let rows = vec![
        decision(*edited, "newer here", 0),
        decision(*removed, "deleted here", 0),
        decision(left.gone, "deleted there", 0),
        decision(fresh_row(), "of here only", 0),
    ];
    device.push(rows).await;
    device.push(vec![deleted(decision(*removed, "", 5))]).await;
    let before = contents(&app, &ann).await;

    let came = take_in(&app, &into(&ann), &left.file).await.unwrap();
    let after = contents(&app, &ann).await;
    for (key, was) in &before {
        let expected = match key.1 == *removed {
            // As a merging restore does: a deleted row comes back.
            true => then,
            false => was,
        };
        assert_eq!(&after[key], expected, "{key:?}");
    }
    for (key, archived) in &left.contents {
        if !before.contains_key(key) {
            assert_eq!(&after[key], archived, "{key:?}");
        }
    }
    assert_eq!((came.skipped, came.deletions), (2, 0));
}

#[tokio::test]
async fn what_is_not_to_be_taken_changes_nothing() {
    let left = Left::start().await;
    let (app, tenant, ann) = arrive().await;
    let export = Export::read(&left.file);
    let file = left.source.folder.path().join("other");
    let before = everything(&app).await;
    let refused = async |what: &str, bytes: Vec<u8>| {
        std::fs::write(&file, bytes).unwrap();
        let refused = take_in(&app, &into(&ann), &file).await.unwrap_err();
        assert_eq!(everything(&app).await, before, "{what}");
        refused
    };
    let there = &left.source.tenant;
    for (what, bytes) in damaged(&export, there) {
        let error = refused(what, bytes).await;
        assert!(
            matches!(error, TransferError::Damaged { .. }),
            "{what}: {error:?}"
        );
    }
    // A manifest that proves what a row's own hash does not.
    let forged = export.resealed(|lines| {
        let at = Export::decision(lines);
        lines[at] = lines[at].replace("number 7", "number 8");
    });
    let error = refused("forged", forged).await;
    assert!(matches!(error, TransferError::Damaged { .. }), "{error:?}");
    let newer = export.resealed(|lines| {
        lines[0] = lines[0].replace("\"format_version\":1", "\"format_version\":2");
    });
    let error = refused("newer", newer).await;
    assert!(matches!(error, TransferError::Newer { theirs: 2, .. }));
    let later = export.resealed(|lines| {
        let mut header: Value = serde_json::from_str(&lines[0]).unwrap();
        header["schema"] = json!("0123456789abcdef");
        lines[0] = header.to_string();
        let at = Export::decision(lines);
        lines[at] = lines[at].replace("\"title\"", "\"caption\"");
    });
    let error = refused("of another schema", later).await;
    assert!(matches!(error, TransferError::OtherSchema { .. }));
    let mut sealed = b"coditect-sealed1".to_vec();
    sealed.extend([7; 200]);
    let error = refused("encrypted", sealed).await;
    assert!(matches!(error, TransferError::Encrypted), "{error:?}");
    left.source.export().await;
    let whole = std::fs::read(left.source.file()).unwrap();
    let error = refused("an organisation's", whole).await;
    assert!(matches!(error, TransferError::Damaged { .. }), "{error:?}");

    the_plan_and_the_lock_hold(&app, &tenant, &ann, &left).await;
    // Somebody else's, unless the operator says that both are one person.
    let bob = app.db.with_user(&tenant, "bob@b.c").await;
    let before = everything(&app).await;
    let error = take_in(&app, &into(&bob), &left.file).await.unwrap_err();
    assert!(matches!(error, TransferError::OtherPerson { .. }));
    assert_eq!(everything(&app).await, before);
    let from = Some("A@b.c");
    let target = Target { from, ..into(&bob) };
    take_in(&app, &target, &left.file).await.unwrap();
    assert_eq!(contents(&app, &bob).await, left.contents);
}

/// A full plan and a locked account, for the account of `ann`.
async fn the_plan_and_the_lock_hold(
    app: &TestApp,
    tenant: &TestTenant,
    ann: &TestUser,
    left: &Left,
) {
    let (db, now) = (app.db.db(), app.state.clock.now());
    let client = app.db.superuser_client().await;
    let small = "insert into plans (name, rows) values ('small', 20)";
    client.batch_execute(small).await.unwrap();
    let usual = client.query_typed_one("select plan from tenants where name = 'new home'", &[]);
    let usual: String = usual.await.unwrap().get(0);
    plans::change(db, tenant.id, "small").await.unwrap();
    let before = everything(app).await;
    let full = take_in(app, &into(ann), &left.file).await.unwrap_err();
    let is_full = matches!(&full, TransferError::Full { what: "rows", plan } if plan == "small");
    assert!(is_full, "{full:?}");
    assert_eq!(everything(app).await, before);
    plans::change(db, tenant.id, &usual).await.unwrap();

    let locked = admin::set_active(db, tenant.id, ann.user_id, false, now).await;
    locked.unwrap();
    let before = everything(app).await;
    let refused = take_in(app, &into(ann), &left.file).await.unwrap_err();
    assert!(
        matches!(refused, TransferError::Store(StoreError::NotMember)),
        "{refused:?}"
    );
    assert_eq!(everything(app).await, before);
}

//! Who may list, take, try and restore backups, and list restores: every role × every kind of scope
//! × every operation. What is expected is written out from the published tables, not taken from the
//! code's own.

use axum::http::Request;
use coditect_protocol::Scope;
use coditect_protocol::wire::backups::{BackupList, BackupMetadata, BackupStatus};
use coditect_server::jobs;
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser};
use serde_json::json;
use uuid::Uuid;

use crate::backups::Pusher;
use crate::support::{TestApp, bearer, decision, fresh_row, fresh_uuid, get, own_scope, post};

/// Kind of scope, role in it, whether it may back up, whether it may restore.
const PUBLISHED: [(&str, &str, bool, bool); 7] = [
    ("team", "member", false, false),
    ("team", "admin", true, true),
    ("team", "owner", true, true),
    ("project", "viewer", false, false),
    ("project", "member", false, false),
    ("project", "admin", true, true),
    ("project", "owner", true, true),
];
/// Roles of the organisation that manage it, and with it each team and project.
const MANAGERS: [Role; 2] = [Role::Owner, Role::Admin];
/// Roles that only read, whatever they are given in a team or project.
const READERS: [Role; 3] = [Role::Viewer, Role::Auditor, Role::Executive];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    List,
    ListRestores,
    BackUp,
    TryRestore,
    Merge,
    Replace,
}

const OPERATIONS: [Operation; 6] = [
    Operation::List,
    Operation::ListRestores,
    Operation::BackUp,
    Operation::TryRestore,
    Operation::Merge,
    Operation::Replace,
];

/// Somebody with a role in the organisation, and perhaps one in the team or the project.
struct Actor {
    user: TestUser,
    role: Role,
    held: Option<(&'static str, &'static str)>,
}

impl Actor {
    /// Whether somebody manages the organisation and has no role in the team or project: backs it
    /// up, and writes nothing into it.
    fn manages_from_outside(&self, scope: Scope) -> bool {
        let shared = matches!(scope, Scope::Team(_) | Scope::Project(_));
        let outside = self.held.is_none_or(|(kind, _)| kind != scope.kind());
        shared && outside && MANAGERS.contains(&self.role)
    }

    /// Whether the tables allow it in a scope of acme that is not one's own.
    fn may(&self, operation: Operation, scope: Scope) -> bool {
        let kind = scope.kind();
        // Another's own scope is nobody's, not even a manager's.
        if matches!(scope, Scope::User(_)) {
            return false;
        }
        if self.manages_from_outside(scope) {
            return matches!(
                operation,
                Operation::List | Operation::ListRestores | Operation::BackUp
            );
        }
        if MANAGERS.contains(&self.role) {
            return true;
        }
        let held = self.held.filter(|_| !READERS.contains(&self.role));
        let row = PUBLISHED
            .iter()
            .find(|row| row.0 == kind && held == Some((row.0, row.1)));
        row.is_some_and(|(_, _, back_up, restore)| match operation {
            Operation::List | Operation::ListRestores | Operation::BackUp => *back_up,
            Operation::TryRestore | Operation::Merge | Operation::Replace => *restore,
        })
    }
}

pub(crate) fn path(scope: Scope, what: &str) -> String {
    let folder = match scope {
        Scope::User(_) => "users",
        Scope::Team(_) => "teams",
        Scope::Project(_) => "projects",
        Scope::Org(_) | Scope::Platform => "organizations",
    };
    format!("/api/v1/{folder}/{}/context/{what}", scope.id())
}

/// Makes a person and puts it into the scopes that the role is for.
async fn actor(
    app: &TestApp,
    acme: &TestTenant,
    (role, held): (Role, Option<(&'static str, &'static str)>),
    scopes: &[Scope],
) -> Actor {
    let (kind, name) = held.unwrap_or(("none", "none"));
    let email = format!("{role}-{kind}-{name}@acme.example");
    let user = app.db.with_role(acme, &email, role).await;
    for scope in scopes.iter().filter(|scope| scope.kind() == kind) {
        add(app, acme, *scope, &user, name).await;
    }
    Actor { user, role, held }
}

pub(crate) async fn add(
    app: &TestApp,
    tenant: &TestTenant,
    scope: Scope,
    user: &TestUser,
    role: &str,
) {
    let (tenant, scope, user) = (tenant.id, scope.id(), user.user_id);
    let sql = format!(
        "insert into scope_members (tenant_id, scope_id, user_id, role)
        values ('{tenant}', '{scope}', '{user}', '{role}')"
    );
    let superuser = app.db.superuser_client().await;
    superuser.batch_execute(&sql).await.unwrap();
}

/// Makes a team or project of which `owner` is the owner.
pub(crate) async fn make(app: &TestApp, tenant: &TestTenant, scope: Scope, owner: &TestUser) {
    let (id, kind) = (scope.id(), scope.kind());
    let sql = format!(
        "insert into scopes (tenant_id, scope_id, kind, name)
        values ('{}', '{id}', '{kind}', 'x')",
        tenant.id
    );
    let superuser = app.db.superuser_client().await;
    superuser.batch_execute(&sql).await.unwrap();
    add(app, tenant, scope, owner, "owner").await;
}

/// Puts a row into the scope and has it backed up; returns the backup.
pub(crate) async fn fill(
    app: &TestApp,
    pusher: &mut Pusher<'_>,
    owner: &TestUser,
    scope: Scope,
) -> Uuid {
    let row = decision(fresh_row(), "kept", 0);
    pusher.push_to(scope, vec![row]).await;
    let asked = json!({ "type": "full" });
    let reply = app.post_as(owner, &path(scope, "backup"), &asked).await;
    assert_eq!(reply.status, 202, "{scope}: {}", reply.text());
    let asked: BackupMetadata = serde_json::from_slice(&reply.body).unwrap();
    write(app).await;
    let all: BackupList = app.get_as(owner, &path(scope, "backups")).await.ok();
    let found = all.backups.iter().find(|one| one.id == asked.id).unwrap();
    assert_eq!(found.status, BackupStatus::Completed, "{found:?}");
    asked.id
}

async fn write(app: &TestApp) {
    let backups = app.state.backups.as_ref().unwrap();
    let written = jobs::backups::run_pending(&app.state, backups).await;
    written.unwrap();
}

/// Tries it; returns whether it was done. What is refused is refused as such.
async fn try_it(
    app: &TestApp,
    user: &TestUser,
    operation: Operation,
    scope: Scope,
    backup: Uuid,
) -> bool {
    let restore = |mode: &str, dry_run: bool| {
        let body = json!({ "backup_id": backup, "mode": mode, "dry_run": dry_run });
        post(&path(scope, "restore"), &body)
    };
    let (request, good): (Request<_>, u16) = match operation {
        Operation::List => (get(&path(scope, "backups")), 200),
        Operation::ListRestores => (get(&path(scope, "restores")), 200),
        Operation::BackUp => {
            let body = json!({ "type": "full" });
            (post(&path(scope, "backup"), &body), 202)
        }
        Operation::TryRestore => (restore("replace", true), 200),
        Operation::Merge => (restore("merge", false), 200),
        Operation::Replace => (restore("replace", false), 200),
    };
    let reply = app.send(bearer(request, &user.access_token)).await;
    let status = reply.status;
    let known = [good, 403, 404].contains(&status);
    assert!(known, "{operation:?} in {scope}: {}", reply.text());
    status == good
}

async fn count(app: &TestApp) -> i64 {
    let superuser = app.db.superuser_client().await;
    let sql = "select count(*) from context_backups";
    let row = superuser.query_typed_one(sql, &[]).await.unwrap();
    row.get(0)
}

/// Every role of the published tables, and every role of the organisation without and with the
/// highest role in a team or project.
fn roles() -> Vec<(Role, Option<(&'static str, &'static str)>)> {
    let published = PUBLISHED.iter().map(|row| Some((row.0, row.1)));
    let mut all: Vec<_> = published.map(|held| (Role::Member, held)).collect();
    for role in Role::ALL {
        all.push((*role, None));
        if *role != Role::Member {
            all.push((*role, Some(("team", "owner"))));
            all.push((*role, Some(("project", "owner"))));
        }
    }
    all
}

#[tokio::test]
async fn every_role_backs_up_and_restores_what_the_tables_say() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let beta = app.db.with_tenant("beta").await;
    let boss = app.db.with_role(&acme, "boss@acme.example", Role::Owner);
    let boss = boss.await;
    let eve = app.db.with_role(&beta, "eve@beta.example", Role::Owner);
    let eve = eve.await;
    let shared = [Scope::Team(fresh_uuid()), Scope::Project(fresh_uuid())];
    for scope in shared {
        make(&app, &acme, scope, &boss).await;
    }
    let mut pusher = Pusher::new(&app, &boss);
    let mut places = Vec::new();
    let organization = Scope::Org(acme.id.get());
    for scope in [shared[0], shared[1], organization, own_scope(&boss)] {
        places.push((scope, fill(&app, &mut pusher, &boss, scope).await));
    }
    let mut actors = Vec::new();
    for roles in roles() {
        actors.push(actor(&app, &acme, roles, &shared).await);
    }
    let (mut wrong, mut done, mut refused, mut taken) = (Vec::new(), 0, 0, count(&app).await);
    for one in &actors {
        let mut own = Pusher::new(&app, &one.user);
        let scope = own_scope(&one.user);
        let backup = fill(&app, &mut own, &one.user, scope).await;
        taken += 1;
        let mine = places.iter().copied().chain([(scope, backup)]);
        for (scope, backup) in mine {
            for operation in OPERATIONS {
                let expected = scope == own_scope(&one.user) || one.may(operation, scope);
                let was = try_it(&app, &one.user, operation, scope, backup).await;
                if was != expected {
                    let (role, held) = (one.role, one.held);
                    wrong.push(format!("{role} {held:?}: {operation:?} in {scope}: {was}"));
                }
                // A backup is one more, and so is what a replacing restore takes before.
                let takes = matches!(operation, Operation::BackUp | Operation::Replace);
                taken += i64::from(was && takes);
                if was { done += 1 } else { refused += 1 }
            }
        }
    }
    // Another organisation's owner finds nothing.
    for (scope, backup) in places {
        for operation in OPERATIONS {
            let was = try_it(&app, &eve, operation, scope, backup).await;
            assert!(!was, "{operation:?} in {scope} from outside");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count(&app).await, taken, "what is refused leaves nothing");
    println!("{} people: {done} done, {refused} refused", actors.len());
    assert!(done > 100 && refused > 100, "{done} {refused}");
}

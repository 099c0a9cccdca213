//! Every role × every operation × own and other scopes: with everything in place, with row
//! security alone, and with the program's checks alone. What is expected is written out here from
//! the published tables of roles, not taken from the code's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use coditect_core::hash;
use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::membership::Organization;
use coditect_protocol::wire::moves::{Move, MoveReply, MoveRequest};
use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::{API_VERSION, BatchId, RowId, Scope};
use coditect_server::router;
use coditect_server::state::{AppState, Clock};
use coditect_server_store::Db;
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::support::{
    CONFLICTS, MOVE, PULL, PUSH, Reply, TestApp, bearer, decision, delete, fresh_row, fresh_uuid,
    get, http, own_scope, post, pull_request, push_request,
};
use crate::tenancy::membership::put;

const SECRET: &str = "walrus-4711";
const SPRINTS: &str = "/api/v1/context/sprints/";

/// Roles in teams and in projects, each with push, pull and backup, as published.
const TEAM: [(&str, bool, bool, bool); 3] = [
    ("member", true, true, false),
    ("admin", true, true, true),
    ("owner", true, true, true),
];
const PROJECT: [(&str, bool, bool, bool); 4] = [
    ("viewer", false, true, false),
    ("member", true, true, false),
    ("admin", true, true, true),
    ("owner", true, true, true),
];
/// Roles of the organisation and their permissions, as published. The owner has all, the admin
/// all but billing and deleting the organisation.
const ORGANIZATION: [(Role, &[&str]); 4] = [
    (
        Role::Member,
        &[
            "projects:read",
            "projects:update",
            "checkpoints:create",
            "checkpoints:read",
            "checkpoints:update",
            "messages:read",
            "tasks:read",
        ],
    ),
    (
        Role::Viewer,
        &[
            "projects:read",
            "checkpoints:read",
            "messages:read",
            "tasks:read",
        ],
    ),
    (
        Role::Auditor,
        &[
            "projects:read",
            "checkpoints:read",
            "audit_logs:read",
            "audit_logs:export",
        ],
    ),
    (
        Role::Executive,
        &[
            "projects:read",
            "checkpoints:read",
            "analytics:view",
            "reports:generate",
        ],
    ),
];
/// All names in the published list of permissions.
const PUBLISHED: [&str; 16] = [
    "projects:create",
    "projects:read",
    "projects:update",
    "projects:delete",
    "checkpoints:create",
    "checkpoints:read",
    "checkpoints:update",
    "checkpoints:delete",
    "members:invite",
    "members:remove",
    "audit_logs:read",
    "audit_logs:export",
    "messages:read",
    "tasks:read",
    "analytics:view",
    "reports:generate",
];

/// What guards the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Both,
    RowSecurityAlone,
    ChecksAlone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    OwnScope,
    ColleaguesScope,
    Organization,
    OwnTeam,
    OtherTeam,
    OwnProject,
    OtherProject,
    OtherTenant,
    OtherTenantsTeam,
    OtherTenantsProject,
}

const PLACES: [Place; 10] = [
    Place::OwnScope,
    Place::ColleaguesScope,
    Place::Organization,
    Place::OwnTeam,
    Place::OtherTeam,
    Place::OwnProject,
    Place::OtherProject,
    Place::OtherTenant,
    Place::OtherTenantsTeam,
    Place::OtherTenantsProject,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Pull,
    Push,
    MoveIn,
    MoveOut,
    ReadMessages,
    ReadRecords,
    WriteRecord,
    ReadConflicts,
    BackUp,
    ReadMembers,
    Invite,
    ChangeRole,
    RemoveMember,
    Rename,
    Archive,
    CreateTeam,
    CreateProject,
    ReadDevices,
}

const OPERATIONS: [Operation; 18] = [
    Operation::Pull,
    Operation::Push,
    Operation::MoveIn,
    Operation::MoveOut,
    Operation::ReadMessages,
    Operation::ReadRecords,
    Operation::WriteRecord,
    Operation::ReadConflicts,
    Operation::BackUp,
    Operation::ReadMembers,
    Operation::Invite,
    Operation::ChangeRole,
    Operation::RemoveMember,
    Operation::Rename,
    Operation::Archive,
    Operation::CreateTeam,
    Operation::CreateProject,
    Operation::ReadDevices,
];

/// A person with roles.
struct Actor {
    user: TestUser,
    role: Role,
    team: Option<&'static str>,
    project: Option<&'static str>,
}

impl Actor {
    /// Roles that only read do so everywhere.
    fn only_reads(&self) -> bool {
        matches!(self.role, Role::Viewer | Role::Auditor | Role::Executive)
    }

    fn manages(&self) -> bool {
        matches!(self.role, Role::Owner | Role::Admin)
    }

    /// Whether conversations may be read where the role there allows it.
    fn talks(&self) -> bool {
        !matches!(self.role, Role::Auditor | Role::Executive)
    }

    /// Whether sprints may be read where the role there allows a pull. Row security keeps back
    /// conversations only.
    fn reads_records(&self, mode: Mode) -> bool {
        self.talks() || mode == Mode::RowSecurityAlone
    }

    fn may(&self, operation: Operation, place: Place, mode: Mode) -> bool {
        match place {
            Place::OwnScope => true,
            Place::Organization => self.may_in_organization(operation, mode),
            Place::OwnTeam => {
                let found = TEAM.iter().find(|row| Some(row.0) == self.team);
                self.may_in_scope(operation, found.copied(), mode)
            }
            Place::OwnProject => {
                let found = PROJECT.iter().find(|row| Some(row.0) == self.project);
                self.may_in_scope(operation, found.copied(), mode)
            }
            Place::OtherTeam | Place::OtherProject => self.may_in_scope(operation, None, mode),
            // Who manages the organisation may have a person's scope backed up, not read it; the
            // program offers no route for it.
            Place::ColleaguesScope => {
                let alone = mode == Mode::RowSecurityAlone;
                alone && operation == Operation::BackUp && self.manages()
            }
            _ => false,
        }
    }

    fn may_in_organization(&self, operation: Operation, mode: Mode) -> bool {
        match operation {
            Operation::Pull | Operation::ReadMessages | Operation::ReadConflicts => self.talks(),
            Operation::ReadRecords => self.reads_records(mode),
            Operation::Push | Operation::WriteRecord | Operation::MoveIn | Operation::MoveOut => {
                !self.only_reads()
            }
            Operation::ReadMembers => true,
            _ => self.manages(),
        }
    }

    fn may_in_scope(
        &self,
        operation: Operation,
        held: Option<(&'static str, bool, bool, bool)>,
        mode: Mode,
    ) -> bool {
        let (role, push, pull, backup) = held.unwrap_or(("", false, false, false));
        let manager = ["admin", "owner"].contains(&role) && !self.only_reads();
        match operation {
            Operation::Push | Operation::WriteRecord | Operation::MoveIn | Operation::MoveOut => {
                push && !self.only_reads()
            }
            Operation::ReadRecords => pull && self.reads_records(mode),
            Operation::Pull | Operation::ReadMessages | Operation::ReadConflicts => {
                pull && self.talks()
            }
            Operation::BackUp => backup && !self.only_reads() || self.manages(),
            Operation::ReadMembers => held.is_some() || self.manages(),
            // Row security sees a changed row of the scope, not which of its columns.
            Operation::Archive if mode != Mode::RowSecurityAlone => {
                role == "owner" && manager || self.manages()
            }
            _ => manager || self.manages(),
        }
    }
}

struct World {
    app: TestApp,
    router: Router,
    acme: TestTenant,
    actors: Vec<Actor>,
    colleague: TestUser,
    /// In every team and project of acme, as a plain member.
    resident: TestUser,
    /// In the organisation only.
    stranger: TestUser,
    /// Somebody of another tenant.
    eve: TestUser,
    scopes: BTreeMap<Place, Scope>,
}

async fn world(mode: Mode) -> World {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let beta = app.db.with_tenant("beta").await;
    let colleague = app.db.with_user(&acme, "colleague@acme.example").await;
    let resident = app.db.with_user(&acme, "resident@acme.example").await;
    let stranger = app.db.with_user(&acme, "stranger@acme.example").await;
    let boss = app
        .db
        .with_role(&acme, "boss@acme.example", Role::Owner)
        .await;
    let eve = app
        .db
        .with_role(&beta, "eve@beta.example", Role::Owner)
        .await;
    let scopes = BTreeMap::from([
        (Place::ColleaguesScope, own_scope(&colleague)),
        (Place::Organization, Scope::Org(acme.id.get())),
        (Place::OwnTeam, Scope::Team(fresh_uuid())),
        (Place::OtherTeam, Scope::Team(fresh_uuid())),
        (Place::OwnProject, Scope::Project(fresh_uuid())),
        (Place::OtherProject, Scope::Project(fresh_uuid())),
        (Place::OtherTenant, Scope::Org(beta.id.get())),
        (Place::OtherTenantsTeam, Scope::Team(fresh_uuid())),
        (Place::OtherTenantsProject, Scope::Project(fresh_uuid())),
    ]);
    let mut actors = Vec::new();
    for (role, team, project) in roles() {
        let number = actors.len();
        let email = format!("{role}{number}@acme.example");
        let user = app.db.with_role(&acme, &email, role).await;
        actors.push(Actor {
            user,
            role,
            team,
            project,
        });
    }
    let people = [&boss, &resident, &colleague, &eve];
    let sql = make_scopes((&acme, &beta), &scopes, &actors, people);
    let superuser = app.db.superuser_client().await;
    superuser.batch_execute(&sql).await.unwrap();
    let db = store(&app, mode).await;
    let clock = app.db.clock().clone();
    let clock = Clock::new(move || clock.now());
    let mut state = AppState::new(db, app.db.secrets().clone(), clock, http());
    state.backups = app.state.backups.clone();
    let world = World {
        router: router::router(state),
        app,
        acme,
        actors,
        colleague,
        resident,
        stranger,
        eve,
        scopes,
    };
    world.fill(&world.eve).await;
    world
}

/// Returns the statements that make the teams and projects, with their members.
fn make_scopes(
    (acme, beta): (&TestTenant, &TestTenant),
    scopes: &BTreeMap<Place, Scope>,
    actors: &[Actor],
    people: [&TestUser; 4],
) -> String {
    let [boss, resident, colleague, eve] = people;
    let mut sql = String::new();
    for (place, scope) in scopes {
        let foreign = matches!(place, Place::OtherTenantsTeam | Place::OtherTenantsProject);
        let tenant = if foreign { beta.id } else { acme.id };
        if !matches!(scope, Scope::Team(_) | Scope::Project(_)) {
            continue;
        }
        let (id, kind) = (scope.id(), scope.kind());
        let _ = write!(
            sql,
            "insert into scopes (tenant_id, scope_id, kind, name)
                values ('{tenant}', '{id}', '{kind}', 'x');"
        );
        let people = if foreign {
            vec![(eve, "owner")]
        } else {
            vec![(boss, "owner"), (resident, "member"), (colleague, "owner")]
        };
        for (user, role) in people {
            let _ = write!(sql, "{}", member(tenant.get(), *scope, user, role));
        }
    }
    for actor in actors {
        for (place, role) in [
            (Place::OwnTeam, actor.team),
            (Place::OwnProject, actor.project),
        ] {
            if let Some(role) = role {
                let _ = write!(
                    sql,
                    "{}",
                    member(acme.id.get(), scopes[&place], &actor.user, role)
                );
            }
        }
    }
    sql
}

/// Returns the store that is guarded as the mode says.
async fn store(app: &TestApp, mode: Mode) -> Db {
    match mode {
        Mode::Both => app.db.db().clone(),
        Mode::RowSecurityAlone => app.db.db().clone().without_checks(),
        Mode::ChecksAlone => {
            let mut settings = app.db.settings();
            settings.app_url = Some(app.db.superuser_url(None));
            Db::connect(&settings).await.unwrap()
        }
    }
}

/// Every role of the organisation, with and without roles in a team and a project.
fn roles() -> Vec<(Role, Option<&'static str>, Option<&'static str>)> {
    let mut all = vec![(Role::Member, None, Some("viewer"))];
    for role in ["member", "admin", "owner"] {
        all.push((Role::Member, Some(role), Some(role)));
    }
    for role in Role::ALL {
        all.push((*role, None, None));
        all.push((*role, Some("owner"), Some("owner")));
    }
    all
}

fn member(tenant: Uuid, scope: Scope, user: &TestUser, role: &str) -> String {
    let (scope, user) = (scope.id(), user.user_id);
    format!(
        "insert into scope_members (tenant_id, scope_id, user_id, role)
            values ('{tenant}', '{scope}', '{user}', '{role}') on conflict do nothing;"
    )
}

impl World {
    /// Puts a message, a sprint and a conflict into every scope.
    async fn fill(&self, eve: &TestUser) {
        let mut places: Vec<(Scope, &TestUser)> = Vec::new();
        for (place, scope) in &self.scopes {
            let foreign = matches!(
                place,
                Place::OtherTenant | Place::OtherTenantsTeam | Place::OtherTenantsProject
            );
            places.push((*scope, if foreign { eve } else { &self.colleague }));
        }
        places.extend(
            self.actors
                .iter()
                .map(|actor| (own_scope(&actor.user), &actor.user)),
        );
        let superuser = self.app.db.superuser_client().await;
        for (scope, user) in places {
            for row in [message(), sprint()] {
                let reply = self.push_as(user, scope, row, &self.app.router).await;
                assert_eq!(reply.status, 200, "{scope}: {}", reply.text());
            }
            let (tenant, id) = (user.tenant_id, scope.id());
            let sql = format!(
                "insert into sync_conflicts (tenant_id, scope_id, id, table_name, row_id, reason,
                    winner_version, winner_device, loser_version, loser_device, row, detected_at)
                values ('{tenant}', '{id}', gen_random_uuid(), 'org_decisions',
                    gen_random_uuid(), 'conflict', 2, gen_random_uuid(), 1, gen_random_uuid(),
                    '{{\"title\": \"{SECRET}\"}}', now())"
            );
            superuser.batch_execute(&sql).await.unwrap();
        }
    }

    /// Pushes from a fresh device, which has no token yet.
    async fn push_as(&self, user: &TestUser, scope: Scope, change: Change, to: &Router) -> Reply {
        let login = self
            .app
            .db
            .log_in(&user.license_key, &Default::default())
            .await;
        let device = login.caller.device_id();
        let mut request = push_request(device, scope, None, vec![change]);
        request.file = by_cloud_name(&request.changes[0].table).unwrap().file;
        if let Some(row) = &request.changes[0].row {
            let table = by_cloud_name(&request.changes[0].table).unwrap();
            if let Ok(Some(id)) = hash::derived_id(table, row, device) {
                request.changes[0].id = id;
            }
        }
        let sent = bearer(post(PUSH, &request), &user.access_token);
        send(to, sent).await
    }

    async fn send(&self, actor: &Actor, request: Request<Body>) -> Reply {
        send(&self.router, bearer(request, &actor.user.access_token)).await
    }

    fn scope(&self, actor: &Actor, place: Place) -> Scope {
        match place {
            Place::OwnScope => own_scope(&actor.user),
            place => self.scopes[&place],
        }
    }

    /// Tries it; none where there is no such operation.
    async fn try_it(&self, actor: &Actor, operation: Operation, place: Place) -> Option<bool> {
        let scope = self.scope(actor, place);
        let folder = match scope {
            Scope::Team(_) => "teams",
            Scope::Project(_) => "projects",
            Scope::Org(_) => "organization",
            _ => "",
        };
        let path = format!("/api/v1/{folder}/{}", scope.id());
        let path = match scope {
            Scope::Org(_) => "/api/v1/organization".to_owned(),
            _ => path,
        };
        let shared = matches!(scope, Scope::Team(_) | Scope::Project(_));
        // The organisation's routes are about the caller's own.
        let own_organization = place == Place::Organization;
        let shown = |reply: Reply| Some(reply.status == 200 && reply.text().contains(SECRET));
        match operation {
            Operation::Pull => {
                let mut request = pull_request(actor.user.device_id, scope);
                request.positions[0].file = File::Sessions;
                shown(self.send(actor, post(PULL, &request)).await)
            }
            Operation::Push => {
                let change = decision(fresh_row(), "pushed", 0);
                let reply = self.push_as(&actor.user, scope, change, &self.router).await;
                let applied = || reply.ok::<PushReply>().outcomes[0].status == Status::Applied;
                Some(reply.status == 200 && applied())
            }
            Operation::MoveIn | Operation::MoveOut if place == Place::OwnScope => None,
            Operation::MoveIn => Some(self.move_row(actor, own_scope(&actor.user), scope).await),
            Operation::MoveOut => Some(self.move_row(actor, scope, own_scope(&actor.user)).await),
            Operation::ReadMessages if shared => {
                shown(self.send(actor, get(&format!("{path}/context/pull"))).await)
            }
            Operation::ReadMessages if place == Place::OwnScope => {
                shown(self.send(actor, get("/api/v1/context/pull")).await)
            }
            Operation::ReadRecords => shown(
                self.send(actor, get(&format!("{SPRINTS}?scope={scope}")))
                    .await,
            ),
            Operation::WriteRecord => {
                let body = json!({ "name": "written", "project_id": "p" });
                let path = format!("{SPRINTS}?scope={scope}");
                Some(self.send(actor, post(&path, &body)).await.status == 201)
            }
            Operation::ReadConflicts => shown(
                self.send(actor, get(&format!("{CONFLICTS}?scope={scope}")))
                    .await,
            ),
            Operation::BackUp => {
                let folder = match scope {
                    Scope::User(_) => "users",
                    Scope::Org(_) => "organizations",
                    _ => folder,
                };
                let path = format!("/api/v1/{folder}/{}/context/backup", scope.id());
                let reply = self
                    .send(actor, post(&path, &json!({ "type": "full" })))
                    .await;
                Some(reply.status == 202)
            }
            _ if !shared && !own_organization => None,
            _ => self.manage(actor, operation, place, &path).await,
        }
    }

    /// Moves a row of the actor's between two scopes.
    async fn move_row(&self, actor: &Actor, from: Scope, to: Scope) -> bool {
        // Somebody who may puts it there; then it is the actor's.
        let writer = match from {
            Scope::User(_) if from == own_scope(&actor.user) => &actor.user,
            _ if [
                Place::OtherTenant,
                Place::OtherTenantsTeam,
                Place::OtherTenantsProject,
            ]
            .iter()
            .any(|place| self.scopes[place] == from) =>
            {
                &self.eve
            }
            _ => &self.colleague,
        };
        let change = decision(fresh_row(), "moves", 0);
        let id = change.id;
        let pushed = self.push_as(writer, from, change, &self.app.router).await;
        let stored = pushed.ok::<PushReply>().outcomes.remove(0).stored.unwrap();
        let author = format!(
            "update org_decisions set user_id = '{}' where id = '{id}'",
            actor.user.user_id
        );
        let superuser = self.app.db.superuser_client().await;
        superuser.batch_execute(&author).await.unwrap();
        let request = MoveRequest {
            api_version: API_VERSION.to_owned(),
            device: actor.user.device_id,
            batch_id: BatchId::new(fresh_uuid()),
            file: File::Org,
            from,
            to,
            moves: vec![Move {
                table: "org_decisions".to_owned(),
                id,
                base: stored.version,
            }],
        };
        let reply = self.send(actor, post(MOVE, &request)).await;
        let applied = || reply.ok::<MoveReply>().outcomes[0].status == Status::Applied;
        let done = reply.status == 200 && applied();
        let there = format!(
            "select count(*) from org_decisions where id = '{id}' and deleted_at is null
                and scope_id = '{}'",
            to.id()
        );
        let there: i64 = superuser.query_typed_one(&there, &[]).await.unwrap().get(0);
        assert_eq!(there == 1, done, "{} from {from} to {to}", actor.role);
        done
    }

    /// Tries what is done to the organisation, a team or a project itself.
    async fn manage(
        &self,
        actor: &Actor,
        operation: Operation,
        place: Place,
        path: &str,
    ) -> Option<bool> {
        let scope = self.scope(actor, place);
        let shared = matches!(scope, Scope::Team(_) | Scope::Project(_));
        let own_organization = place == Place::Organization;
        match operation {
            Operation::ReadMembers => {
                let reply = self.send(actor, get(&format!("{path}/members/"))).await;
                Some(reply.status == 200 && reply.text().contains(&self.resident.email))
            }
            Operation::Invite => self.invite(actor, scope, path).await,
            Operation::ChangeRole => {
                let path = format!("{path}/members/{}/", self.resident.user_id);
                let reply = self
                    .send(actor, put(&path, &json!({ "role": "member" })))
                    .await;
                Some(reply.status == 204)
            }
            Operation::RemoveMember => self.remove(actor, scope, path).await,
            Operation::Rename if shared => {
                let reply = self
                    .send(actor, put(&format!("{path}/"), &json!({ "name": "y" })))
                    .await;
                Some(reply.status == 200)
            }
            Operation::Archive if shared => {
                let body = json!({ "archived": false });
                let reply = self.send(actor, put(&format!("{path}/"), &body)).await;
                Some(reply.status == 200)
            }
            Operation::CreateTeam if own_organization => {
                let reply = self
                    .send(actor, post("/api/v1/teams/", &json!({ "name": "n" })))
                    .await;
                Some(reply.status == 201)
            }
            Operation::CreateProject if own_organization => {
                let reply = self.send(actor, post("/api/v1/projects/", &json!({ "name": "n" })));
                Some(reply.await.status == 201)
            }
            Operation::ReadDevices if own_organization => {
                let reply = self.send(actor, get("/api/v1/devices/")).await;
                let other = self.colleague.device_id.to_string();
                Some(reply.status == 200 && reply.text().contains(&other))
            }
            _ => None,
        }
    }

    async fn invite(&self, actor: &Actor, scope: Scope, path: &str) -> Option<bool> {
        if let Scope::Project(_) = scope {
            let path = format!("{path}/members/{}/", self.stranger.user_id);
            let reply = self
                .send(actor, put(&path, &json!({ "role": "viewer" })))
                .await;
            self.restore().await;
            return Some(reply.status == 204);
        }
        let body = json!({ "email": self.stranger.email, "role": "member" });
        let reply = self
            .send(actor, post(&format!("{path}/invitations/"), &body))
            .await;
        Some(reply.status == 201)
    }

    async fn remove(&self, actor: &Actor, scope: Scope, path: &str) -> Option<bool> {
        let user = match scope {
            Scope::Org(_) => &self.stranger,
            _ => &self.resident,
        };
        let reply = self
            .send(actor, delete(&format!("{path}/members/{}/", user.user_id)))
            .await;
        self.restore().await;
        Some(reply.status == 204)
    }

    /// Undoes what adding and removing members did.
    async fn restore(&self) {
        let (tenant, stranger) = (self.acme.id, self.stranger.user_id);
        let mut sql = format!(
            "delete from scope_members where user_id = '{stranger}';
             update memberships set active = true where user_id = '{stranger}';"
        );
        for place in [
            Place::OwnTeam,
            Place::OtherTeam,
            Place::OwnProject,
            Place::OtherProject,
        ] {
            sql.push_str(&member(
                tenant.get(),
                self.scopes[&place],
                &self.resident,
                "member",
            ));
        }
        let client = self.app.db.superuser_client().await;
        client.batch_execute(&sql).await.unwrap();
    }
}

async fn send(router: &Router, request: Request<Body>) -> Reply {
    Reply::read(router.clone().oneshot(request).await.unwrap()).await
}

/// Returns a new message with the word that nobody else may find.
fn message() -> Change {
    let row = json!({ "message_id": fresh_uuid(), "session_id": "s", "role": "user",
        "content": SECRET });
    new("context_messages", &row)
}

/// Returns a new sprint with that word.
fn sprint() -> Change {
    new(
        "projects_sprints",
        &json!({ "name": SECRET, "project_id": "p" }),
    )
}

fn new(table: &str, row: &Value) -> Change {
    let table = by_cloud_name(table).unwrap();
    let row = coditect_core::canonical::row(table, row.as_object().unwrap().clone());
    Change {
        table: table.cloud.to_owned(),
        hash: hash::content(table, &row).to_string(),
        row: Some(row),
        ..decision(RowId::new(fresh_uuid()), "", 0)
    }
}

/// Tries everything and compares; prints what was tried.
#[expect(clippy::print_stdout, reason = "the summary is the point")]
async fn check(mode: Mode) {
    let world = world(mode).await;
    let (mut allowed, mut refused, mut wrong) = (0, 0, Vec::new());
    for actor in &world.actors {
        for place in PLACES {
            for operation in OPERATIONS {
                let Some(done) = world.try_it(actor, operation, place).await else {
                    continue;
                };
                let expected = actor.may(operation, place, mode);
                if done != expected {
                    wrong.push(format!(
                        "{}, team {:?}, project {:?}: {operation:?} in {place:?} was {}",
                        actor.role,
                        actor.team,
                        actor.project,
                        if done { "possible" } else { "refused" }
                    ));
                }
                if done { allowed += 1 } else { refused += 1 }
            }
        }
    }
    println!(
        "{mode:?}: {} people, {} operations, {} places: {allowed} done, {refused} refused, \
         {} wrong",
        world.actors.len(),
        OPERATIONS.len(),
        PLACES.len(),
        wrong.len()
    );
    assert!(allowed > 300 && refused > 600, "{allowed} {refused}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn roles_allow_what_the_tables_say() {
    check(Mode::Both).await;
}

#[tokio::test]
async fn row_security_alone_allows_what_the_tables_say() {
    check(Mode::RowSecurityAlone).await;
}

#[tokio::test]
async fn checks_alone_allow_what_the_tables_say() {
    check(Mode::ChecksAlone).await;
}

#[tokio::test]
async fn organization_roles_have_the_published_permissions() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    for role in Role::ALL {
        let user = app
            .db
            .with_role(&acme, &format!("{role}@acme.example"), *role)
            .await;
        let shown: Organization = app.get_as(&user, "/api/v1/organization/").await.ok();
        assert_eq!(shown.role, *role);
        let names: Vec<&str> = shown.permissions.iter().map(|one| one.as_str()).collect();
        let listed = ORGANIZATION.iter().find(|(listed, _)| listed == role);
        for name in PUBLISHED {
            let expected = listed.is_none_or(|(_, listed)| listed.contains(&name));
            assert_eq!(names.contains(&name), expected, "{role} {name}");
        }
        let owner = *role == Role::Owner;
        for name in ["billing:manage", "organization:delete"] {
            assert_eq!(names.contains(&name), owner, "{role} {name}");
        }
    }
}

//! Every route × (no credential, expired, other tenant). The list of routes comes from the
//! OpenAPI document; a route without an entry here fails.

pub(crate) mod membership;
mod records;

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use coditect_protocol::wire::push::{PushReply, Status};
use coditect_protocol::{DeviceId, ErrorCode, Scope};
use coditect_server::openapi;
use coditect_server_store::identity::Role;
use coditect_testkit::{TestTenant, TestUser};
use membership::Belongings;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::context::{CONTEXT_PULL, CONTEXT_PUSH, DECISIONS, LEARNINGS, STATUS, TASKS, of_device};
use crate::support::{
    CONFLICTS, MOVE, PULL, PUSH, TestApp, bearer, decision, delete, fresh_row, fresh_uuid, get,
    own_scope, post, pull_request, push_request,
};

/// What a request is about: somebody's things, or things that do not exist.
fn bodies_request(target: &Target, device: DeviceId) -> Value {
    json!({
        "api_version": coditect_protocol::API_VERSION,
        "device": device,
        "scope": target.scope,
        "hashes": ["00".repeat(32)],
    })
}

#[derive(Debug, Clone)]
struct Target {
    scope: Scope,
    tenant: Uuid,
    device: DeviceId,
    license_key: String,
    refresh_token: String,
    belongings: Belongings,
}

impl Target {
    fn of(world: &World, user: &TestUser, scope: Scope) -> Self {
        Self {
            scope,
            belongings: world.belongings.clone(),
            tenant: user.tenant_id.get(),
            device: user.device_id,
            license_key: user.license_key.clone(),
            refresh_token: user.refresh_token.clone(),
        }
    }

    /// The same in form, but of nobody.
    fn missing(like: Scope) -> Self {
        let scope = match like {
            Scope::User(_) => Scope::User(fresh_uuid()),
            Scope::Org(_) => Scope::Org(fresh_uuid()),
            other => other,
        };
        let text = |prefix: &str| format!("{prefix}{}", "A".repeat(86));
        Self {
            scope,
            tenant: fresh_uuid(),
            device: DeviceId::new(fresh_uuid()),
            license_key: text("cdl_"),
            refresh_token: text("cdr_"),
            belongings: Belongings::missing(),
        }
    }
}

/// What a route is asked with and what its own tenant gets.
struct Probe {
    route: &'static str,
    bearer: bool,
    own_status: u16,
    /// Makes the request of a caller with the given device about the target.
    request: fn(&Target, DeviceId, &TestUser) -> Request<Body>,
}

const PROBES: &[Probe] = &[
    Probe {
        route: "POST /api/v1/auth/license/",
        bearer: false,
        own_status: 200,
        // A key whose tenant is the target's and whose secret is not.
        request: |target, _, _| {
            let key = forged(&target.license_key);
            post("/api/v1/auth/license/", &json!({ "license_key": key }))
        },
    },
    Probe {
        route: "POST /api/v1/auth/login/",
        bearer: false,
        own_status: 200,
        // The caller's own password, but the target's organisation.
        request: |target, _, caller| {
            let body = json!({ "email": caller.email, "password": caller.password,
                "tenant_id": target.tenant });
            post("/api/v1/auth/login/", &body)
        },
    },
    Probe {
        route: "POST /api/v1/auth/refresh/",
        bearer: false,
        own_status: 200,
        request: |target, _, _| {
            let token = forged(&target.refresh_token);
            post("/api/v1/auth/refresh/", &json!({ "refresh_token": token }))
        },
    },
    Probe {
        route: "POST /api/v1/auth/logout/",
        bearer: false,
        own_status: 204,
        request: |target, _, _| {
            let token = forged(&target.refresh_token);
            post("/api/v1/auth/logout/", &json!({ "refresh_token": token }))
        },
    },
    Probe {
        route: "GET /api/v1/auth/jwks.json",
        bearer: false,
        own_status: 200,
        request: |_, _, _| get("/api/v1/auth/jwks.json"),
    },
    Probe {
        route: "GET /.well-known/jwks.json",
        bearer: false,
        own_status: 200,
        request: |_, _, _| get("/.well-known/jwks.json"),
    },
    Probe {
        route: "GET /api/v1/devices/",
        bearer: true,
        own_status: 200,
        request: |_, _, _| get("/api/v1/devices/"),
    },
    Probe {
        route: "DELETE /api/v1/devices/{id}/",
        bearer: true,
        own_status: 204,
        request: |target, _, _| delete(&format!("/api/v1/devices/{}/", target.device)),
    },
    // The caller's own organisation, whatever is asked for.
    Probe {
        route: "GET /api/v1/audit/",
        bearer: true,
        own_status: 200,
        request: |target, _, _| get(&format!("/api/v1/audit/?device_id={}", target.device)),
    },
    Probe {
        route: "GET /api/v1/audit/export",
        bearer: true,
        own_status: 200,
        request: |_, _, _| get("/api/v1/audit/export"),
    },
    // The views: the caller's own stream, with the device of the target.
    Probe {
        route: "POST /api/v1/context/push",
        bearer: true,
        own_status: 200,
        request: |target, _, _| {
            of_device(
                post(CONTEXT_PUSH, &json!({ "content": "mine" })),
                target.device,
            )
        },
    },
    Probe {
        route: "GET /api/v1/context/pull",
        bearer: true,
        own_status: 200,
        request: |target, _, _| of_device(get(CONTEXT_PULL), target.device),
    },
    Probe {
        route: "GET /api/v1/context/status",
        bearer: true,
        own_status: 200,
        request: |target, _, _| of_device(get(STATUS), target.device),
    },
    Probe {
        route: "POST /api/v1/context/tasks/",
        bearer: true,
        own_status: 201,
        request: |target, _, _| of_device(post(TASKS, &json!({ "task_id": "1" })), target.device),
    },
    Probe {
        route: "GET /api/v1/context/tasks/",
        bearer: true,
        own_status: 200,
        request: |target, _, _| of_device(get(TASKS), target.device),
    },
    Probe {
        route: "GET /api/v1/context/decisions/",
        bearer: true,
        own_status: 200,
        request: |target, _, _| of_device(get(DECISIONS), target.device),
    },
    Probe {
        route: "GET /api/v1/context/learnings/",
        bearer: true,
        own_status: 200,
        request: |target, _, _| of_device(get(LEARNINGS), target.device),
    },
    Probe {
        route: "POST /api/v1/sync/push",
        bearer: true,
        own_status: 200,
        request: |target, device, _| {
            let change = decision(fresh_row(), "planted", 0);
            post(
                PUSH,
                &push_request(device, target.scope, None, vec![change]),
            )
        },
    },
    Probe {
        route: "POST /api/v1/sync/move",
        bearer: true,
        own_status: 200,
        request: |target, device, _| {
            let wanted = json!({ "api_version": coditect_protocol::API_VERSION, "device": device,
                "batch_id": fresh_uuid(), "file": "org", "from": target.scope,
                "to": Scope::Org(target.tenant), "moves": [{ "table": "org_decisions",
                "id": Uuid::nil(), "base": "1" }] });
            // Within the organisation's scope there is no way to go.
            match target.scope {
                Scope::Org(tenant) => {
                    let mut wanted = wanted;
                    wanted["to"] = json!(Scope::Team(tenant));
                    post(MOVE, &wanted)
                }
                _ => post(MOVE, &wanted),
            }
        },
    },
    Probe {
        route: "POST /api/v1/sync/pull",
        bearer: true,
        own_status: 200,
        request: |target, device, _| post(PULL, &pull_request(device, target.scope)),
    },
    Probe {
        route: "POST /api/v1/sync/bodies",
        bearer: true,
        own_status: 200,
        request: |target, device, _| post("/api/v1/sync/bodies", &bodies_request(target, device)),
    },
    Probe {
        route: "POST /api/v1/sync/bodies/known",
        bearer: true,
        own_status: 200,
        request: |target, device, _| {
            post("/api/v1/sync/bodies/known", &bodies_request(target, device))
        },
    },
    Probe {
        route: "GET /api/v1/sync/conflicts",
        bearer: true,
        own_status: 200,
        request: |target, _, _| get(&format!("{CONFLICTS}?scope={}", target.scope)),
    },
    // Without an upgrade; `hints.rs` asks with one.
    Probe {
        route: "GET /api/v1/sync/hints",
        bearer: true,
        own_status: 400,
        request: |_, _, _| get("/api/v1/sync/hints"),
    },
    Probe {
        route: "POST /api/v1/sync/conflicts/{id}/resolve",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            let path = format!("{CONFLICTS}/{}/resolve", Uuid::nil());
            post(&path, &json!({ "scope": target.scope, "take": "lost" }))
        },
    },
    Probe {
        route: "GET /api/v1/sync/history",
        bearer: true,
        own_status: 200,
        request: |target, _, _| {
            let (scope, row) = (target.scope, Uuid::nil());
            get(&format!(
                "/api/v1/sync/history?scope={scope}&table=org_decisions&id={row}"
            ))
        },
    },
    Probe {
        route: "POST /api/v1/sync/history/restore",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            let wanted = json!({ "scope": target.scope, "table": "org_decisions",
                "id": Uuid::nil(), "version": "1" });
            post("/api/v1/sync/history/restore", &wanted)
        },
    },
    // Backups of the target's scope, which is of one kind only: as another kind it is not there.
    Probe {
        route: "POST /api/v1/users/{id}/context/backup",
        bearer: true,
        own_status: 202,
        request: |target, _, _| {
            post(
                &backups_of("users", target, "backup"),
                &json!({ "type": "full" }),
            )
        },
    },
    Probe {
        route: "GET /api/v1/users/{id}/context/backups",
        bearer: true,
        own_status: 200,
        request: |target, _, _| get(&backups_of("users", target, "backups")),
    },
    Probe {
        route: "POST /api/v1/users/{id}/context/restore",
        bearer: true,
        own_status: 404,
        request: |target, _, _| post(&backups_of("users", target, "restore"), &restore_nothing()),
    },
    Probe {
        route: "GET /api/v1/users/{id}/context/restores",
        bearer: true,
        own_status: 200,
        request: |target, _, _| get(&backups_of("users", target, "restores")),
    },
    Probe {
        route: "GET /api/v1/users/{id}/context/restores/{restore_id}",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("users", target, &one_restore())),
    },
    Probe {
        route: "POST /api/v1/teams/{id}/context/backup",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            post(
                &backups_of("teams", target, "backup"),
                &json!({ "type": "full" }),
            )
        },
    },
    Probe {
        route: "GET /api/v1/teams/{id}/context/backups",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("teams", target, "backups")),
    },
    Probe {
        route: "POST /api/v1/teams/{id}/context/restore",
        bearer: true,
        own_status: 404,
        request: |target, _, _| post(&backups_of("teams", target, "restore"), &restore_nothing()),
    },
    Probe {
        route: "GET /api/v1/teams/{id}/context/restores",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("teams", target, "restores")),
    },
    Probe {
        route: "GET /api/v1/teams/{id}/context/restores/{restore_id}",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("teams", target, &one_restore())),
    },
    Probe {
        route: "POST /api/v1/projects/{id}/context/backup",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            post(
                &backups_of("projects", target, "backup"),
                &json!({ "type": "full" }),
            )
        },
    },
    Probe {
        route: "GET /api/v1/projects/{id}/context/backups",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("projects", target, "backups")),
    },
    Probe {
        route: "POST /api/v1/projects/{id}/context/restore",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            post(
                &backups_of("projects", target, "restore"),
                &restore_nothing(),
            )
        },
    },
    Probe {
        route: "GET /api/v1/projects/{id}/context/restores",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("projects", target, "restores")),
    },
    Probe {
        route: "GET /api/v1/projects/{id}/context/restores/{restore_id}",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("projects", target, &one_restore())),
    },
    Probe {
        route: "POST /api/v1/organizations/{id}/context/backup",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            post(
                &backups_of("organizations", target, "backup"),
                &json!({ "type": "full" }),
            )
        },
    },
    Probe {
        route: "GET /api/v1/organizations/{id}/context/backups",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("organizations", target, "backups")),
    },
    Probe {
        route: "POST /api/v1/organizations/{id}/context/restore",
        bearer: true,
        own_status: 404,
        request: |target, _, _| {
            post(
                &backups_of("organizations", target, "restore"),
                &restore_nothing(),
            )
        },
    },
    Probe {
        route: "GET /api/v1/organizations/{id}/context/restores",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("organizations", target, "restores")),
    },
    Probe {
        route: "GET /api/v1/organizations/{id}/context/restores/{restore_id}",
        bearer: true,
        own_status: 404,
        request: |target, _, _| get(&backups_of("organizations", target, &one_restore())),
    },
    Probe {
        route: "GET /api/v1/openapi.json",
        bearer: false,
        own_status: 200,
        request: |_, _, _| get("/api/v1/openapi.json"),
    },
    Probe {
        route: "GET /health/",
        bearer: false,
        own_status: 200,
        request: |_, _, _| get("/health/"),
    },
    Probe {
        route: "GET /health/live",
        bearer: false,
        own_status: 200,
        request: |_, _, _| get("/health/live"),
    },
];

fn backups_of(folder: &str, target: &Target, what: &str) -> String {
    format!("/api/v1/{folder}/{}/context/{what}", target.scope.id())
}

fn one_restore() -> String {
    format!("restores/{}", Uuid::nil())
}

fn restore_nothing() -> Value {
    json!({ "backup_id": Uuid::nil(), "mode": "merge" })
}

/// Keeps the tenant and id of a key and spoils its secret.
fn forged(key: &str) -> String {
    let (kept, secret) = key.split_at(60);
    format!("{kept}{}A", "B".repeat(secret.len() - 1))
}

/// Returns `METHOD path` of every operation of the document.
fn documented() -> Vec<String> {
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            routes.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes.sort();
    routes
}

fn probes() -> impl Iterator<Item = &'static Probe> {
    let probes = PROBES.iter().chain(membership::PROBES);
    probes.chain(records::PROBES.iter().copied().flatten())
}

fn probe(route: &str) -> &'static Probe {
    let found = probes().find(|probe| probe.route == route);
    found.unwrap_or_else(|| panic!("{route} has no entry in the tenancy matrix"))
}

struct World {
    app: TestApp,
    ann: TestUser,
    colleague: TestUser,
    eve: TestUser,
    acme: TestTenant,
    belongings: Belongings,
}

/// Ann and a colleague at acme, Eve at beta; Ann's scope and acme's hold rows and a conflict.
async fn world() -> World {
    let app = TestApp::start().await;
    let (acme, beta) = (
        app.db.with_tenant("acme").await,
        app.db.with_tenant("beta").await,
    );
    let ann = app
        .db
        .with_role(&acme, "ann@acme.example", Role::Owner)
        .await;
    let colleague = app.db.with_user(&acme, "cat@acme.example").await;
    let eve = app
        .db
        .with_role(&beta, "eve@beta.example", Role::Owner)
        .await;
    let mut people = Vec::new();
    for name in ["dan", "fay", "gil"] {
        people.push(
            app.db
                .with_user(&acme, &format!("{name}@acme.example"))
                .await,
        );
    }
    let belongings = Belongings::make(&app, &ann, [&people[0], &people[1], &people[2]]).await;
    for scope in [own_scope(&ann), Scope::Org(acme.id.get())] {
        make_conflict(&app, &ann, scope).await;
    }
    World {
        app,
        ann,
        colleague,
        eve,
        acme,
        belongings,
    }
}

/// Edits one row on two fresh devices.
pub(crate) async fn make_conflict(app: &TestApp, ann: &TestUser, scope: Scope) {
    let row = fresh_row();
    let mut last = Status::Applied;
    for number in 0..2 {
        let device = app.db.log_in(&ann.license_key, &Default::default()).await;
        let change = decision(row, &format!("secret-word-{number}"), number);
        let request = push_request(device.caller.device_id(), scope, None, vec![change]);
        let sent = bearer(post(PUSH, &request), &device.access_token);
        let reply: PushReply = app.send(sent).await.ok();
        last = reply.outcomes[0].status;
    }
    assert_eq!(last, Status::Conflict);
}

#[tokio::test]
async fn every_documented_route_is_in_the_matrix() {
    let mut ours: Vec<String> = probes().map(|probe| probe.route.to_owned()).collect();
    ours.sort();
    assert_eq!(ours, documented());
}

#[tokio::test]
async fn no_or_bad_credential_is_told_to_authenticate() {
    let world = world().await;
    let app = &world.app;
    let own = Target::of(&world, &world.ann, own_scope(&world.ann));
    let request = |probe: &Probe| (probe.request)(&own, world.ann.device_id, &world.ann);
    let needing: Vec<&Probe> = documented()
        .iter()
        .map(|route| probe(route))
        .filter(|probe| probe.bearer)
        .collect();
    assert!(needing.len() >= 3);
    // First that these requests succeed with the credential.
    let conflicts = app.get_as(&world.ann, CONFLICTS).await;
    assert_eq!(
        conflicts.ok::<Value>()["conflicts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let valid = app
        .send(bearer(get(CONFLICTS), &world.ann.access_token))
        .await;
    assert_eq!(valid.status, 200);
    app.db.clock().advance(TimeDelta::minutes(16));
    for probe in needing {
        for token in [
            None,
            Some(""),
            Some("x.y.z"),
            Some(world.ann.access_token.as_str()),
        ] {
            let sent = match token {
                None => request(probe),
                Some(token) => bearer(request(probe), token),
            };
            let reply = app.send(sent).await;
            reply.problem(ErrorCode::Unauthenticated);
            let challenge = reply.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer"), "{} {token:?}", probe.route);
        }
    }
}

#[tokio::test]
async fn own_things_are_reached_by_the_same_requests() {
    let world = world().await;
    for route in documented() {
        let probe = probe(&route);
        let target = Target::of(&world, &world.ann, own_scope(&world.ann));
        let request = match route.as_str() {
            // The real secrets instead of forged ones.
            "POST /api/v1/auth/license/" => post(
                "/api/v1/auth/license/",
                &json!({ "license_key": target.license_key }),
            ),
            "POST /api/v1/auth/refresh/" | "POST /api/v1/auth/logout/" => {
                let login = world
                    .app
                    .db
                    .log_in(&target.license_key, &Default::default())
                    .await;
                let path = route.split(' ').nth(1).unwrap();
                post(path, &json!({ "refresh_token": login.refresh_token }))
            }
            "POST /api/v1/sync/push" => {
                let change = decision(fresh_row(), "mine", 5);
                let device = world
                    .app
                    .db
                    .log_in(&target.license_key, &Default::default())
                    .await;
                let device = device.caller.device_id();
                post(
                    PUSH,
                    &push_request(device, target.scope, None, vec![change]),
                )
            }
            // Another device than the one that goes on asking.
            "DELETE /api/v1/devices/{id}/" => {
                let key = &target.license_key;
                let login = world.app.db.log_in(key, &Default::default()).await;
                delete(&format!("/api/v1/devices/{}/", login.caller.device_id()))
            }
            _ => membership::whole(&route, &target)
                .unwrap_or_else(|| (probe.request)(&target, world.ann.device_id, &world.ann)),
        };
        let reply = world
            .app
            .send(bearer(request, &world.ann.access_token))
            .await;
        assert_eq!(reply.status, probe.own_status, "{route}: {}", reply.text());
    }
}

/// The answer about somebody else's things equals that about things that do not exist, in
/// status and body.
#[tokio::test]
async fn things_of_others_do_not_exist() {
    let world = world().await;
    let org = Scope::Org(world.acme.id.get());
    let cases = [
        // Another tenant: private and organisation scope.
        (
            &world.eve,
            Target::of(&world, &world.ann, own_scope(&world.ann)),
        ),
        (&world.eve, Target::of(&world, &world.ann, org)),
        // The same tenant: a colleague's private scope.
        (
            &world.colleague,
            Target::of(&world, &world.ann, own_scope(&world.ann)),
        ),
    ];
    for route in documented() {
        let probe = probe(&route);
        for (caller, target) in &cases {
            let same_tenant = caller.tenant_id == world.ann.tenant_id;
            if same_tenant && !probe.bearer {
                continue;
            }
            let missing = Target::missing(target.scope);
            let mut answers = Vec::new();
            for target in [target, &missing] {
                let request = (probe.request)(target, caller.device_id, caller);
                let reply = world.app.send(bearer(request, &caller.access_token)).await;
                assert!(
                    !reply.text().contains("secret-word"),
                    "{route}: {}",
                    reply.text()
                );
                answers.push(reply.comparable());
            }
            assert_eq!(
                answers[0], answers[1],
                "{route} by {} about {target:?}",
                caller.email
            );
        }
    }
}

/// The same for a device of somebody else, named in the caller's own scope.
#[tokio::test]
async fn devices_of_others_do_not_exist() {
    let world = world().await;
    for caller in [&world.eve, &world.colleague] {
        for route in ["POST /api/v1/sync/push", "POST /api/v1/sync/pull"] {
            let own = Target::of(&world, caller, own_scope(caller));
            let mut answers = Vec::new();
            for device in [world.ann.device_id, DeviceId::new(fresh_uuid())] {
                let request = (probe(route).request)(&own, device, caller);
                let reply = world.app.send(bearer(request, &caller.access_token)).await;
                reply.problem(ErrorCode::DeviceUnknown);
                answers.push(reply.comparable());
            }
            assert_eq!(answers[0], answers[1], "{route}");
        }
    }
}

/// What was tried above has left nothing with its victims.
#[tokio::test]
async fn refused_push_stores_nothing() {
    let world = world().await;
    let scopes = [own_scope(&world.ann), Scope::Org(world.acme.id.get())];
    for scope in scopes {
        let change = decision(fresh_row(), "planted", 0);
        let request = push_request(world.eve.device_id, scope, None, vec![change]);
        world
            .app
            .post_as(&world.eve, PUSH, &request)
            .await
            .problem(ErrorCode::NotFound);
        let pull = pull_request(world.ann.device_id, scope);
        let reply = world.app.post_as(&world.ann, PULL, &pull).await;
        assert_eq!(reply.status, 200);
        assert!(reply.text().contains("secret-word") && !reply.text().contains("planted"));
    }
}

//! Every route of the page that is not a view on the caller's own stream: asked as the page says,
//! answered in its shape. A row without a test here fails.

use axum::body::Body;
use axum::http::Request;
use coditect_protocol::Scope;
use coditect_server::jobs;
use coditect_server_store::identity::Role;
use coditect_testkit::TestUser;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::seed_page::{Shape, beside, check_types, documented, example, rows};
use crate::support::{
    PUSH, TestApp, bearer, decision, fresh_row, get, own_scope, post, push_request,
};

struct World {
    app: TestApp,
    owner: TestUser,
    team: Uuid,
    project: Uuid,
}

/// An owner with something in each own scope, so that every list shows something.
async fn world() -> World {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let owner = app
        .db
        .with_role(&tenant, "ann@acme.example", Role::Owner)
        .await;
    let org = Scope::Org(tenant.id.get());
    for scope in [own_scope(&owner), org] {
        let device = app.db.log_in(&owner.license_key, &Default::default()).await;
        let changes = vec![decision(fresh_row(), "a decision", 0)];
        let request = push_request(device.caller.device_id(), scope, None, changes);
        let sent = bearer(post(PUSH, &request), &device.access_token);
        assert_eq!(app.send(sent).await.status, 200);
    }
    let mut made = Vec::new();
    for path in ["/api/v1/teams/", "/api/v1/projects/"] {
        let reply = app.post_as(&owner, path, &json!({ "name": "core" })).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        made.push(body["id"].as_str().unwrap().parse().unwrap());
    }
    World {
        app,
        owner,
        team: made[0],
        project: made[1],
    }
}

impl World {
    async fn ask(&self, request: Request<Body>) -> (u16, Value) {
        let reply = self
            .app
            .send(bearer(request, &self.owner.access_token))
            .await;
        let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        (reply.status, body)
    }

    /// Has the backups written that were asked for.
    async fn write_backups(&self) {
        let backups = self.app.state.backups.as_ref().unwrap();
        jobs::backups::run_pending(&self.app.state, backups)
            .await
            .unwrap();
    }

    /// Returns `(folder, id)` of a scope of each kind that the owner backs up.
    fn scopes(&self) -> Vec<(&'static str, Uuid)> {
        vec![
            ("users", self.owner.user_id.get()),
            ("teams", self.team),
            ("projects", self.project),
            ("organizations", self.owner.tenant_id.get()),
        ]
    }

    /// Pushes into a team or project and pulls it again, in the shapes of the own stream's rows.
    async fn shared(&self, folder: &str, id: Uuid, page: &str) {
        let path = format!("/api/v1/{folder}/{id}/context");
        let message = json!({ "type": "pattern", "content": format!("of {folder}") });
        let push = post(&format!("{path}/push"), &json!({ "messages": [message] }));
        let pull = get(&format!("{path}/pull?cursor=0&limit=100"));
        for (request, own) in [
            (push, "POST `/api/v1/context/push`"),
            (pull, "GET `/api/v1/context/pull"),
        ] {
            let (status, body) = self.ask(request).await;
            assert_eq!(status, 200, "{path}: {body}");
            let row = rows(page)
                .into_iter()
                .find(|cells| cells[0].starts_with(own));
            Shape::of(&row.unwrap()[2]).check(&body, &path);
            if let Some(messages) = body["messages"].as_array() {
                let by = json!(self.owner.user_id);
                assert!(!messages.is_empty(), "{path}");
                assert!(
                    messages.iter().all(|one| one["contributed_by"] == by),
                    "{body}"
                );
            }
        }
    }

    /// Asks what the row about backups says, for each kind of scope.
    async fn backups(&self, tail: &str, cells: &[String]) {
        let (request, reply) = (&cells[1], Shape::of(&printed_metadata(&cells[2])));
        for (folder, id) in self.scopes() {
            let path = format!("/api/v1/{folder}/{id}/context/{tail}");
            let documented_path = format!("/api/v1/{folder}/{{id}}/context/{tail}");
            let (status, body) = match tail {
                "backups" => self.ask(get(&path)).await,
                "backup" => {
                    assert!(request.contains("\"full\"") && request.contains("\"incremental\""));
                    self.ask(post(&path, &json!({ "type": "incremental" })))
                        .await
                }
                _ => {
                    let names = documented(&documented_path, "post");
                    for name in ["backup_id", "mode", "dry_run"] {
                        assert!(request.contains(name) && names.contains(name), "{name}");
                    }
                    let list = format!("/api/v1/{folder}/{id}/context/backups");
                    let (_, list) = self.ask(get(&list)).await;
                    let backup = &list["backups"][0]["id"];
                    self.ask(post(
                        &path,
                        &json!({ "backup_id": backup, "mode": "merge" }),
                    ))
                    .await
                }
            };
            let expected = if tail == "backup" { 202 } else { 200 };
            assert_eq!(status, expected, "{path}: {body}");
            reply.check(&body, &path);
            self.write_backups().await;
        }
    }
}

/// The page says "metadata" where the seed prints an object.
fn printed_metadata(cell: &str) -> String {
    let fields = "{\"id\",\"tenant_id\",\"scope_type\",\"scope_id\",\"backup_type\",\"gcs_path\",\
        \"size_bytes\",\"record_count\",\"checksum\",\"status\",\"created_at\",\"completed_at\",\
        \"expires_at\",\"path\"}";
    if cell.starts_with("202") {
        return fields.to_owned();
    }
    cell.replace("[metadata]", &format!("[{fields}]"))
}

#[tokio::test]
async fn every_other_route_of_the_page_answers_in_its_shape() {
    let Some(page) = beside("reference/seed-routes.md") else {
        return;
    };
    let world = world().await;
    let (app, owner) = (&world.app, &world.owner);
    let mut asked = 0;
    for cells in rows(&page) {
        let route = cells[0].replace('`', "");
        if route.contains(" /api/v1/context/") || !route.contains(" /") {
            continue;
        }
        asked += 1;
        match route.split_once(' ').unwrap().1 {
            "/api/v1/auth/license/" => {
                let body = json!({ "license_key": owner.license_key });
                let reply: Value = app.post("/api/v1/auth/license/", &body).await.ok();
                Shape::of(&cells[2]).check(&reply, &route);
                for ours in ["refresh_token", "expires_in", "user_id", "device_id"] {
                    assert!(cells[2].contains(ours) && !reply[ours].is_null(), "{ours}");
                }
            }
            "/api/v1/auth/login/" => {
                let body = json!({ "email": owner.email, "password": owner.password });
                let reply: Value = app.post("/api/v1/auth/login/", &body).await.ok();
                assert!(reply["access_token"].is_string() && reply["tenant_id"].is_string());
            }
            "/api/v1/auth/refresh/, /auth/logout/" => {
                let login = app.db.log_in(&owner.license_key, &Default::default()).await;
                let body = json!({ "refresh_token": login.refresh_token });
                let reply: Value = app.post("/api/v1/auth/refresh/", &body).await.ok();
                let body = json!({ "refresh_token": reply["refresh_token"] });
                let ended = app.post("/api/v1/auth/logout/", &body).await;
                assert_eq!(ended.status, 204);
            }
            "GET /api/v1/teams/{id}/context/push, /pull" => {
                world.shared("teams", world.team, &page).await;
            }
            "GET /api/v1/projects/{id}/context/push, /pull" => {
                world.shared("projects", world.project, &page).await;
            }
            path if path.ends_with("/context/backup") => world.backups("backup", &cells).await,
            path if path.ends_with("/context/backups") => world.backups("backups", &cells).await,
            path if path.ends_with("/context/restore") => world.backups("restore", &cells).await,
            "/health/" => {
                let reply: Value = app.get("/health/").await.ok();
                assert_eq!(reply, json!({ "status": "healthy" }));
                assert!(cells[2].contains("{\"status\":\"healthy\"}"));
            }
            _ => panic!("no test for {route}"),
        }
    }
    assert_eq!(asked, 9);
}

/// The metadata of a backup as the second seed prints it.
#[tokio::test]
async fn a_backup_is_described_as_the_seed_prints_it() {
    let Some(seed) = beside("seeds/002") else {
        return;
    };
    let world = world().await;
    let (mut printed, _) = example(&seed, "Backup Metadata");
    let path = format!("/api/v1/users/{}/context/backup", world.owner.user_id);
    let (status, _) = world.ask(post(&path, &json!({ "type": "full" }))).await;
    assert_eq!(status, 202);
    world.write_backups().await;
    let (_, list) = world.ask(get(&format!("{path}s"))).await;
    let backup = &list["backups"][0];
    // One that somebody asked for does not expire.
    assert_eq!(backup["expires_at"], Value::Null);
    printed.as_object_mut().unwrap().remove("expires_at");
    check_types(&printed, backup, "backup");
}

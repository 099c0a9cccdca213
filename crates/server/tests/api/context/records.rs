//! Sprints, tracks, metrics, calibrations and checkpoints through their routes.

use axum::body::Body;
use axum::http::Request;
use coditect_core::hash;
use coditect_protocol::catalogue::{Class, Direction, Table, by_cloud_name};
use coditect_protocol::wire::history::{RecordHistory, RecordReply};
use coditect_protocol::wire::membership::{Project, Team};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::wire::{Op, Row, Stored};
use coditect_protocol::{ErrorCode, RowId, Scope};
use coditect_testkit::TestUser;
use serde_json::{Value, json};

use super::{of_device, start};
use crate::support::{
    PULL, PUSH, Reply, TestApp, bearer, decision, delete, fresh_row, fresh_uuid, get, own_scope,
    post, pull_request, push_request,
};
use crate::tenancy::membership::put;

/// Kinds: the path's word, the table, and what makes one.
fn kinds() -> [(&'static str, &'static Table, Value); 5] {
    let table = |name| by_cloud_name(name).unwrap();
    [
        (
            "sprints",
            table("projects_sprints"),
            json!({ "name": "S1", "project_id": "p", "goal": "first", "position": 2,
                "start_date": "2026-03-02", "metadata": { "a": [1, 2.5] } }),
        ),
        (
            "tracks",
            table("org_project_tracks"),
            json!({ "track_id": "J", "project_id": "p", "name": "Memory" }),
        ),
        (
            "metrics",
            table("org_quality_metrics"),
            json!({ "metric_name": "coverage", "metric_value": 1, "project_id": "p",
                "measured_at": "2026-01-01T01:00:00+01:00" }),
        ),
        (
            "calibrations",
            table("org_calibration_history"),
            json!({ "model": "m", "metric": "success", "predicted": 0.9, "actual": 1 }),
        ),
        (
            "checkpoints",
            table("context_checkpoints"),
            json!({ "name": "Beta", "project_id": "p", "task_count": 3, "date": "2026-01-02" }),
        ),
    ]
}

fn path(kind: &str) -> String {
    format!("/api/v1/context/{kind}/")
}

async fn send(app: &TestApp, user: &TestUser, request: Request<Body>) -> Reply {
    app.send(bearer(request, &user.access_token)).await
}

/// Writes and returns the status with the reply.
async fn make(app: &TestApp, user: &TestUser, path: &str, body: &Value) -> (u16, Value) {
    let reply = app.post_as(user, path, body).await;
    let body = serde_json::from_slice(&reply.body);
    (reply.status, body.unwrap_or_else(|_| panic!("{reply:?}")))
}

async fn made(app: &TestApp, user: &TestUser, path: &str, body: &Value) -> String {
    let (status, reply) = make(app, user, path, body).await;
    assert_eq!(
        (status, &reply["status"]),
        (201, &json!("created")),
        "{reply}"
    );
    reply["id"].as_str().unwrap().to_owned()
}

async fn list(app: &TestApp, user: &TestUser, kind: &str, query: &str) -> Vec<Value> {
    let page: Value = app
        .get_as(user, &format!("{}?{query}", path(kind)))
        .await
        .ok();
    page[kind].as_array().unwrap().clone()
}

/// Pulls one table as the user's own device, `up` ones as `coditect pull --table` does.
async fn pull(app: &TestApp, user: &TestUser, scope: Scope, table: &Table) -> Vec<Stored> {
    let mut request = pull_request(user.device_id, scope);
    request.positions[0].file = table.file;
    if table.direction == Direction::Up {
        request.table = Some(table.cloud.to_owned());
    }
    let pulled: PullReply = app.post_as(user, PULL, &request).await.ok();
    let changes = pulled.pages.into_iter().flat_map(|page| page.changes);
    changes.filter(|row| row.table == table.cloud).collect()
}

fn change(table: &Table, id: RowId, row: &Value) -> Change {
    let row = coditect_core::canonical::row(table, row.as_object().unwrap().clone());
    Change {
        table: table.cloud.to_owned(),
        hash: hash::content(table, &row).to_string(),
        row: Some(row),
        ..decision(id, "", 0)
    }
}

/// Pushes one change from the user's own device, which has pushed nothing yet.
async fn push(app: &TestApp, user: &TestUser, table: &Table, change: Change) -> PushReply {
    let mut request = push_request(user.device_id, own_scope(user), None, vec![change]);
    request.file = table.file;
    app.post_as(user, PUSH, &request).await.ok()
}

#[tokio::test]
async fn records_are_made_listed_shown_and_deleted() {
    let (app, ann) = start().await;
    for (kind, table, body) in kinds() {
        let path = path(kind);
        let id = made(&app, &ann, &path, &body).await;
        let listed = list(&app, &ann, kind, "").await;
        assert_eq!(listed.len(), 1, "{kind}");
        let one = format!("{path}{id}/");
        let shown: Value = app.get_as(&ann, &one).await.ok();
        assert_eq!(shown, listed[0], "{kind}");
        assert_eq!(shown["id"], id.as_str());
        assert_eq!(shown["user_id"], json!(ann.user_id));
        assert_eq!(shown["scope"], json!(own_scope(&ann)));
        // In canonical form, with defaults, and null where nobody gave anything.
        let mut row = Row::new();
        for column in table.columns {
            let value = &shown[column.name];
            if !value.is_null() {
                row.insert(column.name.to_owned(), value.clone());
            }
            assert!(shown.get(column.name).is_some(), "{kind}: {}", column.name);
        }
        assert_eq!(row, coditect_core::canonical::row(table, row.clone()));
        assert_eq!(
            shown["content_hash"],
            hash::content(table, &row).to_string()
        );
        let deleted = send(&app, &ann, delete(&one)).await;
        assert_eq!(deleted.status, 204, "{kind}: {}", deleted.text());
        assert_eq!(list(&app, &ann, kind, "").await, [] as [Value; 0]);
        for gone in [delete(&one), get(&one)] {
            let gone = send(&app, &ann, gone).await;
            gone.problem(ErrorCode::NotFound);
        }
        // Made again under that id, a record is there again; what is written once is not.
        let mut again = body.clone();
        again["id"] = json!(id);
        let reply = app.post_as(&ann, &path, &again).await;
        if table.class == Class::Record {
            assert_eq!(reply.status, 201, "{kind}: {}", reply.text());
        } else {
            reply.problem(ErrorCode::NotFound);
        }
    }
    // Each write is in the audit trail, as any push.
    let superuser = app.db.superuser_client().await;
    let sql = "select count(*) from audit_log where action = 'push'";
    let row = superuser.query_typed_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 5 + 5 + 5);
}

#[tokio::test]
async fn writing_again_changes_records_and_leaves_facts_alone() {
    let (app, ann) = start().await;
    for (kind, table, mut body) in kinds() {
        let path = path(kind);
        let id = RowId::new(fresh_uuid());
        if kind != "tracks" {
            body["id"] = json!(id);
        }
        let id = made(&app, &ann, &path, &body).await;
        let (status, same) = make(&app, &ann, &path, &body).await;
        assert_eq!(
            (status, &same["status"]),
            (200, &json!("duplicate")),
            "{kind}"
        );
        let mut other = body.clone();
        let column = table.columns.iter().find(|column| column.name == "status");
        let column = column.map_or("project_id", |column| column.name);
        let column = if kind == "calibrations" {
            "metric"
        } else {
            column
        };
        other[column] = json!("changed");
        let (status, reply) = make(&app, &ann, &path, &other).await;
        let shown: Value = app.get_as(&ann, &format!("{path}{id}/")).await.ok();
        let edited = send(&app, &ann, put(&format!("{path}{id}/"), &json!({}))).await;
        if table.class == Class::Record {
            assert_eq!(
                (status, &reply["status"]),
                (200, &json!("updated")),
                "{kind}"
            );
            assert_eq!(shown[column], "changed", "{kind}");
            assert_eq!(edited.ok::<Value>()["status"], "duplicate", "{kind}");
        } else {
            assert_eq!(
                (status, &reply["status"]),
                (200, &json!("duplicate")),
                "{kind}"
            );
            assert_ne!(shown[column], "changed", "{kind}");
            edited.problem(ErrorCode::MethodNotAllowed);
        }
        assert_eq!(list(&app, &ann, kind, "").await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_a_delete_can_be_undone() {
    let (app, ann) = start().await;
    let body =
        json!({ "name": "S1", "project_id": "p", "goal": "first", "end_date": "2026-03-15" });
    let id = made(&app, &ann, &path("sprints"), &body).await;
    let one = format!("{}{id}/", path("sprints"));
    let edit = json!({ "status": "active", "goal": null });
    let reply: Value = send(&app, &ann, put(&one, &edit)).await.ok();
    assert_eq!(reply["status"], "updated");
    let shown: Value = app.get_as(&ann, &one).await.ok();
    assert_eq!(
        (&shown["status"], &shown["goal"]),
        (&json!("active"), &Value::Null)
    );
    assert_eq!(shown["end_date"], "2026-03-15T00:00:00.000000Z");

    assert_eq!(send(&app, &ann, delete(&one)).await.status, 204);
    let known = format!("/api/v1/sync/history?table=projects_sprints&id={id}");
    let known: RecordHistory = app.get_as(&ann, &known).await.ok();
    let ops: Vec<Op> = known.versions.iter().map(|version| version.op).collect();
    assert_eq!(ops, [Op::Delete, Op::Upsert, Op::Upsert]);
    let wanted = json!({ "scope": own_scope(&ann), "table": "projects_sprints", "id": id,
        "version": known.versions[1].version });
    let back: RecordReply = app
        .post_as(&ann, "/api/v1/sync/history/restore", &wanted)
        .await
        .ok();
    assert_eq!(back.stored.row.unwrap()["status"], "active");
    let again: Value = app.get_as(&ann, &one).await.ok();
    assert_eq!(again["content_hash"], shown["content_hash"]);
}

#[tokio::test]
async fn a_record_comes_down_as_it_was_written() {
    let (app, ann) = start().await;
    for (kind, table, body) in kinds() {
        let id = made(&app, &ann, &path(kind), &body).await;
        let shown: Value = app.get_as(&ann, &format!("{}{id}/", path(kind))).await.ok();
        let pulled = pull(&app, &ann, own_scope(&ann), table).await;
        assert_eq!(pulled.len(), 1, "{kind}");
        let (stored, row) = (&pulled[0], pulled[0].row.as_ref().unwrap());
        assert_eq!(json!(stored.id), id.as_str(), "{kind}");
        assert_eq!(stored.hash, hash::content(table, row).to_string(), "{kind}");
        assert_eq!(shown["content_hash"], stored.hash.as_str(), "{kind}");
        let deleted = send(&app, &ann, delete(&format!("{}{id}/", path(kind)))).await;
        assert_eq!(deleted.status, 204);
        let pulled = pull(&app, &ann, own_scope(&ann), table).await;
        assert!(pulled.iter().all(|row| row.op == Op::Delete), "{kind}");
    }
}

#[tokio::test]
async fn what_a_device_pushed_is_listed_and_only_it_deletes_what_goes_up() {
    let (app, ann) = start().await;
    let (_, table, body) = kinds()
        .into_iter()
        .find(|kind| kind.0 == "metrics")
        .unwrap();
    let id = fresh_row();
    let reply = push(&app, &ann, table, change(table, id, &body)).await;
    assert_eq!(reply.outcomes[0].status, Status::Applied);
    let listed = list(&app, &ann, "metrics", "").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], json!(id));
    assert_eq!(
        listed[0]["content_hash"],
        change(table, id, &body).hash.as_str()
    );
    let one = format!("{}{id}/", path("metrics"));
    let refused = send(&app, &ann, delete(&one)).await;
    refused.problem(ErrorCode::DirectionRefused);
    assert_eq!(list(&app, &ann, "metrics", "").await.len(), 1);
    let reply = send(&app, &ann, of_device(delete(&one), ann.device_id)).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

/// A track that a device wrote and the route's are one row, because both are known by project and
/// letter.
#[tokio::test]
async fn a_track_of_a_device_is_found_by_its_name() {
    let (app, ann) = start().await;
    let (kind, table, body) = kinds().into_iter().find(|kind| kind.0 == "tracks").unwrap();
    let id = hash::named_id(table, &["p", "J"]);
    let mut row = body.clone();
    row["status"] = json!("active");
    push(&app, &ann, table, change(table, id, &row)).await;
    let (status, reply) = make(&app, &ann, &path(kind), &body).await;
    assert_eq!((status, &reply["status"]), (200, &json!("duplicate")));
    assert_eq!(reply["id"], json!(id));
}

#[tokio::test]
async fn records_are_filtered_and_come_in_pages() {
    let (app, ann) = start().await;
    for (name, project, status) in [
        ("a", "p", "planned"),
        ("b", "q", "active"),
        ("c", "p", "active"),
    ] {
        let body = json!({ "name": name, "project_id": project, "status": status });
        made(&app, &ann, &path("sprints"), &body).await;
    }
    let names = async |query: &str| {
        let found = list(&app, &ann, "sprints", query).await;
        let names = found
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().concat()
    };
    for (query, expected) in [
        ("", "abc"),
        ("project_id=p", "ac"),
        ("status=active", "bc"),
        ("status=active&project_id=p", "c"),
        ("status=none", ""),
        ("status=%00", ""),
        ("limit=2", "ab"),
        ("limit=0", "a"),
    ] {
        assert_eq!(names(query).await, expected, "{query}");
    }
    let first: Value = app
        .get_as(&ann, &format!("{}?limit=2", path("sprints")))
        .await
        .ok();
    assert_eq!(first["has_more"], true);
    let (cursor, epoch) = (&first["cursor"], first["epoch"].as_str().unwrap());
    assert_eq!(names(&format!("cursor={cursor}&epoch={epoch}")).await, "c");
    for (query, code) in [
        ("cursor=99", ErrorCode::InvalidCursor),
        ("cursor=-1", ErrorCode::InvalidCursor),
        ("epoch=0000000000000000", ErrorCode::InvalidCursor),
        ("cursor=x", ErrorCode::BadRequest),
        ("status=a&status=b", ErrorCode::BadRequest),
        ("session_id=s", ErrorCode::BadRequest),
        ("scope=me", ErrorCode::BadRequest),
    ] {
        let reply = app
            .get_as(&ann, &format!("{}?{query}", path("sprints")))
            .await;
        reply.problem(code);
    }
}

#[tokio::test]
async fn every_kind_has_filters_of_its_own() {
    let (app, ann) = start().await;
    for (kind, query, found) in [
        ("tracks", "project_id=p&track_id=J&status=active", 1),
        ("tracks", "track_id=K", 0),
        ("metrics", "metric_name=coverage&project_id=p", 1),
        ("metrics", "component_id=c", 0),
        ("calibrations", "model=m&metric=success", 1),
        ("calibrations", "component_id=c", 0),
        ("checkpoints", "project_id=p", 1),
        ("checkpoints", "checkpoint_type=t", 0),
        ("checkpoints", "session_id=s", 0),
        ("checkpoints", "phase=p&focus_area=f&git_branch=b", 0),
    ] {
        if list(&app, &ann, kind, "").await.is_empty() {
            let (_, _, body) = kinds().into_iter().find(|known| known.0 == kind).unwrap();
            made(&app, &ann, &path(kind), &body).await;
        }
        let rows = list(&app, &ann, kind, query).await.len();
        assert_eq!(rows, found, "{kind} {query}");
    }
}

#[tokio::test]
async fn mistakes_are_named_and_change_nothing() {
    let (app, ann) = start().await;
    let good = json!({ "name": "S1", "project_id": "p" });
    let id = made(&app, &ann, &path("sprints"), &good).await;
    let one = format!("{}{id}/", path("sprints"));
    let before = list(&app, &ann, "sprints", "").await;
    let huge = "x".repeat(17 * 1024 * 1024);
    let over = json!({ "name": "n", "project_id": "p", "goal": huge });
    for (kind, body, code) in [
        ("sprints", json!({ "name": "n" }), ErrorCode::BadRequest),
        (
            "sprints",
            json!({ "name": "n", "project_id": "p", "goals": "g" }),
            ErrorCode::BadRequest,
        ),
        (
            "sprints",
            json!({ "name": 5, "project_id": "p" }),
            ErrorCode::BadRequest,
        ),
        ("sprints", json!([]), ErrorCode::BadRequest),
        ("sprints", over, ErrorCode::BodyTooLarge),
        (
            "tracks",
            json!({ "project_id": "p" }),
            ErrorCode::BadRequest,
        ),
        (
            "metrics",
            json!({ "metric_name": "m", "metric_value": "x" }),
            ErrorCode::BadRequest,
        ),
        (
            "calibrations",
            json!({ "model": "m", "actual": 2 }),
            ErrorCode::BadRequest,
        ),
        (
            "checkpoints",
            json!({ "name": "n", "date": "soon" }),
            ErrorCode::BadRequest,
        ),
        (
            "checkpoints",
            json!({ "name": "n", "id": "x" }),
            ErrorCode::BadRequest,
        ),
    ] {
        let reply = app.post_as(&ann, &path(kind), &body).await;
        reply.problem(code);
    }
    for body in [
        json!({ "name": null }),
        json!({ "position": 1.5 }),
        json!({ "id": id }),
        json!({ "content_hash": "0" }),
    ] {
        let reply = send(&app, &ann, put(&one, &body)).await;
        reply.problem(ErrorCode::BadRequest);
    }
    assert_eq!(list(&app, &ann, "sprints", "").await, before);
    for (kind, ..) in kinds().into_iter().skip(1) {
        assert_eq!(list(&app, &ann, kind, "").await, [] as [Value; 0], "{kind}");
    }
    // Nothing was numbered either.
    let page: Value = app.get_as(&ann, &path("sprints")).await.ok();
    assert_eq!(page["cursor"], before[0]["sync_cursor"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_stays_so() {
    let (app, ann) = start().await;
    let good = json!({ "name": "S1", "project_id": "p" });
    let id = made(&app, &ann, &path("sprints"), &good).await;
    let before = list(&app, &ann, "sprints", "").await;
    let no_row = format!("{}{}/", path("sprints"), fresh_row());
    for request in [
        put(&no_row, &json!({ "goal": "g" })),
        delete(&no_row),
        delete(&format!("{}none/", path("sprints"))),
        // A row of another table is none of this one's.
        delete(&format!("{}{id}/", path("tracks"))),
    ] {
        let reply = send(&app, &ann, request).await;
        reply.problem(ErrorCode::NotFound);
    }
    let platform = format!("{}?scope=platform", path("metrics"));
    let reply = app
        .post_as(&ann, &platform, &json!({ "metric_name": "m" }))
        .await;
    reply.problem(ErrorCode::DirectionRefused);
    assert_eq!(list(&app, &ann, "sprints", "").await, before);
    for kind in ["tracks", "metrics"] {
        assert_eq!(list(&app, &ann, kind, "").await, [] as [Value; 0], "{kind}");
    }
}

#[tokio::test]
async fn records_of_others_do_not_exist() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let colleague = app.db.with_user(&acme, "cat@acme.example").await;
    let beta = app.db.with_tenant("beta").await;
    let eve = app.db.with_user(&beta, "eve@beta.example").await;
    let scope = own_scope(&ann);
    for (kind, _, body) in kinds() {
        let all = path(kind);
        let id = made(&app, &ann, &all, &body).await;
        let before = list(&app, &ann, kind, "").await;
        for other in [&colleague, &eve] {
            // In the own scope there is nothing of it, in the other's everything is unknown.
            assert_eq!(list(&app, other, kind, "").await, [] as [Value; 0]);
            for query in [String::new(), format!("?scope={scope}")] {
                let one = format!("{all}{id}/{query}");
                let mut requests = vec![get(&one), delete(&one)];
                if matches!(kind, "sprints" | "tracks") {
                    requests.push(put(&one, &json!({ "status": "taken" })));
                }
                if !query.is_empty() {
                    requests.push(get(&format!("{all}{query}")));
                    requests.push(post(&format!("{all}{query}"), &body));
                }
                for request in requests {
                    let place = format!("{} {}", request.method(), request.uri());
                    let reply = send(&app, other, request).await;
                    assert_eq!(reply.status, 404, "{place}: {}", reply.text());
                    reply.problem(ErrorCode::NotFound);
                }
            }
        }
        assert_eq!(list(&app, &ann, kind, "").await, before, "{kind}");
    }
}

/// Makes a project and a team of Ann's with a member for each role, and returns their scopes.
async fn shared(app: &TestApp, ann: &TestUser, people: &[(&TestUser, &str)]) -> [Scope; 2] {
    let folder = "/api/v1/projects/";
    let reply = app.post_as(ann, folder, &json!({ "name": "app" })).await;
    let project: Project = serde_json::from_slice(&reply.body).unwrap();
    for (person, role) in people {
        let member = format!("{folder}{}/members/{}/", project.id, person.user_id);
        let reply = send(app, ann, put(&member, &json!({ "role": role }))).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }
    let reply = app
        .post_as(ann, "/api/v1/teams/", &json!({ "name": "core" }))
        .await;
    let team: Team = serde_json::from_slice(&reply.body).unwrap();
    [Scope::Project(project.id), Scope::Team(team.id)]
}

#[tokio::test]
async fn roles_of_a_project_decide_who_reads_writes_and_deletes() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let owner = coditect_server_store::identity::Role::Owner;
    let ann = app.db.with_role(&acme, "ann@acme.example", owner).await;
    let viewer = app.db.with_user(&acme, "vic@acme.example").await;
    let member = app.db.with_user(&acme, "mia@acme.example").await;
    let admin = app.db.with_user(&acme, "ada@acme.example").await;
    let stranger = app.db.with_user(&acme, "sam@acme.example").await;
    let people = [(&viewer, "viewer"), (&member, "member"), (&admin, "admin")];
    let [project, team] = shared(&app, &ann, &people).await;
    for (kind, _, body) in kinds() {
        let all = format!("{}?scope={project}", path(kind));
        let one = |id: &str| format!("{}{id}/?scope={project}", path(kind));
        let first = made(&app, &member, &all, &body).await;
        for reader in [&viewer, &member, &admin, &ann] {
            let page: Value = app.get_as(reader, &all).await.ok();
            assert_eq!(page[kind].as_array().unwrap().len(), 1, "{kind}");
            let shown: Value = app.get_as(reader, &one(&first)).await.ok();
            assert_eq!(shown["user_id"], json!(member.user_id), "{kind}");
        }
        let mut writes = vec![post(&all, &body), delete(&one(&first))];
        let mut by_stranger = vec![get(&all), get(&one(&first))];
        by_stranger.extend([post(&all, &body), delete(&one(&first))]);
        if matches!(kind, "sprints" | "tracks") {
            writes.push(put(&one(&first), &json!({ "status": "taken" })));
            let reply = send(
                &app,
                &admin,
                put(&one(&first), &json!({ "status": "active" })),
            )
            .await;
            assert_eq!(reply.status, 200, "{kind}: {}", reply.text());
        }
        for write in writes {
            let reply = send(&app, &viewer, write).await;
            reply.problem(ErrorCode::PermissionDenied);
        }
        for request in by_stranger {
            let reply = send(&app, &stranger, request).await;
            reply.problem(ErrorCode::NotFound);
        }
        // The author deletes; checkpoints only with the role of an admin.
        let reply = send(&app, &member, delete(&one(&first))).await;
        if kind == "checkpoints" {
            reply.problem(ErrorCode::PermissionDenied);
            let own = made(&app, &admin, &all, &body).await;
            let reply = send(&app, &admin, delete(&one(&own))).await;
            assert_eq!(reply.status, 204, "{}", reply.text());
            assert_eq!(app.get_as(&viewer, &one(&first)).await.status, 200);
        } else {
            assert_eq!(reply.status, 204, "{kind}: {}", reply.text());
        }
    }
    // The same in a team and in the organisation.
    let body = json!({ "name": "S1", "project_id": "p" });
    let organization = Scope::Org(acme.id.get());
    for (scope, strangers) in [(team, 404), (organization, 200)] {
        let all = format!("{}?scope={scope}", path("sprints"));
        made(&app, &ann, &all, &body).await;
        assert_eq!(app.get_as(&stranger, &all).await.status, strangers);
        let page: Value = app.get_as(&ann, &all).await.ok();
        assert_eq!(page["sprints"][0]["scope"], json!(scope));
    }
}

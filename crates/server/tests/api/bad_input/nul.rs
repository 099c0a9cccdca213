//! U+0000, which JSON and URLs can hold and PostgreSQL's text cannot.

use coditect_protocol::ErrorCode;
use serde_json::{Value, json};

use super::{everything, send, start, stored};
use crate::support::fresh_uuid;

#[tokio::test]
async fn an_address_with_it_is_an_unknown_one() {
    let (app, ann) = start().await;
    let before = stored(&app).await;
    for email in ["\0", "ann@acme.example\0", "\0ann@acme.example"] {
        let login = json!({ "email": email, "password": "x" });
        let reply = send(&app, &ann, "/api/v1/auth/login/", &login.to_string()).await;
        reply.problem(ErrorCode::Unauthenticated);
    }
    assert_eq!(stored(&app).await, before);
}

#[tokio::test]
async fn texts_of_bodies_with_it_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let project = format!("/api/v1/projects/{}/repositories/", fresh_uuid());
    let device = |device: Value| json!({ "license_key": ann.license_key, "device": device });
    let bodies = [
        ("/api/v1/auth/license/", device(json!({ "name": "a\0" }))),
        (
            "/api/v1/auth/license/",
            device(json!({ "hardware_id": "a\0" })),
        ),
        ("/api/v1/auth/refresh/", json!({ "refresh_token": "a\0" })),
        ("/api/v1/teams/", json!({ "name": "a\0" })),
        ("/api/v1/projects/", json!({ "name": "a\0" })),
        (&project, json!({ "remote_url": "a\0" })),
        (&project, json!({ "root_commit": "a\0" })),
        (
            "/api/v1/organization/invitations/",
            json!({ "email": "a\0@b.example", "role": "member" }),
        ),
        (
            "/api/v1/invitations/accept/",
            json!({ "token": "a\0", "password": "a\0" }),
        ),
    ];
    for (path, body) in bodies {
        let reply = send(&app, &ann, path, &body.to_string()).await;
        assert!(
            (400..500).contains(&reply.status),
            "{path} {body}: {}",
            reply.text()
        );
    }
    assert_eq!(everything(&app).await, before);
}

/// Every parameter of every query in the served document.
#[tokio::test]
async fn queries_with_it_are_no_fault() {
    let (app, ann) = start().await;
    let document: Value = app.get("/api/v1/openapi.json").await.ok();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", &ann.user_id.to_string());
        let parameters = operations["get"]["parameters"].as_array();
        let in_query = |parameter: &&Value| parameter["in"] == "query" && !path.contains('{');
        for parameter in parameters.into_iter().flatten().filter(in_query) {
            let query = format!("{path}?{}=a%00", parameter["name"].as_str().unwrap());
            let reply = app.get_as(&ann, &query).await;
            assert!(reply.status < 500, "{query}: {}", reply.text());
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
}

//! The form of every refusal, and that nothing is told that should not be.

use axum::body::Body;
use axum::http::{Method, Request, header};
use coditect_protocol::ErrorCode;
use coditect_server::{openapi, router};
use serde_json::json;

use crate::support::{PUSH, TestApp, bearer, get, own_scope, post, push_request, raw_post};

const LICENSE: &str = "/api/v1/auth/license/";

#[tokio::test]
async fn unknown_routes_are_problems_with_and_without_credential() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    for path in [
        "/",
        "/api",
        "/api/v1/sync",
        "/api/v1/nothing/x",
        "/health/x",
        "/%2e%2e/etc",
    ] {
        app.get(path).await.problem(ErrorCode::NotFound);
        app.get_as(&ann, path).await.problem(ErrorCode::NotFound);
        app.post(path, &json!({}))
            .await
            .problem(ErrorCode::NotFound);
    }
}

/// The router and the document are made of one list; this looks at them from outside.
#[tokio::test]
async fn documented_routes_exist_with_and_without_slash() {
    let app = TestApp::start().await;
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap();
    // A path may have several methods.
    let operations = paths.values().map(|item| item.as_object().unwrap().len());
    assert_eq!(operations.sum::<usize>(), router::endpoints().len());
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let bare = path.trim_end_matches('/');
            for path in [bare.to_owned(), format!("{bare}/")] {
                let request = Request::builder().method(method.clone()).uri(&path);
                let status = app.send(request.body(Body::empty()).unwrap()).await.status;
                assert!(
                    status != 404 && status != 405,
                    "{method} {path} answered {status}"
                );
            }
        }
        let request = Request::builder()
            .method("PATCH")
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let reply = app.send(request).await;
        reply.problem(ErrorCode::MethodNotAllowed);
        assert!(reply.headers.contains_key(header::ALLOW), "{path}");
    }
}

#[tokio::test]
async fn request_id_comes_back() {
    let app = TestApp::start().await;
    for path in ["/health/live", "/nothing"] {
        let mut request = get(path);
        request
            .headers_mut()
            .insert("x-request-id", "from-client.7".parse().unwrap());
        let reply = app.send(request).await;
        assert_eq!(reply.headers["x-request-id"], "from-client.7");
        let first = app.get(path).await;
        let second = app.get(path).await;
        assert_ne!(
            first.headers["x-request-id"],
            second.headers["x-request-id"]
        );
    }
}

#[tokio::test]
async fn malformed_bodies_are_placed() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let send = async |path: &str, body: &str| {
        let request = raw_post(path, "application/json", body.as_bytes().to_vec());
        let reply = app.send(bearer(request, &ann.access_token)).await;
        reply.problem(ErrorCode::BadRequest).detail.unwrap()
    };
    let detail = send(LICENSE, "{\n  \"license_key\": hunter2 }").await;
    assert!(detail.ends_with("line 2 column 18"), "{detail}");
    let detail = send(LICENSE, "").await;
    assert!(detail.contains("ends too early"), "{detail}");
    let detail = send(LICENSE, "{\"license_key\": 123456}").await;
    assert!(
        detail.contains("line 1 column 22") && !detail.contains("123456"),
        "{detail}"
    );
    let push = push_request(ann.device_id, own_scope(&ann), None, Vec::new());
    let mut push = serde_json::to_value(push).unwrap();
    push["tenant_id"] = json!("sneaky");
    let detail = send(PUSH, &push.to_string()).await;
    assert!(detail.contains("unknown field `tenant_id`"), "{detail}");
    push.as_object_mut().unwrap().remove("tenant_id");
    push["scope"] = json!("everything");
    let detail = send(PUSH, &push.to_string()).await;
    assert!(detail.contains("is no scope"), "{detail}");
}

#[tokio::test]
async fn other_types_and_encodings_are_refused() {
    let app = TestApp::start().await;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let request = raw_post(LICENSE, content_type, b"{}".to_vec());
        app.send(request)
            .await
            .problem(ErrorCode::UnsupportedMediaType);
    }
    let bare = Request::post(LICENSE).body(Body::from("{}")).unwrap();
    app.send(bare)
        .await
        .problem(ErrorCode::UnsupportedMediaType);
    for encoding in ["br", "deflate", "zstd, gzip"] {
        let mut request = post(LICENSE, &json!({}));
        request
            .headers_mut()
            .insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        app.send(request)
            .await
            .problem(ErrorCode::UnsupportedMediaType);
    }
}

#[tokio::test]
async fn fault_of_the_database_stays_inside() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let owner = app.db.owner_client().await;
    owner
        .batch_execute("alter table sync_conflicts rename to gone")
        .await
        .unwrap();
    let reply = app.get_as(&ann, "/api/v1/sync/conflicts").await;
    let problem = reply.problem(ErrorCode::Internal);
    assert_eq!(
        problem.detail.as_deref(),
        Some("a fault of the server; its log has more")
    );
    assert!(!reply.text().contains("sync_conflicts") && !reply.text().contains("42P01"));
}

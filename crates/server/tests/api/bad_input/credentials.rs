//! Credentials of somebody else, and those that have ended.

use chrono::TimeDelta;
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::{ErrorCode, Scope};
use serde_json::json;

use super::{everything, start, stored};
use crate::context::{CONTEXT_PUSH, STATUS};
use crate::support::{
    PULL, PUSH, bearer, decision, delete, fresh_row, own_scope, post, pull_request, push_decision,
    push_request,
};

#[tokio::test]
async fn a_licence_of_another_tenant_opens_that_tenant_only() {
    let (app, ann) = start().await;
    let other = app.db.with_tenant("globex").await;
    let bob = app.db.with_user(&other, "bob@globex.example").await;
    push_decision(&app, &ann, "ann's").await;
    // Bob logs in with his licence, and with Ann's device: he gets another one.
    let login = json!({ "license_key": bob.license_key, "device": { "id": ann.device_id } });
    let login: serde_json::Value = app.post("/api/v1/auth/license/", &login).await.ok();
    assert_eq!(login["tenant_id"], json!(other.id.get()));
    assert_ne!(login["device_id"], json!(ann.device_id));
    let before = stored(&app).await;
    let token = login["access_token"].as_str().unwrap();
    let device: coditect_protocol::DeviceId = login["device_id"].as_str().unwrap().parse().unwrap();
    for scope in [own_scope(&ann), Scope::Org(ann.tenant_id.get())] {
        let push = push_request(device, scope, None, vec![decision(fresh_row(), "x", 0)]);
        let reply = app.send(bearer(post(PUSH, &push), token)).await;
        reply.problem(ErrorCode::NotFound);
        let pull = pull_request(device, scope);
        // Of a stream that one does not see there is no page, as of one that does not exist.
        let reply = app.send(bearer(post(PULL, &pull), token)).await;
        let reply: PullReply = reply.ok();
        assert_eq!(reply.pages, []);
        assert!(!reply.scopes.contains(&scope));
    }
    // Nor does her device work with his token.
    let push = push_request(ann.device_id, own_scope(&bob), None, Vec::new());
    let reply = app.send(bearer(post(PUSH, &push), token)).await;
    reply.problem(ErrorCode::DeviceUnknown);
    assert_eq!(stored(&app).await, before);
}

#[tokio::test]
async fn expired_and_damaged_tokens_are_refused() {
    let (app, ann) = start().await;
    let before = everything(&app).await;
    let push = push_request(ann.device_id, own_scope(&ann), None, Vec::new());
    let (head, signature) = ann.access_token.rsplit_once('.').unwrap();
    let reversed: String = signature.chars().rev().collect();
    for token in [
        "",
        "x",
        "a.b.c",
        head,
        &format!("{head}."),
        &format!("{head}.{reversed}"),
    ] {
        let reply = app.send(bearer(post(PUSH, &push), token)).await;
        reply.problem(ErrorCode::Unauthenticated);
    }
    app.db.clock().advance(TimeDelta::minutes(16));
    let problem = app
        .post_as(&ann, PUSH, &push)
        .await
        .problem(ErrorCode::Unauthenticated);
    assert_eq!(
        problem.detail.as_deref(),
        Some("the access token has expired")
    );
    let message = json!({ "content": "too late" });
    app.post_as(&ann, CONTEXT_PUSH, &message)
        .await
        .problem(ErrorCode::Unauthenticated);
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn a_revoked_device_changes_nothing_more() {
    let (app, ann) = start().await;
    let path = format!("/api/v1/devices/{}/", ann.device_id);
    assert_eq!(
        app.send(bearer(delete(&path), &ann.access_token))
            .await
            .status,
        204
    );
    let before = everything(&app).await;
    let push = push_request(
        ann.device_id,
        own_scope(&ann),
        None,
        vec![decision(fresh_row(), "x", 0)],
    );
    app.post_as(&ann, PUSH, &push)
        .await
        .problem(ErrorCode::DeviceUnknown);
    let message = json!({ "content": "from a stolen laptop" });
    app.post_as(&ann, CONTEXT_PUSH, &message)
        .await
        .problem(ErrorCode::DeviceUnknown);
    app.get_as(&ann, STATUS)
        .await
        .problem(ErrorCode::DeviceUnknown);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let reply = app.post("/api/v1/auth/refresh/", &refresh).await;
    assert!([401, 403].contains(&reply.status), "{}", reply.text());
    assert_eq!(everything(&app).await, before);
}

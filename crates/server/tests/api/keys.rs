//! The keys behind access tokens: published, replaced while servers run.

use axum::body::Body;
use chrono::TimeDelta;
use coditect_protocol::ErrorCode;
use coditect_protocol::wire::auth::LoginReply;
use coditect_server::router;
use coditect_server::state::{AppState, Clock};
use coditect_server_store::credential::Secrets;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{CONFLICTS, Reply, TestApp, bearer, get, http};

const JWKS: &str = "/api/v1/auth/jwks.json";

/// Asks a second server process of the same installation.
async fn ask_other(app: &TestApp, request: axum::http::Request<Body>) -> Reply {
    let clock = app.db.clock().clone();
    let secrets = Secrets::load(&app.db.secrets_folder()).unwrap();
    let clock = Clock::new(move || clock.now());
    let state = AppState::new(app.db.db().clone(), secrets, clock, http());
    Reply::read(router::router(state).oneshot(request).await.unwrap()).await
}

fn ids(keys: &Value) -> Vec<String> {
    let keys = keys["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn replaced_key_is_published_until_its_tokens_have_expired() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let reply = app.get(JWKS).await;
    assert!(
        reply.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("max-age")
    );
    let before: Value = reply.ok();
    assert_eq!(
        before,
        app.get("/.well-known/jwks.json").await.ok::<Value>()
    );
    let (key, kid) = (&before["keys"][0], ids(&before).remove(0));
    assert_eq!((&key["kty"], &key["alg"]), (&json!("OKP"), &json!("EdDSA")));
    assert!(key.get("d").is_none(), "only the public half");
    // Somebody else replaces the key in the folder; this server only has the folder in common.
    let operator = Secrets::load(&app.db.secrets_folder()).unwrap();
    let new = operator.rotate(app.db.clock().now(), false).unwrap();
    let both: Value = app.get(JWKS).await.ok();
    assert_eq!(ids(&both), [new.clone(), kid]);

    let old_token = bearer(get(CONFLICTS), &ann.access_token);
    assert_eq!(app.send(old_token).await.status, 200);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let login: LoginReply = app.post("/api/v1/auth/refresh/", &refresh).await.ok();
    let request = || bearer(get(CONFLICTS), &login.access_token);
    assert_eq!(app.send(request()).await.status, 200);
    assert_eq!(ask_other(&app, request()).await.status, 200);
    app.db.clock().advance(TimeDelta::minutes(17));
    assert_eq!(ids(&app.get(JWKS).await.ok()), [new]);
}

#[tokio::test]
async fn leaked_key_ends_at_once_and_devices_renew_by_themselves() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let operator = Secrets::load(&app.db.secrets_folder()).unwrap();
    operator.rotate(app.db.clock().now(), true).unwrap();
    let request = bearer(get(CONFLICTS), &ann.access_token);
    app.send(request).await.problem(ErrorCode::Unauthenticated);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let login: LoginReply = app.post("/api/v1/auth/refresh/", &refresh).await.ok();
    let request = bearer(get(CONFLICTS), &login.access_token);
    assert_eq!(app.send(request).await.status, 200);
}

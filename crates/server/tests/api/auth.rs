//! Logins: licence, password, refresh, logout.

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use coditect_protocol::wire::auth::{DeviceInfo, LoginReply};
use coditect_protocol::{DeviceId, ErrorCode};
use coditect_server::config::HttpConfig;
use coditect_server::layers::Peer;
use coditect_server::throttle::{ADDRESS_ATTEMPTS, SUBJECT_ATTEMPTS};
use coditect_server_store::admin;
use serde_json::json;

use crate::support::{PULL, TestApp, bearer, fresh_uuid, get, http, own_scope, post, pull_request};

const LICENSE: &str = "/api/v1/auth/license/";
const LOGIN: &str = "/api/v1/auth/login/";
const REFRESH: &str = "/api/v1/auth/refresh/";
const LOGOUT: &str = "/api/v1/auth/logout/";

#[tokio::test]
async fn licence_gives_a_token_that_works() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let device = DeviceId::new(fresh_uuid());
    let body = json!({ "license_key": ann.license_key,
        "device": { "id": device, "name": "laptop" } });
    for path in [LICENSE, "/api/v1/auth/license"] {
        let login: LoginReply = app.post(path, &body).await.ok();
        assert_eq!(
            (login.tenant_id, login.user_id),
            (ann.tenant_id, ann.user_id)
        );
        assert_eq!((login.device_id, login.expires_in), (device, 900));
        let pull = post(PULL, &pull_request(device, own_scope(&ann)));
        assert_eq!(
            app.send(bearer(pull, &login.access_token)).await.status,
            200
        );
    }
}

#[tokio::test]
async fn wrong_keys_are_all_answered_alike() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let (kept, secret) = ann.license_key.split_at(60);
    let wrong_secret = format!("{kept}{}", "B".repeat(secret.len() - 1) + "A");
    let other_tenant = format!("cdl_AAAA{}", &ann.license_key[8..]);
    let mut answers = Vec::new();
    for key in [
        "",
        "nonsense",
        &ann.refresh_token,
        &wrong_secret,
        &other_tenant,
    ] {
        let reply = app.post(LICENSE, &json!({ "license_key": key })).await;
        reply.problem(ErrorCode::Unauthenticated);
        assert!(reply.headers.contains_key("www-authenticate"));
        answers.push(reply.comparable());
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn revoked_licence_and_device_open_nothing() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let (db, now) = (app.db.db(), app.db.clock().now());
    admin::revoke_device(db, tenant.id, ann.device_id, now)
        .await
        .unwrap();
    let body = json!({ "license_key": ann.license_key, "device": { "id": ann.device_id } });
    app.post(LICENSE, &body)
        .await
        .problem(ErrorCode::DeviceUnknown);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    app.post(REFRESH, &refresh)
        .await
        .problem(ErrorCode::DeviceUnknown);
    let pull = pull_request(ann.device_id, own_scope(&ann));
    app.post_as(&ann, PULL, &pull)
        .await
        .problem(ErrorCode::DeviceUnknown);

    let license = admin::list_licenses(db, tenant.id).await.unwrap().remove(0);
    admin::revoke_license(db, tenant.id, license.license_id, now)
        .await
        .unwrap();
    let body = json!({ "license_key": ann.license_key });
    app.post(LICENSE, &body)
        .await
        .problem(ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn password_opens_and_a_wrong_one_tells_nothing() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let password = ann.password.clone().unwrap();
    let body = json!({ "email": " ANN@acme.example", "password": password });
    let login: LoginReply = app.post(LOGIN, &body).await.ok();
    assert_eq!(login.user_id, ann.user_id);
    let wrong = json!({ "email": "ann@acme.example", "password": "wrong" });
    let nobody = json!({ "email": "bob@acme.example", "password": "wrong" });
    let wrong = app.post(LOGIN, &wrong).await;
    wrong.problem(ErrorCode::Unauthenticated);
    assert_eq!(
        wrong.comparable(),
        app.post(LOGIN, &nobody).await.comparable()
    );
}

#[tokio::test]
async fn person_of_two_organisations_names_one() {
    let app = TestApp::start().await;
    let (acme, beta) = (
        app.db.with_tenant("acme").await,
        app.db.with_tenant("beta").await,
    );
    let other = app.db.with_tenant("other").await;
    let ann = app.db.with_user(&acme, "ann@x.example").await;
    let ann_at_beta = app.db.with_user(&beta, "ann@x.example").await;
    assert_eq!(ann_at_beta.password, None, "the password stays");
    let password = ann.password.clone().unwrap();
    let mut body = json!({ "email": "ann@x.example", "password": password });
    let problem = app
        .post(LOGIN, &body)
        .await
        .problem(ErrorCode::TenantAmbiguous);
    let expected = json!([{ "tenant_id": acme.id, "name": "acme" },
        { "tenant_id": beta.id, "name": "beta" }]);
    assert_eq!(problem.extra["tenants"], expected);

    body["tenant_id"] = json!(beta.id);
    let login: LoginReply = app.post(LOGIN, &body).await.ok();
    assert_eq!(
        (login.tenant_id, login.user_id),
        (beta.id, ann_at_beta.user_id)
    );
    body["tenant_id"] = json!(other.id);
    let foreign = app.post(LOGIN, &body).await;
    foreign.problem(ErrorCode::Unauthenticated);
    body["tenant_id"] = json!(fresh_uuid());
    assert_eq!(
        foreign.comparable(),
        app.post(LOGIN, &body).await.comparable()
    );
    // Without the password the organisations are not told.
    let guess = json!({ "email": "ann@x.example", "password": "guess" });
    app.post(LOGIN, &guess)
        .await
        .problem(ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn refresh_rotates_and_a_stolen_token_ends_the_login() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    app.db.clock().advance(TimeDelta::minutes(20));
    let late = app
        .send(bearer(get("/api/v1/sync/conflicts"), &ann.access_token))
        .await;
    let problem = late.problem(ErrorCode::Unauthenticated);
    assert_eq!(
        problem.detail.as_deref(),
        Some("the access token has expired")
    );
    let challenge = late.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");

    let first = json!({ "refresh_token": ann.refresh_token });
    let next: LoginReply = app.post(REFRESH, &first).await.ok();
    assert_ne!(next.refresh_token, ann.refresh_token);
    assert_eq!(next.device_id, ann.device_id);
    let works = app
        .send(bearer(get("/api/v1/sync/conflicts"), &next.access_token))
        .await;
    assert_eq!(works.status, 200);

    app.db.clock().advance(TimeDelta::minutes(5));
    app.post(REFRESH, &first)
        .await
        .problem(ErrorCode::Unauthenticated);
    let next = json!({ "refresh_token": next.refresh_token });
    app.post(REFRESH, &next)
        .await
        .problem(ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn logout_ends_the_login_and_no_other() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let second = app
        .db
        .log_in(&ann.license_key, &DeviceInfo::default())
        .await;
    let body = json!({ "refresh_token": ann.refresh_token });
    for _ in 0..2 {
        let reply = app.post(LOGOUT, &body).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0));
    }
    app.post(REFRESH, &body)
        .await
        .problem(ErrorCode::Unauthenticated);
    let unknown = app
        .post(LOGOUT, &json!({ "refresh_token": "nonsense" }))
        .await;
    assert_eq!(unknown.status, 204);
    let body = json!({ "refresh_token": second.refresh_token });
    assert_eq!(app.post(REFRESH, &body).await.status, 200);
}

#[tokio::test]
async fn member_who_left_is_out_at_once() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let role = coditect_server_store::identity::Role::Member;
    let now = app.db.clock().now();
    admin::set_member(app.db.db(), tenant.id, ann.user_id, role, false, now)
        .await
        .unwrap();
    let reply = app.get_as(&ann, "/api/v1/sync/conflicts").await;
    reply.problem(ErrorCode::Unauthenticated);
    let refresh = json!({ "refresh_token": ann.refresh_token });
    app.post(REFRESH, &refresh)
        .await
        .problem(ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn device_id_of_another_tenant_is_not_taken_over() {
    let app = TestApp::start().await;
    let (acme, beta) = (
        app.db.with_tenant("acme").await,
        app.db.with_tenant("beta").await,
    );
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let bob = app.db.with_user(&beta, "bob@beta.example").await;
    let body = json!({ "license_key": bob.license_key, "device": { "id": ann.device_id } });
    let login: LoginReply = app.post(LICENSE, &body).await.ok();
    assert_ne!(login.device_id, ann.device_id);
}

/// Sends a request as a machine behind a proxy that this server trusts.
fn from(address: &str, mut request: Request<Body>) -> Request<Body> {
    let peer = Peer("10.0.0.1:4000".parse().unwrap());
    request.extensions_mut().insert(peer);
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", address.parse().unwrap());
    headers.insert("x-forwarded-proto", "https".parse().unwrap());
    request
}

#[tokio::test]
async fn guessing_a_password_is_slowed_down_and_right_logins_are_not() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let right = json!({ "email": "ann@acme.example", "password": ann.password });
    for _ in 0..2 * SUBJECT_ATTEMPTS {
        let key = json!({ "license_key": ann.license_key, "device": { "id": ann.device_id } });
        assert_eq!(app.post(LICENSE, &key).await.status, 200);
    }
    // Another spelling is the same person, and an unknown one is slowed down alike.
    for email in [
        "ann@acme.example",
        " ANN@acme.example",
        "nobody@acme.example",
    ] {
        let wrong = json!({ "email": email, "password": "wrong" });
        for _ in 0..SUBJECT_ATTEMPTS / 2 {
            app.post(LOGIN, &wrong)
                .await
                .problem(ErrorCode::Unauthenticated);
        }
    }
    let refused = app.post(LOGIN, &right).await;
    let problem = refused.problem(ErrorCode::RateLimited);
    assert_eq!(problem.retry_after, Some(60));
    assert_eq!(refused.headers["retry-after"], "60");
    app.db.clock().advance(TimeDelta::seconds(60));
    assert_eq!(app.post(LOGIN, &right).await.status, 200);

    let forged = ann.license_key.split_at(60).0.to_owned() + &"A".repeat(30);
    let forged = json!({ "license_key": forged });
    for _ in 0..SUBJECT_ATTEMPTS {
        app.post(LICENSE, &forged)
            .await
            .problem(ErrorCode::Unauthenticated);
    }
    app.post(LICENSE, &forged)
        .await
        .problem(ErrorCode::RateLimited);
}

#[tokio::test]
async fn address_that_guesses_for_many_people_is_slowed_down() {
    let app = TestApp::start_with(HttpConfig {
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..http()
    })
    .await;
    let attempt = |address: &str, number: u32| {
        let body = json!({ "license_key": format!("cdl_{number}") });
        from(address, post(LICENSE, &body))
    };
    for number in 0..ADDRESS_ATTEMPTS {
        let reply = app.send(attempt("8.8.8.8", number)).await;
        reply.problem(ErrorCode::Unauthenticated);
    }
    let last = ADDRESS_ATTEMPTS;
    let refused = app.send(attempt("8.8.8.8", last)).await;
    refused.problem(ErrorCode::RateLimited);
    let other = app.send(attempt("9.9.9.9", last)).await;
    other.problem(ErrorCode::Unauthenticated);
}

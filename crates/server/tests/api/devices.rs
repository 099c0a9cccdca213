//! Devices: seen, locked out, and out at once.

use coditect_protocol::wire::auth::DeviceInfo;
use coditect_protocol::wire::devices::{Device, DeviceList};
use coditect_protocol::{DeviceId, ErrorCode};
use coditect_server::openapi;
use coditect_server_store::identity::Role;
use coditect_testkit::TestUser;
use serde_json::json;

use crate::support::{
    CONFLICTS, PULL, PUSH, TestApp, bearer, decision, delete, fresh_row, fresh_uuid, get,
    own_scope, post, pull_request, push_request,
};

const DEVICES: &str = "/api/v1/devices/";

fn path(device: DeviceId) -> String {
    format!("{DEVICES}{device}/")
}

async fn list(app: &TestApp, user: &TestUser) -> Vec<Device> {
    app.get_as(user, DEVICES).await.ok::<DeviceList>().devices
}

async fn revoke(app: &TestApp, user: &TestUser, device: DeviceId) -> u16 {
    let request = bearer(delete(&path(device)), &user.access_token);
    app.send(request).await.status
}

#[tokio::test]
async fn person_sees_own_devices_and_managers_all_of_the_organisation() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let beta = app.db.with_tenant("beta").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let cat = app.db.with_user(&acme, "cat@acme.example").await;
    let boss = app
        .db
        .with_role(&acme, "boss@acme.example", Role::Admin)
        .await;
    let eve = app
        .db
        .with_role(&beta, "eve@beta.example", Role::Owner)
        .await;
    let info = DeviceInfo {
        name: Some("laptop".to_owned()),
        ..DeviceInfo::default()
    };
    let laptop = app.db.log_in(&ann.license_key, &info).await;
    let laptop = laptop.caller.device_id();
    let own = list(&app, &ann).await;
    let mut ids: Vec<(DeviceId, bool)> = own.iter().map(|one| (one.id, one.current)).collect();
    let mut expected = vec![(ann.device_id, true), (laptop, false)];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    let named = own.iter().find(|one| one.id == laptop).unwrap();
    assert_eq!(named.name.as_deref(), Some("laptop"));
    assert_eq!(named.created_at, "2026-01-01T00:00:00.000000Z");
    assert_eq!(list(&app, &boss).await.len(), 4);
    let ids: Vec<DeviceId> = list(&app, &eve).await.iter().map(|one| one.id).collect();
    assert_eq!(ids, [eve.device_id]);

    // A colleague may not, the other organisation's owner may not, and a manager may.
    for (user, status) in [(&cat, 404), (&eve, 404), (&boss, 204), (&boss, 204)] {
        assert_eq!(
            revoke(&app, user, laptop).await,
            status,
            "by {}",
            user.email
        );
    }
    for device in [DeviceId::new(fresh_uuid()), eve.device_id] {
        assert_eq!(revoke(&app, &boss, device).await, 404);
    }
    let request = bearer(delete("/api/v1/devices/nonsense/"), &boss.access_token);
    app.send(request).await.problem(ErrorCode::NotFound);
    let listed = list(&app, &ann).await;
    let locked: Vec<DeviceId> = listed
        .iter()
        .filter(|one| one.revoked_at.is_some())
        .map(|one| one.id)
        .collect();
    assert_eq!(locked, [laptop]);
}

/// The access token of the lost laptop is valid for minutes, and good for nothing.
#[tokio::test]
async fn revoked_device_gets_nothing_more_at_once() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    let lost = app
        .db
        .log_in(&ann.license_key, &DeviceInfo::default())
        .await;
    let device = lost.caller.device_id();
    let works = app.send(bearer(get(CONFLICTS), &lost.access_token)).await;
    assert_eq!(works.status, 200);
    assert_eq!(revoke(&app, &ann, device).await, 204);

    let change = decision(fresh_row(), "too late", 0);
    // Naming another device of the same person does not help.
    for named in [device, ann.device_id] {
        let push = push_request(named, own_scope(&ann), None, vec![change.clone()]);
        for request in [
            post(PUSH, &push),
            post(PULL, &pull_request(named, own_scope(&ann))),
        ] {
            let reply = app.send(bearer(request, &lost.access_token)).await;
            reply.problem(ErrorCode::DeviceUnknown);
        }
    }
    let document = openapi::document();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let needs_bearer = item["get"]["security"] == json!([{ "bearer": [] }]);
        let path = match path.as_str() {
            "/api/v1/sync/history" => format!("{path}?table=org_decisions&id={}", fresh_row()),
            // Without an upgrade it gets no further.
            "/api/v1/sync/hints" => continue,
            path => path.to_owned(),
        };
        if needs_bearer && !path.contains('{') {
            let reply = app.send(bearer(get(&path), &lost.access_token)).await;
            reply.problem(ErrorCode::DeviceUnknown);
            asked += 1;
        }
    }
    assert!(asked >= 2);
    let refresh = json!({ "refresh_token": lost.refresh_token });
    let refused = app.post("/api/v1/auth/refresh/", &refresh).await;
    refused.problem(ErrorCode::DeviceUnknown);
    let key = json!({ "license_key": ann.license_key, "device": { "id": device } });
    let refused = app.post("/api/v1/auth/license/", &key).await;
    refused.problem(ErrorCode::DeviceUnknown);
    // The other device goes on, and finds nothing of what was refused.
    let pull = pull_request(ann.device_id, own_scope(&ann));
    let pulled = app.post_as(&ann, PULL, &pull).await;
    assert!(pulled.status == 200 && !pulled.text().contains("too late"));
}

#[tokio::test]
async fn refresh_is_a_sign_of_life() {
    let app = TestApp::start().await;
    let acme = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&acme, "ann@acme.example").await;
    app.db.clock().advance(chrono::TimeDelta::minutes(5));
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let reply = app.post("/api/v1/auth/refresh/", &refresh).await;
    assert_eq!(reply.status, 200);
    let own = list(&app, &ann).await.remove(0);
    assert_eq!(own.last_seen_at, "2026-01-01T00:05:00.000000Z");
}

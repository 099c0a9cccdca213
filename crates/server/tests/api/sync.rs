//! Push and pull through HTTP: wiring, encodings, epochs, fences.

mod long_values;

use axum::body::Body;
use axum::http::{Request, header};
use coditect_protocol::catalogue::File;
use coditect_protocol::wire::DEVICE_TIME_HEADER;
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::wire::push::{PushReply, Status};
use coditect_protocol::{ErrorCode, Scope, Version, limits};
use coditect_server_store::identity::Role;
use serde_json::{Value, json};

use crate::support::{
    CONFLICTS, NOW_MS, PULL, PUSH, TestApp, bearer, decision, fresh_row, own_scope, post,
    pull_request, push_decision, push_request,
};

#[tokio::test]
async fn pushed_row_is_pulled_by_the_other_device() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let reply = push_decision(&app, &ann, "use Rust").await;
    assert_eq!(reply.outcomes[0].status, Status::Applied);
    assert!(!reply.token.is_empty());
    let other = app.db.log_in(&ann.license_key, &Default::default()).await;
    let pull = post(
        PULL,
        &pull_request(other.caller.device_id(), own_scope(&ann)),
    );
    let pulled: PullReply = app.send(bearer(pull, &other.access_token)).await.ok();
    let stored = &pulled.pages[0].changes[0];
    assert_eq!(stored.row.as_ref().unwrap()["title"], "use Rust");
    assert_eq!(stored.origin, ann.device_id);
    assert!(pulled.scopes.contains(&Scope::Org(tenant.id.get())));
}

#[tokio::test]
async fn packed_bodies_go_both_ways() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let long = "a long decision ".repeat(500);
    let change = decision(fresh_row(), &long, 0);
    let body = push_request(ann.device_id, own_scope(&ann), None, vec![change]);
    let packed = zstd::encode_all(&serde_json::to_vec(&body).unwrap()[..], 3).unwrap();
    assert!(packed.len() < long.len() / 4);
    let request = Request::post(PUSH)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::CONTENT_ENCODING, "zstd")
        .body(Body::from(packed))
        .unwrap();
    let pushed: PushReply = app.send(bearer(request, &ann.access_token)).await.ok();
    assert_eq!(pushed.outcomes[0].status, Status::Applied);

    let pull = || post(PULL, &pull_request(ann.device_id, own_scope(&ann)));
    let plain = app.send(bearer(pull(), &ann.access_token)).await;
    for encoding in ["zstd", "gzip"] {
        let mut request = bearer(pull(), &ann.access_token);
        request
            .headers_mut()
            .insert(header::ACCEPT_ENCODING, encoding.parse().unwrap());
        let reply = app.send(request).await;
        assert_eq!(reply.headers[header::CONTENT_ENCODING], encoding);
        assert!(reply.body.len() < plain.body.len() / 4);
        let unpacked = match encoding {
            "zstd" => zstd::decode_all(&reply.body[..]).unwrap(),
            _ => {
                let mut text = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&reply.body[..]);
                std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
                text
            }
        };
        assert_eq!(unpacked, plain.body);
    }
}

#[tokio::test]
async fn file_that_went_on_elsewhere_is_fenced_and_goes_on_as_a_new_device() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let scope = own_scope(&ann);
    let first = push_decision(&app, &ann, "one").await.token;
    let next = |title: &str, token: &str| {
        push_request(
            ann.device_id,
            scope,
            Some(token),
            vec![decision(fresh_row(), title, 1)],
        )
    };
    let second: PushReply = app.post_as(&ann, PUSH, &next("two", &first)).await.ok();
    let _: PushReply = app
        .post_as(&ann, PUSH, &next("three", &second.token))
        .await
        .ok();
    // The copy still holds the first token.
    let reply = app.post_as(&ann, PUSH, &next("copy", &first)).await;
    let problem = reply.problem(ErrorCode::FileFenced);
    let device = serde_json::from_value(problem.extra["device_id"].clone()).unwrap();
    assert_ne!(device, ann.device_id);
    let change = decision(fresh_row(), "copy", 1);
    let request = push_request(device, scope, None, vec![change]);
    let reply: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Applied);
}

#[tokio::test]
async fn database_that_was_set_back_gets_a_new_epoch_once() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let scope = own_scope(&ann);
    let first = push_decision(&app, &ann, "one").await;
    let second = {
        let change = decision(fresh_row(), "two", 1);
        let request = push_request(ann.device_id, scope, Some(&first.token), vec![change]);
        app.post_as(&ann, PUSH, &request).await.ok::<PushReply>()
    };
    // A restore from before both pushes.
    let admin = app.db.superuser_client().await;
    admin
        .batch_execute("delete from device_tokens")
        .await
        .unwrap();
    let ahead = || {
        let change = decision(fresh_row(), "three", 2);
        push_request(ann.device_id, scope, Some(&second.token), vec![change])
    };
    let problem = app
        .post_as(&ann, PUSH, &ahead())
        .await
        .problem(ErrorCode::EpochChanged);
    let epoch = problem.extra["epoch"].clone();
    assert_ne!(epoch, json!(first.epoch));
    let again = app
        .post_as(&ann, PUSH, &ahead())
        .await
        .problem(ErrorCode::EpochChanged);
    assert_eq!(again.extra["epoch"], epoch, "the epoch ends once");

    let mut pull = pull_request(ann.device_id, scope);
    let cursor = first.outcomes[0].stored.as_ref().unwrap().cursor;
    pull.positions[0].cursor = Some(coditect_protocol::Cursor {
        epoch: first.epoch,
        n: cursor,
    });
    let problem = app
        .post_as(&ann, PULL, &pull)
        .await
        .problem(ErrorCode::EpochChanged);
    assert_eq!(problem.extra["epoch"], epoch);
    pull.positions[0].cursor = None;
    assert_eq!(app.post_as(&ann, PULL, &pull).await.status, 200);
}

#[tokio::test]
async fn cursor_in_the_future_is_refused_by_code() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let epoch = push_decision(&app, &ann, "one").await.epoch;
    let mut pull = pull_request(ann.device_id, own_scope(&ann));
    pull.positions[0].cursor = Some(coditect_protocol::Cursor { epoch, n: 1_000 });
    app.post_as(&ann, PULL, &pull)
        .await
        .problem(ErrorCode::InvalidCursor);
}

#[tokio::test]
async fn unserved_versions_and_too_many_changes_are_refused() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    for version in ["2.0", "1.99", ""] {
        let mut push = push_request(ann.device_id, own_scope(&ann), None, Vec::new());
        push.api_version = version.to_owned();
        app.post_as(&ann, PUSH, &push)
            .await
            .problem(ErrorCode::ApiVersion);
        let mut pull = pull_request(ann.device_id, own_scope(&ann));
        pull.api_version = version.to_owned();
        app.post_as(&ann, PULL, &pull)
            .await
            .problem(ErrorCode::ApiVersion);
    }
    let changes = (0..=limits::PUSH_CHANGES_MAX)
        .map(|_| decision(fresh_row(), "x", 0))
        .collect();
    let push = push_request(ann.device_id, own_scope(&ann), None, changes);
    app.post_as(&ann, PUSH, &push)
        .await
        .problem(ErrorCode::BadRequest);
    let mut pull = pull_request(ann.device_id, own_scope(&ann));
    pull.positions = vec![pull.positions[0].clone(); limits::PULL_CURSORS_MAX + 1];
    app.post_as(&ann, PULL, &pull)
        .await
        .problem(ErrorCode::BadRequest);
}

#[tokio::test]
async fn viewer_reads_the_organisation_and_does_not_write_it() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let viewer = app
        .db
        .with_role(&tenant, "vic@acme.example", Role::Viewer)
        .await;
    let org = Scope::Org(tenant.id.get());
    let push = push_request(
        viewer.device_id,
        org,
        None,
        vec![decision(fresh_row(), "x", 0)],
    );
    app.post_as(&viewer, PUSH, &push)
        .await
        .problem(ErrorCode::PermissionDenied);
    let pull = pull_request(viewer.device_id, org);
    assert_eq!(app.post_as(&viewer, PULL, &pull).await.status, 200);
    let mut push = push_request(viewer.device_id, Scope::Platform, None, Vec::new());
    push.file = File::Platform;
    app.post_as(&viewer, PUSH, &push)
        .await
        .problem(ErrorCode::DirectionRefused);
}

#[tokio::test]
async fn bad_row_fails_alone() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let mut wrong_hash = decision(fresh_row(), "bad", 0);
    wrong_hash.hash = "0".repeat(64);
    let changes = vec![decision(fresh_row(), "good", 0), wrong_hash];
    let push = push_request(ann.device_id, own_scope(&ann), None, changes);
    let reply: PushReply = app.post_as(&ann, PUSH, &push).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Applied);
    assert_eq!(reply.outcomes[1].status, Status::Rejected);
    assert_eq!(reply.outcomes[1].code, Some(ErrorCode::HashMismatch));
}

#[tokio::test]
async fn lost_conflict_is_listed_with_what_lost() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let other = app.db.log_in(&ann.license_key, &Default::default()).await;
    let row = fresh_row();
    let push = |device, title, later| {
        push_request(
            device,
            own_scope(&ann),
            None,
            vec![decision(row, title, later)],
        )
    };
    let _: PushReply = app
        .post_as(&ann, PUSH, &push(ann.device_id, "early", 0))
        .await
        .ok();
    let late = post(PUSH, &push(other.caller.device_id(), "late", 1));
    let reply: PushReply = app.send(bearer(late, &other.access_token)).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Conflict);
    for path in [CONFLICTS, "/api/v1/sync/conflicts/?limit=5"] {
        let found: Value = app.get_as(&ann, path).await.ok();
        assert_eq!(found["conflicts"][0]["row"]["title"], "early");
        assert_eq!(found["conflicts"][0]["row_id"], json!(row));
    }
    let none: Value = app
        .get_as(&ann, "/api/v1/sync/conflicts?limit=0")
        .await
        .ok();
    assert_eq!(none["conflicts"], json!([]));
    for query in ["scope=nonsense", "limit=-1", "limi=1"] {
        let reply = app.get_as(&ann, &format!("{CONFLICTS}?{query}")).await;
        reply.problem(ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn batch_that_is_sent_again_later_does_not_look_like_a_slow_clock() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let hour = 3_600_000;
    // Edited and made into a batch an hour ago; the reply was lost, and now it is sent again.
    let mut change = decision(fresh_row(), "an hour old", 0);
    change.proposed = Version::from_parts((NOW_MS - hour) as u64, 0);
    let mut request = push_request(ann.device_id, own_scope(&ann), None, vec![change]);
    request.sent_at_ms = NOW_MS - hour;
    let mut sent = bearer(post(PUSH, &request), &ann.access_token);
    let time = NOW_MS.to_string().parse().unwrap();
    sent.headers_mut().insert(DEVICE_TIME_HEADER, time);
    let reply: PushReply = app.send(sent).await.ok();
    let version = reply.outcomes[0].stored.as_ref().unwrap().version;
    assert_eq!(version.unix_ms(), (NOW_MS - hour) as u64);
}

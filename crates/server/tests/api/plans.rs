//! Limits of a plan: requests in a minute, over several servers, and storage.

use chrono::TimeDelta;
use coditect_protocol::wire::Op;
use coditect_protocol::wire::push::{Change, PushReply};
use coditect_protocol::{ErrorCode, RowId};
use coditect_server::limits::Limits;
use coditect_server::router;
use coditect_server_store::plans;
use coditect_testkit::{TestTenant, TestUser};
use serde_json::json;

use crate::context::{CONTEXT_PUSH, STATUS};
use crate::support::{PUSH, Reply, TestApp, decision, fresh_row, own_scope, push_request};

/// Requests in a minute of the plan that these tests make.
const REQUESTS: usize = 40;

async fn start() -> (TestApp, TestTenant, TestUser) {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    (app, tenant, ann)
}

/// Gives the organisation a plan with these limits, as SQL writes them.
async fn set_plan(app: &TestApp, tenant: &TestTenant, name: &str, limits: &str) {
    let client = app.db.system_client().await;
    client
        .batch_execute(&format!("insert into plans values ('{name}', {limits})"))
        .await
        .unwrap();
    plans::change(app.db.db(), tenant.id, name).await.unwrap();
    // What servers remember of the plan before.
    app.db.clock().advance(TimeDelta::seconds(31));
}

/// Starts another server on the same database.
fn another_server(app: &TestApp) -> axum::Router {
    let mut state = app.state.clone();
    state.limits = Limits::default();
    router::router(state)
}

fn header(reply: &Reply, name: &str) -> i64 {
    reply.headers[name].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_self_hosted_server_has_no_limit() {
    let (app, _, ann) = start().await;
    for _ in 0..2 * REQUESTS {
        let reply = app.get_as(&ann, STATUS).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("ratelimit-limit"));
    }
}

#[tokio::test]
async fn requests_of_a_minute_run_out_and_come_back() {
    let (app, tenant, ann) = start().await;
    let bob = app.db.with_user(&tenant, "bob@acme.example").await;
    set_plan(&app, &tenant, "tiny", "40, null, null").await;
    let mut remaining = Vec::new();
    for _ in 0..REQUESTS {
        let reply = app.get_as(&ann, STATUS).await;
        assert_eq!(reply.status, 200);
        assert_eq!(header(&reply, "ratelimit-limit"), 40);
        remaining.push(header(&reply, "ratelimit-remaining"));
    }
    assert_eq!(remaining, (0..40).rev().collect::<Vec<i64>>());
    let refused = app.get_as(&ann, STATUS).await;
    let problem = refused.problem(ErrorCode::RateLimited);
    let seconds = header(&refused, "retry-after");
    assert_eq!(problem.retry_after, Some(seconds.cast_unsigned()));
    assert_eq!(header(&refused, "ratelimit-remaining"), 0);
    assert!((1..=60).contains(&seconds));
    // A colleague has a minute of their own.
    assert_eq!(app.get_as(&bob, STATUS).await.status, 200);
    app.db.clock().advance(TimeDelta::seconds(seconds));
    assert_eq!(app.get_as(&ann, STATUS).await.status, 200);
}

#[tokio::test]
async fn several_servers_share_a_minute() {
    let (mut app, tenant, ann) = start().await;
    set_plan(&app, &tenant, "tiny", "40, null, null").await;
    let servers = [
        app.router.clone(),
        another_server(&app),
        another_server(&app),
    ];
    let mut served = 0;
    for round in 0..REQUESTS {
        app.router = servers[round % 3].clone();
        for _ in 0..2 {
            let reply = app.get_as(&ann, STATUS).await;
            match reply.status {
                200 => served += 1,
                _ => drop(reply.problem(ErrorCode::RateLimited)),
            }
        }
    }
    assert!(served <= REQUESTS, "{served}");
    // What a server took and did not hand out: less than its share of a twentieth.
    assert!(served >= REQUESTS - 3, "{served}");
}

#[tokio::test]
async fn a_full_plan_takes_deletes_only_until_there_is_room() {
    let (app, tenant, ann) = start().await;
    set_plan(&app, &tenant, "two", "null, null, 2").await;
    let rows: Vec<RowId> = (0..3).map(|_| fresh_row()).collect();
    let mut token: Option<String> = None;
    let push = async |changes: Vec<Change>, token: &mut Option<String>| {
        // What servers remember of the usage.
        app.db.clock().advance(TimeDelta::seconds(11));
        let request = push_request(ann.device_id, own_scope(&ann), token.as_deref(), changes);
        let reply = app.post_as(&ann, PUSH, &request).await;
        if reply.status == 200 {
            *token = Some(reply.ok::<PushReply>().token);
        }
        reply
    };
    let new = |id: RowId| vec![decision(id, "row", 0)];
    let mut versions = Vec::new();
    for id in &rows[..2] {
        let reply: PushReply = push(new(*id), &mut token).await.ok();
        versions.push(reply.outcomes[0].stored.as_ref().unwrap().version);
    }
    let refused = push(new(rows[2]), &mut token).await;
    let problem = refused.problem(ErrorCode::QuotaExceeded);
    assert!(problem.detail.unwrap().contains("plan two"));
    let message = json!({ "type": "note", "content": "one more" });
    let refused = app.post_as(&ann, CONTEXT_PUSH, &message).await;
    refused.problem(ErrorCode::QuotaExceeded);
    let metric = json!({ "metric_name": "coverage" });
    let refused = app.post_as(&ann, "/api/v1/context/metrics/", &metric).await;
    refused.problem(ErrorCode::QuotaExceeded);

    let gone = Change {
        op: Op::Delete,
        row: None,
        base: Some(versions[0]),
        ..decision(rows[0], "", 5)
    };
    assert_eq!(push(vec![gone], &mut token).await.status, 200);
    assert_eq!(push(new(rows[2]), &mut token).await.status, 200);

    plans::change(app.db.db(), tenant.id, "self_hosted")
        .await
        .unwrap();
    app.db.clock().advance(TimeDelta::seconds(31));
    assert_eq!(push(new(fresh_row()), &mut token).await.status, 200);
}

//! The job that reads every stored row: finds a flipped byte, and names the row to the device that
//! holds it, until that has sent it.

use chrono::TimeDelta;
use coditect_protocol::wire::descent::NamedRows;
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::wire::push::{PushReply, Status};
use coditect_server::jobs;
use coditect_server_store::sync::scrub;
use coditect_testkit::TestUser;

use crate::support::{
    PULL, PUSH, TestApp, decision, fresh_row, own_scope, pull_request, push_request,
};

async fn damaged(app: &TestApp, user: &TestUser) -> Vec<NamedRows> {
    let request = pull_request(user.device_id, own_scope(user));
    let reply: PullReply = app.post_as(user, PULL, &request).await.ok();
    let pages = reply.pages.into_iter();
    pages
        .filter_map(|page| Some(page.descent?.damaged))
        .flatten()
        .collect()
}

#[tokio::test]
async fn a_damaged_row_is_found_named_and_sent_again() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let other = app.db.with_tenant("other").await;
    let eve = app.db.with_user(&other, "eve@other.example").await;
    let (device, scope, id) = (ann.device_id, own_scope(&ann), fresh_row());
    let change = decision(id, "right", 0);
    let request = push_request(device, scope, None, vec![change.clone()]);
    let pushed: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    let superuser = app.db.superuser_client().await;
    let flip = "update org_decisions set title = 'rihgt'";
    superuser.batch_execute(flip).await.unwrap();
    assert_eq!(damaged(&app, &ann).await, []);
    // Both tenants have their turn, and not another one before the pause is over.
    assert_eq!(jobs::scrub::run_pending(&app.state).await.unwrap(), 1);
    assert_eq!(jobs::scrub::run_pending(&app.state).await.unwrap(), 0);
    let named = damaged(&app, &ann).await;
    assert_eq!((named.len(), &named[0].ids), (1, &vec![id]));
    assert_eq!(damaged(&app, &eve).await, []);
    let mut again = change;
    again.base = pushed.outcomes[0].stored.as_ref().map(|it| it.version);
    let request = push_request(device, scope, Some(&pushed.token), vec![again]);
    let reply: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
    assert_eq!(reply.outcomes[0].status, Status::Merged, "{reply:?}");
    assert_eq!(damaged(&app, &ann).await, []);
    let open = scrub::findings(&app.state.db, None, false).await.unwrap();
    assert_eq!(open.len(), 1);
    let tenant = ann.caller.tenant().organization();
    let whole = jobs::scrub::run_now(&app.state.db, &app.state.clock, tenant);
    let whole = whole.await.unwrap().unwrap();
    assert_eq!((whole.rows, whole.found, whole.mended), (1, 0, 1));
    let open = scrub::findings(&app.state.db, None, false).await.unwrap();
    assert_eq!(open, []);
    let progress = scrub::progress(&app.state.db, Some(tenant)).await.unwrap();
    let rest = progress[0].next_at - progress[0].last_finished_at.unwrap();
    assert_eq!(rest, TimeDelta::hours(24));
}

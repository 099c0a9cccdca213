//! How far each device has read is shown, and costs an idle pull nothing.

use coditect_protocol::catalogue::File;
use coditect_protocol::wire::context::{ContextStatus, DeviceStatus};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::{Cursor, DeviceId};
use coditect_testkit::TestUser;

use super::{CONTEXT_PULL, STATUS, message, push_all, start};
use crate::support::{
    PULL, PUSH, TestApp, bearer, decision, fresh_row, get, own_scope, pull_request, push_request,
};

async fn status(app: &TestApp, user: &TestUser) -> ContextStatus {
    app.get_as(user, STATUS).await.ok()
}

fn of(status: &ContextStatus, device: DeviceId) -> &DeviceStatus {
    let mut devices = status.devices.iter();
    devices.find(|known| known.device_id == device).unwrap()
}

/// Pushes a decision as a device that has pushed nothing before.
async fn decide(app: &TestApp, user: &TestUser, device: DeviceId) {
    let change = decision(fresh_row(), "t", 0);
    let request = push_request(device, own_scope(user), None, vec![change]);
    assert_eq!(app.post_as(user, PUSH, &request).await.status, 200);
}

/// Pulls a file as a device and returns the position that it was given.
async fn pull(
    app: &TestApp,
    user: &TestUser,
    device: DeviceId,
    from: Option<Cursor>,
    file: File,
) -> Cursor {
    let mut request = pull_request(device, own_scope(user));
    request.positions[0].file = file;
    request.positions[0].cursor = from;
    let reply: PullReply = app.post_as(user, PULL, &request).await.ok();
    reply.pages[0].cursor
}

/// Returns the last transaction that noted a position.
async fn writes(app: &TestApp) -> i64 {
    let sql = "select coalesce(max(xmin::text::bigint), 0) from device_cursors
        where last_pull_at is not null";
    let owner = app.db.superuser_client().await;
    let found = owner.query_typed_one(sql, &[]).await;
    found.unwrap().get(0)
}

#[tokio::test]
async fn devices_are_shown_where_they_are() {
    let (app, ann) = start().await;
    let second = app.db.log_in(&ann.license_key, &Default::default()).await;
    let second = second.caller.device_id();
    let before = status(&app, &ann).await;
    assert_eq!(of(&before, ann.device_id).cursor, None);
    assert_eq!((before.last_pull_at, before.cursor), (None, 0));

    decide(&app, &ann, ann.device_id).await;
    let first_read = pull(&app, &ann, ann.device_id, None, File::Org).await;
    decide(&app, &ann, second).await;
    let second_read = pull(&app, &ann, second, None, File::Org).await;
    let after = status(&app, &ann).await;
    assert_eq!((first_read.n, second_read.n, after.cursor), (1, 2, 2));
    let seen = |device| {
        let device = of(&after, device);
        (device.cursor, device.drift)
    };
    assert_eq!(seen(ann.device_id), (Some(1), Some(1)));
    assert_eq!(seen(second), (Some(2), Some(0)));
    assert!(after.last_pull_at.is_some());

    // Something new in a file that the second device does not read puts it behind.
    push_all(&app, &ann, vec![message("s", "hello")]).await;
    let behind = status(&app, &ann).await;
    assert_eq!(of(&behind, second).cursor, Some(0));
    let read = pull(&app, &ann, second, None, File::Sessions).await;
    let whole = status(&app, &ann).await;
    assert_eq!(of(&whole, second).drift, Some(0), "{read:?}");
}

#[tokio::test]
async fn an_idle_pull_writes_nothing_within_a_minute() {
    let (app, ann) = start().await;
    decide(&app, &ann, ann.device_id).await;
    let at = Some(pull(&app, &ann, ann.device_id, None, File::Org).await);
    let noted = writes(&app).await;
    for _ in 0..5 {
        pull(&app, &ann, ann.device_id, at, File::Org).await;
    }
    assert_eq!(writes(&app).await, noted);
    let last = status(&app, &ann).await.last_pull_at;
    app.db.clock().advance(chrono::TimeDelta::seconds(61));
    pull(&app, &ann, ann.device_id, at, File::Org).await;
    assert_ne!(writes(&app).await, noted);
    assert_ne!(status(&app, &ann).await.last_pull_at, last);
}

#[tokio::test]
async fn reading_messages_through_the_view_counts_for_its_device() {
    let (app, ann) = start().await;
    push_all(&app, &ann, vec![message("s", "a"), message("s", "b")]).await;
    let web = status(&app, &ann).await.device_id;
    assert_eq!(
        app.get_as(&ann, &format!("{CONTEXT_PULL}?limit=1"))
            .await
            .status,
        200
    );
    let status_then = status(&app, &ann).await;
    assert_eq!(of(&status_then, web).drift, Some(1));
    let mut request = bearer(get(CONTEXT_PULL), &ann.access_token);
    let device = ann.device_id.to_string().parse().unwrap();
    request.headers_mut().insert("x-device-id", device);
    assert_eq!(app.send(request).await.status, 200);
    let status_now = status(&app, &ann).await;
    assert_eq!(of(&status_now, ann.device_id).drift, Some(0));
    assert_eq!(of(&status_now, web).drift, Some(1));
}

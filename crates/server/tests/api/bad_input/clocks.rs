//! Clocks that are a day off: no error, because people cannot help it; the server's time counts.

use coditect_protocol::wire::push::{Change, PushReply, Status};
use coditect_protocol::{DeviceId, Version};
use coditect_testkit::TestUser;

use super::start;
use crate::support::{NOW_MS, PUSH, TestApp, decision, fresh_row, own_scope, push_request};

const DAY_MS: i64 = 86_400_000;

async fn push(
    app: &TestApp,
    user: &TestUser,
    device: DeviceId,
    off: i64,
    change: Change,
) -> PushReply {
    let mut request = push_request(device, own_scope(user), None, vec![change]);
    request.sent_at_ms = NOW_MS + off;
    app.post_as(user, PUSH, &request).await.ok()
}

/// An edit that the device's clock, which is `off`, saw at `ms`.
fn edited(mut change: Change, ms: i64, off: i64) -> Change {
    change.proposed = Version::from_parts((ms + off) as u64, 0);
    change
}

#[tokio::test]
async fn stamps_of_a_clock_a_day_off_are_shifted_to_the_servers() {
    let (app, ann) = start().await;
    let true_ms = NOW_MS - 60_000;
    for off in [DAY_MS, -DAY_MS] {
        let device = app.db.log_in(&ann.license_key, &Default::default()).await;
        let device = device.caller.device_id();
        let change = edited(decision(fresh_row(), "t", 0), true_ms, off);
        let reply = push(&app, &ann, device, off, change).await;
        assert_eq!(reply.outcomes[0].status, Status::Applied);
        let version = reply.outcomes[0].stored.as_ref().unwrap().version;
        assert_eq!(version.unix_ms(), true_ms as u64, "{off}");
        assert_eq!(reply.server_time_ms, NOW_MS);
    }
}

#[tokio::test]
async fn stamps_of_the_future_are_capped_at_the_servers_time() {
    let (app, ann) = start().await;
    // The clock was right when the batch was sent, and a day fast when the edit was made.
    let change = edited(decision(fresh_row(), "t", 0), NOW_MS, DAY_MS);
    let reply = push(&app, &ann, ann.device_id, 0, change).await;
    let version = reply.outcomes[0].stored.as_ref().unwrap().version;
    assert!(version.unix_ms() <= NOW_MS as u64, "{version}");
}

#[tokio::test]
async fn clocks_beyond_every_calendar_are_no_fault() {
    let (app, ann) = start().await;
    let in_4893_ms = 92_240_000_000_000;
    for sent_at_ms in [i64::MIN, -1, 0, in_4893_ms, i64::MAX] {
        let device = app.db.log_in(&ann.license_key, &Default::default()).await;
        let change = decision(fresh_row(), "t", 0);
        let device = device.caller.device_id();
        let mut request = push_request(device, own_scope(&ann), None, vec![change]);
        request.sent_at_ms = sent_at_ms;
        let reply: PushReply = app.post_as(&ann, PUSH, &request).await.ok();
        let version = reply.outcomes[0].stored.as_ref().unwrap().version;
        assert!(
            version.unix_ms() <= NOW_MS as u64,
            "{sent_at_ms}: {version}"
        );
        let made = "select min(created_at) >= 'epoch' from org_decisions";
        let all = app.db.superuser_client().await;
        let made: bool = all.query_typed_one(made, &[]).await.unwrap().get(0);
        assert!(made, "{sent_at_ms}: a row from before 1970");
    }
}

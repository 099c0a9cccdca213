//! Positions that were never given out: SYNC_001, on the engine's route and on the views.

use coditect_protocol::{Cursor, Epoch, ErrorCode};

use super::{everything, start};
use crate::context::{CONTEXT_PULL, DECISIONS, LEARNINGS, TASKS};
use crate::support::{PULL, own_scope, pull_request, push_decision};

#[tokio::test]
async fn positions_of_the_future_are_refused() {
    let (app, ann) = start().await;
    let epoch = push_decision(&app, &ann, "one").await.epoch;
    // The view's device is registered on first use.
    assert_eq!(app.get_as(&ann, CONTEXT_PULL).await.status, 200);
    let before = everything(&app).await;
    for n in [2, 1_000, i64::MAX] {
        let mut pull = pull_request(ann.device_id, own_scope(&ann));
        pull.positions[0].cursor = Some(Cursor { epoch, n });
        app.post_as(&ann, PULL, &pull)
            .await
            .problem(ErrorCode::InvalidCursor);
        for view in [CONTEXT_PULL, TASKS, DECISIONS, LEARNINGS] {
            let reply = app.get_as(&ann, &format!("{view}?cursor={n}")).await;
            let problem = reply.problem(ErrorCode::InvalidCursor);
            assert_eq!((problem.status, problem.code.as_str()), (409, "SYNC_001"));
        }
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn positions_of_another_life_of_the_database_are_refused() {
    let (app, ann) = start().await;
    push_decision(&app, &ann, "one").await;
    assert_eq!(app.get_as(&ann, CONTEXT_PULL).await.status, 200);
    let before = everything(&app).await;
    let epoch = Epoch(7);
    let mut pull = pull_request(ann.device_id, own_scope(&ann));
    pull.positions[0].cursor = Some(Cursor { epoch, n: 1 });
    app.post_as(&ann, PULL, &pull)
        .await
        .problem(ErrorCode::EpochChanged);
    let path = format!("{CONTEXT_PULL}?cursor=1&epoch={epoch}");
    app.get_as(&ann, &path)
        .await
        .problem(ErrorCode::InvalidCursor);
    assert_eq!(everything(&app).await, before);
}

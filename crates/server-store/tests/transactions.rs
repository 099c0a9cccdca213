//! How transactions begin, end and repeat.

use coditect_server_store::{Db, StoreError, TenantTx, devices};
use coditect_testkit::{TestDb, TestUser};
use uuid::Uuid;

/// Handlers run on a runtime of several threads, so that work must be able to move.
async fn handler(db: Db, user: TestUser, wanted: Vec<Uuid>) -> Result<usize, StoreError> {
    let wanted = &wanted;
    db.tenant("test", &user.caller, |mut tx| async move {
        let mut found = 0;
        for id in wanted {
            found += usize::from(look(&mut tx, *id).await.is_ok());
        }
        Ok(found)
    })
    .await
}

async fn look(tx: &mut TenantTx, id: Uuid) -> Result<(), StoreError> {
    devices::find(tx, id).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_may_move_between_threads() {
    let test = TestDb::new().await;
    let acme = test.with_tenant("acme").await;
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let ids = vec![ann.device_id.get(), Uuid::nil()];
    let found = tokio::spawn(handler(test.db().clone(), ann, ids))
        .await
        .unwrap();
    assert_eq!(found.unwrap(), 1);
}

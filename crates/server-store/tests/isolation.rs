//! What one tenant or user sees of another: nothing.

use coditect_server_store::{StoreError, admin, devices};
use coditect_testkit::TestDb;

#[tokio::test]
async fn app_role_is_bound_and_owns_nothing() {
    let test = TestDb::new().await;
    let client = test.app_client().await;
    let row = client
        .query_typed_one(
            "select current_user::text, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,
                (select count(*) from pg_class where relowner = r.oid),
                pg_has_role(r.oid, 'coditect_owner', 'member')
                    or pg_has_role(r.oid, 'coditect_system', 'member')
             from pg_roles r where rolname = current_user",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "coditect_app");
    for column in [1, 2, 3, 4, 6] {
        assert!(!row.get::<_, bool>(column), "column {column}");
    }
    assert_eq!(row.get::<_, i64>(5), 0);
}

#[tokio::test]
async fn device_of_other_tenant_is_not_found() {
    let test = TestDb::new().await;
    let (acme, umbrella) = (
        test.with_tenant("acme").await,
        test.with_tenant("umbrella").await,
    );
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let bob = test.with_user(&umbrella, "bob@umbrella.test").await;
    let own = test
        .db()
        .tenant("test", &ann.caller, |mut tx| async move {
            devices::find(&mut tx, ann.device_id.get()).await
        })
        .await;
    assert_eq!(own.unwrap().id, ann.device_id);
    let other = test
        .db()
        .tenant("test", &ann.caller, |mut tx| async move {
            devices::find(&mut tx, bob.device_id.get()).await
        })
        .await;
    assert!(matches!(other, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn member_who_was_locked_out_gets_no_transaction() {
    let test = TestDb::new().await;
    let acme = test.with_tenant("acme").await;
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let (role, now) = (ann.caller.role(), test.clock().now());
    admin::set_member(test.db(), acme.id, ann.user_id, role, false, now)
        .await
        .unwrap();
    let outcome = test
        .db()
        .tenant("test", &ann.caller, |mut tx| async move {
            devices::list(&mut tx).await
        })
        .await;
    assert!(matches!(outcome, Err(StoreError::NotMember)));
}

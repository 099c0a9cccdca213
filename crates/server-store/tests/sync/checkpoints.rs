//! Deleting checkpoints takes a permission of its own.

use coditect_protocol::wire::push::Status;
use coditect_protocol::{ErrorCode, Scope};
use coditect_testkit::TestDb;

use crate::support::{
    EDIT_MS, Peer, assert_digests, count, delete, fresh_uuid, full_row, insert, table,
};

#[tokio::test]
async fn checkpoints_are_deleted_where_the_role_allows_it() {
    let db = TestDb::new().await;
    let tenant = db.with_tenant("acme").await;
    let user = db.with_user(&tenant, "ann@acme.example").await;
    let (managed, joined) = (Scope::Project(fresh_uuid()), Scope::Project(fresh_uuid()));
    let admin = db.superuser_client().await;
    for (scope, role) in [(managed, "admin"), (joined, "member")] {
        let (tenant, scope, user) = (tenant.id, scope.id(), user.user_id);
        let sql = format!(
            "insert into scopes (tenant_id, scope_id, kind, name)
                values ('{tenant}', '{scope}', 'project', 'x');
             insert into scope_members (tenant_id, scope_id, user_id, role)
                values ('{tenant}', '{scope}', '{user}', '{role}')"
        );
        admin.batch_execute(&sql).await.unwrap();
    }
    let mut ann = Peer::new(&db, &user);
    let scopes = [
        (ann.own(), true),
        (ann.org(), false),
        (managed, true),
        (joined, false),
    ];
    for (number, (scope, allowed)) in (1..).zip(scopes) {
        let checkpoint = full_row(table("context_checkpoints"), number);
        let change = insert(table("context_checkpoints"), checkpoint, ann.device);
        let stored = ann.push_one(scope, change).await.stored.unwrap();
        let change = delete(&stored, Some(stored.version), EDIT_MS + 1);
        let outcome = ann.push_one(scope, change).await;
        if allowed {
            assert_eq!(outcome.status, Status::Applied, "{scope}");
        } else {
            assert_eq!(outcome.status, Status::Rejected, "{scope}");
            assert_eq!(outcome.code, Some(ErrorCode::PermissionDenied), "{scope}");
        }
    }
    let live = "context_checkpoints where deleted_at is null";
    assert_eq!(count(&db, live).await, 2);
    assert_digests(&db).await;
}

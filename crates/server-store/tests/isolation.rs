//! What one tenant or user sees of another: nothing.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use coditect_server_store::{StoreError, admin, devices};
use coditect_testkit::{TestDb, TestTenant, TestUser};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

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

/// Returns the SQLSTATE of a failed statement, empty when it succeeded.
async fn sqlstate(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error
            .code()
            .map(|code| code.code().to_owned())
            .unwrap_or_default(),
    }
}

#[tokio::test]
async fn enter_takes_members_only_and_one_tenant_per_transaction() {
    let test = TestDb::new().await;
    let (acme, umbrella) = (
        test.with_tenant("acme").await,
        test.with_tenant("umbrella").await,
    );
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let bob = test.with_user(&umbrella, "bob@umbrella.test").await;
    let client = test.app_client().await;
    let enter = |tenant: &TestTenant, user: &TestUser| {
        format!("select enter('{}', '{}')", tenant.id, user.user_id)
    };
    assert_eq!(sqlstate(&client, &enter(&acme, &ann)).await, "");
    assert_eq!(sqlstate(&client, &enter(&acme, &bob)).await, "CO001");
    assert_eq!(sqlstate(&client, "select enter(null, null)").await, "CO001");
    let both = format!("begin; {}; {}", enter(&acme, &ann), enter(&umbrella, &bob));
    assert_eq!(sqlstate(&client, &both).await, "CO002");
    client.batch_execute("rollback").await.unwrap();
    // Whoever goes on after a refusal sees nothing.
    let caught = format!(
        "begin; savepoint s; {}; rollback to savepoint s; create temp table seen as \
         select count(*) as n from devices; commit",
        enter(&acme, &bob)
    );
    assert_eq!(sqlstate(&client, &caught).await, "CO001");
    client.batch_execute("rollback").await.unwrap();
    test.system_client()
        .await
        .batch_execute("update tenants set suspended_at = now()")
        .await
        .unwrap();
    assert_eq!(sqlstate(&client, &enter(&acme, &ann)).await, "CO001");
}

#[tokio::test]
async fn context_ends_with_the_transaction() {
    let test = TestDb::new().await;
    let acme = test.with_tenant("acme").await;
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let client = test.app_client().await;
    let count = async || -> i64 {
        client
            .query_typed_one("select count(*) from devices", &[])
            .await
            .unwrap()
            .get(0)
    };
    assert_eq!(count().await, 0);
    for end in ["commit", "rollback"] {
        let enter = format!("begin; select enter('{}', '{}')", acme.id, ann.user_id);
        client.batch_execute(&enter).await.unwrap();
        assert_eq!(count().await, 1);
        client.batch_execute(end).await.unwrap();
        assert_eq!(count().await, 0);
    }
}

#[tokio::test]
async fn scopes_are_the_own_the_organisation_and_the_memberships() {
    let test = TestDb::new().await;
    let acme = test.with_tenant("acme").await;
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let ben = test.with_user(&acme, "ben@acme.test").await;
    let team = Uuid::from_u128(77);
    test.system_client()
        .await
        .batch_execute(&format!(
            "insert into scopes (tenant_id, scope_id, kind) values ('{0}', '{team}', 'team');
             insert into scope_members (tenant_id, scope_id, user_id, role)
                values ('{0}', '{team}', '{1}', 'member')",
            acme.id, ann.user_id
        ))
        .await
        .unwrap();
    let client = test.app_client().await;
    for (user, mut expected) in [(&ann, vec![team]), (&ben, vec![])] {
        expected.extend([user.user_id.get(), acme.id.get()]);
        expected.sort();
        let enter = format!("begin; select enter('{}', '{}')", acme.id, user.user_id);
        client.batch_execute(&enter).await.unwrap();
        let scopes = "select current_setting('app.scopes')::uuid[]";
        let mut found: Vec<Uuid> = client.query_typed_one(scopes, &[]).await.unwrap().get(0);
        found.sort();
        assert_eq!(found, expected);
        client.batch_execute("commit").await.unwrap();
    }
}

/// Returns an INSERT with a value for every column of `table` that needs one, as a row of the
/// given tenant and scope.
async fn sample_insert(admin: &Client, table: &str, tenant: Uuid, scope: Uuid) -> String {
    let columns = admin
        .query_typed(
            "select attname::text, format_type(atttypid, atttypmod) from pg_attribute
             where attrelid = $1::text::regclass and attnum > 0 and attnotnull and not atthasdef",
            &[(&table, Type::TEXT)],
        )
        .await
        .unwrap();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for row in &columns {
        let (name, ty): (String, String) = (row.get(0), row.get(1));
        values.push(match (name.as_str(), ty.as_str()) {
            ("tenant_id", _) => format!("'{tenant}'"),
            ("scope_id", _) => format!("'{scope}'"),
            ("user_id", _) => format!("'{scope}'"),
            ("role", _) => "'viewer'".to_owned(),
            ("kind", _) if table == "project_repositories" => "'remote'".to_owned(),
            ("kind", _) if table == "scrub_findings" => "'hash'".to_owned(),
            ("kind", _) => "'team'".to_owned(),
            ("backup_type", _) => "'full'".to_owned(),
            ("mode", _) => "'merge'".to_owned(),
            (_, "uuid") => "gen_random_uuid()".to_owned(),
            (_, "bigint" | "integer") => "1".to_owned(),
            (_, "boolean") => "true".to_owned(),
            (_, "bytea") => "'\\x01'".to_owned(),
            (_, "jsonb") => "'{}'".to_owned(),
            (_, "timestamp with time zone") => "'2026-01-01'".to_owned(),
            ("identity", _) => format!("'{scope}'"),
            (_, "text") => "'x'".to_owned(),
            (name, ty) => panic!("{table}.{name} has the unexpected type {ty}"),
        });
        names.push(name);
    }
    format!(
        "insert into {table} ({}) values ({})",
        names.join(", "),
        values.join(", ")
    )
}

/// A tenant table and what the app's role may do with it.
struct Guarded {
    table: String,
    scoped: bool,
    readable: bool,
    writable: bool,
}

async fn guarded_tables(admin: &Client) -> Vec<Guarded> {
    let rows = admin
        .query_typed(
            "select tablename::text, qual like '%app.%scopes%',
                has_any_column_privilege('coditect_app', tablename::regclass, 'select'),
                has_table_privilege('coditect_app', tablename::regclass, 'insert')
             from pg_policies where cmd = 'SELECT' order by 1",
            &[],
        )
        .await
        .unwrap();
    let guarded = |row: &tokio_postgres::Row| Guarded {
        table: row.get(0),
        scoped: row.get(1),
        readable: row.get(2),
        writable: row.get(3),
    };
    rows.iter().map(guarded).collect()
}

#[tokio::test]
async fn every_table_shows_own_rows_and_no_others() {
    let test = TestDb::new().await;
    let (acme, umbrella) = (
        test.with_tenant("acme").await,
        test.with_tenant("umbrella").await,
    );
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let colleague = test.with_user(&acme, "ben@acme.test").await;
    let stranger = test.with_user(&umbrella, "eve@umbrella.test").await;
    let admin = test.superuser_client().await;
    let app = test.app_client().await;
    let tables = guarded_tables(&admin).await;
    assert!(tables.len() > 28, "{}", tables.len());
    for guarded in &tables {
        let table = &guarded.table;
        let own = sample_insert(&admin, table, acme.id.get(), ann.user_id.get()).await;
        let others = [
            sample_insert(&admin, table, umbrella.id.get(), stranger.user_id.get()).await,
            sample_insert(&admin, table, acme.id.get(), colleague.user_id.get()).await,
        ];
        // A colleague's row is hidden by its scope only.
        let hidden = if guarded.scoped {
            &others[..]
        } else {
            &others[..1]
        };
        refill(&admin, table, hidden, &own).await;
        restore_people(&admin, &acme, &ann).await;
        if !guarded.readable {
            assert_eq!(
                sqlstate(&app, &format!("select 1 from {table}")).await,
                "42501"
            );
            continue;
        }
        let enter = format!("begin; select enter('{}', '{}')", acme.id, ann.user_id);
        app.batch_execute(&enter).await.unwrap();
        look(&app, guarded, &acme, hidden).await;
        app.batch_execute("rollback").await.unwrap();
    }
}

/// Empties `table` and puts the given rows into it.
async fn refill(admin: &Client, table: &str, hidden: &[String], own: &str) {
    // Only this table's guard is looked at, not who may refer to what.
    admin
        .batch_execute("set session_replication_role = replica")
        .await
        .unwrap();
    admin
        .batch_execute(&format!("truncate {table} cascade"))
        .await
        .unwrap();
    for insert in hidden.iter().map(String::as_str).chain([own]) {
        admin.batch_execute(insert).await.unwrap();
    }
    admin
        .batch_execute("reset session_replication_role")
        .await
        .unwrap();
}

/// Shows that the own row is visible, that no hidden one is, and that none can be written.
async fn look(app: &Client, guarded: &Guarded, tenant: &TestTenant, hidden: &[String]) {
    let table = &guarded.table;
    let own = format!("tenant_id = '{}'", tenant.id);
    let query = format!("select count(*) filter (where {own}), count(*) from {table}");
    let counts = app.query_typed_one(&query, &[]).await.unwrap();
    let (visible, all): (i64, i64) = (counts.get(0), counts.get(1));
    // What only those see who manage or audit.
    let privileged = ["audit_log", "invitations"].contains(&table.as_str());
    assert_eq!(visible == 0, privileged, "{table}: the own row");
    // The rows that let the person in are there besides.
    let people = ["tenants", "users", "memberships"].contains(&table.as_str());
    assert_eq!(
        all,
        if people {
            visible
        } else {
            i64::from(!privileged)
        },
        "{table}: another's row is visible"
    );
    if !guarded.writable {
        return;
    }
    for insert in hidden {
        app.batch_execute("savepoint s").await.unwrap();
        assert_eq!(sqlstate(app, insert).await, "42501", "{table}: {insert}");
        app.batch_execute("rollback to savepoint s").await.unwrap();
    }
}

/// Makes tenant, user and membership anew where they are missing.
async fn restore_people(admin: &Client, tenant: &TestTenant, user: &TestUser) {
    admin
        .batch_execute(&format!(
            "insert into tenants (tenant_id, name) values ('{0}', 'acme') on conflict do nothing;
             insert into users (tenant_id, id, email) values ('{0}', '{1}', 'ann')
                on conflict do nothing;
             insert into memberships (tenant_id, user_id, role) values ('{0}', '{1}', 'member')
                on conflict do nothing",
            tenant.id, user.user_id
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn revoked_device_gets_no_transaction_and_its_neighbours_do() {
    let test = TestDb::new().await;
    let acme = test.with_tenant("acme").await;
    let umbrella = test.with_tenant("umbrella").await;
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let bob = test.with_user(&umbrella, "bob@umbrella.test").await;
    let second = test.log_in(&ann.license_key, &Default::default()).await;
    let now = test.clock().now();
    // The same device id in another tenant is another device.
    devices::revoke(test.db(), &bob.caller, ann.device_id, now)
        .await
        .unwrap();
    let list = async |caller| {
        let listed = test.db().tenant("test", caller, |mut tx| async move {
            devices::list(&mut tx).await
        });
        listed.await
    };
    assert_eq!(list(&ann.caller).await.unwrap().len(), 2);
    devices::revoke(test.db(), &second.caller, ann.device_id, now)
        .await
        .unwrap();
    let outcome = list(&ann.caller).await;
    assert!(matches!(outcome, Err(StoreError::DeviceRevoked)));
    let left = list(&second.caller).await.unwrap();
    let revoked = left.iter().filter(|one| one.revoked_at.is_some());
    let revoked: Vec<_> = revoked.map(|one| one.id).collect();
    assert_eq!((left.len(), revoked), (2, vec![ann.device_id]));
    let trail = "select count(*) from audit_log where action = 'revoked' and resource_type = \
                 'device' and device_id is not null";
    let rows = test.system_client().await.query_typed(trail, &[]).await;
    assert_eq!(rows.unwrap()[0].get::<_, i64>(0), 1);
}

//! How transactions begin, end and repeat, with statements that only this crate may send.

use std::sync::atomic::{AtomicU32, Ordering};

use coditect_testkit::{TestDb, TestUser};
use tokio_postgres::types::Type;

use super::*;
use crate::credential::Secrets;
use crate::identity::Role;

/// A database with one person, reached through this crate's own store with one connection.
struct Fixture {
    test: TestDb,
    db: Db,
    caller: Caller,
    user: TestUser,
}

async fn fixture() -> Fixture {
    let test = TestDb::new().await;
    let settings = test.settings();
    fixture_with(test, |own| {
        own.app_url = settings.app_url;
        own.system_url = settings.system_url;
    })
    .await
}

async fn fixture_with(test: TestDb, change: impl FnOnce(&mut DbSettings)) -> Fixture {
    let tenant = test.with_tenant("acme").await;
    // Reads the audit trail, in which these tests count.
    let user = test.with_role(&tenant, "ann@acme.test", Role::Owner).await;
    let mut settings = DbSettings::new(test.settings().owner_url);
    change(&mut settings);
    settings.app_connections_max = 1;
    let db = Db::connect(&settings).await.unwrap();
    // The testkit has a compiled copy of this crate of its own, so its types are others.
    let secrets = Secrets::load_or_create(&test.secrets_folder()).unwrap();
    let caller = secrets
        .verify(&user.access_token, test.clock().now())
        .unwrap();
    Fixture {
        test,
        db,
        caller,
        user,
    }
}

const INSERT: &str = "insert into audit_log (tenant_id, id, at, user_id, action)
    values ($1, gen_random_uuid(), now(), nullif(current_setting('app.uid', true), '')::uuid,
    'test')";
const COUNT: &str = "select count(*) from audit_log where tenant_id = $1 and action = 'test'";

async fn insert(tx: &mut TenantTx) -> Result<(), StoreError> {
    let tenant = tx.tenant().get();
    tx.execute(INSERT, &[(&tenant, Type::UUID)]).await.map(drop)
}

impl Fixture {
    async fn count(&self) -> i64 {
        let counted = self.db.tenant("count", &self.caller, |mut tx| async move {
            let tenant = tx.tenant().get();
            let rows = tx.query(COUNT, &[(&tenant, Type::UUID)]).await?;
            Ok::<i64, StoreError>(rows[0].try_get(0)?)
        });
        counted.await.unwrap()
    }
}

#[tokio::test]
async fn ok_commits_and_error_rolls_back() {
    let fixture = fixture().await;
    let (db, caller) = (&fixture.db, &fixture.caller);
    db.tenant(
        "test",
        caller,
        |mut tx| async move { insert(&mut tx).await },
    )
    .await
    .unwrap();
    let failed = db
        .tenant("test", caller, |mut tx| async move {
            insert(&mut tx).await?;
            Err::<(), _>(StoreError::NotFound)
        })
        .await;
    assert!(matches!(failed, Err(StoreError::NotFound)));
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test]
async fn interrupted_transaction_leaves_nothing_and_no_dirty_connection() {
    let fixture = fixture().await;
    let (inserted, mut wait) = tokio::sync::mpsc::channel(1);
    let inserted = &inserted;
    let work = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            insert(&mut tx).await?;
            inserted.send(()).await.unwrap();
            std::future::pending::<Result<(), StoreError>>().await
        });
    tokio::select! {
        _ = work => unreachable!("the work never ends"),
        _ = wait.recv() => {}
    }
    // The pool has one place: this waits for a clean connection in it.
    assert_eq!(fixture.count().await, 0);
}

#[tokio::test]
async fn failure_that_the_closure_swallows_is_not_a_commit() {
    let fixture = fixture().await;
    let outcome = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            insert(&mut tx).await?;
            assert!(tx.execute("select 1 / 0", &[]).await.is_err());
            assert!(matches!(insert(&mut tx).await, Err(StoreError::Aborted)));
            Ok::<_, StoreError>(())
        })
        .await;
    assert!(matches!(outcome, Err(StoreError::Aborted)), "{outcome:?}");
    assert_eq!(fixture.count().await, 0);
}

#[tokio::test]
async fn passing_conditions_run_the_closure_again() {
    const FAIL: &str = "do $$ begin raise exception 'again' using errcode = '40001'; end $$";
    let fixture = fixture().await;
    let runs = &AtomicU32::new(0);
    fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            insert(&mut tx).await?;
            if runs.fetch_add(1, Ordering::Relaxed) < 2 {
                tx.execute(FAIL, &[]).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    assert_eq!(
        (runs.load(Ordering::Relaxed), fixture.count().await),
        (3, 1)
    );
    runs.store(0, Ordering::Relaxed);
    let outcome = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            runs.fetch_add(1, Ordering::Relaxed);
            tx.execute(FAIL, &[]).await
        })
        .await;
    assert!(matches!(outcome, Err(StoreError::Retry { .. })));
    assert_eq!(runs.load(Ordering::Relaxed), ATTEMPTS_MAX);
}

#[tokio::test]
async fn savepoint_undoes_its_part_only() {
    let fixture = fixture().await;
    fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            insert(&mut tx).await?;
            let failed = tx
                .savepoint("part", async |tx| {
                    insert(tx).await?;
                    tx.execute("select 'x'::text::bigint", &[]).await
                })
                .await?;
            assert!(
                matches!(failed, Err(StoreError::Refused { .. })),
                "{failed:?}"
            );
            tx.savepoint("part", async |tx| insert(tx).await).await??;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    assert_eq!(fixture.count().await, 2);
}

#[tokio::test]
async fn snapshot_sees_one_moment_and_writes_nothing() {
    let fixture = fixture().await;
    let system = &fixture.test.system_client().await;
    let tenant = fixture.user.tenant_id.get();
    let counts = fixture
        .db
        .tenant_snapshot("test", &fixture.caller, |mut tx| async move {
            let mut counts = Vec::new();
            for _ in 0..2 {
                let rows = tx.query(COUNT, &[(&tenant, Type::UUID)]).await?;
                counts.push(rows[0].try_get::<_, i64>(0)?);
                system
                    .execute_typed(INSERT, &[(&tenant, Type::UUID)])
                    .await?;
            }
            assert!(insert(&mut tx).await.is_err());
            Err::<(), _>(StoreError::Conflict {
                constraint: format!("{counts:?}"),
            })
        })
        .await;
    assert_eq!(
        counts.unwrap_err().to_string(),
        "constraint [0, 0] violated"
    );
    assert_eq!(fixture.count().await, 2);
}

#[tokio::test]
async fn pipeline_answers_in_order_from_the_first_statement() {
    let fixture = fixture().await;
    let numbers: Vec<i64> = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            let values: Vec<i64> = (0..30).collect();
            let statements: Vec<Statement<'_>> = values
                .iter()
                .map(|n| Statement {
                    sql: "select $1",
                    params: vec![(n, Type::INT8)],
                })
                .collect();
            let answers = tx.pipeline(&statements).await?;
            answers
                .iter()
                .map(|rows| Ok(rows[0].try_get(0)?))
                .collect::<Result<_, StoreError>>()
        })
        .await
        .unwrap();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_connection_string_is_enough_and_still_bound() {
    let test = TestDb::new().await;
    let superuser = test.superuser_url(None);
    let fixture = fixture_with(test, |own| own.owner_url = superuser).await;
    let row = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            let sql = "select current_user::text, session_user::text, count(*) from tenants";
            let rows = tx.query(sql, &[]).await?;
            Ok::<(String, String, i64), StoreError>((
                rows[0].try_get(0)?,
                rows[0].try_get(1)?,
                rows[0].try_get(2)?,
            ))
        })
        .await
        .unwrap();
    fixture.test.with_tenant("umbrella").await;
    assert_eq!(row.0, "coditect_app");
    assert_eq!(row.2, 1);
    let role = fixture
        .db
        .system(SystemTask::Administer, |mut tx| async move {
            let rows = tx
                .query("select current_user::text, count(*) from tenants", &[])
                .await?;
            Ok::<(String, i64), StoreError>((rows[0].try_get(0)?, rows[0].try_get(1)?))
        })
        .await
        .unwrap();
    assert_eq!(role, ("coditect_system".to_owned(), 2));
}

#[tokio::test]
async fn current_role_is_the_one_of_this_moment() {
    let fixture = fixture().await;
    let system = fixture.test.system_client().await;
    system
        .batch_execute("update memberships set role = 'viewer'")
        .await
        .unwrap();
    let role = fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            assert_eq!(tx.current_role(), None);
            tx.query("select 1", &[]).await?;
            Ok::<_, StoreError>(tx.current_role())
        })
        .await
        .unwrap();
    assert_eq!(role, Some(crate::identity::Role::Viewer));
    assert_eq!(fixture.caller.role(), crate::identity::Role::Owner);
}

#[tokio::test]
async fn lost_connection_runs_the_closure_again() {
    let fixture = fixture().await;
    let superuser = &fixture.test.superuser_client().await;
    let runs = &AtomicU32::new(0);
    fixture
        .db
        .tenant("test", &fixture.caller, |mut tx| async move {
            insert(&mut tx).await?;
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                let rows = tx.query("select pg_backend_pid()", &[]).await?;
                let pid: i32 = rows[0].try_get(0)?;
                let kill = format!("select pg_terminate_backend({pid}, 5000)");
                superuser.batch_execute(&kill).await?;
            }
            insert(&mut tx).await
        })
        .await
        .unwrap();
    assert_eq!(
        (runs.load(Ordering::Relaxed), fixture.count().await),
        (2, 2)
    );
}

/// Writes streams for scopes that are given beside the parts, so that a row can come under the
/// wrong part.
const STREAMS_OF_PARTS: &str = "insert into streams (tenant_id, scope_id, n)
    select $1, case when act_as(part) is not null then scope end, 7
    from unnest($2::integer[], $3::uuid[]) as given (part, scope)
    on conflict (tenant_id, scope_id) do update set n = excluded.n";

#[tokio::test]
async fn each_row_of_a_joined_statement_is_checked_in_the_context_of_its_part() {
    let fixture = fixture().await;
    let tenant = fixture.test.with_tenant("umbrella").await;
    let mut callers = Vec::new();
    let secrets = Secrets::load_or_create(&fixture.test.secrets_folder()).unwrap();
    for name in ["bea", "cid", "dan"] {
        let email = format!("{name}@umbrella.test");
        let user = fixture.test.with_user(&tenant, &email).await;
        let now = fixture.test.clock().now();
        callers.push(secrets.verify(&user.access_token, now).unwrap());
    }
    let own: Vec<uuid::Uuid> = callers.iter().map(|it| it.user_id().get()).collect();
    let mut swapped = own.clone();
    swapped.swap(1, 2);
    let mut all_of_last = own.clone();
    all_of_last.fill(own[2]);
    for (scopes, fits) in [(&own, true), (&swapped, false), (&all_of_last, false)] {
        let (callers, own) = (&callers, &own);
        let written = fixture
            .db
            .joined("test", callers, |mut tx| async move {
                let parts = callers.iter().map(|caller| Entering {
                    scope: caller.user_id().get(),
                    device: caller.device_id().get(),
                });
                let parts: Vec<Entering> = parts.collect();
                let (entered, _) = tx.enter(&parts, vec![]).await?;
                assert!(entered.iter().all(|it| it.n.is_some() && it.device_known));
                let tenant = tx.tenant().get();
                let numbers = vec![1_i32, 2, 3];
                let statement = Statement {
                    sql: STREAMS_OF_PARTS,
                    params: vec![
                        (&tenant, Type::UUID),
                        (&numbers, Type::INT4_ARRAY),
                        (scopes, Type::UUID_ARRAY),
                    ],
                };
                tx.shared(&[statement]).await?;
                // Each part sees its own stream, nobody sees any.
                let count = "select count(*) from streams where n = 7";
                for part in 0..own.len() {
                    let rows = tx.part(part)?.query(count, &[]).await?;
                    assert_eq!(rows[0].try_get::<_, i64>(0)?, 1);
                }
                let nobody = Statement {
                    sql: count,
                    params: vec![],
                };
                let rows = tx.shared(&[nobody]).await?;
                assert_eq!(rows[0][0].try_get::<_, i64>(0)?, 0);
                Ok::<(), StoreError>(())
            })
            .await;
        match written {
            Ok(()) => assert!(fits),
            Err(StoreError::Forbidden) => assert!(!fits),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn nothing_runs_in_a_joined_transaction_before_its_parts_are_entered() {
    let fixture = fixture().await;
    let callers = [fixture.caller.clone()];
    let outcome = fixture
        .db
        .joined("test", &callers, |mut tx| async move {
            assert!(matches!(tx.part(0), Err(StoreError::Aborted)));
            assert!(matches!(tx.shared(&[]).await, Err(StoreError::Aborted)));
            Ok::<(), StoreError>(())
        })
        .await;
    outcome.unwrap();
}

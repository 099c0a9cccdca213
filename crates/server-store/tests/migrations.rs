//! The migration runner: idempotent, careful with what it does not know.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use coditect_server_store::{Db, DbSettings, StoreError, migrations};
use coditect_testkit::TestDb;

#[tokio::test]
async fn second_run_does_nothing() {
    let test = TestDb::new().await;
    let done = migrations::migrate(&test.settings().owner_url)
        .await
        .unwrap();
    assert_eq!(done, Vec::<i64>::new());
}

#[tokio::test]
async fn newer_database_is_refused() {
    let test = TestDb::new().await;
    let owner = test.owner_client().await;
    owner
        .batch_execute("insert into schema_migrations values (29991231000001, 'later', '\\x00')")
        .await
        .unwrap();
    let unknown = |outcome: Result<(), StoreError>| {
        matches!(
            outcome,
            Err(StoreError::UnknownMigration {
                version: 29_991_231_000_001
            })
        )
    };
    assert!(unknown(Db::connect(&test.settings()).await.map(drop)));
    assert!(unknown(
        migrations::migrate(&test.settings().owner_url)
            .await
            .map(drop)
    ));
}

#[tokio::test]
async fn edited_migration_is_refused() {
    let test = TestDb::new().await;
    let owner = test.owner_client().await;
    owner
        .batch_execute("update schema_migrations set hash = '\\x00'")
        .await
        .unwrap();
    let outcome = Db::connect(&test.settings()).await;
    assert!(
        matches!(outcome, Err(StoreError::ChangedMigration { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn empty_database_is_refused_until_it_is_migrated() {
    let test = TestDb::new().await;
    let owner = test.owner_client().await;
    owner
        .batch_execute("drop table schema_migrations")
        .await
        .unwrap();
    let outcome = Db::connect(&test.settings()).await;
    assert!(
        matches!(outcome, Err(StoreError::MissingMigration { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn failed_migration_leaves_nothing() {
    let test = TestDb::new().await;
    let owner = test.owner_client().await;
    // The list is gone but the tables are there: the first statement that makes one fails.
    owner
        .batch_execute("drop table schema_migrations")
        .await
        .unwrap();
    assert!(
        migrations::migrate(&test.settings().owner_url)
            .await
            .is_err()
    );
    let applied = "select count(*) from schema_migrations";
    let count: i64 = owner.query_typed_one(applied, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
}

#[tokio::test]
async fn superuser_migrates_as_the_owner() {
    let test = TestDb::new().await;
    let superuser = test.superuser_client().await;
    let fresh = format!("{}_fresh", current(&superuser).await);
    superuser
        .batch_execute(&format!("create database {fresh}"))
        .await
        .unwrap();
    let url = test.superuser_url(Some(&fresh));
    let done = migrations::migrate(&url).await.unwrap();
    assert!(!done.is_empty());
    Db::connect(&DbSettings::new(url)).await.unwrap().close();
    superuser
        .batch_execute(&format!("drop database {fresh} with (force)"))
        .await
        .unwrap();
}

async fn current(client: &tokio_postgres::Client) -> String {
    client
        .query_typed_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0)
}

//! `/health/`: what load balancers and scripts see.

use coditect_protocol::ErrorCode;

use crate::support::{CONFLICTS, TestApp};

/// Ends all connections but this one and lets no new ones in; a superuser is exempt.
const AWAY: &str = "do $$ begin
    execute format('alter database %I connection limit 0', current_database());
    perform pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
end $$";
const BACK: &str = "do $$ begin
    execute format('alter database %I connection limit -1', current_database());
end $$";

#[tokio::test]
async fn database_that_goes_away_is_told_and_its_return_noticed() {
    let app = TestApp::start().await;
    let tenant = app.db.with_tenant("acme").await;
    let ann = app.db.with_user(&tenant, "ann@acme.example").await;
    let healthy = (200, "{\"status\":\"healthy\"}".to_owned());
    let answer = async |path| {
        let reply = app.get(path).await;
        (reply.status, reply.text())
    };
    assert_eq!(answer("/health/").await, healthy);
    let superuser = app.db.superuser_client().await;
    superuser.batch_execute(AWAY).await.unwrap();
    let unhealthy = "{\"error\":\"the database does not answer\",\"status\":\"unhealthy\"}";
    // The pool may still hold a connection whose end it has not noticed.
    while answer("/health/").await == healthy {}
    for path in ["/health/", "/health"] {
        assert_eq!(answer(path).await, (503, unhealthy.to_owned()));
    }
    assert_eq!(answer("/health/live").await, healthy);
    let reply = app.get_as(&ann, CONFLICTS).await;
    reply.problem(ErrorCode::Unavailable);
    superuser.batch_execute(BACK).await.unwrap();
    assert_eq!(answer("/health/").await, healthy);
    assert_eq!(app.get_as(&ann, CONFLICTS).await.status, 200);
}

#[tokio::test]
async fn health_needs_no_credential_and_says_nothing_else() {
    let app = TestApp::start().await;
    let reply = app.get("/health/").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.text(), "{\"status\":\"healthy\"}");
}

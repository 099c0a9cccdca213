//! Guards that only the real server has, each taken out: what goes wrong then is asserted beside
//! what holds with it. `docs/GUARDS.md` lists them; `crates/simulation/tests/guards.rs` checks that
//! the tests named there exist.

use std::future::Future;

use coditect_server_store::sync::{Guard, without};
use coditect_testkit::TestDb;
use tokio_postgres::Client;

mod bodies;
mod joins;
mod moves;
mod pages;

/// With all guards, and without this one.
fn both(guard: Guard) -> [Option<Guard>; 2] {
    [None, Some(guard)]
}

/// Runs `work` with all guards, or without one.
async fn run<F: Future>(out: Option<Guard>, work: F) -> F::Output {
    match out {
        Some(guard) => without(guard, work).await,
        None => work.await,
    }
}

/// Has transactions wait before their commit, until it is let go.
struct Stop(Client);

impl Stop {
    /// Stops who does something, such as `insert on row_moves`.
    async fn after(db: &TestDb, what: &str) -> Self {
        let admin = db.superuser_client().await;
        let sql = format!(
            "create function stop_here() returns trigger language plpgsql as $$ begin
                perform pg_advisory_xact_lock_shared(7);
                return null;
            end $$;
            create trigger stop_here after {what} for each statement execute function stop_here();
            select pg_advisory_lock(7)"
        );
        admin.batch_execute(&sql).await.unwrap();
        Self(admin)
    }

    /// Waits until so many transactions wait for something.
    async fn waiting(&self, transactions: i64) {
        waiting(&self.0, transactions).await;
    }

    async fn let_go(&self) {
        let sql = "select pg_advisory_unlock(7)";
        self.0.batch_execute(sql).await.unwrap();
    }
}

/// Waits until so many transactions wait for a lock.
async fn waiting(admin: &Client, transactions: i64) {
    let sql = "select count(*), pg_sleep(0.01) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    loop {
        let waiting: i64 = admin.query_typed_one(sql, &[]).await.unwrap().get(0);
        if waiting >= transactions {
            return;
        }
    }
}

//! One transaction on one connection: what tenant and system transactions have in common.
//!
//! Nothing is sent before the first statement; then `begin`, `enter` and that statement leave
//! together. Only unnamed, typed statements are sent, because named ones mix up clients behind
//! a transaction pooler.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Object;
use futures_util::future::join_all;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::Isolation;
use crate::StoreError;
use crate::hints::Head;

/// A parameter with its type on the wire; built-in types only.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement of a pipeline.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    /// The text, a constant.
    pub(crate) sql: &'a str,
    /// Its parameters in order.
    pub(crate) params: Vec<Param<'a>>,
}

/// Most statements in one pipeline; beyond it `join_all` does not promise to send in order.
const PIPELINE_MAX: usize = 30;
const ENTER: &str = "select enter($1, $2, $3)";

/// Who a transaction acts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) tenant: Uuid,
    pub(super) user: Uuid,
    pub(super) device: Uuid,
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) isolation: Isolation,
    pub(super) set_role: Option<&'static str>,
}

impl Begin {
    fn sql(self) -> String {
        let begin = match self.isolation {
            Isolation::Write => "begin",
            Isolation::Snapshot => "begin isolation level repeatable read read only",
        };
        let role = self.set_role.map(|role| format!("; set local role {role}"));
        format!(
            "{begin}{}; set local lock_timeout = '5s'; set local statement_timeout = '30s'; \
             set local idle_in_transaction_session_timeout = '10s'",
            role.unwrap_or_default()
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing was sent yet.
    New,
    Open,
    /// A statement failed; only a rollback helps.
    Failed,
    /// The commit left together with the last statements, and succeeded.
    Committed,
}

/// A connection with at most one transaction. Unless it was finished, dropping it closes the
/// connection, so that nothing half-done ever returns to the pool.
#[derive(Debug)]
pub(super) struct Session {
    connection: Option<Object>,
    begin: Begin,
    progress: Progress,
    /// Commands that leave together with the next statement.
    ahead: Vec<String>,
    /// Tenant and user to enter with, for tenant transactions.
    context: Option<Context>,
    /// What `enter` answered.
    entered_as: Option<String>,
    /// Heads that the transaction moved, to be told once it is committed.
    heads: Vec<Head>,
}

/// Where a transaction leaves its session when the closure that owned it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Session>>>);

impl Slot {
    pub(super) fn put(&self, session: Option<Session>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    pub(super) fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Session {
    pub(super) fn new(connection: Object, begin: Begin) -> Self {
        let (progress, context) = (Progress::New, None);
        Self {
            connection: Some(connection),
            begin,
            progress,
            ahead: Vec::new(),
            context,
            entered_as: None,
            heads: Vec::new(),
        }
    }

    pub(super) fn enter_as(&mut self, context: Context) {
        self.context = Some(context);
    }

    pub(super) fn note_head(&mut self, head: Head) {
        self.heads.push(head);
    }

    /// Returns the heads that the transaction moved.
    pub(super) fn take_heads(&mut self) -> Vec<Head> {
        std::mem::take(&mut self.heads)
    }

    pub(super) fn entered_as(&self) -> Option<&str> {
        self.entered_as.as_deref()
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.run(async |client| Ok(client.query_typed(sql, params).await?))
            .await
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, StoreError> {
        self.run(async |client| Ok(client.execute_typed(sql, params).await?))
            .await
    }

    /// Sends all statements at once and returns their rows in order.
    pub(super) async fn pipeline(
        &mut self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        assert!(
            statements.len() <= PIPELINE_MAX,
            "a pipeline has at most {PIPELINE_MAX} parts"
        );
        self.run(async |client| {
            let parts = statements
                .iter()
                .map(|part| client.query_typed(part.sql, &part.params));
            let outcomes = join_all(parts).await;
            Ok(outcomes.into_iter().collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Sends all statements and the commit at once and returns their rows in order. Nothing can
    /// follow. A failed statement turns the commit into a rollback.
    pub(super) async fn pipeline_and_commit(
        &mut self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        assert!(
            statements.len() < PIPELINE_MAX,
            "a pipeline has at most {PIPELINE_MAX} parts"
        );
        if self.progress != Progress::Open {
            return Err(StoreError::Aborted);
        }
        let Some(connection) = &self.connection else {
            return Err(StoreError::Aborted);
        };
        // Until the commit's answer is here, the connection is in no state to be used again.
        self.progress = Progress::Failed;
        let client: &Client = connection;
        let ahead = std::mem::take(&mut self.ahead).join("; ");
        let work = async {
            let parts = statements
                .iter()
                .map(|part| client.query_typed(part.sql, &part.params));
            let (outcomes, committed) =
                tokio::join!(biased; join_all(parts), client.batch_execute("commit"));
            let rows = outcomes.into_iter().collect::<Result<_, _>>();
            // What the commit did is not known when its answer is missing; a failed statement's
            // own error says why it did nothing.
            Ok((rows.map_err(StoreError::from), committed))
        };
        let (rows, committed) = behind(client, &ahead, work).await?;
        committed?;
        self.progress = Progress::Committed;
        rows
    }

    /// Runs a statement without parameters that returns nothing, such as `savepoint`.
    pub(super) async fn command(&mut self, sql: &str) -> Result<(), StoreError> {
        self.run(async |client| Ok(client.execute_typed(sql, &[]).await.map(drop)?))
            .await
    }

    /// Sends such a command together with the next statement, without waiting for its answer;
    /// when none follows, with nothing. For what cannot fail unless the connection does.
    pub(super) fn command_ahead(&mut self, sql: String) {
        self.ahead.push(sql);
    }

    /// Runs `work`, preceded by what opens the transaction when it is the first.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else {
            return Err(StoreError::Aborted);
        };
        let client: &Client = connection;
        let ahead = std::mem::take(&mut self.ahead).join("; ");
        let work = behind(client, &ahead, work(client));
        let outcome = match self.progress {
            Progress::Failed | Progress::Committed => return Err(StoreError::Aborted),
            Progress::Open => work.await,
            Progress::New => {
                self.progress = Progress::Open;
                let (entered_as, outcome) = open(client, self.begin, self.context, work).await;
                self.entered_as = entered_as;
                outcome
            }
        };
        if outcome.is_err() {
            self.progress = Progress::Failed;
        }
        outcome.map_err(StoreError::without_commit)
    }

    /// Runs `rollback to savepoint` after a failure, which makes the transaction usable again.
    pub(super) async fn roll_back_to(&mut self, savepoint: &str) -> Result<(), StoreError> {
        if self.progress == Progress::Failed {
            self.progress = Progress::Open;
        }
        self.command(&format!("rollback to savepoint {savepoint}"))
            .await
    }

    /// Commits and returns the connection to the pool.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let (sql, outcome) = match self.progress {
            Progress::New | Progress::Committed => return Ok(()),
            Progress::Open => ("commit", Ok(())),
            // PostgreSQL answers COMMIT with a silent rollback here.
            Progress::Failed => ("rollback", Err(StoreError::Aborted)),
        };
        finish(connection, sql).await?;
        outcome
    }

    /// Rolls back and returns the connection to the pool.
    pub(super) async fn rollback(mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if matches!(self.progress, Progress::New | Progress::Committed) {
            return;
        }
        if let Err(error) = finish(connection, "rollback").await {
            tracing::debug!(%error, "rollback failed, the connection is closed");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if !matches!(self.progress, Progress::New | Progress::Committed) {
            // Closes the connection; the server then rolls back.
            drop(Object::take(connection));
        }
    }
}

/// Holds a connection while its last statement runs: when that is interrupted or fails, the
/// connection is closed instead of returned.
struct Closing(Option<Object>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

async fn finish(connection: Object, sql: &str) -> Result<(), StoreError> {
    let mut closing = Closing(Some(connection));
    if let Some(connection) = &closing.0 {
        connection.batch_execute(sql).await?;
    }
    // Finished: the connection may be used again.
    closing.0.take();
    Ok(())
}

/// Sends the commands, when there are any, and then the work, without waiting in between.
async fn behind<T>(
    client: &Client,
    ahead: &str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if ahead.is_empty() {
        return work.await;
    }
    let (sent, outcome) = tokio::join!(biased; client.batch_execute(ahead), work);
    sent?;
    outcome
}

/// Sends `begin`, `enter` and the first work in this order, without waiting in between: the
/// driver sends a request when its future is polled first.
async fn open<T>(
    client: &Client,
    begin: Begin,
    context: Option<Context>,
    work: impl Future<Output = Result<T, StoreError>>,
) -> (Option<String>, Result<T, StoreError>) {
    let begin = begin.sql();
    let enter = async {
        let Some(context) = context else {
            return Ok(None);
        };
        let params: [Param<'_>; 3] = [
            (&context.tenant, Type::UUID),
            (&context.user, Type::UUID),
            (&context.device, Type::UUID),
        ];
        let row = client.query_typed_one(ENTER, &params).await?;
        Ok::<Option<String>, StoreError>(row.try_get(0)?)
    };
    let (begun, entered, outcome) = tokio::join!(biased; client.batch_execute(&begin), enter, work);
    if let Err(error) = begun {
        return (None, Err(error.into()));
    }
    match entered {
        Ok(entered_as) => (entered_as, outcome),
        Err(error) => (None, Err(error)),
    }
}

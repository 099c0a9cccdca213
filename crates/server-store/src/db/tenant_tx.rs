//! The transaction of a caller: sees one tenant and the caller's scopes, and nothing else.

use coditect_protocol::catalogue::File;
use coditect_protocol::{Cursor, Scope};
use tokio_postgres::Row;

use super::session::{Context, Param, Session, Slot, Statement};
use crate::StoreError;
use crate::credential::{Caller, TenantId};
use crate::hints::Head;
use crate::identity::Role;

/// A transaction that the database binds to one tenant and the caller's scopes.
///
/// Store functions take it first; outside this crate it can be handed on, and nothing else:
///
/// ```compile_fail
/// # async fn f(tx: &mut coditect_server_store::TenantTx) {
/// tx.query("select 1", &[]).await; // private
/// # }
/// ```
///
/// There is no way to one but through a verified caller:
///
/// ```compile_fail
/// let tenant = coditect_server_store::TenantId(uuid::Uuid::nil()); // private
/// ```
///
/// ```compile_fail
/// let tenant: coditect_server_store::TenantId = serde_json::from_str("\"\"").unwrap();
/// ```
///
/// A store function takes neither the system's transaction nor the database itself:
///
/// ```compile_fail
/// # async fn f(tx: &mut coditect_server_store::SystemTx, id: uuid::Uuid) {
/// coditect_server_store::devices::find(tx, id).await;
/// # }
/// ```
///
/// ```compile_fail
/// # async fn f(db: &mut coditect_server_store::Db, id: uuid::Uuid) {
/// coditect_server_store::devices::find(db, id).await;
/// # }
/// ```
///
/// The same call with the right transaction compiles:
///
/// ```
/// # async fn f(tx: &mut coditect_server_store::TenantTx, id: uuid::Uuid) {
/// let _device = coditect_server_store::devices::find(tx, id).await;
/// # }
/// ```
#[derive(Debug)]
pub struct TenantTx {
    /// Taken on drop only.
    session: Option<Session>,
    slot: Slot,
    caller: Caller,
}

impl TenantTx {
    pub(super) fn new(mut session: Session, slot: Slot, caller: Caller) -> Self {
        session.enter_as(Context {
            tenant: caller.tenant().get(),
            user: caller.user_id().get(),
            device: caller.device_id().get(),
        });
        Self {
            session: Some(session),
            slot,
            caller,
        }
    }

    /// Makes the one that the parts of a joined transaction are lent in turn; nobody is entered.
    pub(super) fn unentered(session: Session, slot: Slot, caller: Caller) -> Self {
        Self {
            session: Some(session),
            slot,
            caller,
        }
    }

    /// Changes who acts, with the command that makes the database do the same.
    pub(super) fn act_as(&mut self, caller: &Caller, command: String) -> Result<(), StoreError> {
        self.session()?.command_ahead(command);
        self.caller = caller.clone();
        Ok(())
    }

    /// Returns the tenant of the transaction.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant()
    }

    /// Returns who the transaction acts for.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the caller's role in the organisation as the database has it now; `None` before
    /// the first statement.
    #[must_use]
    pub fn current_role(&self) -> Option<Role> {
        self.session.as_ref()?.entered_as().and_then(Role::parse)
    }

    /// Notes that the transaction moved a stream's head: whoever follows the stream is told once
    /// it is committed, and only then.
    pub(crate) fn note_head(&mut self, scope: Scope, file: File, cursor: Cursor) {
        let tenant = self.tenant().get();
        if let Some(session) = &mut self.session {
            session.note_head(Head {
                tenant,
                scope,
                file,
                cursor,
            });
        }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.session()?.query(sql, params).await
    }

    /// Runs a statement and returns its row, if there is one.
    pub(crate) async fn query_opt(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.session()?.query(sql, params).await?.into_iter().next())
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, StoreError> {
        self.session()?.execute(sql, params).await
    }

    /// Sends up to 30 statements at once and returns their rows in order.
    pub(crate) async fn pipeline(
        &mut self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.session()?.pipeline(statements).await
    }

    /// Runs `work` behind a savepoint: when it fails, only its changes are undone and the
    /// transaction goes on. Savepoints do not nest under one name.
    pub(crate) async fn savepoint<T, E>(
        &mut self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.session()?.command_ahead(format!("savepoint {name}"));
        let outcome = work(self).await;
        if outcome.is_err() {
            self.session()?.roll_back_to(name).await?;
        }
        self.session()?
            .command_ahead(format!("release savepoint {name}"));
        Ok(outcome)
    }

    /// Returns the session, which is there until the drop.
    pub(super) fn session(&mut self) -> Result<&mut Session, StoreError> {
        self.session.as_mut().ok_or(StoreError::Aborted)
    }
}

impl Drop for TenantTx {
    fn drop(&mut self) {
        self.slot.put(self.session.take());
    }
}

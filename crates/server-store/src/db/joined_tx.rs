//! The transaction of several callers of one tenant, each of whom sees their own scopes only.

use coditect_protocol::catalogue::File;
use coditect_protocol::{Cursor, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::session::{Session, Slot, Statement};
use super::tenant_tx::TenantTx;
use crate::StoreError;
use crate::credential::{Caller, TenantId};

const ENTER: &str = "select n, named, own from enter_joined($1, $2, $3, $4, $5)";
const ACT_AS_PART: &str = "select act_as($1)";
/// Statements with their switches in one pipeline.
const AT_ONCE_MAX: usize = 15;
const AS_NOBODY: &str = "select act_as(null)";
/// What a statement calls for each of its rows, so that row security checks the row in the
/// context of the part that it comes from.
const ACT_AS: &str = "act_as(";

/// A transaction of several parts, each of which has a caller of its own, all of one tenant.
///
/// The database enters every part and switches between them; between the switches nobody acts,
/// who sees no row of any scope. Outside this crate it can be named, and nothing else. It is no
/// [`TenantTx`]: a store function takes that of one part, in which the part's caller acts:
///
/// ```compile_fail
/// # async fn f(tx: &mut coditect_server_store::JoinedTx, id: uuid::Uuid) {
/// let _device = coditect_server_store::devices::find(tx, id).await;
/// # }
/// ```
///
/// Parts are lent one at a time, and only within this crate:
///
/// ```compile_fail
/// # fn f(tx: &mut coditect_server_store::JoinedTx) {
/// let _part = tx.part(0); // private
/// # }
/// ```
///
/// There is no statement without somebody, or nobody, to act:
///
/// ```compile_fail
/// # async fn f(tx: &mut coditect_server_store::JoinedTx) {
/// tx.query("select 1", &[]).await; // no such function
/// # }
/// ```
///
/// What every transaction may say compiles:
///
/// ```
/// # fn f(tx: &coditect_server_store::JoinedTx) {
/// let _tenant = tx.tenant();
/// # }
/// ```
#[derive(Debug)]
pub struct JoinedTx {
    /// Lent to one part after the other. Its borrow keeps two parts from acting at once.
    tx: TenantTx,
    callers: Vec<Caller>,
    /// Who acts with the next statement.
    acting: Acting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acting {
    /// The parts were not entered yet.
    NotEntered,
    Nobody,
    Part(usize),
    /// The part of the last row of the last statement.
    Unknown,
}

/// What a part asks of the database when it enters.
#[derive(Debug)]
pub(crate) struct Entering {
    /// Stream that it writes.
    pub(crate) scope: Uuid,
    /// Device that it names; the one that logged in is the caller's.
    pub(crate) device: Uuid,
}

/// What the database answers to a part that enters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entered {
    /// The stream's counter, whose row is locked; none where the caller may not write.
    pub(crate) n: Option<i64>,
    /// Whether both devices are the caller's, and not locked out.
    pub(crate) device_known: bool,
}

impl JoinedTx {
    /// `callers` is not empty, and all are of one tenant.
    pub(super) fn new(session: Session, slot: Slot, callers: Vec<Caller>) -> Option<Self> {
        let first = callers.first()?.clone();
        let tenant = first.tenant();
        if callers.iter().any(|caller| caller.tenant() != tenant) {
            return None;
        }
        Some(Self {
            tx: TenantTx::unentered(session, slot, first),
            callers,
            acting: Acting::NotEntered,
        })
    }

    /// Returns the tenant of all parts.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tx.tenant()
    }

    /// Returns the callers, one for each part.
    pub(crate) fn callers(&self) -> &[Caller] {
        &self.callers
    }

    /// Enters all parts and locks the streams that their callers may write, in the order given;
    /// then sends statements in which nobody acts, for tables that row security guards by tenant
    /// alone. Returns one answer for each part, and the rows of each statement.
    pub(crate) async fn enter(
        &mut self,
        parts: &[Entering],
        statements: Vec<Statement<'_>>,
    ) -> Result<(Vec<Entered>, Vec<Vec<Row>>), StoreError> {
        assert_eq!(parts.len(), self.callers.len(), "one part for each caller");
        let tenant = self.tenant().get();
        let users = self.callers.iter().map(|caller| caller.user_id().get());
        let users: Vec<Uuid> = users.collect();
        let logins = self.callers.iter().map(|caller| caller.device_id().get());
        let logins: Vec<Uuid> = logins.collect();
        let devices: Vec<Uuid> = parts.iter().map(|part| part.device).collect();
        let scopes: Vec<Uuid> = parts.iter().map(|part| part.scope).collect();
        let enter = Statement {
            sql: ENTER,
            params: vec![
                (&tenant, Type::UUID),
                (&users, Type::UUID_ARRAY),
                (&logins, Type::UUID_ARRAY),
                (&devices, Type::UUID_ARRAY),
                (&scopes, Type::UUID_ARRAY),
            ],
        };
        let mut all = vec![enter];
        all.extend(statements);
        // What `enter_joined` leaves behind.
        self.acting = Acting::Nobody;
        let mut answers = self.tx.pipeline(&all).await?.into_iter();
        let entered = answers.next().unwrap_or_default();
        let entered = entered.iter().map(|row| {
            let (named, own): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Entered {
                n: row.try_get(0)?,
                device_known: named && own,
            })
        });
        let entered: Vec<Entered> = entered.collect::<Result<_, tokio_postgres::Error>>()?;
        if entered.len() != parts.len() {
            return Err(StoreError::Aborted);
        }
        Ok((entered, answers.collect()))
    }

    /// Lends the transaction to a part: the part's caller acts with the next statement.
    pub(crate) fn part(&mut self, part: usize) -> Result<&mut TenantTx, StoreError> {
        if self.acting == Acting::NotEntered {
            return Err(StoreError::Aborted);
        }
        if self.acting != Acting::Part(part) {
            let caller = self.callers.get(part).ok_or(StoreError::Aborted)?;
            self.tx
                .act_as(caller, format!("select act_as({})", part + 1))?;
            self.acting = Acting::Part(part);
        }
        Ok(&mut self.tx)
    }

    /// Sends statements at once, each in the context of the part beside it.
    pub(crate) async fn of_parts(
        &mut self,
        statements: Vec<(usize, Statement<'_>)>,
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        if self.acting == Acting::NotEntered {
            return Err(StoreError::Aborted);
        }
        self.acting = Acting::Unknown;
        let mut answers = Vec::with_capacity(statements.len());
        let mut statements = statements.into_iter().peekable();
        while statements.peek().is_some() {
            let some: Vec<_> = statements.by_ref().take(AT_ONCE_MAX).collect();
            let parts = some.iter().map(|(part, _)| i32::try_from(part + 1));
            let parts: Vec<i32> = parts
                .collect::<Result<_, _>>()
                .map_err(|_| StoreError::Aborted)?;
            let switches = parts.iter().map(|part| Statement {
                sql: ACT_AS_PART,
                params: vec![(part, Type::INT4)],
            });
            let both = switches.zip(some.into_iter().map(|(_, statement)| statement));
            let all: Vec<_> = both
                .flat_map(|(switch, statement)| [switch, statement])
                .collect();
            let rows = self.tx.pipeline(&all).await?;
            // Every second answer is that of a switch.
            answers.extend(rows.into_iter().skip(1).step_by(2));
        }
        Ok(answers)
    }

    /// Notes that the transaction moved a stream's head, as [`TenantTx::note_head`] does.
    pub(crate) fn note_head(&mut self, scope: Scope, file: File, cursor: Cursor) {
        self.tx.note_head(scope, file, cursor);
    }

    /// Sends statements at once that concern several parts: first those in which nobody acts,
    /// then those that call `act_as` for each row. Parts count from 1 there.
    pub(crate) async fn shared(
        &mut self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.begin_shared(statements)?;
        self.tx.pipeline(statements).await
    }

    /// Sends statements as [`JoinedTx::shared`] does, and the commit with them.
    pub(crate) async fn shared_and_commit(
        &mut self,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.begin_shared(statements)?;
        self.tx.session()?.pipeline_and_commit(statements).await
    }

    fn begin_shared(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        if self.acting == Acting::NotEntered {
            return Err(StoreError::Aborted);
        }
        let each = |statement: &Statement<'_>| statement.sql.contains(ACT_AS);
        let mut behind = statements.iter().skip_while(|statement| !each(statement));
        assert!(
            behind.all(each),
            "statements in which nobody acts come first"
        );
        if self.acting != Acting::Nobody {
            self.tx.session()?.command_ahead(AS_NOBODY.to_owned());
        }
        self.acting = Acting::Nobody;
        if statements.iter().any(each) {
            self.acting = Acting::Unknown;
        }
        Ok(())
    }
}

//! What a caller may read now and how far it has got: for who follows streams.

use coditect_protocol::catalogue::File;
use coditect_protocol::{Cursor, DeviceId, Epoch, Scope};
use tokio_postgres::types::Type;

use super::SyncError;
use super::access::{self, Question};
use crate::StoreError;
use crate::db::{Statement, TenantTx};

/// All streams of the transaction's scopes: the policy leaves no others.
const HEADS: &str = "select scope_id, head_platform, head_org, head_sessions, head_projects
    from streams where tenant_id = $1
    and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])";
const PLATFORM_HEAD: &str = "select n from platform_stream";

/// The streams that a caller may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// Life of the database.
    pub epoch: Epoch,
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// The heads of those that hold anything.
    pub heads: Vec<(Scope, File, Cursor)>,
}

/// Returns what the caller may read now, with the heads.
///
/// # Errors
///
/// [`StoreError::NotMember`] and [`StoreError::DeviceRevoked`] for a caller who may nothing any
/// more, [`SyncError::DeviceUnknown`] for a device that is not the caller's.
pub async fn readable(tx: &mut TenantTx, device: DeviceId) -> Result<Readable, SyncError> {
    let caller = tx.caller().clone();
    let question = Question::new(&caller, device);
    let tenant = tx.tenant().get();
    let mut statements = Vec::from(question.statements());
    statements.push(Statement {
        sql: HEADS,
        params: vec![(&tenant, Type::UUID)],
    });
    statements.push(Statement {
        sql: PLATFORM_HEAD,
        params: vec![],
    });
    let answers = tx.pipeline(&statements).await?;
    let access = question.read(&answers[..access::STATEMENTS])?;
    let (epoch, scopes) = (access.life.epoch, access.scopes());
    let mut heads = Vec::new();
    for row in &answers[access::STATEMENTS] {
        let id: uuid::Uuid = row.try_get(0).map_err(StoreError::from)?;
        let of_id = |scope: &&Scope| scope.id() == id && **scope != Scope::Platform;
        let Some(scope) = scopes.iter().find(of_id) else {
            continue;
        };
        for (file, column) in File::ALL.into_iter().zip(columns()) {
            let n: i64 = row.try_get(column).map_err(StoreError::from)?;
            if n > 0 {
                heads.push((*scope, file, Cursor { epoch, n }));
            }
        }
    }
    if let Some(row) = answers[access::STATEMENTS + 1].first() {
        let n: i64 = row.try_get(0).map_err(StoreError::from)?;
        if n > 0 {
            heads.push((Scope::Platform, File::Platform, Cursor { epoch, n }));
        }
    }
    Ok(Readable {
        epoch,
        scopes,
        heads,
    })
}

/// Returns the column of each file's head, in the order of `File::ALL`.
fn columns() -> [&'static str; 4] {
    File::ALL.map(|file| match file {
        File::Platform => "head_platform",
        File::Org => "head_org",
        File::Sessions => "head_sessions",
        File::Projects => "head_projects",
    })
}

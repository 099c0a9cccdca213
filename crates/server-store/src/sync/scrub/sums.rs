//! The sums that are kept of a stream's rows, held against the rows.

use chrono::{DateTime, Utc};
use coditect_protocol::catalogue::Table;
use serde_json::json;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::findings::{self, How, Kind, New};
use super::{Place, Round, Step};
use crate::StoreError;
use crate::db::{Db, SystemTask, SystemTx};
use crate::sync::sql;

const NEXT_STREAM: &str = "select scope_id from streams where tenant_id = $1 and scope_id > $2
    order by scope_id limit 1";
/// Reading all rows of a large stream takes longer than a request may.
const LONG: &str = "set local statement_timeout = '10min'";
/// Both what is kept and the rows move with every push, and by the same amount. So a difference
/// found at one moment is right at a later one, and nobody waits while the rows are read.
const CORRECT: &str = "insert into stream_digests
    (tenant_id, scope_id, table_name, origin_device, rows, count, xor)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (tenant_id, scope_id, table_name, origin_device) do update set
    rows = stream_digests.rows + excluded.rows, count = stream_digests.count + excluded.count,
    xor = stream_digests.xor # excluded.xor";

/// Compares the sums of a table in the next stream.
pub(super) async fn step(
    db: &Db,
    round: &mut Round,
    table: &'static Table,
    now: DateTime<Utc>,
) -> Result<Step, StoreError> {
    let (tenant, behind) = (round.tenant, round.place.scope);
    let (scope, wrong) = db
        .system(SystemTask::Scrub, |mut tx| async move {
            compare(&mut tx, table, tenant, behind).await
        })
        .await?;
    let Some(scope) = scope else {
        round.place = Place {
            table: round.place.table + 1,
            ..Place::START
        };
        return Ok(Step::default());
    };
    round.place.scope = scope;
    if wrong.is_empty() {
        return Ok(Step::default());
    }
    let wrong = &wrong;
    let found = db
        .system(SystemTask::Scrub, |mut tx| async move {
            correct(&mut tx, table, (tenant, scope), wrong, now).await
        })
        .await?;
    Ok(Step { rows: 0, found })
}

/// By how much what is kept of an origin's rows is wrong.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    origin: Uuid,
    rows: i64,
    count: i64,
    xor: i64,
}

async fn compare(
    tx: &mut SystemTx,
    table: &Table,
    tenant: Uuid,
    behind: Uuid,
) -> Result<(Option<Uuid>, Vec<Wrong>), StoreError> {
    let params = [(&tenant as _, Type::UUID), (&behind as _, Type::UUID)];
    let Some(row) = tx.query_opt(NEXT_STREAM, &params).await? else {
        return Ok((None, Vec::new()));
    };
    let scope: Uuid = row.try_get(0)?;
    let Some(statements) = sql::scrub(table) else {
        return Ok((Some(scope), Vec::new()));
    };
    tx.execute(LONG, &[]).await?;
    let params = [(&tenant as _, Type::UUID), (&scope as _, Type::UUID)];
    let mut wrong = Vec::new();
    for row in tx.query(&statements.sums, &params).await? {
        wrong.push(Wrong {
            origin: row.try_get(0)?,
            rows: row.try_get(1)?,
            count: row.try_get(2)?,
            xor: row.try_get(3)?,
        });
    }
    Ok((Some(scope), wrong))
}

async fn correct(
    tx: &mut SystemTx,
    table: &'static Table,
    (tenant, scope): (Uuid, Uuid),
    wrong: &[Wrong],
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    findings::lock(tx, tenant, scope).await?;
    let mut news = Vec::with_capacity(wrong.len());
    for wrong in wrong {
        let params = [
            (&tenant as _, Type::UUID),
            (&scope as _, Type::UUID),
            (&table.cloud as _, Type::TEXT),
            (&wrong.origin as _, Type::UUID),
            (&wrong.rows as _, Type::INT8),
            (&wrong.count as _, Type::INT8),
            (&wrong.xor as _, Type::INT8),
        ];
        tx.execute(CORRECT, &params).await?;
        let new = New {
            table: table.cloud,
            kind: Kind::Digest,
            row: None,
            origin: Some(wrong.origin),
            detail: json!({ "rows": wrong.rows, "count": wrong.count }),
        };
        news.push((new, Some(How::Recomputed)));
    }
    findings::note(tx, (tenant, scope), &news, now).await
}

//! The removal itself: a round a day for each tenant, stream by stream, in short transactions.

use std::collections::HashMap;
use std::time::{Duration as Rest, Instant};

use chrono::{DateTime, Duration, Utc};
use coditect_protocol::OrganizationId;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Files, HEADS, LIVE, POSITION, Retention, first_id};
use crate::StoreError;
use crate::audit::{self, Entry};
use crate::credential::{TenantId, random_uuid};
use crate::db::{Db, Param, SystemTask, SystemTx};

/// Time between the starts of two rounds of a tenant.
const EVERY: Duration = Duration::days(1);
/// How long a server may go without a sign of life before its round is another's.
const LEASE: Duration = Duration::minutes(5);
/// Entries that one transaction looks at.
const AT_ONCE: i64 = 500;

/// Who is shut out, because of an erasure for instance, is left as it is.
const MAKE: &str = "insert into history_retention (tenant_id, next_at)
    select tenant_id, $1 from tenants where suspended_at is null on conflict do nothing";
const CLAIM: &str = "select r.tenant_id, r.days, p.history_days, coalesce(p.device_days, 90)
    from history_retention r join tenants t on t.tenant_id = r.tenant_id
    left join plans p on p.name = t.plan
    where (r.tenant_id = $2 or ($2::uuid is null and r.next_at <= $1))
    and (r.lease_until is null or r.lease_until < $1) and t.suspended_at is null
    order by r.next_at limit 1 for update of r skip locked";
const LEASED: &str = "update history_retention set lease_id = $2, lease_until = $3,
    next_at = $4 where tenant_id = $1";
/// First in every transaction: of two servers one goes on.
const HOLD: &str = "update history_retention set lease_until = $3
    where tenant_id = $1 and lease_id = $2";
const COUNT: &str = "update history_retention set versions = versions + $3,
    conflicts = conflicts + $4 where tenant_id = $1 and lease_id = $2";
const STREAMS: &str = "select scope_id from streams where tenant_id = $1 order by scope_id";
/// Backups, restores and erasures that are under way.
const BUSY: &str = "select exists (select from context_backups where tenant_id = $1
        and scope_id = $2 and status = 'running' and lease_until >= $3)
    or exists (select from context_restores where tenant_id = $1
        and scope_id = $2 and status = 'running' and lease_until >= $3)
    or exists (select from erasures where tenant_id = $1 and finished_at is null
        and (user_id is null or user_id = $2))";
/// What came before numbers were kept: the version in its place lies at the head or below it.
const FILL: &str = "with aged as materialized (
        select id from record_history where tenant_id = $1 and scope_id = $2 and id > $3
        and id < $4 order by id limit $5)
    update record_history h set cursor = given.head
    from aged, unnest($6::text[], $7::bigint[]) as given (table_name, head)
    where h.tenant_id = $1 and h.scope_id = $2 and h.id = aged.id and h.cursor is null
    and given.table_name = h.table_name";
const VERSIONS: &str = "with aged as materialized (
        select id, table_name, row_id, cursor, recorded_at from record_history
        where tenant_id = $1 and scope_id = $2 and id > $3 and id < $4 order by id limit $5),
    free as (select aged.id from aged
        join unnest($6::text[], $7::bigint[]) as given (table_name, floor)
            on given.table_name = aged.table_name and aged.cursor <= given.floor
        where aged.recorded_at < $8 and not exists (select from sync_conflicts c
            where c.tenant_id = $1 and c.scope_id = $2 and c.table_name = aged.table_name
            and c.row_id = aged.row_id and c.resolved_at is null)),
    gone as (delete from record_history h using free
        where h.tenant_id = $1 and h.scope_id = $2 and h.id = free.id returning h.recorded_at)
    select (select count(*) from aged), (select id from aged order by id desc limit 1),
        (select count(*) from gone), (select max(recorded_at) from gone)";
const CONFLICTS: &str = "with aged as materialized (
        select id, resolved_at from sync_conflicts
        where tenant_id = $1 and scope_id = $2 and id > $3 and id < $4 order by id limit $5),
    gone as (delete from sync_conflicts c using aged
        where c.tenant_id = $1 and c.scope_id = $2 and c.id = aged.id and aged.resolved_at < $6
        returning c.detected_at)
    select (select count(*) from aged), (select id from aged order by id desc limit 1),
        (select count(*) from gone), (select max(detected_at) from gone)";
const NOTE: &str = "insert into history_floors
    (tenant_id, scope_id, complete_since, days, versions, purged_at)
    values ($1, $2, $3, $4, $5, $6)
    on conflict (tenant_id, scope_id) do update set
    complete_since = greatest(history_floors.complete_since, excluded.complete_since),
    days = excluded.days, versions = history_floors.versions + excluded.versions,
    purged_at = excluded.purged_at";
const FINISH: &str = "update history_retention h set lease_id = null, lease_until = null,
    last_finished_at = $3, last_versions = h.versions, last_conflicts = h.conflicts,
    versions = 0, conflicts = 0
    where h.tenant_id = $1 and h.lease_id = $2
    returning h.last_versions, h.last_conflicts";

/// What a round removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Versions.
    pub versions: i64,
    /// Settled conflicts.
    pub conflicts: i64,
}

/// A tenant's round that this server holds.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    tenant: Uuid,
    lease: Uuid,
    retention: Retention,
}

impl Round {
    /// Returns whose versions are looked at.
    #[must_use]
    pub const fn tenant(&self) -> OrganizationId {
        OrganizationId::new(self.tenant)
    }

    fn held(&self) -> [Param<'_>; 2] {
        [(&self.tenant, Type::UUID), (&self.lease, Type::UUID)]
    }
}

/// Claims a tenant whose round is due and that no other server holds. `server` is the days of the
/// server's configuration: 0 for good, none where plans decide.
///
/// # Errors
///
/// Those of the database.
pub async fn claim(
    db: &Db,
    server: Option<u32>,
    now: DateTime<Utc>,
) -> Result<Option<Round>, StoreError> {
    claim_of(db, None, server, now).await
}

/// Claims a tenant whatever is due; none while another server holds it, or while the tenant is shut
/// out.
///
/// # Errors
///
/// Those of the database.
pub async fn claim_now(
    db: &Db,
    tenant: OrganizationId,
    server: Option<u32>,
    now: DateTime<Utc>,
) -> Result<Option<Round>, StoreError> {
    claim_of(db, Some(tenant.get()), server, now).await
}

async fn claim_of(
    db: &Db,
    wanted: Option<Uuid>,
    server: Option<u32>,
    now: DateTime<Utc>,
) -> Result<Option<Round>, StoreError> {
    let lease = random_uuid()?;
    db.system(SystemTask::Purge, |mut tx| async move {
        tx.execute(MAKE, &[(&now, Type::TIMESTAMPTZ)]).await?;
        let params = [(&now as _, Type::TIMESTAMPTZ), (&wanted as _, Type::UUID)];
        let Some(row) = tx.query_opt(CLAIM, &params).await? else {
            return Ok(None);
        };
        let round = Round {
            tenant: row.try_get(0)?,
            lease,
            retention: Retention::read(&row, server)?,
        };
        let (until, next) = (now + LEASE, now + EVERY);
        let [tenant, lease] = round.held();
        let params = [
            tenant,
            lease,
            (&until as _, Type::TIMESTAMPTZ),
            (&next as _, Type::TIMESTAMPTZ),
        ];
        tx.execute(LEASED, &params).await?;
        Ok::<_, StoreError>(Some(round))
    })
    .await
}

/// Removes what may go, and rests after each transaction as long as that took, but no longer than
/// `rest_max`. What was removed is counted with the round, whoever ends it.
///
/// # Errors
///
/// [`StoreError::Retry`] when another server took the round over; those of the database.
pub async fn run(
    db: &Db,
    round: &Round,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
    rest_max: Rest,
) -> Result<(), StoreError> {
    if round.retention.days.is_none() {
        return Ok(());
    }
    let tenant = round.tenant;
    let streams = db.system(SystemTask::Purge, |mut tx| async move {
        let rows = tx.query(STREAMS, &[(&tenant, Type::UUID)]).await?;
        let ids = rows.iter().map(|row| Ok(row.try_get(0)?));
        ids.collect::<Result<Vec<Uuid>, StoreError>>()
    });
    for scope in streams.await? {
        for kind in [Kind::Versions, Kind::Conflicts] {
            let mut behind = Some(Uuid::nil());
            while let Some(from) = behind {
                let began = Instant::now();
                let at = now();
                behind = step(db, round, scope, kind, from, at).await?;
                if !rest_max.is_zero() {
                    tokio::time::sleep(began.elapsed().min(rest_max)).await;
                }
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Versions,
    Conflicts,
}

/// Removes what may go among the next entries behind `from`; returns where they end, none at the
/// end of the stream.
async fn step(
    db: &Db,
    round: &Round,
    scope: Uuid,
    kind: Kind,
    from: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, StoreError> {
    let Some(cut) = round.retention.cut(now) else {
        return Ok(None);
    };
    let stepped = db.system(SystemTask::Purge, |mut tx| async move {
        let tx = &mut tx;
        let until = now + LEASE;
        let [tenant, lease] = round.held();
        let hold = [tenant, lease, (&until as _, Type::TIMESTAMPTZ)];
        if tx.execute(HOLD, &hold).await? == 0 {
            return Ok(None);
        }
        if is_busy(tx, round, scope, now).await? {
            return Ok(Some(None));
        }
        let window = Window { scope, from, cut };
        let found = match kind {
            Kind::Versions => versions(tx, round, &window, now).await?,
            Kind::Conflicts => conflicts(tx, round, &window).await?,
        };
        note(tx, round, &window, kind, &found, now).await?;
        let more = found.last.filter(|_| found.looked_at == AT_ONCE);
        Ok::<_, StoreError>(Some(more))
    });
    stepped.await?.ok_or(StoreError::Retry {
        reason: "another server took the purge over",
    })
}

async fn is_busy(
    tx: &mut SystemTx,
    round: &Round,
    scope: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let params = [
        (&round.tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&now as _, Type::TIMESTAMPTZ),
    ];
    let row = tx.query_opt(BUSY, &params).await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

/// Entries of a stream behind `from` that are older than `cut`.
struct Window {
    scope: Uuid,
    from: Uuid,
    cut: DateTime<Utc>,
}

/// What was found among the entries of a window.
struct Found {
    looked_at: i64,
    last: Option<Uuid>,
    gone: i64,
    newest: Option<DateTime<Utc>>,
}

impl Found {
    fn read(row: Option<Row>) -> Result<Self, StoreError> {
        let row = row.ok_or(StoreError::NotFound)?;
        Ok(Self {
            looked_at: row.try_get(0)?,
            last: row.try_get(1)?,
            gone: row.try_get(2)?,
            newest: row.try_get(3)?,
        })
    }
}

async fn versions(
    tx: &mut SystemTx,
    round: &Round,
    window: &Window,
    now: DateTime<Utc>,
) -> Result<Found, StoreError> {
    let (files, of_files) = (Files::new(), floors(tx, round, window.scope, now).await?);
    let floor = |file: &&str| of_files.get(*file).copied().unwrap_or_default();
    let (heads, floors): (Vec<i64>, Vec<i64>) = files.files.iter().map(floor).unzip();
    let end = first_id(window.cut);
    let mut params = vec![
        (&round.tenant as _, Type::UUID),
        (&window.scope as _, Type::UUID),
        (&window.from as _, Type::UUID),
        (&end as _, Type::UUID),
        (&AT_ONCE as _, Type::INT8),
        (&files.tables as _, Type::TEXT_ARRAY),
        (&heads as _, Type::INT8_ARRAY),
    ];
    tx.execute(FILL, &params).await?;
    params[6] = (&floors as _, Type::INT8_ARRAY);
    params.push((&window.cut as _, Type::TIMESTAMPTZ));
    Found::read(tx.query_opt(VERSIONS, &params).await?)
}

/// Returns, for each file of a stream, its head and the position that every device which still asks
/// has said that it holds: the head's own where there is none.
async fn floors(
    tx: &mut SystemTx,
    round: &Round,
    scope: Uuid,
    now: DateTime<Utc>,
) -> Result<HashMap<String, (i64, i64)>, StoreError> {
    let live = LIVE.replace("{since}", "$3");
    let sql = format!(
        "select f.file, f.head, coalesce((select min({POSITION}) from device_cursors c, devices d
            where c.tenant_id = $1 and c.scope_id = $2 and c.file = f.file
            and d.tenant_id = $1 and {live}), f.head)
         from streams s cross join cluster k cross join lateral {HEADS}
         where s.tenant_id = $1 and s.scope_id = $2"
    );
    let since = round.retention.live_since(now);
    let params = [
        (&round.tenant as _, Type::UUID),
        (&scope as _, Type::UUID),
        (&since as _, Type::TIMESTAMPTZ),
    ];
    let rows = tx.query(&sql, &params).await?;
    let floor = |row: &Row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
    rows.iter().map(floor).collect()
}

async fn conflicts(tx: &mut SystemTx, round: &Round, window: &Window) -> Result<Found, StoreError> {
    let end = first_id(window.cut);
    let params = [
        (&round.tenant as _, Type::UUID),
        (&window.scope as _, Type::UUID),
        (&window.from as _, Type::UUID),
        (&end as _, Type::UUID),
        (&AT_ONCE as _, Type::INT8),
        (&window.cut as _, Type::TIMESTAMPTZ),
    ];
    Found::read(tx.query_opt(CONFLICTS, &params).await?)
}

/// Notes since when the stream's history is complete, and counts what was removed.
async fn note(
    tx: &mut SystemTx,
    round: &Round,
    window: &Window,
    kind: Kind,
    found: &Found,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Some(newest) = found.newest.filter(|_| found.gone > 0) else {
        return Ok(());
    };
    let (versions, conflicts) = match kind {
        Kind::Versions => (found.gone, 0),
        Kind::Conflicts => (0, found.gone),
    };
    // Later than the newest that is gone, by the least that the database tells apart.
    let since = newest + Duration::microseconds(1);
    let days = round.retention.days.unwrap_or(0).cast_signed();
    let params = [
        (&round.tenant as _, Type::UUID),
        (&window.scope as _, Type::UUID),
        (&since as _, Type::TIMESTAMPTZ),
        (&days as _, Type::INT4),
        (&versions as _, Type::INT8),
        (&now as _, Type::TIMESTAMPTZ),
    ];
    tx.execute(NOTE, &params).await?;
    let [tenant, lease] = round.held();
    let count = [
        tenant,
        lease,
        (&versions as _, Type::INT8),
        (&conflicts as _, Type::INT8),
    ];
    tx.execute(COUNT, &count).await.map(drop)
}

/// Ends a round and returns what it removed; the trail says so when that was anything. The next one
/// is due a day after this one began.
///
/// # Errors
///
/// As [`run`].
pub async fn release(db: &Db, round: &Round, now: DateTime<Utc>) -> Result<Purged, StoreError> {
    let released = db.system(SystemTask::Purge, |mut tx| async move {
        let [tenant, lease] = round.held();
        let params = [tenant, lease, (&now as _, Type::TIMESTAMPTZ)];
        let Some(row) = tx.query_opt(FINISH, &params).await? else {
            return Ok(None);
        };
        let purged = Purged {
            versions: row.try_get(0)?,
            conflicts: row.try_get(1)?,
        };
        if purged != Purged::default() {
            let entry = Entry {
                at: now,
                action: "history.purge",
                resource_type: Some("tenant"),
                resource_id: Some(round.tenant.to_string()),
                detail: json!({
                    "versions": purged.versions,
                    "conflicts": purged.conflicts,
                    "days": round.retention.days,
                }),
            };
            let tenant = TenantId::new(round.tenant);
            audit::record_for(&mut tx, tenant, None, None, &entry).await?;
        }
        Ok::<_, StoreError>(Some(purged))
    });
    released.await?.ok_or(StoreError::Retry {
        reason: "another server took the purge over",
    })
}

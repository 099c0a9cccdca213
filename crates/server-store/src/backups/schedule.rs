//! The schedule (WF-CS-007, WF-CS-008): a full backup of each scope on each day on which it
//! changed, an incremental one in each hour.
//!
//! Any number of servers keep it: the path of a scheduled archive names its day or hour, and a
//! path is asked for once.

use chrono::{DateTime, Duration, DurationRound as _, Utc};
use coditect_protocol::{OrganizationId, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{ENDING, INSERT, folder};
use crate::StoreError;
use crate::credential::random_uuid;
use crate::db::{Db, SystemTask, SystemTx};
use crate::memberships;

/// How long an incremental backup is kept (retention table of seed 002).
pub const INCREMENTAL_DAYS: i64 = 7;
/// How long a full backup of a user, team or project is kept.
pub const FULL_DAYS: i64 = 90;
/// How long a full backup of an organisation is kept.
pub const FULL_ORGANIZATION_DAYS: i64 = 365;
/// Scopes that are looked at in one transaction.
const SCOPES_AT_ONCE: i64 = 500;

/// Scopes behind a place that have changed since their newest full backup and have none on its way,
/// with what there is of each; the last two columns count the jobs of this day and this hour, so
/// that an archive that is written again has a name of its own. The scope with a tenant's id is the
/// organisation's.
const DUE: &str = "select s.tenant_id, s.scope_id,
    coalesce(c.kind, case when s.scope_id = s.tenant_id then 'org' else 'user' end),
    s.n, full_one.created_at, full_one.epoch, full_one.to_n,
    newest.id, newest.created_at, newest.epoch, newest.to_n, l.epoch,
    (select count(*) from context_backups b where b.tenant_id = s.tenant_id
        and b.scope_id = s.scope_id and not b.on_demand and b.backup_type = 'full'
        and b.created_at >= $4),
    (select count(*) from context_backups b where b.tenant_id = s.tenant_id
        and b.scope_id = s.scope_id and not b.on_demand and b.backup_type = 'incremental'
        and b.created_at >= $5)
    from streams s cross join cluster l
    left join scopes c on c.tenant_id = s.tenant_id and c.scope_id = s.scope_id
    left join lateral (select b.created_at, b.epoch, b.to_n from context_backups b
        where b.tenant_id = s.tenant_id and b.scope_id = s.scope_id
        and b.status = 'completed' and b.backup_type = 'full'
        order by b.completed_at desc limit 1) full_one on true
    left join lateral (select b.id, b.created_at, b.epoch, b.to_n from context_backups b
        where b.tenant_id = s.tenant_id and b.scope_id = s.scope_id and b.status = 'completed'
        order by b.completed_at desc limit 1) newest on true
    where s.n > 0 and (s.tenant_id, s.scope_id) > ($1, $2)
    and (full_one.to_n is null or full_one.epoch <> l.epoch or full_one.to_n < s.n)
    and not exists (select from context_backups b
        where b.tenant_id = s.tenant_id and b.scope_id = s.scope_id
        and b.status in ('pending', 'running'))
    order by s.tenant_id, s.scope_id limit $3";

/// Asks for the backups that are due; returns how many.
///
/// # Errors
///
/// Those of the database.
pub async fn ask_for_due(db: &Db, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let (mut asked, mut place) = (0, (Uuid::nil(), Uuid::nil()));
    loop {
        let (more, last) = piece(db, now, place).await?;
        asked += more;
        match last {
            Some(last) => place = last,
            None => return Ok(asked),
        }
    }
}

type Place = (Uuid, Uuid);

/// Looks at the next scopes behind `place`; returns how many backups were asked for, and the last
/// scope unless there are no more.
async fn piece(
    db: &Db,
    now: DateTime<Utc>,
    place: Place,
) -> Result<(u64, Option<Place>), StoreError> {
    db.system(SystemTask::ClaimJob, |mut tx| async move {
        let params = [
            (&place.0 as _, Type::UUID),
            (&place.1 as _, Type::UUID),
            (&SCOPES_AT_ONCE as _, Type::INT8),
            (&day(now) as _, Type::TIMESTAMPTZ),
            (&hour(now) as _, Type::TIMESTAMPTZ),
        ];
        let rows = tx.query(DUE, &params).await?;
        let mut asked = 0;
        for row in &rows {
            if let Some(wanted) = Wanted::of(row, now)? {
                asked += wanted.ask(&mut tx, now).await?;
            }
        }
        let last = rows.last().filter(|_| rows.len() as i64 == SCOPES_AT_ONCE);
        let last = last.map(|row| Ok::<_, StoreError>((row.try_get(0)?, row.try_get(1)?)));
        Ok::<_, StoreError>((asked, last.transpose()?))
    })
    .await
}

/// A backup that is due.
struct Wanted {
    tenant: OrganizationId,
    scope: Scope,
    epoch: String,
    /// The newest backup and the position that it reaches; none for a full one.
    base: Option<(Uuid, i64)>,
    /// Jobs of its kind in this day or hour.
    earlier: i64,
}

impl Wanted {
    fn of(row: &Row, now: DateTime<Utc>) -> Result<Option<Self>, StoreError> {
        let (tenant, scope): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
        let head: i64 = row.try_get(3)?;
        let epoch: String = row.try_get(11)?;
        let same = |column| -> Result<bool, StoreError> {
            Ok(row.try_get::<_, Option<&str>>(column)? == Some(&*epoch))
        };
        let full_at: Option<DateTime<Utc>> = row.try_get(4)?;
        // Of this day and this life; one that reaches the head is not among the rows.
        let full_holds = same(5)? && full_at.is_some_and(|at| day(at) == day(now));
        let newest_at: Option<DateTime<Utc>> = row.try_get(8)?;
        let base = match (row.try_get(7)?, row.try_get(10)?) {
            (Some(id), Some(to)) if same(9)? => Some((id, to)),
            _ => None,
        };
        let base = base.filter(|_| full_holds);
        if let Some((_, to)) = base {
            let this_hour = newest_at.is_some_and(|at| hour(at) == hour(now));
            if this_hour || to == head {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            tenant: OrganizationId::new(tenant),
            scope: memberships::scope_of(row.try_get(2)?, scope)?,
            earlier: row.try_get(if base.is_some() { 13 } else { 12 })?,
            base,
            epoch,
        }))
    }

    /// Makes the job, unless another server was faster.
    async fn ask(&self, tx: &mut SystemTx, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let (tenant, scope_id, id) = (self.tenant.get(), self.scope.id(), random_uuid()?);
        let folder = folder(self.tenant, self.scope);
        let (kind, time, kept) = match (self.base, self.scope) {
            (Some(_), _) => ("incremental", now.format("%Y-%m-%d-%H"), INCREMENTAL_DAYS),
            (None, Scope::Org(_)) => ("full", now.format("%Y-%m-%d"), FULL_ORGANIZATION_DAYS),
            (None, _) => ("full", now.format("%Y-%m-%d"), FULL_DAYS),
        };
        let again = match self.earlier {
            0 => String::new(),
            earlier => format!("-{}", earlier + 1),
        };
        let path = format!("{folder}/{kind}/{time}{again}{ENDING}");
        let (base, from) = (
            self.base.map(|(id, _)| id),
            self.base.map_or(0, |(_, to)| to),
        );
        let (by, expires) = (None::<Uuid>, now + Duration::days(kept));
        let params = [
            (&tenant as _, Type::UUID),
            (&scope_id as _, Type::UUID),
            (&id as _, Type::UUID),
            (&self.scope.kind() as _, Type::TEXT),
            (&kind as _, Type::TEXT),
            (&false as _, Type::BOOL),
            (&path as _, Type::TEXT),
            (&base as _, Type::UUID),
            (&from as _, Type::INT8),
            (&self.epoch as _, Type::TEXT),
            (&by as _, Type::UUID),
            (&now as _, Type::TIMESTAMPTZ),
            (&expires as _, Type::TIMESTAMPTZ),
        ];
        let insert = format!("{INSERT} on conflict do nothing");
        tx.execute(&insert, &params).await
    }
}

fn day(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    at.duration_trunc(Duration::days(1)).ok()
}

fn hour(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    at.duration_trunc(Duration::hours(1)).ok()
}

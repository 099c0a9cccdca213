//! Limits of an organisation's plan: requests in a minute for each of its people, and storage.
//!
//! The numbers are in the database, so that they hold over all servers. Each server takes a share
//! of a person's minute at once and hands it out from memory; what it took and did not use is
//! lost with the minute, never more than a twentieth.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use coditect_protocol::ErrorCode;
use coditect_server_store::credential::Caller;
use coditect_server_store::plans::{self, Plan, Usage};
use coditect_server_store::{Db, StoreError};

use crate::error::AppError;

/// Seconds for which a plan is remembered: a changed one holds everywhere after that.
const PLAN_SECONDS: i64 = 30;
/// Seconds for which an organisation's usage is remembered.
const USAGE_SECONDS: i64 = 10;
/// Share of a minute's requests that a server takes at once.
const SHARE: i64 = 20;
/// Most people and organisations that are remembered.
const ENTRIES_MAX: usize = 65_536;

type Tenant = uuid::Uuid;
type Person = (uuid::Uuid, uuid::Uuid);

/// Counts requests and remembers plans. Clones share what is remembered.
#[derive(Debug, Clone, Default)]
pub struct Limits(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    plans: HashMap<Tenant, (Arc<Plan>, DateTime<Utc>)>,
    usage: HashMap<Tenant, (Usage, DateTime<Utc>)>,
    shares: HashMap<Person, Share>,
}

/// What this server has left of a person's minute.
#[derive(Debug, Clone, Copy)]
struct Share {
    minute: i64,
    left: i64,
    /// Requests of the minute that no server had taken, when this one last asked.
    free: i64,
}

/// Where a person stands in the running minute; for the reply's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests in a minute.
    pub limit: i64,
    /// How many are left, as far as this server knows.
    pub remaining: i64,
    /// Seconds until the next minute.
    pub reset_seconds: i64,
}

impl Limits {
    /// Takes one request of the caller's minute; `None` when the plan has no limit.
    ///
    /// # Errors
    /// [`AppError::TooManyRequests`] when the minute's are used up; those of the store.
    pub async fn take(
        &self,
        db: &Db,
        caller: &Caller,
        now: DateTime<Utc>,
    ) -> Result<Option<Rate>, AppError> {
        let plan = self.plan(db, caller, now).await?;
        let Some(limit) = plan.requests_per_minute else {
            return Ok(None);
        };
        let person = (caller.tenant().get(), caller.user_id().get());
        let minute = now.timestamp().div_euclid(60);
        let reset_seconds = 60 - now.timestamp().rem_euclid(60);
        let rate = |remaining| Rate {
            limit,
            remaining,
            reset_seconds,
        };
        if let Some(remaining) = self.take_from_share(person, minute) {
            return Ok(Some(rate(remaining)));
        }
        let wanted = (limit / SHARE).max(1);
        let lease = plans::take(db, caller, minute, wanted, limit).await?;
        if lease.granted == 0 {
            return Err(AppError::TooManyRequests(rate(0)));
        }
        let share = Share {
            minute: lease.minute,
            left: lease.granted - 1,
            free: (limit - lease.used).max(0),
        };
        let mut known = self.lock();
        make_room(&mut known.shares, |share| share.minute < minute);
        known.shares.insert(person, share);
        Ok(Some(rate(share.left + share.free)))
    }

    fn take_from_share(&self, person: Person, minute: i64) -> Option<i64> {
        let mut known = self.lock();
        let share = known.shares.get_mut(&person)?;
        if share.minute < minute || share.left == 0 {
            return None;
        }
        share.left -= 1;
        Some(share.left + share.free)
    }

    /// Checks that the caller's organisation may store more.
    ///
    /// # Errors
    /// `SYNC_007` when its plan is full; those of the store.
    pub async fn check_storage(
        &self,
        db: &Db,
        caller: &Caller,
        now: DateTime<Utc>,
    ) -> Result<(), AppError> {
        let plan = self.plan(db, caller, now).await?;
        if plan.storage_bytes.is_none() && plan.rows.is_none() {
            return Ok(());
        }
        let usage = self.usage(db, caller, now).await?;
        let full = |used: i64, limit: Option<i64>| limit.is_some_and(|limit| used >= limit);
        let what = if full(usage.bytes, plan.storage_bytes) {
            "storage"
        } else if full(usage.rows, plan.rows) {
            "rows"
        } else {
            return Ok(());
        };
        let detail = format!(
            "the plan {} has no {what} left: delete something, or ask an owner for another plan",
            plan.name
        );
        Err(AppError::refused(ErrorCode::QuotaExceeded, detail))
    }

    async fn plan(
        &self,
        db: &Db,
        caller: &Caller,
        now: DateTime<Utc>,
    ) -> Result<Arc<Plan>, StoreError> {
        let tenant = caller.tenant().get();
        if let Some((plan, read_at)) = self.lock().plans.get(&tenant)
            && is_fresh(*read_at, now, PLAN_SECONDS)
        {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(plans::of_tenant(db, caller).await?);
        let mut known = self.lock();
        make_room(&mut known.plans, |(_, at)| {
            !is_fresh(*at, now, PLAN_SECONDS)
        });
        known.plans.insert(tenant, (Arc::clone(&plan), now));
        Ok(plan)
    }

    async fn usage(
        &self,
        db: &Db,
        caller: &Caller,
        now: DateTime<Utc>,
    ) -> Result<Usage, StoreError> {
        let tenant = caller.tenant().get();
        if let Some((usage, read_at)) = self.lock().usage.get(&tenant)
            && is_fresh(*read_at, now, USAGE_SECONDS)
        {
            return Ok(*usage);
        }
        let usage = plans::usage(db, caller).await?;
        let mut known = self.lock();
        make_room(&mut known.usage, |(_, at)| {
            !is_fresh(*at, now, USAGE_SECONDS)
        });
        known.usage.insert(tenant, (usage, now));
        Ok(usage)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(read_at: DateTime<Utc>, now: DateTime<Utc>, seconds: i64) -> bool {
    (0..seconds).contains(&(now - read_at).num_seconds())
}

/// Forgets what is old when there is no room; all of it when nothing is, which costs a look into
/// the database.
fn make_room<K: Eq + Hash, V>(map: &mut HashMap<K, V>, is_old: impl Fn(&V) -> bool) {
    if map.len() >= ENTRIES_MAX {
        map.retain(|_, value| !is_old(value));
    }
    if map.len() >= ENTRIES_MAX {
        map.clear();
    }
}

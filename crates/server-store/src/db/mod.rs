//! The two doors to the database: [`Db::tenant`], of which [`Db::joined`] is a wider one for
//! several callers of one tenant, and [`Db::system`].
//!
//! Owns the connection pools and shows them to nobody. There is no third door.

pub(crate) mod encryption;
mod joined_tx;
mod replica;
mod session;
mod system_tx;
mod tenant_tx;
#[cfg(test)]
mod tests;
mod timing;

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::NoTls;

use crate::credential::Caller;
use crate::hints::{Announcer, Sink};
use crate::{StoreError, migrations, roles};
pub use encryption::EncryptionError;
use encryption::Target;
pub use joined_tx::JoinedTx;
pub(crate) use joined_tx::{Entered, Entering};
use replica::Replica;
pub use replica::ReplicaCounts;
pub(crate) use session::Param;
pub(crate) use session::Statement;
use session::{Begin, Session, Slot};
pub use system_tx::{SystemTask, SystemTx};
pub use tenant_tx::TenantTx;
pub use timing::Timer;
use timing::Timing;

/// Most attempts of a transaction that meets passing conditions.
const ATTEMPTS_MAX: u32 = 6;
/// Longest wait for a free connection.
const POOL_WAIT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DbSettings {
    /// Connection string of the owner, or of a role that may act as all three.
    pub owner_url: String,
    /// Connection string of the app's role; without it the owner's is used, and every
    /// transaction changes to the app's role.
    pub app_url: Option<String>,
    /// Connection string of the system role; without it as for `app_url`.
    pub system_url: Option<String>,
    /// Connection string for a connection that no pooler stands in front of, over which
    /// instances tell each other what changed; without it they find out by looking.
    pub direct_url: Option<String>,
    /// Connection string of a read replica, as a role that may act as the app's; it takes the
    /// reading of many rows off the database where it is not behind.
    pub replica_url: Option<String>,
    /// Most connections for requests.
    pub app_connections_max: usize,
    /// Most connections for system tasks.
    pub system_connections_max: usize,
}

impl DbSettings {
    /// Returns settings that reach everything through the owner's connection string, with 32
    /// and 8 connections.
    #[must_use]
    pub fn new(owner_url: impl Into<String>) -> Self {
        Self {
            owner_url: owner_url.into(),
            app_url: None,
            system_url: None,
            direct_url: None,
            replica_url: None,
            app_connections_max: 32,
            system_connections_max: 8,
        }
    }
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    app: Door,
    system: Door,
    replica: Option<Replica>,
    direct_url: Option<Hidden>,
    announcer: Announcer,
    timing: Timing,
    /// See [`Caller::is_checked`].
    checked: bool,
}

/// A connection string; it may hold a password and is never printed.
#[derive(Clone)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Hidden")
    }
}

#[derive(Debug, Clone)]
struct Door {
    pool: Pool,
    /// Role to change to in every transaction, when the connection's own is another.
    set_role: Option<&'static str>,
}

/// What a tenant transaction may do and see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED, for writes.
    Write,
    /// REPEATABLE READ and read only: all statements see one moment.
    Snapshot,
}

impl Db {
    /// Connects and checks that the schema is the one that this program knows.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownMigration`], [`StoreError::ChangedMigration`] and
    /// [`StoreError::MissingMigration`] for another schema, [`StoreError::Driver`] when the
    /// database does not answer.
    pub async fn connect(settings: &DbSettings) -> Result<Self, StoreError> {
        warn_of_plain(settings)?;
        let app_url = settings.app_url.as_ref();
        let system_url = settings.system_url.as_ref();
        let owner_url = &settings.owner_url;
        let db = Self {
            app: Door {
                pool: pool(
                    app_url.unwrap_or(owner_url),
                    settings.app_connections_max,
                    POOL_WAIT,
                )?,
                set_role: app_url.is_none().then_some(roles::APP),
            },
            system: Door {
                pool: pool(
                    system_url.unwrap_or(owner_url),
                    settings.system_connections_max,
                    POOL_WAIT,
                )?,
                set_role: system_url.is_none().then_some(roles::SYSTEM),
            },
            replica: replica(settings)?,
            direct_url: settings.direct_url.clone().map(Hidden),
            announcer: Announcer::default(),
            timing: Timing::default(),
            checked: true,
        };
        let connection = db.app.connection().await?;
        migrations::check_applied(&connection).await?;
        Ok(db)
    }

    /// Runs `work` in a transaction that sees the caller's tenant and scopes, and commits it.
    ///
    /// The closure owns the transaction for as long as its future runs, as in
    /// `|mut tx| async move { devices::list(&mut tx).await }`; `Ok` commits, `Err` rolls back.
    /// `label` names the work in logs and metrics. The closure may run several times: when the
    /// database reports a serialization failure, a deadlock or a lock timeout. It must do
    /// nothing but use the transaction.
    ///
    /// # Errors
    ///
    /// What the closure returns, which also rolls back; [`StoreError::NotMember`] when the
    /// caller is no active member of the tenant any more; [`StoreError::DeviceRevoked`] when
    /// the caller's device was locked out; [`StoreError::Retry`] when all attempts met passing
    /// conditions.
    pub async fn tenant<T, E, F, Fut>(
        &self,
        label: &'static str,
        caller: &Caller,
        work: F,
    ) -> Result<T, E>
    where
        F: FnMut(TenantTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        self.tenant_with(Isolation::Write, label, caller, work)
            .await
    }

    /// Runs `work` like [`Db::tenant`], read only and on a snapshot of one moment.
    ///
    /// # Errors
    ///
    /// As [`Db::tenant`].
    pub async fn tenant_snapshot<T, E, F, Fut>(
        &self,
        label: &'static str,
        caller: &Caller,
        work: F,
    ) -> Result<T, E>
    where
        F: FnMut(TenantTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        self.tenant_with(Isolation::Snapshot, label, caller, work)
            .await
    }

    async fn tenant_with<T, E, F, Fut>(
        &self,
        isolation: Isolation,
        label: &'static str,
        caller: &Caller,
        mut work: F,
    ) -> Result<T, E>
    where
        F: FnMut(TenantTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        let begin = |session, slot| {
            let caller = caller.with_checks(self.checked);
            Ok(work(TenantTx::new(session, slot, caller)))
        };
        self.run(&self.app, isolation, label, begin).await
    }

    /// Runs `work` like [`Db::tenant`] in one transaction of several callers of one tenant, of
    /// whom each sees their own scopes only.
    ///
    /// # Errors
    ///
    /// As [`Db::tenant`], whoever of the callers it is about; [`StoreError::Aborted`] when there
    /// are none or they are of several tenants.
    pub async fn joined<T, E, F, Fut>(
        &self,
        label: &'static str,
        callers: &[Caller],
        mut work: F,
    ) -> Result<T, E>
    where
        F: FnMut(JoinedTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        let begin = |session, slot| {
            let callers = callers.iter();
            let callers = callers.map(|caller| caller.with_checks(self.checked));
            let tx = JoinedTx::new(session, slot, callers.collect());
            Ok(work(tx.ok_or(StoreError::Aborted)?))
        };
        self.run(&self.app, Isolation::Write, label, begin).await
    }

    /// Runs one of the listed system tasks in a transaction that row security does not bind.
    ///
    /// # Errors
    ///
    /// As [`Db::tenant`], but for the membership.
    pub async fn system<T, E, F, Fut>(&self, task: SystemTask, work: F) -> Result<T, E>
    where
        F: FnMut(SystemTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        self.system_in(Isolation::Write, task, work).await
    }

    /// Runs a system task like [`Db::system`], with the isolation that it needs.
    pub(crate) async fn system_in<T, E, F, Fut>(
        &self,
        isolation: Isolation,
        task: SystemTask,
        mut work: F,
    ) -> Result<T, E>
    where
        F: FnMut(SystemTx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        let begin = |session, slot| Ok(work(SystemTx::new(session, slot, task)));
        self.run(&self.system, isolation, task.label(), begin).await
    }

    /// Runs what `begin` makes of a new session through `door`, again where the database reports
    /// a passing condition, and tells the timer of every attempt.
    async fn run<T, E, Fut>(
        &self,
        door: &Door,
        isolation: Isolation,
        label: &'static str,
        mut begin: impl FnMut(Session, Slot) -> Result<Fut, StoreError>,
    ) -> Result<T, E>
    where
        Fut: Future<Output = Result<T, E>>,
        E: From<StoreError> + Retryable,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let connection = door.connection().await?;
            let running = self.timing.start(label);
            let settings = Begin {
                isolation,
                set_role: door.set_role,
            };
            let slot = Slot::default();
            let work = begin(Session::new(connection, settings), slot.clone())?;
            let outcome = finish(work.await, &slot, &self.announcer).await;
            drop(running);
            match outcome {
                Err(error) if error.is_retry() && attempt < ATTEMPTS_MAX => {
                    tracing::debug!(label, attempt, "transaction runs again");
                    tokio::time::sleep(pause(attempt)?).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Calls `sink` with the heads that every committed transaction of this store moved.
    pub fn announce_to(&self, sink: Sink) {
        self.announcer.add(sink);
    }

    /// Tells `timer` how long every transaction of this store takes. The first one stays.
    pub fn time_with(&self, timer: Timer) {
        self.timing.set(timer);
    }

    /// Returns the connection string that no pooler stands in front of, if there is one.
    #[must_use]
    pub fn direct_url(&self) -> Option<String> {
        self.direct_url.as_ref().map(|url| url.0.clone())
    }

    /// Returns a store whose program decides nothing about permissions, so that only row
    /// security does; for the test that shows that it suffices.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    #[must_use]
    pub fn without_checks(mut self) -> Self {
        self.checked = false;
        self
    }

    /// Checks that the database answers; for the health route.
    ///
    /// # Errors
    ///
    /// [`StoreError::Retry`] when no connection is free, [`StoreError::Driver`] otherwise.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.app
            .connection()
            .await?
            .simple_query("select 1")
            .await?;
        Ok(())
    }

    /// Closes all idle connections and refuses new ones; running transactions finish.
    pub fn close(&self) {
        self.app.pool.close();
        self.system.pool.close();
        if let Some(replica) = &self.replica {
            replica.door.pool.close();
        }
    }
}

/// Errors of closures, which say whether running the transaction again makes sense.
pub trait Retryable {
    /// Returns whether the transaction may simply be run again.
    fn is_retry(&self) -> bool;
}

impl Retryable for StoreError {
    fn is_retry(&self) -> bool {
        Self::is_retry(self)
    }
}

impl Door {
    /// Returns a connection; waits a moment for a server that is starting again.
    async fn connection(&self) -> Result<Object, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.pool.get().await {
                Ok(connection) => return Ok(connection),
                Err(PoolError::Backend(error)) => StoreError::from(error).without_commit(),
                Err(PoolError::Closed) => return Err(retry("the store is closing")),
                Err(_) => return Err(retry("no free database connection")),
            };
            if !error.is_retry() || attempt >= ATTEMPTS_MAX {
                return Err(error);
            }
            tokio::time::sleep(pause(attempt)?).await;
        }
    }
}

fn retry(reason: &'static str) -> StoreError {
    StoreError::Retry { reason }
}

/// Commits what the closure did, or rolls it back when the closure failed.
async fn finish<T, E>(outcome: Result<T, E>, slot: &Slot, announcer: &Announcer) -> Result<T, E>
where
    E: From<StoreError>,
{
    // The closure's future has ended, so its transaction is back in the slot; unless it was
    // handed on to something that still runs, and then it must not commit.
    match (outcome, slot.take()) {
        (Ok(value), Some(mut session)) => {
            let heads = session.take_heads();
            session.commit().await.map_err(E::from)?;
            announcer.announce(&heads);
            Ok(value)
        }
        (Ok(_), None) => Err(StoreError::Aborted.into()),
        (Err(error), Some(session)) => {
            session.rollback().await;
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// Says in the log where passwords and content would cross a network in the clear.
fn warn_of_plain(settings: &DbSettings) -> Result<(), StoreError> {
    let urls = [
        Some(&settings.owner_url),
        settings.app_url.as_ref(),
        settings.system_url.as_ref(),
        settings.replica_url.as_ref(),
    ];
    let mut warned: Option<String> = None;
    for url in urls.into_iter().flatten() {
        let target = encryption::read(url)?;
        let host = encryption::plain_to(&target.config).map(str::to_owned);
        if let Some(host) = host.filter(|host| warned.as_ref() != Some(host)) {
            tracing::warn!(
                database.host = %host,
                "connections to the database are not encrypted: add sslmode=require, or \
                 sslmode=disable where the network is yours alone"
            );
            warned = Some(host);
        }
    }
    Ok(())
}

/// Returns the way to the replica. It need not answer now: the primary does its work meanwhile.
fn replica(settings: &DbSettings) -> Result<Option<Replica>, StoreError> {
    let Some(url) = &settings.replica_url else {
        return Ok(None);
    };
    Ok(Some(Replica::new(Door {
        pool: pool(url, settings.app_connections_max, replica::WAIT)?,
        set_role: Some(roles::APP),
    })))
}

fn pool(url: &str, connections_max: usize, wait: Duration) -> Result<Pool, StoreError> {
    let Target { mut config, tls } = encryption::read(url)?;
    config
        .application_name("coditect-server")
        .connect_timeout(wait.min(CONNECT_TIMEOUT));
    // A connection comes back committed or rolled back, so nothing is left to be reset.
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, tls, recycling),
        None => Manager::from_config(config, NoTls, recycling),
    };
    let pool = Pool::builder(manager)
        .max_size(connections_max)
        .wait_timeout(Some(wait))
        .create_timeout(Some(wait.min(CONNECT_TIMEOUT)))
        .runtime(Runtime::Tokio1)
        .build();
    pool.map_err(|_| StoreError::Retry {
        reason: "no runtime for the connection pool",
    })
}

/// Returns how long to wait after a failed attempt: doubling, with full jitter, so that two
/// transactions that stopped each other do not meet again.
fn pause(attempt: u32) -> Result<Duration, StoreError> {
    let highest_ms = 10_u64 << attempt.min(6);
    let share = u64::from(crate::credential::random_bytes::<1>()?[0]);
    Ok(Duration::from_millis(1 + highest_ms * share / 255))
}

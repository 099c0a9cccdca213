//! What every handler works with: the database, the keys, the clock, the limits.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use coditect_server_store::Db;
use coditect_server_store::audit::head::HeadKey;
use coditect_server_store::credential::Secrets;
use coditect_server_store::sync::{PageCache, PushQueue, TokenKey};
use tokio::sync::Semaphore;

use crate::app::hints::Hub;
use crate::app::progress::Noted;
use crate::backups::Backups;
use crate::config::HttpConfig;
use crate::database_archive::Archive;
use crate::erasure::Ledger;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::throttle::Throttle;

/// Most large bodies that are unpacked at a time: it is work for the processor, and each takes up
/// to 64 MiB meanwhile.
const UNPACKING_MAX: usize = 4;

/// Shared by all requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The database.
    pub db: Db,
    /// The keys that sign and verify.
    pub secrets: Arc<Secrets>,
    /// The key that signs the tokens of device files.
    pub token_key: Arc<TokenKey>,
    /// Where pushes wait for their turn, and go together.
    pub pushes: PushQueue,
    /// The time of this moment.
    pub clock: Clock,
    /// Listener and limits.
    pub http: Arc<HttpConfig>,
    /// How often somebody may try to log in.
    pub throttle: Throttle,
    /// What the plans of organisations allow.
    pub limits: Limits,
    /// Where backups are kept; nowhere unless somebody says so.
    pub backups: Option<Backups>,
    /// The key that signs notices of erased accounts; devices learn its public half when they log
    /// in. Without it they are told, and believe nothing.
    pub erasure_key: Option<Arc<HeadKey>>,
    /// Where erasures are written down; nowhere unless somebody says so, and then nobody is erased.
    pub ledger: Option<Ledger>,
    /// The archive of the embedded PostgreSQL, where there is one.
    pub database_archive: Option<Archive>,
    /// Who follows which streams.
    pub hints: Hub,
    /// When each device's position was noted last.
    pub noted: Noted,
    /// Pages that many devices ask for at once.
    pub pages: PageCache,
    /// What was counted and timed.
    pub metrics: Metrics,
    /// One permit for each large body that is being unpacked and read; the others wait with what
    /// arrived.
    pub(crate) unpacking: Arc<Semaphore>,
    /// One permit for each request at work.
    pub(crate) permits: Arc<Semaphore>,
}

impl AppState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(db: Db, secrets: Secrets, clock: Clock, http: HttpConfig) -> Self {
        let permits = Arc::new(Semaphore::new(http.requests_max));
        let hints = Hub::of(&db);
        let token_key = Arc::new(TokenKey::new(secrets.file_token_key()));
        let metrics = Metrics::default();
        metrics.time(&db);
        let pushes = PushQueue::new(db.clone(), Arc::clone(&token_key));
        Self {
            pushes,
            db,
            secrets: Arc::new(secrets),
            token_key,
            clock,
            http: Arc::new(http),
            throttle: Throttle::default(),
            limits: Limits::default(),
            backups: None,
            database_archive: None,
            erasure_key: None,
            ledger: None,
            hints,
            noted: Noted::default(),
            pages: PageCache::default(),
            metrics,
            unpacking: Arc::new(Semaphore::new(UNPACKING_MAX)),
            permits,
        }
    }
}

/// Where the time comes from: the system, or a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// Returns the system's clock.
    #[must_use]
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the service's one clock starts here"
        )]
        Self::new(Utc::now)
    }

    /// Makes a clock of a function.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time of this moment.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

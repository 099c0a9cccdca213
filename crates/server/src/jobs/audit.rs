//! Closes blocks of the audit trail and keeps their signed heads beside the backups, where who
//! can write to the database cannot write.

use std::sync::Arc;
use std::time::Duration;

use coditect_backup::{Storage, StorageError};
use coditect_protocol::OrganizationId;
use coditect_server_store::audit::chain::{self, Closing, Fault, Outside, Verdict};
use coditect_server_store::audit::head::{Head, HeadKey, NotSigned, Tip};
use coditect_server_store::{Db, StoreError};

use crate::metrics::Metrics;
use crate::state::{AppState, Clock};

/// How often entries are put into blocks.
const TICK: Duration = Duration::from_secs(60);
/// A head is a few hundred bytes; what is longer is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why a trail could not be chained or checked.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The storage of backups failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is kept there is no head.
    #[error("{path} is no head of an audit trail")]
    NoHead {
        /// Where it is.
        path: String,
    },
    /// Somebody else has written the head.
    #[error("{path}: {source}")]
    NotSigned {
        /// Where it is.
        path: String,
        /// Why.
        source: NotSigned,
    },
}

/// Where heads are kept, and the key that signs them.
#[derive(Debug)]
pub struct Heads {
    storage: Storage,
    key: Arc<HeadKey>,
}

impl Heads {
    /// Puts the two together.
    #[must_use]
    pub fn new(storage: Storage, key: impl Into<Arc<HeadKey>>) -> Self {
        let key = key.into();
        Self { storage, key }
    }

    /// Returns where a tenant's head is.
    #[must_use]
    pub fn path(tenant: OrganizationId) -> String {
        format!("tenants/{tenant}/audit/head.json")
    }

    /// Returns a tenant's head; none when there is none yet.
    ///
    /// # Errors
    /// [`AuditError`] but for [`AuditError::Store`].
    pub async fn read(&self, tenant: OrganizationId) -> Result<Option<Tip>, AuditError> {
        let path = Self::path(tenant);
        let bytes = match self.storage.read(&path, HEAD_BYTES_MAX + 1).await {
            Err(StorageError::NotFound { .. }) => return Ok(None),
            read => read?,
        };
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(AuditError::NoHead { path });
        }
        let head: Head = match serde_json::from_slice(&bytes) {
            Ok(head) => head,
            Err(_) => return Err(AuditError::NoHead { path }),
        };
        match self.key.check(head) {
            Ok(tip) if tip.tenant_id == tenant => Ok(Some(tip)),
            Ok(_) => Err(AuditError::NoHead { path }),
            Err(source) => Err(AuditError::NotSigned { path, source }),
        }
    }

    async fn write(&self, tip: Tip) -> Result<(), AuditError> {
        let path = Self::path(tip.tenant_id);
        let text = format!("{:#}\n", serde_json::json!(self.key.sign(tip)));
        Ok(self.storage.write(&path, text.into_bytes()).await?)
    }
}

/// Closes blocks until the server stops.
pub async fn run(state: AppState, heads: Heads) {
    loop {
        match chain::waiting(&state.db).await {
            Ok(tenants) => {
                for tenant in tenants {
                    let closed = close_all(&state.db, &state.clock, &heads, tenant).await;
                    tell(&state.metrics, tenant, closed);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look at the audit trail"),
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Puts all entries of a tenant into blocks; returns what is wrong with the chain if something
/// is, and then leaves it and its head as they are.
///
/// # Errors
/// [`AuditError`].
pub async fn close_all(
    db: &Db,
    clock: &Clock,
    heads: &Heads,
    tenant: OrganizationId,
) -> Result<Option<Fault>, AuditError> {
    let mut head = heads.read(tenant).await?;
    loop {
        let tip = match chain::close(db, tenant, head.as_ref().into(), clock.now()).await? {
            Closing::Broken(fault) => {
                // Another server may have been between its block and the head.
                let again = heads.read(tenant).await?;
                if again == head {
                    return Ok(Some(fault));
                }
                head = again;
                continue;
            }
            Closing::Closed(tip) => tip,
            Closing::Idle => return Ok(None),
        };
        heads.write(tip.clone()).await?;
        head = Some(tip);
    }
}

/// Closes blocks and checks a tenant's whole trail.
///
/// # Errors
/// [`AuditError`].
pub async fn verify(
    db: &Db,
    clock: &Clock,
    heads: &Heads,
    tenant: OrganizationId,
) -> Result<Verdict, AuditError> {
    // What is wrong with the end is found once more below.
    close_all(db, clock, heads, tenant).await?;
    let head = heads.read(tenant).await?;
    Ok(chain::verify(db, tenant, head.as_ref().into()).await?)
}

/// Makes the database's chain the one that holds, after a restore that everybody knows of; returns
/// the head that was there.
///
/// # Errors
/// [`AuditError`].
pub async fn accept(
    db: &Db,
    clock: &Clock,
    heads: &Heads,
    tenant: OrganizationId,
) -> Result<Option<Tip>, AuditError> {
    let old = heads.read(tenant).await?;
    chain::note_accepted(db, tenant, old.as_ref(), clock.now()).await?;
    loop {
        match chain::close(db, tenant, Outside::Ignored, clock.now()).await? {
            Closing::Closed(tip) => heads.write(tip).await?,
            Closing::Idle | Closing::Broken(_) => return Ok(old),
        }
    }
}

fn tell(metrics: &Metrics, tenant: OrganizationId, closed: Result<Option<Fault>, AuditError>) {
    match closed {
        Ok(None) => {}
        Ok(Some(fault)) => {
            metrics.audit_fault();
            tracing::error!(
                tenant.id = %tenant, audit.block = fault.block, audit.fault = ?fault.kind,
                "the audit trail is not the one whose head is kept outside\n\
                 hint: coditect-server admin audit verify"
            );
        }
        Err(error) => tracing::warn!(
            tenant.id = %tenant, %error, "cannot close blocks of the audit trail"
        ),
    }
}

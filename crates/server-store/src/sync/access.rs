//! Who may read and write which stream, and with which device: the same for push and pull.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coditect_protocol::permissions::Permission;
use coditect_protocol::{DeviceId, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::SyncError;
use super::token::Life;
use crate::StoreError;
use crate::authority::Authority;
use crate::credential::Caller;
use crate::db::{Statement, TenantTx};
use crate::memberships;
use crate::scopes;

const DEVICES: &str = "select id, user_id, revoked_at is not null
    from devices where tenant_id = $1 and id = any ($2)";
/// The life of the database, and the person's standing in the organisation.
const LIFE: &str = "select c.epoch, c.changed_at, m.role, m.permissions
    from memberships m cross join cluster c
    where m.tenant_id = $1 and m.user_id = $2";

/// Number of statements that [`Question::statements`] returns.
pub(super) const STATEMENTS: usize = 3;

/// What has to be read before any work; owns the parameters.
#[derive(Debug)]
pub(super) struct Question {
    tenant: Uuid,
    user: Uuid,
    devices: Vec<Uuid>,
    caller: Caller,
}

impl Question {
    /// Asks about the device named in the request and the one that logged in: after a fence they
    /// differ until the next login.
    pub(super) fn new(caller: &Caller, device: DeviceId) -> Self {
        Self {
            tenant: caller.tenant().get(),
            user: caller.user_id().get(),
            devices: vec![device.get(), caller.device_id().get()],
            caller: caller.clone(),
        }
    }

    pub(super) fn statements(&self) -> [Statement<'_>; STATEMENTS] {
        let tenant = || (&self.tenant as _, Type::UUID);
        let person = || vec![tenant(), (&self.user as _, Type::UUID)];
        [
            Statement {
                sql: DEVICES,
                params: vec![tenant(), (&self.devices, Type::UUID_ARRAY)],
            },
            Statement {
                sql: LIFE,
                params: person(),
            },
            Statement {
                sql: memberships::OF_PERSON,
                params: person(),
            },
        ]
    }

    /// Reads the answers to [`Question::statements`].
    pub(super) fn read(&self, answers: &[Vec<Row>]) -> Result<Access, SyncError> {
        let [devices, life, member_of] = answers else {
            return Err(StoreError::NotFound.into());
        };
        self.check_devices(devices)?;
        let row = life.first().ok_or(StoreError::NotMember)?;
        let (role, grants) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Access {
            authority: Authority::new(&self.caller, role, &grants, member_of)?,
            life: read_life(row)?,
        })
    }

    fn check_devices(&self, rows: &[Row]) -> Result<(), SyncError> {
        let mut found = HashMap::new();
        for row in rows {
            let (id, user, revoked): (Uuid, Uuid, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            found.insert(id, user == self.user && !revoked);
        }
        // A caller without a device of its own, such as a browser, has no row to be revoked.
        let named = found.get(&self.devices[0]) == Some(&true);
        let own = found.get(&self.devices[1]) != Some(&false);
        if named && own {
            Ok(())
        } else {
            Err(SyncError::DeviceUnknown)
        }
    }
}

/// What the caller may do.
#[derive(Debug)]
pub(super) struct Access {
    authority: Authority,
    /// The life of the database.
    pub(super) life: Life,
}

impl Access {
    /// Makes it from what was read for several callers at once.
    pub(super) const fn new(authority: Authority, life: Life) -> Self {
        Self { authority, life }
    }

    /// Returns all scopes whose rows the caller may pull.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut scopes = self.authority.scopes();
        scopes.retain(|scope| self.may(Permission::SyncPull, *scope));
        scopes.push(Scope::Platform);
        scopes
    }

    /// Returns whether the caller may do it in the scope.
    pub(super) fn may(&self, permission: Permission, scope: Scope) -> bool {
        self.authority.may(permission, scope)
    }

    /// Checks that the caller may do it in the scope.
    pub(super) fn require(&self, permission: Permission, scope: Scope) -> Result<(), SyncError> {
        if scope == Scope::Platform && permission == Permission::SyncPush {
            return Err(SyncError::DirectionRefused);
        }
        if self.may(permission, scope) {
            Ok(())
        } else if self.authority.belongs_to(scope) {
            Err(SyncError::PermissionDenied)
        } else {
            Err(SyncError::ScopeNotFound)
        }
    }
}

/// Checks that the caller, on the device, may do it in the scope.
///
/// # Errors
///
/// [`SyncError::PermissionDenied`], [`SyncError::ScopeNotFound`] for a scope that the caller may
/// not know of, [`SyncError::DeviceUnknown`].
pub async fn require(
    tx: &mut TenantTx,
    device: DeviceId,
    permission: Permission,
    scope: Scope,
) -> Result<(), SyncError> {
    let question = Question::new(&tx.caller().clone(), device);
    let answers = tx.pipeline(&question.statements()).await?;
    let access = question.read(&answers)?;
    access.require(permission, scope)?;
    // Who manages the organisation may do it in every team and project, but to none that is not.
    if access.authority.belongs_to(scope) {
        return Ok(());
    }
    match scopes::find(tx, scope).await {
        Ok(_) => Ok(()),
        Err(StoreError::NotFound) => Err(SyncError::ScopeNotFound),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn read_life(row: &Row) -> Result<Life, SyncError> {
    let corrupt = || StoreError::Corrupt {
        table: "cluster",
        row: "epoch".to_owned(),
    };
    let epoch: &str = row.try_get(0)?;
    let since: DateTime<Utc> = row.try_get(1)?;
    let epoch = epoch.parse().map_err(|_| corrupt())?;
    Ok(Life {
        epoch,
        since_us: since.timestamp_micros(),
    })
}

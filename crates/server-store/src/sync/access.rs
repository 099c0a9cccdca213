//! Who may read and write which stream, and with which device: the same for push and pull.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use coditect_protocol::{DeviceId, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::SyncError;
use super::token::Life;
use crate::StoreError;
use crate::credential::Caller;
use crate::db::Statement;
use crate::identity::Role;

const DEVICES: &str = "select id, user_id, revoked_at is not null
    from devices where tenant_id = $1 and id = any ($2)";
const LIFE: &str = "select epoch, changed_at from cluster";
const MEMBER_OF: &str = "select s.scope_id, s.kind, m.role
    from scope_members m
    join scopes s on s.tenant_id = m.tenant_id and s.scope_id = m.scope_id
    where m.tenant_id = $1 and s.tenant_id = $1 and m.user_id = $2
    order by s.scope_id";

/// Number of statements that [`Question::statements`] returns.
pub(super) const STATEMENTS: usize = 3;

/// What has to be read before any work; owns the parameters.
#[derive(Debug)]
pub(super) struct Question {
    tenant: Uuid,
    user: Uuid,
    devices: Vec<Uuid>,
}

impl Question {
    /// Asks about the device named in the request and the one that logged in: after a fence they
    /// differ until the next login.
    pub(super) fn new(caller: &Caller, device: DeviceId) -> Self {
        Self {
            tenant: caller.tenant().get(),
            user: caller.user_id().get(),
            devices: vec![device.get(), caller.device_id().get()],
        }
    }

    pub(super) fn statements(&self) -> [Statement<'_>; STATEMENTS] {
        let tenant = || (&self.tenant as _, Type::UUID);
        [
            Statement {
                sql: DEVICES,
                params: vec![tenant(), (&self.devices, Type::UUID_ARRAY)],
            },
            Statement {
                sql: LIFE,
                params: vec![],
            },
            Statement {
                sql: MEMBER_OF,
                params: vec![tenant(), (&self.user, Type::UUID)],
            },
        ]
    }

    /// Reads the answers to [`Question::statements`].
    pub(super) fn read(&self, answers: &[Vec<Row>]) -> Result<Access, SyncError> {
        let [devices, life, member_of] = answers else {
            return Err(StoreError::NotFound.into());
        };
        self.check_devices(devices)?;
        let mut teams = Vec::new();
        for row in member_of {
            let (id, kind, role): (Uuid, &str, &str) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let scope = match kind {
                "team" => Scope::Team(id),
                "project" => Scope::Project(id),
                _ => continue,
            };
            teams.push((scope, role != "viewer"));
        }
        Ok(Access {
            tenant: self.tenant,
            user: self.user,
            teams,
            life: read_life(life)?,
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
    tenant: Uuid,
    user: Uuid,
    /// Teams and projects, with whether the caller writes there.
    teams: Vec<(Scope, bool)>,
    /// The life of the database.
    pub(super) life: Life,
}

impl Access {
    /// Returns all scopes that the caller may read.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut scopes = vec![Scope::User(self.user), Scope::Org(self.tenant)];
        scopes.extend(self.teams.iter().map(|(scope, _)| *scope));
        scopes.push(Scope::Platform);
        scopes
    }

    /// Checks that the caller may read the scope.
    pub(super) fn read(&self, scope: Scope) -> Result<(), SyncError> {
        if self.scopes().contains(&scope) {
            Ok(())
        } else {
            Err(SyncError::ScopeNotFound)
        }
    }

    /// Checks that the caller may write the scope; `role` is the one in the organisation.
    pub(super) fn write(&self, scope: Scope, role: Option<Role>) -> Result<(), SyncError> {
        self.read(scope)?;
        let may_write = match scope {
            Scope::User(_) => true,
            Scope::Org(_) => role.is_some_and(Role::may_write_organisation),
            Scope::Team(_) | Scope::Project(_) => self.teams.contains(&(scope, true)),
            Scope::Platform => return Err(SyncError::DirectionRefused),
        };
        if may_write {
            Ok(())
        } else {
            Err(SyncError::PermissionDenied)
        }
    }
}

fn read_life(rows: &[Row]) -> Result<Life, SyncError> {
    let corrupt = || StoreError::Corrupt {
        table: "cluster",
        row: "epoch".to_owned(),
    };
    let row = rows.first().ok_or_else(corrupt)?;
    let epoch: &str = row.try_get(0)?;
    let since: DateTime<Utc> = row.try_get(1)?;
    let epoch = epoch.parse().map_err(|_| corrupt())?;
    Ok(Life {
        epoch,
        since_us: since.timestamp_micros(),
    })
}

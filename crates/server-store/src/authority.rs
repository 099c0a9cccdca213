//! What a caller may do, decided from roles by the table in `coditect_protocol::permissions`.
//! Row security decides the same once more by itself.

use coditect_protocol::Scope;
use coditect_protocol::permissions::{Permission, RULES, ScopeRole, Standing};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::StoreError;
use crate::credential::Caller;
use crate::db::{Statement, TenantTx};
use crate::memberships::{self, Belonging};

const STANDING: &str = "select role, permissions from memberships
    where tenant_id = $1 and user_id = $2";

/// What a caller may do at this moment.
#[derive(Clone, Debug)]
pub struct Authority {
    tenant: Uuid,
    user: Uuid,
    standing: Standing,
    /// Teams and projects, each once with the highest role.
    belongings: Vec<Belonging>,
    checked: bool,
}

impl Authority {
    /// Reads what the transaction's caller may do.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMember`], those of the database.
    pub async fn of(tx: &mut TenantTx) -> Result<Self, StoreError> {
        let caller = tx.caller().clone();
        let (tenant, user) = (caller.tenant().get(), caller.user_id().get());
        let params = || vec![(&tenant as _, Type::UUID), (&user as _, Type::UUID)];
        let statement = |sql| Statement {
            sql,
            params: params(),
        };
        let statements = [statement(STANDING), statement(memberships::OF_PERSON)];
        let answers = tx.pipeline(&statements).await?;
        let row = answers[0].first().ok_or(StoreError::NotMember)?;
        Self::new(&caller, row.try_get(0)?, &row.try_get(1)?, &answers[1])
    }

    /// Makes the authority of a caller from role, grants and rows of
    /// [`memberships::OF_PERSON`].
    pub(crate) fn new(
        caller: &Caller,
        role: &str,
        permissions: &Value,
        belongings: &[Row],
    ) -> Result<Self, StoreError> {
        let belongings: Result<_, StoreError> = belongings.iter().map(Belonging::read).collect();
        Ok(Self {
            tenant: caller.tenant().get(),
            user: caller.user_id().get(),
            standing: memberships::standing(role, permissions)?,
            belongings: memberships::highest(belongings?),
            checked: caller.is_checked(),
        })
    }

    /// Returns whether the program itself decides; not so in the tests that show what row
    /// security does alone.
    #[must_use]
    pub const fn is_checked(&self) -> bool {
        self.checked
    }

    /// Returns the caller's standing in the organisation.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns whether the caller may do it in the scope.
    #[must_use]
    pub fn may(&self, permission: Permission, scope: Scope) -> bool {
        !self.checked || self.is_allowed(permission, scope)
    }

    /// Returns what the caller may do in the scope, in the order of the table.
    #[must_use]
    pub fn permissions(&self, scope: Scope) -> Vec<Permission> {
        let all = RULES.iter().map(|rule| rule.permission);
        all.filter(|permission| self.is_allowed(*permission, scope))
            .collect()
    }

    /// Returns the caller's role in a team or project.
    #[must_use]
    pub fn role_in(&self, scope: Scope) -> Option<ScopeRole> {
        self.belonging(scope).map(|belonging| belonging.role)
    }

    /// Returns whether the caller belongs to the scope, so that it may be named to the caller.
    #[must_use]
    pub fn belongs_to(&self, scope: Scope) -> bool {
        match scope {
            Scope::User(user) => user == self.user,
            Scope::Org(tenant) => tenant == self.tenant,
            Scope::Team(_) | Scope::Project(_) => self.belonging(scope).is_some(),
            Scope::Platform => true,
        }
    }

    /// Returns whether the caller may know of a team or project of the organisation: its
    /// members, and those who manage all of them.
    #[must_use]
    pub fn knows(&self, scope: Scope) -> bool {
        !self.checked || self.belongs_to(scope) || self.standing.role.manages_scopes()
    }

    /// Returns the scopes that the caller belongs to, the own and the organisation's first.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let mut scopes = vec![Scope::User(self.user), Scope::Org(self.tenant)];
        scopes.extend(self.belongings.iter().map(|belonging| belonging.scope));
        scopes
    }

    fn is_allowed(&self, permission: Permission, scope: Scope) -> bool {
        let held = self.belonging(scope);
        let role = held.map(|belonging| belonging.role);
        // Into the archive nothing is written.
        let frozen = held.is_some_and(|belonging| belonging.archived);
        let open = !(frozen && permission == Permission::SyncPush);
        match scope {
            Scope::User(user) => user == self.user,
            Scope::Org(tenant) => {
                tenant == self.tenant && self.standing.in_organization(permission)
            }
            Scope::Team(_) => self.standing.in_team(permission, role) && open,
            Scope::Project(_) => self.standing.in_project(permission, role) && open,
            Scope::Platform => permission == Permission::SyncPull,
        }
    }

    fn belonging(&self, scope: Scope) -> Option<&Belonging> {
        self.belongings.iter().find(|one| one.scope == scope)
    }
}

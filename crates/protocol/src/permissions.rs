//! Who may do what: the one table of roles and permissions.
//!
//! Both sides of the server read it, `docs/PERMISSIONS.md` is made from it, and a test holds the
//! database's function `enter` against it. It decides nothing about a person's own scope, where
//! everything is allowed.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! roles {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All roles in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name in the database, in tokens and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the role called `name`, or `None`.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|role| role.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

roles! {
    /// A person's role in an organisation.
    OrganizationRole {
        /// Everything; the only one who may give the organisation away.
        Owner = "owner",
        /// All but billing and deleting the organisation.
        Admin = "admin",
        /// Own data, and sharing it.
        Member = "member",
        /// Reads what is shared.
        Viewer = "viewer",
        /// Reads what is shared but for conversations, and the audit trail.
        Auditor = "auditor",
        /// Reads what is shared but for conversations, and analytics.
        Executive = "executive",
    }
}

roles! {
    /// A person's role in a project or a team; each has what the one before it has. Teams give
    /// out no `viewer`.
    ScopeRole {
        /// Reads.
        Viewer = "viewer",
        /// Reads and writes.
        Member = "member",
        /// Manages members, backs up and restores.
        Admin = "admin",
        /// Everything; a team or project always has one.
        Owner = "owner",
    }
}

/// What a permission is about, which decides whose role gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// What is stored in a scope. In a team or project the role there gives it, as far as the
    /// organisation role is not one of those that only read.
    Content,
    /// A scope itself: its name, members and backups. As with content; owners and admins of the
    /// organisation have it in every team and project besides.
    Management,
    /// The organisation only.
    Organization,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The permission.
    pub permission: Permission,
    /// What it is about.
    pub area: Area,
    /// Organisation roles that have it.
    pub organization: &'static [OrganizationRole],
    /// The least role in a team that has it; none where teams have nothing of the kind.
    pub team: Option<ScopeRole>,
    /// The least role in a project that has it.
    pub project: Option<ScopeRole>,
    /// Whether it can be granted to a single member, or taken away (`memberships.permissions`).
    pub grantable: bool,
    /// What it lets one do.
    pub text: &'static str,
}

macro_rules! permissions {
    ($($variant:ident = $name:literal, $area:ident, $organization:expr, $team:expr, $project:expr,
        $grantable:literal, $text:literal;)+) => {
        /// A thing that somebody may be allowed to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $text] #[serde(rename = $name)] $variant,)+
        }

        impl Permission {
            /// Returns the name, such as `members:invite`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        /// The table.
        pub const RULES: &[Rule] = &[$(Rule {
            permission: Permission::$variant,
            area: Area::$area,
            organization: $organization,
            team: $team,
            project: $project,
            grantable: $grantable,
            text: $text,
        },)+];
    };
}

use OrganizationRole::{Admin, Auditor, Executive, Member, Owner, Viewer};

const ALL: &[OrganizationRole] = OrganizationRole::ALL;
const OWNER: &[OrganizationRole] = &[Owner];
const MANAGERS: &[OrganizationRole] = &[Owner, Admin];
const WRITERS: &[OrganizationRole] = &[Owner, Admin, Member];
const READERS: &[OrganizationRole] = &[Owner, Admin, Member, Viewer];
const AUDITORS: &[OrganizationRole] = &[Owner, Admin, Auditor];
const ANALYSTS: &[OrganizationRole] = &[Owner, Admin, Executive];

const V: Option<ScopeRole> = Some(ScopeRole::Viewer);
const M: Option<ScopeRole> = Some(ScopeRole::Member);
const A: Option<ScopeRole> = Some(ScopeRole::Admin);
const O: Option<ScopeRole> = Some(ScopeRole::Owner);
const NO: Option<ScopeRole> = None;

permissions! {
    SyncPull = "sync:pull", Content, READERS, V, V, true,
        "Pull rows to a device; read sprints, tracks, metrics and calibrations.";
    SyncPush = "sync:push", Content, WRITERS, M, M, true,
        "Push rows from a device.";
    MessagesRead = "messages:read", Content, READERS, V, V, true,
        "Read conversations: sessions, messages and what was measured in them. Granted and denied \
        together with `tasks:read`.";
    TasksRead = "tasks:read", Content, READERS, V, V, true,
        "Read tasks.";
    CheckpointsCreate = "checkpoints:create", Content, WRITERS, M, M, false,
        "Add checkpoints.";
    CheckpointsRead = "checkpoints:read", Content, ALL, V, V, false,
        "Read checkpoints.";
    CheckpointsUpdate = "checkpoints:update", Content, WRITERS, M, M, false,
        "Change checkpoints.";
    CheckpointsDelete = "checkpoints:delete", Content, MANAGERS, A, A, false,
        "Delete checkpoints.";
    DecisionsCreate = "decisions:create", Content, WRITERS, M, M, false,
        "Add decisions.";
    DecisionsRead = "decisions:read", Content, ALL, V, V, false,
        "Read decisions.";
    DecisionsUpdate = "decisions:update", Content, WRITERS, M, M, false,
        "Change and delete decisions.";
    LearningsCreate = "learnings:create", Content, WRITERS, M, M, false,
        "Add learnings.";
    LearningsRead = "learnings:read", Content, ALL, V, V, false,
        "Read learnings.";
    LearningsUpdate = "learnings:update", Content, WRITERS, M, M, false,
        "Change and delete learnings.";
    RowsMove = "rows:move", Content, MANAGERS, A, A, false,
        "Move other people's rows to another shared scope. Everybody who may push to both scopes \
        moves the own ones.";
    ConflictsRead = "conflicts:read", Content, READERS, V, V, false,
        "See versions that lost a conflict.";
    ConflictsResolve = "conflicts:resolve", Content, WRITERS, M, M, false,
        "Settle conflicts.";
    BackupsRead = "backups:read", Management, MANAGERS, A, A, true,
        "List backups.";
    BackupsCreate = "backups:create", Management, MANAGERS, A, A, true,
        "Back up.";
    BackupsRestore = "backups:restore", Management, MANAGERS, A, A, true,
        "Restore from a backup. It writes there, so `sync:push` is needed as well.";
    MembersRead = "members:read", Management, ALL, V, V, false,
        "See who the members are.";
    MembersInvite = "members:invite", Management, MANAGERS, A, A, false,
        "Invite and add members, see and take back invitations.";
    MembersUpdate = "members:update", Management, MANAGERS, A, A, false,
        "Change roles.";
    MembersRemove = "members:remove", Management, MANAGERS, A, A, false,
        "Remove members. Everybody may leave.";
    TeamsCreate = "teams:create", Organization, MANAGERS, NO, NO, false,
        "Make teams.";
    TeamsRead = "teams:read", Management, ALL, V, NO, false,
        "See a team's name and state.";
    TeamsUpdate = "teams:update", Management, MANAGERS, A, NO, false,
        "Rename a team.";
    TeamsDelete = "teams:delete", Management, MANAGERS, O, NO, false,
        "Put a team into the archive and take it out.";
    ProjectsCreate = "projects:create", Organization, MANAGERS, NO, NO, false,
        "Make projects.";
    ProjectsRead = "projects:read", Management, ALL, NO, V, false,
        "See a project's name, repositories and state.";
    ProjectsUpdate = "projects:update", Management, WRITERS, NO, A, false,
        "Rename a project, link and unlink its repositories.";
    ProjectsDelete = "projects:delete", Management, MANAGERS, NO, O, false,
        "Put a project into the archive and take it out.";
    DevicesRead = "devices:read", Organization, MANAGERS, NO, NO, false,
        "List other people's devices.";
    DevicesRevoke = "devices:revoke", Organization, MANAGERS, NO, NO, false,
        "Lock other people's devices out.";
    LicensesRead = "licenses:read", Organization, MANAGERS, NO, NO, false,
        "List other people's licences.";
    LicensesIssue = "licenses:issue", Organization, MANAGERS, NO, NO, false,
        "Issue licences.";
    LicensesRevoke = "licenses:revoke", Organization, MANAGERS, NO, NO, false,
        "Revoke licences.";
    AuditLogsRead = "audit_logs:read", Organization, AUDITORS, NO, NO, true,
        "Read the audit trail.";
    AuditLogsExport = "audit_logs:export", Organization, AUDITORS, NO, NO, true,
        "Export the audit trail.";
    AnalyticsView = "analytics:view", Organization, ANALYSTS, NO, NO, true,
        "See analytics.";
    ReportsGenerate = "reports:generate", Organization, ANALYSTS, NO, NO, true,
        "Generate reports.";
    OrganizationUpdate = "organization:update", Organization, MANAGERS, NO, NO, false,
        "Change the organisation's name and settings.";
    OrganizationDelete = "organization:delete", Organization, OWNER, NO, NO, false,
        "Delete the organisation.";
    BillingManage = "billing:manage", Organization, OWNER, NO, NO, false,
        "Change plan and payment.";
}

impl Permission {
    /// Returns the permission's line in the table.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        // The enum and the table are made from one list, in one order.
        &RULES[self as usize]
    }

    /// Returns the permission called `name`, or `None`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let found = RULES.iter().find(|rule| rule.permission.as_str() == name);
        found.map(|rule| rule.permission)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl OrganizationRole {
    /// Returns whether the role only reads, whatever role its holder has in a team or project:
    /// there it allows no more than in the organisation.
    #[must_use]
    pub const fn only_reads(self) -> bool {
        matches!(self, Viewer | Auditor | Executive)
    }

    /// Returns whether the role manages all teams and projects.
    #[must_use]
    pub const fn manages_scopes(self) -> bool {
        matches!(self, Owner | Admin)
    }
}

/// What single members were granted or denied besides their role: `memberships.permissions`,
/// an object of permission and true or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<(Permission, bool)>);

impl Grants {
    /// Reads the column; names that are none, or that cannot be granted, mean nothing.
    #[must_use]
    pub fn read(column: &serde_json::Value) -> Self {
        let given = column.as_object().into_iter().flatten();
        let known = given.filter_map(|(name, value)| {
            let permission = Permission::parse(name)?;
            Some((permission, value.as_bool()?)).filter(|_| permission.rule().grantable)
        });
        Self(known.collect())
    }

    fn of(&self, permission: Permission) -> Option<bool> {
        let found = self.0.iter().find(|(granted, _)| *granted == permission);
        found.map(|(_, value)| *value)
    }
}

/// A person's standing in the organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: OrganizationRole,
    /// What was granted or denied besides; an owner is denied nothing.
    pub grants: Grants,
}

impl Standing {
    /// Returns whether the person may do it in the organisation's scope, or to the organisation.
    #[must_use]
    pub fn in_organization(&self, permission: Permission) -> bool {
        let by_role = permission.rule().organization.contains(&self.role);
        match self.grants.of(permission) {
            Some(true) => true,
            Some(false) => self.role == Owner,
            None => by_role,
        }
    }

    /// Returns whether the person may do it in a team, where `role` is held, if any is.
    #[must_use]
    pub fn in_team(&self, permission: Permission, role: Option<ScopeRole>) -> bool {
        self.in_scope(permission, role, permission.rule().team)
    }

    /// Returns whether the person may do it in a project, where `role` is held, if any is.
    #[must_use]
    pub fn in_project(&self, permission: Permission, role: Option<ScopeRole>) -> bool {
        self.in_scope(permission, role, permission.rule().project)
    }

    fn in_scope(
        &self,
        permission: Permission,
        held: Option<ScopeRole>,
        least: Option<ScopeRole>,
    ) -> bool {
        let Some(least) = least else {
            return false;
        };
        let manages = permission.rule().area == Area::Management && self.role.manages_scopes();
        let denied = self.grants.of(permission) == Some(false) && self.role != Owner;
        let capped = denied || self.role.only_reads() && !self.in_organization(permission);
        manages || held.is_some_and(|held| held >= least) && !capped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn standing(role: OrganizationRole) -> Standing {
        Standing {
            role,
            grants: Grants::default(),
        }
    }

    #[test]
    fn names_are_unique_and_lines_are_found() {
        for rule in RULES {
            assert_eq!(rule.permission.rule().permission, rule.permission);
            assert_eq!(
                Permission::parse(rule.permission.as_str()),
                Some(rule.permission)
            );
            assert!(rule.organization.contains(&Owner), "{}", rule.permission);
        }
    }

    #[test]
    fn those_who_only_read_have_no_permission_to_write() {
        let reads = |name: &str| {
            ["read", "pull", "view", "export", "generate"]
                .iter()
                .any(|verb| name.ends_with(&format!(":{verb}")))
        };
        for rule in RULES {
            for role in rule.organization.iter().filter(|role| role.only_reads()) {
                assert!(
                    reads(rule.permission.as_str()),
                    "{role} {}",
                    rule.permission
                );
            }
        }
    }

    #[test]
    fn whoever_may_write_may_read() {
        for role in OrganizationRole::ALL {
            if standing(*role).in_organization(Permission::SyncPush) {
                for needed in [
                    Permission::SyncPull,
                    Permission::MessagesRead,
                    Permission::TasksRead,
                ] {
                    assert!(standing(*role).in_organization(needed), "{role} {needed}");
                }
            }
        }
    }

    #[test]
    fn the_role_in_a_project_counts_within_that_of_the_organisation() {
        let push = Permission::SyncPush;
        assert!(standing(Member).in_project(push, Some(ScopeRole::Member)));
        assert!(!standing(Member).in_project(push, Some(ScopeRole::Viewer)));
        assert!(!standing(Member).in_project(push, None));
        assert!(!standing(Viewer).in_project(push, Some(ScopeRole::Owner)));
        assert!(!standing(Owner).in_project(push, None));
        assert!(standing(Owner).in_project(Permission::MembersInvite, None));
        assert!(!standing(Member).in_project(Permission::MembersInvite, None));
        assert!(!standing(Owner).in_team(Permission::ProjectsUpdate, Some(ScopeRole::Owner)));
    }

    #[test]
    fn grants_add_and_take_away_what_can_be_granted() {
        let granted = |role, column| Standing {
            role,
            grants: Grants::read(&column),
        };
        let audits = granted(Member, json!({"audit_logs:read": true, "x": true}));
        assert!(audits.in_organization(Permission::AuditLogsRead));
        let promoted = granted(Member, json!({"members:update": true}));
        assert!(!promoted.in_organization(Permission::MembersUpdate));
        let quiet = granted(Member, json!({"sync:push": false}));
        assert!(!quiet.in_organization(Permission::SyncPush));
        assert!(!quiet.in_team(Permission::SyncPush, Some(ScopeRole::Owner)));
        assert!(quiet.in_team(Permission::SyncPull, Some(ScopeRole::Owner)));
        let owner = granted(Owner, json!({"sync:push": false}));
        assert!(owner.in_organization(Permission::SyncPush));
        assert_eq!(Grants::read(&json!(null)), Grants::default());
    }
}

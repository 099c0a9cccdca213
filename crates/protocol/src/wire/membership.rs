//! Teams, projects, the organisation, and who belongs to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::permissions::{OrganizationRole, Permission, ScopeRole};
use crate::{OrganizationId, Scope, UserId};

/// `POST /api/v1/teams/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTeam {
    /// Name for people; need not be unique.
    pub name: String,
}

/// `PUT /api/v1/teams/{id}/` and `/api/v1/projects/{id}/`: what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ScopeEdit {
    /// Another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is in the archive, where nothing is written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Team {
    /// Its id; `team:<id>` is its scope.
    pub id: Uuid,
    /// Name for people.
    pub name: String,
    /// When it was made, RFC 3339 UTC.
    pub created_at: String,
    /// When it was put into the archive, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<String>,
    /// The caller's role; none for one who only manages the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ScopeRole>,
    /// What the caller may do there.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub permissions: Vec<Permission>,
}

/// `GET /api/v1/teams/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TeamList {
    /// The teams that the caller may know of, by name.
    pub teams: Vec<Team>,
}

/// How a repository is recognised on any machine; at least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Address of a remote in any spelling; the server keeps one form of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The first commit of its history, 40 or 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_commit: Option<String>,
}

/// `POST /api/v1/projects/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Name for people; need not be unique.
    pub name: String,
    /// Its repository. When a project of it is there already, that one is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Project {
    /// Its id; `project:<id>` is its scope.
    pub id: Uuid,
    /// Name for people.
    pub name: String,
    /// Its repositories' remotes, in the server's form.
    pub remotes: Vec<String>,
    /// The first commits of its repositories.
    pub root_commits: Vec<String>,
    /// When it was made, RFC 3339 UTC.
    pub created_at: String,
    /// When it was put into the archive, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<String>,
    /// The caller's highest role; none for one who only manages the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ScopeRole>,
    /// What the caller may do there.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub permissions: Vec<Permission>,
}

/// `GET /api/v1/projects/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectList {
    /// The projects that the caller may know of, by name.
    pub projects: Vec<Project>,
}

/// A member of a team or project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopeMember {
    /// The person.
    pub user_id: UserId,
    /// E-mail address.
    pub email: String,
    /// Role there.
    pub role: ScopeRole,
    /// Since when, RFC 3339 UTC.
    pub since: String,
}

/// A team that is a member of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TeamMember {
    /// The team.
    pub team_id: Uuid,
    /// Its name.
    pub name: String,
    /// Role that its members have in the project at least.
    pub role: ScopeRole,
    /// Since when, RFC 3339 UTC.
    pub since: String,
}

/// `GET /api/v1/teams/{id}/members/` and `/api/v1/projects/{id}/members/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopeMemberList {
    /// People, by e-mail address.
    pub members: Vec<ScopeMember>,
    /// Of a project: teams, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<TeamMember>,
}

/// `PUT` of a member of a team or project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ScopeRoleEdit {
    /// The role.
    pub role: ScopeRole,
}

/// `GET /api/v1/organization/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Organization {
    /// Its id; `org:<id>` is its scope.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// The caller's role.
    pub role: OrganizationRole,
    /// What the caller may do in the organisation's scope, and to the organisation.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub permissions: Vec<Permission>,
}

/// A member of the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrganizationMember {
    /// The person.
    pub user_id: UserId,
    /// E-mail address.
    pub email: String,
    /// Role.
    pub role: OrganizationRole,
    /// What was granted (true) or denied (false) besides the role; shown to those who manage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, bool>,
    /// Whether the person may log in.
    pub active: bool,
    /// Since when, RFC 3339 UTC.
    pub since: String,
}

/// `GET /api/v1/organization/members/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrganizationMemberList {
    /// The members, by e-mail address; those who were removed are shown to those who manage.
    pub members: Vec<OrganizationMember>,
}

/// `PUT /api/v1/organization/members/{user_id}/`: what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OrganizationMemberEdit {
    /// Another role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<OrganizationRole>,
    /// All that is granted or denied besides the role, by name of the permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
}

/// `POST /api/v1/teams/{id}/invitations/` and `/api/v1/organization/invitations/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// E-mail address of the person.
    pub email: String,
    /// Role: of a team `member`, `admin` or `owner`, else one of the organisation's.
    pub role: String,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Invitation {
    /// Its id.
    pub id: Uuid,
    /// Where to.
    pub scope: Scope,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// Who invited.
    pub invited_by: UserId,
    /// When, RFC 3339 UTC.
    pub created_at: String,
    /// Until when it can be accepted, RFC 3339 UTC.
    pub expires_at: String,
    /// When it was accepted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// When it was taken back, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// What accepts it; answered once, when it is made, and kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// `GET` of invitations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationList {
    /// The invitations, the latest first.
    pub invitations: Vec<Invitation>,
}

/// `POST /api/v1/invitations/accept/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcceptInvitation {
    /// The invitation's secret.
    pub secret: String,
    /// Password for a person who has none yet, at least 12 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What an accepted invitation gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// The organisation.
    pub tenant_id: OrganizationId,
    /// The person.
    pub user_id: UserId,
    /// E-mail address to log in with.
    pub email: String,
    /// Where the person belongs now.
    pub scope: Scope,
    /// The role there.
    pub role: String,
}

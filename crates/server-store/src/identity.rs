//! Words of identity that several modules share.

use std::fmt;

/// A person's role in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, and the only one who may give the organisation away.
    Owner,
    /// Members, licences, devices, shared data.
    Admin,
    /// Own data, and sharing it.
    Member,
    /// Reads what is shared.
    Viewer,
    /// Reads what is shared and the audit trail.
    Auditor,
    /// Reads timelines and analytics.
    Executive,
}

impl Role {
    /// All roles, most powerful first.
    pub const ALL: [Self; 6] = [
        Self::Owner,
        Self::Admin,
        Self::Member,
        Self::Viewer,
        Self::Auditor,
        Self::Executive,
    ];

    /// Returns the name in the database, in tokens and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
            Self::Executive => "executive",
        }
    }

    /// Returns the role called `name`, or `None`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Returns whether the role may write rows of the organisation's scope.
    #[must_use]
    pub const fn may_write_organisation(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Member)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

//! Who a row belongs to: a user, a team, a project, the organisation or the platform catalogue.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The local name of the folder owner's own scope; translated at the wire (PROTOCOL 1).
pub const LOCAL_USER: &str = "user";

/// Scope of a row as it travels: `user:<uuid>`, `team:<uuid>`, `project:<uuid>`, `org:<uuid>`
/// or `platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Private to one person.
    User(Uuid),
    /// Shared by a team.
    Team(Uuid),
    /// Shared by a project's members.
    Project(Uuid),
    /// Shared by the organisation; the id is the tenant's.
    Org(Uuid),
    /// The platform catalogue, the same for all tenants.
    Platform,
}

/// A scope string that is none of the five forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidScope(pub String);

impl fmt::Display for InvalidScope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "'{}' is no scope: expected user:, team:, project: or org: with a UUID, or platform",
            self.0
        )
    }
}

impl std::error::Error for InvalidScope {}

impl Scope {
    /// Returns the kind's name, as table `scopes` stores it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Team(_) => "team",
            Self::Project(_) => "project",
            Self::Org(_) => "org",
            Self::Platform => "platform",
        }
    }

    /// Returns the UUID that is part of the server's key; the nil UUID for the platform.
    #[must_use]
    pub const fn id(self) -> Uuid {
        match self {
            Self::User(id) | Self::Team(id) | Self::Project(id) | Self::Org(id) => id,
            Self::Platform => Uuid::nil(),
        }
    }

    /// Returns the string that the device's databases store: the owner's own scope is the
    /// constant `user`, all others are as on the wire.
    #[must_use]
    pub fn to_local(self, owner: Uuid) -> String {
        if self == Self::User(owner) {
            LOCAL_USER.to_owned()
        } else {
            self.to_string()
        }
    }

    /// Reads the string that the device's databases store.
    ///
    /// # Errors
    /// [`InvalidScope`] when it is neither `user` nor a wire scope.
    pub fn from_local(text: &str, owner: Uuid) -> Result<Self, InvalidScope> {
        if text == LOCAL_USER {
            Ok(Self::User(owner))
        } else {
            text.parse()
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => out.write_str("platform"),
            other => write!(out, "{}:{}", other.kind(), other.id()),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "platform" {
            return Ok(Self::Platform);
        }
        let invalid = || InvalidScope(text.chars().take(80).collect());
        let (kind, id) = text.split_once(':').ok_or_else(invalid)?;
        // Only the hyphenated form: one scope has one spelling, because it is part of keys.
        let id = match id.len() {
            36 => id.parse::<Uuid>().map_err(|_| invalid())?,
            _ => return Err(invalid()),
        };
        match kind {
            "user" => Ok(Self::User(id)),
            "team" => Ok(Self::Team(id)),
            "project" => Ok(Self::Project(id)),
            "org" => Ok(Self::Org(id)),
            _ => Err(invalid()),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back() {
        let id = Uuid::from_u128(7);
        for scope in [
            Scope::User(id),
            Scope::Team(id),
            Scope::Project(id),
            Scope::Org(id),
        ] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!("platform".parse(), Ok(Scope::Platform));
    }

    #[test]
    fn own_scope_is_a_constant_locally() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(Scope::User(own).to_local(own), "user");
        assert_eq!(Scope::User(other).to_local(own), format!("user:{other}"));
        assert_eq!(Scope::from_local("user", own), Ok(Scope::User(own)));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "user", "user:", "user:1", "org", "User:x", "platform:"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        let simple = format!("user:{}", Uuid::from_u128(7).simple());
        assert!(simple.parse::<Scope>().is_err());
    }
}

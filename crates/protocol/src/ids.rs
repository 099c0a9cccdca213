//! Newtypes of the identifiers on the wire. The tenant's own type lives in the server's store,
//! because only a verified credential may make one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn new(value: Uuid) -> Self {
                Self(value)
            }

            /// Returns the UUID inside.
            #[must_use]
            pub const fn get(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// A person within one tenant.
    UserId
}
id! {
    /// One installation on one machine. The folder makes it, the server confirms it.
    DeviceId
}
id! {
    /// A synced row; unique within its tenant and scope only.
    RowId
}
id! {
    /// One push request; sending it again changes nothing.
    BatchId
}
id! {
    /// A tenant as it appears in a reply. Proves nothing: the server never reads one back.
    OrganizationId
}

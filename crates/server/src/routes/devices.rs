//! `/api/v1/devices/`: the machines of a person, and for owners and admins all of the
//! organisation.

pub(crate) mod list;
pub(crate) mod revoke;

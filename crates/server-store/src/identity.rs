//! Words of identity that several modules share.

pub use coditect_protocol::permissions::OrganizationRole as Role;

//! What client and server agree on: the table catalogue, ids, versions, wire types, limits
//! and error codes. No I/O, no async, no database.
#![warn(missing_docs)]

pub mod catalogue;
pub mod error;
pub mod ids;
pub mod limits;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod permissions;
pub mod scope;
pub mod version;
pub mod wire;

pub use error::{ErrorCode, Problem};
pub use ids::{BatchId, DeviceId, OrganizationId, RowId, UserId};
pub use scope::Scope;
pub use version::{Cursor, Epoch, Version};

/// Version of the wire API, sent with every push and pull. A server serves clients two minor
/// versions older (DESIGN 4).
pub const API_VERSION: &str = "1.0";

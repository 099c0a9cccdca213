//! PostgreSQL: the embedded server, roles, migrations, tenant transactions, credentials.
//!
//! The only crate that names the PostgreSQL driver. All access goes through [`Db`]: one door for
//! callers, whose transactions see one tenant and the caller's scopes only, and one for the
//! listed system tasks.

#![warn(missing_docs)]

pub mod admin;
pub mod audit;
mod authority;
pub mod backups;
pub mod cluster;
pub mod credential;
mod db;
pub mod devices;
pub mod embedded;
pub mod erasure;
mod error;
pub mod hints;
pub mod history;
pub mod identity;
pub mod invitations;
pub mod measure;
pub mod members;
mod memberships;
pub mod migrations;
pub mod organization;
pub mod plans;
pub mod projects;
pub mod roles;
pub mod scopes;
pub mod sync;
pub mod transfer;

pub use authority::Authority;
pub use credential::{Caller, TenantId};
pub use db::{
    Db, DbSettings, EncryptionError, Isolation, JoinedTx, ReplicaCounts, Retryable, SystemTask,
    SystemTx, TenantTx, Timer,
};
pub use error::StoreError;

//! Push and pull on PostgreSQL: streams, tokens, digests, conflicts.
//!
//! Owns the synced tables and what is kept beside them. What becomes of a change is decided by
//! [`coditect_core::merge`]; this module reads, locks, numbers and writes.

mod access;
pub mod catalogue;
mod columns;
mod conflicts;
pub mod dump;
mod error;
mod escape;
#[cfg(feature = "fault-injection")]
mod faults;
mod held;
mod heads;
#[cfg(test)]
mod plans;
mod pull;
mod push;
mod sql;
mod token;
mod validate;
pub mod views;

pub use conflicts::{CONFLICTS_MAX, ConflictEntry, conflicts};
pub use error::SyncError;
#[cfg(feature = "fault-injection")]
#[doc(hidden)]
pub use faults::Faults;
pub use pull::pull;
pub use heads::{Readable, readable};
pub use push::{PushContext, push};
pub use token::TokenKey;

//! Push and pull on PostgreSQL: streams, tokens, digests, conflicts.
//!
//! Owns the synced tables and what is kept beside them. What becomes of a change is decided by
//! [`coditect_core::merge`]; this module reads, locks, numbers and writes.

mod access;
pub mod archive;
pub mod bodies;
pub mod catalogue;
mod columns;
mod conflicts;
pub mod dump;
mod error;
mod escape;
#[cfg(feature = "fault-injection")]
mod faults;
mod guards;
mod heads;
mod held;
mod history;
pub(crate) mod person;
#[cfg(test)]
mod plans;
pub mod progress;
mod pull;
mod push;
pub mod scrub;
mod sql;
mod token;
mod validate;
pub mod views;

pub use access::require;
pub use conflicts::{CONFLICTS_MAX, ConflictEntry, conflicts};
pub use error::SyncError;
#[cfg(feature = "fault-injection")]
#[doc(hidden)]
pub use faults::Faults;
#[cfg(feature = "fault-injection")]
#[doc(hidden)]
pub use guards::{Guard, without};
pub use heads::{Readable, readable};
pub use history::{Settlement, VERSIONS_MAX, history, restore_version, settle};
pub use pull::{Gate, Looked, Lookups, PageCache, Pulled, look, pull};
pub(crate) use push::take_in;
pub use push::{
    ArchivedPart, ArchivedRow, PushContext, PushQueue, Restore, RestoreError, RestoreMode,
    Restored, TakenIn, TrialError, Tried, move_rows, push, restore, try_restore,
};
pub use sql::{insert_text, page_text};
pub use token::TokenKey;

//! Pure sync logic: canonical rows, hashes, versions, merge, digests, redaction and the sync
//! state machine. No I/O, no clock of its own, no database.
#![warn(missing_docs)]

pub mod backoff;
pub mod body;
pub mod canonical;
pub mod clock;
pub mod digest;
pub mod hash;
pub mod hex;
pub mod merge;
pub mod prices;
pub mod redact;
pub mod repository;
pub mod sync;

//! Pure sync logic: hashes, versions, merge, digests, redaction, the sync state machine.

pub mod redact;

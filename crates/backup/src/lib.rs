//! Backups: the format of a scope's archive, the archive of a whole database, and where both are
//! kept.
//!
//! Knows no database: rows come in and go out as they travel on the wire. What a restore does
//! with them is the store's to decide.

mod archive;
pub mod database;
mod encryption;
mod seal;
mod staged;
mod storage;

pub use archive::{
    ArchiveError, BYTES_PER_LINE_MAX, CounterPart, End, FORMAT, FORMAT_VERSION, Kind, Line,
    Manifest, Reader, Record, Sealed, Writer,
};
pub use encryption::{EncryptionError, Keys, is_encrypted};
pub use storage::{Settings, Storage, StorageError, Stored, Upload};

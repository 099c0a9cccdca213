//! Agent transcripts and hook input, parsed into rows.
//!
//! Owns the reading of other programs' formats. Knows no database and no network: everything it
//! returns is already redacted and has the column names of the catalogue. (Checkpoints are
//! returned as they are; the store redacts what it is given.)

pub mod checkpoint;
pub mod claude;
pub mod hooks;
pub mod rows;

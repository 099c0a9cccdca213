//! Keeps a machine in step by itself: watches the databases and the transcripts, imports what
//! agents write, and syncs when something changed here or elsewhere. A library; the program
//! `coditect` starts it.
#![warn(missing_docs)]

pub mod archive;
pub mod control;
mod files;
pub mod graph;
pub mod hooks;
pub mod importer;
mod machine;
pub mod rebuild;
pub mod schedule;
pub mod scrub;
pub mod service;
mod status;
pub mod usage;
pub mod watch;

pub use machine::{DaemonError, Linker, Settings, run};
pub use status::Status;

//! Keeps a machine in step by itself: watches the databases and the transcripts, imports what
//! agents write, and syncs when something changed here or elsewhere. A library; the program
//! `coditect` starts it.
#![warn(missing_docs)]

pub mod importer;

//! Seeded simulation of the sync engine (DESIGN 15, "Model"): real engine and real SQLite
//! files of many devices against a small model of the server, with faults of network, clocks,
//! disks and people. Everything follows from a seed, so every failure can be replayed.
//!
//! The model shares no merge, digest or sync code with the engine. It uses the catalogue, the
//! wire types and the content hash, because those are what both sides agree on.
#![warn(missing_docs)]

pub mod model;
pub mod random;
pub mod world;

//! What the server does besides answering: jobs from the database, one file for each kind.

pub mod audit;
pub mod backups;
pub mod bodies;
pub mod database;
pub mod erasure;
mod pace;
mod quiet;
pub mod scrub;
pub mod restores;
pub mod trials;

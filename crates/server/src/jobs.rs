//! What the server does besides answering: jobs from the database, one file for each kind.

pub mod audit;
pub mod backups;
pub mod bodies;
pub mod database;
pub mod erasure;
pub mod history;
mod pace;
mod quiet;
pub mod restores;
pub mod scrub;
pub mod trials;

//! The HTTP API: the real router on a real database, without a socket where possible.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod audit;
mod auth;
mod backup_damage;
mod backup_roles;
mod backup_schedule;
mod backup_trials;
mod backups;
mod bad_input;
mod bodies;
mod connections;
mod context;
mod database_archive;
mod devices;
mod erasure;
mod health;
mod hints;
mod history;
mod keys;
mod limits;
mod logs;
mod membership;
mod metrics;
mod plans;
mod problems;
mod replica;
mod roles;
mod restores;
mod scrub;
mod seed_page;
mod seed_routes;
mod support;
mod sync;
mod tenancy;
mod tls;
mod transfer;

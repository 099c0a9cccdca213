//! The service: HTTP API, administration, embedded PostgreSQL.
//!
//! Layers: routes take requests apart, `app` decides, the store runs SQL. The program's commands
//! are in [`commands`], its settings in [`config`].

pub mod app;
pub mod auth;
pub mod backups;
mod body;
pub mod cli;
pub mod commands;
pub mod config;
pub mod database_archive;
pub mod erasure;
pub mod error;
pub mod jobs;
pub mod layers;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod openapi;
pub mod router;
mod routes;
pub mod server;
pub mod state;
pub mod throttle;
pub mod tls;
pub mod transfer;

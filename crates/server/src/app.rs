//! Rules and the order of store calls. Knows neither HTTP nor SQL.

pub mod audit;
pub mod auth;
pub mod backups;
pub mod bodies;
pub mod context;
pub mod devices;
pub mod health;
pub mod hints;
pub mod history;
pub mod membership;
pub mod progress;
pub mod sync;

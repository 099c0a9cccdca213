//! Rules and the order of store calls. Knows neither HTTP nor SQL.

pub mod auth;
pub mod context;
pub mod devices;
pub mod health;
pub mod hints;
pub mod sync;

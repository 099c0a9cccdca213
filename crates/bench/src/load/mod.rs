//! The load: connections, logins, and windows of time in which they work.

pub(crate) mod http;
pub(crate) mod people;
pub(crate) mod window;

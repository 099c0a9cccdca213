//! One file per endpoint, named like its URL: extract, one call into `app`, response.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod context;
pub(crate) mod devices;
pub(crate) mod health;
pub(crate) mod membership;
pub(crate) mod openapi_json;
pub(crate) mod prefer;
pub(crate) mod sync;

//! `/health/`: for load balancers and scripts; no credential, no content.

pub(crate) mod live;
pub(crate) mod ready;

//! `/api/v1/sync/`: the engine's routes.

pub(crate) mod bodies;
pub(crate) mod conflicts;
pub(crate) mod hints;
pub(crate) mod history;
pub(crate) mod moves;
pub(crate) mod pull;
pub(crate) mod push;

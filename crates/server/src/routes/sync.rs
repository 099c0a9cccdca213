//! `/api/v1/sync/`: the engine's routes.

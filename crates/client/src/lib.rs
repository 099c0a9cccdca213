//! HTTP client and driver of the sync engine.

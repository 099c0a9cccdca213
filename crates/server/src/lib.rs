//! The service: HTTP API, administration, embedded PostgreSQL.

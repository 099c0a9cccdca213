//! PostgreSQL: migrations, tenant transactions, embedded server.

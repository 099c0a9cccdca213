//! Test support: a PostgreSQL per test, fake clocks, builders.

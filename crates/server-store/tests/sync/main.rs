//! Push and pull against PostgreSQL, as the app's role and under row security.

mod clocks;
mod colleagues;
mod conflicts;
mod facts;
mod odd_input;
mod pages;
mod refused;
mod roundtrip;
mod support;
mod tokens;

//! Push and pull against PostgreSQL, as the app's role and under row security.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod any_row;
mod bodies;
mod catalogue;
mod checkpoints;
mod clocks;
mod colleagues;
mod conflicts;
mod descent;
mod dump;
mod facts;
mod guards;
mod joined;
mod moves;
mod odd_input;
mod pages;
mod refused;
mod roundtrip;
mod scrub;
mod support;
mod tokens;
mod views;

//! Tests of the local store as its users see it: other programs write to the files, a small
//! server answers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and say what they skip"
)]

mod adoption;
mod backups;
mod bodies;
mod capture;
mod engine;
mod files;
mod guards;
mod leave;
mod moves;
mod random;
mod rules;
mod set_back;
mod support;

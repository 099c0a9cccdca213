//! The program `coditect-server` as scripts meet it: output, exit codes, files, signals.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod admin;
#[cfg(target_os = "linux")]
mod bombs;
mod checks;
mod serve;
mod support;
mod up;
mod words;

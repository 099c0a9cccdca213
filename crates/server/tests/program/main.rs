//! The program `coditect-server` as scripts meet it: output, exit codes, files, signals.

mod admin;
mod serve;
mod support;
mod up;
mod words;

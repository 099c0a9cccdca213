//! The program `coditect-server`: parses, builds, runs.

use std::process::ExitCode;

use clap::Parser as _;
use coditect_server::cli::Cli;
use coditect_server::commands;

fn main() -> ExitCode {
    commands::run(Cli::parse())
}

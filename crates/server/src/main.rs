//! The program `coditect-server`: parses, builds, runs.

use std::process::ExitCode;

use clap::Parser as _;
use coditect_server::cli::Cli;
use coditect_server::{commands, memory};

fn main() -> ExitCode {
    memory::share_heaps();
    commands::run(Cli::parse())
}

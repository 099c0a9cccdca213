//! The program `coditect`.

use std::process::ExitCode;

fn main() -> ExitCode {
    coditect::run(std::env::args_os())
}

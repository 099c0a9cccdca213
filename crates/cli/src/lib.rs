//! The user's program: command line, hook target, importer.
//!
//! Owns what people see: arguments, output, exit codes, questions. What it does is in the crates
//! below; a command reads its arguments, calls them and prints.

mod arguments;
mod clock;
mod commands;
mod context;
mod environment;
mod exit;
mod ignore;
mod logs;
mod names;
mod printer;
mod prompt;
mod remote;
mod repository;
mod table;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

pub use exit::Exit;

/// Runs the program with its arguments (the first is its own name) and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // An agent waits for it: nothing that it does not need is made.
    if let Some(exit) = commands::hook::run_fast(&arguments) {
        return exit;
    }
    // Whatever is wrong with a hook's call, to end with an error might stop the agent.
    let is_hook = arguments
        .get(1)
        .is_some_and(|name| name == commands::hook::NAME);
    let arguments = match arguments::Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            let exit = if error.use_stderr() && !is_hook {
                Exit::Usage
            } else {
                Exit::Ok
            };
            return exit.into();
        }
    };
    let environment = environment::Environment::from_process();
    let printer = printer::Printer::new(arguments.json, &environment);
    match commands::run(arguments, environment, &printer) {
        Ok(exit) => exit.into(),
        Err(error) => {
            printer.error(&error);
            if is_hook {
                return Exit::Ok.into();
            }
            exit::of(&error).into()
        }
    }
}

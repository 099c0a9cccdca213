//! `coditect completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  coditect completions bash > ~/.local/share/bash-completion/completions/coditect
  coditect completions zsh > ~/.zfunc/_coditect
  coditect completions fish > ~/.config/fish/completions/coditect.fish";

/// Prints a completion script.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Completions {
    /// Shell to complete in
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Completions) -> anyhow::Result<Exit> {
    context.printer.line(script(command.shell).trim_end())?;
    Ok(Exit::Ok)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "coditect", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_learns_the_commands_people_see() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in ["sync", "decision", "process-queue"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}

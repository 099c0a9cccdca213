//! `coditect hook`: what agents call while they work. Taken before the command line is built, and
//! never a fault of the agent's: whatever happens here, it ends with 0 and says nothing that the
//! host does not expect.

mod background;
mod facts;
mod hear;
mod place;
mod stdin;
mod text;
mod worker;

use std::ffi::OsString;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Args;
use coditect_capture::hooks::Agent;

use crate::context::Context;
use crate::exit::Exit;
use crate::logs;

pub(super) use facts::{Facts, gather};

/// Name of the command, which is looked for before anything is built.
pub(crate) const NAME: &str = "hook";

const HELP: &str = "\
An agent calls it with what happened as JSON on standard input. It records that and answers in a
few milliseconds, sends nothing, and always ends with 0, so that no fault of ours stops the agent:
what went wrong is in logs/hooks.log. `coditect init` writes the calls into the agents' settings.

Examples:
  echo '{\"session_id\":\"s\",\"cwd\":\"/repo\"}' | coditect hook SessionStart
  coditect hook AfterTool --agent gemini < event.json";

/// Records an event of an agent.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Hook {
    /// Event that it is called for; what the input says counts more
    event: Option<String>,
    /// Agent that calls: claude, codex, gemini
    #[arg(long, default_value = "claude", value_name = "AGENT")]
    agent: String,
    /// Do what hooks have left: the process that a hook starts
    #[arg(long, hide = true)]
    work: bool,
}

/// A call as the arguments say it.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) event: Option<String>,
    pub(super) agent: Agent,
    pub(super) profile: Option<String>,
    /// Take in the spool instead.
    pub(super) drain: bool,
}

/// Runs a hook if the arguments are those of one; none leaves them to the command line.
pub(crate) fn run_fast(arguments: &[OsString]) -> Option<ExitCode> {
    let call = call(arguments)?;
    answer(&call);
    Some(ExitCode::SUCCESS)
}

/// Runs the command as the command line gives it.
pub(crate) fn run(context: &Context, command: Hook) -> Exit {
    if command.work {
        worker::run(context);
        return Exit::Ok;
    }
    let agent = match command.agent.parse() {
        Ok(agent) => agent,
        // Nobody knows what its words mean; taken for another one's, they would be wrong.
        Err(error) => {
            logs::start(&context.paths.logs_dir());
            tracing::warn!(target: logs::HOOKS, %error, "nothing was recorded");
            return Exit::Ok;
        }
    };
    let profile = context.paths.profile().map(str::to_owned);
    answer(&Call {
        event: command.event,
        agent,
        profile,
        drain: false,
    });
    Exit::Ok
}

fn answer(call: &Call) {
    // A panic is a bug, but none of the agent's; its text would go to standard error.
    std::panic::set_hook(Box::new(|_| {}));
    let heard = catch_unwind(AssertUnwindSafe(|| hear::hear(call)));
    if let Ok(Some(answer)) = heard {
        // A host that does not listen any more needs no answer.
        let _ = writeln!(std::io::stdout().lock(), "{answer}");
    }
}

/// Reads the arguments of an ordinary call: `hook [EVENT] [--agent A] [--profile P]`. Anything
/// else is the command line's.
fn call(arguments: &[OsString]) -> Option<Call> {
    let mut words = arguments.iter().skip(1).map(|word| word.to_str());
    if words.next()?? != NAME {
        return None;
    }
    let mut call = Call::default();
    while let Some(word) = words.next() {
        match word? {
            "--agent" => call.agent = words.next()??.parse().ok()?,
            "--profile" => call.profile = Some(words.next()??.to_owned()),
            background::DRAIN => call.drain = true,
            word if word.starts_with('-') || call.event.is_some() => return None,
            word => call.event = Some(word.to_owned()),
        }
    }
    Some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Call> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        call(&words)
    }

    #[test]
    fn ordinary_calls_need_no_command_line() {
        let plain = read("coditect hook post-tool-use").unwrap();
        assert_eq!(plain.event.as_deref(), Some("post-tool-use"));
        assert_eq!(plain.agent, Agent::Claude);
        let other = read("coditect hook --agent gemini AfterTool --profile work").unwrap();
        assert_eq!(
            (other.agent, other.profile.as_deref()),
            (Agent::Gemini, Some("work"))
        );
        assert!(read("coditect hook").is_some());
    }

    #[test]
    fn everything_else_is_the_command_lines() {
        for line in [
            "coditect status",
            "coditect --json hook stop",
            "coditect hook --help",
            "coditect hook --work",
            "coditect hook stop more",
            "coditect hook --agent emacs",
        ] {
            assert!(read(line).is_none(), "{line}");
        }
    }
}

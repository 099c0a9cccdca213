//! `coditect context`: what a session in this folder would begin with.

use clap::Args;
use coditect_protocol::catalogue::File;

use super::hook;
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;

const HELP: &str = "\
The same facts that an agent is given at the start of a session here: open tasks, last decisions,
fixes, and what teammates changed since. Off for agents: coditect config set hooks.context false

--json: {repository, at, facts: [{kind, id, at, by, is_news, text}]}.";

/// Shows the facts about the current repository.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Show {}

/// Runs the command.
pub(crate) fn run(context: &Context, _command: &Show) -> anyhow::Result<Exit> {
    let store = context.adopted_store(&[File::Org, File::Sessions])?;
    let folder = context.folder()?;
    let facts: hook::Facts = hook::gather(&store, &store, &folder, None, clock::now_ms())?;
    context
        .printer
        .either(&facts, |printer| match facts.text() {
            Some(text) => printer.line(&text),
            None => printer.line("nothing is recorded about this repository yet"),
        })?;
    Ok(Exit::Ok)
}

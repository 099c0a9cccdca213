//! `coditect init`: connects the agents of this machine, by writing calls of the hooks into their
//! settings. Shows what it writes, keeps everything else in those files, and can be taken back.

pub(super) mod diff;
pub(super) mod entries;
pub(super) mod jsonc;
pub(super) mod manifest;
pub(super) mod places;
pub(super) mod toml;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, ValueEnum};
use coditect_capture::hooks::Agent;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt;
use manifest::Manifest;
use places::{Change, Form, Place};

const HELP: &str = "\
Finds Claude Code, Codex and Gemini, shows what it would write into their settings, and writes it
after asking. Everything else in those files stays as it is, comments included; what was there is
kept beside it as NAME.before-coditect. Running it again changes nothing. To take it back:
coditect uninstall

Examples:
  coditect init
  coditect init --agent claude --scope project --dry-run
  coditect init --yes --json

--json: {dry_run, agents: [{agent, found}], files: [{agent, path, action, diff}]}; action is
create, change or nothing.";

/// Where settings are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// For everything that this user does
    #[default]
    User,
    /// For the current folder
    Project,
}

/// Agents by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgentName {
    /// Claude Code
    Claude,
    /// Codex CLI
    Codex,
    /// Gemini CLI
    Gemini,
}

impl From<AgentName> for Agent {
    fn from(name: AgentName) -> Self {
        match name {
            AgentName::Claude => Self::Claude,
            AgentName::Codex => Self::Codex,
            AgentName::Gemini => Self::Gemini,
        }
    }
}

/// Connects the agents.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Init {
    /// Only this agent, whether it is found or not; may be given several times
    #[arg(long, value_name = "AGENT")]
    agent: Vec<AgentName>,
    /// Into the user's settings, or into those of the current folder
    #[arg(long, default_value = "user")]
    scope: Scope,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Init) -> anyhow::Result<Exit> {
    let found: Vec<(Agent, bool)> = Agent::ALL
        .into_iter()
        .map(|agent| (agent, places::is_there(context, agent)))
        .collect();
    let wanted: Vec<Agent> = if command.agent.is_empty() {
        found
            .iter()
            .filter(|(_, there)| *there)
            .map(|(agent, _)| *agent)
            .collect()
    } else {
        command
            .agent
            .iter()
            .map(|name| Agent::from(*name))
            .collect()
    };
    if wanted.is_empty() {
        let error = CommandError::new(Exit::NotFound, "no agent was found on this machine");
        return Err(error.hint("coditect init --agent claude").into());
    }
    let mut changes = Vec::new();
    for agent in wanted {
        for place in places::of(context, agent, command.scope)? {
            changes.push(change(context, &place)?);
        }
    }
    let news = changes.iter().any(Change::is_news);
    show(context, command, &found, &changes)?;
    if command.dry_run || !news {
        return Ok(Exit::Ok);
    }
    if !command.yes && !prompt::confirm("Write this?")? {
        context.printer.note("nothing was written");
        return Ok(Exit::Ok);
    }
    write(context, &changes)?;
    if !context.printer.is_json() {
        context
            .printer
            .note("connected; sessions that run now need a restart of the agent");
        context
            .printer
            .hint("coditect import claude    brings in what was said before");
        context
            .printer
            .hint("coditect uninstall        takes it back");
    }
    Ok(Exit::Ok)
}

/// Returns whether this program has the command that an agent would start for its tools.
pub(super) fn has_mcp() -> bool {
    Arguments::command().find_subcommand("mcp").is_some()
}

fn change(context: &Context, place: &Place) -> anyhow::Result<Change> {
    let before = places::read(&place.path)?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let profile = context.paths.profile();
    let text = before.as_deref().filter(|text| !text.trim().is_empty());
    let made = match place.form {
        Form::Hooks => entries::put(text.unwrap_or("{}"), place.agent, &program, profile),
        Form::Servers => entries::put_server(text.unwrap_or("{}"), &program, profile),
        Form::CodexSettings => {
            let mcp = has_mcp().then_some((program.as_path(), profile));
            Ok(toml::put(text.unwrap_or(""), mcp))
        }
    };
    let mut after = made.map_err(|error| {
        let message = format!("{} cannot be read: {error}", place.path.display());
        CommandError::new(Exit::Failure, message).hint("mend it, or choose another --agent")
    })?;
    if before.is_none() && !after.ends_with('\n') {
        after.push('\n');
    }
    Ok(Change {
        place: place.clone(),
        after: Some(after),
        before,
    })
}

fn show(
    context: &Context,
    command: &Init,
    found: &[(Agent, bool)],
    changes: &[Change],
) -> anyhow::Result<()> {
    let agents: Vec<Value> = found
        .iter()
        .map(|(agent, there)| json!({"agent": agent.name(), "found": there}))
        .collect();
    let files: Vec<Value> = changes.iter().map(Change::document).collect();
    let document = json!({"dry_run": command.dry_run, "agents": agents, "files": files});
    context.printer.either(&document, |printer| {
        for change in changes {
            if change.is_news() {
                printer.line(&format!(
                    "{} {}",
                    change.action(),
                    change.place.path.display()
                ))?;
                for line in diff::lines(change.before.as_deref(), change.after.as_deref()) {
                    printer.line(&line)?;
                }
            } else {
                printer.line(&format!(
                    "{} is as it should be",
                    change.place.path.display()
                ))?;
            }
        }
        Ok(())
    })
}

fn write(context: &Context, changes: &[Change]) -> anyhow::Result<()> {
    let path = Manifest::path(&context.paths);
    let mut manifest = Manifest::load(&path)?;
    for change in changes.iter().filter(|change| change.is_news()) {
        // Noted first: what a crash leaves half done can be taken back all the same.
        manifest.note(change)?;
        manifest.store(&path)?;
        change.carry_out()?;
    }
    Ok(())
}

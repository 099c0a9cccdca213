//! Where each agent has its settings on this machine.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coditect_capture::hooks::Agent;
use serde_json::{Value, json};

use super::manifest::backup_of;
use super::{Scope, diff, has_mcp};
use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Longest settings that are changed, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON with the key `hooks`.
    Hooks,
    /// JSON with the key `mcpServers`.
    Servers,
    /// Codex's `config.toml`.
    CodexSettings,
}

/// A file of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: Agent,
    pub(crate) form: Form,
    pub(crate) path: PathBuf,
}

/// What becomes of a file.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) place: Place,
    /// What stands in it; none if it is not there.
    pub(crate) before: Option<String>,
    /// What shall stand in it; none if it goes.
    pub(crate) after: Option<String>,
}

impl Change {
    /// Returns whether anything changes.
    pub(crate) fn is_news(&self) -> bool {
        self.before != self.after
    }

    /// Returns what happens, in a word.
    pub(crate) fn action(&self) -> &'static str {
        match (&self.before, &self.after) {
            _ if !self.is_news() => "nothing",
            (None, _) => "create",
            (_, None) => "remove",
            _ => "change",
        }
    }

    /// Returns it for `--json`.
    pub(crate) fn document(&self) -> Value {
        let diff = if self.is_news() {
            diff::lines(self.before.as_deref(), self.after.as_deref())
        } else {
            Vec::new()
        };
        json!({
            "agent": self.place.agent.name(),
            "path": self.place.path.display().to_string(),
            "action": self.action(),
            "diff": diff,
        })
    }

    /// Writes the file, and keeps what was in it beside it.
    pub(crate) fn carry_out(&self) -> anyhow::Result<()> {
        let path = &self.place.path;
        // Somebody may have written to it while the question stood.
        if read(path)? != self.before {
            let message = format!("{} has just changed", path.display());
            return Err(CommandError::new(Exit::Failure, message)
                .hint("run it again")
                .into());
        }
        let backup = backup_of(path);
        if let Some(before) = self.before.as_deref().filter(|_| !backup.exists()) {
            write(&backup, before, Some(path))?;
        }
        match &self.after {
            Some(after) => write(path, after, Some(path)),
            None => std::fs::remove_file(path)
                .with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

/// Returns whether an agent is on this machine: it has its folder.
pub(crate) fn is_there(context: &Context, agent: Agent) -> bool {
    folder(context, agent).is_some_and(|folder| folder.is_dir())
}

/// Returns the files of an agent that are ours to change.
pub(crate) fn of(context: &Context, agent: Agent, scope: Scope) -> anyhow::Result<Vec<Place>> {
    let own =
        folder(context, agent).ok_or_else(|| CommandError::new(Exit::Usage, "HOME is not set"))?;
    let (settings, servers) = match scope {
        Scope::User => match agent {
            // Beside its folder, unless that was moved: then in it.
            Agent::Claude if own.ends_with(".claude") => (
                own.join("settings.json"),
                Some(own.with_file_name(".claude.json")),
            ),
            Agent::Claude => (own.join("settings.json"), Some(own.join(".claude.json"))),
            Agent::Codex => (own.join("hooks.json"), None),
            Agent::Gemini => (own.join("settings.json"), Some(own.join("settings.json"))),
        },
        Scope::Project => {
            let here = context.folder()?;
            match agent {
                Agent::Claude => (
                    here.join(".claude/settings.json"),
                    Some(here.join(".mcp.json")),
                ),
                Agent::Codex => (here.join(".codex/hooks.json"), None),
                Agent::Gemini => (here.join(".gemini/settings.json"), None),
            }
        }
    };
    let place = |form, path| Place { agent, form, path };
    let mut places = vec![place(Form::Hooks, real(&settings))];
    if agent == Agent::Codex {
        // Its hooks must be switched on, which only the user's file can.
        places.push(place(Form::CodexSettings, real(&own.join("config.toml"))));
    }
    if let Some(servers) = servers.filter(|servers| has_mcp() && *servers != settings) {
        places.push(place(Form::Servers, real(&servers)));
    }
    Ok(places)
}

fn folder(context: &Context, agent: Agent) -> Option<PathBuf> {
    let environment = &context.environment;
    match agent {
        Agent::Claude => environment.claude_dir.clone(),
        Agent::Codex => environment.codex_dir.clone(),
        Agent::Gemini => environment.gemini_dir.clone(),
    }
}

/// Settings are often links into a repository of a person's own; the file behind it is changed.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns a file's text; none if it is not there.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            let message = format!("{} is too large to be settings", path.display());
            return Err(CommandError::new(Exit::Failure, message).into());
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path);
    text.map(Some)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file in one step, with the rights of `like`.
pub(crate) fn write(path: &Path, text: &str, like: Option<&Path>) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".coditect-new");
    let unfinished = PathBuf::from(name);
    std::fs::write(&unfinished, text).with_context(failed)?;
    if let Some(rights) = like.and_then(|like| std::fs::metadata(like).ok()) {
        std::fs::set_permissions(&unfinished, rights.permissions()).with_context(failed)?;
    }
    std::fs::rename(&unfinished, path).with_context(failed)
}

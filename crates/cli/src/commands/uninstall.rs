//! `coditect uninstall`: takes out what `coditect init` wrote, and nothing else; the data only
//! when asked for, and asked again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use coditect_capture::hooks::Agent;
use coditect_daemon::control::{self, Request};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::init::manifest::{Manifest, backup_of, hash};
use super::init::places::{self, Change, Form, Place};
use super::init::{Scope, diff, entries, toml};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt;

const HELP: &str = "\
A file that nobody has changed since `coditect init` is given back byte for byte; from others only
the calls of this program's hooks are taken. Data, logins and the configuration stay, unless --data
is given: then it asks twice, because what was not synced is gone for ever.

Examples:
  coditect uninstall --dry-run
  coditect uninstall --yes
  coditect uninstall --data

--json: {dry_run, files: [{agent, path, action, diff}], data: [paths]}.";

/// Takes out what init wrote.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Uninstall {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also remove the databases, logs, logins and the configuration of all profiles
    #[arg(long)]
    data: bool,
    /// Answer the second question of --data, too
    #[arg(long, requires = "data", requires = "yes")]
    really: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Uninstall) -> anyhow::Result<Exit> {
    let path = Manifest::path(&context.paths);
    let manifest = Manifest::load(&path)?;
    let mut changes = Vec::new();
    for place in all(context, &manifest)? {
        if let Some(change) = change(&place, &manifest)? {
            changes.push(change);
        }
    }
    let data = if command.data {
        data(context)
    } else {
        Vec::new()
    };
    show(context, command, &changes, &data)?;
    if command.dry_run {
        return Ok(Exit::Ok);
    }
    let anything = !changes.is_empty() || !data.is_empty() || path.exists();
    if !anything {
        return Ok(Exit::Ok);
    }
    if !command.yes && !prompt::confirm("Do this?")? {
        context.printer.note("nothing was changed");
        return Ok(Exit::Ok);
    }
    if command.data && !may_remove_data(context, command)? {
        context.printer.note("nothing was changed");
        return Ok(Exit::Ok);
    }
    for change in &changes {
        carry_out(change)?;
    }
    for (path, written) in &manifest.files {
        remove(&backup_of(path))?;
        for folder in &written.folders {
            // One that somebody uses meanwhile is not empty, and stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
    remove(&path)?;
    for folder in &data {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(Exit::Ok)
}

/// Returns the files that may hold something of ours: those that were noted, the user's, and
/// those of the current folder.
fn all(context: &Context, manifest: &Manifest) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    for agent in Agent::ALL {
        for scope in [Scope::User, Scope::Project] {
            places.extend(places::of(context, agent, scope).unwrap_or_default());
        }
    }
    for path in manifest.files.keys() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let form = match name {
            "config.toml" => Form::CodexSettings,
            ".claude.json" | ".mcp.json" => Form::Servers,
            _ => Form::Hooks,
        };
        if !places.iter().any(|place| place.path == *path) {
            let path = path.clone();
            let agent = Agent::Claude;
            places.push(Place { agent, form, path });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    places.retain(|place| seen.insert((place.path.clone(), place.form == Form::Servers)));
    Ok(places)
}

fn change(place: &Place, manifest: &Manifest) -> anyhow::Result<Option<Change>> {
    let Some(before) = places::read(&place.path)? else {
        return Ok(None);
    };
    let written = manifest.files.get(&place.path);
    let untouched = written.is_some_and(|written| written.sha256 == hash(&before));
    let created = written.is_some_and(|written| written.created);
    let after = if untouched && created {
        None
    } else if let Some(earlier) = places::read(&backup_of(&place.path))?.filter(|_| untouched) {
        Some(earlier)
    } else {
        let taken = match place.form {
            Form::Hooks => entries::take_out(&before),
            Form::Servers => entries::take_out_server(&before),
            Form::CodexSettings => Ok(toml::take_out(&before)),
        };
        // A file that cannot be read holds nothing that we have written.
        let taken = taken.unwrap_or_else(|_| before.clone());
        let empty = matches!(taken.trim(), "" | "{}");
        (!(created && empty)).then_some(taken)
    };
    let change = Change {
        place: place.clone(),
        before: Some(before),
        after,
    };
    Ok(change.is_news().then_some(change))
}

fn carry_out(change: &Change) -> anyhow::Result<()> {
    let path = &change.place.path;
    if places::read(path)? != change.before {
        let message = format!("{} has just changed", path.display());
        return Err(CommandError::new(Exit::Failure, message)
            .hint("run it again")
            .into());
    }
    match &change.after {
        Some(after) => places::write(path, after, Some(path)),
        None => remove(path),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn data(context: &Context) -> Vec<PathBuf> {
    let home = context.paths.home();
    let folders = [".coditect-data", ".coditect"].map(|name| home.join(name));
    folders
        .into_iter()
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Asks the second time, with what would be lost.
fn may_remove_data(context: &Context, command: &Uninstall) -> anyhow::Result<bool> {
    if control::ask(&context.paths.data_dir(), Request::Status).is_ok() {
        let error = CommandError::new(Exit::Refused, "the daemon works with these files");
        return Err(error.hint("coditect daemon uninstall").into());
    }
    if command.really {
        return Ok(true);
    }
    if command.yes {
        let error = CommandError::new(Exit::Usage, "--data needs a second answer");
        return Err(error
            .hint("coditect uninstall --data --yes --really")
            .into());
    }
    let unsent: u64 = match context.store() {
        Ok(store) => File::ALL
            .into_iter()
            .filter_map(|file| store.queue_state(file).ok())
            .map(|state| state.queued + state.parked)
            .sum(),
        Err(_) => 0,
    };
    let question = format!("{unsent} changes were never sent. Really remove all data?");
    prompt::confirm(&question)
}

fn show(
    context: &Context,
    command: &Uninstall,
    changes: &[Change],
    data: &[PathBuf],
) -> anyhow::Result<()> {
    let files: Vec<Value> = changes.iter().map(Change::document).collect();
    let folders: Vec<String> = data.iter().map(|path| path.display().to_string()).collect();
    let document = json!({"dry_run": command.dry_run, "files": files, "data": folders});
    context.printer.either(&document, |printer| {
        if changes.is_empty() && data.is_empty() {
            printer.line("nothing of init is left")?;
        }
        for change in changes {
            printer.line(&format!(
                "{} {}",
                change.action(),
                change.place.path.display()
            ))?;
            for line in diff::lines(change.before.as_deref(), change.after.as_deref()) {
                printer.line(&line)?;
            }
        }
        for folder in &folders {
            printer.line(&format!("remove {folder} with all data in it"))?;
        }
        Ok(())
    })
}

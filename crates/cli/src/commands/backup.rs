//! `coditect backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use coditect_local_store::backup::{BackupError, BackupProgress, Backups, Kind, Manifest};
use coditect_protocol::catalogue::File;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt;
use crate::table::{Table, grouped, short_time};

const HELP: &str = "\
Copies the databases of this machine while everything goes on, and reads the copies back: their
bytes, structure, and every row. They lie in backups/ beside the databases; another disk is better.
org.db is backed up by itself once a day, and the last seven of those are kept
(cloud.daily_backup false switches it off). What is made by hand stays until it is removed.

Examples:
  coditect backup
  coditect backup --file org --to /mnt/disk/coditect
  coditect backup list
  coditect backup verify
  coditect backup remove 20260203T101500Z-manual
  coditect restore --dry-run

--json: {folder, id, kind, created_at, bytes, files [{file, bytes, sha256, digest, tables}]}; of
list {folder, backups [the same, or {id, error}]}; of verify {folder, backups [{id, ok, error}]};
of remove {removed}.";

/// Copies the databases of this machine.
#[derive(Debug, Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    take: Take,
}

/// Which databases, and where to.
#[derive(Debug, Args)]
struct Take {
    /// Keep it below this folder instead of beside the databases
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Only this database
    #[arg(long, value_enum, default_value_t = Which::All)]
    file: Which,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the backups, oldest first
    List(Place),
    /// Read a backup back and compare it with what was written, or all of them
    Verify(Verify),
    /// Remove a backup
    Remove(Remove),
}

/// Where the backups are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Look into this folder instead of the one beside the databases
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Verify {
    /// Which one (default: all)
    id: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Remove {
    /// Which one
    id: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

/// One of the four databases, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    Org,
    Sessions,
    Projects,
    Platform,
    All,
}

impl Which {
    /// Returns the files.
    pub(crate) fn files(self) -> Vec<File> {
        match self {
            Self::Org => vec![File::Org],
            Self::Sessions => vec![File::Sessions],
            Self::Projects => vec![File::Projects],
            Self::Platform => vec![File::Platform],
            Self::All => File::ALL.to_vec(),
        }
    }
}

impl Place {
    pub(crate) fn backups(&self, context: &Context) -> Backups {
        folder(context, self.from.as_ref())
    }
}

fn folder(context: &Context, given: Option<&PathBuf>) -> Backups {
    match given {
        Some(folder) => Backups::new(folder),
        None => own(context),
    }
}

/// Returns the backups beside the databases.
pub(crate) fn own(context: &Context) -> Backups {
    Backups::new(context.paths.backups_dir())
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Backup) -> anyhow::Result<Exit> {
    match &command.verb {
        None => take(context, &command.take),
        Some(Verb::List(place)) => list(context, &place.backups(context)),
        Some(Verb::Verify(verify)) => check(context, verify),
        Some(Verb::Remove(remove)) => forget(context, remove),
    }
}

fn take(context: &Context, command: &Take) -> anyhow::Result<Exit> {
    // Makes what is missing, and refuses what is no database of ours.
    drop(context.store()?);
    let backups = folder(context, command.to.as_ref());
    let databases = context.paths.context_storage();
    let bar = Bar::new(context);
    let made = backups.take(
        &databases,
        &command.file.files(),
        Kind::Manual,
        clock::now_ms(),
        |progress| bar.show(progress),
    );
    bar.clear();
    let manifest = made?;
    let mut document = document(&manifest);
    document["folder"] = json!(backups.folder());
    context.printer.either(&document, |printer| {
        printer.line(&format!(
            "{}: {} bytes in {}",
            manifest.id,
            grouped(manifest.bytes()),
            backups.folder().join(&manifest.id).display()
        ))
    })?;
    if !context.printer.is_json() {
        context
            .printer
            .hint(&format!("coditect restore {} --dry-run", manifest.id));
    }
    Ok(Exit::Ok)
}

/// Returns a backup as JSON.
pub(crate) fn document(manifest: &Manifest) -> Value {
    json!({
        "id": manifest.id,
        "kind": manifest.kind,
        "created_at": manifest.created_at,
        "bytes": manifest.bytes(),
        "files": manifest.files,
    })
}

fn list(context: &Context, backups: &Backups) -> anyhow::Result<Exit> {
    let listed = backups.list()?;
    let documents = listed.iter().map(|one| match &one.manifest {
        Ok(manifest) => document(manifest),
        Err(error) => json!({"id": one.id, "error": error.to_string()}),
    });
    let documents: Vec<Value> = documents.collect();
    let document = json!({"folder": backups.folder(), "backups": documents});
    context.printer.either(&document, |printer| {
        if listed.is_empty() {
            printer.note(&format!("none in {}", backups.folder().display()));
            return Ok(());
        }
        let mut table = Table::new(&["backup", "made", "files", "#bytes"]);
        for one in &listed {
            let Ok(manifest) = &one.manifest else {
                table.row([
                    one.id.clone(),
                    "-".to_owned(),
                    "damaged".to_owned(),
                    "-".to_owned(),
                ]);
                continue;
            };
            let files = manifest.files.iter().map(|saved| saved.file.to_string());
            table.row([
                one.id.clone(),
                short_time(Some(&manifest.created_at)),
                files.collect::<Vec<_>>().join(" "),
                grouped(manifest.bytes()),
            ]);
        }
        table.print(printer)
    })?;
    Ok(Exit::Ok)
}

fn check(context: &Context, command: &Verify) -> anyhow::Result<Exit> {
    let backups = command.place.backups(context);
    let ids = match &command.id {
        Some(id) => vec![id.clone()],
        None => backups.list()?.into_iter().map(|one| one.id).collect(),
    };
    let mut found = Vec::new();
    for id in ids {
        let error = match backups.verify(&id) {
            Ok(_) => None,
            Err(error @ BackupError::NotFound(_)) => return Err(error.into()),
            Err(error) => Some(error.to_string()),
        };
        found.push((id, error));
    }
    let documents = found
        .iter()
        .map(|(id, error)| json!({"id": id, "ok": error.is_none(), "error": error}));
    let documents: Vec<Value> = documents.collect();
    let document = json!({"folder": backups.folder(), "backups": documents});
    context.printer.either(&document, |printer| {
        for (id, error) in &found {
            let text = error.as_deref().unwrap_or("as it was written");
            printer.line(&format!("{id}: {text}"))?;
        }
        Ok(())
    })?;
    let is_whole = found.iter().all(|(_, error)| error.is_none());
    Ok(if is_whole { Exit::Ok } else { Exit::Unhealthy })
}

fn forget(context: &Context, command: &Remove) -> anyhow::Result<Exit> {
    let question = format!("Remove backup {}?", command.id);
    if !command.yes && !prompt::confirm(&question)? {
        let error = CommandError::new(Exit::Failure, "nothing was removed");
        return Err(error.into());
    }
    command.place.backups(context).remove(&command.id)?;
    let document = json!({"removed": command.id});
    context.printer.either(&document, |printer| {
        printer.line(&format!("{} is gone", command.id))
    })?;
    Ok(Exit::Ok)
}

/// Makes the daily backup where it is due. Nothing that a person asked for fails by it.
pub(crate) fn daily(context: &Context) {
    if !context.cloud.daily_backup {
        return;
    }
    match own(context).take_daily(&context.paths.context_storage(), clock::now_ms()) {
        Ok(Some(made)) => tracing::info!(target: "coditect::backup", id = made.id, "backed up"),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(target: "coditect::backup", %error, "no daily backup was made");
        }
    }
}

/// A line on a terminal that says how far a copy is.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn new(context: &Context) -> Self {
        if !context.printer.is_interactive() || context.printer.is_json() {
            return Self(None);
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg} {pos}/{len} pages") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    pub(crate) fn show(&self, progress: BackupProgress) {
        let Some(bar) = &self.0 else { return };
        bar.set_length(progress.pages_total);
        bar.set_position(progress.pages);
        bar.set_message(format!("{}.db", progress.file));
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

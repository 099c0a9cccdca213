//! `coditect restore`.

use clap::Args;
use coditect_local_store::backup::{BackupError, Backups, Difference, Manifest};
use coditect_protocol::catalogue::File;
use serde_json::json;

use super::backup::{Bar, Place, Which};
use crate::clock;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::{Table, grouped, short_time};
use crate::{prompt, remote};

const HELP: &str = "\
Puts databases back from a backup. The backup is verified first, and what is there now is backed up
while nobody can write to it, so that it can be taken back. Each database changes in one step: a
crash leaves the old or the new one, and programs that have it open see the change.

Nothing that the server has is lost: the next sync notices that the file was put back, and brings
everything that came since. Rows that were not sent yet are in the backup that is made before.

Examples:
  coditect restore --dry-run                      what the newest backup would change
  coditect restore 20260203T101500Z-daily --file org
  coditect restore --from /mnt/disk/coditect --yes

--json: {dry_run, id, created_at, files, undo (the backup of what was there), changes [{file, table,
come_back, go, older, newer}]}.";

/// Puts databases back.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Restore {
    /// Which backup (default: the newest one that is as it was written)
    id: Option<String>,
    /// Only this database
    #[arg(long, value_enum, default_value_t = Which::All)]
    file: Which,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Restore) -> anyhow::Result<Exit> {
    let backups = command.place.backups(context);
    let mut store = context.store()?;
    let (manifest, files) = choose(&backups, command)?;
    let owner = store.owner_of_folder();
    manifest.suits(owner, &files)?;
    for file in &files {
        context.adopt(&mut store, *file)?;
    }
    let databases = context.paths.context_storage();
    let changes = backups.compare(&databases, &manifest.id, &files)?;
    if command.dry_run {
        return print(context, &manifest, &files, &changes, None, true);
    }
    if !command.yes {
        let made = short_time(Some(&manifest.created_at));
        let names: Vec<_> = files.iter().map(|file| format!("{file}.db")).collect();
        let question = format!("Put {} back as of {made}?", names.join(", "));
        if !prompt::confirm(&question)? {
            let error = CommandError::new(Exit::Failure, "nothing was put back");
            return Err(error.into());
        }
    }
    let lease = remote::lease(&store)?;
    let bar = Bar::new(context);
    let now_ms = clock::now_ms();
    let done = backups.put_back(
        &databases,
        &lease,
        owner,
        (&manifest.id, &files),
        now_ms,
        |progress| {
            bar.show(progress);
        },
    );
    bar.clear();
    let done = done?;
    // What an interrupted run left between two files is completed by opening.
    drop(store);
    drop(context.store()?);
    let undo = done.undo.map(|undo| undo.id);
    print(
        context,
        &done.from,
        &done.files,
        &changes,
        undo.as_deref(),
        false,
    )
}

/// Verifies the backup that is meant and returns it with those of its files that are wanted.
fn choose(backups: &Backups, command: &Restore) -> anyhow::Result<(Manifest, Vec<File>)> {
    let wanted = command.file.files();
    let all = command.file == Which::All;
    let manifest = match &command.id {
        Some(id) => backups.verify(id)?,
        None => {
            let first = if all { File::Org } else { wanted[0] };
            let newest = backups.newest_good(first)?;
            let none = || BackupError::NotFound(format!("in '{}'", backups.folder().display()));
            newest.ok_or_else(none)?
        }
    };
    let files = if all {
        manifest.files.iter().map(|saved| saved.file).collect()
    } else {
        wanted
    };
    Ok((manifest, files))
}

fn print(
    context: &Context,
    from: &Manifest,
    files: &[File],
    changes: &[Difference],
    undo: Option<&str>,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let document = json!({
        "dry_run": dry_run,
        "id": from.id,
        "created_at": from.created_at,
        "files": files,
        "undo": undo,
        "changes": changes,
    });
    context.printer.either(&document, |printer| {
        let names: Vec<_> = files.iter().map(|file| format!("{file}.db")).collect();
        let word = if dry_run { "would be" } else { "are" };
        printer.line(&format!("{} {word} as in {}", names.join(", "), from.id))?;
        let heads = [
            "table",
            "#come back",
            "#go",
            "#become older",
            "#become newer",
        ];
        let mut table = Table::new(&heads);
        for one in changes {
            table.row([
                format!("{}:{}", one.file, one.table),
                grouped(one.come_back),
                grouped(one.go),
                grouped(one.older),
                grouped(one.newer),
            ]);
        }
        if table.is_empty() {
            return printer.line("the rows are the same");
        }
        table.print(printer)
    })?;
    if let Some(undo) = undo.filter(|_| !context.printer.is_json()) {
        context
            .printer
            .hint(&format!("undo: coditect restore {undo}"));
        context
            .printer
            .hint("coditect sync brings what the server has since");
    }
    Ok(Exit::Ok)
}

//! Making a damaged database anew: from a backup, from what can still be read of it, from the
//! server, and from the archive of transcripts.

use std::io::IsTerminal as _;

use coditect_daemon::control::{self, Request};
use coditect_daemon::rebuild;
use coditect_local_store::{Error, LocalStore};
use coditect_protocol::catalogue::File;

use super::{Lost, Repaired, files, move_one, problems};
use crate::clock;
use crate::commands::backup;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::remote::{self, Kind};
use crate::{printer, prompt};

/// Puts databases aside that can be opened and are damaged in more than their indexes, if a
/// person agrees.
pub(super) fn give_up(
    context: &Context,
    yes: bool,
    done: &mut Vec<Repaired>,
) -> anyhow::Result<Vec<Lost>> {
    let mut lost = Vec::new();
    if !files::unusable(context).is_empty() {
        return Ok(lost);
    }
    let damaged = damaged(context)?;
    let folder = context.paths.context_storage();
    for file in damaged {
        let question = format!("{file}.db is damaged. Put it aside and make it anew?");
        let is_answered = yes || std::io::stdin().is_terminal() && prompt::confirm(&question)?;
        if !is_answered {
            printer::remark(&format!(
                "{file}.db was left as it is: doctor --repair --yes"
            ));
            continue;
        }
        // A program that has the file open would go on writing to the one that is put aside.
        if control::ask(&context.paths.data_dir(), Request::Status).is_ok() {
            let text = "a daemon works with these databases";
            let error = CommandError::new(Exit::Failure, text);
            return Err(error
                .hint("end the daemon (coditect daemon uninstall), then repair again")
                .into());
        }
        let _lease = LocalStore::lease_of(&folder)?;
        lost.push((file, move_one(&folder, file, "damaged", done)?));
    }
    Ok(lost)
}

/// Returns the databases with problems that new indexes do not mend.
fn damaged(context: &Context) -> anyhow::Result<Vec<File>> {
    let store = match context.store() {
        Ok(store) => store,
        // Which one it is, opening did not say; what is damaged is looked for one by one.
        Err(error) => return of_error(error),
    };
    let mut damaged = Vec::new();
    for file in File::ALL {
        if problems(&store, file)?
            .iter()
            .any(|problem| !problem.contains("index"))
        {
            damaged.push(file);
        }
    }
    Ok(damaged)
}

fn of_error(error: anyhow::Error) -> anyhow::Result<Vec<File>> {
    match error.downcast_ref() {
        Some(Error::Damaged { file, .. }) => Ok(vec![*file]),
        _ => Err(error),
    }
}

/// Fills the places of databases that were put aside.
pub(super) fn fill(
    context: &Context,
    lost: &[Lost],
    done: &mut Vec<Repaired>,
) -> anyhow::Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let databases = context.paths.context_storage();
    for (file, _) in lost {
        let backups = backup::own(context);
        let Some(newest) = backups.newest_good(*file)? else {
            continue;
        };
        let lease = LocalStore::lease_of(&databases)?;
        let what = (newest.id.as_str(), &[*file][..]);
        backups.put_back(&databases, &lease, None, what, clock::now_ms(), |_| {})?;
        let id = &newest.id;
        done.push(Repaired::new(format!(
            "{file}.db was put back from backup {id}"
        )));
    }
    let mut store = context.store()?;
    for (file, aside) in lost {
        let saved = store.salvage(aside, *file)?;
        let what = format!(
            "{} changes that were not sent were saved from the damaged {file}.db ({} rows could \
             be read, {} places could not)",
            saved.saved, saved.read, saved.unreadable
        );
        done.push(Repaired::new(what));
    }
    let is_synced = from_server(context, &mut store, done);
    if !is_synced && lost.iter().any(|(file, _)| *file == File::Sessions) {
        let ignored = context.config.hooks()?.ignore;
        let data = context.paths.data_dir();
        let rebuilt = rebuild::run(&mut store, &data, &ignored, clock::now_ms())?;
        let what = format!(
            "{} transcripts of the archive were read again: {} rows",
            rebuilt.transcripts, rebuilt.rows
        );
        done.push(Repaired::new(what));
    }
    Ok(())
}

/// Brings what the server has. Without an answer the next sync does.
fn from_server(context: &Context, store: &mut LocalStore, done: &mut Vec<Repaired>) -> bool {
    if store.owner_of_folder().is_none() || context.is_offline() {
        return false;
    }
    match remote::sync(context, store, Kind::Whole) {
        Ok(run) if !run.report.offline && run.report.problem.is_none() => {
            let (pulled, pushed) = (run.report.pulled, run.report.pushed);
            let what = format!("{pulled} rows came from the server, {pushed} went there");
            done.push(Repaired::new(what));
            true
        }
        Ok(_) => false,
        Err(error) => {
            printer::remark(&format!(
                "not synced: {error:#}; coditect sync does it later"
            ));
            false
        }
    }
}

//! What can be mended without losing anything.

mod anew;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coditect_local_store::{Error, LocalStore};
use coditect_protocol::catalogue::File;
use serde::Serialize;

use super::files;
use crate::clock;
use crate::context::Context;

/// Something that was mended.
#[derive(Debug, Serialize)]
pub(super) struct Repaired {
    pub(super) what: String,
    /// The command that makes it as it was; none where nobody would want that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) undo: Option<String>,
}

impl Repaired {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            undo: None,
        }
    }
}

/// Mends, in an order in which one step needs the one before.
pub(super) fn run(context: &Context, yes: bool) -> anyhow::Result<Vec<Repaired>> {
    let mut done = Vec::new();
    let mut lost = move_aside(context, &mut done)?;
    close(context, &mut done)?;
    lost.extend(anew::give_up(context, yes, &mut done)?);
    anew::fill(context, &lost, &mut done)?;
    if files::unusable(context).is_empty() {
        let mut store = context.store()?;
        let _lease = store.lease()?;
        indexes(&mut store, &mut done)?;
        delays(&mut store, &mut done)?;
    }
    Ok(done)
}

/// A database that was moved away because it is damaged, and where it is.
type Lost = (File, PathBuf);

/// Moves files away that no command can use. Newer ones and mixed up ones are a person's. Returns
/// those that may have been ours.
fn move_aside(context: &Context, done: &mut Vec<Repaired>) -> anyhow::Result<Vec<Lost>> {
    let folder = context.paths.context_storage();
    let mut lost = Vec::new();
    for (file, look) in LocalStore::look_at(&folder) {
        let Err(error) = look else { continue };
        let code = error.storage_code().unwrap_or_default();
        if !matches!(code, "not_ours" | "not_a_database" | "damaged") {
            continue;
        }
        let _lease = LocalStore::lease_of(&folder)?;
        let to = move_one(&folder, file, code, done)?;
        if code != "not_ours" {
            lost.push((file, to));
        }
    }
    Ok(lost)
}

/// Moves a database with what SQLite keeps beside it, and returns where it is.
fn move_one(
    folder: &Path,
    file: File,
    code: &str,
    done: &mut Vec<Repaired>,
) -> anyhow::Result<PathBuf> {
    let stamp: String = clock::rfc3339(clock::now_ms())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(15)
        .collect();
    let mut undo = Vec::new();
    for end in ["-wal", "-shm", ""] {
        let from = folder.join(format!("{file}.db{end}"));
        if !from.exists() {
            continue;
        }
        let to = folder.join(format!("{file}.db.{code}-{stamp}{end}"));
        std::fs::rename(&from, &to).with_context(|| format!("moving {} aside", from.display()))?;
        undo.push(format!("mv {} {}", quoted(&to), quoted(&from)));
    }
    done.push(Repaired {
        what: format!("{file}.db ({code}) was moved to {file}.db.{code}-{stamp}"),
        undo: Some(undo.join(" && ")),
    });
    Ok(folder.join(format!("{file}.db.{code}-{stamp}")))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Takes the others' rights from the profile's files.
fn close(context: &Context, done: &mut Vec<Repaired>) -> anyhow::Result<()> {
    for path in files::open_to_others(context) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path)?.permissions().mode();
            let private = std::fs::Permissions::from_mode(mode & 0o700);
            std::fs::set_permissions(&path, private)
                .with_context(|| format!("closing {}", path.display()))?;
        }
        done.push(Repaired::new(format!(
            "only you can read {} now",
            path.display()
        )));
    }
    Ok(())
}

/// Returns what is wrong with a database, also where SQLite cannot look at all of it.
fn problems(store: &LocalStore, file: File) -> anyhow::Result<Vec<String>> {
    match store.integrity_check(file) {
        Err(Error::Damaged { cause, .. }) => Ok(vec![cause.to_string()]),
        found => Ok(found?),
    }
}

fn indexes(store: &mut LocalStore, done: &mut Vec<Repaired>) -> anyhow::Result<()> {
    for file in File::ALL {
        let problems = problems(store, file)?;
        if !problems.is_empty() && problems.iter().all(|problem| problem.contains("index")) {
            store.reindex(file)?;
            done.push(Repaired::new(format!(
                "the indexes of {file}.db were made anew"
            )));
        }
    }
    Ok(())
}

fn delays(store: &mut LocalStore, done: &mut Vec<Repaired>) -> anyhow::Result<()> {
    for file in File::ALL {
        let waited = match store.clear_delays(file) {
            // Nobody agreed to put it aside.
            Err(Error::Damaged { .. }) => continue,
            cleared => cleared?,
        };
        if waited > 0 {
            let what = format!("{waited} refused changes of {file}.db go with the next sync");
            done.push(Repaired::new(what));
        }
    }
    Ok(())
}

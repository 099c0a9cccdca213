//! The files of this machine: databases, permissions, space.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use coditect_daemon::archive::Archive;
use coditect_local_store::{Damage, LocalStore};
use coditect_protocol::catalogue::File;

use super::Check;
use crate::commands::backup;
use crate::context::Context;
use crate::table::short_time;

/// Bytes that must fit on the disk. One page of changes needs no more.
const FREE_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Files that are looked at for their permissions.
const PATHS_MAX: usize = 10_000;

/// Returns a check for every database that cannot be opened.
pub(super) fn unusable(context: &Context) -> Vec<Check> {
    let looked = LocalStore::look_at(&context.paths.context_storage());
    let refused = looked.into_iter().filter_map(|(file, look)| {
        let error = look.err()?;
        let code = error.storage_code().unwrap_or("unusable");
        let text = error.to_string();
        // The error's own hint is on its second line.
        let (detail, hint) = text.split_once("\n").unwrap_or((&text, ""));
        let hint = hint.trim().trim_start_matches("hint: ");
        let check = Check::error(&format!("{file}.db"), format!("{detail} ({code})"));
        Some(match code {
            "not_ours" | "not_a_database" | "damaged" => {
                check.hint(format!("{hint}; coditect doctor --repair moves it away"))
            }
            _ if hint.is_empty() => check,
            _ => check.hint(hint),
        })
    });
    refused.collect()
}

/// Reads the whole archive of transcripts.
pub(super) fn archive(context: &Context) -> Check {
    let archive = Archive::new(&context.paths.data_dir());
    let check = || -> anyhow::Result<Check> {
        let wrong = archive.verify()?;
        let space = archive.space()?;
        let detail = format!(
            "{} transcripts of {} bytes in {} bytes",
            space.files, space.bytes_original, space.bytes_stored
        );
        Ok(match wrong.first() {
            None => Check::ok("archive", detail),
            Some(first) => Check::error("archive", format!("{} damaged: {first}", wrong.len()))
                .hint("put the folder archive back from a copy; new ones are kept all the same"),
        })
    };
    Check::of("archive", check())
}

/// Reads the newest backup of the critical file whole.
pub(super) fn backups(context: &Context) -> Check {
    let backups = backup::own(context);
    let check = || -> anyhow::Result<Check> {
        let listed = backups.list()?;
        let newest = listed.iter().rev().find(|one| match &one.manifest {
            Ok(manifest) => manifest.saved(File::Org).is_some(),
            Err(_) => true,
        });
        let daily = match context.cloud.daily_backup {
            true => "daily ones are made",
            false => "none are made by themselves (cloud.daily_backup)",
        };
        let Some(newest) = newest else {
            return Ok(Check::ok("backups", format!("none yet, {daily}")));
        };
        Ok(match backups.verify(&newest.id) {
            Ok(manifest) => {
                let made = short_time(Some(&manifest.created_at));
                let count = listed.len();
                Check::ok(
                    "backups",
                    format!("{count}, the last of {made} is whole, {daily}"),
                )
            }
            Err(error) => Check::warning("backups", error.to_string()).hint(format!(
                "coditect backup; coditect backup remove {}",
                newest.id
            )),
        })
    };
    Check::of("backups", check())
}

/// Checks the pages of a file and the rows in it.
pub(super) fn database(store: &mut LocalStore, file: File) -> Check {
    let name = format!("{file}.db");
    let hint = match file {
        File::Sessions => "coditect sync; or remove sessions.db and import again",
        _ => "coditect sync; or put the file back from a copy",
    };
    let mut check = || -> anyhow::Result<Check> {
        let problems = store.integrity_check(file)?;
        if let Some(first) = problems.first() {
            let more = problems.len() - 1;
            let detail = format!("damaged: {first} ({more} more problems)");
            let hint = "coditect doctor --repair; it makes indexes anew, or the whole file";
            return Ok(Check::error(&name, detail).hint(hint));
        }
        let checked = store.check_rows(file)?;
        if checked.wrong.is_empty() {
            let unmarked = store.count_unmarked(file)?;
            let rows = checked.rows;
            let detail = match unmarked {
                0 => format!("{rows} acknowledged rows are as they were"),
                _ => format!("{rows} acknowledged rows, {unmarked} not in the queue yet"),
            };
            return Ok(Check::ok(&name, detail));
        }
        let count = |damage| {
            checked
                .wrong
                .iter()
                .filter(|wrong| wrong.damage == damage)
                .count()
        };
        let detail = format!(
            "{} rows changed and {} gone without a mark, {} with wrong notes",
            count(Damage::Content),
            count(Damage::Missing),
            count(Damage::Base)
        );
        Ok(Check::error(&name, detail).hint(hint))
    };
    Check::of(&name, check())
}

/// Names databases in the folder that are not of this program.
pub(super) fn strangers(context: &Context) -> Option<Check> {
    let entries = std::fs::read_dir(context.paths.context_storage()).ok()?;
    let ours = |name: &str| File::ALL.iter().any(|file| name == format!("{file}.db"));
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".db") && !ours(name))
        .collect();
    names.sort();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{}: not of this program, left alone", names.join(", "));
    Some(Check::ok("other files", detail))
}

/// Checks that only the owner can read the files.
pub(super) fn permissions(context: &Context) -> Check {
    match open_to_others(context).as_slice() {
        [] => Check::ok("permissions", "only you can read the files"),
        paths => {
            let names: Vec<String> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let detail = format!("others can read {}", names.join(", "));
            let hint = "coditect doctor --repair, or chmod -R go= ~/.coditect ~/.coditect-data";
            Check::error("permissions", detail).hint(hint)
        }
    }
}

/// Returns the profile's files and folders that others have rights to. A log or lock below a
/// closed folder counts as well: folders are copied and opened.
pub(super) fn open_to_others(context: &Context) -> Vec<PathBuf> {
    let paths = &context.paths;
    let config = paths.config_file();
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![paths.data_dir()];
    left.extend(config.parent().map(Path::to_owned));
    let mut seen = 0;
    while let Some(path) = left.pop() {
        seen += 1;
        if seen > PATHS_MAX {
            break;
        }
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_symlink() {
            continue;
        }
        if is_open(&metadata) {
            found.push(path.clone());
        }
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    found.sort();
    found
}

#[cfg(unix)]
fn is_open(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open(_: &std::fs::Metadata) -> bool {
    false
}

/// Checks that something can still be written.
pub(super) fn space(context: &Context) -> Check {
    let folder = context.paths.data_dir();
    if !folder.is_dir() {
        return Check::ok("space", "nothing is stored yet");
    }
    let path = folder.join(format!(".doctor.{}.probe", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&vec![0x5a; FREE_BYTES_MIN])?;
        file.sync_all()
    };
    let written = write();
    let _ = std::fs::remove_file(&path);
    let place = folder.display();
    match written {
        Ok(()) => Check::ok("space", format!("{place} can be written")),
        Err(error) => {
            let detail = format!("{place} takes no {FREE_BYTES_MIN} bytes more: {error}");
            Check::error("space", detail)
                .hint("make room; what is stored stays, and the queue goes on afterwards")
        }
    }
}

//! `coditect project scan`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coditect_core::{canonical, hash};
use coditect_local_store::LocalStore;
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::wire::Row;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Scan, identity, of_project};
use crate::clock;
use crate::commands::records::text;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::ignore::{DEFAULTS, Patterns};
use crate::repository::{self, Repository};
use crate::table::grouped;

/// Files of a project that are looked at.
const FILES_MAX: usize = 200_000;
/// Largest file that is hashed, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows that are stored in one transaction, so that a hook does not wait.
const CHUNK_ROWS: usize = 500;
/// What stands for a package, and the language that it is of.
const MANIFESTS: &[(&str, &str)] = &[
    ("Cargo.toml", "Rust"),
    ("package.json", "JavaScript"),
    ("pyproject.toml", "Python"),
    ("go.mod", "Go"),
    ("pom.xml", "Java"),
    ("build.gradle", "Java"),
    ("Gemfile", "Ruby"),
];
const LANGUAGES: &[(&str, &str)] = &[
    ("rs", "Rust"),
    ("ts", "TypeScript"),
    ("tsx", "TypeScript"),
    ("js", "JavaScript"),
    ("jsx", "JavaScript"),
    ("py", "Python"),
    ("go", "Go"),
    ("java", "Java"),
    ("kt", "Kotlin"),
    ("rb", "Ruby"),
    ("c", "C"),
    ("h", "C"),
    ("cc", "C++"),
    ("cpp", "C++"),
    ("cs", "C#"),
    ("swift", "Swift"),
    ("php", "PHP"),
    ("sh", "Shell"),
    ("sql", "SQL"),
];

/// What a scan did with files.
#[derive(Debug, Default)]
struct Counted {
    seen: usize,
    hashed: usize,
    unchanged: usize,
    removed: usize,
    skipped: usize,
}

/// Runs the command.
pub(super) fn run(context: &Context, command: &Scan) -> anyhow::Result<Exit> {
    let given = command.path.clone().map_or_else(|| context.folder(), Ok)?;
    let folder = std::fs::canonicalize(&given).map_err(|error| {
        CommandError::new(Exit::NotFound, format!("{}: {error}", given.display()))
    })?;
    if !folder.is_dir() {
        let message = format!("{} is no folder", folder.display());
        return Err(CommandError::new(Exit::Usage, message).into());
    }
    let mut store = context.adopted_store(&[File::Projects, File::Org])?;
    let repository = repository::of(&folder)?;
    let project = identity(&folder, repository.as_ref(), &store);
    let root = repository
        .as_ref()
        .map_or(folder, |found| found.root.clone());
    let is_new = of_project(&store, "projects_projects", &project)?.is_empty();
    if is_new {
        exclude(&mut store, &project)?;
    }
    let patterns = patterns(&store, &project)?;
    let paths = paths(&root, repository.is_some(), &patterns)?;
    let parts = parts(&root, &paths);
    note(
        &mut store,
        &project,
        &root,
        repository.as_ref(),
        command,
        &paths,
        &parts,
    )?;
    for (path, kind, name) in &parts {
        let row = json!({
            "project_id": project, "name": name, "path": path, "kind": kind,
        });
        put(&mut store, "projects_sub_projects", &[&project, path], row)?;
    }
    let mut counted = Counted::default();
    if !command.no_files {
        counted = files(&mut store, &project, &root, &paths)?;
    }
    print(context, &project, &root, is_new, &parts, &counted)
}

fn print(
    context: &Context,
    project: &str,
    root: &Path,
    is_new: bool,
    parts: &[Part],
    counted: &Counted,
) -> anyhow::Result<Exit> {
    let document = json!({
        "project_id": project, "path": root.display().to_string(), "new": is_new,
        "sub_projects": parts.len(),
        "files": {
            "seen": counted.seen, "hashed": counted.hashed, "unchanged": counted.unchanged,
            "removed": counted.removed, "skipped": counted.skipped,
        },
    });
    context.printer.either(&document, |printer| {
        let word = if is_new { "new project" } else { "project" };
        printer.line(&format!("{word} {project} in {}", root.display()))?;
        let number = |count: usize| grouped(count as u64);
        printer.line(&format!(
            "{} parts; {} files: {} hashed, {} unchanged, {} gone, {} left out",
            number(parts.len()),
            number(counted.seen),
            number(counted.hashed),
            number(counted.unchanged),
            number(counted.removed),
            number(counted.skipped)
        ))
    })?;
    Ok(Exit::Ok)
}

fn table(name: &str) -> &'static Table {
    by_cloud_name(name).unwrap_or_else(|| unreachable!("{name} is in the catalogue"))
}

fn put(store: &mut LocalStore, name: &str, key: &[&str], row: Value) -> anyhow::Result<bool> {
    let Value::Object(mut row) = row else {
        unreachable!("a row is an object")
    };
    row.retain(|_, value| !value.is_null());
    let id = hash::named_id(table(name), key);
    let own = coditect_protocol::scope::LOCAL_USER;
    Ok(store.insert_as(name, own, id, row, clock::now_ms())?)
}

/// Gives a new project the patterns that nearly everybody wants.
fn exclude(store: &mut LocalStore, project: &str) -> anyhow::Result<()> {
    for (pattern, reason) in DEFAULTS {
        let row = json!({"project_id": project, "pattern": pattern, "reason": reason});
        put(store, "projects_exclude_patterns", &[project, pattern], row)?;
    }
    Ok(())
}

/// Returns the patterns of the project and those of all projects, oldest first.
fn patterns(store: &LocalStore, project: &str) -> anyhow::Result<Patterns> {
    let filter = coditect_local_store::RowFilter {
        oldest_first: true,
        limit: super::ROWS_MAX,
        ..Default::default()
    };
    let rows = store.list("projects_exclude_patterns", &filter)?;
    let counts = |row: &Row| {
        let of = text(row, "project_id");
        (of.is_empty() || of == project) && row.get("enabled") != Some(&Value::Bool(false))
    };
    let rows = rows.iter().filter(|view| counts(&view.row));
    let lines: Vec<String> = rows.map(|view| text(&view.row, "pattern")).collect();
    Ok(Patterns::new(lines.iter().map(String::as_str)))
}

/// Returns the project's files relative to its root, in order.
fn paths(root: &Path, has_git: bool, patterns: &Patterns) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    if has_git {
        for path in repository::files(root)? {
            // A name that is no text cannot be a column's value.
            if let Some(path) = path.to_str()
                && !patterns.leave_out(path)
            {
                found.push(path.to_owned());
            }
        }
    } else {
        walk(root, patterns, &mut found)?;
    }
    if found.len() > FILES_MAX {
        let count = found.len();
        let message = format!("{count} files are more than the {FILES_MAX} that are looked at");
        let error = CommandError::new(Exit::Failure, message);
        return Err(error.hint("coditect exclude add 'FOLDER/'").into());
    }
    found.sort();
    Ok(found)
}

fn walk(root: &Path, patterns: &Patterns, found: &mut Vec<String>) -> anyhow::Result<()> {
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
                continue;
            };
            let kind = entry.file_type()?;
            if kind.is_dir() && !patterns.leave_out_folder(name) {
                left.push(path);
            } else if kind.is_file() && !patterns.leave_out(name) {
                found.push(name.to_owned());
            }
        }
        if found.len() > FILES_MAX {
            return Ok(());
        }
    }
    Ok(())
}

/// Path, kind and name of a part.
type Part = (String, &'static str, String);

/// Returns the parts of a project: submodules, and packages below its root.
fn parts(root: &Path, paths: &[String]) -> Vec<Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for path in paths {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        if !folder.is_empty() && MANIFESTS.iter().any(|(manifest, _)| *manifest == file) {
            let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
            parts.insert(folder.to_owned(), (folder.to_owned(), "package", name));
        }
    }
    let modules = std::fs::read_to_string(root.join(".gitmodules")).unwrap_or_default();
    for line in modules.lines() {
        let Some(("path", path)) = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
        else {
            continue;
        };
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        parts.insert(path.to_owned(), (path.to_owned(), "submodule", name));
    }
    parts.into_values().collect()
}

/// Writes the project down: as it is known on disk, and in the register.
fn note(
    store: &mut LocalStore,
    project: &str,
    root: &Path,
    repository: Option<&Repository>,
    command: &Scan,
    paths: &[String],
    parts: &[Part],
) -> anyhow::Result<()> {
    let remote = repository.and_then(|found| found.remote.clone());
    let folder = root
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let of_remote = remote
        .as_deref()
        .and_then(|remote| remote.rsplit('/').next());
    let name = of_remote.map(str::to_owned).or(folder);
    let name = name.unwrap_or_else(|| project.to_owned());
    let known = of_project(store, "projects_projects", project)?;
    let known = known.first();
    let kept = known.map(|view| text(&view.row, "name"));
    let name = command.name.clone().or(kept).unwrap_or(name);
    let packages = parts.iter().filter(|part| part.1 == "package").count();
    let kind = match repository {
        Some(found) if found.is_submodule => "submodule",
        _ if packages > 1 => "monorepo",
        _ => "standalone",
    };
    let url = remote.map(|remote| format!("https://{remote}"));
    let commit = repository.and_then(|found| found.root_commit.clone());
    let mut row = json!({
        "project_id": project, "name": name, "primary_language": language(paths),
        "project_type": kind, "repository_url": url, "root_commit": commit,
    });
    // Each machine has its own folder; the first one is kept as a hint for people.
    if known.is_none() {
        row["path"] = json!(root.display().to_string());
    }
    put(store, "projects_projects", &[project], row)?;
    let row = json!({
        "project_id": project, "name": name, "repository_url": url, "root_commit": commit,
    });
    put(store, "org_projects", &[project], row)?;
    Ok(())
}

/// Returns the language that most files are written in.
fn language(paths: &[String]) -> Option<&'static str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in paths {
        let end = path.rsplit_once('.').map_or("", |(_, end)| end);
        if let Some((_, language)) = LANGUAGES.iter().find(|(known, _)| *known == end) {
            *counts.entry(language).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.and_then(|(name, _)| LANGUAGES.iter().find(|(_, known)| *known == name))
        .map(|(_, known)| *known)
}

/// Returns what is stored of this machine's files, by path: the row, its scope and its id. Rows of
/// other devices may have been fetched; they are not this machine's.
fn known_files(
    store: &LocalStore,
    project: &str,
) -> anyhow::Result<BTreeMap<String, (Row, String, String)>> {
    let device = store.device().to_string();
    let mut known = BTreeMap::new();
    for view in of_project(store, "projects_content_hashes", project)? {
        if view.device_id.as_deref() == Some(device.as_str()) {
            let id = view.id.unwrap_or_default();
            known.insert(text(&view.row, "file_path"), (view.row, view.scope, id));
        }
    }
    Ok(known)
}

/// Hashes what changed since the last time, and forgets what is gone.
fn files(
    store: &mut LocalStore,
    project: &str,
    root: &Path,
    paths: &[String],
) -> anyhow::Result<Counted> {
    let mut known = known_files(store, project)?;
    let mut counted = Counted::default();
    let mut rows = Vec::new();
    for path in paths {
        let full = root.join(path);
        let Ok(metadata) = std::fs::symlink_metadata(&full) else {
            // Tracked, and removed from disk.
            continue;
        };
        let before = known.remove(path);
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            counted.skipped += 1;
            continue;
        }
        counted.seen += 1;
        let modified = metadata
            .modified()
            .ok()
            .and_then(unix_ms)
            .map(canonical::time_from_ms);
        let same = |row: &Row| {
            row.get("size_bytes").and_then(Value::as_u64) == Some(metadata.len())
                && modified.as_deref() == Some(&text(row, "modified_at"))
        };
        if before.is_some_and(|(row, ..)| same(&row)) {
            counted.unchanged += 1;
            continue;
        }
        let Ok(file_hash) = hash_of(&full) else {
            counted.skipped += 1;
            continue;
        };
        counted.hashed += 1;
        let row = json!({
            "project_id": project, "file_path": path, "file_hash": file_hash,
            "size_bytes": metadata.len(), "modified_at": modified,
            "indexed_at": clock::rfc3339(clock::now_ms()),
        });
        if let Value::Object(row) = row {
            rows.push(("projects_content_hashes", row));
        }
        if rows.len() >= CHUNK_ROWS {
            store.ingest(
                File::Projects,
                std::mem::take(&mut rows),
                None,
                clock::now_ms(),
            )?;
        }
    }
    store.ingest(File::Projects, rows, None, clock::now_ms())?;
    for (_, scope, id) in known.values() {
        store.delete("projects_content_hashes", scope, id, clock::now_ms())?;
        counted.removed += 1;
    }
    Ok(counted)
}

fn unix_ms(time: std::time::SystemTime) -> Option<i64> {
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_packages_below_the_root_and_submodules() {
        let folder = tempfile::tempdir().unwrap();
        let modules = "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib\n";
        std::fs::write(folder.path().join(".gitmodules"), modules).unwrap();
        let paths = [
            "Cargo.toml",
            "a/Cargo.toml",
            "web/app/package.json",
            "a/x.rs",
            "b.py",
        ];
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        let found = parts(folder.path(), &paths);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(path, kind, _)| (path.as_str(), *kind))
            .collect();
        assert_eq!(
            found,
            [
                ("a", "package"),
                ("vendor/lib", "submodule"),
                ("web/app", "package")
            ]
        );
        assert!(language(&paths).is_some());
    }
}

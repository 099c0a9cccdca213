//! What the installed `git` says about a folder: whose repository it is, and which files it has.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use coditect_core::repository as identity;

use crate::exit::{CommandError, Exit};

/// A repository's identity, which is the same in every clone of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Folder of the working tree.
    pub(crate) root: PathBuf,
    /// Its remote in one spelling, such as `github.com/acme/app`.
    pub(crate) remote: Option<String>,
    /// Its first commit; none in a shallow clone, which does not have it.
    pub(crate) root_commit: Option<String>,
    /// Whether it is a submodule of another one.
    pub(crate) is_submodule: bool,
}

/// Returns the repository that a folder is in; none when it is in none, or without `git`.
///
/// # Errors
/// When `git` refuses to look, as in a folder of another user.
pub(crate) fn of(folder: &Path) -> anyhow::Result<Option<Repository>> {
    let ran = match command(folder, ["rev-parse", "--show-toplevel"]).output() {
        Ok(ran) => ran,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot run git"),
    };
    if !ran.status.success() {
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        if text.contains("dubious ownership") {
            let error = CommandError::new(Exit::Refused, "git refuses a folder of another user");
            let hint = format!(
                "git config --global --add safe.directory {}",
                folder.display()
            );
            return Err(error.hint(hint).into());
        }
        return Ok(None);
    }
    let root = PathBuf::from(String::from_utf8_lossy(&ran.stdout).trim_end_matches(['\n', '\r']));
    let line = |arguments: &[&str]| -> Option<String> {
        let ran = command(&root, arguments).output().ok()?;
        let text = String::from_utf8(ran.stdout).ok()?;
        let line = text.lines().last()?.trim().to_owned();
        (ran.status.success() && !line.is_empty()).then_some(line)
    };
    let remote = line(&["config", "--get", "remote.origin.url"]).or_else(|| {
        let name = line(&["remote"])?;
        line(&["config", "--get", &format!("remote.{name}.url")])
    });
    let shallow = line(&["rev-parse", "--is-shallow-repository"]).as_deref() == Some("true");
    // The last line is the oldest of several first commits.
    let first = || line(&["rev-list", "--max-parents=0", "HEAD"]);
    Ok(Some(Repository {
        remote: remote.as_deref().and_then(identity::remote),
        root_commit: if shallow { None } else { first() }.and_then(|id| identity::commit(&id)),
        is_submodule: line(&["rev-parse", "--show-superproject-working-tree"]).is_some(),
        root,
    }))
}

/// Returns the files of a repository, tracked ones and new ones, without what it ignores.
///
/// # Errors
/// When `git` fails.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let arguments = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let ran = command(root, arguments)
        .output()
        .context("cannot run git")?;
    if !ran.status.success() {
        anyhow::bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&ran.stderr).trim()
        );
    }
    let names = ran
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut files: Vec<PathBuf> = names.map(path_of).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(unix)]
fn path_of(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(OsStr::from_bytes(name))
}

#[cfg(not(unix))]
fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(name).into_owned())
}

/// `git` in a folder: asks nobody, takes no locks, and is not misled by a hook's environment.
fn command(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
}

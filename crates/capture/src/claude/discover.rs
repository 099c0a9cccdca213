//! Finds transcript files.

use std::path::{Path, PathBuf};

use super::reader::ReadError;

/// Folders beside transcripts that hold other things.
pub(crate) const OTHER_FOLDERS: [&str; 2] = ["tool-results", "memory"];
/// Depth below `projects` that is searched: project, session, `subagents`, and some to spare.
const DEPTH_MAX: usize = 8;

/// What was found below an agent's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Transcripts, sorted by path.
    pub files: Vec<PathBuf>,
    /// What looks like one but is not read, with the reason.
    pub left_out: Vec<String>,
}

impl Discovered {
    pub(crate) fn join(&mut self, other: Self) {
        self.files.extend(other.files);
        self.left_out.extend(other.left_out);
        self.files.sort();
    }
}

/// Returns the transcript files under `dir/projects`, sorted by path. `dir` is the agent's
/// folder, such as `~/.claude`.
///
/// # Errors
/// As [`discover_all`].
pub fn discover(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    Ok(discover_all(dir)?.files)
}

/// Returns the transcript files under `dir/projects`, and what looks like one but is none: a
/// link that leads out of `dir`, or something that is no file. Links to folders are not followed.
///
/// # Errors
/// [`ReadError`] when there is no readable `projects` folder; unreadable folders below it are
/// named.
pub fn discover_all(dir: &Path) -> Result<Discovered, ReadError> {
    let is_transcript = |path: &Path| path.extension().is_some_and(|ending| ending == "jsonl");
    find_below(&dir.join("projects"), dir, &is_transcript)
}

/// Returns the files below `root` that fit; `home` is where links may lead.
pub(crate) fn find_below(
    root: &Path,
    home: &Path,
    fits: &dyn Fn(&Path) -> bool,
) -> Result<Discovered, ReadError> {
    let entries = std::fs::read_dir(root).map_err(|source| ReadError::new(root, source))?;
    let mut search = Search {
        home: home.canonicalize().unwrap_or_else(|_| home.to_owned()),
        fits,
        found: Discovered::default(),
    };
    search.visit(entries, 0);
    search.found.files.sort();
    Ok(search.found)
}

struct Search<'a> {
    home: PathBuf,
    fits: &'a dyn Fn(&Path) -> bool,
    found: Discovered,
}

impl Search<'_> {
    fn visit(&mut self, entries: std::fs::ReadDir, depth: usize) {
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let is_other = OTHER_FOLDERS.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !is_other && depth < DEPTH_MAX {
                match std::fs::read_dir(&path) {
                    Ok(below) => self.visit(below, depth + 1),
                    Err(error) => self.leave_out(&path, &error.to_string()),
                }
            } else if !kind.is_dir() && (self.fits)(&path) {
                match self.refusal(&path) {
                    None => self.found.files.push(path),
                    Some(reason) => self.leave_out(&path, &reason),
                }
            }
        }
    }

    fn leave_out(&mut self, path: &Path, reason: &str) {
        let line = format!("could not read {}: {reason}", path.display());
        self.found.left_out.push(line);
    }

    /// Returns why a file is not read, if it is not. A pipe would never end, and a link out of
    /// the agent's folder could name any file of the machine.
    fn refusal(&self, path: &Path) -> Option<String> {
        match std::fs::metadata(path) {
            Err(error) => return Some(error.to_string()),
            Ok(metadata) if !metadata.is_file() => return Some("it is no file".to_owned()),
            Ok(_) => {}
        }
        let leads_out = path
            .canonicalize()
            .map_or(true, |path| !path.starts_with(&self.home));
        leads_out.then(|| "it is a link out of the agent's folder".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_subagents_are_found_and_spilled_output_is_not() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join("projects/-repo");
        for path in [
            "s.jsonl",
            "agent-a.jsonl",
            "s/subagents/agent-b.jsonl",
            "s/tool-results/x.jsonl",
            "memory/m.jsonl",
            "s/subagents/agent-b.meta.json",
        ] {
            let path = project.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}\n").unwrap();
        }
        let found = discover(home.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(&project).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["agent-a.jsonl", "s/subagents/agent-b.jsonl", "s.jsonl"]
        );
    }

    #[test]
    fn a_folder_without_projects_is_an_error_that_names_it() {
        let home = tempfile::tempdir().unwrap();
        let error = discover(home.path()).unwrap_err();
        assert!(error.to_string().contains("projects"), "{error}");
    }
}

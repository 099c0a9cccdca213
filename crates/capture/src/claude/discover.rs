//! Finds transcript files.

use std::path::{Path, PathBuf};

use super::reader::ReadError;

/// Folders beside transcripts that hold other things.
const OTHER_FOLDERS: [&str; 2] = ["tool-results", "memory"];
/// Depth below `projects` that is searched: project, session, `subagents`, and some to spare.
const DEPTH_MAX: usize = 8;

/// Returns the transcript files under `dir/projects`, sorted by path. `dir` is the agent's
/// folder, such as `~/.claude`. Links to folders are not followed.
///
/// # Errors
/// [`ReadError`] when there is no readable `projects` folder; unreadable folders below it are
/// left out.
pub fn discover(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let root = dir.join("projects");
    let entries = std::fs::read_dir(&root).map_err(|source| ReadError::new(&root, source))?;
    let mut files = Vec::new();
    visit(entries, 0, &mut files);
    files.sort();
    Ok(files)
}

fn visit(entries: std::fs::ReadDir, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let is_other = OTHER_FOLDERS.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !is_other && depth < DEPTH_MAX {
            if let Ok(below) = std::fs::read_dir(&path) {
                visit(below, depth + 1, files);
            }
        } else if !kind.is_dir() && path.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(path);
        }
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

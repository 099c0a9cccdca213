//! Which repository a folder is in, by its files alone: starting `git` costs more than a hook has.

use std::path::{Path, PathBuf};

use coditect_core::repository;

/// Folders above the one that is asked about that are looked at.
const DEPTH_MAX: usize = 64;
/// Longest configuration of a repository that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;

/// A repository, or a folder that is in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Working tree, or the folder itself.
    pub(super) root: PathBuf,
    /// Whether it is a repository.
    pub(super) is_repository: bool,
    /// Its remote in one spelling, such as `github.com/acme/app`.
    pub(super) remote: Option<String>,
}

/// Returns where a folder belongs.
pub(super) fn of(folder: &Path) -> Place {
    let found = folder
        .ancestors()
        .take(DEPTH_MAX)
        .find(|above| above.join(".git").exists());
    let Some(root) = found else {
        return Place {
            root: folder.to_owned(),
            is_repository: false,
            remote: None,
        };
    };
    let remote = git_folder(root).and_then(|git| {
        let config = git.join("config");
        let small = std::fs::metadata(&config).is_ok_and(|it| it.len() <= CONFIG_BYTES_MAX);
        let text = small.then(|| std::fs::read_to_string(config).ok())??;
        remote(&text)
    });
    Place {
        root: root.to_owned(),
        is_repository: true,
        remote,
    }
}

impl Place {
    /// Returns whether a path belongs to it: everything below a repository does; a folder that is
    /// in none stands for itself.
    pub(super) fn holds(&self, path: &Path) -> bool {
        if self.is_repository {
            path.starts_with(&self.root)
        } else {
            path == self.root
        }
    }
}

/// Returns the folder with the repository's configuration: of a worktree it is the main one's.
fn git_folder(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let own = root.join(text.strip_prefix("gitdir:")?.trim());
    match std::fs::read_to_string(own.join("commondir")) {
        Ok(common) => Some(own.join(common.trim())),
        Err(_) => Some(own),
    }
}

/// Returns the address of `origin`, else that of the first remote.
fn remote(config: &str) -> Option<String> {
    let mut section = None;
    let mut first = None;
    for line in config.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            let name = head.trim_end_matches(']').strip_prefix("remote ");
            section = name.map(|name| name.trim().trim_matches('"'));
            continue;
        }
        let (Some(name), Some((key, value))) = (section, line.split_once('=')) else {
            continue;
        };
        if key.trim() != "url" {
            continue;
        }
        let address = repository::remote(value.trim().trim_matches('"'));
        if name == "origin" {
            return address;
        }
        first = first.or(address);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_known_from_below_and_from_a_worktree() {
        let home = tempfile::tempdir().unwrap();
        let app = home.path().join("app");
        std::fs::create_dir_all(app.join(".git/worktrees/side")).unwrap();
        std::fs::create_dir_all(app.join("src/deep")).unwrap();
        let config = "[core]\n\tbare = false\n[remote \"fork\"]\n\turl = git@x.org:me/app.git\n\
                      [remote \"origin\"]\n\turl = https://ann:pw@GitHub.com/Acme/App.git\n";
        std::fs::write(app.join(".git/config"), config).unwrap();
        let found = of(&app.join("src/deep"));
        assert_eq!(found.root, app);
        assert_eq!(found.remote.as_deref(), Some("github.com/acme/app"));

        let side = home.path().join("side");
        std::fs::create_dir(&side).unwrap();
        let own = app.join(".git/worktrees/side");
        std::fs::write(side.join(".git"), format!("gitdir: {}\n", own.display())).unwrap();
        std::fs::write(own.join("commondir"), "../..\n").unwrap();
        assert_eq!(of(&side).remote, found.remote);

        let none = of(home.path());
        assert_eq!((none.root.as_path(), none.remote), (home.path(), None));
    }

    #[test]
    fn without_origin_the_first_remote_counts() {
        assert_eq!(
            remote("[remote \"a\"]\nurl = x.org:b/c\n").as_deref(),
            Some("x.org/b/c")
        );
        assert_eq!(remote("[remote \"a\"]\nurl = /srv/x\n"), None);
        assert_eq!(remote(""), None);
    }
}

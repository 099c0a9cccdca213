//! Where PostgreSQL's programs are. Decides the order of preference; starts nothing but
//! `postgres --version`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// Where to look for PostgreSQL; values of the environment are passed in by the caller.
#[derive(Debug, Clone, Default)]
pub struct BinarySearch {
    /// Folder with `postgres` and `initdb` that wins over everything else.
    pub explicit: Option<PathBuf>,
    /// The user's home folder, below which `.local/share/coditect/postgresql/current` may lie.
    pub home: Option<PathBuf>,
    /// The value of `PATH`, searched last.
    pub path: Option<OsString>,
}

/// A folder with the programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Folder with `postgres` and `initdb`.
    pub folder: PathBuf,
    /// Major version, such as 15.
    pub major: u32,
    /// Whether the extension `vector` is installed beside it.
    pub has_vector: bool,
}

impl Binaries {
    /// Returns the path of the program `name`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Returns the PostgreSQL to use: of version `major` when the data folder already has one.
///
/// # Errors
///
/// [`EmbeddedError::NoBinaries`] when there is none at all, [`EmbeddedError::WrongMajor`] when
/// there are only others than the data folder's.
pub fn find(search: &BinarySearch, major: Option<u32>) -> Result<Binaries, EmbeddedError> {
    if let Some(folder) = &search.explicit {
        let found = inspect(folder).ok_or_else(|| EmbeddedError::NoBinaries {
            looked_in: vec![folder.clone()],
        })?;
        return match major {
            Some(wanted) if wanted != found.major => Err(EmbeddedError::WrongMajor {
                wanted,
                found: vec![found.major],
            }),
            _ => Ok(found),
        };
    }
    let folders = candidates(search);
    let all: Vec<Binaries> = folders
        .iter()
        .filter_map(|folder| inspect(folder))
        .collect();
    if all.is_empty() {
        return Err(EmbeddedError::NoBinaries { looked_in: folders });
    }
    let fitting: Vec<&Binaries> = all
        .iter()
        .filter(|found| major.is_none_or(|wanted| wanted == found.major))
        .collect();
    let best = fitting
        .iter()
        .find(|found| found.has_vector)
        .or_else(|| fitting.first());
    match (best, major) {
        (Some(best), _) => Ok((*best).clone()),
        (None, Some(wanted)) => Err(EmbeddedError::WrongMajor {
            wanted,
            found: all.iter().map(|found| found.major).collect(),
        }),
        (None, None) => Err(EmbeddedError::NoBinaries { looked_in: folders }),
    }
}

/// Returns the folders to look into, best first. Those with `vector` win over those without.
fn candidates(search: &BinarySearch) -> Vec<PathBuf> {
    let mut folders = numbered("/usr/lib/postgresql", "");
    folders.push(PathBuf::from("/opt/coditect/postgresql/current/bin"));
    if let Some(home) = &search.home {
        folders.push(home.join(".local/share/coditect/postgresql/current/bin"));
    }
    folders.extend(numbered("/opt/homebrew/opt", "postgresql@"));
    folders.extend(numbered("/usr/local/opt", "postgresql@"));
    folders.extend(numbered("/usr", "pgsql-"));
    if let Some(path) = &search.path {
        folders.extend(std::env::split_paths(path));
    }
    folders
}

/// Returns `bin` of the subfolders of `base` called `prefix` plus a number, highest first.
fn numbered(base: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Returns what is in `folder`, or `None` when it lacks one of the two programs.
fn inspect(folder: &Path) -> Option<Binaries> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
    Some(Binaries {
        folder: folder.to_owned(),
        major,
        has_vector: has_vector(folder, major),
    })
}

/// Returns 15 for `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(version: &str) -> Option<u32> {
    let after = version.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn has_vector(folder: &Path, major: u32) -> bool {
    let mut shares = vec![
        PathBuf::from(format!("/usr/share/postgresql/{major}")),
        PathBuf::from(format!("/opt/homebrew/share/postgresql@{major}")),
        PathBuf::from(format!("/usr/local/share/postgresql@{major}")),
    ];
    let system = folder.starts_with("/usr/lib/postgresql") || folder.starts_with("/opt/homebrew");
    if !system && !folder.starts_with("/usr/local/opt") {
        shares.clear();
    }
    if let Some(root) = folder.parent() {
        shares.push(root.join("share"));
        shares.push(root.join("share/postgresql"));
    }
    shares
        .iter()
        .any(|share| share.join("extension/vector.control").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_is_read_from_the_version_line() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }

    #[test]
    fn explicit_folder_without_programs_is_named_in_the_error() {
        let folder = PathBuf::from("/nonexistent/bin");
        let search = BinarySearch {
            explicit: Some(folder.clone()),
            ..BinarySearch::default()
        };
        let error = find(&search, None).expect_err("nothing is there");
        assert!(
            matches!(&error, EmbeddedError::NoBinaries { looked_in } if looked_in == &[folder])
        );
        assert!(error.to_string().contains("scripts/bootstrap"));
    }
}

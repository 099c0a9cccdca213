//! The folder of an embedded PostgreSQL: who owns it, how it is made, which version it has.

use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::guarded;
use super::os::{self, Account, Tie};
use super::reach::{Entrance, Reach};
use super::{Binaries, EmbeddedError};

/// Longest path of a unix socket that all supported systems accept (macOS: 104 with the NUL).
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The port is only a part of the socket's name; nothing listens on TCP.
pub(super) const PORT: u16 = 5432;
/// Name of the superuser that `initdb` makes.
pub(super) const SUPERUSER: &str = "postgres";

/// The places inside one embedded PostgreSQL's folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) account: Option<Account>,
    /// How PostgreSQL itself gets to `root`; all paths here are real ones.
    pub(super) reach: Reach,
}

impl Layout {
    /// Makes the folders below `root` and returns them.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Unreachable`] when the unprivileged user has no way to `root`.
    pub(super) fn prepare(root: &Path) -> Result<Self, EmbeddedError> {
        fs::create_dir_all(root).map_err(EmbeddedError::io("create", root))?;
        let root = root
            .canonicalize()
            .map_err(EmbeddedError::io("resolve", root))?;
        let account = unprivileged_account();
        let reach = match account {
            Some(account) => Reach::of(&root, account)?,
            None => Reach::Path,
        };
        let socket_dir = socket_dir(&root);
        for folder in [&root, &socket_dir] {
            guarded::own(folder, account).map_err(EmbeddedError::io("make and own", folder))?;
        }
        let (data, log) = (root.join("data"), root.join("postgres.log"));
        Ok(Self {
            root,
            data,
            socket_dir,
            log,
            account,
            reach,
        })
    }

    /// Returns the path of the unix socket that the server listens on.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{PORT}"))
    }

    /// Returns the major version of the cluster in the folder, `None` when there is none yet.
    pub(super) fn major(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Returns the path of the running server's lock file.
    pub(super) fn pid_file(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// Makes a cluster: in a scratch folder, renamed when whole, so that half a one never exists.
    pub(super) fn initialise(&self, binaries: &Binaries) -> Result<(), EmbeddedError> {
        let scratch = self.root.join("data.new");
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(EmbeddedError::io("remove", &scratch)(error));
            }
            _ => {}
        }
        let entrance = Entrance::open(&self.root, self.reach)?;
        let program = binaries.program("initdb");
        let mut command = Command::new(&program);
        command
            .arg("-D")
            .arg(entrance.path(&scratch))
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]);
        command
            .args(["--locale=C", "--no-sync"])
            .stdin(Stdio::null());
        clean_environment(&mut command);
        let folder = entrance.into_folder();
        os::prepare_child(&mut command, self.account, Tie::DiesWithThread, folder);
        let output = command
            .output()
            .map_err(EmbeddedError::io("run", &program))?;
        if !output.status.success() {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(EmbeddedError::Initdb { detail });
        }
        fs::rename(&scratch, &self.data).map_err(EmbeddedError::io("rename", &scratch))?;
        let folder = File::open(&self.root).map_err(EmbeddedError::io("open", &self.root))?;
        os::sync_file_system(&folder).map_err(EmbeddedError::io("sync", &self.root))
    }

    /// Removes the socket's folder where it lies outside, after the server has ended.
    pub(super) fn remove_outside(&self) {
        if !self.socket_dir.starts_with(&self.root) {
            // Not empty means that somebody else uses it by now.
            let _ = fs::remove_dir(&self.socket_dir);
        }
    }

    /// Returns the last lines of the server's log, for error messages.
    pub(super) fn log_tail(&self) -> String {
        let text = guarded::read(&self.log);
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }
}

/// Removes what would make a PostgreSQL program use another cluster or language.
pub(super) fn clean_environment(command: &mut Command) {
    for name in [
        "PGDATA",
        "PGPORT",
        "PGHOST",
        "PGUSER",
        "PGDATABASE",
        "PGOPTIONS",
    ] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").current_dir("/");
}

/// Returns whom PostgreSQL runs as: nobody special unless we are root, which it refuses to be.
fn unprivileged_account() -> Option<Account> {
    if os::effective_uid() != 0 {
        return None;
    }
    let named = ["postgres", "nobody"]
        .into_iter()
        .find_map(os::account_by_name);
    Some(named.unwrap_or(Account {
        uid: 65534,
        gid: 65534,
    }))
}

/// Returns `root/run`, or a short folder elsewhere when the socket's path would be too long.
fn socket_dir(root: &Path) -> PathBuf {
    let inside = root.join("run");
    if inside.as_os_str().len() + "/.s.PGSQL.5432".len() <= SOCKET_PATH_BYTES_MAX {
        return inside;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    root.hash(&mut hasher);
    let base = if os::effective_uid() == 0 && Path::new("/run").is_dir() {
        PathBuf::from("/run")
    } else {
        PathBuf::from("/tmp")
    };
    base.join(format!(
        "coditect-{}-{:016x}",
        os::effective_uid(),
        hasher.finish()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_folder_gets_a_short_socket_path() {
        let short = socket_dir(Path::new("/var/lib/coditect"));
        assert_eq!(short, Path::new("/var/lib/coditect/run"));
        let long = socket_dir(Path::new(&format!("/{}", "x".repeat(120))));
        assert!(
            long.as_os_str().len() + 14 <= SOCKET_PATH_BYTES_MAX,
            "{}",
            long.display()
        );
    }
}

//! The folder of a server on this machine: who uses it, and the files that scripts read.
//!
//! `server.lock` is held by the one server of the folder, `start.lock` by whoever starts
//! PostgreSQL in it for a moment; `server.json` says where the running server is;
//! `bootstrap.json` (mode 0600) holds what the first start made.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::{Exit, RUNS_ALREADY};

/// A server's folder.
#[derive(Debug, Clone)]
pub(super) struct DataDir {
    path: PathBuf,
}

/// Where the running server is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) url: String,
    pub(super) pid: u32,
    pub(super) version: String,
}

/// What the first start made, for the person who runs it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BootstrapFile {
    pub(super) url: String,
    pub(super) tenant_id: String,
    pub(super) user_id: String,
    pub(super) email: String,
    pub(super) password: String,
    pub(super) license_key: String,
}

/// A lock that ends with its owner.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl DataDir {
    /// Makes the folder when it is missing and returns it.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        }
        Self::open(path)
    }

    /// Returns a folder that exists.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot use the data folder {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the embedded PostgreSQL.
    pub(super) fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// Returns whether a server was started here before.
    pub(super) fn has_cluster(&self) -> bool {
        self.postgres().join("data").exists()
    }

    /// Takes the place of the one server of the folder.
    pub(super) fn lock_server(&self) -> anyhow::Result<Lock> {
        let path = self.path.join("server.lock");
        let file = lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(self.runs_already().into()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Waits until nobody else starts PostgreSQL in the folder; blocks.
    pub(super) fn lock_start(&self) -> anyhow::Result<Lock> {
        let path = self.path.join("start.lock");
        let file = lock_file(&path)?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }

    fn runs_already(&self) -> Exit {
        let folder = self.path.display();
        let text = match self.running() {
            Some(Running { url, pid, .. }) => format!(
                "a server already runs on {folder}: {url} (process {pid})\n\
                 hint: use it, or stop it with kill -TERM {pid}"
            ),
            None => format!("a server is already starting or stopping on {folder}"),
        };
        Exit {
            code: RUNS_ALREADY,
            text,
        }
    }

    /// Returns what the running server wrote; stale after a crash.
    fn running(&self) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.path.join("server.json")).ok()?).ok()
    }

    pub(super) fn write_running(&self, running: &Running) -> anyhow::Result<()> {
        self.write_json("server.json", running, 0o644)
    }

    /// Removes what [`DataDir::write_running`] wrote.
    pub(super) fn remove_running(&self) {
        for name in ["server.json", "server.pid"] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "cannot remove {name}");
                }
                _ => {}
            }
        }
    }

    /// Returns what the first start made, `None` when the file is gone.
    pub(super) fn bootstrap(&self) -> anyhow::Result<Option<BootstrapFile>> {
        let path = self.path.join("bootstrap.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => bail!("cannot read {}: {error}", path.display()),
        };
        let file = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(file))
    }

    pub(super) fn write_bootstrap(&self, file: &BootstrapFile) -> anyhow::Result<()> {
        self.write_json("bootstrap.json", file, 0o600)
    }

    /// Marks that the first start is between its commit and its file.
    pub(super) fn mark_bootstrap(&self) -> anyhow::Result<()> {
        self.write_json("bootstrap.pending", &serde_json::json!({}), 0o600)
    }

    pub(super) fn bootstrap_was_cut_short(&self) -> bool {
        self.path.join("bootstrap.pending").exists()
    }

    pub(super) fn unmark_bootstrap(&self) -> anyhow::Result<()> {
        let path = self.path.join("bootstrap.pending");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file whole or not at all.
    fn write_json(&self, name: &str, value: &impl Serialize, mode: u32) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let scratch = self.path.join(format!(".{name}.new"));
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        let write = || -> io::Result<()> {
            match fs::remove_file(&scratch) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&scratch)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&scratch, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn lock_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn second_server_is_told_where_the_first_one_is() {
        let temp = tempfile::tempdir().unwrap();
        let data_dir = DataDir::prepare(&temp.path().join("new")).unwrap();
        let lock = data_dir.lock_server().unwrap();
        let url = "http://127.0.0.1:1".to_owned();
        data_dir
            .write_running(&Running {
                url,
                pid: 7,
                version: String::new(),
            })
            .unwrap();
        let error = data_dir.lock_server().unwrap_err();
        assert!(
            error.to_string().contains("http://127.0.0.1:1 (process 7)"),
            "{error}"
        );
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code, RUNS_ALREADY);
        drop(lock);
        data_dir.lock_server().unwrap();
    }

    #[test]
    fn bootstrap_file_is_private_and_reads_back() {
        let temp = tempfile::tempdir().unwrap();
        let before = fs::metadata(temp.path()).unwrap().permissions();
        let data_dir = DataDir::prepare(temp.path()).unwrap();
        assert_eq!(fs::metadata(temp.path()).unwrap().permissions(), before);
        assert!(data_dir.bootstrap().unwrap().is_none());
        let file = BootstrapFile {
            url: "u".into(),
            tenant_id: "t".into(),
            user_id: "i".into(),
            email: "e".into(),
            password: "p".into(),
            license_key: "l".into(),
        };
        data_dir.write_bootstrap(&file).unwrap();
        data_dir.write_bootstrap(&file).unwrap();
        let mode = fs::metadata(temp.path().join("bootstrap.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(data_dir.bootstrap().unwrap().unwrap().license_key, "l");
    }
}

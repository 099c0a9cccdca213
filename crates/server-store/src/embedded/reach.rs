//! How PostgreSQL gets to its folder when it may not pass through the folders above.
//!
//! Started as root, PostgreSQL runs as another user, and a folder such as `/root/data` is out of
//! that user's reach although the cluster's own folder is theirs. The child then inherits the
//! open folder and names it `/proc/self/fd/N`; so do all processes that it forks. PostgreSQL
//! knows a cluster by its device and inode, so that its guards against a second server hold
//! under either name. Everybody but the child uses the real path.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::EmbeddedError;
use super::os::Account;

/// By which name a PostgreSQL program gets to its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By its real path.
    Path,
    /// By a descriptor that it inherits.
    Descriptor,
}

impl Reach {
    /// Returns how `account` gets to `root`; by the real path wherever that works.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Unreachable`] when it cannot, because the system has no `/proc/self/fd`.
    pub(super) fn of(root: &Path, account: Account) -> Result<Self, EmbeddedError> {
        let Some(closed) = closed_parent(root, account)? else {
            return Ok(Self::Path);
        };
        if has_descriptor_paths(root) {
            return Ok(Self::Descriptor);
        }
        Err(EmbeddedError::Unreachable {
            root: root.to_owned(),
            parent: closed,
            uid: account.uid,
        })
    }
}

/// The way into a folder for one child process.
#[derive(Debug)]
pub(super) struct Entrance {
    root: PathBuf,
    folder: Option<File>,
}

impl Entrance {
    /// Opens the folder `root` where the child is to inherit it.
    pub(super) fn open(root: &Path, reach: Reach) -> Result<Self, EmbeddedError> {
        let folder = match reach {
            Reach::Path => None,
            Reach::Descriptor => Some(File::open(root).map_err(EmbeddedError::io("open", root))?),
        };
        Ok(Self {
            root: root.to_owned(),
            folder,
        })
    }

    /// Returns the child's name for `path`, which may lie outside the folder.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        match (&self.folder, path.strip_prefix(&self.root)) {
            (Some(folder), Ok(inside)) => descriptor_path(folder).join(inside),
            _ => path.to_owned(),
        }
    }

    /// Returns the folder that the child has to inherit, under the same number.
    pub(super) fn into_folder(self) -> Option<File> {
        self.folder
    }
}

/// Returns the path by which a process that has `folder` open gets to it.
fn descriptor_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Returns whether paths of descriptors lead where they should.
fn has_descriptor_paths(root: &Path) -> bool {
    let same = || {
        let folder = File::open(root)?;
        let (through, real) = (fs::metadata(descriptor_path(&folder))?, folder.metadata()?);
        std::io::Result::Ok((through.dev(), through.ino()) == (real.dev(), real.ino()))
    };
    same().unwrap_or(false)
}

/// Returns the closest folder above `root` that `account` may not pass through.
fn closed_parent(root: &Path, account: Account) -> Result<Option<PathBuf>, EmbeddedError> {
    for parent in root.ancestors().skip(1) {
        let meta = fs::metadata(parent).map_err(EmbeddedError::io("read", parent))?;
        let needed = if meta.uid() == account.uid {
            0o100
        } else if meta.gid() == account.gid {
            0o010
        } else {
            0o001
        };
        if meta.mode() & needed == 0 {
            return Ok(Some(parent.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::super::os::{self, Tie};
    use super::*;

    const STRANGER: Account = Account {
        uid: 12_345_678,
        gid: 12_345_678,
    };

    #[test]
    fn closest_closed_parent_is_found() {
        let temp = tempfile::tempdir().expect("temporary folder");
        let temp = temp.path().canonicalize().expect("real path");
        let closed = temp.join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).expect("folders");
        fs::set_permissions(&temp, Permissions::from_mode(0o755)).expect("mode");
        assert_eq!(closed_parent(&inner, STRANGER).expect("readable"), None);
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("mode");
        let found = closed_parent(&inner, STRANGER).expect("readable");
        assert_eq!(found, Some(closed));
    }

    #[test]
    fn real_path_is_kept_where_it_works() {
        let root = Path::new("/");
        assert_eq!(Reach::of(root, STRANGER).expect("reachable"), Reach::Path);
        let entrance = Entrance::open(root, Reach::Path).expect("an entrance");
        assert_eq!(entrance.path(Path::new("/data")), Path::new("/data"));
        assert!(entrance.into_folder().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_child_it_is_meant_for_inherits_the_folder() {
        let temp = tempfile::tempdir().expect("temporary folder");
        fs::write(temp.path().join("marker"), "here").expect("a file");
        let entrance = Entrance::open(temp.path(), Reach::Descriptor).expect("an entrance");
        let outside = Path::new("/run/elsewhere");
        assert_eq!(entrance.path(outside), outside);
        let marker = entrance.path(&temp.path().join("marker"));
        assert!(marker.starts_with("/proc/self/fd"), "{}", marker.display());
        let cat = || {
            let mut command = Command::new("cat");
            command.arg(&marker);
            command
        };
        let mut meant = cat();
        let folder = entrance.into_folder();
        os::prepare_child(&mut meant, None, Tie::DiesWithThread, folder);
        let other = cat().output().expect("cat runs");
        assert!(!other.status.success(), "another child has the folder too");
        assert_eq!(meant.output().expect("cat runs").stdout, b"here");
        let later = cat().output().expect("cat runs");
        assert!(!later.status.success(), "it stayed inheritable");
    }
}

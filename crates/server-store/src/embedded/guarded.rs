//! Opens what lies in a folder that belongs to another user.
//!
//! As root we give PostgreSQL's folder to its user, who may put anything there: a link to a file of
//! root's in place of a log, a pipe that nobody reads. What is opened here is the thing itself,
//! of the kind that is expected, or nothing.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::os::Account;

/// Opens a plain file for writing at its end, and makes it when it is not there.
///
/// # Errors
/// Those of the system; a link, a pipe, and a file that has a second name elsewhere are refused.
pub(super) fn file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        // A pipe without a reader would be waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is no plain file of its own",
    ))
}

/// Opens a plain file that is no link, for reading; returns its bytes, too.
///
/// # Errors
/// Those of the system; anything else is refused.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let about = file.metadata()?;
    if about.is_file() {
        return Ok((file, about.len()));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is no plain file",
    ))
}

/// Reads a plain file that is no link; nothing where there is none.
pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|(mut file, _)| file.read_to_end(&mut bytes));
    read.map(|_| bytes).unwrap_or_default()
}

/// Makes a folder unless it is there, gives it to `account`, and closes it to everybody else.
///
/// # Errors
/// Those of the system; a link in its place is refused.
pub(super) fn own(path: &Path, account: Option<Account>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    if let Some(account) = account {
        fchown(&folder, Some(account.uid), Some(account.gid))?;
    }
    folder.set_permissions(Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn links_pipes_and_second_names_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("precious"), "kept").unwrap();
        symlink(at("precious"), at("link")).unwrap();
        symlink(at("absent"), at("dangling")).unwrap();
        fs::hard_link(at("precious"), at("second name")).unwrap();
        let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        for name in ["link", "dangling", "second name", "pipe"] {
            assert!(file(&at(name)).is_err(), "{name}");
        }
        assert!(!at("absent").exists());
        for name in ["link", "pipe", "absent"] {
            assert!(read(&at(name)).is_empty(), "{name}");
        }
        drop(file(&at("log")).unwrap());
        fs::write(at("log"), "line").unwrap();
        assert_eq!(read(&at("log")), b"line");
        assert_eq!(fs::read(at("precious")).unwrap(), b"kept");
    }

    #[test]
    fn a_link_in_place_of_a_folder_leaves_its_target_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (target, run) = (temp.path().join("target"), temp.path().join("run"));
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o755)).unwrap();
        symlink(&target, &run).unwrap();
        assert!(own(&run, None).is_err());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&target), 0o755);
        fs::remove_file(&run).unwrap();
        own(&run, None).unwrap();
        assert_eq!(mode(&run), 0o700);
    }
}

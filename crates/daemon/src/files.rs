//! Folders and files that nobody else may read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Makes a folder and its missing parents.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes what is opened, where it is missing, readable by nobody else.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Opens a file that processes lock against each other, and makes it and its folder where they
/// are missing.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    private(options.write(true).create(true).truncate(false));
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(path.parent().unwrap_or(path))?;
            options.open(path)
        }
        opened => opened,
    }
}

//! `admin backup-key`: the file with the keys that backups are encrypted with.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use coditect_backup::Keys;
use serde_json::{Value, json};

/// Puts a fresh key at the top of the file; the old file is replaced in one step or not at all.
pub(super) fn add(file: &Path) -> anyhow::Result<Value> {
    let failed = || format!("cannot write the key file {}", file.display());
    let former = match std::fs::read_to_string(file) {
        Ok(former) => {
            // A file that is something else stays as it is.
            Keys::parse(&former).with_context(failed)?;
            former
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(failed),
    };
    let fresh = Keys::fresh()?;
    let id = Keys::parse(&fresh)?.current_id();
    let next = file.with_extension("new");
    let written = write(&next, &format!("{fresh}\n{former}"));
    let written = written.and_then(|()| std::fs::rename(&next, file));
    written.with_context(failed)?;
    Ok(json!({ "key_id": id, "file": file }))
}

/// Writes a file for its owner alone, down to the disk.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_comes_first_and_former_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let first = add(&file).unwrap();
        let one = std::fs::read_to_string(&file).unwrap();
        let second = add(&file).unwrap();
        let two = std::fs::read_to_string(&file).unwrap();
        assert!(two.ends_with(&one) && two.len() == 2 * one.len());
        let now = Keys::parse(&two).unwrap().current_id();
        assert_eq!(second["key_id"], json!(now));
        assert_ne!(first["key_id"], second["key_id"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&file, "a letter").unwrap();
        assert!(add(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a letter");
    }
}

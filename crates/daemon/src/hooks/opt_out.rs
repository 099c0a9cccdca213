//! Projects that do not want to be recorded.

use std::path::Path;

use coditect_capture::Origin;

/// A file of this name in a folder, or in one above it, keeps what happens there out of the store.
pub const MARKER: &str = ".coditect-ignore";
/// Folders above the one that is asked about that are looked at.
const DEPTH_MAX: usize = 64;

/// Returns whether nothing shall be recorded of what happens in a folder: it or one above it
/// holds the marker, or lies in one of the folders that a setting names.
#[must_use]
pub fn is_opted_out(folder: &Path, named: &[String]) -> bool {
    let named = named
        .iter()
        .any(|name| !name.is_empty() && folder.starts_with(name));
    named
        || folder
            .ancestors()
            .take(DEPTH_MAX)
            .any(|above| above.join(MARKER).exists())
}

/// The same for what only the place of a transcript tells. Of a folder that is known by its hash
/// alone, only a setting that names that very folder is understood.
#[must_use]
pub fn is_origin_opted_out(origin: &Origin, named: &[String]) -> bool {
    match origin {
        Origin::Folder(folder) => is_opted_out(folder, named),
        Origin::Hash(_) => named
            .iter()
            .any(|name| origin.is_hash_of(name.trim_end_matches('/'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_or_a_setting_covers_what_is_below() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("secret/app/src");
        std::fs::create_dir_all(&deep).unwrap();
        assert!(!is_opted_out(&deep, &[]));
        let named = home.path().join("secret").display().to_string();
        assert!(is_opted_out(&deep, std::slice::from_ref(&named)));
        assert!(!is_opted_out(&home.path().join("secretary"), &[named]));
        std::fs::write(home.path().join("secret").join(MARKER), "").unwrap();
        assert!(is_opted_out(&deep, &[]));
        assert!(!is_opted_out(home.path(), &[]));
    }
}

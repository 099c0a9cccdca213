//! What a repository is recognised by on any machine: its remote's address in one spelling, and
//! the first commit of its history. Never its path.

/// Longest address that is taken, in bytes.
pub const REMOTE_BYTES_MAX: usize = 500;

/// Returns the one form of a remote's address, `host/path` in lower case, without user, password,
/// port and `.git`; none for what is no address that means the same on every machine, such as a
/// path.
#[must_use]
pub fn remote(address: &str) -> Option<String> {
    let address = address.trim();
    let (host, path) = match address.split_once("://") {
        Some((scheme, rest)) => {
            let known = ["https", "http", "ssh", "git", "git+ssh", "ssh+git"];
            if !known.contains(&scheme.to_ascii_lowercase().as_str()) {
                return None;
            }
            let (authority, path) = rest.split_once('/')?;
            (authority, path)
        }
        // The short form of ssh: user@host:path. A drive letter or a path is none.
        None => {
            let (authority, path) = address.split_once(':')?;
            if authority.contains(['/', '\\']) || authority.len() < 2 {
                return None;
            }
            (authority, path)
        }
    };
    let host = host.rsplit('@').next()?;
    // An address in brackets has colons of its own.
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => host.split(':').next()?,
    };
    let path = path.split(['?', '#']).next()?;
    let path = path.trim_matches('/');
    let path = path
        .strip_suffix(".git")
        .unwrap_or(path)
        .trim_end_matches('/');
    let host = host.trim_end_matches('.');
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !plain(host) || !plain(path) {
        return None;
    }
    let normal = format!("{host}/{path}").to_lowercase();
    (normal.len() <= REMOTE_BYTES_MAX).then_some(normal)
}

/// Returns a commit's id in lower case; none for what is none.
#[must_use]
pub fn commit(id: &str) -> Option<String> {
    let id = id.trim();
    let hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && matches!(id.len(), 40 | 64)).then(|| id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_an_address_are_one() {
        for address in [
            "https://github.com/Acme/App.git",
            "https://github.com/acme/app/",
            "http://ann:secret@GitHub.com/acme/app",
            "ssh://git@github.com:22/acme/app.git",
            "git@github.com:acme/app.git",
            "github.com:acme/app",
            " git://github.com/acme/app.git/ ",
            "https://github.com/acme/app?tab=readme#top",
        ] {
            assert_eq!(
                remote(address).as_deref(),
                Some("github.com/acme/app"),
                "{address}"
            );
        }
        assert_eq!(
            remote("ssh://git@[fe80::1]:22/a/b").as_deref(),
            Some("fe80::1/a/b")
        );
    }

    #[test]
    fn what_means_another_thing_elsewhere_is_no_address() {
        for address in [
            "",
            "/srv/git/app.git",
            "../app",
            "file:///srv/app",
            "C:\\work\\app",
            "c:/work/app",
            "https://github.com",
            "https://github.com/",
            "git@github.com:",
            "a b:c",
            "dir/x:y",
        ] {
            assert_eq!(remote(address), None, "{address}");
        }
        assert_eq!(
            remote(&format!("https://a.example/{}", "x".repeat(600))),
            None
        );
    }

    #[test]
    fn commits_are_hexadecimal() {
        let id = "0A".repeat(20);
        assert_eq!(commit(&id), Some("0a".repeat(20)));
        assert_eq!(commit(&"0a".repeat(32)), Some("0a".repeat(32)));
        for id in ["", "0a", &"0g".repeat(20), &"0a".repeat(21)] {
            assert_eq!(commit(id), None, "{id}");
        }
    }
}

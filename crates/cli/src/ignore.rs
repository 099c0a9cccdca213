//! Patterns of paths that are not looked at, as in `.gitignore`.

/// What a new project starts with: what tools make, and what nobody wants hashed.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[
    (".git/", "the repository itself"),
    ("node_modules/", "packages"),
    ("target/", "made by a build"),
    ("build/", "made by a build"),
    ("dist/", "made by a build"),
    ("__pycache__/", "made by Python"),
    (".venv/", "packages"),
    ("venv/", "packages"),
    (".coditect-data/", "data of this program"),
    ("*.pyc", "made by Python"),
    ("*.o", "made by a build"),
    (".DS_Store", "made by the system"),
    (".env", "secrets"),
    ("*.pem", "secrets"),
    ("*.key", "secrets"),
];

/// A pattern that was read.
#[derive(Debug)]
struct Pattern {
    glob: Vec<u8>,
    anchored: bool,
    folders_only: bool,
    takes_back: bool,
}

/// Patterns in their order; the last one that fits decides.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads patterns; empty ones and comments are left out.
    pub(crate) fn new<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().filter_map(read).collect())
    }

    /// Returns whether a path (with `/`, relative to the project) is left out: by itself or by
    /// one of the folders above it.
    pub(crate) fn leave_out(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let above = ends.map(|end| (&path[..end], true));
        above
            .chain([(path, false)])
            .any(|(part, is_folder)| self.fits(part, is_folder))
    }

    /// Returns whether a folder is left out, if those above it are not.
    pub(crate) fn leave_out_folder(&self, path: &str) -> bool {
        self.fits(path, true)
    }

    fn fits(&self, path: &str, is_folder: bool) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let fitting = |pattern: &&Pattern| {
            let text = if pattern.anchored { path } else { name };
            (is_folder || !pattern.folders_only) && glob(&pattern.glob, text.as_bytes())
        };
        let last = self.0.iter().rev().find(fitting);
        last.is_some_and(|pattern| !pattern.takes_back)
    }
}

fn read(line: &str) -> Option<Pattern> {
    let line = line.trim();
    let (takes_back, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (folders_only, line) = match line.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(Pattern {
        anchored: line.contains('/'),
        glob: line.trim_start_matches('/').as_bytes().to_vec(),
        folders_only,
        takes_back,
    })
}

/// Matches `*` and `?` within a name and `**` over folders. Every star remembers where it began,
/// so the time is bounded by the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // reach[i]: whether the pattern so far matches text[..i].
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let over_folders = pattern[at..].starts_with(b"**");
        let mut next = vec![false; text.len() + 1];
        match pattern[at] {
            b'*' => {
                let mut on = false;
                for i in 0..=text.len() {
                    on |= reach[i];
                    next[i] = on;
                    if i < text.len() && text[i] == b'/' && !over_folders {
                        on = false;
                    }
                }
                at += if over_folders { 2 } else { 1 };
                // `**/` also stands for no folder at all.
                if over_folders && pattern.get(at) == Some(&b'/') {
                    for i in 0..=text.len() {
                        let behind_slash = i > 0 && text[i - 1] == b'/' && next[i - 1];
                        reach[i] |= behind_slash;
                    }
                    at += 1;
                    continue;
                }
            }
            wanted => {
                for i in 0..text.len() {
                    let fits = text[i] == wanted || wanted == b'?' && text[i] != b'/';
                    next[i + 1] = reach[i] && fits;
                }
                at += 1;
            }
        }
        reach = next;
    }
    reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_gitignore() {
        let patterns = Patterns::new([
            "# comment",
            "",
            "target/",
            "*.log",
            "!keep.log",
            "/only-here",
            "docs/*.tmp",
            "a/**/z",
            "**/deep.txt",
        ]);
        for path in [
            "target/x",
            "sub/target/debug/x",
            "a.log",
            "x/y/b.log",
            "only-here",
            "docs/a.tmp",
            "a/z",
            "a/b/c/z",
            "deep.txt",
            "x/y/deep.txt",
        ] {
            assert!(patterns.leave_out(path), "{path}");
        }
        for path in [
            "target",
            "keep.log",
            "x/only-here",
            "docs/x/a.tmp",
            "b/z",
            "a/zz",
            "mytarget/x",
            "a.logs",
        ] {
            assert!(!patterns.leave_out(path), "{path}");
        }
        assert!(patterns.leave_out_folder("target"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = format!("{}c", "a*".repeat(60));
        let patterns = Patterns::new([pattern.as_str()]);
        assert!(!patterns.leave_out(&"a".repeat(2_000)));
        assert!(patterns.leave_out(&format!("{}c", "a".repeat(2_000))));
    }
}

//! Links between the pages: a file that a page points to must exist.

use std::collections::BTreeSet;

use super::Problem;

/// Returns the relative links in a Markdown page that lead to no file and no folder of `paths`.
pub(crate) fn check(page: &str, text: &str, paths: &BTreeSet<String>) -> Vec<Problem> {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for target in targets(line) {
            let path = resolve(folder, target);
            let inside = format!("{path}/");
            let is_folder = || paths.range(inside.clone()..).next();
            if !paths.contains(&path) && !is_folder().is_some_and(|next| next.starts_with(&inside))
            {
                let message = format!("link to {target}, which does not exist");
                problems.push(Problem::new(page, index + 1, message));
            }
        }
    }
    problems
}

/// Returns the targets of `[text](target)` that name a file, without their `#anchor`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| {
        let rest = &line[at + 2..];
        let target = rest[..rest.find(')')?].split('#').next()?;
        let is_file = !target.is_empty() && !target.contains("://") && !target.contains(' ');
        is_file.then_some(target)
    })
}

fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(page: &str, text: &str) -> usize {
        let paths = ["README.md", "docs/TESTING.md", "docs/adr/0001-one.md"];
        check(
            page,
            text,
            &paths.iter().map(|path| (*path).to_owned()).collect(),
        )
        .len()
    }

    #[test]
    fn links_to_files_and_folders_are_accepted() {
        assert_eq!(
            problems("README.md", "[a](docs/TESTING.md#x) and [b](docs/adr)"),
            0
        );
        assert_eq!(
            problems("docs/TESTING.md", "[a](../README.md) [b](adr/0001-one.md)"),
            0
        );
        assert_eq!(
            problems("README.md", "[a](https://example.org/x.md) [b](#here)"),
            0
        );
    }

    #[test]
    fn link_to_nothing_is_found() {
        assert_eq!(
            problems("README.md", "[a](docs/ABSENT.md) [b](docs/TEST)"),
            2
        );
        assert_eq!(problems("docs/TESTING.md", "[a](README.md)"), 1);
    }
}

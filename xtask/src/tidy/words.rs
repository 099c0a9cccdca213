//! Words that have no place in the sources.

use super::Problem;
use super::lexer::is_word;
use super::size::{is_test_file, production_lines};

/// Hosts of package registries: a machine's own set-up belongs into the machine's configuration,
/// never into the repository. Split, so that this file does not find itself.
const HOSTS: &[&str] = &[
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npmjs", ".org"),
    concat!("registry.yarnpkg", ".com"),
    concat!("proxy.golang", ".org"),
    concat!("PIP_INDEX", "_URL"),
    concat!("replace", "-with"),
];

/// Folders that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/main"),
    concat!("/wo", "rk/shared"),
    concat!("/ro", "ot/.cargo"),
];

/// Calls that leave work undone, in all code.
const UNFINISHED: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!(")];

/// Returns registry hosts and machine paths in a file of any kind.
pub(crate) fn check_text(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(host) = HOSTS.iter().find(|host| line.contains(*host)) {
            let message = format!("names a package registry (`{host}`)");
            problems.push(Problem::new(path, index + 1, message));
        }
        if let Some(folder) = MACHINE_PATHS.iter().find(|folder| line.contains(*folder)) {
            let message = format!("names a folder of one machine (`{folder}`)");
            problems.push(Problem::new(path, index + 1, message));
        }
    }
    problems
}

/// Written before a test's pause that is not a wait for something else, followed by the reason.
const MAY_SLEEP: &str = "// tidy: may sleep: ";

/// Returns unfinished code, ignored tests and sleeping tests in `text`; `code` is the same after
/// the lexer.
pub(crate) fn check_code(path: &str, text: &str, code: &str) -> Vec<Problem> {
    let excused = |index: usize| {
        index > 0
            && text
                .lines()
                .nth(index - 1)
                .is_some_and(|line| line.contains(MAY_SLEEP))
    };
    let production = if is_test_file(path) {
        0
    } else {
        production_lines(code)
    };
    let mut problems = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let number = index + 1;
        if let Some(call) = UNFINISHED.iter().find(|call| calls(line, call)) {
            problems.push(Problem::new(path, number, format!("unfinished: `{call}`")));
        }
        if line.contains("#[ignore") {
            let message = "an ignored test proves nothing: fix or delete it";
            problems.push(Problem::new(path, number, message));
        }
        if index >= production && calls(line, "sleep(") && !excused(index) {
            let message = "a test must not sleep: wait for the event itself";
            problems.push(Problem::new(path, number, message));
        }
    }
    problems
}

/// Returns whether `line` has `call` as a word of its own.
fn calls(line: &str, call: &str) -> bool {
    line.match_indices(call)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::super::lexer::blank;
    use super::*;

    fn code_problems(path: &str, text: &str) -> usize {
        check_code(path, text, &blank(text)).len()
    }

    #[test]
    fn registry_and_machine_path_are_found_in_any_file() {
        let text = format!(
            "fine\nurl = https://{}/x\ncd {}\n",
            HOSTS[0], MACHINE_PATHS[0]
        );
        let lines: Vec<_> = check_text("a.toml", &text).iter().map(|p| p.line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn unfinished_code_is_found_but_not_in_comments() {
        assert_eq!(
            code_problems("src/a.rs", &format!("fn a() {{ {}) }}", UNFINISHED[0])),
            1
        );
        assert_eq!(
            code_problems("src/a.rs", &format!("// {}) later", UNFINISHED[0])),
            0
        );
        assert_eq!(
            code_problems("src/a.rs", &format!("my_{})", UNFINISHED[0])),
            0
        );
    }

    #[test]
    fn ignored_test_is_found() {
        assert_eq!(
            code_problems("src/a.rs", "#[ignore = \"slow\"]\nfn a() {}"),
            1
        );
    }

    #[test]
    fn sleep_is_refused_in_tests_only() {
        let call = "std::thread::sleep(pause);\n";
        assert_eq!(code_problems("src/a.rs", call), 0);
        assert_eq!(
            code_problems("src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{call}}}")),
            1
        );
        assert_eq!(code_problems("tests/a.rs", call), 1);
        let excuse = format!("{MAY_SLEEP}the writers pause at random\n{call}");
        assert_eq!(code_problems("tests/a.rs", &excuse), 0);
        assert_eq!(code_problems("tests/a.rs", &format!("{excuse}{call}")), 1);
    }
}

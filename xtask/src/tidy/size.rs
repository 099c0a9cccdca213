//! Limits on the length of files, functions and lines.

use super::Problem;
use super::lexer::is_word;

/// Lines of a file before its unit tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line; rustfmt cannot break strings and comments.
const COLUMNS_MAX: usize = 100;

/// Returns what is too long in a Rust file. `code` is `text` after the lexer.
pub(crate) fn check(path: &str, text: &str, code: &str) -> Vec<Problem> {
    if is_generated(text) {
        return Vec::new();
    }
    let mut problems = long_lines(path, text);
    problems.extend(long_functions(path, code));
    let lines = production_lines(code);
    if lines > FILE_LINES_MAX && !is_test_file(path) {
        let message = format!("{lines} lines without tests, the limit is {FILE_LINES_MAX}");
        problems.push(Problem::new(path, 0, message));
    }
    problems
}

/// Returns whether all of the file is test code.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "end-to-end")
        || path.ends_with("/tests.rs")
}

/// Returns the number of lines before the unit tests at the bottom.
pub(crate) fn production_lines(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    (0..lines.len())
        .find(|&at| starts_test_module(&lines[at..]))
        .unwrap_or(lines.len())
}

/// Returns whether a test module with a body begins here; `mod tests;` names another file.
fn starts_test_module(lines: &[&str]) -> bool {
    let item = lines.iter().skip(1).find(|line| !line.starts_with("#["));
    lines[0].starts_with("#[cfg(test)]")
        && item.is_some_and(|line| line.starts_with("mod ") && line.ends_with(['{', '}']))
}

fn is_generated(text: &str) -> bool {
    text.lines()
        .take(5)
        .any(|line| line.contains(concat!("@", "generated")))
}

fn long_lines(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !line.contains("https://") {
            let message = format!("{columns} columns, the limit is {COLUMNS_MAX}");
            problems.push(Problem::new(path, index + 1, message));
        }
    }
    problems
}

fn long_functions(path: &str, code: &str) -> Vec<Problem> {
    functions(code)
        .into_iter()
        .filter(|function| function.lines > FUNCTION_LINES_MAX)
        .map(|Function { name, line, lines }| {
            let message = format!("fn {name} has {lines} lines, the limit is {FUNCTION_LINES_MAX}");
            Problem::new(path, line, message)
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Returns every function with a body, nested ones too, in the order of their `fn`.
fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if code[..start].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let after = code[start + 3..].trim_start();
        let name = &after[..after.find(|c| !is_word(c)).unwrap_or(after.len())];
        // `fn (` is a type, `fn name;` has no body.
        let Some(end) = body_end(&code[start..]).filter(|_| !name.is_empty()) else {
            continue;
        };
        let line = code[..start].matches('\n').count() + 1;
        let lines = code[start..start + end].matches('\n').count() + 1;
        found.push(Function { name, line, lines });
    }
    found
}

/// Returns where the body of the function at the start of `code` ends, if it has one.
fn body_end(code: &str) -> Option<usize> {
    let mut nesting = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            // Arrays and default arguments of the signature may hold a semicolon or a block.
            '(' | '[' if braces == 0 => nesting += 1,
            ')' | ']' if braces == 0 => nesting = nesting.saturating_sub(1),
            ';' if braces == 0 && nesting == 0 => return None,
            '{' if nesting == 0 => braces += 1,
            '}' if braces > 0 => {
                braces -= 1;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::lexer::blank;
    use super::*;

    fn function_of(lines: usize) -> String {
        let body = "    work();\n".repeat(lines - 2);
        format!("fn long() {{\n{body}}}\n")
    }

    fn messages(text: &str) -> Vec<String> {
        check("a.rs", text, &blank(text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn function_of_seventy_lines_is_accepted_and_one_more_is_not() {
        assert_eq!(messages(&function_of(70)), [""; 0]);
        assert_eq!(
            messages(&format!("// first\n{}", function_of(71))),
            ["a.rs:2: fn long has 71 lines, the limit is 70"]
        );
    }

    #[test]
    fn braces_in_strings_and_comments_do_not_count() {
        let text = "fn a() {\n    let x = \"}\"; // }\n    '}'\n}\nfn b() {}\n";
        let code = blank(text);
        let lines: Vec<_> = functions(&code)
            .iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        assert_eq!(lines, [("a", 1, 4), ("b", 5, 1)]);
    }

    #[test]
    fn declarations_and_function_types_have_no_body() {
        let code = "trait T { fn a(&self, x: [u8; 4]) -> [u8; 2]; }\ntype F = fn (u8) -> u8;\n";
        assert_eq!(functions(code), []);
    }

    #[test]
    fn signature_with_arrays_and_where_clause_is_followed() {
        let code = "fn a<T>(x: [u8; 4]) -> Result<T, ()>\nwhere\n    T: Copy,\n{\n    b()\n}\n";
        assert_eq!(
            functions(code),
            [Function {
                name: "a",
                line: 1,
                lines: 6
            }]
        );
    }

    #[test]
    fn file_is_measured_up_to_its_tests() {
        let code = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
        let tests = "#[cfg(test)]\nmod tests {}\n".to_owned() + &"const B: u8 = 1;\n".repeat(50);
        assert_eq!(messages(&format!("{code}{tests}")), [""; 0]);
        assert_eq!(
            messages(&format!("const C: u8 = 1;\n{code}{tests}")),
            ["a.rs: 801 lines without tests, the limit is 800"]
        );
    }

    #[test]
    fn test_module_in_another_file_does_not_end_the_production_code() {
        let code = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(production_lines(code), 3);
        assert_eq!(
            production_lines(&format!("{code}#[cfg(test)]\nmod more {{\n}}\n")),
            3
        );
    }

    #[test]
    fn long_line_is_counted_in_characters() {
        let line = format!("// {}\n", "ü".repeat(97));
        assert_eq!(messages(&line), [""; 0]);
        assert_eq!(messages(&format!("//{line}")).len(), 1);
    }

    #[test]
    fn generated_file_is_exempt() {
        let text = format!("// {}generated by xtask\n{}", "@", function_of(200));
        assert_eq!(messages(&text), [""; 0]);
    }
}

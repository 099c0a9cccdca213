//! The project that a made agent works in: source files of lines as people write them, which grow
//! and change while they are read again and again, and what its tools say about them.
//!
//! Sizes follow published transcripts of Claude Code: 38 characters a line, listings of 8 to 70
//! KiB, a quarter to a third of their bytes left by gzip.

use coditect_local_store::Random;

/// Lines that a reader of files gives at most.
const READ_LINES_MAX: usize = 2_000;
const SYLLABLES: [&str; 48] = [
    "re", "con", "ver", "sta", "path", "load", "hash", "row", "sync", "key", "list", "node",
    "page", "map", "tok", "en", "file", "name", "size", "time", "err", "max", "min", "get", "set",
    "read", "line", "text", "part", "head", "body", "mark", "step", "lock", "scan", "byte", "root",
    "user", "term", "form", "base", "link", "send", "port", "code", "item", "lim", "it",
];
const PROSE: [&str; 40] = [
    "the", "a", "to", "of", "and", "in", "is", "that", "it", "for", "this", "with", "as", "on",
    "be", "are", "not", "from", "was", "which", "when", "we", "test", "file", "now", "should",
    "need", "change", "function", "error", "because", "first", "then", "where", "value", "call",
    "returns", "check", "same", "line",
];

/// A file of the project.
struct Source {
    path: String,
    lines: Vec<String>,
}

/// The project and the words of those who work in it.
pub(crate) struct Project {
    random: Random,
    names: Vec<String>,
    files: Vec<Source>,
    tests: Vec<String>,
}

impl Project {
    /// Makes a project of so many files.
    pub(crate) fn new(seed: u64, files: usize) -> Self {
        let mut made = Self {
            random: Random::Seeded(seed),
            names: Vec::new(),
            files: Vec::new(),
            tests: Vec::new(),
        };
        made.names = (0..2_500).map(|_| made.new_name()).collect();
        made.tests = (0..600)
            .map(|_| format!("{}::tests::{}_{}", made.name(), made.name(), made.name()))
            .collect();
        for _ in 0..files {
            // Half of the files have 270 lines at most, a tenth more than 900.
            let lines = (120.0 / (1.0 - 0.92 * made.fraction())) as usize;
            let path = format!(
                "/home/ann/src/project/crates/{}/{}.rs",
                made.name(),
                made.name()
            );
            let lines = (0..lines).map(|_| made.line()).collect();
            made.files.push(Source { path, lines });
        }
        made
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.random.bits() % end.max(1) as u64) as usize
    }

    fn fraction(&mut self) -> f64 {
        (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn new_name(&mut self) -> String {
        let count = 1 + self.below(3);
        let parts: Vec<&str> = (0..count).map(|_| SYLLABLES[self.below(48)]).collect();
        parts.join(if self.below(3) == 0 { "_" } else { "" })
    }

    /// Returns a name; few names make up most of what is written.
    fn name(&mut self) -> String {
        let rank = (self.names.len() as f64).powf(self.fraction()) as usize;
        self.names[rank.min(self.names.len()) - 1].clone()
    }

    /// Returns a line of code.
    fn line(&mut self) -> String {
        let indent = "    ".repeat(1 + self.below(3));
        let (a, b, c, d) = (self.name(), self.name(), self.name(), self.name());
        match self.below(20) {
            0..3 => format!("{indent}let {a} = {b}.{c}({d})?;"),
            3..5 => format!("{indent}if {a}.{b}() == {c} {{"),
            5..8 => format!("{indent}}}"),
            8 => String::new(),
            9 => format!("{indent}// {}", self.prose(50)),
            10 => format!("pub fn {a}_{b}({c}: &{d}) -> Result<{b}, Error> {{"),
            11 => format!(
                "{indent}return Err(Error::new(\"{}: {{{a}}}\"));",
                self.prose(24)
            ),
            12 => format!("use crate::{a}::{b}::{c};"),
            13 => format!(
                "{indent}assert_eq!({a}.{b}({}), {});",
                self.below(100),
                self.below(9)
            ),
            14..16 => format!("{indent}.{a}(|{b}| {b}.{c}({d}))"),
            16 => format!("{indent}{a}: {b},"),
            17 => format!("{indent}for {a} in {b}.{c}() {{"),
            _ => format!("{indent}self.{a}.{b}({c}, &{d});"),
        }
    }

    /// Returns sentences of about so many bytes.
    pub(crate) fn prose(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 32);
        while text.len() < bytes {
            match self.below(8) {
                0..5 => text.push_str(PROSE[self.below(40)]),
                5 => text.push_str(&format!("`{}`", self.name())),
                _ => text.push_str(&self.name()),
            }
            text.push_str(if self.below(14) == 0 { ".\n" } else { " " });
        }
        text
    }

    /// Returns which file an agent looks at next; it stays with a few for a session.
    fn file(&mut self, session: u64) -> usize {
        let files = self.files.len();
        if self.below(5) == 0 {
            return self.below(files);
        }
        let own = (session as usize).wrapping_mul(7_919);
        (own + self.below(9)) % files
    }

    /// Changes a few lines of a file that the session works on; returns what was written.
    pub(crate) fn edit(&mut self, session: u64) -> (String, String, String) {
        let file = self.file(session);
        let count = 1 + self.below(8);
        let fresh: Vec<String> = (0..count).map(|_| self.line()).collect();
        let source = self.files[file].lines.len();
        let at = self.below(source);
        let gone = self.below(4).min(source - at);
        let before = self.files[file].lines[at..at + gone].join("\n");
        let after = fresh.join("\n");
        let lines = &mut self.files[file].lines;
        lines.splice(at..at + gone, fresh);
        lines.truncate(READ_LINES_MAX);
        (self.files[file].path.clone(), before, after)
    }

    /// Returns what a tool gives: mostly a file with numbered lines, or part of one.
    pub(crate) fn output(&mut self, session: u64) -> String {
        match self.below(10) {
            0..5 => self.read(session),
            5 | 6 => self.test_run(),
            7 => self.search(),
            8 => {
                let bytes = 100 + self.below(3_000);
                self.prose(bytes)
            }
            _ => String::from("The file has been updated successfully."),
        }
    }

    fn read(&mut self, session: u64) -> String {
        let file = self.file(session);
        let count = self.files[file].lines.len();
        let (from, to) = match self.below(3) {
            0 => {
                let from = self.below(count);
                (from, count.min(from + 20 + self.below(180)))
            }
            _ => (0, count),
        };
        let lines = self.files[file].lines[from..to].iter().zip(from + 1..);
        let mut text: String = lines
            .map(|(line, at)| format!("{at:>6}→{line}\n"))
            .collect();
        if self.below(5) < 4 {
            text.push_str("\n<system-reminder>\nWhether this file may be changed is for the ");
            text.push_str("user to say.\n</system-reminder>\n");
        }
        text
    }

    fn test_run(&mut self) -> String {
        let from = self.below(self.tests.len());
        let count = 20 + self.below(200);
        let mut text = String::new();
        for at in from..(from + count).min(self.tests.len()) {
            let took = self.below(4_000);
            let name = &self.tests[at];
            text.push_str(&format!("        PASS [   0.{took:03}s] acme::{name}\n"));
        }
        text
    }

    fn search(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..10 + self.below(60) {
            let file = self.below(self.files.len());
            let at = self.below(self.files[file].lines.len());
            let source = &self.files[file];
            text.push_str(&format!(
                "{}:{}:{}\n",
                source.path,
                at + 1,
                source.lines[at]
            ));
        }
        text
    }
}

//! The one place that prints: data to standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};

use console::Style;
use serde::Serialize;

use crate::environment::Environment;
use crate::exit;

/// Width that tables get when nobody knows the terminal's.
const WIDTH_DEFAULT: usize = 120;
/// Narrowest width that tables are fitted to.
const WIDTH_MIN: usize = 40;

/// Prints a remark for people where no printer was made.
pub(crate) fn remark(text: &str) {
    // Nothing can be done when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints in the form that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    json: bool,
    color: bool,
    color_errors: bool,
    width: Option<usize>,
}

impl Printer {
    /// Makes a printer for this process's streams.
    pub(crate) fn new(json: bool, environment: &Environment) -> Self {
        let allowed = !environment.no_color;
        let is_terminal = std::io::stdout().is_terminal();
        let size = console::Term::stdout().size_checked();
        let columns = size.map(|(_, columns)| usize::from(columns));
        Self {
            json,
            color: allowed && is_terminal,
            color_errors: allowed && std::io::stderr().is_terminal(),
            width: is_terminal.then(|| columns.unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN)),
        }
    }

    /// Returns whether data is printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether a person watches both streams, so that a progress bar makes sense.
    pub(crate) fn is_interactive(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// Returns the columns that a table may take; none when it is not for a terminal.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Prints a JSON document: indented for a terminal, one line otherwise.
    pub(crate) fn document<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        let text = if self.width.is_some() {
            serde_json::to_string_pretty(value)?
        } else {
            serde_json::to_string(value)?
        };
        self.line(&text)
    }

    /// Prints a line of data.
    #[expect(
        clippy::unused_self,
        reason = "printing is the printer's, whatever its state"
    )]
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        match writeln!(std::io::stdout().lock(), "{text}") {
            // The reader (head, less) has seen enough: that is no failure of ours.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// Prints the document when JSON was asked for, else the lines of `text`.
    pub(crate) fn either<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json {
            self.document(value)
        } else {
            text(self)
        }
    }

    /// Prints a remark for people.
    pub(crate) fn note(&self, text: &str) {
        // Nothing can be done when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints a warning.
    pub(crate) fn warning(&self, text: &str) {
        let label = self.error_style(&Style::new().yellow().bold(), "warning:");
        self.note(&format!("{label} {text}"));
    }

    /// Prints what to do next.
    pub(crate) fn hint(&self, text: &str) {
        let label = self.error_style(&Style::new().cyan(), "hint:");
        self.note(&format!("  {label} {text}"));
    }

    /// Prints an error with its causes and its hint.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let label = match exit::storage_code_of(error) {
            Some(code) => format!("error[{code}]:"),
            None => "error:".to_owned(),
        };
        let label = self.error_style(&Style::new().red().bold(), &label);
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // An error that already quotes its source would be said twice.
            if !causes.last().is_some_and(|last| last.ends_with(&text)) {
                causes.push(text);
            }
        }
        self.note(&format!("{label} {}", causes.join(": ")));
        if let Some(hint) = exit::hint_of(error) {
            self.hint(&hint);
        }
    }

    /// Colours data on a terminal.
    pub(crate) fn style(&self, style: &Style, text: &str) -> String {
        styled(self.color, style, text)
    }

    fn error_style(&self, style: &Style, text: &str) -> String {
        styled(self.color_errors, style, text)
    }
}

fn styled(color: bool, style: &Style, text: &str) -> String {
    if color {
        style.clone().force_styling(true).apply_to(text).to_string()
    } else {
        text.to_owned()
    }
}

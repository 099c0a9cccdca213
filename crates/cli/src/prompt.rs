//! Questions to a person, and secrets from standard input.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;

use crate::exit::{CommandError, Exit};

/// Longest line that is read from standard input, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Asks a question that is answered with yes or no; no is the default.
///
/// # Errors
/// When nobody can answer because standard input is no terminal.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let message = format!("cannot ask \"{question}\": standard input is not a terminal");
        return Err(CommandError::new(Exit::Usage, message)
            .hint("say --yes to answer yes")
            .into());
    }
    let mut errors = std::io::stderr().lock();
    write!(errors, "{question} [y/N] ")?;
    errors.flush()?;
    let answer = read_line()?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Reads one line from standard input and takes the spaces off.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_line() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut line = String::new();
    let mut input = std::io::stdin().lock().take(LINE_BYTES_MAX);
    input
        .read_line(&mut line)
        .context("cannot read standard input")?;
    Ok(line.trim().to_owned())
}

/// Reads a secret from standard input.
///
/// # Errors
/// When there is none.
pub(crate) fn read_secret(what: &str) -> anyhow::Result<String> {
    let secret = read_line()?;
    if secret.is_empty() {
        let message = format!("standard input holds no {what}");
        return Err(CommandError::new(Exit::Usage, message).into());
    }
    Ok(secret)
}

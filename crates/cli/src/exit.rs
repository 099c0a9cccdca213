//! Exit codes, and errors that carry one. `docs/EXIT-CODES.md` is checked against this file.

use std::process::ExitCode;

use coditect_client::{HttpError, SyncError};
use coditect_core::sync::Failure;
use coditect_local_store as local_store;
use coditect_local_store::backup::BackupError;
use coditect_protocol::{ErrorCode, Problem};

/// How the program ends. The numbers are part of the surface: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It could not be done; the message says why.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No login, or one that has ended.
    NotLoggedIn = 3,
    /// The server does not answer, or offline mode is on. Nothing is lost.
    Offline = 4,
    /// The server, or the owner of the data folder, refuses.
    Refused = 5,
    /// There is no such row, table or session, or the id fits several.
    NotFound = 6,
    /// `doctor` or `verify` found something that needs attention.
    Unhealthy = 7,
    /// A file on this machine cannot be used, or the disk is full.
    Storage = 8,
}

impl Exit {
    /// All codes, in order.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotLoggedIn,
        Self::Offline,
        Self::Refused,
        Self::NotFound,
        Self::Unhealthy,
        Self::Storage,
    ];

    /// Returns the number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows its exit code and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Name of a fault of this machine's files.
    pub(crate) storage: Option<&'static str>,
}

impl CommandError {
    /// Makes an error without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            exit,
            message,
            hint: None,
            storage: None,
        }
    }

    /// Returns an error of any kind as one of a command, with its code and hint.
    pub(crate) fn from_error(error: &anyhow::Error) -> Self {
        Self {
            exit: of(error),
            message: format!("{error:#}"),
            hint: hint_of(error),
            storage: storage_code_of(error),
        }
    }

    /// Says what to do next: a command as a rule.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error of a request that failed.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        let text = coditect_client::http::describe(failure);
        match failure {
            Failure::Offline(_) => Self::new(Exit::Offline, text)
                .hint("nothing is lost; changes stay queued until the server answers"),
            Failure::Unauthenticated(_) => {
                Self::new(Exit::NotLoggedIn, text).hint("coditect login")
            }
            Failure::RateLimited(..) => Self::new(Exit::Refused, text),
            Failure::Refused(problem) | Failure::InvalidCursor(problem) => {
                Self::from_problem(problem)
            }
            Failure::EpochChanged(_) | Failure::Fenced(_) => {
                Self::new(Exit::Refused, text).hint("coditect sync")
            }
        }
    }

    /// Returns the error of a refusal.
    pub(crate) fn from_problem(problem: &Problem) -> Self {
        let text = problem.detail.as_deref().unwrap_or(&problem.title);
        let message = format!("{text} ({})", problem.code);
        match problem.code {
            ErrorCode::Unauthenticated => {
                Self::new(Exit::NotLoggedIn, message).hint("coditect login")
            }
            ErrorCode::DeviceUnknown => Self::new(Exit::Refused, message)
                .hint("this device is not registered (any more): coditect login"),
            ErrorCode::AccountErased => Self::new(Exit::Refused, message)
                .hint("the databases of this folder belonged to it; coditect login begins anew"),
            ErrorCode::ApiVersion => Self::new(Exit::Refused, message)
                .hint("client and server are of different versions; update the older one"),
            ErrorCode::Unavailable => Self::new(Exit::Offline, message),
            _ => Self::new(Exit::Refused, message),
        }
    }

    /// Returns the error of a command that needs a login.
    pub(crate) fn not_logged_in() -> Self {
        Self::new(
            Exit::NotLoggedIn,
            "this folder is not logged in to a server",
        )
        .hint("coditect login --server URL --license -")
    }
}

/// Returns the exit code of an error.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failure)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(known) = cause.downcast_ref::<CommandError>() {
        return Some(known.exit);
    }
    if let Some(error) = store_error(cause) {
        return of_store(error);
    }
    if is_full(cause) {
        return Some(Exit::Storage);
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return of_backup(error);
    }
    cause.downcast_ref::<HttpError>().map(|error| match error {
        HttpError::Address { .. }
        | HttpError::PlainHttp(_)
        | HttpError::AuthorityFile { .. }
        | HttpError::NoAuthority(_) => Exit::Usage,
        HttpError::Setup(_) => Exit::Failure,
    })
}

fn of_store(error: &local_store::Error) -> Option<Exit> {
    match error {
        local_store::Error::NotBound => Some(Exit::NotLoggedIn),
        local_store::Error::BoundToAnother { .. } | local_store::Error::Erased(_) => {
            Some(Exit::Refused)
        }
        local_store::Error::UnknownTable(_) | local_store::Error::UnknownColumn { .. } => {
            Some(Exit::NotFound)
        }
        other => other.storage_code().map(|_| Exit::Storage),
    }
}

fn of_backup(error: &BackupError) -> Option<Exit> {
    match error {
        BackupError::NotFound(_) => Some(Exit::NotFound),
        BackupError::Foreign(_) => Some(Exit::Refused),
        BackupError::Damaged { .. } | BackupError::Io { .. } => Some(Exit::Storage),
        BackupError::Store(_) | BackupError::InUse(_) => None,
    }
}

fn store_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a local_store::Error> {
    if let Some(SyncError::Store(error)) = cause.downcast_ref::<SyncError>() {
        return Some(error);
    }
    if let Some(BackupError::Store(error)) = cause.downcast_ref::<BackupError>() {
        return Some(error);
    }
    cause.downcast_ref::<local_store::Error>()
}

fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(local_store::is_no_space)
}

/// Returns the stable name of a fault of this machine's files, which is printed with the error.
pub(crate) fn storage_code_of(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(known) = cause.downcast_ref::<CommandError>() {
            return known.storage;
        }
        if let Some(BackupError::Damaged { .. }) = cause.downcast_ref::<BackupError>() {
            return Some("backup_damaged");
        }
        let code = store_error(cause).and_then(local_store::Error::storage_code);
        code.or_else(|| is_full(cause).then_some("no_space"))
    })
}

/// Returns what to do next, if an error says it.
pub(crate) fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(known) = cause.downcast_ref::<CommandError>() {
            return known.hint.clone();
        }
        match cause.downcast_ref::<BackupError>() {
            Some(BackupError::NotFound(_)) => return Some("coditect backup list".to_owned()),
            Some(BackupError::Damaged { .. }) => {
                return Some("nothing was changed; coditect backup list names others".to_owned());
            }
            _ => {}
        }
        let plain_http = cause.downcast_ref::<HttpError>();
        matches!(plain_http, Some(HttpError::PlainHttp(_)))
            .then(|| "use https://, or say --allow-plain-http".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_code_survives_added_context() {
        let error = CommandError::new(Exit::Offline, "no answer").hint("wait");
        let error = Err::<(), _>(error).context("syncing").unwrap_err();
        assert_eq!(of(&error), Exit::Offline);
        assert_eq!(hint_of(&error).as_deref(), Some("wait"));
        assert_eq!(of(&anyhow::anyhow!("anything else")), Exit::Failure);
    }

    #[test]
    fn a_full_disk_is_one_fault_wherever_it_is_met() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let path = std::path::PathBuf::from("sync-state.json");
        let file = coditect_client::FileError::Io {
            action: "write",
            path: path.clone(),
            source: full(),
        };
        let io = local_store::Error::Io {
            path,
            source: full(),
        };
        for error in [anyhow::Error::from(file), SyncError::Store(io).into()] {
            assert_eq!(of(&error), Exit::Storage, "{error:#}");
            assert_eq!(storage_code_of(&error), Some("no_space"));
        }
        let other = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(of(&other.into()), Exit::Failure);
    }

    #[test]
    fn the_page_lists_every_code_once() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/EXIT-CODES.md");
        let page = std::fs::read_to_string(path).unwrap();
        let listed: Vec<u8> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let expected: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(listed, expected);
    }
}

//! What the tools need of a memory.

use serde::{Deserialize, Serialize};

/// What an entry is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, rmcp::schemars::JsonSchema,
)]
#[schemars(crate = "rmcp::schemars")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What was said in a session.
    Message,
    /// A decision and its reasons.
    Decision,
    /// What was learned.
    Learning,
    /// An error and what fixed it.
    Error,
    /// A task of an agent or a person.
    Task,
    /// A conversation with an agent.
    Session,
    /// A commit that an agent made.
    Commit,
}

impl Kind {
    /// The kinds that are searched.
    pub const SEARCHED: [Self; 5] = [
        Self::Decision,
        Self::Learning,
        Self::Error,
        Self::Task,
        Self::Message,
    ];

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Decision,
        Self::Learning,
        Self::Error,
        Self::Task,
        Self::Message,
        Self::Session,
        Self::Commit,
    ];

    /// Returns the name in ids and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Decision => "decision",
            Self::Learning => "learning",
            Self::Error => "error",
            Self::Task => "task",
            Self::Session => "session",
            Self::Commit => "commit",
        }
    }

    /// Returns the kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == name)
    }
}

/// Something that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its id; a beginning of it is enough to ask for it.
    pub id: String,
    /// When it was said or made, RFC 3339.
    pub time: Option<String>,
    /// What told it, for people: an agent and its session.
    pub source: Option<String>,
    /// Who it is from, for people.
    pub author: Option<String>,
    /// Who sees it: `user`, `org`, `team:NAME`, `project:NAME`.
    pub scope: String,
    /// The project.
    pub project: Option<String>,
    /// The branch of the repository.
    pub branch: Option<String>,
    /// The session that it comes from.
    pub session: Option<String>,
    /// Status, role, or what else says in a word what it is.
    pub mark: Option<String>,
    /// Its text: the whole of it, or what surrounds a hit.
    pub text: String,
}

/// Which entries are meant; all of them when nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this project, by name, id or folder.
    pub project: Option<String>,
    /// Only this session, by the agent's own id.
    pub session: Option<String>,
    /// Only what this agent program wrote.
    pub agent: Option<String>,
    /// Only of this author: `me`, or the beginning of a user's id.
    pub author: Option<String>,
    /// Only what was said or made since, RFC 3339 or a date.
    pub since: Option<String>,
    /// Only what is older; of a date, to its end.
    pub until: Option<String>,
}

/// What to search for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Words that must all occur.
    pub text: String,
    /// Only these kinds; all that are searched when empty.
    pub kinds: Vec<Kind>,
    /// Only messages of this role.
    pub role: Option<String>,
    /// Which entries.
    pub filter: Filter,
    /// Entries at most.
    pub limit: u32,
}

/// What to list by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimelineQuery {
    /// Only these kinds; decisions, learnings, errors, sessions and commits when empty.
    pub kinds: Vec<Kind>,
    /// Which entries.
    pub filter: Filter,
    /// Those around this time, or around what has this id, instead of the newest.
    pub around: Option<String>,
    /// Entries at most.
    pub limit: u32,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only those of this status; all that are not done when none is named.
    pub status: Option<String>,
    /// Only this project, by id or name.
    pub project: Option<String>,
    /// Entries at most.
    pub limit: u32,
}

/// Something new to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewRecord {
    /// A decision.
    Decision {
        /// What was decided.
        title: String,
        /// Why.
        rationale: Option<String>,
        /// Where it stands.
        status: Option<String>,
    },
    /// What was learned.
    Learning {
        /// What it is about.
        skill: String,
        /// What was learned.
        learning: String,
        /// Kind of learning.
        category: Option<String>,
    },
    /// An error and its fix.
    ErrorSolution {
        /// The part of the error's text that stays the same.
        pattern: String,
        /// What fixed it.
        solution: String,
        /// Programming language.
        language: Option<String>,
    },
}

/// How the memory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it is linked to a server.
    pub linked: bool,
    /// Changes that wait to be sent.
    pub queued: u64,
    /// Changes that were refused and need a person.
    pub parked: u64,
    /// Conflicts that nobody has settled.
    pub conflicts: u64,
    /// When the last sync was, RFC 3339.
    pub last_sync_at: Option<String>,
    /// The project of the folder that the agent works in.
    pub project: Option<String>,
}

/// Why the memory cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such thing, or several; the text is for the agent.
    #[error("{0}")]
    NotFound(String),
    /// What was asked makes no sense; the text is for the agent.
    #[error("{0}")]
    Invalid(String),
    /// The memory failed; the text is for the agent, the cause for the log.
    #[error("the memory cannot be used: {0}")]
    Failed(String),
}

/// A memory that agents ask. Calls may block; they are made on threads of their own.
pub trait ContextSource: Send + Sync + 'static {
    /// Returns what was found, best first.
    ///
    /// # Errors
    /// [`SourceError::Failed`].
    fn search(&self, query: &Query) -> Result<Vec<Entry>, SourceError>;

    /// Returns an entry with its whole text, by its id or the beginning of it.
    ///
    /// # Errors
    /// [`SourceError::NotFound`], [`SourceError::Failed`].
    fn get(&self, id: &str) -> Result<Entry, SourceError>;

    /// Returns what happened, newest first.
    ///
    /// # Errors
    /// [`SourceError::Failed`].
    fn timeline(&self, query: &TimelineQuery) -> Result<Vec<Entry>, SourceError>;

    /// Returns tasks, the last changed first.
    ///
    /// # Errors
    /// [`SourceError::Failed`].
    fn tasks(&self, query: &TaskQuery) -> Result<Vec<Entry>, SourceError>;

    /// Remembers something, in the project of the folder that the agent works in; returns it as
    /// it was stored.
    ///
    /// # Errors
    /// [`SourceError::Invalid`], [`SourceError::Failed`].
    fn record(&self, record: &NewRecord) -> Result<Entry, SourceError>;

    /// Returns how the memory is.
    ///
    /// # Errors
    /// [`SourceError::Failed`].
    fn status(&self) -> Result<Status, SourceError>;
}

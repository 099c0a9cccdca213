//! One session, as far as one file tells about it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::NamedRow;
use super::columns::Columns;

/// Where a title comes from; a later variant beats an earlier one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TitleSource {
    /// There is none.
    #[default]
    None,
    /// First line of the first prompt.
    Prompt,
    /// A `summary` record for one of the session's messages.
    Summary,
    /// A title made by the agent.
    Agent,
    /// A title given by the user.
    User,
}

/// What one file says about a session so far. The same session in other files (subagents, resumed
/// copies) is joined by [`SessionRow::merge`]; the message count is then best taken from the
/// stored messages, because copies repeat them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionRow {
    /// The agent's id of the session.
    pub session_id: String,
    /// Agent program, such as `claude`.
    pub agent: String,
    /// First working directory.
    pub project_path: Option<String>,
    /// Last git branch.
    pub git_branch: Option<String>,
    /// Last version of the agent program.
    pub client_version: Option<String>,
    /// Vendor of the model, where its name tells.
    pub llm_provider: Option<String>,
    /// Last model that answered.
    pub llm_model: Option<String>,
    /// Title, with where it comes from.
    pub title: Option<String>,
    /// Rank of the title.
    pub title_source: TitleSource,
    /// Earliest time of a record.
    pub start_time: Option<String>,
    /// Latest time of a record.
    pub end_time: Option<String>,
    /// Messages of this session in this file.
    pub message_count: u64,
    /// The agent's readable name of the session.
    pub slug: Option<String>,
}

impl SessionRow {
    /// Offers a title; it is taken unless there is one of a higher rank. Of two prompts or
    /// summaries the first stays, of two titles the last.
    pub fn offer_title(&mut self, title: String, source: TitleSource) {
        let newer_wins = source >= TitleSource::Agent && source == self.title_source;
        if source > self.title_source || newer_wins {
            self.title = Some(title);
            self.title_source = source;
        }
    }

    /// Joins what another file, or a later state of the same file, says about the session.
    pub fn merge(&mut self, other: Self) {
        let later = other.end_time >= self.end_time;
        if later {
            take(&mut self.git_branch, other.git_branch);
            take(&mut self.client_version, other.client_version);
            take(&mut self.llm_provider, other.llm_provider);
            take(&mut self.llm_model, other.llm_model);
        }
        if let Some(title) = other.title {
            self.offer_title(title, other.title_source);
        }
        let earlier = match (&self.start_time, &other.start_time) {
            (Some(mine), Some(theirs)) => theirs < mine,
            (mine, _) => mine.is_none(),
        };
        if earlier {
            self.start_time = other.start_time;
            take(&mut self.project_path, other.project_path);
        } else if self.project_path.is_none() {
            self.project_path = other.project_path;
        }
        self.end_time = self.end_time.take().max(other.end_time);
        self.message_count = self.message_count.max(other.message_count);
        self.slug = self.slug.take().or(other.slug);
    }

    /// Returns the row under the catalogue's names.
    pub fn into_row(self) -> NamedRow {
        let row = Columns::default()
            .text("session_id", self.session_id)
            .text("project_path", self.project_path)
            .text("llm_provider", self.llm_provider)
            .text("llm_model", self.llm_model)
            .text("agent", self.agent)
            .text("client_version", self.client_version)
            .text("git_branch", self.git_branch)
            .text("title", self.title)
            .text("start_time", self.start_time)
            .text("end_time", self.end_time)
            .integer("message_count", self.message_count)
            .json("metadata", self.slug.map(|slug| json!({ "slug": slug })));
        ("context_sessions", row.finish())
    }
}

fn take(mine: &mut Option<String>, theirs: Option<String>) {
    if theirs.is_some() {
        *mine = theirs;
    }
}

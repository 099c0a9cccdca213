//! Tokens of one API answer.

use serde::{Deserialize, Serialize};

use super::NamedRow;
use super::columns::Columns;

/// Usage of one (session, API message). Records repeat it while the answer streams, so every
/// number is the greatest one seen; what does not count is what the first record says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Session.
    pub session_id: String,
    /// Id of the API answer.
    pub api_message_id: String,
    /// Identity of the first record of the answer. No column: where it is stored under another
    /// session, this file is a copy and the answer has been counted there.
    pub message_id: String,
    /// Model; none for a placeholder that no model wrote.
    pub llm_model: Option<String>,
    /// Id of the API request.
    pub request_id: Option<String>,
    /// Subagent.
    pub agent_id: Option<String>,
    /// Time of the first record.
    pub timestamp: Option<String>,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens written to the cache.
    pub cache_creation_input_tokens: u64,
    /// Tokens read from the cache.
    pub cache_read_input_tokens: u64,
}

impl TokenRow {
    /// Joins another record of the same answer: numbers by their maximum, the rest stays unless
    /// it is missing.
    pub fn merge(&mut self, other: Self) {
        self.llm_model = self.llm_model.take().or(other.llm_model);
        self.request_id = self.request_id.take().or(other.request_id);
        self.agent_id = self.agent_id.take().or(other.agent_id);
        self.timestamp = self.timestamp.take().or(other.timestamp);
        self.input_tokens = self.input_tokens.max(other.input_tokens);
        self.output_tokens = self.output_tokens.max(other.output_tokens);
        self.cache_creation_input_tokens = self
            .cache_creation_input_tokens
            .max(other.cache_creation_input_tokens);
        self.cache_read_input_tokens = self
            .cache_read_input_tokens
            .max(other.cache_read_input_tokens);
    }

    /// Returns the row under the catalogue's names.
    pub fn into_row(self) -> NamedRow {
        let row = Columns::default()
            .text("session_id", self.session_id)
            .text("api_message_id", self.api_message_id)
            .text("llm_model", self.llm_model)
            .text("request_id", self.request_id)
            .text("agent_id", self.agent_id)
            .text("timestamp", self.timestamp)
            .integer("input_tokens", self.input_tokens)
            .integer("output_tokens", self.output_tokens)
            .integer(
                "cache_creation_input_tokens",
                self.cache_creation_input_tokens,
            )
            .integer("cache_read_input_tokens", self.cache_read_input_tokens);
        ("context_token_economics", row.finish())
    }
}

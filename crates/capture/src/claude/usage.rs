//! Token numbers of an assistant record.

use serde_json::Value;

use super::record::{Record, text};
use crate::rows::{MessageRow, TokenRow};

/// Returns the usage that a record states; none without an API message id. A placeholder that no
/// model wrote counts nothing.
pub(super) fn row(message: &Record, row: &MessageRow) -> Option<TokenRow> {
    let mut tokens = TokenRow {
        session_id: row.session_id.clone(),
        api_message_id: text(message, "id")?.to_owned(),
        message_id: row.message_id.clone(),
        request_id: row.request_id.clone(),
        agent_id: row.agent_id.clone(),
        timestamp: row.timestamp.clone(),
        ..TokenRow::default()
    };
    if row.is_synthetic {
        return Some(tokens);
    }
    tokens.llm_model.clone_from(&row.llm_model);
    let usage = message.get("usage").and_then(Value::as_object);
    let number = |key: &str| {
        usage
            .and_then(|usage| usage.get(key)?.as_u64())
            .unwrap_or(0)
    };
    tokens.input_tokens = number("input_tokens");
    tokens.output_tokens = number("output_tokens");
    tokens.cache_creation_input_tokens = number("cache_creation_input_tokens");
    tokens.cache_read_input_tokens = number("cache_read_input_tokens");
    Some(tokens)
}

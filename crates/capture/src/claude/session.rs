//! What records tell about their session.

use coditect_core::redact::redact_text;

use super::chunk::Summary;
use super::message::{is_prompt, qualified};
use super::parser::Work;
use super::record::{Record, clip, first_text, text};
use super::state::{RECENT_LEAVES_MAX, SUMMARIES_MAX, SessionState};
use crate::rows::{MessageRow, TitleSource};

/// Longest title made from a prompt, in bytes.
const PROMPT_TITLE_BYTES: usize = 120;
/// Longest title of any other kind, in bytes.
const TITLE_BYTES: usize = 500;

/// Updates the session by a message.
pub(super) fn note_message(work: &mut Work<'_>, record: &Record, row: &MessageRow) {
    let own = session(work, &row.session_id);
    own.row.message_count += 1;
    own.row.project_path = own.row.project_path.take().or(row.cwd.clone());
    own.row.slug = own
        .row
        .slug
        .take()
        .or(text(record, "slug").map(str::to_owned));
    replace(&mut own.row.git_branch, row.git_branch.clone());
    replace(
        &mut own.row.client_version,
        text(record, "version").map(str::to_owned),
    );
    if let Some(model) = &row.llm_model {
        own.row.llm_model = Some(model.clone());
        own.row.llm_provider = provider(model).map(str::to_owned);
    }
    if let Some(at) = &row.timestamp {
        let start = own
            .row
            .start_time
            .take()
            .map_or(at.clone(), |start| start.min(at.clone()));
        own.row.start_time = Some(start);
        own.row.end_time = own.row.end_time.take().max(Some(at.clone()));
    }
    if own.row.title_source == TitleSource::None && is_prompt(row) {
        let line = row
            .content
            .trim_start()
            .lines()
            .next()
            .unwrap_or("")
            .trim_end();
        if !line.is_empty() {
            let title = clip(line, PROMPT_TITLE_BYTES).to_owned();
            own.row.offer_title(title, TitleSource::Prompt);
        }
    }
    if let Some(uuid) = text(record, "uuid") {
        note_leaf(work, uuid, &row.session_id);
    }
}

/// Reads a record that is no message but may carry a title.
pub(super) fn read_state_record(work: &mut Work<'_>, record: &Record, kind: &str) {
    let (keys, source): (&[&str], _) = match kind {
        "summary" => (&["summary"], TitleSource::Summary),
        "ai-title" => (&["aiTitle", "title"], TitleSource::Agent),
        "custom-title" => (&["customTitle", "title"], TitleSource::User),
        _ => return,
    };
    let Some(title) = first_text(record, keys) else {
        return;
    };
    let title = redact_text(title, &mut work.chunk.report);
    let title = clip(title.trim(), TITLE_BYTES).to_owned();
    if source == TitleSource::Summary {
        note_summary(work, record, title);
    } else if let Some(session_id) = text(record, "sessionId")
        && let Some(known) = work.state.sessions.get_mut(session_id)
    {
        known.row.offer_title(title, source);
        work.touch_session(session_id);
    }
}

/// Returns the state of a session, which this piece has touched.
pub(crate) fn session<'a>(work: &'a mut Work<'_>, session_id: &str) -> &'a mut SessionState {
    work.touch_session(session_id);
    let program = work.state.format.agent();
    let sessions = &mut work.state.sessions;
    if !sessions.contains_key(session_id) {
        let mut new = SessionState::default();
        new.row.session_id = session_id.to_owned();
        new.row.agent = program.to_owned();
        sessions.insert(session_id.to_owned(), new);
    }
    sessions.entry(session_id.to_owned()).or_default()
}

/// A summary names the last message of what it sums up, which may be of another session, came
/// before, comes later, or is not in this file at all.
fn note_summary(work: &mut Work<'_>, record: &Record, title: String) {
    let Some(leaf) = text(record, "leafUuid") else {
        return;
    };
    let known = work
        .state
        .recent_leaves
        .iter()
        .find(|(uuid, _)| uuid == leaf);
    if let Some((_, session_id)) = known.cloned() {
        session(work, &session_id)
            .row
            .offer_title(title, TitleSource::Summary);
        return;
    }
    let leaf_message_id = qualified(work.state.format.agent(), work.state.stem(), None, leaf);
    work.chunk.summaries.push(Summary {
        leaf_message_id,
        title: title.clone(),
    });
    if work.state.waiting_summaries.len() < SUMMARIES_MAX {
        work.state.waiting_summaries.insert(leaf.to_owned(), title);
    }
}

fn note_leaf(work: &mut Work<'_>, uuid: &str, session_id: &str) {
    if let Some(title) = work.state.waiting_summaries.remove(uuid) {
        session(work, session_id)
            .row
            .offer_title(title, TitleSource::Summary);
    }
    let recent = &mut work.state.recent_leaves;
    if recent.len() == RECENT_LEAVES_MAX {
        recent.pop_front();
    }
    recent.push_back((uuid.to_owned(), session_id.to_owned()));
}

/// Returns the vendor that a model's name tells.
fn provider(model: &str) -> Option<&'static str> {
    let of_openai = ["gpt", "codex", "o1", "o3", "o4"];
    if model.contains("claude") {
        Some("anthropic")
    } else if model.contains("gemini") {
        Some("google")
    } else if of_openai.iter().any(|start| model.starts_with(start)) {
        Some("openai")
    } else {
        None
    }
}

fn replace(mine: &mut Option<String>, new: Option<String>) {
    if new.is_some() {
        *mine = new;
    }
}

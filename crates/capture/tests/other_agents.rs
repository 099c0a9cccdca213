//! Codex, Gemini and text exports. No real Codex transcript was at hand: the fixtures were made by
//! the published descriptions of the format.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use coditect_capture::Format;
use coditect_capture::claude::{FileState, RowSet, TranscriptReader};
use support::{fixture, real, skip};

fn read(name: &str, format: Format) -> RowSet {
    read_path(&fixture(name), format)
}

fn read_path(path: &std::path::Path, format: Format) -> RowSet {
    let mut rows = RowSet::default();
    let state = FileState::of_format(path.to_string_lossy(), format);
    let mut reader = TranscriptReader::open(path, Some(state)).unwrap();
    let mut read = 0;
    while let Some(chunk) = reader.next_chunk(512).unwrap() {
        read += reader.consumed().len() as u64;
        rows.add(chunk);
    }
    assert_eq!(
        read,
        std::fs::metadata(path).unwrap().len(),
        "all bytes go to the archive"
    );
    rows
}

const CODEX: &str = "rollout-2026-02-03T03-51-00-0190a7c1-0000-7000-8000-00000000c0de.jsonl";

#[test]
fn a_codex_session_becomes_messages_calls_tasks_and_tokens() {
    assert_eq!(Format::of(&fixture(CODEX)), Format::Codex);
    let rows = read(CODEX, Format::Codex);
    let session = &rows.sessions["0190a7c1-0000-7000-8000-00000000c0de"];
    assert_eq!(session.agent, "codex");
    assert_eq!(session.project_path.as_deref(), Some("/home/ann/app"));
    assert_eq!(session.git_branch.as_deref(), Some("main"));
    assert_eq!(session.title.as_deref(), Some("Fix the failing test"));
    assert_eq!(session.llm_provider.as_deref(), Some("openai"));
    assert_eq!(session.message_count, 11);
    assert_eq!((rows.records, rows.messages.len()), (22, 11));
    assert!(rows.damaged.is_empty());
    assert!(rows.messages.keys().all(|id| id.starts_with("codex:")));

    let said: Vec<_> = rows
        .messages
        .values()
        .filter(|row| row.content == "Mended.")
        .collect();
    assert_eq!(said.len(), 1, "what both logs tell counts once");
    let call = |id: &str| {
        let found = rows.tools.values().find(|row| row.tool_use_id == id);
        let row = found.unwrap();
        (row.tool_name.clone(), row.success, row.duration_ms)
    };
    assert_eq!(
        call("call_2"),
        ("shell".to_owned(), Some(false), Some(2_500))
    );
    assert_eq!(
        call("call_3"),
        ("apply_patch".to_owned(), Some(true), Some(200)),
        "what the tool measured, not how long its answer took"
    );
    assert_eq!(rows.tasks.len(), 2);
    let status = |text: &str| {
        let task = rows
            .tasks
            .values()
            .find(|task| task.description.as_deref() == Some(text));
        task.unwrap().status.clone().unwrap()
    };
    assert_eq!(
        (status("Run the tests"), status("Mend")),
        ("in_progress".into(), "pending".into())
    );
}

#[test]
fn codex_totals_become_what_each_answer_took() {
    let rows = read(CODEX, Format::Codex);
    let mut took: Vec<_> = rows
        .tokens
        .values()
        .map(|row| {
            (
                row.input_tokens,
                row.cache_read_input_tokens,
                row.output_tokens,
            )
        })
        .collect();
    took.sort_unstable();
    // 1000 with 400 cached; 1500 more with 1000 cached; the same again; then a new beginning.
    assert_eq!(took, [(300, 0, 10), (500, 1_000, 40), (600, 400, 50)]);
    assert!(
        rows.tokens
            .values()
            .all(|row| row.llm_model.as_deref() == Some("gpt-5-codex"))
    );
}

#[test]
fn lines_of_an_old_codex_have_nothing_around_them() {
    let rows = read("codex-old.jsonl", Format::Codex);
    assert_eq!(rows.sessions.len(), 1);
    assert_eq!(rows.messages.len(), 4);
    let call = rows.tools.values().next().unwrap();
    assert_eq!((call.success, call.output_bytes), (Some(true), Some(4)));
    assert_eq!(rows.raw_counts["state"], 2);
}

#[test]
fn a_gemini_session_in_lines_becomes_rows() {
    let rows = read("gemini-session.jsonl", Format::Gemini);
    let session = &rows.sessions["5e0f0000-0000-4000-8000-000000000001"];
    assert_eq!(
        (session.agent.as_str(), session.message_count),
        ("gemini", 5)
    );
    assert_eq!(session.title.as_deref(), Some("Write the plan"));
    assert_eq!(session.llm_provider.as_deref(), Some("google"));
    let token = rows.tokens.values().next().unwrap();
    assert_eq!(
        (
            token.input_tokens,
            token.cache_read_input_tokens,
            token.output_tokens
        ),
        (100, 20, 35)
    );
    let mut success: Vec<_> = rows.tools.values().map(|row| row.success).collect();
    success.sort_unstable();
    assert_eq!(success, [Some(false), Some(true)]);
    let task = rows.tasks.values().next().unwrap();
    assert_eq!(task.description.as_deref(), Some("Run tests"));
    assert_eq!(
        (rows.raw_counts["$set"], rows.raw_counts["$rewindTo"]),
        (1, 1)
    );
}

#[test]
fn real_gemini_documents_become_rows() {
    for (name, messages, tokens) in [
        ("gemini/session-0.json", None, 0),
        ("gemini/session-1.json", None, 0),
    ] {
        let Some(path) = real(name) else {
            return skip(name);
        };
        let rows = read_path(&path, Format::of(&path));
        let document: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let all = document["messages"].as_array().unwrap();
        let results: usize = all
            .iter()
            .filter_map(|message| message["toolCalls"].as_array())
            .map(Vec::len)
            .sum();
        assert_eq!(
            rows.messages.len(),
            messages.unwrap_or(all.len() + results),
            "{name}"
        );
        let sum = |key: &str| -> u64 {
            let of = |message: &serde_json::Value| message["tokens"][key].as_u64();
            all.iter().filter_map(of).sum()
        };
        let counted: u64 = rows.tokens.values().map(|row| row.output_tokens).sum();
        assert_eq!(counted, sum("output") + sum("thoughts") + tokens, "{name}");
        let input: u64 = rows
            .tokens
            .values()
            .map(|row| row.input_tokens + row.cache_read_input_tokens)
            .sum();
        assert_eq!(input, sum("input"), "{name}");
        assert!(rows.damaged.is_empty());
    }
}

#[test]
fn exported_text_becomes_messages_of_the_role_that_its_marks_tell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("2026-02-03-talk.txt");
    let token = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFgH12";
    let part = format!("\u{23fa} {} {token}\n", "word ".repeat(20));
    std::fs::write(&path, part.repeat(3)).unwrap();
    let rows = read_path(&path, Format::Text);
    assert_eq!(
        rows.messages.len(),
        3,
        "the same words three times are three parts"
    );
    let row = rows.messages.values().next().unwrap();
    assert_eq!(row.role, "conversation");
    assert_eq!(row.source_type.as_deref(), Some("export_compact_circle"));
    assert!(row.content.contains("[REDACTED:github-token]"));
    assert_eq!(
        row.timestamp.as_deref(),
        Some("2026-02-03T00:00:00.000000Z")
    );
}

#[test]
fn a_line_that_is_too_long_is_named_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.jsonl");
    let record =
        r#"{"type":"user","uuid":"u1","sessionId":"s","message":{"role":"user","content":"a"}}"#;
    let long = "x y ".repeat(6 * 1024 * 1024);
    std::fs::write(
        &path,
        format!("{record}\n{long}\n{}\n", record.replace("u1", "u2")),
    )
    .unwrap();
    let rows = read_path(&path, Format::Claude);
    assert_eq!((rows.messages.len(), rows.damaged.len()), (2, 1));
    assert_eq!(
        (rows.damaged[0].line, rows.damaged[0].raw.len()),
        (2, 64 * 1024)
    );
    assert!(rows.damaged[0].reason.contains("longer than 16 MiB"));
}

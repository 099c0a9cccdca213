//! A made-up session with every oddity, and the property that pieces make no difference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use coditect_capture::claude::{RowSet, discover};
use coditect_capture::rows::TaskRow;
use coditect_protocol::catalogue::by_cloud_name;
use proptest::prelude::*;
use support::{fixture, in_pieces, read_files, read_on};

const SESSION: &str = "11111111-2222-4333-8444-555555555555";

fn main_file() -> PathBuf {
    fixture("home/projects/-home-ann-garden").join(format!("{SESSION}.jsonl"))
}

fn garden() -> RowSet {
    read_files(&discover(&fixture("home")).unwrap()).0
}

fn main_rows() -> RowSet {
    read_files(&[main_file()]).0
}

fn task<'a>(rows: &'a RowSet, description: &str) -> &'a TaskRow {
    let is_it = |task: &&TaskRow| task.description.as_deref() == Some(description);
    rows.tasks.values().find(is_it).unwrap()
}

#[test]
fn a_session_is_described_by_its_records() {
    let rows = main_rows();
    let session = &rows.sessions[SESSION];
    assert_eq!(session.project_path.as_deref(), Some("/home/ann/garden"));
    assert_eq!(session.git_branch.as_deref(), Some("main"));
    assert_eq!(session.client_version.as_deref(), Some("2.1.50"));
    assert_eq!(session.llm_model.as_deref(), Some("claude-test-1"));
    assert_eq!(
        session.start_time.as_deref(),
        Some("2026-03-01T10:00:01.250000Z")
    );
    assert_eq!(session.message_count, rows.messages.len() as u64);
}

#[test]
fn a_summary_names_the_session_of_its_message_and_no_other() {
    let rows = main_rows();
    assert_eq!(
        rows.sessions[SESSION].title.as_deref(),
        Some("Beans and lawn")
    );
    assert_eq!(rows.sessions.len(), 1);
    assert_eq!(rows.raw_counts["summary"], 2);
}

#[test]
fn a_title_falls_back_to_the_first_prompt() {
    let bytes = std::fs::read(main_file()).unwrap();
    let (rows, _) = in_pieces(&bytes[..4_000], &[]);
    assert_eq!(
        rows.sessions[SESSION].title.as_deref(),
        Some("Plant the beans")
    );
}

#[test]
fn damaged_lines_are_named_and_whole_records_in_them_kept() {
    let rows = main_rows();
    let bytes = std::fs::read(main_file()).unwrap();
    let objects: Vec<_> = rows.damaged.iter().map(|damaged| damaged.objects).collect();
    assert_eq!(objects, [2, 1, 0]);
    for damaged in &rows.damaged {
        let start = usize::try_from(damaged.byte_offset).unwrap();
        assert!(bytes[start..].starts_with(damaged.raw.as_bytes()));
        let newlines = bytes[..start].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(damaged.line, newlines as u64 + 1);
    }
    for text in [
        "glued",
        "whole behind a torn one",
        "after a crash",
        "no newline yet",
    ] {
        assert!(
            rows.messages.values().any(|row| row.content == text),
            "{text}"
        );
    }
    assert!(
        rows.messages
            .values()
            .any(|row| row.content == "cut \u{fffd} here")
    );
    assert_eq!(rows.raw_counts["brand-new-kind"], 1);
}

#[test]
fn identities_follow_the_source_id_or_the_content() {
    let rows = garden();
    assert!(
        rows.messages
            .contains_key("claude:aaaaaaaa-0000-4000-8000-000000000001")
    );
    let named: Vec<_> = rows
        .messages
        .keys()
        .filter(|id| id.ends_with(":note-7") || id.ends_with(":1"))
        .collect();
    assert!(named.contains(&&format!("claude:{SESSION}:note-7")));
    assert!(named.contains(&&format!("claude:{SESSION}:a1:1")));
    assert!(named.contains(&&format!("claude:{SESSION}:b2:1")));
    let again: Vec<_> = rows
        .messages
        .values()
        .filter(|row| row.content == "continue")
        .map(|row| row.message_id.rsplit(':').next().unwrap())
        .collect();
    assert_eq!(again, ["1", "2"]);
}

#[test]
fn messages_tell_people_tools_and_placeholders_apart() {
    let rows = main_rows();
    let find = |start: &str| {
        rows.messages
            .values()
            .find(|row| row.content.starts_with(start))
            .unwrap()
    };
    let subtype = |start: &str| find(start).subtype.as_deref();
    assert_eq!(subtype("Plant the beans"), Some("prompt"));
    assert_eq!(subtype("<command-name>"), Some("command"));
    assert_eq!(subtype("north"), Some("tool_result"));
    assert_eq!(subtype("What happened"), Some("compact_summary"));
    assert_eq!(subtype("Conversation compacted"), Some("compact_boundary"));
    assert!(find("What happened").is_compact_summary && find("Caveat").is_meta);
    assert!(find("API Error").is_synthetic && find("API Error").llm_model.is_none());
    let turn = rows
        .messages
        .values()
        .find(|row| row.subtype.as_deref() == Some("turn_duration"));
    assert_eq!(turn.unwrap().metadata["durationMs"], 52_000);
}

#[test]
fn secrets_and_private_text_are_gone_from_every_row() {
    let rows = garden();
    let everything = format!("{rows:?}");
    for secret in ["hunter22", "ghp_aB3d", "my diary"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    assert!(everything.contains("DB_PASSWORD=[REDACTED:password] ls beds"));
    assert!(everything.contains("Stop. [REDACTED:private] Go on."));
    for kind in ["password", "github-token", "private"] {
        assert_eq!(rows.report.count(kind), 1, "{kind}");
    }
}

#[test]
fn tokens_are_the_greatest_of_a_split_answer_and_placeholders_count_nothing() {
    let rows = main_rows();
    let of = |id: &str| &rows.tokens[&(SESSION.to_owned(), id.to_owned())];
    let split = of("msg_1");
    assert_eq!((split.input_tokens, split.output_tokens), (3, 40));
    assert_eq!(
        (
            split.cache_creation_input_tokens,
            split.cache_read_input_tokens
        ),
        (10, 20)
    );
    assert_eq!(split.request_id.as_deref(), Some("req_msg_1"));
    let placeholder = of("msg_syn");
    assert_eq!(
        (placeholder.input_tokens, placeholder.output_tokens),
        (0, 0)
    );
    assert_eq!(placeholder.llm_model, None);
}

#[test]
fn calls_are_finished_by_their_result_or_given_up_at_the_next_prompt() {
    let rows = main_rows();
    let of = |id: &str| &rows.tools[&(SESSION.to_owned(), id.to_owned())];
    let good = of("toolu_ls");
    assert_eq!(
        (good.success, good.duration_ms, good.output_bytes),
        (Some(true), Some(120), Some(11))
    );
    let bad = of("toolu_err");
    assert_eq!((bad.success, bad.duration_ms), (Some(false), Some(1_000)));
    let error = bad.error_message.as_deref().unwrap();
    assert_eq!(error, "File does not exist: token [REDACTED:github-token]");
    let lost = of("toolu_lost");
    assert_eq!((lost.success, lost.output_bytes), (None, None));
}

#[test]
fn to_do_lists_of_both_shapes_become_tasks() {
    let rows = main_rows();
    let dig = task(&rows, "Dig");
    assert_eq!(
        (dig.status.as_deref(), dig.priority.as_deref()),
        (Some("completed"), Some("high"))
    );
    assert!(dig.completed_at.is_some());
    let sow = task(&rows, "Sow deep");
    assert_eq!(sow.task_id, todo_id("Sow"), "the text when first seen");
    assert_eq!(
        (sow.status.as_deref(), sow.touched),
        (Some("in_progress"), 2)
    );
    let water = task(&rows, "Water");
    assert_eq!(water.active_form.as_deref(), Some("Watering"));
    assert_eq!(
        water.status.as_deref(),
        Some("in_progress"),
        "a failed call changes nothing"
    );
}

fn todo_id(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("todo-{hex}")
}

#[test]
fn created_tasks_take_their_id_from_the_result() {
    let rows = main_rows();
    let mow = task(&rows, "Mow");
    assert_eq!(mow.task_id, "1");
    assert_eq!(mow.status.as_deref(), Some("completed"));
    assert_eq!(
        (mow.active_form.as_deref(), mow.details.as_deref()),
        (Some("Mowing"), Some("The lawn"))
    );
    assert_eq!(
        (mow.owner.as_deref(), &mow.blocks[..]),
        (Some("ann"), &["2".to_owned()][..])
    );
    assert_eq!(task(&rows, "Rake").status.as_deref(), Some("deleted"));
    let links: Vec<_> = rows
        .task_messages
        .values()
        .filter(|link| link.task_id == "1")
        .collect();
    let sequences: Vec<_> = links.iter().map(|link| link.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for link in links {
        assert_eq!(rows.messages[&link.message_id].role, "assistant");
    }
}

#[test]
fn subagent_files_of_both_layouts_belong_to_the_session() {
    let rows = garden();
    assert_eq!(rows.sessions.len(), 1);
    let of = |agent: &str| {
        rows.messages
            .values()
            .filter(|row| row.agent_id.as_deref() == Some(agent))
            .count()
    };
    assert_eq!((of("a1"), of("b2")), (4, 4));
    assert_eq!(
        rows.sessions[SESSION].title.as_deref(),
        Some("Beans and lawn")
    );
    assert_eq!(
        rows.tools[&(SESSION.to_owned(), "toolu_s_b2".to_owned())]
            .agent_id
            .as_deref(),
        Some("b2")
    );
}

#[test]
fn rows_have_only_columns_of_the_catalogue() {
    let rows = garden();
    let named = rows.sessions.into_values().map(|row| row.into_row());
    let named = named.chain(rows.messages.into_values().map(|row| row.into_row()));
    let named = named.chain(rows.tokens.into_values().map(|row| row.into_row()));
    let named = named.chain(rows.tools.into_values().map(|row| row.into_row()));
    let named = named.chain(rows.tasks.into_values().map(|row| row.into_row()));
    let named = named.chain(rows.task_messages.into_values().map(|row| row.into_row()));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, row) in named {
        let table = by_cloud_name(name).unwrap();
        for column in row.keys() {
            assert!(table.column(column).is_some(), "{name}.{column}");
        }
        for column in table.columns.iter().filter(|column| column.required) {
            assert!(
                row.contains_key(column.name),
                "{name}.{} is required",
                column.name
            );
        }
        *seen.entry(name).or_default() += 1;
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn a_fork_repeats_nothing_under_its_own_session() {
    let folder = tempfile::tempdir().unwrap();
    let fork = folder.path().join("fork.jsonl");
    let text = std::fs::read_to_string(main_file()).unwrap();
    let other = "99999999-2222-4333-8444-555555555555";
    std::fs::write(&fork, text.replace(SESSION, other)).unwrap();
    let alone = main_rows();
    let (both, _) = read_files(&[main_file(), fork]);
    assert_eq!(both.tokens, alone.tokens);
    assert_eq!(both.tools, alone.tools);
    // Only records without a UUID of their own belong to the fork.
    assert_eq!(both.messages.len(), alone.messages.len() + 3);
}

#[test]
fn reading_everything_again_changes_no_row() {
    let files = discover(&fixture("home")).unwrap();
    let (once, _) = read_files(&files);
    let (twice, _) = read_files(&[files.clone(), files].concat());
    assert_eq!(twice.sessions, once.sessions);
    assert!(twice.messages == once.messages);
    assert_eq!(twice.tokens, once.tokens);
    assert_eq!(twice.tools, once.tools);
    assert_eq!(twice.tasks, once.tasks);
    assert_eq!(twice.task_messages, once.task_messages);
}

#[test]
fn a_rewritten_file_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{SESSION}.jsonl"));
    let bytes = std::fs::read(main_file()).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let mut rows = RowSet::default();
    let first = read_on(&path, None, &mut rows);
    let unchanged = read_on(&path, Some(first.state.clone()), &mut RowSet::default());
    assert!(!unchanged.started_over);
    assert!(
        unchanged
            .state
            .is_current(&std::fs::metadata(&path).unwrap())
    );

    let text = String::from_utf8(bytes)
        .unwrap()
        .replace("Plant the beans", "Plant the peas!");
    std::fs::write(&path, text).unwrap();
    let mut again = RowSet::default();
    assert!(read_on(&path, Some(first.state), &mut again).started_over);
    assert_eq!(again.messages.len(), rows.messages.len());
    assert!(
        again
            .messages
            .values()
            .any(|row| row.content.starts_with("Plant the peas!"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_pieces_give_the_same_rows_and_state(
        mut cuts in prop::collection::vec(0_usize..24_000, 0..30),
    ) {
        let bytes = std::fs::read(main_file()).unwrap();
        cuts.retain(|cut| *cut <= bytes.len());
        cuts.sort_unstable();
        let (whole, end) = in_pieces(&bytes, &[]);
        let (pieces, state) = in_pieces(&bytes, &cuts);
        prop_assert!(pieces == whole);
        prop_assert_eq!(state, end);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..23_000,
    ) {
        let mut all = std::fs::read(main_file()).unwrap();
        let at = at.min(all.len());
        all.splice(at..at, bytes);
        let (rows, state) = in_pieces(&all, &[at]);
        prop_assert!(rows.messages.len() > 20);
        prop_assert!(state.offset <= all.len() as u64);
    }
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coditect_local_store::{LocalStore, Random, RowFilter};
use coditect_protocol::catalogue::File;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_770_000_000_000;

/// Rows by table and id.
type Rows = BTreeMap<(&'static str, String), Value>;

fn store() -> LocalStore {
    LocalStore::in_memory(NOW, Random::Seeded(1)).unwrap()
}

fn import(store: &mut LocalStore, folder: &Path) -> Summary {
    let importer = Importer::new(store, NOW).unwrap();
    importer.run(folder, |_| {}).unwrap()
}

fn rows(store: &LocalStore) -> Rows {
    let filter = RowFilter {
        limit: u32::MAX,
        ..RowFilter::default()
    };
    let mut rows = Rows::new();
    for table in File::Sessions.tables() {
        for view in store.list(table.cloud, &filter).unwrap() {
            let mut row = view.row;
            // The name of the file that was read first, and the place in it.
            row.remove("source_file");
            row.remove("sequence");
            rows.insert((table.cloud, view.id.unwrap()), Value::Object(row));
        }
    }
    rows
}

fn of<'a>(rows: &'a Rows, table: &str) -> Vec<&'a Value> {
    let of_table = rows.iter().filter(|((name, _), _)| *name == table);
    of_table.map(|(_, row)| row).collect()
}

/// Numbers of the marks: a new one means that something was written.
fn marks(store: &LocalStore) -> Vec<i64> {
    let entries = store
        .queue_entries(File::Sessions, false, u32::MAX)
        .unwrap();
    entries.iter().map(|entry| entry.n).collect()
}

fn real(path: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/transcripts");
    let path = data.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no real transcripts beside the checkout");
    None
}

/// An agent folder whose transcripts the test writes.
struct Agent(tempfile::TempDir);

impl Agent {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("projects/-app")).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join("projects/-app").join(name)
    }

    fn write(&self, name: &str, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.file(name), text).unwrap();
    }
}

fn record(kind: &str, number: u32, session: &str, content: Value) -> Value {
    json!({
        "type": kind,
        "uuid": format!("10000000-0000-4000-8000-{number:012}"),
        "sessionId": session,
        "timestamp": format!("2026-02-03T03:51:{:02}.000Z", number % 60),
        "cwd": "/home/ann/app",
        "version": "2.1.29",
        "message": {
            "id": format!("msg_{number}"), "role": kind, "model": "model-1", "content": content,
            "usage": {"input_tokens": number, "output_tokens": 1},
        },
    })
}

fn todo(number: u32, session: &str, status: &str) -> Value {
    let todos = json!([{"content": "Run tests", "status": status, "activeForm": "Running"}]);
    let call = json!([{
        "type": "tool_use", "id": format!("toolu_{number}"), "name": "TodoWrite",
        "input": {"todos": todos},
    }]);
    record("assistant", number, session, call)
}

fn answer(number: u32, session: &str, call: u32) -> Value {
    let result = json!([{
        "type": "tool_result", "tool_use_id": format!("toolu_{call}"), "content": "ok",
    }]);
    record("user", number, session, result)
}

#[test]
fn importing_again_writes_nothing() {
    let agent = Agent::new();
    let lines = [
        record("user", 1, "s1", json!("continue")),
        todo(2, "s1", "in_progress"),
        answer(3, "s1", 2),
    ];
    agent.write("s1.jsonl", &lines);
    let mut store = store();
    let first = import(&mut store, agent.path());
    assert_eq!((first.files, first.files_read, first.records), (1, 1, 3));
    let (before, marked) = (rows(&store), marks(&store));
    assert_eq!(of(&before, "context_messages").len(), 3);
    assert_eq!(of(&before, "context_sessions")[0]["message_count"], 3);
    assert_eq!(
        of(&before, "context_task_tracking")[0]["status"],
        "in_progress"
    );

    let second = import(&mut store, agent.path());
    assert_eq!((second.files, second.files_read), (1, 0));
    // Another time of change and no other content: it is read and gives nothing new.
    agent.write("s1.jsonl", &lines);
    import(&mut store, agent.path());
    // All is read again, as another folder with the same content.
    let copy = Agent::new();
    copy.write("s1.jsonl", &lines);
    import(&mut store, copy.path());
    assert_eq!(rows(&store), before);
    assert_eq!(marks(&store), marked);
}

#[test]
fn a_transcript_that_grows_gives_the_rows_of_its_end() {
    let agent = Agent::new();
    let lines = [
        record("user", 1, "s1", json!("first prompt")),
        todo(2, "s1", "pending"),
        answer(3, "s1", 2),
        todo(4, "s1", "completed"),
        answer(5, "s1", 4),
    ];
    let mut growing = store();
    for end in 1..=lines.len() {
        agent.write("s1.jsonl", &lines[..end]);
        import(&mut growing, agent.path());
    }
    let mut at_once = store();
    import(&mut at_once, agent.path());
    assert_eq!(rows(&growing), rows(&at_once));
    assert_eq!(
        of(&rows(&growing), "context_task_tracking")[0]["status"],
        "completed"
    );
}

#[test]
fn a_call_and_its_result_in_two_transcripts_are_paired() {
    let agent = Agent::new();
    agent.write(
        "a.jsonl",
        &[
            record("user", 1, "s1", json!("go")),
            todo(2, "s1", "pending"),
        ],
    );
    let mut store = store();
    import(&mut store, agent.path());
    assert!(of(&rows(&store), "context_tool_analytics").is_empty());
    agent.write("b.jsonl", &[answer(3, "s1", 2)]);
    import(&mut store, agent.path());
    let rows = rows(&store);
    let tools = of(&rows, "context_tool_analytics");
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0]["tool_name"], "TodoWrite");
    assert_eq!(of(&rows, "context_sessions")[0]["message_count"], 3);
}

#[test]
fn a_fork_adds_only_its_own_records() {
    let agent = Agent::new();
    let first = record(
        "assistant",
        1,
        "s1",
        json!([{"type": "text", "text": "hello"}]),
    );
    agent.write("a.jsonl", std::slice::from_ref(&first));
    let mut copied = first;
    copied["sessionId"] = json!("s2");
    agent.write(
        "b.jsonl",
        &[copied, record("user", 2, "s2", json!("other way"))],
    );
    let mut store = store();
    import(&mut store, agent.path());
    let rows = rows(&store);
    assert_eq!(of(&rows, "context_messages").len(), 2);
    assert_eq!(of(&rows, "context_token_economics").len(), 1);
    let counts: Vec<_> = of(&rows, "context_sessions")
        .iter()
        .map(|session| {
            (
                session["session_id"].clone(),
                session["message_count"].clone(),
            )
        })
        .collect();
    assert!(counts.contains(&(json!("s1"), json!(1))), "{counts:?}");
    assert!(counts.contains(&(json!("s2"), json!(1))), "{counts:?}");
}

#[test]
fn what_a_person_changed_in_a_task_stays() {
    let agent = Agent::new();
    agent.write(
        "s1.jsonl",
        &[todo(1, "s1", "in_progress"), answer(2, "s1", 1)],
    );
    let mut store = store();
    import(&mut store, agent.path());
    let task = store
        .list("context_task_tracking", &all())
        .unwrap()
        .remove(0);
    let patch = json!({"status": "completed"}).as_object().unwrap().clone();
    let id = task.id.unwrap();
    store
        .update("context_task_tracking", "user", &id, &patch, NOW + 1)
        .unwrap();
    let copy = Agent::new();
    std::fs::copy(agent.file("s1.jsonl"), copy.file("s1.jsonl")).unwrap();
    import(&mut store, copy.path());
    let task = store.get("context_task_tracking", &id).unwrap().unwrap();
    assert_eq!(task.row["status"], "completed");
}

#[test]
fn a_summary_titles_the_session_of_its_message_whichever_comes_first() {
    let title = json!({
        "type": "summary", "summary": "Fix the parser",
        "leafUuid": "10000000-0000-4000-8000-000000000001",
    });
    for summary_first in [true, false] {
        let agent = Agent::new();
        let mut store = store();
        let (first, second) = if summary_first {
            ("z", "y")
        } else {
            ("y", "z")
        };
        let write = |name: &str| match name {
            "y" => agent.write("y.jsonl", &[record("user", 1, "s1", json!("a prompt"))]),
            _ => agent.write("z.jsonl", std::slice::from_ref(&title)),
        };
        write(first);
        import(&mut store, agent.path());
        write(second);
        import(&mut store, agent.path());
        let rows = rows(&store);
        let sessions = of(&rows, "context_sessions");
        let titled = sessions
            .iter()
            .find(|session| session["session_id"] == "s1")
            .unwrap();
        assert_eq!(titled["title"], "Fix the parser", "{summary_first}");
    }
}

#[test]
fn secrets_are_replaced_and_counted_and_damage_is_named() {
    let agent = Agent::new();
    let secret = "AKIAIOSFODNN7EXAMPLF";
    let line = record("user", 1, "s1", json!(format!("my key is {secret}")));
    let text = format!(
        "{line}\n{}{{\"torn\n",
        record("user", 2, "s1", json!("kept"))
    );
    std::fs::write(agent.file("s1.jsonl"), text).unwrap();
    let mut store = store();
    let summary = import(&mut store, agent.path());
    assert!(summary.redacted.total() >= 1);
    assert_eq!(summary.damaged.len(), 1);
    assert_eq!(summary.damaged[0].line, 2);
    let rows = rows(&store);
    assert_eq!(of(&rows, "context_messages").len(), 2);
    assert!(!format!("{rows:?}").contains(secret));
}

#[test]
fn a_folder_without_transcripts_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store();
    let importer = Importer::new(&mut store, NOW).unwrap();
    assert!(importer.run(&folder.path().join("none"), |_| {}).is_err());
}

#[test]
fn real_damaged_files_name_one_line_each_and_lose_no_record() {
    let Some(damaged) = real("claude-damaged") else {
        return;
    };
    for entry in std::fs::read_dir(damaged).unwrap() {
        let path = entry.unwrap().path();
        let agent = Agent::new();
        std::fs::copy(&path, agent.file("x.jsonl")).unwrap();
        let mut store = store();
        let summary = import(&mut store, agent.path());
        assert_eq!(summary.damaged.len(), 1, "{}", path.display());
        // Every identity that the text names at a line's start is stored.
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.lines().filter_map(first_record);
        let spoken = whole.filter(|record| {
            let kind = record["type"].as_str().unwrap_or_default();
            ["user", "assistant", "system"].contains(&kind)
        });
        let ids: std::collections::BTreeSet<String> =
            spoken.map(|record| record["uuid"].to_string()).collect();
        let stored = of(&rows(&store), "context_messages").len();
        assert!(
            stored >= ids.len() && !ids.is_empty(),
            "{stored} < {}",
            ids.len()
        );
    }
}

#[test]
fn real_growing_transcripts_one_by_one_equal_all_at_once() {
    let Some(growing) = real("claude-growing") else {
        return;
    };
    for entry in std::fs::read_dir(growing).unwrap() {
        let folder = entry.unwrap().path();
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        let expected = {
            let agent = Agent::new();
            for file in &files {
                std::fs::copy(
                    file,
                    agent.file(file.file_name().unwrap().to_str().unwrap()),
                )
                .unwrap();
            }
            let mut store = store();
            import(&mut store, agent.path());
            rows(&store)
        };
        files.reverse();
        for order in ["last first", "first first"] {
            let agent = Agent::new();
            let mut store = store();
            for file in &files {
                let name = file.file_name().unwrap().to_str().unwrap();
                std::fs::copy(file, agent.file(name)).unwrap();
                import(&mut store, agent.path());
            }
            assert_same(&rows(&store), &expected, order);
            files.reverse();
        }
    }
}

fn all() -> RowFilter {
    RowFilter {
        limit: u32::MAX,
        ..RowFilter::default()
    }
}

fn first_record(line: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(line)
        .into_iter::<Value>()
        .next()?
        .ok()
}

fn assert_same(found: &Rows, expected: &Rows, order: &str) {
    let mut differences = Vec::new();
    for (key, row) in expected {
        match found.get(key) {
            None => differences.push(format!("missing {key:?} {row}")),
            Some(other) if other != row => {
                differences.push(format!("{key:?}\n  one by one {other}\n  at once    {row}"));
            }
            Some(_) => {}
        }
    }
    let extra = found.keys().filter(|key| !expected.contains_key(*key));
    differences.extend(extra.map(|key| format!("extra {key:?}")));
    let shown: Vec<_> = differences.iter().take(5).cloned().collect();
    assert!(
        differences.is_empty(),
        "{order}: {} differ:\n{}",
        differences.len(),
        shown.join("\n")
    );
}

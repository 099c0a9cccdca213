//! Whole transcripts through the importer: every record is there, and the archive gives the file
//! back; what is odd is named and costs nothing else; no planted secret is left in any file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "prints its figures")]

#[path = "../../core/tests/planted/mod.rs"]
mod planted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use coditect_capture::Format;
use coditect_capture::raw::Redaction;
use coditect_daemon::archive::Archive;
use coditect_daemon::importer::{Importer, Summary, sources_of_session};
use coditect_local_store::{LocalStore, Random, RowFilter};
use serde_json::{Value, json};
use sha2::Digest as _;

const NOW: i64 = 1_770_000_000_000;
const TOKENS: [&str; 4] = [
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
];

/// A data folder and an agent's folder.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("agent/projects/-app")).unwrap();
        Self(folder)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn agent(&self) -> PathBuf {
        self.0.path().join("agent")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.agent().join("projects/-app").join(name)
    }

    fn store(&self) -> LocalStore {
        let folder = self.data().join("context-storage");
        LocalStore::open(&folder, NOW, Random::Seeded(1)).unwrap()
    }

    fn archive(&self) -> Archive {
        Archive::new(&self.data())
    }

    fn import(&self, format: Format, folder: &Path) -> Summary {
        let mut store = self.store();
        let importer = Importer::new(&mut store, NOW).unwrap();
        importer.run_format(format, folder, |_| {}).unwrap()
    }

    fn import_claude(&self) -> Summary {
        self.import(Format::Claude, &self.agent())
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let to = if path.is_dir() { &mut left } else { &mut files };
            to.push(path);
        }
    }
    files.sort();
    files
}

/// Puts markers in the places that a list names.
fn with_markers(original: &[u8], list: &[Redaction]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for one in list {
        let start = usize::try_from(one.offset).unwrap();
        out.extend_from_slice(&original[at..start]);
        out.extend_from_slice(format!("[REDACTED:{}]", one.kind).as_bytes());
        at = start + usize::try_from(one.bytes).unwrap();
    }
    out.extend_from_slice(&original[at..]);
    out
}

/// Compares every file with what the archive has of it; returns how many lost something.
fn assert_archived(archive: &Archive, files: &[PathBuf]) -> (u64, u64) {
    let (mut changed, mut places) = (0, 0);
    for path in files {
        let original = std::fs::read(path).unwrap();
        let source = path.canonicalize().unwrap();
        let restored = archive.restore(&source.to_string_lossy()).unwrap();
        let restored = restored.unwrap_or_else(|| panic!("{} is not archived", path.display()));
        let expected = with_markers(&original, &restored.redactions);
        assert!(restored.content == expected, "{} differs", path.display());
        changed += u64::from(!restored.redactions.is_empty());
        places += restored.redactions.len() as u64;
    }
    assert_eq!(archive.verify().unwrap(), Vec::<String>::new());
    (changed, places)
}

#[test]
fn every_real_transcript_goes_in_and_comes_back() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/transcripts");
    if !data.exists() {
        return eprintln!("skipped: no real transcripts beside the checkout");
    }
    let machine = Machine::new();
    let copy = |from: &Path, to: PathBuf| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Not a copy of the file: its mode may forbid to write beside it.
        std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
    };
    for folder in ["claude/projects", "claude-damaged", "claude-growing"] {
        let to = machine
            .agent()
            .join("projects")
            .join(folder.replace('/', "-"));
        for path in walk(&data.join(folder)) {
            copy(
                &path,
                to.join(path.strip_prefix(data.join(folder)).unwrap()),
            );
        }
    }
    for path in walk(&data.join("gemini")) {
        copy(
            &path,
            machine
                .agent()
                .join("tmp/7e89/chats")
                .join(path.file_name().unwrap()),
        );
    }
    let summary = machine.import_claude();
    assert_eq!(machine.import(Format::Gemini, &machine.agent()).files, 2);
    let files = walk(&machine.agent());
    let (changed, places) = assert_archived(&machine.archive(), &files);
    println!(
        "{} files, {} records, {changed} files lost something at {places} places; {:?}",
        files.len(),
        summary.records,
        machine.archive().space().unwrap()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/count-transcripts.py");
    match Command::new("python3")
        .arg(script)
        .arg(machine.agent())
        .output()
    {
        Ok(counted) => {
            let counted = serde_json::from_slice(&counted.stdout).unwrap();
            let claude = walk(&machine.agent().join("projects"));
            compare(&machine.store(), &summary, &counted, &claude);
        }
        Err(_) => eprintln!("skipped: no python3 for the second count"),
    }
}

fn compare(store: &LocalStore, summary: &Summary, counted: &Value, files: &[PathBuf]) {
    let list = |table: &str, agent: Option<&str>| {
        let filter = RowFilter {
            limit: u32::MAX,
            equals: agent
                .map(|agent| ("agent".to_owned(), json!(agent)))
                .into_iter()
                .collect(),
            ..RowFilter::default()
        };
        store.list(table, &filter).unwrap()
    };
    assert_eq!(
        counted["messages"],
        list("context_messages", Some("claude")).len()
    );
    assert_eq!(
        counted["sessions"],
        list("context_sessions", Some("claude")).len()
    );
    // Records in a last line that has not ended are stored, but counted when it has.
    let mut unfinished: BTreeMap<String, u64> = BTreeMap::new();
    for path in files {
        let bytes = std::fs::read(path).unwrap();
        let last = bytes
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if let Ok(record) = serde_json::from_slice::<Value>(last) {
            let kind = record["type"].as_str().unwrap().to_owned();
            *unfinished.entry(kind).or_default() += 1;
        }
    }
    let by_type: BTreeMap<String, u64> = serde_json::from_value(counted["types"].clone()).unwrap();
    // Every record was read, each once, whatever became of it.
    let last_lines: u64 = unfinished.values().sum();
    assert_eq!(summary.records + last_lines, by_type.values().sum::<u64>());
    let mut types = summary.other_records.clone();
    // A message that occurs in several files is one row and several records.
    for (kind, count) in unfinished {
        *types.entry(kind).or_default() += count;
    }
    for role in ["user", "assistant", "system"] {
        types.insert(role.to_owned(), by_type[role]);
    }
    assert_eq!(types, by_type);
    let mut tokens = BTreeMap::new();
    for row in list("context_token_economics", None) {
        let text = |key: &str| row.row[key].as_str().unwrap().to_owned();
        let numbers = TOKENS.map(|key| row.row.get(key).and_then(Value::as_u64).unwrap_or(0));
        tokens.insert((text("session_id"), text("api_message_id")), numbers);
    }
    let rows = counted["tokens"].as_array().unwrap();
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let key = (text("session_id"), text("api_message_id"));
        let numbers = TOKENS.map(|name| row[name].as_u64().unwrap());
        assert_eq!(tokens.get(&key), Some(&numbers), "{key:?}");
    }
    println!(
        "{} API messages have the tokens of the other count; {by_type:?}",
        rows.len()
    );
    assert_eq!(
        counted["damaged"].as_array().unwrap().len(),
        summary.damaged.len()
    );
}

fn prompt(number: usize, session: &str, text: &str) -> String {
    let record = json!({
        "type": "user", "uuid": format!("20000000-0000-4000-8000-{number:012}"),
        "sessionId": session, "timestamp": "2026-02-03T03:51:03.000Z", "cwd": "/home/ann/app",
        "message": {"role": "user", "content": text},
        "toolUseResult": {"stdout": text},
    });
    format!("{record}\n")
}

/// Secrets in prompts, results, damaged lines, another agent's records, and exported text; then
/// every byte of every file is looked at.
#[test]
fn no_planted_secret_is_left_in_any_file() {
    let machine = Machine::new();
    let secrets = planted::all(20_261_121, 3);
    let (mut claude, mut codex, mut export) = (String::new(), String::new(), String::new());
    for (number, one) in secrets.iter().enumerate() {
        claude.push_str(&prompt(number, "s1", &one.text));
        if number % 10 == 0 {
            claude.push_str(&format!("torn {}\n", one.text.replace('\n', "\\n")));
        }
        let item = json!({
            "timestamp": "2026-02-03T03:51:03.000Z", "type": "response_item",
            "payload": {"type": "message", "role": "user",
                "content": [{"type": "input_text", "text": one.text}]},
        });
        codex.push_str(&format!("{item}\n"));
        export.push_str(&format!("\u{23fa} {}\n{}\n", one.text, "word ".repeat(12)));
    }
    std::fs::write(machine.file("s1.jsonl"), &claude).unwrap();
    let day = machine.agent().join("sessions/2026/02/03");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("rollout-2026-02-03T03-51-00-x.jsonl"), &codex).unwrap();
    let text = machine.agent().join("export.txt");
    std::fs::write(&text, &export).unwrap();

    let summary = machine.import_claude();
    machine.import(Format::Codex, &machine.agent());
    machine.import(Format::Text, &text);
    let archive = machine.archive();
    let manifests = archive.manifests().unwrap();
    assert_eq!(manifests.len(), 3);
    let restored = manifests
        .iter()
        .map(|one| archive.restore(&one.path).unwrap().unwrap().content);
    let files = walk(&machine.data());
    let files = files.iter().map(|path| std::fs::read(path).unwrap());
    let seen: Vec<Vec<u8>> = restored.chain(files).collect();
    let seen: Vec<_> = seen
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .collect();
    let all = seen.join("\u{0}");
    let mut pieces: HashMap<Vec<u8>, &str> = HashMap::new();
    for one in &secrets {
        let escaped = Value::String(one.secret.clone()).to_string();
        let secrets = [one.secret.as_str(), &escaped[1..escaped.len() - 1]];
        for piece in secrets.iter().flat_map(|secret| planted::pieces(secret)) {
            pieces.insert(piece.as_bytes().to_vec(), one.kind.name);
        }
    }
    let lengths: BTreeSet<usize> = pieces.keys().map(Vec::len).collect();
    let found = |length: &usize| {
        let windows = all.as_bytes().windows(*length);
        let left = windows.filter_map(|window| pieces.get(window));
        left.copied().collect::<Vec<_>>()
    };
    let left: Vec<&str> = lengths.iter().flat_map(found).collect();
    println!(
        "{} secrets planted in 3 files, {} replaced in the first; {} bytes of {} files and \
         transcripts looked at; left {left:?}",
        secrets.len(),
        summary.redacted.total(),
        all.len(),
        seen.len()
    );
    assert!(left.len() * 100 <= secrets.len(), "{left:?}");
}

#[test]
fn what_a_crash_left_out_of_the_archive_is_caught_up_with() {
    let machine = Machine::new();
    let text: String = (0..50).map(|n| prompt(n, "s1", "hello")).collect();
    std::fs::write(machine.file("s1.jsonl"), &text).unwrap();
    machine.import_claude();
    let files = [machine.file("s1.jsonl")];
    assert_archived(&machine.archive(), &files);
    // The databases are ahead of the archive.
    std::fs::remove_dir_all(machine.archive().folder()).unwrap();
    let again = machine.import_claude();
    assert_eq!((again.files_read, again.records), (1, 0));
    assert_archived(&machine.archive(), &files);
    // The archive is ahead of the databases.
    std::fs::remove_dir_all(machine.data().join("context-storage")).unwrap();
    machine.import_claude();
    assert_archived(&machine.archive(), &files);
    assert_eq!(machine.import_claude().files_read, 0);
}

#[test]
fn a_growing_a_rewritten_and_a_vanished_transcript_stay_archived() {
    let machine = Machine::new();
    let path = machine.file("s1.jsonl");
    let whole: String = (0..40).map(|n| prompt(n, "s1", "hello")).collect();
    for end in [100, 700, 5_000, whole.len() - 1, whole.len()] {
        std::fs::write(&path, &whole[..end]).unwrap();
        machine.import_claude();
        assert_archived(&machine.archive(), std::slice::from_ref(&path));
    }
    let source = path.canonicalize().unwrap().to_string_lossy().into_owned();
    std::fs::write(&path, prompt(99, "s1", "rewritten")).unwrap();
    machine.import_claude();
    assert_archived(&machine.archive(), std::slice::from_ref(&path));
    let manifest = machine.archive().manifest(&source).unwrap().unwrap();
    assert!(!manifest.replaced.is_empty(), "what it was is kept");
    std::fs::remove_file(&path).unwrap();
    machine.import_claude();
    assert_eq!(
        sources_of_session(&machine.store(), "s1").unwrap(),
        std::slice::from_ref(&source)
    );
    assert!(machine.archive().restore(&source).unwrap().is_some());
}

#[cfg(unix)]
#[test]
fn odd_files_are_named_and_cost_nothing_else() {
    use std::os::unix::fs::symlink;

    let machine = Machine::new();
    let good: String = (0..5).map(|n| prompt(n, "good", "hello")).collect();
    std::fs::write(machine.file("good.jsonl"), &good).unwrap();
    std::fs::write(machine.file("binary.jsonl"), b"\x01\x9f\x92\n\0\x01\x02\n").unwrap();
    std::fs::write(machine.file("empty.jsonl"), "").unwrap();
    let torn = format!("{{\"type\":\"us\n{}", prompt(7, "torn", "x"));
    std::fs::write(machine.file("torn.jsonl"), torn).unwrap();
    std::fs::create_dir_all(machine.file("folder.jsonl")).unwrap();
    let outside = machine.0.path().join("outside.jsonl");
    std::fs::write(&outside, prompt(8, "outside", "x")).unwrap();
    symlink(&outside, machine.file("leads-out.jsonl")).unwrap();
    symlink(machine.file("good.jsonl"), machine.file("leads-in.jsonl")).unwrap();
    symlink(machine.file("nothing"), machine.file("dangling.jsonl")).unwrap();
    let made = Command::new("mkfifo")
        .arg(machine.file("pipe.jsonl"))
        .status();
    assert!(made.is_ok_and(|status| status.success()));

    let summary = machine.import_claude();
    let unreadable = summary.unreadable.join("\n");
    for name in ["leads-out", "dangling", "pipe"] {
        assert!(unreadable.contains(name), "{name} in {unreadable}");
    }
    assert_eq!(summary.unreadable.len(), 3, "{unreadable}");
    assert_eq!(summary.damaged.len(), 3, "{:?}", summary.damaged);
    let filter = RowFilter {
        limit: 99,
        ..RowFilter::default()
    };
    assert_eq!(
        machine
            .store()
            .list("context_messages", &filter)
            .unwrap()
            .len(),
        6
    );
    let kept = ["good.jsonl", "binary.jsonl", "torn.jsonl"].map(|name| machine.file(name));
    assert_archived(&machine.archive(), &kept);
}

#[test]
fn a_project_that_opted_out_leaves_no_trace() {
    let machine = Machine::new();
    let project = machine.0.path().join("quiet");
    std::fs::create_dir_all(&project).unwrap();
    std::fs::write(project.join(".coditect-ignore"), "").unwrap();
    let quiet = prompt(1, "quiet", "the launch is on tuesday");
    let quiet = quiet.replace("/home/ann/app", &project.join("src").to_string_lossy());
    std::fs::write(machine.file("quiet.jsonl"), quiet).unwrap();
    std::fs::write(machine.file("open.jsonl"), prompt(2, "open", "hello")).unwrap();
    let summary = machine.import_claude();
    assert_eq!((summary.left_out, summary.files_read), (1, 2));
    for path in walk(&machine.data()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("tuesday"),
            "{}",
            path.display()
        );
    }
    assert_eq!(machine.archive().manifests().unwrap().len(), 1);
}

/// Writes three sessions that share a file and an error; returns their transcripts.
fn graph_sessions(machine: &Machine) -> Vec<PathBuf> {
    let call = |name: &str, input: Value| {
        json!([{"type": "tool_use", "id": "t", "name": name,
            "input": input}])
    };
    let result = |text: &str, is_error: bool| {
        json!([{"type": "tool_result", "tool_use_id": "t", "content": text,
            "is_error": is_error}])
    };
    let mut paths = Vec::new();
    for session in ["a", "b", "c"] {
        let mut text = String::new();
        let blocks = [
            call("Edit", json!({"file_path": "/home/ann/app/src/shared.rs"})),
            call(
                "Read",
                json!({"file_path": format!("/home/ann/app/{session}.md")}),
            ),
            result(&format!("[main {session}bcdef1] Mend {session}"), false),
            result("error: line 17 is wrong", true),
            result(
                &format!("error: line {} is wrong", session.len() + 40),
                true,
            ),
        ];
        for (at, content) in blocks.into_iter().enumerate() {
            let kind = if at < 2 { "assistant" } else { "user" };
            let letter = u32::from(session.as_bytes()[0]);
            let line = json!({"type": kind, "sessionId": session, "cwd": "/home/ann/app",
                "uuid": format!("10000000-0000-4000-8000-{letter:08}{at:04}"),
                "timestamp": "2026-02-03T03:51:03.761Z",
                "message": {"role": kind, "id": format!("msg_{session}{at}"), "content": content}});
            text.push_str(&format!("{line}\n"));
        }
        std::fs::write(machine.file(&format!("{session}.jsonl")), text).unwrap();
        paths.push(machine.file(&format!("{session}.jsonl")));
    }
    paths
}

/// The graph of the same transcripts is the same on two devices, whatever the order in which
/// they were read, and once more changes nothing.
#[test]
fn two_devices_make_the_same_graph() {
    let machine = Machine::new();
    let paths = graph_sessions(&machine);
    let graph = |store: &LocalStore| {
        let filter = RowFilter {
            limit: u32::MAX,
            ..RowFilter::default()
        };
        let rows = |table: &str| {
            let rows = store.list(table, &filter).unwrap().into_iter();
            rows.map(|view| (view.id.unwrap(), view.row))
                .collect::<BTreeMap<_, _>>()
        };
        (rows("org_kg_nodes"), rows("org_kg_edges"))
    };
    let open = |name: &str, seed: u64| {
        let folder = machine.0.path().join(name).join("context-storage");
        LocalStore::open(&folder, NOW, Random::Seeded(seed)).unwrap()
    };
    let (mut one, mut other) = (open("one", 1), open("other", 2));
    assert_ne!(one.device(), other.device());
    Importer::new(&mut one, NOW)
        .unwrap()
        .run(&machine.agent(), |_| {})
        .unwrap();
    for path in paths.iter().rev() {
        let importer = Importer::new(&mut other, NOW + 9).unwrap();
        importer.run_some(std::slice::from_ref(path)).unwrap();
    }
    let (nodes, edges) = graph(&one);
    // 3 sessions, 3 files of their own and a shared one, 3 commits, one error without numbers.
    assert_eq!((nodes.len(), edges.len()), (11, 12));
    assert_eq!((&nodes, &edges), (&graph(&other).0, &graph(&other).1));
    let again = coditect_daemon::graph::rebuild(&mut one, NOW + 99, |_| {}).unwrap();
    assert_eq!((again.nodes, again.edges), (0, 0));
    assert_eq!(graph(&one), (nodes, edges));
}

/// Writes a session of each agent in each folder, "welcome" in the last one and "tuesday" in the
/// others; returns the transcripts.
fn three_agents(machine: &Machine, folders: [&PathBuf; 3]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut put = |path: PathBuf, text: String| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        files.push(path);
    };
    for (at, folder) in folders.into_iter().enumerate() {
        let word = if at == 2 { "welcome" } else { "tuesday" };
        let cwd = folder.join("src").display().to_string();
        let said = prompt(at, &format!("c{at}"), word).replace("/home/ann/app", &cwd);
        put(machine.file(&format!("c{at}.jsonl")), said);
        let codex = [
            json!({"timestamp": "2026-02-03T03:51:03.761Z", "type": "session_meta",
                "payload": {"id": format!("x{at}"), "cwd": cwd, "cli_version": "0.120.0"}}),
            json!({"timestamp": "2026-02-03T03:51:04.761Z", "type": "response_item",
                "payload": {"type": "message", "role": "user",
                    "content": [{"type": "input_text", "text": word}]}}),
        ];
        let codex: String = codex.iter().map(|line| format!("{line}\n")).collect();
        let name = format!("sessions/2026/02/03/rollout-2026-02-03T03-51-03-x{at}.jsonl");
        put(machine.agent().join(name), codex);
        // An older Gemini names its folder by a hash, a newer one says in a file where it is.
        let session = json!({"sessionId": format!("g{at}"), "projectHash": "h",
            "startTime": "2026-02-03T03:51:03Z", "messages": [
                {"id": "m", "timestamp": "2026-02-03T03:51:04Z", "type": "user",
                    "content": word}]});
        let project = machine.agent().join("tmp").join(format!("project-{at}"));
        put(project.join("chats/session-1.json"), session.to_string());
        std::fs::write(project.join(".project_root"), format!("{cwd}\n")).unwrap();
    }
    let hash = sha2::Sha256::digest(folders[0].display().to_string().as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let session = json!({"sessionId": "g9", "messages": [
        {"id": "m", "timestamp": "2026-02-03T03:51:04Z", "type": "user", "content": "tuesday"}]});
    let older = machine.agent().join("tmp").join(hash);
    put(older.join("chats/session-9.json"), session.to_string());
    files
}

/// One rule for every agent, for an import by command and for one while the agent writes: what a
/// marker or a setting keeps out leaves no trace.
#[test]
fn every_agents_opted_out_projects_leave_no_trace() {
    let machine = Machine::new();
    let home = machine.0.path();
    let (named, marked, open) = (home.join("named"), home.join("marked"), home.join("open"));
    for folder in [&named, &marked, &open] {
        std::fs::create_dir_all(folder.join("src")).unwrap();
    }
    std::fs::write(marked.join(".coditect-ignore"), "").unwrap();
    let ignored = vec![named.display().to_string()];
    let files = three_agents(&machine, [&named, &marked, &open]);
    let left_out = |importer: Importer<'_>, how: &str| {
        let importer = importer.leaving_out(ignored.clone());
        match how {
            "tailing" => importer.run_some(&files).unwrap().left_out,
            "codex" => {
                importer
                    .run_format(Format::Codex, &machine.agent(), |_| {})
                    .unwrap()
                    .left_out
            }
            "gemini" => {
                importer
                    .run_format(Format::Gemini, &machine.agent(), |_| {})
                    .unwrap()
                    .left_out
            }
            _ => importer.run(&machine.agent(), |_| {}).unwrap().left_out,
        }
    };
    let mut store = machine.store();
    for (how, expected) in [("tailing", 7), ("claude", 2), ("codex", 2), ("gemini", 3)] {
        let count = left_out(Importer::new(&mut store, NOW).unwrap(), how);
        assert_eq!(count, expected, "{how}");
    }
    let filter = RowFilter {
        limit: 99,
        ..RowFilter::default()
    };
    assert_eq!(store.list("context_messages", &filter).unwrap().len(), 3);
    drop(store);
    for path in walk(&machine.data()) {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("tuesday"), "{}", path.display());
    }
    assert_eq!(machine.archive().manifests().unwrap().len(), 3);
}

/// A line longer than any that is read: pieces of it pass through, so memory stays bounded.
/// `LONG_LINE_MB=1024` makes it as long as the budget says.
#[test]
fn a_huge_line_is_kept_in_the_archive_and_named() {
    use std::io::Write as _;

    #[expect(
        clippy::disallowed_methods,
        reason = "a long run is asked for by the environment; no program reads this"
    )]
    let megabytes = std::env::var("LONG_LINE_MB")
        .ok()
        .and_then(|text| text.parse().ok());
    let megabytes: usize = megabytes.unwrap_or(24);
    let machine = Machine::new();
    let path = machine.file("huge.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(prompt(1, "huge", "before").as_bytes())
        .unwrap();
    let piece = "lorem ipsum ".repeat(1024 * 1024 / 12);
    for _ in 0..megabytes {
        file.write_all(piece.as_bytes()).unwrap();
    }
    file.write_all(b" password=hunter22 end\n").unwrap();
    file.write_all(prompt(2, "huge", "after").as_bytes())
        .unwrap();
    file.flush().unwrap();
    let summary = machine.import_claude();
    assert_eq!((summary.damaged.len(), summary.records), (1, 2));
    println!(
        "a line of {megabytes} MB: highest resident {} MiB",
        peak_resident_mib()
    );
    assert!(peak_resident_mib() < 300, "{} MiB", peak_resident_mib());
    if megabytes <= 64 {
        let (changed, places) = assert_archived(&machine.archive(), std::slice::from_ref(&path));
        assert_eq!((changed, places), (1, 1));
    }
}

fn peak_resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

//! The stand-in for Claude Code: a transcript of a session and of its subagents, and the hooks.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use coditect_end_to_end::Device;
use serde_json::{Value, json};

use crate::book::Book;
use crate::hooks::{Random, call};

/// Of so many hooks one is killed.
const KILLED_OF: u64 = 8;
/// Of so many lines one is written in halves.
const HALVES_OF: u64 = 5;
/// Turns of a session.
const TURNS: u64 = 4;

/// One session.
pub(crate) struct Claude<'a> {
    device: &'a Device,
    number: u64,
    id: String,
    folder: PathBuf,
    file: File,
    path: PathBuf,
    random: Random,
    records: u64,
    parent: Option<String>,
    todos: Vec<(String, &'static str)>,
    tasks: Vec<(String, String, &'static str)>,
}

impl<'a> Claude<'a> {
    /// Makes a session; nothing of it is written yet.
    pub(crate) fn new(device: &'a Device, number: u64) -> Self {
        let folder = device.home().join(".claude/projects/-home-ann-app");
        std::fs::create_dir_all(&folder).unwrap();
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let path = folder.join(format!("{id}.jsonl"));
        Self {
            device,
            number,
            file: append(&path),
            id,
            folder,
            path,
            random: Random(number + 1),
            records: 0,
            parent: None,
            todos: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Plays the session, resumes it once, and writes into the book what must be there then.
    pub(crate) fn play(mut self, book: &Mutex<Book>) {
        let snapshot = json!({"type": "file-history-snapshot", "messageId": "m", "snapshot": {},
            "isSnapshotUpdate": false});
        self.line(&snapshot, book);
        for source in ["startup", "resume"] {
            self.hook(
                json!({"hook_event_name": "SessionStart", "source": source}),
                book,
            );
            for turn in 0..TURNS {
                self.turn(turn, book);
            }
            self.compact(book);
            let end = json!({"hook_event_name": "SessionEnd", "reason": "other"});
            // The last one lives: a host that is killed itself calls no hook, and then the next
            // import or the daemon brings the rest.
            let dies = self.dies() && source != "resume";
            self.told(end, dies, book);
        }
        let mut book = book.lock().unwrap();
        book.ended += 1;
        for (text, status) in &self.todos {
            book.tasks
                .insert((self.id.clone(), text.clone()), (*status).to_owned());
        }
        for (_, text, status) in &self.tasks {
            book.tasks
                .insert((self.id.clone(), text.clone()), (*status).to_owned());
        }
    }

    fn turn(&mut self, turn: u64, book: &Mutex<Book>) {
        self.hook(
            json!({"hook_event_name": "UserPromptSubmit", "prompt": "continue"}),
            book,
        );
        self.record("user", json!("continue"), Value::Null, book);
        self.tool(
            "Bash",
            json!({"command": "cargo test"}),
            json!({"stdout": "ok"}),
            book,
        );
        self.fail(book);
        self.todo(turn, book);
        self.task(turn, book);
        if turn % 2 == 1 {
            self.subagent(turn, book);
        }
        let text = format!("done with turn {turn}");
        self.record(
            "assistant",
            json!([{"type": "text", "text": text}]),
            Value::Null,
            book,
        );
        let stop = json!({"hook_event_name": "Stop", "stop_hook_active": false,
            "last_assistant_message": text});
        self.hook(stop, book);
    }

    /// Adds an item to the list and moves the others on.
    fn todo(&mut self, turn: u64, book: &Mutex<Book>) {
        let old = self.list();
        for (_, status) in &mut self.todos {
            *status = next(status);
        }
        let text = format!("step {turn} of {}.{}", self.number, self.records);
        self.todos.push((text, "pending"));
        let new = self.list();
        let response = json!({"oldTodos": old, "newTodos": new});
        self.tool("TodoWrite", json!({ "todos": new }), response, book);
    }

    fn list(&self) -> Value {
        let item = |(text, status): &(String, &str)| {
            let doing = format!("Doing {text}");
            json!({"content": text, "status": status, "activeForm": doing})
        };
        self.todos.iter().map(item).collect()
    }

    fn task(&mut self, turn: u64, book: &Mutex<Book>) {
        let id = (self.tasks.len() + 1).to_string();
        let subject = format!("task {turn} of {}.{}", self.number, self.records);
        let told = json!({"hook_event_name": "TaskCreated", "task_id": id,
            "task_subject": subject});
        self.hook(told, book);
        let input = json!({"subject": subject, "description": "all of it"});
        let response = json!({"task": {"id": id, "subject": subject}});
        self.tool("TaskCreate", input, response, book);
        self.tasks.push((id, subject, "pending"));
        for at in 0..self.tasks.len() {
            let (id, subject, status) = self.tasks[at].clone();
            if status == "completed" {
                continue;
            }
            let status = next(status);
            self.tasks[at].2 = status;
            if status == "completed" {
                let done = json!({"hook_event_name": "TaskCompleted", "task_id": id,
                    "task_subject": subject});
                self.hook(done, book);
            }
            let response = json!({"success": true, "taskId": id, "updatedFields": ["status"]});
            self.tool(
                "TaskUpdate",
                json!({"taskId": id, "status": status}),
                response,
                book,
            );
        }
    }

    fn tool(&mut self, name: &str, input: Value, response: Value, book: &Mutex<Book>) {
        let call = format!("toolu_{}_{}", self.number, self.records);
        let block = json!([{"type": "tool_use", "id": call, "name": name, "input": input}]);
        self.record("assistant", block, Value::Null, book);
        let result = json!([{"type": "tool_result", "tool_use_id": call, "content": "ok"}]);
        self.record("user", result, response.clone(), book);
        book.lock().unwrap().calls += 1;
        let told = json!({"hook_event_name": "PostToolUse", "tool_name": name,
            "tool_input": input, "tool_response": response, "tool_use_id": call,
            "duration_ms": 12});
        self.hook(told, book);
    }

    fn fail(&mut self, book: &Mutex<Book>) {
        let call = format!("toolu_{}_{}", self.number, self.records);
        let input = json!({"command": "false"});
        let block = json!([{"type": "tool_use", "id": call, "name": "Bash", "input": input}]);
        self.record("assistant", block, Value::Null, book);
        let result = json!([{"type": "tool_result", "tool_use_id": call, "is_error": true,
            "content": "Exit code 1"}]);
        self.record("user", result, json!("Error: Exit code 1"), book);
        book.lock().unwrap().calls += 1;
        let told = json!({"hook_event_name": "PostToolUseFailure", "tool_name": "Bash",
            "tool_input": input, "tool_use_id": call, "error": "Exit code 1"});
        self.hook(told, book);
    }

    fn subagent(&mut self, turn: u64, book: &Mutex<Book>) {
        let agent = format!("a{}x{turn}x{}", self.number, self.records);
        let path = self
            .folder
            .join(&self.id)
            .join(format!("subagents/agent-{agent}.jsonl"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = append(&path);
        for (kind, content) in [
            ("user", json!("look around")),
            ("assistant", json!([{"type": "text", "text": "looked"}])),
        ] {
            let mut record = self.dag(kind, content);
            record["isSidechain"] = true.into();
            record["agentId"] = agent.clone().into();
            writeln!(file, "{record}").unwrap();
            book.lock().unwrap().messages += 1;
        }
        let stop = json!({"hook_event_name": "SubagentStop", "agent_id": agent,
            "agent_type": "Explore", "agent_transcript_path": path,
            "last_assistant_message": "looked", "stop_hook_active": false});
        // It lives: no later hook names this file.
        self.told(stop, false, book);
    }

    fn compact(&mut self, book: &Mutex<Book>) {
        let told = json!({"hook_event_name": "PreCompact", "trigger": "auto",
            "custom_instructions": null});
        self.hook(told, book);
        let mut boundary = self.dag("system", json!("Conversation compacted"));
        boundary["subtype"] = "compact_boundary".into();
        boundary["content"] = "Conversation compacted".into();
        boundary["compactMetadata"] = json!({"trigger": "auto", "preTokens": 9});
        boundary.as_object_mut().unwrap().remove("message");
        self.line(&boundary, book);
        book.lock().unwrap().messages += 1;
    }

    fn record(&mut self, kind: &str, content: Value, result: Value, book: &Mutex<Book>) {
        let mut record = self.dag(kind, content);
        if !result.is_null() {
            record["toolUseResult"] = result;
        }
        self.line(&record, book);
        book.lock().unwrap().messages += 1;
    }

    fn dag(&mut self, kind: &str, content: Value) -> Value {
        self.records += 1;
        let uuid = format!(
            "10000000-0000-4000-8000-{:06}{:06}",
            self.number, self.records
        );
        let record = json!({
            "type": kind, "uuid": uuid, "parentUuid": self.parent, "sessionId": self.id,
            "timestamp": now(),
            "cwd": "/home/ann/app", "gitBranch": "main", "version": "2.1.29",
            "isSidechain": false, "userType": "external",
            "message": {"id": format!("msg_{uuid}"), "role": kind, "model": "model-1",
                "content": content, "usage": {"input_tokens": 3, "output_tokens": 9}},
        });
        self.parent = Some(uuid);
        record
    }

    /// Writes a line, sometimes in halves with a hook in between, which sees the first half only.
    fn line(&mut self, record: &Value, book: &Mutex<Book>) {
        let text = format!("{record}\n");
        if self.random.below(HALVES_OF) > 0 {
            return self.file.write_all(text.as_bytes()).unwrap();
        }
        let (first, second) = text.split_at(text.len() / 2);
        self.file.write_all(first.as_bytes()).unwrap();
        book.lock().unwrap().halves += 1;
        let told = json!({"hook_event_name": "Stop", "stop_hook_active": false});
        self.hook(told, book);
        self.file.write_all(second.as_bytes()).unwrap();
    }

    fn dies(&mut self) -> bool {
        self.random.below(KILLED_OF) == 0
    }

    fn hook(&mut self, input: Value, book: &Mutex<Book>) {
        let kill = self.dies();
        self.told(input, kill, book);
    }

    fn told(&mut self, mut input: Value, kill: bool, book: &Mutex<Book>) {
        let common = json!({"session_id": self.id, "transcript_path": self.path,
            "cwd": "/home/ann/app", "permission_mode": "default", "prompt_id": "p"});
        for (name, value) in common.as_object().unwrap() {
            input[name] = value.clone();
        }
        call(self.device, "claude", &input, kill, book);
    }
}

fn next(status: &str) -> &'static str {
    match status {
        "pending" => "in_progress",
        _ => "completed",
    }
}

/// The agent and the hooks read the same clock.
#[expect(
    clippy::disallowed_methods,
    reason = "an agent stamps its records with the time at which it writes them"
)]
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = i64::try_from(since.unwrap().as_millis()).unwrap();
    coditect_core::canonical::time_from_ms(ms)
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

//! The stand-ins for Codex and Gemini. Their transcripts are written as the formats say.

use std::io::Write as _;
use std::sync::Mutex;

use coditect_end_to_end::Device;
use serde_json::{Value, json};

use crate::book::Book;
use crate::hooks::{Random, call};

/// Of so many hooks one is killed.
const KILLED_OF: u64 = 8;
/// Calls of tools in a session.
const CALLS: u64 = 12;

/// Plays a session of Codex.
pub(crate) fn codex(device: &Device, number: u64, book: &Mutex<Book>) {
    let id = format!("20000000-0000-7000-8000-{number:012}");
    let folder = device.home().join(".codex/sessions/2026/02/03");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("rollout-2026-02-03T03-51-03-{id}.jsonl"));
    let mut file = std::fs::File::create(&path).unwrap();
    let mut line = |kind: &str, payload: Value| {
        let line = json!({"timestamp": "2026-02-03T03:51:03.761Z", "type": kind,
            "payload": payload});
        writeln!(file, "{line}").unwrap();
    };
    let mut random = Random(number + 50_000);
    let told = |mut input: Value, kill: bool| {
        input["session_id"] = id.clone().into();
        input["transcript_path"] = path.display().to_string().into();
        input["cwd"] = "/home/ann/other".into();
        call(device, "codex", &input, kill, book);
    };
    line(
        "session_meta",
        json!({"id": id, "cwd": "/home/ann/other", "cli_version": "0.120.0"}),
    );
    told(
        json!({"hook_event_name": "SessionStart", "source": "startup"}),
        false,
    );
    for at in 0..CALLS {
        let call_id = format!("call_{number}_{at}");
        line(
            "response_item",
            json!({"type": "function_call", "name": "shell",
            "arguments": "{\"command\":[\"ls\"]}", "call_id": call_id}),
        );
        line(
            "response_item",
            json!({"type": "function_call_output", "call_id": call_id,
            "output": "ok"}),
        );
        let kill = random.below(KILLED_OF) == 0;
        told(
            json!({"hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_use_id": call_id,
                "tool_input": {"command": "ls"}, "tool_response": "ok", "turn_id": "1"}),
            kill,
        );
        let mut book = book.lock().unwrap();
        // The call and its output.
        book.messages += 2;
        book.codex_calls += 1;
    }
    told(
        json!({"hook_event_name": "Stop", "stop_hook_active": false}),
        false,
    );
}

/// Plays a session of Gemini, whose calls have no ids: only that it ran, and ended, is known.
pub(crate) fn gemini(device: &Device, number: u64, book: &Mutex<Book>) {
    let id = format!("30000000-0000-4000-8000-{number:012}");
    let folder = device.home().join(".gemini/tmp/0123/chats");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("session-{number}.json"));
    let chat = json!({"sessionId": id, "projectHash": "0123", "messages": []});
    std::fs::write(&path, chat.to_string()).unwrap();
    let told = |mut input: Value| {
        input["session_id"] = id.clone().into();
        input["transcript_path"] = path.display().to_string().into();
        input["cwd"] = "/home/ann/third".into();
        input["timestamp"] = "2026-02-03T03:51:03Z".into();
        call(device, "gemini", &input, false, book);
    };
    told(json!({"hook_event_name": "SessionStart", "source": "startup"}));
    for _ in 0..3 {
        told(json!({"hook_event_name": "BeforeAgent", "prompt": "continue"}));
        told(
            json!({"hook_event_name": "AfterTool", "tool_name": "run_shell_command",
            "tool_input": {"command": "ls"}, "tool_response": {"llmContent": "ok"}}),
        );
        told(json!({"hook_event_name": "AfterAgent", "prompt": "x", "prompt_response": "y"}));
    }
    told(json!({"hook_event_name": "SessionEnd", "reason": "exit"}));
    book.lock().unwrap().ended += 1;
}

use super::*;
use crate::hooks::is_provisional;

const NOW: i64 = 1_770_090_663_761;

fn read(agent: Agent, input: &Value) -> Event {
    Event::read(agent, None, input.to_string().as_bytes(), NOW).unwrap()
}

fn common(event: &str, more: Value) -> Value {
    let mut input = json!({
        "session_id": "s1", "transcript_path": "/t/s1.jsonl", "cwd": "/repo",
        "hook_event_name": event, "prompt_id": "p", "permission_mode": "default",
        "effort": {"level": "high"},
    });
    for (name, value) in more.as_object().unwrap() {
        input[name] = value.clone();
    }
    input
}

/// The events of the vendor's list, with the fields that it documents.
fn documented() -> Vec<Value> {
    let tool = json!({"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t1",
        "mcp_server": "x"});
    let with = |more: Value| {
        let mut all = tool.clone();
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    vec![
        common(
            "SessionStart",
            json!({"source": "startup", "model": "m", "agent_type": "a"}),
        ),
        common("UserPromptSubmit", json!({"prompt": "hello"})),
        common("PreToolUse", tool.clone()),
        common(
            "PostToolUse",
            with(json!({"tool_response": {"stdout": "x"}, "duration_ms": 12})),
        ),
        common(
            "PostToolUseFailure",
            with(json!({"error": "Exit code 1", "is_interrupt": false})),
        ),
        common("PostToolBatch", json!({"tool_calls": []})),
        common(
            "Stop",
            json!({"stop_hook_active": false, "last_assistant_message": "done"}),
        ),
        common(
            "SubagentStop",
            json!({"agent_id": "a1", "agent_type": "Explore",
            "agent_transcript_path": "/t/s1/subagents/agent-a1.jsonl"}),
        ),
        common("TaskCreated", json!({"task_id": "1", "task_subject": "do"})),
        common(
            "TaskCompleted",
            json!({"task_id": "1", "task_subject": "do"}),
        ),
        common(
            "PreCompact",
            json!({"trigger": "auto", "custom_instructions": null}),
        ),
        common("SessionEnd", json!({"reason": "other"})),
    ]
}

#[test]
fn documented_events_with_rows_leave_nothing_over() {
    for input in documented() {
        let event = read(Agent::Claude, &input);
        assert_eq!(event.kept, None, "{input}");
        assert_eq!(event.session_id, "s1");
        assert_eq!(event.cwd.as_deref(), Some("/repo"));
    }
}

#[test]
fn unknown_events_and_fields_are_kept() {
    let new = common(
        "OrbitEntered",
        json!({"altitude": 400, "note": "x".repeat(9_000)}),
    );
    let event = read(Agent::Claude, &new);
    let kept = event.kept.as_ref().unwrap();
    assert_eq!(kept["altitude"], 400);
    assert!(kept["note"]["bytes"].as_u64() > Some(9_000));
    assert!(!event.has_rows());

    let more = common("Stop", json!({"stop_hook_active": false, "mood": "fine"}));
    let event = read(Agent::Claude, &more);
    assert_eq!(event.kept, Some(json!({"mood": "fine"})));
    assert!(event.read_transcript);

    let told = common(
        "Notification",
        json!({"message": "wait", "notification_type": "idle"}),
    );
    assert_eq!(read(Agent::Claude, &told).kept.unwrap()["message"], "wait");
}

#[test]
fn a_call_becomes_a_provisional_row() {
    let input = common(
        "PostToolUse",
        json!({"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t1",
            "tool_response": {"stdout": "x"}, "duration_ms": 1500, "agent_id": "a1"}),
    );
    let (table, row) = read(Agent::Claude, &input).tool_row().unwrap();
    assert_eq!(table, "context_tool_analytics");
    assert!(is_provisional(&row));
    assert_eq!(row["tool_use_id"], "t1");
    assert_eq!(row["success"], true);
    assert_eq!(row["agent_id"], "a1");
    assert_eq!(row["input_bytes"], 16);
    assert_eq!(row["timestamp"], canonical::time_from_ms(NOW - 1_500));
    assert!(!row.contains_key("message_id"));
}

#[test]
fn a_failure_keeps_the_start_of_its_error_without_secrets() {
    let secret = ["ghp_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF1234"].concat();
    let error = format!("Exit code 1\n{}{secret}", "x ".repeat(990));
    let input = common(
        "PostToolUseFailure",
        json!({"tool_name": "Bash", "tool_use_id": "t1", "tool_input": {}, "error": error}),
    );
    let row = read(Agent::Claude, &input).tool_row().unwrap().1;
    assert_eq!(row["success"], false);
    let text = row["error_message"].as_str().unwrap();
    assert!(text.starts_with("Exit code 1") && text.len() <= ERROR_BYTES_MAX);
    assert!(!text.contains("ghp_"), "{text}");
}

#[test]
fn task_tools_and_the_programs_word_change_tasks() {
    let input = common(
        "PostToolUse",
        json!({"tool_name": "TodoWrite", "tool_use_id": "t1",
            "tool_input": {"todos": [{"content": "a", "status": "pending"}]},
            "tool_response": {"oldTodos": [], "newTodos": [
                {"content": "a", "status": "pending"}]}}),
    );
    let event = read(Agent::Claude, &input);
    assert!(event.is_ordered() && event.tool.is_some());
    assert_eq!(event.task.unwrap().tool, "TodoWrite");
    let made = common("TaskCreated", json!({"task_id": 7, "task_subject": "do"}));
    let task = read(Agent::Claude, &made).task.unwrap();
    assert_eq!(
        (task.tool.as_str(), &task.input["task_id"]),
        ("TaskCreated", &json!("7"))
    );
    // A failed call changed nothing.
    let failed = common(
        "PostToolUseFailure",
        json!({"tool_name": "TodoWrite", "tool_use_id": "t1", "tool_input": {}, "error": "no"}),
    );
    assert_eq!(read(Agent::Claude, &failed).task, None);
}

#[test]
fn gemini_says_the_same_in_other_words() {
    let input = json!({"session_id": "g", "transcript_path": "/t", "cwd": "/repo",
        "hook_event_name": "AfterTool", "timestamp": "2026-02-03T03:51:03Z",
        "tool_name": "run_shell_command", "tool_input": {}, "tool_response": {}});
    let event = read(Agent::Gemini, &input);
    assert_eq!(
        (event.name.as_str(), event.agent.as_str()),
        ("PostToolUse", "gemini")
    );
    // Its calls have no id here.
    assert_eq!(event.tool, None);
}

#[test]
fn sessions_fill_gaps_and_say_whether_they_run() {
    let start = read(
        Agent::Claude,
        &common("SessionStart", json!({"source": "startup"})),
    );
    let row = start.session_row(None).unwrap().1;
    assert_eq!(row["status"], "active");
    assert_eq!(row["project_path"], "/repo");
    let prompt = read(
        Agent::Claude,
        &common("UserPromptSubmit", json!({"prompt": "x"})),
    );
    assert_eq!(
        prompt.session_row(Some(&row)),
        None,
        "a prompt more is no news"
    );
    let mut end = read(
        Agent::Claude,
        &common("SessionEnd", json!({"reason": "other"})),
    );
    let ended = end.session_row(Some(&row)).unwrap().1;
    assert_eq!(ended["status"], "ended");
    assert!(!ended.contains_key("project_path") && !ended.contains_key("end_time"));
    // An end that is heard late does not end what went on.
    let mut later = row;
    later.insert(
        "end_time".to_owned(),
        canonical::time_from_ms(NOW + 5).into(),
    );
    end.at_ms = NOW;
    assert_eq!(end.session_row(Some(&later)), None);
}

#[test]
fn odd_input_is_an_event_or_a_named_error() {
    assert!(Event::read(Agent::Claude, None, b"nonsense", NOW).is_err());
    let event = Event::read(Agent::Claude, Some("stop"), b"{}", NOW).unwrap();
    assert_eq!((event.name.as_str(), event.has_rows()), ("Stop", false));
    let long = json!({"session_id": "x".repeat(300), "hook_event_name": "SessionStart"});
    assert!(!read(Agent::Claude, &long).has_rows());
    for wrong in [json!(null), json!(3), json!([1]), json!({"a": 1})] {
        let input = json!({"session_id": "s", "hook_event_name": "PostToolUse",
            "tool_name": "TodoWrite", "tool_use_id": "t", "tool_input": wrong,
            "tool_response": wrong, "transcript_path": wrong, "cwd": wrong});
        read(Agent::Claude, &input);
    }
}

#[test]
fn an_event_survives_being_written_down() {
    for input in documented() {
        let mut event = read(Agent::Claude, &input);
        event.redact(&mut Report::default());
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

//! Transcripts of an agent, made here.

use serde_json::json;
use std::path::Path;

/// Writes one session's transcript below `folder`, as Claude Code keeps it: `records` records,
/// every other one the same word of the user.
///
/// # Panics
/// When the system refuses.
pub fn write_transcript(folder: &Path, session: u64, records: u64) {
    let project = folder.join("projects/-home-ann-app");
    std::fs::create_dir_all(&project).unwrap();
    let id = format!("00000000-0000-4000-8000-{session:012}");
    let mut lines = String::new();
    for at in 0..records {
        let (kind, content) = if at % 2 == 0 {
            ("user", json!("continue"))
        } else {
            let text = format!("answer {at} of session {session}");
            ("assistant", json!([{"type": "text", "text": text}]))
        };
        let line = json!({
            "type": kind,
            "uuid": format!("10000000-0000-4000-8000-{session:06}{at:06}"),
            "parentUuid": null,
            "sessionId": id,
            "timestamp": format!("2026-02-03T03:{:02}:{:02}.000Z", at / 60, at % 60),
            "cwd": "/home/ann/app",
            "gitBranch": "main",
            "version": "2.1.29",
            "isSidechain": false,
            "userType": "external",
            "message": {
                "id": format!("msg_{session}_{at}"), "role": kind, "model": "model-1",
                "content": content,
                "usage": {"input_tokens": at, "output_tokens": 2 * at},
            },
        });
        lines.push_str(&format!("{line}\n"));
    }
    std::fs::write(project.join(format!("{id}.jsonl")), lines).unwrap();
}

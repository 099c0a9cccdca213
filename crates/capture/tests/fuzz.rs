//! Every parser against damaged input: a corpus of good examples, changed at random in many ways.
//! None may panic, hang or take memory without bound, and what is fed in pieces must be read as
//! what is fed at once.
//!
//! A round takes a second or two; `FUZZ_MINUTES=60` makes it an hour, shared by all targets, and
//! `FUZZ_SEED` begins elsewhere. A failure names its seed, which plays the same input again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "prints what it did")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use coditect_capture::claude::{FileState, Parser, RowSet};
use coditect_capture::hooks::{Agent, Event};
use coditect_capture::raw::{redact_lines, redact_whole};
use coditect_capture::{Format, checkpoint};
use coditect_core::redact::{OwnRules, Report, redact_listed, redact_text};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::wire::push::{PushReply, PushRequest};

/// Inputs of a target when nothing says how long.
const ROUNDS: u64 = 400;
/// Targets that share the time.
const TARGETS: u32 = 9;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 32 * 1024;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\u",
    b"\\ud83d",
    b"\\udc00",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"9007199254740993",
    b"{}",
    b"[]",
    b"\"type\":\"user\"",
    b"\"type\":1",
    b"\"payload\":{}",
    b"\"sessionId\":\"\"",
    b"password=",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"<private>",
    b"</private>",
    b"ghp_",
    b"://u:p@h",
    "\u{23fa}".as_bytes(),
    "\u{25cf}".as_bytes(),
    b"# ",
    b"---\n",
    b"- [x] ",
    b"[REDACTED:x]",
    b"\"$set\":{}",
    b"\"toolCalls\":[{}]",
    b"\"tokens\":{\"input\":-1}",
    b"\"messages\":[[[",
];

/// Changes one of the examples in up to eight places.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(64)).min(input.len());
        match random.below(8) {
            0 => drop(input.drain(at..end)),
            1 => input.truncate(at),
            2 if at < input.len() => input[at] = random.next().to_le_bytes()[0],
            3 => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
            4 => drop(input.splice(at..end, TOKENS[random.below(TOKENS.len())].iter().copied())),
            5 => {
                let piece = input[at..end].to_vec().repeat(1 + random.below(20));
                drop(input.splice(at..at, piece));
            }
            6 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                drop(input.splice(at..at, other[from..].iter().copied()));
            }
            _ => {
                let deep = b"[".repeat(random.below(300));
                drop(input.splice(at..at, deep));
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by the environment; no program reads this"
)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fuzz(name: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8], &mut Random)) {
    let minutes = number("FUZZ_MINUTES");
    let limit = minutes.map(|minutes| Duration::from_secs(minutes * 60) / TARGETS);
    let first = number("FUZZ_SEED").unwrap_or(1);
    let began = Instant::now();
    let mut rounds = 0;
    while limit.map_or(rounds < ROUNDS, |limit| began.elapsed() < limit) {
        let seed = first + rounds;
        let mut random = Random(seed);
        let input = mutate(corpus, &mut random);
        let run = || target(&input, &mut random);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let shown = String::from_utf8_lossy(&input)
                .chars()
                .take(2_000)
                .collect::<String>();
            panic!("{name}: FUZZ_SEED={seed} fails for {shown:?}");
        }
        rounds += 1;
    }
    println!("{name}: {rounds} inputs, none failed");
}

fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    let read = |name: &&str| std::fs::read(support::fixture(name)).unwrap();
    let whole: Vec<Vec<u8>> = names.iter().map(read).collect();
    let lines = whole
        .iter()
        .flat_map(|file| file.split_inclusive(|byte| *byte == b'\n'));
    let mut corpus: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    corpus.extend(whole);
    corpus
}

/// Lines of every kind that Claude Code writes.
fn claude_lines() -> Vec<Vec<u8>> {
    [
        concat!(
            r#"{"type":"user","uuid":"u1","sessionId":"s","#,
            r#""timestamp":"2026-02-03T03:51:03.761Z","cwd":"/r","message":{"role":"user","#,
            r#""content":"do it"}}"#,
        ),
        concat!(
            r#"{"type":"assistant","uuid":"u2","parentUuid":"u1","sessionId":"s","#,
            r#""message":{"id":"m1","role":"assistant","model":"x","content":[{"type":"text","#,
            r#""text":"ok"},{"type":"tool_use","id":"t1","name":"TodoWrite","#,
            r#""input":{"todos":[{"content":"a","status":"pending"}]}}],"#,
            r#""usage":{"input_tokens":3,"output_tokens":9}}}"#,
        ),
        concat!(
            r#"{"type":"user","uuid":"u3","sessionId":"s","message":{"role":"user","#,
            r#""content":[{"type":"tool_result","tool_use_id":"t1","content":"done"}]},"#,
            r#""toolUseResult":{"newTodos":[{"content":"a","status":"completed"}],"#,
            r#""durationMs":5}}"#,
        ),
        concat!(
            r#"{"type":"system","subtype":"compact_boundary","logicalParentUuid":"u3","#,
            r#""sessionId":"s","content":"c"}"#,
        ),
        r#"{"type":"summary","summary":"Title","leafUuid":"u2"}"#,
        r#"{"type":"file-history-snapshot","messageId":"u1","snapshot":{}}"#,
        concat!(
            r#"{"type":"user","isSidechain":true,"agentId":"a1","sessionId":"s","#,
            r#""message":{"content":null}}"#,
        ),
    ]
    .map(|line| format!("{line}\n").into_bytes())
    .to_vec()
}

/// Reads bytes as lines at once, and again cut in two: the rows must be the same.
fn read_lines(format: Format, bytes: &[u8], random: &mut Random) {
    let read = |cuts: &[usize]| {
        let mut parser = Parser::new("f.jsonl");
        *parser.state_mut() = FileState::of_format("f.jsonl", format);
        let mut rows = RowSet::default();
        for end in cuts.iter().copied().chain([bytes.len()]) {
            let offset = usize::try_from(parser.state().offset).unwrap();
            if end >= offset {
                rows.add(parser.feed(&bytes[offset..end]));
            }
        }
        let rest = usize::try_from(parser.state().offset).unwrap();
        rows.add(parser.peek_tail(&bytes[rest..]));
        rows
    };
    let cut = random.below(bytes.len() + 1);
    assert!(read(&[]) == read(&[cut]), "cut at {cut}");
}

#[test]
fn lines_of_claude() {
    fuzz("claude", &claude_lines(), |input, random| {
        read_lines(Format::Claude, input, random);
    });
}

#[test]
fn lines_of_codex() {
    let corpus = fixtures(&[
        "rollout-2026-02-03T03-51-00-0190a7c1-0000-7000-8000-00000000c0de.jsonl",
        "codex-old.jsonl",
    ]);
    fuzz("codex", &corpus, |input, random| {
        read_lines(Format::Codex, input, random);
    });
}

#[test]
fn lines_and_documents_of_gemini() {
    let mut corpus = fixtures(&["gemini-session.jsonl"]);
    corpus.push(
        concat!(
            r#"{"sessionId":"s","startTime":"2026-01-10T02:08:26.108Z","messages":[{"id":"1","#,
            r#""type":"user","content":"a"},{"id":"2","type":"gemini","content":"b","#,
            r#""toolCalls":[{"id":"c","name":"n","args":{},"result":[],"status":"success"}],"#,
            r#""tokens":{"input":1}}]}"#,
        )
        .as_bytes()
        .to_vec(),
    );
    fuzz("gemini", &corpus, |input, random| {
        read_lines(Format::Gemini, input, random);
        let mut parser = Parser::new("session-0.json");
        *parser.state_mut() = FileState::of_format("session-0.json", Format::GeminiDocument);
        parser.feed_document(input);
    });
}

#[test]
fn exported_text_and_checkpoints() {
    let texts = [
        "\u{23fa} first part with many words, more than fifty characters long\n\u{23fa} second\n",
        "# Conversation Summary\n\u{25cf} one\n\u{25cf} two\n\u{25cf} three\n",
        "## User\nhello\n\n## Assistant\nhi\n---\n---\n---\n---\n",
        "# Done\n**Branch:** `main`\n## Executive Summary\nIt works\n- [x] a task\n",
        r#"{"export-2025-10-07-X":{"created":"2025-11-18T00:09:49+00:00","message_hashes":["a"]}}"#,
    ];
    let corpus: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    fuzz("text and checkpoints", &corpus, |input, _| {
        let mut parser = Parser::new("2026-02-03-x.txt");
        *parser.state_mut() = FileState::of_format("2026-02-03-x.txt", Format::Text);
        parser.feed_document(input);
        let text = String::from_utf8_lossy(input);
        let _ = checkpoint::page(&text.chars().take(30).collect::<String>(), &text);
        let _ = checkpoint::index(&text);
    });
}

#[test]
fn input_of_hooks() {
    let corpus: Vec<_> = [
        concat!(
            r#"{"session_id":"s","transcript_path":"/t.jsonl","cwd":"/r","#,
            r#""hook_event_name":"PostToolUse","tool_name":"TodoWrite","tool_use_id":"t","#,
            r#""tool_input":{"todos":[{"content":"a","status":"pending"}]},"#,
            r#""tool_response":{"newTodos":[]}}"#,
        ),
        r#"{"session_id":"s","hook_event_name":"SessionStart","source":"startup","model":"m"}"#,
        r#"{"session_id":"s","hook_event_name":"TaskCompleted","task_id":"1","task_subject":"x"}"#,
        r#"{"session_id":"s","hook_event_name":"SessionEnd","reason":"logout"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    fuzz("hooks", &corpus, |input, _| {
        for agent in Agent::ALL {
            if let Ok(mut event) = Event::read(agent, Some("PostToolUse"), input, 0) {
                event.redact(&mut Report::default());
                event.session_row(None);
                event.tool_row();
            }
        }
    });
}

#[test]
fn redaction() {
    let texts = [
        "export DB_PASSWORD=hunter22 && curl -u ann:pa55word https://ann:pw1234@x.test",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7aB3dE6gH9jK2mN5pQ8sT1vW4\n\
         -----END RSA PRIVATE KEY-----",
        "token: ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFgH12 <private>x</private> \
         Authorization: Bearer aB3dE6gH9jK2mN5pQ8",
        "{\"password\":\"a\\\"b1234\",\"k\":\"https:\\/\\/u:p@h\"}",
    ];
    let corpus: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    fuzz("redaction", &corpus, |input, _| {
        let text = String::from_utf8_lossy(input);
        let once = redact_text(&text, &mut Report::default()).into_owned();
        let mut again = Report::default();
        assert_eq!(redact_text(&once, &mut again), once);
        let (listed, list) = redact_listed(&text);
        assert_eq!(listed, once);
        assert_eq!(
            rebuild(
                text.as_bytes(),
                list.iter().map(|one| (one.start, one.end, &*one.kind))
            ),
            once.as_bytes()
        );
        let _ = OwnRules::read(&text);
    });
}

fn rebuild<'a>(original: &[u8], list: impl Iterator<Item = (usize, usize, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for (start, end, kind) in list {
        out.extend_from_slice(&original[at..start]);
        out.extend_from_slice(format!("[REDACTED:{kind}]").as_bytes());
        at = end;
    }
    out.extend_from_slice(&original[at..]);
    out
}

#[test]
fn bytes_for_the_archive() {
    let mut corpus = claude_lines();
    let escaped = b"{\"url\":\"https:\\/\\/ann:pa55word@db.test\",\
        \"t\":\"\\u0067hp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFgH12\"}\n";
    corpus.push(escaped.to_vec());
    corpus.push(b"\xff\xfe password=hunter22 \xff\n".to_vec());
    fuzz("raw", &corpus, |input, _| {
        for piece in [
            redact_lines(0, input, true),
            redact_lines(0, input, false),
            redact_whole(0, input),
        ] {
            let places = piece.redactions.iter().map(|one| {
                let start = usize::try_from(one.offset).unwrap();
                (
                    start,
                    start + usize::try_from(one.bytes).unwrap(),
                    one.kind.as_str(),
                )
            });
            assert_eq!(rebuild(input, places), piece.content);
            assert_eq!(piece.end, input.len() as u64);
        }
    });
}

#[test]
fn messages_on_the_wire() {
    let corpus: Vec<_> = [
        concat!(
            r#"{"batch_id":"0190a7c1-0000-7000-8000-000000000001","#,
            r#""device_id":"0190a7c1-0000-7000-8000-000000000002","file":"sessions","#,
            r#""scope":"user:0190a7c1-0000-7000-8000-000000000003","changes":[]}"#,
        ),
        r#"{"epoch":"0123456789abcdef","pages":[],"positions":[]}"#,
        r#"{"results":[],"token":"x"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    fuzz("wire", &corpus, |input, _| {
        let _ = serde_json::from_slice::<PushRequest>(input);
        let _ = serde_json::from_slice::<PushReply>(input);
        let _ = serde_json::from_slice::<PullReply>(input);
    });
}

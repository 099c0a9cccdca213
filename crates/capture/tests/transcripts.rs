//! Real transcripts that lie beside the checkout. Without them each test says that it skips.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;

use coditect_capture::claude::{FileState, RowSet, discover, pair_open_tools};
use coditect_capture::rows::TokenRow;
use support::{in_pieces, read_files, real, skip};

fn growing(session: &str) -> Option<Vec<PathBuf>> {
    let folder = real(&format!("claude-growing/{session}"))?;
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    Some(files)
}

#[test]
fn the_sessions_and_messages_are_those_that_an_independent_count_finds() {
    let Some(home) = real("claude") else {
        return skip("claude");
    };
    let files = discover(&home).unwrap();
    let (rows, mut states) = read_files(&files);
    let of_role = |role: &str| {
        rows.messages
            .values()
            .filter(|row| row.role == role)
            .count()
    };
    let api_ids: std::collections::BTreeSet<_> = rows
        .messages
        .values()
        .filter_map(|row| row.api_message_id.as_deref())
        .collect();

    assert_eq!(files.len(), 13);
    assert_eq!(rows.sessions.len(), 14);
    assert_eq!(rows.messages.len(), 2_112);
    assert_eq!(
        (of_role("user"), of_role("assistant"), of_role("system")),
        (775, 1_281, 56)
    );
    assert_eq!((api_ids.len(), rows.tokens.len()), (636, 636));
    let total = |number: fn(&TokenRow) -> u64| rows.tokens.values().map(number).sum::<u64>();
    assert_eq!(total(|row| row.input_tokens), 2_042);
    assert_eq!(total(|row| row.output_tokens), 46_364);
    assert_eq!(total(|row| row.cache_creation_input_tokens), 2_410_198);
    assert_eq!(total(|row| row.cache_read_input_tokens), 53_952_338);
    assert!(rows.damaged.is_empty());
    let counted: u64 = rows.sessions.values().map(|row| row.message_count).sum();
    assert_eq!(counted, 2_112);
    assert_calls_are_complete(&rows, &mut states);
}

/// There are 704 calls, of which four have no result; one of these stands in a last line without
/// newline and therefore in no state.
fn assert_calls_are_complete(rows: &RowSet, states: &mut [FileState]) {
    let answered = rows
        .tools
        .values()
        .filter(|row| row.success.is_some())
        .count();
    let open: usize = states.iter().map(FileState::open_tools).sum();
    assert_eq!(answered, 700);
    assert_eq!(rows.tools.len() + open, 703);
    assert!(pair_open_tools(&mut states.iter_mut().collect::<Vec<_>>()).is_empty());
}

#[test]
fn a_damaged_file_names_its_one_line_and_loses_no_record() {
    for (file, line, offset_in_line, records) in [
        ("130d7b7e-5801-4345-9bd6-f32fd9b8429b", 128, 1_006, 170),
        ("3a782158-6c7c-4d4d-9c73-eae031da5b18", 172, 1_871, 294),
    ] {
        let Some(path) = real(&format!("claude-damaged/{file}.jsonl")) else {
            return skip(file);
        };
        let (rows, _) = read_files(std::slice::from_ref(&path));
        assert_eq!(rows.damaged.len(), 1, "{file}");
        let damaged = &rows.damaged[0];
        assert_eq!(
            (damaged.line, damaged.damage_at, damaged.objects),
            (line, offset_in_line, 2)
        );
        assert!(damaged.file.ends_with(&format!("{file}.jsonl")));
        assert_eq!(
            rows.records, records,
            "one line of {file} holds two records"
        );
        let bytes = std::fs::read(&path).unwrap();
        let before = &bytes[..usize::try_from(damaged.byte_offset).unwrap()];
        assert_eq!(
            before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1,
            line
        );
    }
}

#[test]
fn disjoint_slices_hold_751_records_that_add_up_to_the_whole() {
    let Some(files) = growing("198393f2-22db-477b-ac77-1825bea883ae") else {
        return skip("slices");
    };
    let (one_by_one, _) = read_files(&files);
    assert_eq!(one_by_one.messages.len(), 751);
    let mut reversed = files.clone();
    reversed.reverse();
    let (backwards, _) = read_files(&reversed);
    assert_eq!(one_by_one.messages.len(), backwards.messages.len());
    assert!(one_by_one.messages == backwards.messages);
    assert!(one_by_one.tools == backwards.tools);
    let statuses = |rows: &RowSet| -> Vec<_> {
        rows.tasks
            .iter()
            .map(|(key, task)| (key.clone(), task.status.clone()))
            .collect()
    };
    assert_eq!(statuses(&one_by_one), statuses(&backwards));
}

#[test]
fn a_file_read_at_successive_moments_equals_its_last_state_read_at_once() {
    let Some(files) = growing("cc432c40-914a-4c1a-a972-0103199a736a") else {
        return skip("growing");
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join("cc432c40-914a-4c1a-a972-0103199a736a.jsonl");
    let mut grown = RowSet::default();
    let mut state = None;
    for file in &files {
        // Not a copy of the file: its mode may forbid to write it the next time.
        std::fs::write(&path, std::fs::read(file).unwrap()).unwrap();
        let reading = support::read_on(&path, state, &mut grown);
        assert!(!reading.started_over, "{}", file.display());
        state = Some(reading.state);
    }
    let (at_once, states) = read_files(std::slice::from_ref(&path));
    assert!(grown == at_once, "the rows differ");
    assert_eq!(state.unwrap(), states[0]);
}

#[test]
fn any_pieces_of_a_real_file_give_the_same_rows() {
    let Some(home) = real("claude") else {
        return skip("claude");
    };
    let mut files = discover(&home).unwrap();
    files.sort_by_key(|file| std::fs::metadata(file).unwrap().len());
    for file in files.iter().take(7) {
        let bytes = std::fs::read(file).unwrap();
        let (whole, state) = in_pieces(&bytes, &[]);
        for step in [997, 8_191, 65_537] {
            let cuts: Vec<_> = (0..bytes.len()).step_by(step).collect();
            let (pieces, end) = in_pieces(&bytes, &cuts);
            assert!(pieces == whole, "{} cut every {step} bytes", file.display());
            assert_eq!(end, state);
        }
    }
}

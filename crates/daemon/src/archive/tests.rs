use coditect_capture::raw::{RawPiece, redact_lines};

use super::*;

const SECRET: &str = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eFgH12";

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path());
    (folder, archive)
}

fn lines(from: u64, count: u64) -> String {
    (from..from + count)
        .map(|n| format!("{{\"n\":{n},\"t\":\"{SECRET}\"}}\n"))
        .collect()
}

#[test]
fn a_transcript_comes_back_but_for_its_secrets() {
    let (_folder, archive) = archive();
    let text = lines(0, 10);
    let (first, second) = text.split_at(text.len() / 10 * 4);
    archive
        .append(
            "/t/a.jsonl",
            "claude",
            redact_lines(0, first.as_bytes(), false),
        )
        .unwrap();
    let piece = redact_lines(first.len() as u64, second.as_bytes(), false);
    archive
        .append("/t/a.jsonl", "claude", piece.clone())
        .unwrap();
    // What is known already is left out, what does not follow is refused.
    archive.append("/t/a.jsonl", "claude", piece).unwrap();
    let late = redact_lines(9_999, b"x\n", false);
    assert!(matches!(
        archive.append("/t/a.jsonl", "claude", late),
        Err(ArchiveError::Gap { .. })
    ));

    let restored = archive.restore("/t/a.jsonl").unwrap().unwrap();
    let expected = text.replace(SECRET, "[REDACTED:github-token]");
    assert_eq!(String::from_utf8(restored.content).unwrap(), expected);
    assert_eq!(restored.redactions.len(), 10);
    let line = text.len() as u64 / 10;
    assert_eq!(restored.redactions[3].offset, line * 3 + 12);
    assert_eq!(restored.redactions[3].bytes, 40);
    assert!(archive.verify().unwrap().is_empty());
    let space = archive.space().unwrap();
    assert_eq!((space.files, space.chunks, space.redactions), (1, 2, 10));
    assert!(archive.restore("/t/b.jsonl").unwrap().is_none());
}

#[test]
fn a_crash_at_any_byte_leaves_a_beginning_that_goes_on() {
    let (_folder, archive) = archive();
    let text = lines(0, 3);
    let line = text.len() / 3;
    for at in 0..3 {
        let part = &text.as_bytes()[at * line..(at + 1) * line];
        archive
            .append(
                "/t",
                "claude",
                redact_lines((at * line) as u64, part, false),
            )
            .unwrap();
    }
    let list = archive.list("/t");
    let whole = std::fs::read(&list).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&list, &whole[..cut]).unwrap();
        let end = archive.end("/t").unwrap();
        assert_eq!(end % line as u64, 0);
        let rest = redact_lines(
            end,
            &text.as_bytes()[usize::try_from(end).unwrap()..],
            false,
        );
        archive.append("/t", "claude", rest).unwrap();
        let restored = archive.restore("/t").unwrap().unwrap();
        let expected = text.replace(SECRET, "[REDACTED:github-token]");
        assert_eq!(
            String::from_utf8(restored.content).unwrap(),
            expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn many_small_pieces_become_few_chunks() {
    let (_folder, archive) = archive();
    let mut end = 0;
    let mut text = String::new();
    for n in 0..200 {
        let line = lines(n, 1);
        archive
            .append("/t", "claude", redact_lines(end, line.as_bytes(), false))
            .unwrap();
        end += line.len() as u64;
        text.push_str(&line);
    }
    let restored = archive.restore("/t").unwrap().unwrap();
    let expected = text.replace(SECRET, "[REDACTED:github-token]");
    assert_eq!(String::from_utf8(restored.content).unwrap(), expected);
    assert_eq!(restored.redactions.len(), 200);
    let files = walk(&archive.folder().join("chunks"));
    assert!(
        archive.space().unwrap().chunks < 40 && files.len() < 40,
        "{}",
        files.len()
    );
}

#[test]
fn damage_is_named_and_a_rewritten_transcript_keeps_what_it_was() {
    let (_folder, archive) = archive();
    archive
        .append("/t", "claude", redact_lines(0, b"one\n", false))
        .unwrap();
    archive.restart("/t").unwrap();
    archive
        .append("/t", "claude", redact_lines(0, b"other\n", false))
        .unwrap();
    let manifest = archive.manifest("/t").unwrap().unwrap();
    assert_eq!((manifest.replaced.len(), manifest.chunks.len()), (1, 1));
    assert_eq!(archive.restore("/t").unwrap().unwrap().content, b"other\n");
    let chunks = walk(&archive.folder().join("chunks"));
    assert_eq!(chunks.len(), 2);
    std::fs::write(&chunks[0], b"damaged").unwrap();
    std::fs::remove_file(&chunks[1]).unwrap();
    assert_eq!(archive.verify().unwrap().len(), 2);
    assert!(matches!(
        archive.restore("/t"),
        Err(ArchiveError::Chunk { .. })
    ));
}

#[test]
fn a_scrub_takes_out_what_was_missed_and_keeps_the_places() {
    let (_folder, archive) = archive();
    // As an older version may have stored it: the second secret was not known then.
    let original = format!("x password=hunter2a y\n{{\"k\":\"{SECRET}\"}}\n");
    let content = original.replace("hunter2a", "[REDACTED:password]");
    let at = original.find("hunter2a").unwrap() as u64;
    let piece = RawPiece {
        start: 0,
        end: original.len() as u64,
        content: content.into_bytes(),
        redactions: vec![Redaction {
            offset: at,
            bytes: 8,
            kind: "password".to_owned(),
        }],
    };
    archive.append("/t", "claude", piece).unwrap();
    let rehearsed = archive.scrub(true).unwrap();
    assert_eq!(rehearsed.kinds["github-token"], 1);
    assert!(
        String::from_utf8(archive.restore("/t").unwrap().unwrap().content)
            .unwrap()
            .contains(SECRET)
    );
    assert_eq!(archive.scrub(false).unwrap(), rehearsed);
    let restored = archive.restore("/t").unwrap().unwrap();
    assert!(
        !String::from_utf8(restored.content)
            .unwrap()
            .contains(SECRET)
    );
    let second = &restored.redactions[1];
    assert_eq!(second.offset, original.find(SECRET).unwrap() as u64);
    assert_eq!((second.bytes, restored.redactions.len()), (40, 2));
    assert_eq!(
        walk(&archive.folder().join("chunks")).len(),
        1,
        "the old chunk is gone"
    );
    assert_eq!(archive.scrub(false).unwrap(), Scrubbed::default());
}

/// Lists and chunks that something has changed are errors or shorter beginnings, never a panic.
/// `FUZZ_MINUTES` makes it a ninth of so long, as one of the fuzz targets.
#[test]
fn no_damage_of_its_files_makes_it_panic() {
    let (_folder, archive) = archive();
    let text = lines(0, 6);
    let line = text.len() / 6;
    for at in 0..6 {
        let part = &text.as_bytes()[at * line..(at + 1) * line];
        let piece = redact_lines((at * line) as u64, part, false);
        archive.append("/t", "claude", piece).unwrap();
    }
    let list = archive.list("/t");
    let whole = std::fs::read(&list).unwrap();
    let chunk = walk(&archive.folder().join("chunks")).remove(0);
    let packed = std::fs::read(&chunk).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "a long run is asked for by the environment; no program reads this"
    )]
    let minutes = std::env::var("FUZZ_MINUTES")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let began = std::time::Instant::now();
    let goes_on = |rounds: u32| match minutes {
        Some(minutes) => began.elapsed().as_secs() < minutes * 60 / 9,
        None => rounds < 200,
    };
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut rounds = 0;
    while goes_on(rounds) {
        rounds += 1;
        let mut next = |limit: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % limit.max(1) as u64).unwrap()
        };
        let is_chunk = next(3) == 0;
        let (mut bytes, path) = match is_chunk {
            true => (packed.clone(), &chunk),
            false => (whole.clone(), &list),
        };
        for _ in 0..=next(6) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = next(256).to_le_bytes()[0],
                2 => drop(bytes.splice(at..at, b"99999999999999999".iter().copied())),
                _ => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
            }
        }
        std::fs::write(path, &bytes).unwrap();
        let _ = archive.restore("/t");
        let _ = archive.verify();
        let _ = archive.space();
        let _ = archive.scrub(true);
        let _ = archive.end("/t");
        std::fs::write(&list, &whole).unwrap();
        std::fs::write(&chunk, &packed).unwrap();
    }
    println!("archive: {rounds} inputs, none failed");
    assert!(archive.verify().unwrap().is_empty());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

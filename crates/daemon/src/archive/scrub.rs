//! Takes out of the archive what today's rules find and those of its day did not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use coditect_capture::raw::{RawPiece, Redaction, redact_lines};
use coditect_core::redact::{Replaced, compose};

use super::{Archive, Chunk, Result, manifest};

/// What a scrub of the archive found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Transcripts that hold something.
    pub files: u64,
    /// Secrets, by kind.
    pub kinds: BTreeMap<String, u64>,
}

impl Archive {
    /// Looks at every chunk with today's rules, and unless it is only a rehearsal, writes those
    /// that hold secrets anew and removes the old ones.
    ///
    /// # Errors
    /// When the archive cannot be read or written; what was done stays done.
    pub fn scrub(&self, is_rehearsal: bool) -> Result<Scrubbed> {
        let _held = (!is_rehearsal).then(|| self.hold()).transpose()?;
        let mut scrubbed = Scrubbed::default();
        let mut old = BTreeSet::new();
        for mut manifest in self.manifests()? {
            let before = manifest.clone();
            for chunk in manifest.replaced.iter_mut().chain(&mut manifest.chunks) {
                if let Some(new) = self.scrub_chunk(chunk, is_rehearsal, &mut scrubbed)? {
                    old.insert(std::mem::replace(chunk, new).sha256);
                }
            }
            if manifest != before {
                scrubbed.files += 1;
                if !is_rehearsal {
                    manifest::write(&self.list(&manifest.path), &manifest)?;
                }
            }
        }
        if !is_rehearsal {
            self.remove_unused(old)?;
        }
        Ok(scrubbed)
    }

    fn scrub_chunk(
        &self,
        chunk: &Chunk,
        is_rehearsal: bool,
        scrubbed: &mut Scrubbed,
    ) -> Result<Option<Chunk>> {
        let content = self.chunks.read(&chunk.sha256, chunk.bytes)?;
        let piece = redact_lines(0, &content, true);
        if piece.redactions.is_empty() {
            return Ok(None);
        }
        for one in &piece.redactions {
            *scrubbed.kinds.entry(one.kind.clone()).or_default() += 1;
        }
        let earlier = places(&chunk.redactions, chunk.start);
        let later = places(&piece.redactions, 0);
        let all = compose(&earlier, &later).into_iter().map(|one| Redaction {
            offset: chunk.start + one.start as u64,
            bytes: (one.end - one.start) as u64,
            kind: one.kind.into_owned(),
        });
        let new = RawPiece {
            start: chunk.start,
            end: chunk.end,
            content: piece.content,
            redactions: all.collect(),
        };
        if is_rehearsal {
            return Ok(Some(Chunk {
                redactions: new.redactions,
                ..chunk.clone()
            }));
        }
        let is_tail = chunk.is_tail;
        self.store(&new).map(|new| Some(Chunk { is_tail, ..new }))
    }
}

fn places(list: &[Redaction], start: u64) -> Vec<Replaced> {
    let place = |one: &Redaction| {
        let from = usize::try_from(one.offset.checked_sub(start)?).ok()?;
        Some(Replaced {
            start: from,
            end: from + usize::try_from(one.bytes).ok()?,
            kind: Cow::Owned(one.kind.clone()),
        })
    };
    list.iter().filter_map(place).collect()
}

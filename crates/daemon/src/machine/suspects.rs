//! Databases that somebody is writing to at this moment.
//!
//! The system tells of the bytes that go into a journal. The commit itself follows when they are
//! on the disk, milliseconds later, by a change in shared memory of which nobody is told. So a
//! database is looked at again a few times after each write that was seen.

use coditect_protocol::catalogue::File;

/// Milliseconds from one look to the next; together longer than any disk takes.
const STEPS_MS: [i64; 10] = [1, 1, 2, 3, 5, 10, 30, 100, 300, 1_000];

/// Files to look at, and when.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<Suspect>);

#[derive(Debug)]
struct Suspect {
    file: File,
    step: usize,
    due_ms: i64,
}

impl Suspects {
    /// Notes that somebody writes to a file.
    pub(super) fn add(&mut self, file: File, now_ms: i64) {
        self.0.retain(|suspect| suspect.file != file);
        self.0.push(Suspect {
            file,
            step: 0,
            due_ms: now_ms + STEPS_MS[0],
        });
    }

    /// Returns the files to look at now.
    pub(super) fn due(&mut self, now_ms: i64) -> Vec<File> {
        let mut due = Vec::new();
        for suspect in self.0.iter_mut().filter(|it| it.due_ms <= now_ms) {
            due.push(suspect.file);
            suspect.step += 1;
            suspect.due_ms = now_ms + STEPS_MS.get(suspect.step).copied().unwrap_or_default();
        }
        self.0.retain(|suspect| suspect.step < STEPS_MS.len());
        due
    }

    /// Returns when to look next.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.0.iter().map(|suspect| suspect.due_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_again_until_no_disk_can_be_that_slow() {
        let mut suspects = Suspects::default();
        suspects.add(File::Org, 1_000);
        let mut looks = Vec::new();
        while let Some(at) = suspects.next_ms() {
            assert_eq!(suspects.due(at - 1), []);
            assert_eq!(suspects.due(at), [File::Org]);
            looks.push(at - 1_000);
        }
        assert_eq!(looks, [1, 2, 4, 7, 12, 22, 52, 152, 452, 1_452]);
        assert_eq!(suspects.due(i64::MAX), []);
    }

    #[test]
    fn another_write_begins_anew() {
        let mut suspects = Suspects::default();
        suspects.add(File::Org, 0);
        suspects.due(1);
        suspects.add(File::Org, 50);
        suspects.add(File::Sessions, 40);
        assert_eq!(suspects.next_ms(), Some(41));
        assert_eq!(suspects.due(51), [File::Org, File::Sessions]);
    }
}

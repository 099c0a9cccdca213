//! Which line of many counts for each row: its last. Keys are sorted on the disk, so that memory
//! takes one bit of each line and a bounded amount besides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use uuid::Uuid;

/// Entries that are sorted in memory at once.
const RUN: usize = 100_000;
/// Entries of a run that are read back at once.
const READ_AT_ONCE: usize = 1_000;
/// Bytes of an entry that are its key; the line's number is behind them.
const KEY: usize = 17;
const BYTES: usize = KEY + 8;

/// Table, id, number of the line: bytes sort as what they stand for.
type Entry = [u8; BYTES];

/// Takes the key of each line.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufWriter<File>,
    /// Lengths of the sorted runs in the file.
    runs: Vec<usize>,
    run: Vec<Entry>,
    lines: u64,
}

impl Lines {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(tempfile::tempfile()?),
            runs: Vec::new(),
            run: Vec::new(),
            lines: 0,
        })
    }

    /// Adds the next line: the position of its row's table, and the row's id.
    pub(super) fn push(&mut self, table: u8, id: Uuid) -> io::Result<()> {
        let mut entry = [0; BYTES];
        entry[0] = table;
        entry[1..KEY].copy_from_slice(id.as_bytes());
        entry[KEY..].copy_from_slice(&self.lines.to_be_bytes());
        self.run.push(entry);
        self.lines += 1;
        if self.run.len() == RUN {
            self.write_run()?;
        }
        Ok(())
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        for entry in &self.run {
            self.file.write_all(entry)?;
        }
        self.runs.push(self.run.len());
        self.run.clear();
        Ok(())
    }

    /// Says which lines count.
    pub(super) fn finish(mut self) -> io::Result<Counting> {
        self.write_run()?;
        self.run = Vec::new();
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let mut counting = Counting::of(self.lines);
        let (mut runs, mut first) = (Vec::new(), 0);
        for length in self.runs {
            runs.push(Run::new(first, length));
            first += length;
        }
        let mut next = BinaryHeap::new();
        for (n, run) in runs.iter_mut().enumerate() {
            next.extend(run.take(&mut file)?.map(|entry| Reverse((entry, n))));
        }
        let mut last: Option<Entry> = None;
        while let Some(Reverse((entry, n))) = next.pop() {
            if let Some(last) = last.filter(|last| last[..KEY] != entry[..KEY]) {
                counting.count(&last);
            }
            last = Some(entry);
            next.extend(runs[n].take(&mut file)?.map(|entry| Reverse((entry, n))));
        }
        if let Some(last) = last {
            counting.count(&last);
        }
        Ok(counting)
    }
}

/// What is left of a sorted run.
struct Run {
    /// Position of its next entry in the file that was not read.
    next: usize,
    left: usize,
    /// Entries that were read, the next one last.
    read: Vec<Entry>,
}

impl Run {
    const fn new(next: usize, left: usize) -> Self {
        Self {
            next,
            left,
            read: Vec::new(),
        }
    }

    fn take(&mut self, file: &mut File) -> io::Result<Option<Entry>> {
        if self.read.is_empty() && self.left > 0 {
            let count = self.left.min(READ_AT_ONCE);
            let mut bytes = vec![0; count * BYTES];
            file.seek(SeekFrom::Start((self.next * BYTES) as u64))?;
            file.read_exact(&mut bytes)?;
            let (entries, _) = bytes.as_chunks::<BYTES>();
            self.read.extend(entries.iter().rev());
            self.next += count;
            self.left -= count;
        }
        Ok(self.read.pop())
    }
}

/// Which lines count, one bit for each.
#[derive(Debug)]
pub(super) struct Counting(Vec<u64>);

impl Counting {
    fn of(lines: u64) -> Self {
        Self(vec![0; usize::try_from(lines / 64).unwrap_or(0) + 1])
    }

    fn count(&mut self, entry: &Entry) {
        let mut line = [0; 8];
        line.copy_from_slice(&entry[KEY..]);
        let line = u64::from_be_bytes(line);
        let word = usize::try_from(line / 64).ok();
        if let Some(word) = word.and_then(|word| self.0.get_mut(word)) {
            *word |= 1 << (line % 64);
        }
    }

    /// Returns whether the line of this number, from 0, counts.
    pub(super) fn has(&self, line: u64) -> bool {
        let word = usize::try_from(line / 64).ok();
        let word = word.and_then(|word| self.0.get(word));
        word.is_some_and(|word| word >> (line % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_last_line_of_each_row_counts() {
        for total in [0, 1, 64, 1_000, 2 * RUN as u64 + 17] {
            let (mut lines, mut last) = (Lines::new().unwrap(), HashMap::new());
            for line in 0..total {
                // About a third of the rows comes again, some of them in another run.
                let mixed = line.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let id = Uuid::from_u64_pair(mixed % (total * 2 / 3 + 1), 7);
                let table = (mixed % 3) as u8;
                lines.push(table, id).unwrap();
                last.insert((table, id), line);
            }
            let counting = lines.finish().unwrap();
            let counted = (0..total + 70).filter(|line| counting.has(*line));
            let mut expected: Vec<u64> = last.into_values().collect();
            expected.sort_unstable();
            assert!(counted.eq(expected), "{total} lines");
        }
    }
}

//! Repair: what a run compares, reads again and sends again where digests differ, and how much of
//! it one run may do (DESIGN 4, "Reconciliation").

use coditect_protocol::Scope;
use coditect_protocol::catalogue::File;
use coditect_protocol::limits::{DESCENT_RANGES_MAX, DESCENT_ROWS_MAX};
use coditect_protocol::wire::descent::{Descent, NamedRows, Range};
use coditect_protocol::wire::pull::{PullReply, PullRequest};

/// Round trips that one run may spend on a descent.
pub(super) const ROUNDS_MAX: u32 = 64;
/// Encoded bytes of questions and answers that one run may spend on it.
pub(super) const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a device wants to compare or to read again in one stream and file.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Ranges and rows.
    pub descent: Descent,
}

/// What a run shall repair, as the files say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to ask first.
    pub wanted: Vec<Wanted>,
    /// Whether descents did not help before: everything is read again.
    pub reread: bool,
}

/// What was done about the rows of one table in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRepair {
    /// Stream.
    pub scope: Scope,
    /// Cloud name of the table.
    pub table: String,
    /// Rows that were taken from the server.
    pub fetched: u64,
    /// Rows that were queued because the server lacks them, or has an older or damaged state.
    pub queued: u64,
    /// Rows of the catalogue, or without any content, that were dropped.
    pub removed: u64,
    /// Rows that were left alone: they have an edit of their own that is not sent yet.
    pub skipped: u64,
    /// Rows of which neither side has the bytes that its hash was made from.
    pub damaged: u64,
}

impl TableRepair {
    /// Makes the entry of a table in which nothing was done yet.
    #[must_use]
    pub fn of(scope: Scope, table: &str) -> Self {
        Self {
            scope,
            table: table.to_owned(),
            fetched: 0,
            queued: 0,
            removed: 0,
            skipped: 0,
            damaged: 0,
        }
    }

    /// Returns whether nothing was done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fetched + self.queued + self.removed + self.skipped + self.damaged == 0
    }

    /// Adds what was done later.
    pub const fn add(&mut self, more: &Self) {
        self.fetched += more.fetched;
        self.queued += more.queued;
        self.removed += more.removed;
        self.skipped += more.skipped;
        self.damaged += more.damaged;
    }
}

/// Adds entries to a list that has one for each stream and table.
pub(super) fn join(list: &mut Vec<TableRepair>, more: &[TableRepair]) {
    for entry in more.iter().filter(|entry| !entry.is_empty()) {
        let same =
            |known: &&mut TableRepair| known.scope == entry.scope && known.table == entry.table;
        match list.iter_mut().find(same) {
            Some(known) => known.add(entry),
            None => list.push(entry.clone()),
        }
    }
}

/// Questions that wait for their turn; a stream and file has one entry.
#[derive(Debug, Default)]
pub(super) struct Questions(Vec<Wanted>);

impl Questions {
    pub(super) fn add(&mut self, wanted: Wanted) {
        let same = |known: &&mut Wanted| (known.scope, known.file) == (wanted.scope, wanted.file);
        match self.0.iter_mut().find(same) {
            Some(known) => {
                known.descent.ranges.extend(wanted.descent.ranges);
                known.descent.rows.extend(wanted.descent.rows);
            }
            None => self.0.push(wanted),
        }
        self.0.retain(|wanted| !wanted.descent.is_empty());
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what one pull may ask of each stream and file: rows before ranges, because what is
    /// found should be mended before more is looked for.
    pub(super) fn take(&mut self) -> Vec<Wanted> {
        let turn = self.0.iter_mut().map(|wanted| Wanted {
            scope: wanted.scope,
            file: wanted.file,
            descent: Descent {
                rows: take_rows(&mut wanted.descent.rows),
                ranges: take_ranges(&mut wanted.descent.ranges),
            },
        });
        let turn = turn.collect();
        self.0.retain(|wanted| !wanted.descent.is_empty());
        turn
    }
}

fn take_ranges(ranges: &mut Vec<Range>) -> Vec<Range> {
    ranges
        .drain(..ranges.len().min(DESCENT_RANGES_MAX))
        .collect()
}

fn take_rows(rows: &mut Vec<NamedRows>) -> Vec<NamedRows> {
    let (mut taken, mut left) = (Vec::new(), DESCENT_ROWS_MAX);
    while left > 0
        && taken.len() < DESCENT_RANGES_MAX
        && let Some(named) = rows.last_mut()
    {
        let ids: Vec<_> = named.ids.drain(..named.ids.len().min(left)).collect();
        left -= ids.len();
        taken.push(NamedRows {
            table: named.table.clone(),
            ids,
        });
        if named.ids.is_empty() {
            rows.pop();
        }
    }
    taken
}

/// Returns the encoded bytes of a request's questions.
pub(super) fn asked_bytes(request: &PullRequest) -> u64 {
    let descents = request.positions.iter().map(|it| &it.descent);
    descents.flatten().map(encoded_bytes).sum()
}

/// Returns the encoded bytes of a reply's answers.
pub(super) fn answered_bytes(reply: &PullReply) -> u64 {
    let descents = reply.pages.iter().map(|it| &it.descent);
    descents.flatten().map(encoded_bytes).sum()
}

fn encoded_bytes(value: &impl serde::Serialize) -> u64 {
    serde_json::to_vec(value).map_or(0, |text| text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::RowId;
    use uuid::Uuid;

    fn named(from: u128, count: u128) -> NamedRows {
        let ids = (from..from + count).map(|n| RowId::new(Uuid::from_u128(n)));
        NamedRows {
            table: "org_decisions".to_owned(),
            ids: ids.collect(),
        }
    }

    #[test]
    fn every_question_is_asked_once_and_none_asks_for_too_much() {
        let scope = Scope::User(Uuid::from_u128(5));
        let file = File::Org;
        let ranges = (0..150).map(|n| Range::whole("org_decisions", n)).collect();
        let rows = vec![named(0, 700), named(1_000, 300), named(2_000, 1)];
        let mut questions = Questions::default();
        let descent = Descent { ranges, rows };
        questions.add(Wanted {
            scope,
            file,
            descent,
        });
        let (mut ids, mut counts) = (Vec::new(), Vec::new());
        while !questions.is_empty() {
            let turn = questions.take();
            assert_eq!(turn.len(), 1);
            let descent = &turn[0].descent;
            assert!(!descent.is_empty() && descent.ranges.len() <= DESCENT_RANGES_MAX);
            let of_turn: Vec<_> = descent
                .rows
                .iter()
                .flat_map(|rows| rows.ids.clone())
                .collect();
            assert!(of_turn.len() <= DESCENT_ROWS_MAX);
            ids.extend(of_turn);
            counts.extend(descent.ranges.iter().map(|range| range.count));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1_001);
        assert_eq!(counts, (0..150).collect::<Vec<_>>());
    }
}

//! What a run of the engine reports.

use coditect_protocol::catalogue::{File, by_cloud_name};
use coditect_protocol::wire::pull::TableDigest;
use coditect_protocol::wire::push::{PushReply, PushRequest};
use coditect_protocol::{Cursor, Problem, Scope};

/// Digests of one stream and file on both sides, taken at the snapshot's head.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Position of the head.
    pub cursor: Cursor,
    /// The device's digests, by table.
    pub local: Vec<TableDigest>,
    /// The server's digests, by table.
    pub server: Vec<TableDigest>,
}

impl Comparison {
    /// Returns one line per table of the file.
    pub fn streams(&self) -> impl Iterator<Item = StreamState> {
        let of = |side: &[TableDigest], table: &str| {
            let found = side.iter().find(|digest| digest.table == table).cloned();
            found.unwrap_or_else(|| TableDigest {
                table: table.to_owned(),
                rows: 0,
                count: 0,
                digest: format!("{:016x}", 0),
            })
        };
        self.file.tables().map(move |table| StreamState {
            scope: self.scope,
            cursor: self.cursor,
            local: of(&self.local, table.cloud),
            server: of(&self.server, table.cloud),
        })
    }

    /// Returns whether both sides are equal in every table that either names.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.streams().all(|stream| stream.local == stream.server)
    }
}

/// One table of one stream, as `status` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Stream.
    pub scope: Scope,
    /// Position that both digests belong to.
    pub cursor: Cursor,
    /// The device's digest.
    pub local: TableDigest,
    /// The server's digest.
    pub server: TableDigest,
}

impl StreamState {
    /// Returns the file that the table is in.
    #[must_use]
    pub fn file(&self) -> Option<File> {
        by_cloud_name(&self.local.table).map(|table| table.file)
    }
}

/// Result of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Changes that the server took.
    pub pushed: u64,
    /// Rows that were moved to another scope.
    pub moved: u64,
    /// Rows of other devices that were stored.
    pub pulled: u64,
    /// Changes that the server had already.
    pub duplicates: u64,
    /// Changes that met a concurrent one.
    pub conflicts: u64,
    /// Changes that were refused in this run.
    pub rejected: u64,
    /// Whether all digests were equal at the end; none when the heads were not reached.
    pub converged: Option<bool>,
    /// Both sides' digests at the last head of each stream.
    pub comparisons: Vec<Comparison>,
    /// Whether the run ended because nothing answered.
    pub offline: bool,
    /// Why nothing answered, for people.
    pub offline_reason: Option<String>,
    /// The refusal that ended the run.
    pub problem: Option<Problem>,
    /// Reconciliations that the run went through.
    pub reconciled: u32,
    /// What was repaired because digests or bytes differed, by stream and table.
    pub repairs: Vec<super::TableRepair>,
    /// Round trips that looking for it took, the pushes apart.
    pub rounds: u32,
    /// Pulls that were to look for it and met a stream that had moved on: they brought what others
    /// wrote, and no answer.
    pub rounds_behind: u32,
    /// Encoded bytes of its questions and answers.
    pub repair_bytes: u64,
    /// Whether the repair was cut off by its budget; the next run goes on.
    pub unfinished: bool,
    /// Batches that were answered, in order.
    pub sent: Vec<Sent>,
}

/// Where a batch got to: what the echo of it, and of nothing else, is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Stream.
    pub scope: Scope,
    /// File of the stream.
    pub file: File,
    /// Head of the stream after the batch.
    pub head: Cursor,
    /// Numbers that the batch may have taken.
    pub changes: i64,
}

impl Sent {
    /// Returns where a batch got to; nowhere when nothing of it was written.
    pub(super) fn of(request: &PushRequest, reply: &PushReply) -> Option<Self> {
        let stored = reply.outcomes.iter().filter_map(|outcome| {
            let stored = outcome.stored.as_ref()?;
            Some(stored.cursor)
        });
        Some(Self {
            scope: request.scope,
            file: request.file,
            head: Cursor {
                epoch: reply.epoch,
                n: stored.max()?,
            },
            changes: i64::try_from(request.changes.len()).unwrap_or(i64::MAX),
        })
    }
}

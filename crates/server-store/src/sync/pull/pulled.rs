//! A pull's answer with its changes as they travel.

use coditect_protocol::catalogue::Table;
use coditect_protocol::wire::pull::PullReply;
use serde::Serialize;
use tokio_postgres::Row;

use super::encode;
use crate::StoreError;

/// Changes of a page: JSON objects in cursor order, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) json: Vec<u8>,
    /// How many they are.
    pub(super) count: usize,
}

impl Changes {
    /// Adds a row.
    pub(super) fn push(&mut self, table: &Table, row: &Row) -> Result<(), StoreError> {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        encode::row(&mut self.json, table, row)
    }
}

/// The answer to a pull; its changes are encoded already.
#[derive(Debug)]
pub struct Pulled {
    /// All but the changes, which its pages lack.
    pub(super) reply: PullReply,
    /// The changes of each page.
    pub(super) changes: Vec<Changes>,
}

impl Pulled {
    /// Returns the reply without its changes.
    #[must_use]
    pub const fn heads(&self) -> &PullReply {
        &self.reply
    }

    /// Returns how many changes each page has.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.changes.iter().map(|changes| changes.count)
    }

    /// Returns the reply as JSON.
    #[must_use]
    pub fn into_json(self) -> Vec<u8> {
        const EMPTY: &[u8] = b"\"changes\":[]";
        let rows: usize = self.changes.iter().map(|changes| changes.json.len()).sum();
        let mut out = Vec::with_capacity(rows + 512 * (1 + self.changes.len()));
        out.extend_from_slice(b"{\"epoch\":");
        write(&mut out, &self.reply.epoch);
        out.extend_from_slice(b",\"scopes\":");
        write(&mut out, &self.reply.scopes);
        out.extend_from_slice(b",\"pages\":[");
        for (number, (page, changes)) in self.reply.pages.iter().zip(&self.changes).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let mut empty = Vec::with_capacity(256);
            write(&mut empty, page);
            // Scope and file stand before it, and neither can hold it.
            let at = empty.windows(EMPTY.len()).position(|part| part == EMPTY);
            let at = at.expect("a page without changes") + EMPTY.len() - 1;
            out.extend_from_slice(&empty[..at]);
            out.extend_from_slice(&changes.json);
            out.extend_from_slice(&empty[at..]);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// Returns the reply with its changes, read again.
    ///
    /// # Errors
    /// When what was written does not read back, which would be a fault of ours.
    pub fn into_reply(self) -> Result<PullReply, serde_json::Error> {
        serde_json::from_slice(&self.into_json())
    }
}

impl From<PullReply> for Pulled {
    /// Takes a reply whose pages have no changes.
    fn from(reply: PullReply) -> Self {
        let changes = vec![Changes::default(); reply.pages.len()];
        Self { reply, changes }
    }
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("our own types are written to memory");
}

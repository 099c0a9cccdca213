//! What a device was told is stored, kept outside of it: the promise that a server must hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use tempfile::TempDir;

use crate::{Device, Server};

/// Acknowledged decisions by id, in a file of their own that is synced after every write.
#[derive(Debug)]
pub struct Ledger {
    folder: TempDir,
    rows: BTreeMap<String, Entry>,
}

/// One row as it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    version: i64,
    hash: String,
    deleted: bool,
}

impl Entry {
    /// Reads a line `id|version|hash|deleted`.
    fn read(line: &str) -> (String, Self) {
        let parts: Vec<&str> = line.split('|').collect();
        let [id, version, hash, deleted] = parts[..] else {
            panic!("{line}")
        };
        let entry = Self {
            version: version.parse().unwrap(),
            hash: hash.to_owned(),
            deleted: matches!(deleted, "1" | "t"),
        };
        (id.to_owned(), entry)
    }
}

impl Ledger {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            rows: BTreeMap::new(),
        }
    }

    /// Notes what the device holds as acknowledged now.
    ///
    /// # Panics
    /// When something that was acknowledged before is not any more, or is older than it was.
    pub fn keep(&mut self, device: &Device) {
        let sql = "select id, version, lower(hex(hash)), deleted from sync_base
                   where table_name = 'org_decisions';";
        let text = device.sql("org", sql);
        let rows: BTreeMap<_, _> = text.lines().map(Entry::read).collect();
        for (id, before) in &self.rows {
            let now = rows.get(id);
            assert!(
                now.is_some_and(|now| now.version >= before.version),
                "{id}: the device forgot {before:?}, it has {now:?}"
            );
        }
        self.rows = rows;
        let mut file = File::create(self.folder.path().join("acknowledged")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
    }

    /// Asserts that the server has every acknowledged row, as it was or newer.
    ///
    /// # Panics
    /// With those that it has not.
    pub fn assert_stored(&self, server: &Server) {
        let sql = "select id, version, encode(content_hash, 'hex'), deleted_at is not null
                   from org_decisions";
        let stored: BTreeMap<_, _> = server
            .ask(sql)
            .iter()
            .map(|line| Entry::read(line))
            .collect();
        let kept = |id: &String, entry: &Entry| {
            let stored = stored.get(id);
            stored.is_some_and(|stored| stored.version > entry.version || stored == entry)
        };
        let lost: Vec<_> = self
            .rows
            .iter()
            .filter(|(id, entry)| !kept(id, entry))
            .map(|(id, entry)| format!("{id} {entry:?}, stored {:?}", stored.get(id)))
            .collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged rows are lost:\n{}",
            lost.len(),
            lost.join("\n")
        );
    }

    /// Returns how many rows it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether nothing was acknowledged yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

//! Small questions of the importer and of `doctor`, answered without reading whole rows.

use std::path::PathBuf;

use coditect_protocol::catalogue::File;
use rusqlite::{OptionalExtension as _, Row};

use crate::LocalStore;
use crate::error::{InFile as _, Result};

/// Problems that one check of a file reports at most.
const PROBLEMS_MAX: u32 = 20;

impl LocalStore {
    /// Returns the session that a message is stored under; none if it is not stored.
    ///
    /// # Errors
    /// When the database fails.
    pub fn session_of_message(&self, message_id: &str) -> Result<Option<String>> {
        self.read(File::Sessions)?
            .prepare_cached("select session_id from messages where message_id = ?1 limit 1")
            .and_then(|mut statement| {
                statement
                    .query_row([message_id], |row| row.get(0))
                    .optional()
            })
            .in_file(File::Sessions)
    }

    /// Returns the newest `limit` sessions and the paths of their projects, newest first, without
    /// those that have none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn session_paths(&self, limit: u32) -> Result<Vec<(String, PathBuf)>> {
        let connection = self.read(File::Sessions)?;
        // Another program may have put anything there.
        let text = |row: &Row<'_>, at| Some(row.get_ref(at).ok()?.as_str().ok()?.to_owned());
        let find = || -> rusqlite::Result<Vec<Option<(String, PathBuf)>>> {
            let sql = "select session_id, project_path from sessions order by seq desc limit ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |row| {
                Ok(text(row, 0).zip(text(row, 1).map(PathBuf::from)))
            })?;
            rows.collect()
        };
        Ok(find()
            .in_file(File::Sessions)?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Returns how many messages a session has.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_messages(&self, session_id: &str) -> Result<u64> {
        self.read(File::Sessions)?
            .prepare_cached("select count(*) from messages where session_id = ?1")
            .and_then(|mut statement| statement.query_row([session_id], |row| row.get(0)))
            .in_file(File::Sessions)
    }

    /// Lets SQLite check a file's pages and indexes; returns what it complains about.
    ///
    /// # Errors
    /// When the database fails.
    pub fn integrity_check(&self, file: File) -> Result<Vec<String>> {
        let connection = self.read(file)?;
        let check = || -> rusqlite::Result<Vec<String>> {
            let sql = format!("pragma integrity_check({PROBLEMS_MAX})");
            let mut statement = connection.prepare(&sql)?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
            lines.collect()
        };
        let lines = check().in_file(file)?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Makes a file's indexes anew from its tables. Takes as long as reading the whole file.
    ///
    /// # Errors
    /// When the database fails.
    pub fn reindex(&mut self, file: File) -> Result<()> {
        self.read(file)?.execute_batch("reindex").in_file(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use serde_json::json;

    #[test]
    fn messages_are_counted_by_session() {
        let mut store = LocalStore::in_memory(0, Random::Seeded(1)).unwrap();
        for (message, session) in [("m1", "s1"), ("m2", "s1"), ("m3", "s2")] {
            let row = json!({"message_id": message, "session_id": session, "role": "user"});
            let row = row.as_object().unwrap().clone();
            store.insert("context_messages", "user", row, 0).unwrap();
        }
        assert_eq!(store.count_messages("s1").unwrap(), 2);
        assert_eq!(store.count_messages("none").unwrap(), 0);
        let session = store.session_of_message("m3").unwrap();
        assert_eq!(session.as_deref(), Some("s2"));
        assert_eq!(store.session_of_message("m4").unwrap(), None);
        assert!(store.integrity_check(File::Sessions).unwrap().is_empty());
    }
}

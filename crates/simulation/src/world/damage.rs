//! Damage that no sync caused: rows that are lost or stale on one side, hashes that are wrong,
//! bytes that changed by themselves, positions that are wrong. Each must be mended from the other
//! side.
//!
//! Only in worlds where no file and no server is set back or copied: there the other side may be
//! the one that lost the row. The draws are a stream of their own, so that worlds without damage
//! stay what they were.

use super::{Token, World};
use crate::model::Key;
use coditect_core::digest::term;
use coditect_protocol::catalogue::{File, Table, by_cloud_name};
use coditect_protocol::{DeviceId, RowId, Scope, Version};

/// Tables whose rows are damaged.
const TABLES: [&str; 6] = [
    "org_decisions",
    "org_skill_learnings",
    "org_kg_nodes",
    "context_messages",
    "context_task_tracking",
    "context_token_economics",
];
/// A difference of versions: an hour.
const OLDER: i64 = 3_600_000 << 16;

/// An acknowledged row of a device that has no edit of its own.
struct Clean {
    table: &'static Table,
    scope: String,
    id: String,
    version: i64,
    device: String,
    hash: String,
}

impl World {
    /// Whether rows are damaged in this world.
    pub(super) fn is_damaged(&self) -> bool {
        let weather = &self.weather;
        let alone = !weather.copies && !weather.restores && !weather.set_backs && !weather.disks;
        let some = alone && self.settings.damage && self.settings.seed % 2 == 1;
        some || !self.damaged.is_empty()
    }

    /// Makes the base of a device's decision an hour older than it is, behind the triggers' back.
    pub(super) fn make_decision_stale(&mut self, number: usize, text: Token) -> Option<()> {
        let sql = format!(
            "select b.scope, b.id, b.version, b.device, lower(hex(b.hash)) from sync_base b
             join decisions t on t.scope = b.scope and t.id = b.id
             where b.table_name = 'org_decisions' and t.rationale = '{}'",
            text.text()
        );
        let found = self.devices[number].rows(File::Org, &sql);
        let row = found.first()?;
        let text = |at: usize| row[at].as_str().unwrap_or_default().to_owned();
        let clean = Clean {
            table: by_cloud_name("org_decisions")?,
            scope: text(0),
            id: text(1),
            version: row[2].as_i64()?,
            device: text(3),
            hash: text(4),
        };
        let version = clean.version - OLDER;
        let fingerprint = clean.term(version, &clean.hash)?;
        let (id, scope) = (&clean.id, &clean.scope);
        let sql = format!(
            "update sync_base set version = {version}, fingerprint = {fingerprint}
             where id = '{id}' and scope = '{scope}';"
        );
        self.damaged.insert(clean.id.clone());
        self.behind_the_back(number, File::Org, &sql);
        Some(())
    }

    /// Damages something now and then.
    pub(super) fn damage(&mut self) {
        if !self.is_damaged() || !self.damages.chance(40) {
            return;
        }
        let number = self.damages.below(self.devices.len());
        // A run in progress holds what it read before.
        if self.devices[number].run.is_some() {
            return;
        }
        let what = match self.damages.below(8) {
            0 => self.lose_row(number),
            1 => self.make_stale(number),
            2 => self.spoil_base(number),
            3 => self.flip_byte(number),
            4 => self.lose_position(number),
            5 => self.lose_on_server(number),
            6 => self.make_stale_on_server(number),
            _ => self.spoil_hash(number),
        };
        if let Some(what) = what {
            self.log.event(format!("{number}: damage: {what}"));
            self.log.count("rows and positions damaged", 1);
        }
    }

    fn clean_row(&mut self, number: usize) -> Option<Clean> {
        let cloud = *self.damages.pick(&TABLES)?;
        let table = by_cloud_name(cloud)?;
        let sql = format!(
            "select b.scope, b.id, b.version, b.device, lower(hex(b.hash)) from sync_base b
             join {} t on t.scope = b.scope and t.id = b.id
             where b.table_name = '{cloud}' and b.deleted = 0 and not exists (
               select 1 from sync_queue q where q.table_name = b.table_name
                 and (q.row_id = b.id or q.row_seq = t.seq))
             and not exists (select 1 from sync_batch) order by b.scope, b.id",
            table.local
        );
        let mut rows = self.devices[number].rows(table.file, &sql);
        // What is damaged on both sides nobody can mend.
        rows.retain(|row| !row[1].as_str().is_some_and(|id| self.damaged.contains(id)));
        let row = self.damages.pick(&rows)?;
        self.damaged.extend(row[1].as_str().map(str::to_owned));
        let text = |at: usize| row[at].as_str().unwrap_or_default().to_owned();
        Some(Clean {
            table,
            scope: text(0),
            id: text(1),
            version: row[2].as_i64()?,
            device: text(3),
            hash: text(4),
        })
    }

    /// Runs statements that the triggers do not see.
    fn behind_the_back(&mut self, number: usize, file: File, sql: &str) {
        let sql =
            format!("update sync_flag set applying = 1; {sql} update sync_flag set applying = 0;");
        let done = self.devices[number].store.execute_sql(file, &sql);
        done.unwrap_or_else(|error| panic!("a statement failed: {error}: {sql}"));
    }

    fn lose_row(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let (local, id, scope) = (row.table.local, &row.id, &row.scope);
        let sql = format!(
            "delete from {local} where id = '{id}' and scope = '{scope}';
             delete from sync_base where id = '{id}' and scope = '{scope}';"
        );
        self.behind_the_back(number, row.table.file, &sql);
        Some(format!("{local} {id} is lost"))
    }

    fn make_stale(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let version = row.version - OLDER;
        let fingerprint = row.term(version, &row.hash)?;
        let (local, id, scope) = (row.table.local, &row.id, &row.scope);
        let sql = format!(
            "update sync_base set version = {version}, fingerprint = {fingerprint}
             where id = '{id}' and scope = '{scope}';"
        );
        self.behind_the_back(number, row.table.file, &sql);
        Some(format!("{local} {id} is stale"))
    }

    fn spoil_base(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let (id, scope) = (&row.id, &row.scope);
        let sql = format!(
            "update sync_base set hash = zeroblob(32), fingerprint = fingerprint + 1
             where id = '{id}' and scope = '{scope}';"
        );
        self.behind_the_back(number, row.table.file, &sql);
        Some(format!("the base of {id} is spoiled"))
    }

    fn flip_byte(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let column = match row.table.cloud {
            "org_decisions" => "title",
            "org_skill_learnings" => "category",
            "org_kg_nodes" => "name",
            "context_messages" => "cwd",
            "context_task_tracking" => "owner",
            _ => "llm_model",
        };
        let column = row.table.column(column)?.name;
        let (local, id, scope) = (row.table.local, &row.id, &row.scope);
        let sql = format!(
            "update {local} set {column} = 'flipped' where id = '{id}' and scope = '{scope}';"
        );
        self.behind_the_back(number, row.table.file, &sql);
        self.flipped = true;
        Some(format!("a byte of {local} {id} flips"))
    }

    fn lose_position(&mut self, number: usize) -> Option<String> {
        let file = *self.damages.pick(&[File::Org, File::Sessions])?;
        let sql = match self.damages.below(3) {
            0 => "update sync_cursor set n = max(n - 3, 0);",
            1 => "update sync_cursor set n = n + 1000;",
            _ => "update sync_cursor set epoch = 'damaged';",
        };
        self.behind_the_back(number, file, sql);
        Some(format!("{file}: {sql}"))
    }

    /// The server's row of a device's clean one, if both are the same state.
    fn of_server(&self, number: usize, row: &Clean) -> Option<Key> {
        let scope = Scope::from_local(&row.scope, self.devices[number].user.get()).ok()?;
        let id = RowId::new(row.id.parse().ok()?);
        let key = Key {
            scope,
            table: row.table.cloud,
            id,
        };
        let kept = self.server.database.rows.get(&key)?;
        let same = kept.version.to_i64() == row.version && kept.hash == row.hash;
        // Somebody who edits an older state of a text before the lost one is back cannot know of
        // it, and what he overwrites is nobody's conflict: nothing could mend that.
        let plain = ["context_token_economics", "context_messages"].contains(&key.table);
        // Rows of others come back from their own devices only.
        let own = row.table.comes_down() || kept.origin == self.devices[number].store.device();
        let writes = kept.user == self.devices[number].user;
        (plain && same && own && writes).then_some(key)
    }

    fn lose_on_server(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let key = self.of_server(number, &row)?;
        self.server.database.rows.remove(&key);
        self.versions.remove(&key);
        // Who was first is a column of the lost row: whoever sends it next is the first again.
        self.origins.remove(&key);
        Some(format!("the server loses {} {}", key.table, key.id))
    }

    fn make_stale_on_server(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let key = self.of_server(number, &row)?;
        // A fact keeps its first version, whatever comes again.
        if key.table == "context_messages" {
            return None;
        }
        let kept = self.server.database.rows.get_mut(&key)?;
        kept.version = Version::from_i64(row.version - OLDER);
        self.versions.remove(&key);
        Some(format!("the server's {} {} is stale", key.table, key.id))
    }

    fn spoil_hash(&mut self, number: usize) -> Option<String> {
        let row = self.clean_row(number)?;
        let key = self.of_server(number, &row)?;
        // A fact is never replaced, so its hash is mended by the scrub of the server alone.
        if key.table == "context_messages" {
            return None;
        }
        let kept = self.server.database.rows.get_mut(&key)?;
        kept.hash = "00".repeat(32);
        Some(format!(
            "the server's hash of {} {} is wrong",
            key.table, key.id
        ))
    }
}

impl Clean {
    fn term(&self, version: i64, hash: &str) -> Option<i64> {
        let id = RowId::new(self.id.parse().ok()?);
        let device = DeviceId::new(self.device.parse().ok()?);
        let hash = hash.parse().ok()?;
        let version = Version::from_i64(version);
        let term = term(self.table.cloud, id, version, device, &hash, false);
        Some(term.cast_signed())
    }
}
